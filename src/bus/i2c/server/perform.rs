//! The operations on an open bus.

use nix::errno::Errno;

use super::{failed, translate};
use crate::bus::i2c::hardware::I2cBus;
use crate::bus::i2c::op::{
    How, Message, MessageFlags, ReadBlock, ReadByte, Scan, Scanned, Smbus, SmbusCommand,
    WriteBlock, WriteByte, encode_data, encode_empty,
};
use crate::bus::{Answer, Refused};
use crate::kernel::i2c_dev::func;
use crate::wire::status::{Status, sub};

/// What an adapter has to be able to do for messages with such a flag.
const NEEDED: &[(MessageFlags, u32)] = &[
    (MessageFlags::TEN_BIT, func::TEN_BIT_ADDR),
    (MessageFlags::NO_START, func::NOSTART),
    (MessageFlags::IGNORE_NAK, func::PROTOCOL_MANGLING),
    (MessageFlags::RECV_LEN, func::SMBUS_READ_BLOCK_DATA),
    (MessageFlags::NO_READ_ACK, func::PROTOCOL_MANGLING),
    (MessageFlags::REVERSED, func::PROTOCOL_MANGLING),
    (MessageFlags::STOP, func::PROTOCOL_MANGLING),
];

/// One transaction. An adapter that only knows SMBus does those that are the same there. As in the
/// kernel's own interface, nobody asks whether a driver has the chip.
pub(super) fn transfer(bus: &dyn I2cBus, messages: &[Message]) -> Result<Vec<Vec<u8>>, Refused> {
    let funcs = bus.functionality().map_err(failed)?;
    if funcs & func::I2C == 0 {
        return translated(bus, funcs, messages);
    }
    for message in messages {
        let missing = |(flag, needed): &&(MessageFlags, u32)| {
            message.flags.contains(*flag) && funcs & needed == 0
        };
        if NEEDED.iter().any(|needed| missing(&needed)) {
            return Err(failed(Errno::EOPNOTSUPP));
        }
    }
    bus.transfer(messages).map_err(failed)
}

fn translated(bus: &dyn I2cBus, funcs: u32, messages: &[Message]) -> Result<Vec<Vec<u8>>, Refused> {
    let Some((addr, command, smbus)) = translate::smbus(funcs, messages) else {
        return Err(failed(Errno::EOPNOTSUPP));
    };
    let command = SmbusCommand {
        dev: String::new(),
        addr,
        ten_bit: false,
        force: true,
        pec: false,
        command,
        smbus,
    };
    let brought = bus.smbus(&command).map_err(failed)?;
    let reads = messages.iter().filter_map(Message::reply_len);
    let wanted: Vec<_> = reads.map(|(len, _)| len).collect();
    match &*wanted {
        [] => Ok(Vec::new()),
        [len] if *len == brought.len() => Ok(vec![brought]),
        _ => Err(failed(Errno::EIO)),
    }
}

fn to_register(reg: Option<u8>, data: &[u8]) -> Vec<u8> {
    reg.into_iter().chain(data.iter().copied()).collect()
}

fn write(bus: &dyn I2cBus, addr: u16, data: Vec<u8>) -> Answer {
    bus.check_unused(addr).map_err(failed)?;
    transfer(bus, &[Message::write(addr, data)])?;
    Ok(encode_empty())
}

fn read(bus: &dyn I2cBus, addr: u16, reg: Option<u8>, len: u16) -> Result<Vec<u8>, Refused> {
    bus.check_unused(addr).map_err(failed)?;
    let from = reg.map(|reg| Message::write(addr, [reg]));
    let messages: Vec<_> = from.into_iter().chain([Message::read(addr, len)]).collect();
    Ok(transfer(bus, &messages)?.pop().unwrap_or_default())
}

pub(super) fn write_byte(bus: &dyn I2cBus, request: &WriteByte) -> Answer {
    write(
        bus,
        request.addr,
        to_register(request.reg, &[request.value]),
    )
}

pub(super) fn write_block(bus: &dyn I2cBus, request: &WriteBlock) -> Answer {
    write(bus, request.addr, to_register(request.reg, &request.data))
}

pub(super) fn read_byte(bus: &dyn I2cBus, request: &ReadByte) -> Answer {
    match *read(bus, request.addr, request.reg, 1)? {
        [value] => Ok(ReadByte::encode_reply(value)),
        _ => Err(failed(Errno::EIO)),
    }
}

pub(super) fn read_block(bus: &dyn I2cBus, request: &ReadBlock) -> Answer {
    let data = read(bus, request.addr, request.reg, request.len)?;
    Ok(encode_data(&data))
}

pub(super) fn smbus(bus: &dyn I2cBus, request: &SmbusCommand) -> Answer {
    // A driver without them would take a part of the address for the whole.
    let funcs = bus.functionality().map_err(failed)?;
    if request.ten_bit && funcs & func::TEN_BIT_ADDR == 0 {
        return Err(failed(Errno::EOPNOTSUPP));
    }
    let data = bus.smbus(request).map_err(failed)?;
    let (least, most) = request.smbus.reply_len();
    if data.len() < least || data.len() > most {
        return Err(Refused::new(
            Status::InternalError,
            sub::INTERNAL,
            "the bus brought what was not asked for",
        ));
    }
    Ok(encode_data(&data))
}

/// Which addresses answer. One that a driver of this machine has is not disturbed and counts as there.
pub(super) fn scan(bus: &dyn I2cBus, request: &Scan) -> Answer {
    let (needed, smbus) = match request.how {
        How::Quick => (func::SMBUS_QUICK, Smbus::Quick { read: false }),
        How::Read => (func::SMBUS_READ_BYTE, Smbus::ReceiveByte),
    };
    if bus.functionality().map_err(failed)? & needed == 0 {
        return Err(failed(Errno::EOPNOTSUPP));
    }
    let mut addrs = Vec::new();
    for addr in request.first..=request.last {
        let probe = SmbusCommand {
            dev: String::new(),
            addr,
            ten_bit: false,
            force: false,
            pec: false,
            command: 0,
            smbus: smbus.clone(),
        };
        if bus.check_unused(addr) == Err(Errno::EBUSY) {
            addrs.push(addr);
            continue;
        }
        match bus.smbus(&probe) {
            Ok(_) => addrs.push(addr),
            // A bus that is busy says so for every address, and one that hangs would take its time for each.
            Err(errno @ (Errno::ENODEV | Errno::ETIMEDOUT | Errno::EBUSY)) => {
                return Err(failed(errno));
            }
            Err(_) => {}
        }
    }
    let scanned = Scanned { addrs };
    let answer = scanned.encode();
    answer.map_err(|error| Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()))
}
