//! `I2C_SMBUS_COMMAND`.

use super::{OpError, check_address, read_device};
use crate::wire::msgpack::{Reader, Writer};

/// Most bytes of a block (SMBus 2.0; `I2C_SMBUS_BLOCK_MAX` of the kernel).
pub const MAX_BLOCK: usize = 32;

/// `protocol` 16: with packet error checking.
const PEC: u8 = 16;
/// `protocol` 32, beyond the profile: the address has ten bits.
const TEN_BIT: u8 = 32;
/// `protocol` 64, beyond the profile: also a chip that a driver of the owner's kernel has.
const FORCE: u8 = 64;

const QUICK: u8 = 0;
const BYTE: u8 = 1;
const BYTE_DATA: u8 = 2;
const WORD_DATA: u8 = 3;
const PROCESS_CALL: u8 = 4;
const BLOCK_DATA: u8 = 5;
const BLOCK_PROCESS_CALL: u8 = 7;
const I2C_BLOCK: u8 = 8;

/// One of the SMBus protocols, with its data. Words are little endian on the wire and on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Smbus {
    /// The direction bit alone.
    Quick {
        /// It says "read".
        read: bool,
    },
    /// One byte is read, without a command.
    ReceiveByte,
    /// The command byte alone is written.
    SendByte,
    /// A byte is read after the command.
    ReadByte,
    /// A byte is written after the command.
    WriteByte(u8),
    /// A word is read after the command.
    ReadWord,
    /// A word is written after the command.
    WriteWord(u16),
    /// A word is written and another read.
    ProcessCall(u16),
    /// A block is read that says its own length.
    ReadBlock,
    /// A block of at most [`MAX_BLOCK`] bytes is written, its length before it.
    WriteBlock(Vec<u8>),
    /// A block is written and another read.
    BlockProcessCall(Vec<u8>),
    /// So many bytes are read after the command, 1 to [`MAX_BLOCK`].
    ReadI2cBlock(u8),
    /// These bytes, at most [`MAX_BLOCK`], are written after the command.
    WriteI2cBlock(Vec<u8>),
}

impl Smbus {
    /// Its number and `rw` on the wire.
    fn code(&self) -> (u8, bool) {
        match self {
            Self::Quick { read } => (QUICK, !read),
            Self::ReceiveByte => (BYTE, false),
            Self::SendByte => (BYTE, true),
            Self::ReadByte => (BYTE_DATA, false),
            Self::WriteByte(_) => (BYTE_DATA, true),
            Self::ReadWord => (WORD_DATA, false),
            Self::WriteWord(_) => (WORD_DATA, true),
            Self::ProcessCall(_) => (PROCESS_CALL, true),
            Self::ReadBlock => (BLOCK_DATA, false),
            Self::WriteBlock(_) => (BLOCK_DATA, true),
            Self::BlockProcessCall(_) => (BLOCK_PROCESS_CALL, true),
            Self::ReadI2cBlock(_) => (I2C_BLOCK, false),
            Self::WriteI2cBlock(_) => (I2C_BLOCK, true),
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::Quick { .. }
            | Self::ReceiveByte
            | Self::SendByte
            | Self::ReadByte
            | Self::ReadWord
            | Self::ReadBlock => Vec::new(),
            Self::WriteByte(byte) | Self::ReadI2cBlock(byte) => vec![*byte],
            Self::WriteWord(word) | Self::ProcessCall(word) => word.to_le_bytes().to_vec(),
            Self::WriteBlock(block)
            | Self::BlockProcessCall(block)
            | Self::WriteI2cBlock(block) => block.clone(),
        }
    }

    fn decode(protocol: u8, write: bool, data: &[u8]) -> Result<Self, OpError> {
        let wrong = || OpError::Field("data");
        let byte = || match data {
            [byte] => Ok(*byte),
            _ => Err(wrong()),
        };
        let word = || <[u8; 2]>::try_from(data).map(u16::from_le_bytes);
        let word = || word().map_err(|_| wrong());
        let block = |least: usize| {
            if data.len() < least || data.len() > MAX_BLOCK {
                return Err(wrong());
            }
            Ok(data.to_vec())
        };
        let reading = |smbus: Self| {
            if data.is_empty() {
                Ok(smbus)
            } else {
                Err(wrong())
            }
        };
        match (protocol, write) {
            (QUICK, write) => reading(Self::Quick { read: !write }),
            (BYTE, false) => reading(Self::ReceiveByte),
            (BYTE, true) => reading(Self::SendByte),
            (BYTE_DATA, false) => reading(Self::ReadByte),
            (BYTE_DATA, true) => Ok(Self::WriteByte(byte()?)),
            (WORD_DATA, false) => reading(Self::ReadWord),
            (WORD_DATA, true) => Ok(Self::WriteWord(word()?)),
            (PROCESS_CALL, _) => Ok(Self::ProcessCall(word()?)),
            (BLOCK_DATA, false) => reading(Self::ReadBlock),
            (BLOCK_DATA, true) => Ok(Self::WriteBlock(block(0)?)),
            (BLOCK_PROCESS_CALL, _) => Ok(Self::BlockProcessCall(block(0)?)),
            (I2C_BLOCK, false) => match byte()? {
                len if usize::from(len) <= MAX_BLOCK => Ok(Self::ReadI2cBlock(len)),
                _ => Err(wrong()),
            },
            (I2C_BLOCK, true) => Ok(Self::WriteI2cBlock(block(0)?)),
            _ => Err(OpError::Field("protocol")),
        }
    }

    /// Whether it only reads. The quick command's bit can switch something either way.
    pub const fn only_reads(&self) -> bool {
        match self {
            Self::ReceiveByte | Self::ReadByte | Self::ReadWord | Self::ReadBlock => true,
            // Of no bytes it is a quick command too.
            Self::ReadI2cBlock(len) => *len != 0,
            Self::Quick { .. }
            | Self::SendByte
            | Self::WriteByte(_)
            | Self::WriteWord(_)
            | Self::ProcessCall(_)
            | Self::WriteBlock(_)
            | Self::BlockProcessCall(_)
            | Self::WriteI2cBlock(_) => false,
        }
    }

    /// The least and the most bytes of the answer.
    pub fn reply_len(&self) -> (usize, usize) {
        match self {
            Self::ReceiveByte | Self::ReadByte => (1, 1),
            Self::ReadWord | Self::ProcessCall(_) => (2, 2),
            Self::ReadBlock | Self::BlockProcessCall(_) => (0, MAX_BLOCK),
            Self::ReadI2cBlock(len) => (0, usize::from(*len)),
            Self::Quick { .. }
            | Self::SendByte
            | Self::WriteByte(_)
            | Self::WriteWord(_)
            | Self::WriteBlock(_)
            | Self::WriteI2cBlock(_) => (0, 0),
        }
    }
}

/// `I2C_SMBUS_COMMAND` `[dev, addr, rw 0/1, command, protocol, data bin]` -> `[bin]`. `rw` is 1 for
/// writes; the process calls have either. The data of a block is without its length, that of an I2C
/// block that is read is one byte with the wanted length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmbusCommand {
    /// The bus's id.
    pub dev: String,
    /// The chip's address, of seven bits, or of ten by `ten_bit`.
    pub addr: u16,
    /// The address has ten bits: beyond the profile.
    pub ten_bit: bool,
    /// Also when a driver of the owner's kernel has the chip: beyond the profile.
    pub force: bool,
    /// With packet error checking.
    pub pec: bool,
    /// The command byte; the quick command and [`Smbus::ReceiveByte`] have none.
    pub command: u8,
    /// What is done.
    pub smbus: Smbus,
}

impl SmbusCommand {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let (protocol, write) = self.smbus.code();
        writer.array(6);
        writer.str(&self.dev);
        writer.uint(self.addr);
        writer.uint(u8::from(write));
        writer.uint(self.command);
        let flags = [
            (self.pec, PEC),
            (self.ten_bit, TEN_BIT),
            (self.force, FORCE),
        ];
        let flags = flags.iter().filter(|(on, _)| *on);
        writer.uint(flags.fold(protocol, |protocol, (_, flag)| protocol | flag));
        writer.bin(&self.smbus.data());
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, there is no such protocol, a field is out of range or the
    /// data does not fit the protocol.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(6)?;
        let dev = read_device(&mut reader)?;
        let addr = reader.u16()?;
        let write = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(OpError::Field("rw")),
        };
        let command = reader.u8()?;
        let protocol = reader.u8()?;
        let data = reader.bin()?;
        reader.finish_fixed(extra)?;
        let ten_bit = protocol & TEN_BIT != 0;
        check_address(addr, ten_bit)?;
        Ok(Self {
            dev,
            addr,
            ten_bit,
            force: protocol & FORCE != 0,
            pec: protocol & PEC != 0,
            command,
            smbus: Smbus::decode(protocol & !(PEC | TEN_BIT | FORCE), write, data)?,
        })
    }
}
