//! `I2C_SMBUS`, in two rounds or three: the structure, and the data that it points to.

use nix::errno::Errno;

use super::{Asked, OpenFile, Question, Stop, Told};
use crate::bus::i2c::client::cuse::layout::{self, SmbusCall};
use crate::bus::i2c::op::{BusEntry, Smbus, SmbusCommand, ext};
use crate::kernel::cuse::{Ioctl, Piece};
use crate::kernel::i2c_dev::{MAX_BLOCK, SMBUS_DATA, size};

/// `I2C_SMBUS_READ`, `I2C_SMBUS_WRITE`
const READ: u8 = 1;
const WRITE: u8 = 0;

/// The program's data: how it is written back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// Not at all.
    Nothing,
    /// A byte.
    Byte,
    /// A word in the machine's order.
    Word,
    /// A length and a block; behind them what the program passed.
    Block(Vec<u8>),
}

impl Data {
    /// What is written back when this came, which is not longer than its protocol allows.
    pub(super) fn answer(self, brought: &[u8]) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Byte => brought.get(..1).unwrap_or_default().to_vec(),
            Self::Word => {
                let word = brought.first_chunk().copied().unwrap_or_default();
                u16::from_le_bytes(word).to_ne_bytes().to_vec()
            }
            Self::Block(mut union) => {
                let length = u8::try_from(brought.len()).unwrap_or_default();
                for (to, from) in union.iter_mut().zip([length].iter().chain(brought)) {
                    *to = *from;
                }
                union
            }
        }
    }
}

/// What the structure asks for, once all of it is there.
pub(super) fn take(file: OpenFile, bus: &BusEntry, call: &Ioctl) -> Result<Question, Stop> {
    let mut rounds = call.rounds();
    let bytes = rounds.take(Piece::at(call.arg, layout::smbus(call.compat)))?;
    let asked = SmbusCall::parse(bytes).ok_or(Errno::EFAULT)?;
    let width = width(asked.size).ok_or(Errno::EINVAL)?;
    let read = match asked.read_write {
        READ => true,
        WRITE => false,
        _ => return Err(Errno::EINVAL.into()),
    };
    let without_data = asked.size == size::QUICK || (asked.size == size::BYTE && !read);
    if !without_data && asked.data == 0 {
        return Err(Errno::EINVAL.into());
    }
    let calls = matches!(asked.size, size::PROC_CALL | size::BLOCK_PROC_CALL);
    let is_input = !without_data && (calls || !read || asked.size == size::I2C_BLOCK_DATA);
    let is_output = !without_data && (calls || read);
    if is_output {
        rounds.give(Piece::at(asked.data, width));
    }
    let input = rounds.take(Piece::at(asked.data, if is_input { width } else { 0 }))?;
    rounds.complete()?;
    let smbus = smbus(asked.size, read, input)?;
    if file.ten_bit && bus.ext & ext::SMBUS == 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let command = SmbusCommand {
        dev: bus.dev.clone(),
        addr: file.addr,
        ten_bit: file.ten_bit,
        force: file.force && bus.ext & ext::SMBUS != 0,
        pec: file.pec,
        command: asked.command,
        smbus,
    };
    let data = match width {
        _ if !is_output => Data::Nothing,
        1 => Data::Byte,
        2 => Data::Word,
        _ => {
            let mut union = input.to_vec();
            union.resize(SMBUS_DATA, 0);
            Data::Block(union)
        }
    };
    Ok(Question {
        asked: Asked::Smbus(command),
        told: Told::Smbus(data),
    })
}

/// Bytes of the data; `None` where there is no such kind.
fn width(size: u32) -> Option<u32> {
    match size {
        size::QUICK | size::BYTE | size::BYTE_DATA => Some(1),
        size::WORD_DATA | size::PROC_CALL => Some(2),
        size::BLOCK_DATA
        | size::I2C_BLOCK_BROKEN
        | size::BLOCK_PROC_CALL
        | size::I2C_BLOCK_DATA => u32::try_from(SMBUS_DATA).ok(),
        _ => None,
    }
}

fn smbus(size: u32, read: bool, input: &[u8]) -> Result<Smbus, Errno> {
    let first = input.first().copied().unwrap_or_default();
    let word = || u16::from_ne_bytes(input.first_chunk().copied().unwrap_or_default());
    let block = || {
        let length = usize::from(first);
        let block = input.get(1..=length).filter(|_| length <= MAX_BLOCK);
        block.map(<[u8]>::to_vec).ok_or(Errno::EINVAL)
    };
    Ok(match (size, read) {
        (size::QUICK, read) => Smbus::Quick { read },
        (size::BYTE, true) => Smbus::ReceiveByte,
        (size::BYTE, false) => Smbus::SendByte,
        (size::BYTE_DATA, true) => Smbus::ReadByte,
        (size::BYTE_DATA, false) => Smbus::WriteByte(first),
        (size::WORD_DATA, true) => Smbus::ReadWord,
        (size::WORD_DATA, false) => Smbus::WriteWord(word()),
        (size::PROC_CALL, _) => Smbus::ProcessCall(word()),
        (size::BLOCK_DATA, true) => Smbus::ReadBlock,
        (size::BLOCK_DATA, false) => Smbus::WriteBlock(block()?),
        (size::BLOCK_PROC_CALL, _) => Smbus::BlockProcessCall(block()?),
        (size::I2C_BLOCK_BROKEN, true) => Smbus::ReadI2cBlock(32),
        (size::I2C_BLOCK_DATA, true) if usize::from(first) <= MAX_BLOCK => {
            Smbus::ReadI2cBlock(first)
        }
        (size::I2C_BLOCK_BROKEN | size::I2C_BLOCK_DATA, false) => Smbus::WriteI2cBlock(block()?),
        _ => return Err(Errno::EINVAL),
    })
}
