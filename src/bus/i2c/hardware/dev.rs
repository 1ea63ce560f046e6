//! Real buses, through their character devices.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::{I2cBus, I2cHost};
use crate::bus::i2c::enumerate::number;
use crate::bus::i2c::op::{Action, Message, MessageFlags, Smbus, SmbusCommand};
use crate::kernel::i2c_dev::{self, Bus, Command, MAX_BLOCK, SMBUS_DATA, flag, size};

/// The buses of this machine.
#[derive(Clone, Debug)]
pub struct DevHost {
    dev: PathBuf,
}

impl DevHost {
    /// Buses in that directory, normally `/dev`.
    pub fn new(dev: impl Into<PathBuf>) -> Self {
        Self { dev: dev.into() }
    }
}

impl Default for DevHost {
    fn default() -> Self {
        Self::new("/dev")
    }
}

impl I2cHost for DevHost {
    fn open(&self, place: &str) -> io::Result<Box<dyn I2cBus>> {
        let bus = Bus::open(&self.dev.join(place))?;
        // A program may have made a device of that name, of a remote bus for one.
        if bus.number()? != number(place).map(u64::from) {
            return Err(Errno::ENODEV.into());
        }
        Ok(Box::new(bus))
    }
}

impl I2cBus for Bus {
    fn functionality(&self) -> Result<u32, Errno> {
        self.functionality()
    }

    fn check_unused(&self, addr: u16) -> Result<(), Errno> {
        self.select(addr, false, false)
    }

    fn transfer(&self, messages: &[Message]) -> Result<Vec<Vec<u8>>, Errno> {
        let mut raw: Vec<_> = messages.iter().map(raw_message).collect();
        self.transfer(&mut raw)?;
        Ok(raw.into_iter().filter_map(brought).collect())
    }

    fn smbus(&self, command: &SmbusCommand) -> Result<Vec<u8>, Errno> {
        self.select(command.addr, command.ten_bit, command.force)?;
        self.set_pec(command.pec)?;
        let (raw, mut data) = raw_command(command);
        self.smbus(raw, &mut data)?;
        answer(&command.smbus, &data)
    }
}

/// The kernel's flags for those of the wire.
pub const FLAGS: &[(MessageFlags, u16)] = &[
    (MessageFlags::TEN_BIT, flag::TEN),
    (MessageFlags::NO_START, flag::NOSTART),
    (MessageFlags::IGNORE_NAK, flag::IGNORE_NAK),
    (MessageFlags::RECV_LEN, flag::RECV_LEN),
    (MessageFlags::NO_READ_ACK, flag::NO_RD_ACK),
    (MessageFlags::REVERSED, flag::REV_DIR_ADDR),
    (MessageFlags::STOP, flag::STOP),
];

fn raw_message(message: &Message) -> i2c_dev::Message {
    let set = FLAGS
        .iter()
        .filter(|(ours, _)| message.flags.contains(*ours));
    let flags = set.fold(0, |flags, (_, kernel)| flags | kernel);
    let (flags, data) = match &message.action {
        Action::Write(data) => (flags, data.clone()),
        Action::Read(len) => {
            let mut room = vec![0; usize::from(*len)];
            if message.flags.contains(MessageFlags::RECV_LEN) {
                // So the kernel wants it: bytes besides the block, and room for the longest one.
                room.resize(usize::from(*len) + MAX_BLOCK, 0);
                if let Some(first) = room.first_mut() {
                    *first = u8::try_from(*len).unwrap_or(u8::MAX);
                }
            }
            (flags | flag::READ, room)
        }
    };
    i2c_dev::Message {
        addr: message.addr,
        flags,
        data,
    }
}

/// What a message read; `None` when it wrote.
fn brought(message: i2c_dev::Message) -> Option<Vec<u8>> {
    if message.flags & flag::READ == 0 {
        return None;
    }
    let mut data = message.data;
    if message.flags & flag::RECV_LEN != 0 {
        let block = data.first().copied().map_or(0, usize::from);
        let besides = data.len().saturating_sub(MAX_BLOCK);
        data.truncate(besides + block.min(MAX_BLOCK));
    }
    Some(data)
}

/// The kernel's numbers for a command, and its data as it goes in.
fn raw_command(command: &SmbusCommand) -> (Command, [u8; SMBUS_DATA]) {
    let mut data = [0; SMBUS_DATA];
    let mut put = |bytes: &[u8]| {
        for (to, from) in data.iter_mut().zip(bytes) {
            *to = *from;
        }
    };
    let block = |bytes: &[u8]| {
        let bytes = bytes.get(..MAX_BLOCK).unwrap_or(bytes);
        let mut block = vec![u8::try_from(bytes.len()).unwrap_or_default()];
        block.extend(bytes);
        block
    };
    let (read, size) = match &command.smbus {
        Smbus::Quick { read } => (*read, size::QUICK),
        Smbus::ReceiveByte => (true, size::BYTE),
        Smbus::SendByte => (false, size::BYTE),
        Smbus::ReadByte => (true, size::BYTE_DATA),
        Smbus::WriteByte(byte) => {
            put(&[*byte]);
            (false, size::BYTE_DATA)
        }
        Smbus::ReadWord => (true, size::WORD_DATA),
        Smbus::WriteWord(word) => {
            put(&word.to_ne_bytes());
            (false, size::WORD_DATA)
        }
        Smbus::ProcessCall(word) => {
            put(&word.to_ne_bytes());
            (false, size::PROC_CALL)
        }
        Smbus::ReadBlock => (true, size::BLOCK_DATA),
        Smbus::WriteBlock(bytes) => {
            put(&block(bytes));
            (false, size::BLOCK_DATA)
        }
        Smbus::BlockProcessCall(bytes) => {
            put(&block(bytes));
            (false, size::BLOCK_PROC_CALL)
        }
        Smbus::ReadI2cBlock(len) => {
            put(&[*len]);
            (true, size::I2C_BLOCK_DATA)
        }
        Smbus::WriteI2cBlock(bytes) => {
            put(&block(bytes));
            (false, size::I2C_BLOCK_DATA)
        }
    };
    let raw = Command {
        read,
        command: command.command,
        size,
    };
    (raw, data)
}

/// What of the data that came back is the answer.
fn answer(smbus: &Smbus, data: &[u8; SMBUS_DATA]) -> Result<Vec<u8>, Errno> {
    let [first, second, ..] = *data;
    match smbus {
        Smbus::ReceiveByte | Smbus::ReadByte => Ok(vec![first]),
        Smbus::ReadWord | Smbus::ProcessCall(_) => {
            Ok(u16::from_ne_bytes([first, second]).to_le_bytes().to_vec())
        }
        Smbus::ReadBlock | Smbus::BlockProcessCall(_) | Smbus::ReadI2cBlock(_) => {
            let (_, most) = smbus.reply_len();
            let len = usize::from(first);
            // A driver that says more than it may is not believed.
            let block = data.get(1..=len).filter(|_| len <= most);
            block.map(<[u8]>::to_vec).ok_or(Errno::EPROTO)
        }
        Smbus::Quick { .. }
        | Smbus::SendByte
        | Smbus::WriteByte(_)
        | Smbus::WriteWord(_)
        | Smbus::WriteBlock(_)
        | Smbus::WriteI2cBlock(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(smbus: Smbus) -> SmbusCommand {
        SmbusCommand {
            dev: "i2c:b".to_owned(),
            addr: 0x50,
            ten_bit: false,
            force: false,
            pec: false,
            command: 9,
            smbus,
        }
    }

    #[test]
    fn every_flag_of_the_wire_has_its_bit_in_the_kernel() {
        let all = FLAGS
            .iter()
            .fold(MessageFlags::NONE, |all, (ours, _)| all | *ours);
        assert_eq!(all, MessageFlags::from_bits(0xFE));
        let mut message = Message::read(0x50, 3);
        message.flags = MessageFlags::TEN_BIT | MessageFlags::STOP;
        let raw = raw_message(&message);
        assert_eq!(raw.flags, flag::READ | flag::TEN | flag::STOP);
        assert_eq!(raw.data, [0; 3]);
    }

    #[test]
    fn a_block_with_its_length_has_room_for_the_longest_one_and_brings_what_came() {
        let mut message = Message::read(0x50, 2);
        message.flags = MessageFlags::RECV_LEN;
        let mut raw = raw_message(&message);
        assert_eq!((raw.data.len(), raw.data[0]), (34, 2));
        raw.data[0] = 5;
        assert_eq!(brought(raw.clone()).unwrap().len(), 7);
        raw.data[0] = 200;
        assert_eq!(brought(raw).unwrap().len(), 34);
    }

    #[test]
    fn blocks_go_with_their_length_and_come_without_it() {
        let (raw, data) = raw_command(&command(Smbus::WriteBlock(vec![7, 8])));
        assert_eq!((raw.read, raw.size), (false, size::BLOCK_DATA));
        assert_eq!(data[..4], [2, 7, 8, 0]);
        let mut data = [0; SMBUS_DATA];
        data[..4].copy_from_slice(&[3, 1, 2, 3]);
        assert_eq!(answer(&Smbus::ReadBlock, &data), Ok(vec![1, 2, 3]));
        assert_eq!(answer(&Smbus::ReadI2cBlock(2), &data), Err(Errno::EPROTO));
        data[0] = 33;
        assert_eq!(answer(&Smbus::ReadBlock, &data), Err(Errno::EPROTO));
    }

    #[test]
    fn words_are_little_endian_on_the_wire() {
        let (_, data) = raw_command(&command(Smbus::WriteWord(0x1234)));
        assert_eq!(u16::from_ne_bytes([data[0], data[1]]), 0x1234);
        assert_eq!(answer(&Smbus::ReadWord, &data), Ok(vec![0x34, 0x12]));
    }
}
