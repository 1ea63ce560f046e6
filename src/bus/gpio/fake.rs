//! Chips for the tests of both halves: the test drives what hangs on the lines and sees what the
//! chip makes of them.

mod state;

use core::task::{Context, Poll};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::enumerate;
use super::hardware::{ChipInfo, GpioChip, GpioHost, GpioLines, KernelLine, LineEvent, Setup};
use super::server;
use crate::bus::fake::{FakeSession, OPENING};
use crate::bus::{Grant, Present, Refused};

use state::State;

pub use server::Keeper;

/// A chip. Clones are the same chip. It does what real ones do where it matters: a line that is
/// given back is an input again, and an output that is requested anew keeps nothing.
#[derive(Clone)]
pub struct FakeChip {
    state: Arc<Mutex<State>>,
}

impl FakeChip {
    /// A chip with lines of those names.
    pub fn new(label: &str, names: &[&str]) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(label, names))),
        }
    }

    /// What hangs on a line drives it to that level, if the chip does not.
    pub fn drive(&self, line: u32, high: bool) {
        self.state().drive(line, high);
    }

    /// The level to which the chip drives a line; `None` while it is an input.
    pub fn output(&self, line: u32) -> Option<bool> {
        self.state().output(line)
    }

    /// Every level that the chip drove a line to, and every time it let go (`None`), in order.
    pub fn history(&self, line: u32) -> Vec<Option<bool>> {
        self.state().history(line)
    }

    /// How a requested line is used, with its bit in the masks; `None` while nobody has it.
    pub fn usage(&self, line: u32) -> Option<(Setup, u64)> {
        self.state().usage(line)
    }

    /// Another program takes a line.
    pub fn occupy(&self, line: u32, consumer: &str) {
        self.state().occupy(line, consumer);
    }

    /// Events of the request that has the line which were not taken yet.
    pub fn unread(&self, line: u32) -> usize {
        self.state().unread(line)
    }

    /// The kernel drops the next so many events of whatever request.
    pub fn lose(&self, events: u32) {
        self.state().lose = events;
    }

    /// The next call that changes something fails so.
    pub fn fail(&self, errno: Errno) {
        self.state().fail = Some(errno);
    }

    /// The chip is pulled out.
    pub fn unplug(&self) {
        self.state().unplug();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GpioChip for FakeChip {
    fn info(&self) -> Result<ChipInfo, Errno> {
        self.state().info()
    }

    fn line_info(&self, line: u32) -> Result<KernelLine, Errno> {
        self.state().line_info(line)
    }

    fn request(&self, lines: &[u32], setup: &Setup) -> Result<Arc<dyn GpioLines>, Errno> {
        let number = self.state().request(lines, setup)?;
        Ok(Arc::new(FakeLines {
            chip: self.clone(),
            number,
        }))
    }
}

struct FakeLines {
    chip: FakeChip,
    number: u64,
}

impl GpioLines for FakeLines {
    fn get(&self, mask: u64) -> Result<u64, Errno> {
        self.chip.state().get(self.number, mask)
    }

    fn set(&self, mask: u64, bits: u64) -> Result<(), Errno> {
        self.chip.state().set(self.number, mask, bits)
    }

    fn configure(&self, setup: &Setup) -> Result<(), Errno> {
        self.chip.state().configure(self.number, setup)
    }

    fn poll_events(&self, context: &mut Context<'_>) -> Poll<Result<Vec<LineEvent>, Errno>> {
        self.chip.state().poll_events(self.number, context)
    }
}

impl Drop for FakeLines {
    fn drop(&mut self) {
        self.chip.state().release(self.number);
    }
}

/// A machine with fake chips, which are `gpiochip0`, `gpiochip1`, …
#[derive(Clone, Default)]
pub struct FakeGpio {
    chips: BTreeMap<String, FakeChip>,
}

impl FakeGpio {
    /// A machine with these chips.
    pub fn new(chips: &[FakeChip]) -> Self {
        let places = (0..).map(|number| format!("gpiochip{number}"));
        Self {
            chips: places.zip(chips.iter().cloned()).collect(),
        }
    }

    /// Its chips as devices.
    pub fn look(&self) -> Vec<Present> {
        let found = self.chips.iter().filter_map(|(place, chip)| {
            let info = chip.info().ok()?;
            Some((place.clone(), info, None))
        });
        enumerate::devices(found.collect())
    }

    /// A session with the server half of this machine, whose peer may do everything. To be used in a
    /// `LocalSet`.
    pub fn session(&self) -> Rc<FakeSession> {
        self.session_with(&Arc::new(Keeper::default()))
    }

    /// [`Self::session`] with a keeper that other sessions have too.
    pub fn session_with(&self, keeper: &Arc<Keeper>) -> Rc<FakeSession> {
        let (serving, calling) = (self.clone(), self.clone());
        let (keeper, kept) = (Arc::clone(keeper), Arc::clone(keeper));
        FakeSession::new(
            move |opened| {
                let wanted = server::wanted(opened.opcode, &opened.payload);
                let present = wanted.and_then(|wanted| serving.present(&wanted.device));
                let present = match present {
                    Ok(present) => present,
                    Err(refused) => {
                        let outlet = &opened.stream.outlet;
                        outlet.respond(OPENING, refused.status, refused.payload());
                        return;
                    }
                };
                let grant = Grant {
                    corr: OPENING,
                    opcode: opened.opcode,
                    payload: opened.payload,
                    present,
                    write: true,
                    quiet: true,
                };
                let host = Arc::new(serving.clone());
                let keeper = Arc::clone(&keeper);
                tokio::task::spawn_local(server::serve(host, keeper, grant, opened.stream));
            },
            move |opcode, payload| {
                if opcode == crate::wire::opcode::Opcode::GpioChipList {
                    let found: Vec<_> = calling.look().into_iter().map(|chip| (chip, 0)).collect();
                    return Ok(server::list(&found));
                }
                let wanted = server::wanted(opcode, payload)?;
                let present = calling.present(&wanted.device)?;
                server::call(&calling, &kept, &present, opcode, payload)
            },
        )
    }

    fn present(&self, device: &str) -> Result<Present, Refused> {
        let found = self.look().into_iter().find(|present| present.id == device);
        found.ok_or_else(Refused::gone)
    }
}

impl GpioHost for FakeGpio {
    fn open(&self, place: &str) -> io::Result<Arc<dyn GpioChip>> {
        match self.chips.get(place) {
            Some(chip) if chip.info().is_ok() => Ok(Arc::new(chip.clone())),
            Some(_) | None => Err(Errno::ENOENT.into()),
        }
    }
}
