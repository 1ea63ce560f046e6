//! The half that has the bus: every operation is one transaction, performed where the request arrives.

mod perform;
mod translate;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use nix::errno::Errno;
use tracing::debug;

use super::enumerate;
use super::hardware::dev::DevHost;
use super::hardware::{I2cBus, I2cHost};
use super::op::{
    BusEntry, BusList, OpError, ReadBlock, ReadByte, Scan, SmbusCommand, Transfer, WriteBlock,
    WriteByte, ext,
};
use crate::bus::{Answer, End, Owned, Present, Refused, Serving, Wanted};
use crate::wire::msgpack::Value;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// I2C buses as the owner's daemon sees them.
pub const OWNED: Owned = Owned {
    class: "i2c",
    shared: true,
    openers: &[],
    calls: &[
        Opcode::I2cBusScan,
        Opcode::I2cTransfer,
        Opcode::I2cWriteByte,
        Opcode::I2cReadByte,
        Opcode::I2cWriteBlock,
        Opcode::I2cReadBlock,
        Opcode::I2cSmbusCommand,
    ],
    list: Some((Opcode::I2cBusList, list)),
    look: enumerate::look,
    wanted,
    serve: |_, _| -> Serving {
        Box::pin(async { End::Refused(Refused::unsupported("an I2C bus has no streams")) })
    },
    call: |present, _, opcode, payload| call(&DevHost::default(), &TURNS, present, opcode, payload),
};

/// Whose turn it is on the buses of this process.
static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);

/// One operation at a time on each bus: those of two clients never mix.
#[derive(Debug, Default)]
pub struct Turns {
    buses: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Turns {
    fn of(&self, place: &str) -> Arc<Mutex<()>> {
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(buses.entry(place.to_owned()).or_default())
    }
}

/// The answer to `I2C_BUS_LIST`.
pub fn list(found: &[(Present, u8)]) -> Vec<u8> {
    let entry = |(present, _): &(Present, u8)| BusEntry {
        dev: present.id.clone(),
        name: present.name.clone(),
        funcs: match present.props.get("funcs") {
            Some(Value::Uint(funcs)) => u32::try_from(*funcs).unwrap_or_default(),
            Some(_) | None => 0,
        },
        ext: ext::ALL,
    };
    let buses = found.iter().map(entry).collect();
    // No list of buses fails to be written.
    BusList { buses }.encode().unwrap_or_default()
}

/// What a request of this bus asks for. Who may only read may read registers, by the operations for
/// that or by a transaction that does the same; a probe can disturb a chip and counts as a write.
///
/// # Errors
/// The payload is not what the operation defines, or the operation is not of this bus.
pub fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    let (device, write) = match opcode {
        Opcode::I2cBusScan => (decoded(Scan::decode(payload))?.dev, true),
        Opcode::I2cTransfer => {
            let request = decoded(Transfer::decode(payload))?;
            let write = !request.only_reads();
            (request.dev, write)
        }
        Opcode::I2cWriteByte => (decoded(WriteByte::decode(payload))?.dev, true),
        Opcode::I2cReadByte => (decoded(ReadByte::decode(payload))?.dev, false),
        Opcode::I2cWriteBlock => (decoded(WriteBlock::decode(payload))?.dev, true),
        Opcode::I2cReadBlock => {
            let request = decoded(ReadBlock::decode(payload))?;
            // Without a byte it is the quick command.
            (request.dev, request.len == 0)
        }
        Opcode::I2cSmbusCommand => {
            let request = decoded(SmbusCommand::decode(payload))?;
            let write = !request.smbus.only_reads();
            (request.dev, write)
        }
        other => return Err(Refused::unsupported(format!("{other} is no I2C call"))),
    };
    Ok(Wanted { device, write })
}

/// Performs an operation; waits for those of others on the same bus, and for the hardware.
///
/// # Errors
/// The payload is not what the operation defines, the bus cannot do it, is gone, or says so itself.
pub fn call(
    host: &dyn I2cHost,
    turns: &Turns,
    present: &Present,
    opcode: Opcode,
    payload: &[u8],
) -> Answer {
    let turn = turns.of(&present.place);
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    // Open no longer than it takes: the kernel waits for it when the adapter is unplugged.
    let bus = open(host, present)?;
    let bus = bus.as_ref();
    match opcode {
        Opcode::I2cBusScan => perform::scan(bus, &decoded(Scan::decode(payload))?),
        Opcode::I2cTransfer => {
            let request = decoded(Transfer::decode(payload))?;
            Ok(Transfer::encode_reply(&perform::transfer(
                bus,
                &request.messages,
            )?))
        }
        Opcode::I2cWriteByte => perform::write_byte(bus, &decoded(WriteByte::decode(payload))?),
        Opcode::I2cReadByte => perform::read_byte(bus, &decoded(ReadByte::decode(payload))?),
        Opcode::I2cWriteBlock => perform::write_block(bus, &decoded(WriteBlock::decode(payload))?),
        Opcode::I2cReadBlock => perform::read_block(bus, &decoded(ReadBlock::decode(payload))?),
        Opcode::I2cSmbusCommand => perform::smbus(bus, &decoded(SmbusCommand::decode(payload))?),
        other => Err(Refused::unsupported(format!("{other} is no I2C call"))),
    }
}

fn open(host: &dyn I2cHost, present: &Present) -> Result<Box<dyn I2cBus>, Refused> {
    host.open(&present.place).map_err(|error: io::Error| {
        debug!(place = present.place, %error, "cannot open an I2C bus");
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => Refused::gone(),
            Some(errno) => Refused::io("cannot open the bus", errno),
            None => Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()),
        }
    })
}

fn decoded<T>(request: Result<T, OpError>) -> Result<T, Refused> {
    request.map_err(|error| Refused::bad(error.to_string()))
}

fn failed(errno: Errno) -> Refused {
    Refused::io("the bus", errno)
}
