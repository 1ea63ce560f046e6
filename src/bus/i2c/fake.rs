//! I2C buses for the tests of both halves, and for adapters that a guest has no hardware for: chips on a
//! wire that sees every start, byte and stop.

pub mod chips;
mod emulation;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;

use super::enumerate::{self, Found};
use super::hardware::{I2cBus, I2cHost};
use super::op::{Message, SmbusCommand, encode_empty};
use super::server::{self, Turns};
use crate::bus::fake::{FakeSession, OPENING};
use crate::bus::{Caller, Present, Refused};
use crate::kernel::i2c_dev::func;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

pub use wire::{Chip, Wire};

/// A bus with chips. Clones are the same bus.
#[derive(Clone)]
pub struct FakeBus {
    inner: Arc<Mutex<Inner>>,
    /// Transactions that are asked for at this moment.
    under_way: Arc<AtomicUsize>,
    overlaps: Arc<AtomicUsize>,
}

struct Inner {
    name: String,
    funcs: u32,
    wire: Wire,
    fail: Option<Errno>,
    gone: bool,
    /// Chips that a driver of the machine has.
    driven: BTreeSet<u16>,
    transactions: usize,
}

impl FakeBus {
    /// A bus without chips whose adapter can do all that the kernel emulates.
    pub fn new(name: &str) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                name: name.to_owned(),
                funcs: func::I2C | func::SMBUS_EMUL,
                wire: Wire::default(),
                fail: None,
                gone: false,
                driven: BTreeSet::new(),
                transactions: 0,
            })),
            under_way: Arc::default(),
            overlaps: Arc::default(),
        }
    }

    /// The adapter can do this: `I2C_FUNC_*`.
    #[must_use]
    pub fn with_functionality(self, funcs: u32) -> Self {
        self.inner().funcs = funcs;
        self
    }

    /// There is this chip at that address.
    #[must_use]
    pub fn with(self, addr: u16, chip: impl Chip + 'static) -> Self {
        self.inner().wire.attach(addr, Box::new(chip));
        self
    }

    /// The wire, for whoever drives it message by message, as an adapter does.
    pub fn on_wire<T>(&self, what: impl FnOnce(&mut Wire) -> T) -> T {
        what(&mut self.inner().wire)
    }

    /// The next transaction fails so, before anything is on the wire.
    pub fn fail(&self, errno: Errno) {
        self.inner().fail = Some(errno);
    }

    /// The adapter is pulled out.
    pub fn unplug(&self) {
        self.inner().gone = true;
    }

    /// A driver of the machine takes the chip.
    pub fn drive(&self, addr: u16) {
        self.inner().driven.insert(addr);
    }

    /// How many transactions the adapter was asked for.
    pub fn transactions(&self) -> usize {
        self.inner().transactions
    }

    /// How often a transaction was asked for, or began on the wire, before the one before it had ended.
    pub fn interleaved(&self) -> usize {
        self.inner().wire.interleaved() + self.overlaps.load(Ordering::Relaxed)
    }

    /// One transaction, while whoever does not wait for its end is noticed.
    fn alone<T>(&self, transaction: impl FnOnce() -> T) -> T {
        if self.under_way.fetch_add(1, Ordering::Relaxed) > 0 {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        thread::yield_now();
        let done = transaction();
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        done
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self) -> Result<(), Errno> {
        if self.gone {
            return Err(Errno::ENODEV);
        }
        self.transactions += 1;
        self.fail.take().map_or(Ok(()), Err)
    }
}

impl I2cBus for FakeBus {
    fn functionality(&self) -> Result<u32, Errno> {
        let inner = self.inner();
        if inner.gone {
            return Err(Errno::ENODEV);
        }
        Ok(inner.funcs)
    }

    fn check_unused(&self, addr: u16) -> Result<(), Errno> {
        if self.inner().driven.contains(&addr) {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    fn transfer(&self, messages: &[Message]) -> Result<Vec<Vec<u8>>, Errno> {
        self.alone(|| {
            let mut inner = self.inner();
            inner.begin()?;
            if inner.funcs & func::I2C == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            inner.wire.transfer(messages)
        })
    }

    fn smbus(&self, command: &SmbusCommand) -> Result<Vec<u8>, Errno> {
        if !command.force {
            self.check_unused(command.addr)?;
        }
        let mut inner = self.inner();
        inner.begin()?;
        if inner.funcs & emulation::needed(&command.smbus) == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        emulation::smbus(&mut inner.wire, command)
    }
}

/// A machine with fake buses, which are `i2c-0`, `i2c-1`, …
#[derive(Clone)]
pub struct FakeI2c {
    buses: BTreeMap<String, FakeBus>,
}

impl Default for FakeI2c {
    /// One bus without chips.
    fn default() -> Self {
        Self::new(&[FakeBus::new("fake")])
    }
}

impl FakeI2c {
    /// A machine with these buses.
    pub fn new(buses: &[FakeBus]) -> Self {
        let places = (0..).map(|number| format!("i2c-{number}"));
        Self {
            buses: places.zip(buses.iter().cloned()).collect(),
        }
    }

    /// Its buses as devices.
    pub fn look(&self) -> Vec<Present> {
        let found = self.buses.iter().filter_map(|(place, bus)| {
            let funcs = bus.functionality().ok()?;
            Some(Found {
                place: place.clone(),
                name: bus.inner().name.clone(),
                funcs,
                own: false,
            })
        });
        enumerate::devices(found.collect())
    }

    /// A session with the server half of this machine, whose peer may do everything.
    pub fn session(&self) -> Rc<FakeSession> {
        self.session_with(&Arc::new(Turns::default()))
    }

    /// [`Self::session`] on buses that other sessions use too.
    pub fn session_with(&self, turns: &Arc<Turns>) -> Rc<FakeSession> {
        let (machine, turns) = (self.clone(), Arc::clone(turns));
        FakeSession::new(
            |opened| {
                let outlet = &opened.stream.outlet;
                outlet.respond(OPENING, Status::BadRequest, Vec::new());
            },
            move |opcode, payload| machine.call(&turns, &Caller::default(), opcode, payload),
        )
    }

    /// What the owner answers to that session on stream 0.
    ///
    /// # Errors
    /// What it refuses.
    pub fn call(
        &self,
        turns: &Turns,
        caller: &Caller,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        if opcode == Opcode::I2cBusList {
            let found: Vec<_> = self.look().into_iter().map(|bus| (bus, 0)).collect();
            return Ok(server::list(&found));
        }
        if opcode == Opcode::DeviceInfo {
            let here = !self.look().is_empty();
            return here.then(encode_empty).ok_or_else(Refused::gone);
        }
        let wanted = server::wanted(opcode, payload)?;
        let mut found = self.look().into_iter();
        let present = found.find(|present| present.id == wanted.device);
        server::call(
            self,
            turns,
            caller,
            &present.ok_or_else(Refused::gone)?,
            opcode,
            payload,
        )
    }
}

impl I2cHost for FakeI2c {
    fn open(&self, place: &str) -> io::Result<Box<dyn I2cBus>> {
        match self.buses.get(place) {
            Some(bus) if bus.functionality().is_ok() => Ok(Box::new(bus.clone())),
            Some(_) | None => Err(Errno::ENOENT.into()),
        }
    }
}
