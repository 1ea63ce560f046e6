//! The half that has the bus: every operation is one transaction, performed where the request arrives.

mod perform;
mod translate;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use crate::bus::{Answer, Caller, End, Owned, Present, Refused, Serving, Wanted};
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
    call: |present, caller, opcode, payload| {
        let host = DevHost::default();
        call(&host, &TURNS, caller, present, opcode, payload)
    },
};

/// Most operations that wait for one bus. Each keeps a thread, of which there are not many, so that a bus
/// that hangs does not stop what has nothing to do with it.
const MAX_WAITING: usize = 64;

/// Whose turn it is on the buses of this process.
static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);

/// One operation at a time on each bus: those of two clients never mix.
#[derive(Debug, Default)]
pub struct Turns {
    buses: Mutex<HashMap<String, Arc<Turn>>>,
}

#[derive(Debug, Default)]
struct Turn {
    bus: Mutex<()>,
    /// Operations that wait, the one that is performed among them.
    waiting: AtomicUsize,
}

impl Turns {
    fn of(&self, place: &str) -> Arc<Turn> {
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(buses.entry(place.to_owned()).or_default())
    }

    /// Does something on a bus when it is its turn.
    fn take<T>(
        &self,
        place: &str,
        work: impl FnOnce() -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let turn = self.of(place);
        let waiting = turn.waiting.fetch_add(1, Ordering::Relaxed);
        let done = if waiting < MAX_WAITING {
            let _turn = turn.bus.lock().unwrap_or_else(PoisonError::into_inner);
            work()
        } else {
            let msg = "too many wait for this bus";
            Err(Refused::new(Status::ServiceUnavailable, sub::BUSY, msg))
        };
        turn.waiting.fetch_sub(1, Ordering::Relaxed);
        done
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

/// Performs an operation; waits for those of others on the same bus, and for the hardware. What nobody
/// waits for by then is not begun.
///
/// # Errors
/// The payload is not what the operation defines, the bus cannot do it, is gone, or says so itself; too
/// many wait for it.
pub fn call(
    host: &dyn I2cHost,
    turns: &Turns,
    caller: &Caller,
    present: &Present,
    opcode: Opcode,
    payload: &[u8],
) -> Answer {
    turns.take(&present.place, || {
        // Open no longer than it takes: the kernel waits for it when the adapter is unplugged.
        let bus = open(host, present)?;
        // To open it can take long too, while the kernel looks for chips.
        if caller.has_left() {
            return Err(Refused::cancelled());
        }
        perform(bus.as_ref(), opcode, payload)
    })
}

fn perform(bus: &dyn I2cBus, opcode: Opcode, payload: &[u8]) -> Answer {
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn a_bus_that_hangs_does_not_take_all_threads() {
        let turns = Turns::default();
        let (held, released) = (Barrier::new(2), Barrier::new(2));
        let ask = |place| turns.take(place, || Ok(())).map_err(|refused| refused.sub);
        thread::scope(|scope| {
            scope.spawn(|| {
                turns.take("i2c-0", || {
                    held.wait();
                    released.wait();
                    Ok(())
                })
            });
            held.wait();
            for _ in 1..MAX_WAITING {
                scope.spawn(|| ask("i2c-0"));
            }
            let turn = turns.of("i2c-0");
            while turn.waiting.load(Ordering::Relaxed) < MAX_WAITING {
                thread::yield_now();
            }
            assert_eq!(ask("i2c-0"), Err(sub::BUSY));
            assert_eq!(ask("i2c-1"), Ok(()), "another bus goes on");
            released.wait();
        });
        assert_eq!(ask("i2c-0"), Ok(()));
    }
}
