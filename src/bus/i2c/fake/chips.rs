//! Chips for the wire.

use std::sync::atomic::{AtomicI16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Chip;
use super::emulation::{address, crc8};

/// Bytes of a 24c02.
const EEPROM: usize = 256;
/// Bytes that a 24c02 writes at a time; beyond them it goes on at the begin of the page.
const PAGE: u8 = 8;

/// A 24c02: an EEPROM of 256 bytes. Clones are the same chip.
#[derive(Clone)]
pub struct Eeprom {
    content: Arc<Mutex<Vec<u8>>>,
    /// How often it does not answer after a write.
    cycle: Arc<AtomicU32>,
    busy: Arc<AtomicU32>,
    pointer: u8,
    /// What was written in this transaction, without the pointer.
    written: Vec<u8>,
    has_pointer: bool,
}

impl Eeprom {
    /// With that content, the rest erased.
    pub fn new(content: &[u8]) -> Self {
        let mut content = content.to_vec();
        content.resize(EEPROM, 0xFF);
        Self {
            content: Arc::new(Mutex::new(content)),
            cycle: Arc::default(),
            busy: Arc::default(),
            pointer: 0,
            written: Vec::new(),
            has_pointer: false,
        }
    }

    /// After a write it is busy for a while from now on: so often it does not answer.
    pub fn set_write_cycle(&self, starts: u32) {
        self.cycle.store(starts, Ordering::SeqCst);
    }

    /// What it holds.
    pub fn content(&self) -> Vec<u8> {
        let content = self.content.lock();
        content.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Chip for Eeprom {
    fn start(&mut self, read: bool) -> bool {
        let waits = |busy: u32| busy.checked_sub(1);
        let busy = self
            .busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, waits);
        self.has_pointer = read;
        self.written.clear();
        busy.is_err()
    }

    fn write(&mut self, byte: u8) -> bool {
        if self.has_pointer {
            self.written.push(byte);
        } else {
            self.pointer = byte;
            self.has_pointer = true;
        }
        true
    }

    fn read(&mut self) -> u8 {
        let content = self.content.lock();
        let content = content.unwrap_or_else(PoisonError::into_inner);
        let byte = content.get(usize::from(self.pointer)).copied();
        self.pointer = self.pointer.wrapping_add(1);
        byte.unwrap_or_default()
    }

    /// It writes when the transaction ends.
    fn stop(&mut self) {
        if self.written.is_empty() {
            return;
        }
        let content = self.content.lock();
        let mut content = content.unwrap_or_else(PoisonError::into_inner);
        for byte in self.written.drain(..) {
            if let Some(place) = content.get_mut(usize::from(self.pointer)) {
                *place = byte;
            }
            let (page, place) = (self.pointer / PAGE * PAGE, self.pointer % PAGE);
            self.pointer = page + (place + 1) % PAGE;
        }
        let cycle = self.cycle.load(Ordering::SeqCst);
        self.busy.store(cycle, Ordering::SeqCst);
    }
}

/// An LM75: a thermometer with its temperature in register 0. Clones are the same chip.
#[derive(Clone)]
pub struct Lm75 {
    /// Temperature, hysteresis, limit: in 1/256 of a degree.
    words: [Arc<AtomicI16>; 3],
    configuration: u8,
    pointer: u8,
    /// Bytes since the last start.
    count: usize,
    high: u8,
    reading: bool,
}

impl Lm75 {
    /// It is so warm, in 1/256 of a degree Celsius, of which the chip shows halves.
    pub fn new(temperature: i16) -> Self {
        let words = [temperature, 75 << 8, 80 << 8];
        Self {
            words: words.map(|word| Arc::new(AtomicI16::new(word))),
            configuration: 0,
            pointer: 0,
            count: 0,
            high: 0,
            reading: false,
        }
    }

    /// It gets so warm.
    pub fn set(&self, temperature: i16) {
        let [now, ..] = &self.words;
        now.store(temperature, Ordering::SeqCst);
    }

    fn word(&self) -> Option<&AtomicI16> {
        let index = match self.pointer & 3 {
            1 => return None,
            0 => 0,
            pointer => usize::from(pointer) - 1,
        };
        self.words.get(index).map(AsRef::as_ref)
    }
}

impl Chip for Lm75 {
    fn start(&mut self, read: bool) -> bool {
        self.count = 0;
        self.reading = read;
        true
    }

    fn write(&mut self, byte: u8) -> bool {
        match self.count {
            0 => self.pointer = byte,
            1 if self.word().is_none() => self.configuration = byte,
            1 => self.high = byte,
            // The temperature cannot be written.
            2 if self.pointer & 3 != 0 => {
                let word = i16::from_be_bytes([self.high, byte]);
                if let Some(place) = self.word() {
                    place.store(word, Ordering::SeqCst);
                }
            }
            _ => {}
        }
        self.count += 1;
        true
    }

    fn read(&mut self) -> u8 {
        let place = self.count;
        self.count += 1;
        let Some(word) = self.word() else {
            return self.configuration;
        };
        // Nine bits of each word mean something.
        let [high, low] = word.load(Ordering::SeqCst).to_be_bytes();
        if place.is_multiple_of(2) {
            high
        } else {
            low & 0x80
        }
    }
}

/// A chip that forgets its register when a transaction ends: who reads must do so after a repeated
/// start. Register r holds r ^ 0x5A; without a register it is [`Strict::WRONG`].
#[derive(Debug, Default)]
pub struct Strict {
    register: Option<u8>,
}

impl Strict {
    /// What is read when a stop came between.
    pub const WRONG: u8 = 0xEE;

    /// What is read of a register.
    pub const fn value(register: u8) -> u8 {
        register ^ 0x5A
    }
}

impl Chip for Strict {
    fn start(&mut self, _: bool) -> bool {
        true
    }

    fn write(&mut self, byte: u8) -> bool {
        self.register = Some(byte);
        true
    }

    fn read(&mut self) -> u8 {
        match self.register {
            Some(register) => {
                self.register = Some(register.wrapping_add(1));
                Self::value(register)
            }
            None => Self::WRONG,
        }
    }

    fn stop(&mut self) {
        self.register = None;
    }
}

/// A chip that speaks SMBus with packet error checking. Below command 0x80 it has registers of a byte;
/// from there on it reads blocks: as many bytes as the command says beyond 0x80, counting up.
#[derive(Debug)]
pub struct Checked {
    addr: u16,
    registers: Vec<u8>,
    sum: u8,
    command: u8,
    /// Bytes since the last start.
    count: usize,
    value: Option<u8>,
    /// It says wrong sums.
    broken: bool,
}

impl Checked {
    /// At that address, which is part of every sum.
    pub fn new(addr: u16) -> Self {
        Self {
            addr,
            registers: vec![0; 0x80],
            sum: 0,
            command: 0,
            count: 0,
            value: None,
            broken: false,
        }
    }

    /// Its sums are wrong.
    #[must_use]
    pub const fn broken(mut self) -> Self {
        self.broken = true;
        self
    }

    fn add(&mut self, byte: u8) -> u8 {
        self.sum = crc8(self.sum ^ byte);
        byte
    }

    fn commit(&mut self) {
        let place = self.registers.get_mut(usize::from(self.command));
        if let (Some(place), Some(value)) = (place, self.value.take()) {
            *place = value;
        }
    }
}

impl Chip for Checked {
    fn start(&mut self, read: bool) -> bool {
        self.count = 0;
        self.value = None;
        let first = address(self.addr, read);
        self.add(first);
        true
    }

    fn write(&mut self, byte: u8) -> bool {
        self.count += 1;
        match self.count {
            1 => self.command = byte,
            2 => self.value = Some(byte),
            3 if byte != self.sum => {
                self.value = None;
                return false;
            }
            _ => {}
        }
        self.add(byte);
        true
    }

    fn read(&mut self) -> u8 {
        let place = self.count;
        self.count += 1;
        let block = usize::from(self.command).checked_sub(0x80);
        let length = block.map_or(1, |block| block + 1);
        if place >= length {
            return self.sum ^ u8::from(self.broken);
        }
        let byte = match block {
            None => self.registers.get(usize::from(self.command)).copied(),
            Some(block) if place == 0 => u8::try_from(block).ok(),
            Some(_) => u8::try_from(place).ok(),
        };
        self.add(byte.unwrap_or_default())
    }

    fn stop(&mut self) {
        self.commit();
        self.sum = 0;
    }
}
