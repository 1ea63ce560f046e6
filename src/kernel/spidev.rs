//! SPI devices through their character device (include/uapi/linux/spi/spidev.h,
//! drivers/spi/spidev.c). A transfer takes as long as the bus does: every call may wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;

/// Most transfers of one message: so many structures fit into the size of an ioctl's number
/// (`SPI_MSGSIZE`).
pub const MAX_TRANSFERS: usize = 511;
/// Bytes of `struct spi_ioc_transfer`.
pub const TRANSFER_LEN: usize = 32;
/// The largest message where the kernel does not say otherwise.
pub const DEFAULT_BUFSIZ: u32 = 4096;

/// `SPI_IOC_MAGIC`
const MAGIC: u8 = b'k';

/// Bits of a mode (include/uapi/linux/spi/spi.h).
pub mod mode {
    /// The second edge of the clock counts.
    pub const CPHA: u32 = 1 << 0;
    /// The clock rests high.
    pub const CPOL: u32 = 1 << 1;
    /// Chip select is active high.
    pub const CS_HIGH: u32 = 1 << 2;
    /// The least significant bit of a word goes first.
    pub const LSB_FIRST: u32 = 1 << 3;
    /// What spidev takes (`SPI_MODE_MASK` of Linux 6.12).
    pub const ALL: u32 = 0x3_EFFF;
}

/// How a device is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`mode`] bits.
    pub mode: u32,
    /// Bits of a word.
    pub bits: u8,
    /// The clock in Hz where a transfer names none.
    pub hz: u32,
}

/// One transfer of a message (`struct spi_ioc_transfer`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// What is sent; nothing where zeros are.
    pub tx: Vec<u8>,
    /// How many bytes are received; as many as are sent where both are not 0.
    pub rx_len: u32,
    /// How many bytes go by of which neither is kept, where nothing is sent or received.
    pub idle_len: u32,
    /// The clock in Hz, 0 as set.
    pub hz: u32,
    /// Microseconds after it.
    pub delay_us: u16,
    /// Bits of a word, 0 as set.
    pub bits: u8,
    /// The device is deselected after it, or stays selected after the last.
    pub cs_change: bool,
    /// Wires it is sent over: 0 as one, 1, 2, 4, 8.
    pub tx_nbits: u8,
    /// Wires it is received over, likewise.
    pub rx_nbits: u8,
    /// Microseconds between two words.
    pub word_delay_us: u8,
}

impl Transfer {
    /// Bytes that the clock runs for.
    pub fn len(&self) -> usize {
        let rx = usize::try_from(self.rx_len.max(self.idle_len)).unwrap_or(usize::MAX);
        self.tx.len().max(rx)
    }

    /// Whether it moves no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is sent and what is received fit each other.
    pub fn is_consistent(&self) -> bool {
        let (tx, rx) = (u64::try_from(self.tx.len()), u64::from(self.rx_len));
        let idle = self.idle_len == 0 || (self.tx.is_empty() && self.rx_len == 0);
        idle && (self.tx.is_empty() || self.rx_len == 0 || tx == Ok(rx))
    }
}

/// An open device. Its settings belong to the device and stay when this is dropped.
#[derive(Debug)]
pub struct Device {
    file: File,
}

mod ioctl {
    use super::MAGIC;

    nix::ioctl_read!(rd_mode, MAGIC, 5, u32);
    nix::ioctl_write_ptr!(wr_mode, MAGIC, 5, u32);
    nix::ioctl_read!(rd_bits, MAGIC, 3, u8);
    nix::ioctl_write_ptr!(wr_bits, MAGIC, 3, u8);
    nix::ioctl_read!(rd_hz, MAGIC, 4, u32);
    nix::ioctl_write_ptr!(wr_hz, MAGIC, 4, u32);
}

/// `struct spi_ioc_transfer`: the same for 32-bit programs.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawTransfer {
    tx_buf: u64,
    rx_buf: u64,
    len: u32,
    speed_hz: u32,
    delay_usecs: u16,
    bits_per_word: u8,
    cs_change: u8,
    tx_nbits: u8,
    rx_nbits: u8,
    word_delay_usecs: u8,
    pad: u8,
}

impl Device {
    /// Opens a device node.
    ///
    /// # Errors
    /// Those of open(2); `ENXIO` when it was unplugged just now.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file })
    }

    /// How it is spoken to now.
    ///
    /// # Errors
    /// `ESHUTDOWN` when it is gone, `ENOTTY` when the file is no spidev.
    pub fn settings(&self) -> Result<Settings, Errno> {
        let mut settings = Settings::default();
        let fd = self.file.as_raw_fd();
        // SAFETY: the descriptor is open, and the kernel writes these four bytes only.
        unsafe { ioctl::rd_mode(fd, &raw mut settings.mode) }?;
        // SAFETY: as above, one byte.
        unsafe { ioctl::rd_bits(fd, &raw mut settings.bits) }?;
        // SAFETY: as above, four bytes.
        unsafe { ioctl::rd_hz(fd, &raw mut settings.hz) }?;
        Ok(settings)
    }

    /// Sets all bits of the mode.
    ///
    /// # Errors
    /// `EINVAL` when the controller cannot do it; wires that it lacks are left out without an error.
    pub fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        // SAFETY: the descriptor is open, and the kernel reads these four bytes only.
        unsafe { ioctl::wr_mode(self.file.as_raw_fd(), &raw const mode) }.map(drop)
    }

    /// Sets the bits of a word.
    ///
    /// # Errors
    /// `EINVAL` when the controller cannot do it.
    pub fn set_bits(&self, bits: u8) -> Result<(), Errno> {
        // SAFETY: the descriptor is open, and the kernel reads this byte only.
        unsafe { ioctl::wr_bits(self.file.as_raw_fd(), &raw const bits) }.map(drop)
    }

    /// Sets the clock.
    ///
    /// # Errors
    /// `EINVAL` for 0, or when the controller cannot do it.
    pub fn set_hz(&self, hz: u32) -> Result<(), Errno> {
        // SAFETY: the descriptor is open, and the kernel reads these four bytes only.
        unsafe { ioctl::wr_hz(self.file.as_raw_fd(), &raw const hz) }.map(drop)
    }

    /// Performs one message, and returns what each transfer received.
    ///
    /// # Errors
    /// `EINVAL` for no transfer, more than [`MAX_TRANSFERS`], one that is not
    /// [consistent](Transfer::is_consistent), and what the controller cannot do; `EMSGSIZE` when it is
    /// larger than [`bufsiz`]; `ESHUTDOWN` when the device is gone; what its driver says.
    pub fn message(&self, transfers: &[Transfer]) -> Result<Vec<Vec<u8>>, Errno> {
        let fits = (1..=MAX_TRANSFERS).contains(&transfers.len());
        if !fits || !transfers.iter().all(Transfer::is_consistent) {
            return Err(Errno::EINVAL);
        }
        let mut received = Vec::with_capacity(transfers.len());
        let mut raw = Vec::with_capacity(transfers.len());
        for transfer in transfers {
            let mut rx = buffer(transfer.rx_len)?;
            raw.push(RawTransfer::new(transfer, &mut rx)?);
            // The heap block of `rx` stays where it is.
            received.push(rx);
        }
        let request = message_number(raw.len());
        // SAFETY: the descriptor is open. The kernel reads as many structures as the number says, which
        // `raw` holds, and `len` bytes at each `tx_buf`; it writes `len` bytes at each `rx_buf`. These
        // are the heap blocks of `transfers` and `received`, of that length, and both outlive the call.
        let done = unsafe { libc::ioctl(self.file.as_raw_fd(), request, raw.as_ptr()) };
        Errno::result(done)?;
        Ok(received)
    }

    /// Receives so many bytes as one transfer.
    ///
    /// # Errors
    /// As [`Device::message`].
    pub fn read(&self, len: u32) -> Result<Vec<u8>, Errno> {
        let mut bytes = buffer(len)?;
        let count = (&self.file)
            .read(&mut bytes)
            .map_err(|error| errno(&error))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Sends bytes as one transfer; how many went.
    ///
    /// # Errors
    /// As [`Device::message`].
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        (&self.file).write(bytes).map_err(|error| errno(&error))
    }
}

/// The most bytes of one message each way: the parameter of the kernel's module, or its default.
pub fn bufsiz(sys: &Path) -> u32 {
    fs::read_to_string(sys.join("module/spidev/parameters/bufsiz"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_BUFSIZ)
}

impl RawTransfer {
    fn new(transfer: &Transfer, rx: &mut [u8]) -> Result<Self, Errno> {
        let address = |bytes: *const u8, len: usize| match len {
            0 => 0,
            _ => bytes.addr() as u64,
        };
        Ok(Self {
            tx_buf: address(transfer.tx.as_ptr(), transfer.tx.len()),
            rx_buf: address(rx.as_mut_ptr(), rx.len()),
            len: u32::try_from(transfer.len()).map_err(|_| Errno::EMSGSIZE)?,
            speed_hz: transfer.hz,
            delay_usecs: transfer.delay_us,
            bits_per_word: transfer.bits,
            cs_change: transfer.cs_change.into(),
            tx_nbits: transfer.tx_nbits,
            rx_nbits: transfer.rx_nbits,
            word_delay_usecs: transfer.word_delay_us,
            pad: 0,
        })
    }
}

/// `SPI_IOC_MESSAGE(count)`
const fn message_number(count: usize) -> libc::Ioctl {
    nix::request_code_write!(MAGIC, 0, count * TRANSFER_LEN)
}

fn buffer(len: u32) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(len).map_err(|_| Errno::EMSGSIZE)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels() {
        assert_eq!(size_of::<RawTransfer>(), TRANSFER_LEN);
        assert_eq!(message_number(1), 0x4020_6B00);
        assert_eq!(message_number(MAX_TRANSFERS), 0x7FE0_6B00);
        assert_eq!(nix::request_code_read!(MAGIC, 5, 4), 0x8004_6B05);
        assert_eq!(nix::request_code_write!(MAGIC, 3, 1), 0x4001_6B03);
    }

    #[test]
    fn a_message_that_is_none_never_reaches_the_kernel() {
        let device = Device {
            file: File::open("/dev/null").unwrap(),
        };
        let uneven = Transfer {
            tx: vec![0; 3],
            rx_len: 4,
            ..Transfer::default()
        };
        let beside = Transfer {
            tx: vec![0; 3],
            idle_len: 3,
            ..Transfer::default()
        };
        let many = vec![Transfer::default(); MAX_TRANSFERS + 1];
        for wrong in [vec![], vec![uneven], vec![beside], many] {
            assert_eq!(device.message(&wrong), Err(Errno::EINVAL));
        }
        // The kernel's own answer.
        assert_eq!(device.message(&[Transfer::default()]), Err(Errno::ENOTTY));
        assert_eq!(device.settings(), Err(Errno::ENOTTY));
    }

    #[test]
    fn a_kernel_that_does_not_say_has_the_default_size() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(bufsiz(dir.path()), DEFAULT_BUFSIZ);
        let parameters = dir.path().join("module/spidev/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("bufsiz"), "65536\n").unwrap();
        assert_eq!(bufsiz(dir.path()), 65_536);
    }
}
