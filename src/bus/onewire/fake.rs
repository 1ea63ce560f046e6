//! 1-Wire chips without hardware, for tests: what they do byte by byte on a bus that is shared by all.

mod chip;

use core::future::ready;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use super::hardware::{OnewireHost, Outcome, Step};
use super::op::{Rom, Select};
use crate::bus::adapter::ds2490::{Answer, Begin, OnewireBus, Transaction};

pub use chip::{Chip, Thermometer};

/// What the bus is called.
pub const PLACE: &str = "w1_bus_master1";

/// A bus with chips.
#[derive(Debug, Default)]
pub struct FakeBus {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chips: Vec<Chip>,
    gone: bool,
    /// What was done, one line each.
    log: Vec<String>,
}

impl FakeBus {
    /// With those chips.
    pub fn new(chips: impl IntoIterator<Item = Chip>) -> Self {
        let state = State {
            chips: chips.into_iter().collect(),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Adds a chip.
    pub fn add(&self, chip: Chip) {
        self.with(|state| state.chips.push(chip));
    }

    /// The codes of all chips.
    pub fn roms(&self) -> Vec<Rom> {
        self.with(|state| state.chips.iter().map(Chip::rom).collect())
    }

    /// Takes a chip off the bus.
    pub fn remove(&self, rom: Rom) {
        self.with(|state| state.chips.retain(|chip| chip.rom() != rom));
    }

    /// The bus is unplugged.
    pub fn unplug(&self) {
        self.with(|state| state.gone = true);
    }

    /// Does something with a thermometer; `None` when it is not on the bus.
    pub fn thermometer<T>(&self, rom: Rom, work: impl FnOnce(&mut Thermometer) -> T) -> Option<T> {
        self.with(|state| {
            let chip = state.chips.iter_mut().find(|chip| chip.rom() == rom)?;
            chip.thermometer().map(work)
        })
    }

    /// What was done since the last call.
    pub fn log(&self) -> Vec<String> {
        self.with(|state| core::mem::take(&mut state.log))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn step(&mut self, step: &Step<'_>, outcome: &mut Outcome) {
        match step {
            Step::Reset => {
                self.chips.iter_mut().for_each(Chip::reset);
                outcome.present = !self.chips.is_empty();
            }
            Step::Write(bytes) => {
                for byte in *bytes {
                    self.chips.iter_mut().for_each(|chip| chip.write(*byte));
                }
            }
            Step::Read(count) => {
                let byte = |chips: &mut Vec<Chip>| {
                    // Whoever pulls the line low wins.
                    chips.iter_mut().fold(0xFF, |line, chip| line & chip.read())
                };
                let read = (0..*count).map(|_| byte(&mut self.chips));
                outcome.data.extend(read);
            }
        }
    }
}

impl OnewireHost for FakeBus {
    fn search(&self, place: &str, alarm: bool) -> Result<Vec<Rom>, Errno> {
        self.with(|state| {
            if state.gone || place != PLACE {
                return Err(Errno::ENODEV);
            }
            state.log.push(format!("search alarm={alarm}"));
            let found = state.chips.iter().filter(|chip| !alarm || chip.has_alarm());
            let mut found: Vec<_> = found.map(Chip::rom).collect();
            found.sort();
            state.chips.iter_mut().for_each(Chip::deselect);
            Ok(found)
        })
    }

    fn run(&self, place: &str, steps: &[Step<'_>]) -> Result<Outcome, Errno> {
        self.with(|state| {
            if state.gone || place != PLACE {
                return Err(Errno::ENODEV);
            }
            let mut outcome = Outcome::default();
            let told: Vec<_> = steps.iter().map(told).collect();
            state.log.push(told.join(", "));
            for step in steps {
                state.step(step, &mut outcome);
            }
            Ok(outcome)
        })
    }
}

fn told(step: &Step<'_>) -> String {
    match step {
        Step::Reset => "reset".to_owned(),
        Step::Write(bytes) => format!("write {}", crate::wire::hex::encode(bytes)),
        Step::Read(count) => format!("read {count}"),
    }
}

/// As the bus of an adapter on this machine.
impl OnewireBus for FakeBus {
    fn search(&self, alarm: bool) -> Answer<Vec<Rom>> {
        Box::pin(ready(OnewireHost::search(self, PLACE, alarm)))
    }

    fn run(&self, transaction: Transaction) -> Answer<Vec<u8>> {
        let Transaction {
            begin,
            mut write,
            read,
            ..
        } = transaction;
        let address = match begin {
            Begin::Select(Select::Rom(rom)) => [&[0x55][..], &rom.0].concat(),
            Begin::Select(Select::Skip) => vec![0xCC],
            Begin::Reset | Begin::GoOn => Vec::new(),
        };
        write.splice(..0, address);
        let reset = (begin != Begin::GoOn).then_some(Step::Reset);
        let written = (!write.is_empty()).then_some(Step::Write(&write));
        let read = (read > 0).then_some(Step::Read(read));
        let steps: Vec<_> = [reset, written, read].into_iter().flatten().collect();
        let outcome = OnewireHost::run(self, PLACE, &steps);
        Box::pin(ready(outcome.map(|outcome| outcome.data)))
    }
}
