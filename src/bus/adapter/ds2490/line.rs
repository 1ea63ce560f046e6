//! Understands what is said on a bus slot by slot, and makes as few transactions of it as possible.
//!
//! A 1 that is written and a slot in which a device may answer are the same, so what a slot is for is told
//! by what was said before: after a reset comes a ROM command, after `MATCH ROM` a code, then a function.
//! Of thermometers the functions are known; all others are done as soon as their bytes are there, and ones
//! after them are reads.

use std::collections::VecDeque;

use nix::errno::Errno;

use super::{Begin, OnewireBus, Transaction};
use crate::bus::onewire::op::{Rom, Select};

const MATCH_ROM: u8 = 0x55;
const SKIP_ROM: u8 = 0xCC;
const READ_ROM: u8 = 0x33;
const SEARCH_ROM: u8 = 0xF0;
const ALARM_SEARCH: u8 = 0xEC;

/// Families of thermometers that have the functions of a DS18B20: DS18S20, DS1822, DS18B20, DS1825,
/// DS28EA00.
const THERMOMETERS: [u8; 5] = [0x10, 0x22, 0x28, 0x3B, 0x42];
/// The one whose settings are two bytes.
const DS18S20: u8 = 0x10;

/// Bytes of a scratchpad and of a code.
const SCRATCHPAD: usize = 9;
const CODE: usize = 8;

/// What is said on the bus.
#[derive(Debug)]
pub(super) struct Line {
    /// How the next transaction begins.
    begin: Begin,
    /// Written, and not yet done.
    kept: Vec<u8>,
    expected: Expected,
    /// Read before it was asked for.
    ahead: VecDeque<u8>,
    /// Slots of a byte that is not complete.
    bits: Bits,
    /// Families that the last search found.
    families: Vec<u8>,
}

/// What the next byte is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// A ROM command.
    RomCommand,
    /// More of a code.
    Code(Vec<u8>),
    /// A function of that device, if one is meant whose functions are known.
    Function(Option<Thermometer>),
    /// So many more bytes that a function writes.
    Settings(usize),
    /// So many more bytes that are read.
    Known(usize),
    /// A read, or something that is written.
    Any,
    /// Nobody listens until the next reset.
    Nothing,
}

/// How many bytes of settings it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thermometer {
    settings: usize,
}

impl Thermometer {
    const fn of(family: u8) -> Self {
        let settings = if family == DS18S20 { 2 } else { 3 };
        Self { settings }
    }

    /// What follows a function.
    const fn after(self, function: u8) -> Expected {
        match function {
            // READ SCRATCHPAD
            0xBE => Expected::Known(SCRATCHPAD),
            // WRITE SCRATCHPAD
            0x4E => Expected::Settings(self.settings),
            // READ POWER SUPPLY: the bit is repeated
            0xB4 => Expected::Known(1),
            // CONVERT, COPY SCRATCHPAD and RECALL begin at once
            _ => Expected::Any,
        }
    }
}

#[derive(Debug, Default)]
enum Bits {
    #[default]
    None,
    Written {
        value: u8,
        count: u32,
    },
    Read {
        value: u8,
        count: u32,
    },
}

impl Default for Line {
    fn default() -> Self {
        Self {
            begin: Begin::GoOn,
            kept: Vec::new(),
            expected: Expected::Nothing,
            ahead: VecDeque::new(),
            bits: Bits::None,
            families: Vec::new(),
        }
    }
}

impl Line {
    /// A reset pulse. It is sent with what comes after it.
    pub(super) async fn reset(&mut self, bus: &dyn OnewireBus) {
        self.flush(bus, 0).await;
        self.begin = Begin::Reset;
        self.expected = Expected::RomCommand;
        self.ahead.clear();
        self.bits = Bits::None;
    }

    /// Finds devices. A bus that does not answer has none.
    pub(super) async fn search(&mut self, bus: &dyn OnewireBus, alarm: bool) -> Vec<Rom> {
        self.flush(bus, 0).await;
        self.lose();
        match bus.search(alarm).await {
            Ok(found) => {
                if !alarm {
                    self.families = found.iter().map(|rom| rom.family()).collect();
                }
                found
            }
            Err(errno) => {
                told("a search", errno);
                Vec::new()
            }
        }
    }

    /// Eight slots each; what the bus was in them.
    pub(super) async fn bytes(
        &mut self,
        bus: &dyn OnewireBus,
        slots: &[u8],
        pullup_ms: u32,
    ) -> Vec<u8> {
        if !matches!(self.bits, Bits::None) {
            self.lose();
        }
        // The kernel reads and writes whole blocks. One of ones is the same either way.
        let seen = if self.may_read() && slots.iter().all(|slot| *slot == 0xFF) {
            self.read(bus, slots.len()).await
        } else {
            for slot in slots {
                self.write(*slot);
            }
            slots.to_vec()
        };
        self.end(bus, pullup_ms).await;
        seen
    }

    /// One slot.
    pub(super) async fn bit(&mut self, bus: &dyn OnewireBus, bit: bool) -> bool {
        let bits = match core::mem::take(&mut self.bits) {
            Bits::None if bit && self.may_read() => {
                let value = self.read(bus, 1).await.first().copied().unwrap_or(0xFF);
                Bits::Read { value, count: 0 }
            }
            Bits::None => Bits::Written { value: 0, count: 0 },
            bits @ (Bits::Written { .. } | Bits::Read { .. }) => bits,
        };
        match bits {
            Bits::Written { value, count } => {
                let value = value | u8::from(bit) << count;
                if count < 7 {
                    let count = count + 1;
                    self.bits = Bits::Written { value, count };
                } else {
                    self.write(value);
                    self.end(bus, 0).await;
                }
                bit
            }
            Bits::Read { .. } if !bit => {
                // What was taken for a read writes something: that cannot be taken back.
                self.lose();
                false
            }
            Bits::Read { value, count } => {
                if count < 7 {
                    let count = count + 1;
                    self.bits = Bits::Read { value, count };
                }
                value >> count & 1 != 0
            }
            Bits::None => bit,
        }
    }

    /// Whether ones are slots to read in.
    fn may_read(&self) -> bool {
        match self.expected {
            Expected::Known(_) | Expected::Any => true,
            Expected::RomCommand
            | Expected::Code(_)
            | Expected::Function(_)
            | Expected::Settings(_)
            | Expected::Nothing => false,
        }
    }

    fn lose(&mut self) {
        self.kept.clear();
        self.ahead.clear();
        self.bits = Bits::None;
        self.expected = Expected::Nothing;
    }

    /// A byte that is written.
    fn write(&mut self, byte: u8) {
        self.ahead.clear();
        self.expected = match core::mem::replace(&mut self.expected, Expected::Nothing) {
            Expected::Nothing => Expected::Nothing,
            Expected::RomCommand => self.rom_command(byte),
            Expected::Code(mut code) => {
                code.push(byte);
                self.code(code)
            }
            Expected::Function(device) => {
                self.kept.push(byte);
                device.map_or(Expected::Any, |device| device.after(byte))
            }
            Expected::Settings(left) => {
                self.kept.push(byte);
                match left {
                    2.. => Expected::Settings(left - 1),
                    0 | 1 => Expected::Any,
                }
            }
            Expected::Known(_) | Expected::Any => {
                self.kept.push(byte);
                Expected::Any
            }
        };
    }

    fn rom_command(&mut self, byte: u8) -> Expected {
        match byte {
            MATCH_ROM => Expected::Code(Vec::new()),
            SKIP_ROM => {
                self.begin = Begin::Select(Select::Skip);
                Expected::Function(self.all())
            }
            READ_ROM => {
                self.kept.push(byte);
                Expected::Known(CODE)
            }
            // A search slot by slot would be a transaction for each; Linux's driver lets the chip search.
            SEARCH_ROM | ALARM_SEARCH => Expected::Nothing,
            _ => {
                self.kept.push(byte);
                Expected::Any
            }
        }
    }

    fn code(&mut self, code: Vec<u8>) -> Expected {
        let Ok(code) = <[u8; CODE]>::try_from(&*code) else {
            return Expected::Code(code);
        };
        let rom = Rom(code);
        if !rom.is_valid() {
            // No device has it.
            return Expected::Nothing;
        }
        self.begin = Begin::Select(Select::Rom(rom));
        let is_known = THERMOMETERS.contains(&rom.family());
        Expected::Function(is_known.then(|| Thermometer::of(rom.family())))
    }

    /// All devices of the bus, if they are thermometers.
    fn all(&self) -> Option<Thermometer> {
        let known = |family| THERMOMETERS.contains(family);
        let other = self.families.iter().find(|family| **family != DS18S20);
        let family = other.or_else(|| self.families.first())?;
        self.families
            .iter()
            .all(known)
            .then(|| Thermometer::of(*family))
    }

    /// Reads so many bytes; ones where nobody answers.
    async fn read(&mut self, bus: &dyn OnewireBus, count: usize) -> Vec<u8> {
        let missing = count.saturating_sub(self.ahead.len());
        if missing > 0 {
            // All that is known to come is read in one go.
            let known = match self.expected {
                Expected::Known(known) => known.saturating_sub(self.ahead.len()),
                _ => 0,
            };
            let read = self.run(bus, missing.max(known), 0).await;
            self.ahead.extend(read);
        }
        if let Expected::Known(known) = &mut self.expected {
            *known = known.saturating_sub(count);
            if *known == 0 {
                self.expected = Expected::Any;
            }
        }
        let count = count.min(self.ahead.len());
        self.ahead.drain(..count).collect()
    }

    /// The end of a command: what is not known to go on is done.
    async fn end(&mut self, bus: &dyn OnewireBus, pullup_ms: u32) {
        if self.expected == Expected::Any || pullup_ms > 0 {
            self.flush(bus, pullup_ms).await;
        }
    }

    async fn flush(&mut self, bus: &dyn OnewireBus, pullup_ms: u32) {
        if !self.kept.is_empty() {
            self.run(bus, 0, pullup_ms).await;
        }
    }

    async fn run(&mut self, bus: &dyn OnewireBus, read: usize, pullup_ms: u32) -> Vec<u8> {
        let transaction = Transaction {
            begin: core::mem::replace(&mut self.begin, Begin::GoOn),
            write: core::mem::take(&mut self.kept),
            read,
            pullup_ms,
        };
        match bus.run(transaction).await {
            Ok(data) if data.len() == read => data,
            Ok(_) => {
                self.lose();
                vec![0xFF; read]
            }
            Err(errno) => {
                told("a transaction", errno);
                self.lose();
                vec![0xFF; read]
            }
        }
    }
}

fn told(what: &str, errno: Errno) {
    tracing::debug!(%errno, "{what} on a remote 1-Wire bus failed");
}
