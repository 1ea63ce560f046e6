//! The numbers of spidev's ioctls (include/uapi/linux/spi/spidev.h).

use nix::errno::Errno;

use crate::bus::spi::op::{Settings, mode};
use crate::kernel::spidev::TRANSFER_LEN;

const MAGIC: u32 = b'k' as u32;
const WRITE: u32 = 1;

/// What a program wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SPI_IOC_RD_*`
    Get(Setting),
    /// `SPI_IOC_WR_*`
    Set(Setting),
    /// `SPI_IOC_MESSAGE(N)`
    Message(usize),
}

/// One setting, as an ioctl passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The low eight bits of the mode. Setting them clears the others.
    Mode,
    /// All bits of the mode.
    Mode32,
    /// Whether the least significant bit goes first.
    LsbFirst,
    /// Bits of a word.
    Bits,
    /// The clock in Hz.
    Hz,
}

impl Command {
    /// The ioctl of that number.
    ///
    /// # Errors
    /// As the kernel: `ENOTTY` for one that spidev does not have, `EINVAL` for a message whose size is not
    /// that of whole transfers.
    pub fn decode(number: u32) -> Result<Self, Errno> {
        match number {
            0x8001_6B01 => Ok(Self::Get(Setting::Mode)),
            0x4001_6B01 => Ok(Self::Set(Setting::Mode)),
            0x8001_6B02 => Ok(Self::Get(Setting::LsbFirst)),
            0x4001_6B02 => Ok(Self::Set(Setting::LsbFirst)),
            0x8001_6B03 => Ok(Self::Get(Setting::Bits)),
            0x4001_6B03 => Ok(Self::Set(Setting::Bits)),
            0x8004_6B04 => Ok(Self::Get(Setting::Hz)),
            0x4004_6B04 => Ok(Self::Set(Setting::Hz)),
            0x8004_6B05 => Ok(Self::Get(Setting::Mode32)),
            0x4004_6B05 => Ok(Self::Set(Setting::Mode32)),
            other => Self::message(other),
        }
    }

    fn message(number: u32) -> Result<Self, Errno> {
        let (direction, size) = (number >> 30, number >> 16 & 0x3FFF);
        if direction != WRITE || number & 0xFFFF != MAGIC << 8 {
            return Err(Errno::ENOTTY);
        }
        let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
        if !size.is_multiple_of(TRANSFER_LEN) {
            return Err(Errno::EINVAL);
        }
        Ok(Self::Message(size / TRANSFER_LEN))
    }
}

impl Setting {
    /// Bytes of its argument.
    pub const fn width(self) -> u32 {
        match self {
            Self::Mode | Self::LsbFirst | Self::Bits => 1,
            Self::Mode32 | Self::Hz => 4,
        }
    }

    /// What a program reads.
    pub fn bytes(self, settings: &Settings) -> Vec<u8> {
        let [low, ..] = settings.mode.to_le_bytes();
        match self {
            Self::Mode => vec![low],
            Self::Mode32 => (settings.mode & mode::ALL).to_ne_bytes().to_vec(),
            Self::LsbFirst => vec![(settings.mode & mode::LSB_FIRST != 0).into()],
            Self::Bits => vec![settings.bits],
            Self::Hz => settings.hz.to_ne_bytes().to_vec(),
        }
    }
}

/// The number in an argument of one or four bytes.
pub fn number(argument: &[u8]) -> Option<u32> {
    match argument {
        [byte] => Some(u32::from(*byte)),
        bytes => Some(u32::from_ne_bytes(bytes.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        use nix::{request_code_read as ior, request_code_write as iow};
        let settings = [
            (1, 1, Setting::Mode),
            (2, 1, Setting::LsbFirst),
            (3, 1, Setting::Bits),
            (4, 4, Setting::Hz),
            (5, 4, Setting::Mode32),
        ];
        let number = |number: libc::Ioctl| u32::try_from(number).unwrap();
        for (nr, width, setting) in settings {
            let get = Command::decode(number(ior!(b'k', nr, width)));
            assert_eq!(get, Ok(Command::Get(setting)));
            let set = Command::decode(number(iow!(b'k', nr, width)));
            assert_eq!(set, Ok(Command::Set(setting)));
            assert_eq!(usize::try_from(setting.width()), Ok(width));
        }
        for count in [0, 1, 127, 511] {
            let message = Command::decode(number(iow!(b'k', 0, count * 32)));
            assert_eq!(message, Ok(Command::Message(count)));
        }
    }

    #[test]
    fn what_spidev_does_not_have_is_told_as_it_does() {
        for (number, errno) in [
            (0x5401, Errno::ENOTTY),
            // Two bytes of mode.
            (0x8002_6B01, Errno::ENOTTY),
            (0x8020_6B00, Errno::ENOTTY),
            (0xC020_6B00, Errno::ENOTTY),
            (0x4020_6B06, Errno::ENOTTY),
            (0x4020_6C00, Errno::ENOTTY),
            (0x401F_6B00, Errno::EINVAL),
            (0x4021_6B00, Errno::EINVAL),
        ] {
            assert_eq!(Command::decode(number), Err(errno), "{number:#x}");
        }
    }
}
