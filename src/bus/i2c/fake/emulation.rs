//! SMBus as the kernel makes it of messages (drivers/i2c/i2c-core-smbus.c).

use nix::errno::Errno;

use super::Wire;
use crate::bus::i2c::op::{Action, Message, MessageFlags, Smbus, SmbusCommand};
use crate::kernel::i2c_dev::func;

/// What an adapter has to be able to do for it.
pub(super) const fn needed(smbus: &Smbus) -> u32 {
    match smbus {
        Smbus::Quick { .. } => func::SMBUS_QUICK,
        Smbus::ReceiveByte => func::SMBUS_READ_BYTE,
        Smbus::SendByte => func::SMBUS_WRITE_BYTE,
        Smbus::ReadByte => func::SMBUS_READ_BYTE_DATA,
        Smbus::WriteByte(_) => func::SMBUS_WRITE_BYTE_DATA,
        Smbus::ReadWord => func::SMBUS_READ_WORD_DATA,
        Smbus::WriteWord(_) => func::SMBUS_WRITE_WORD_DATA,
        Smbus::ProcessCall(_) => func::SMBUS_PROC_CALL,
        Smbus::ReadBlock => func::SMBUS_READ_BLOCK_DATA,
        Smbus::WriteBlock(_) => func::SMBUS_WRITE_BLOCK_DATA,
        Smbus::BlockProcessCall(_) => func::SMBUS_BLOCK_PROC_CALL,
        Smbus::ReadI2cBlock(_) => func::SMBUS_READ_I2C_BLOCK,
        Smbus::WriteI2cBlock(_) => func::SMBUS_WRITE_I2C_BLOCK,
    }
}

/// Performs a command on the wire.
pub(super) fn smbus(wire: &mut Wire, command: &SmbusCommand) -> Result<Vec<u8>, Errno> {
    let pec = command.pec && has_pec(&command.smbus);
    let mut messages = messages(command);
    let sum = sum_of_writes(&messages);
    if let Some(last) = messages.last_mut().filter(|_| pec) {
        match &mut last.action {
            Action::Write(data) => data.push(sum),
            Action::Read(len) => *len += 1,
        }
    }
    let Some(mut data) = wire.transfer(&messages)?.pop() else {
        return Ok(Vec::new());
    };
    if pec {
        let told = data.pop();
        let whole = data.iter().fold(sum, |sum, byte| crc8(sum ^ byte));
        if told != Some(whole) {
            return Err(Errno::EBADMSG);
        }
    }
    if matches!(command.smbus, Smbus::ReadBlock | Smbus::BlockProcessCall(_)) {
        data.remove(0);
    }
    Ok(data)
}

const fn has_pec(smbus: &Smbus) -> bool {
    !matches!(
        smbus,
        Smbus::Quick { .. } | Smbus::ReadI2cBlock(_) | Smbus::WriteI2cBlock(_)
    )
}

fn messages(command: &SmbusCommand) -> Vec<Message> {
    let message = |action, more| Message {
        addr: command.addr,
        flags: more
            | if command.ten_bit {
                MessageFlags::TEN_BIT
            } else {
                MessageFlags::NONE
            },
        action,
    };
    let write = |data: &[u8]| {
        let data = [&[command.command], data].concat();
        message(Action::Write(data), MessageFlags::NONE)
    };
    let read = |len| message(Action::Read(len), MessageFlags::NONE);
    let block = || message(Action::Read(1), MessageFlags::RECV_LEN);
    let counted = |data: &[u8]| {
        let len = u8::try_from(data.len()).unwrap_or(u8::MAX);
        [&[len], data].concat()
    };
    match &command.smbus {
        Smbus::Quick { read: true } => vec![read(0)],
        Smbus::Quick { read: false } => {
            vec![message(Action::Write(Vec::new()), MessageFlags::NONE)]
        }
        Smbus::ReceiveByte => vec![read(1)],
        Smbus::SendByte => vec![write(&[])],
        Smbus::ReadByte => vec![write(&[]), read(1)],
        Smbus::WriteByte(byte) => vec![write(&[*byte])],
        Smbus::ReadWord => vec![write(&[]), read(2)],
        Smbus::WriteWord(word) => vec![write(&word.to_le_bytes())],
        Smbus::ProcessCall(word) => vec![write(&word.to_le_bytes()), read(2)],
        Smbus::ReadBlock => vec![write(&[]), block()],
        Smbus::WriteBlock(data) => vec![write(&counted(data))],
        Smbus::BlockProcessCall(data) => vec![write(&counted(data)), block()],
        Smbus::ReadI2cBlock(len) => vec![write(&[]), read(u16::from(*len))],
        Smbus::WriteI2cBlock(data) => vec![write(data)],
    }
}

/// The sum of what is written, and of the address of what is read after it.
fn sum_of_writes(messages: &[Message]) -> u8 {
    messages.iter().fold(0, |sum, message| {
        let read = matches!(message.action, Action::Read(_));
        let sum = crc8(sum ^ address(message.addr, read));
        match &message.action {
            Action::Write(data) => data.iter().fold(sum, |sum, byte| crc8(sum ^ byte)),
            Action::Read(_) => sum,
        }
    })
}

/// The first byte of a message.
pub(super) fn address(addr: u16, read: bool) -> u8 {
    let [low, _] = (addr << 1).to_le_bytes();
    low | u8::from(read)
}

/// One step of SMBus's packet error code, x^8 + x^2 + x + 1.
pub(super) fn crc8(byte: u8) -> u8 {
    (0..8).fold(byte, |sum, _| {
        let shifted = sum << 1;
        if sum & 0x80 == 0 {
            shifted
        } else {
            shifted ^ 0x07
        }
    })
}
