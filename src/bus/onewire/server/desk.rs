//! Whose turn it is on a bus, and what is done there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{bad, no_operation};
use crate::bus::onewire::hardware::{OnewireHost, Outcome, Step};
use crate::bus::onewire::op::{
    BusRequest, Data, Found, MatchRom, Presence, Read, Rom, RomAnswer, Search, Select, Write,
    encode_empty,
};
use crate::bus::{Answer, Caller, Present, Refused};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long a transaction goes on without an operation (profile 19.9).
const IDLE: Duration = Duration::from_secs(1);

/// Requests that may wait for one bus, each on a thread of its own.
pub const MAX_WAITING: usize = 16;

const MATCH_ROM: u8 = 0x55;
const SKIP_ROM: u8 = 0xCC;
const READ_ROM: u8 = 0x33;

/// The buses of a machine, as far as they are in use.
pub struct Desk {
    buses: Mutex<BTreeMap<String, Arc<Mutex<Option<Open>>>>>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl Default for Desk {
    fn default() -> Self {
        Self::new(Instant::now)
    }
}

/// What was begun on a bus by a reset and can be continued.
#[derive(Debug)]
struct Open {
    caller: Caller,
    at: Instant,
    /// Begun by `RESET`: nobody else comes in between. What `select` begins is the session's as long as
    /// nobody else does anything.
    exclusive: bool,
}

impl Open {
    fn is_over(&self, now: Instant) -> bool {
        self.caller.has_left() || now.saturating_duration_since(self.at) > IDLE
    }
}

impl Desk {
    /// With that clock.
    pub fn new(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            buses: Mutex::default(),
            clock: Box::new(clock),
        }
    }

    /// Performs an operation; may wait for the bus, and for other sessions' operations.
    ///
    /// # Errors
    /// "busy" while another session has a transaction, or when the own one is over that is to be
    /// continued; what the bus says.
    pub fn call(
        &self,
        host: &dyn OnewireHost,
        present: &Present,
        caller: &Caller,
        opcode: Opcode,
        payload: &[u8],
    ) -> Answer {
        let bus = self.bus(&present.id);
        // One is the map's.
        if Arc::strong_count(&bus) > MAX_WAITING + 1 {
            return Err(busy("too many requests wait for this bus"));
        }
        let open = bus.lock().unwrap_or_else(PoisonError::into_inner);
        // While it waited its peer may have begun something else.
        if caller.has_left() {
            return Err(Refused::cancelled());
        }
        let turn = Turn {
            clock: &*self.clock,
            host,
            place: &present.place,
            caller,
            open,
        };
        match opcode {
            Opcode::OnewireSearch => turn.search(&Search::decode(payload).map_err(bad)?),
            Opcode::OnewireReset => {
                BusRequest::decode(payload).map_err(bad)?;
                turn.reset()
            }
            Opcode::OnewireReadRom => {
                BusRequest::decode(payload).map_err(bad)?;
                turn.read_rom()
            }
            Opcode::OnewireMatchRom => {
                let request = MatchRom::decode(payload).map_err(bad)?;
                turn.address(Select::Rom(request.rom))
            }
            Opcode::OnewireSkipRom => {
                BusRequest::decode(payload).map_err(bad)?;
                turn.address(Select::Skip)
            }
            Opcode::OnewireRead => turn.read(&Read::decode(payload).map_err(bad)?),
            Opcode::OnewireWrite => turn.write(&Write::decode(payload).map_err(bad)?),
            other => Err(no_operation(other)),
        }
    }

    fn bus(&self, id: &str) -> Arc<Mutex<Option<Open>>> {
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        // Only what is in use is kept.
        let now = (self.clock)();
        buses.retain(|kept, bus| kept == id || Arc::strong_count(bus) > 1 || is_open(bus, now));
        Arc::clone(buses.entry(id.to_owned()).or_default())
    }
}

fn is_open(bus: &Mutex<Option<Open>>, now: Instant) -> bool {
    bus.try_lock().map_or(true, |open| {
        open.as_ref().is_some_and(|open| !open.is_over(now))
    })
}

/// One operation of one session.
struct Turn<'a> {
    clock: &'a dyn Fn() -> Instant,
    host: &'a dyn OnewireHost,
    place: &'a str,
    caller: &'a Caller,
    open: MutexGuard<'a, Option<Open>>,
}

impl Turn<'_> {
    /// Begins something new.
    fn begin(&mut self) -> Result<(), Refused> {
        let foreign = |open: &Open| open.exclusive && !open.caller.is(self.caller);
        if let Some(open) = self.open.as_ref()
            && foreign(open)
            && !open.is_over((self.clock)())
        {
            return Err(busy("another session has a transaction on this bus"));
        }
        *self.open = None;
        Ok(())
    }

    /// Goes on with what this session began.
    fn go_on(&mut self) -> Result<bool, Refused> {
        let now = (self.clock)();
        match self.open.take() {
            Some(open) if open.caller.is(self.caller) && !open.is_over(now) => Ok(open.exclusive),
            Some(open) if !open.is_over(now) && open.exclusive => {
                *self.open = Some(open);
                Err(busy("another session has a transaction on this bus"))
            }
            Some(_) | None => Err(busy("the transaction is over; begin with RESET")),
        }
    }

    /// Does the steps; what they began, or went on with, can be continued.
    fn run(&mut self, steps: &[Step<'_>], exclusive: bool) -> Result<Outcome, Refused> {
        let done = self.host.run(self.place, steps);
        let outcome = done.map_err(|errno| Refused::io("the bus failed", errno))?;
        *self.open = Some(Open {
            caller: self.caller.clone(),
            at: (self.clock)(),
            exclusive,
        });
        Ok(outcome)
    }

    /// The same, after reset and address where they are wanted.
    fn transfer(&mut self, select: Option<Select>, bytes: &[u8], read: usize) -> Answer {
        let (exclusive, mut written) = match select {
            Some(select) => {
                self.begin()?;
                (false, addressed(select))
            }
            None => (self.go_on()?, Vec::new()),
        };
        written.extend_from_slice(bytes);
        let reset = select.map(|_| Step::Reset);
        let write = (!written.is_empty()).then_some(Step::Write(&written));
        let read = (read > 0).then_some(Step::Read(read));
        let steps: Vec<_> = [reset, write, read].into_iter().flatten().collect();
        let outcome = self.run(&steps, exclusive)?;
        if select.is_some() && !outcome.present {
            return Err(nobody());
        }
        Ok(outcome.data)
    }

    fn search(mut self, request: &Search) -> Answer {
        self.begin()?;
        let found = self.host.search(self.place, request.alarm);
        let mut roms = found.map_err(|errno| Refused::io("the search failed", errno))?;
        // A bus that is held low gives zeros, and those have a right CRC.
        roms.retain(|rom| rom.is_valid() && *rom != Rom([0; 8]));
        roms.sort_unstable();
        roms.dedup();
        Ok(Found { roms }.encode())
    }

    fn reset(mut self) -> Answer {
        self.begin()?;
        let outcome = self.run(&[Step::Reset], true)?;
        let present = outcome.present;
        Ok(Presence { present }.encode())
    }

    fn read_rom(mut self) -> Answer {
        let code = self.transfer(None, &[READ_ROM], 8)?;
        let rom = code.try_into().map(Rom);
        let rom = rom.ok().filter(|rom| rom.is_valid()).ok_or_else(|| {
            let what = "what was read is no ROM code: there is no device, or there are several";
            Refused::io(what, Errno::EIO)
        })?;
        Ok(RomAnswer { rom }.encode())
    }

    fn address(mut self, select: Select) -> Answer {
        self.transfer(None, &addressed(select), 0)?;
        Ok(encode_empty())
    }

    fn read(mut self, request: &Read) -> Answer {
        let data = self.transfer(request.select, &request.before, request.count)?;
        if data.len() != request.count {
            return Err(Refused::io("the bus gave another length", Errno::EIO));
        }
        Ok(Data { data }.encode())
    }

    fn write(mut self, request: &Write) -> Answer {
        if request.pullup_ms > 0 {
            let why = "the kernel offers no strong pull-up to programs: devices that take their power \
                from the bus cannot convert or store here";
            return Err(Refused::unsupported(why));
        }
        self.transfer(request.select, &request.data, 0)?;
        Ok(encode_empty())
    }
}

fn addressed(select: Select) -> Vec<u8> {
    match select {
        Select::Rom(rom) => [&[MATCH_ROM][..], &rom.0].concat(),
        Select::Skip => vec![SKIP_ROM],
    }
}

fn busy(why: &str) -> Refused {
    Refused::new(Status::ServiceUnavailable, sub::BUSY, why)
}

fn nobody() -> Refused {
    Refused::io("no device answered the reset", Errno::ENXIO)
}
