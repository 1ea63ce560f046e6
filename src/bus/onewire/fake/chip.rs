//! One chip: a DS18B20, or a memory of a kind that the client knows nothing of.

use crate::bus::onewire::op::{Rom, crc8};

/// A DS18B20 until its first conversion: 85 degrees.
const POWER_ON: i16 = 85 * 16;
const FAMILY: u8 = 0x28;
const MEMORY: u8 = 0x2D;

/// What a chip expects or sends next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Talk {
    /// Until the next reset it hears nothing.
    #[default]
    Deaf,
    /// A ROM command.
    Rom,
    /// The code of the one that is meant; so many bytes were right.
    Match(usize),
    /// A function.
    Function,
    /// Bytes of a function that writes.
    Take(Vec<u8>),
    /// Bytes to be sent, from the back; then ones.
    Send(Vec<u8>),
}

/// A chip on the bus.
#[derive(Clone, Debug)]
pub struct Chip {
    rom: Rom,
    kind: Kind,
    talk: Talk,
}

#[derive(Clone, Debug)]
enum Kind {
    Thermometer(Thermometer),
    Memory(Vec<u8>),
}

/// A DS18B20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thermometer {
    /// How warm it is, in sixteenths of a degree.
    pub warmth: i16,
    /// It has a supply of its own; without it takes its power from the bus.
    pub powered: bool,
    /// How often it was told to convert.
    pub conversions: u32,
    /// What it measured last, in sixteenths of a degree.
    measured: i16,
    /// TH, TL and configuration.
    settings: [u8; 3],
    /// The same in its memory.
    stored: [u8; 3],
}

impl Default for Thermometer {
    fn default() -> Self {
        Self {
            warmth: 20 * 16,
            powered: true,
            conversions: 0,
            measured: POWER_ON,
            settings: [75, 70, 0x7F],
            stored: [75, 70, 0x7F],
        }
    }
}

impl Thermometer {
    /// What is in its memory: TH, TL and configuration.
    pub fn stored(&self) -> [u8; 3] {
        self.stored
    }

    fn scratchpad(&self) -> Vec<u8> {
        let [low, high] = self.measured.to_le_bytes();
        let [th, tl, configuration] = self.settings;
        let mut bytes = vec![low, high, th, tl, configuration, 0xFF, 0x0C, 0x10];
        bytes.push(crc8(&bytes));
        bytes.reverse();
        bytes
    }

    /// Only whole degrees are compared.
    fn has_alarm(&self) -> bool {
        let [th, tl, _] = self.settings;
        let degrees = self.measured >> 4;
        degrees >= i16::from(th.cast_signed()) || degrees <= i16::from(tl.cast_signed())
    }

    fn function(&mut self, code: u8) -> Talk {
        match code {
            0x44 => {
                self.measured = self.warmth;
                self.conversions += 1;
                Talk::Send(Vec::new())
            }
            0xBE => Talk::Send(self.scratchpad()),
            0x4E => Talk::Take(vec![code]),
            0x48 => {
                self.stored = self.settings;
                Talk::Send(Vec::new())
            }
            0xB8 => {
                self.settings = self.stored;
                Talk::Send(Vec::new())
            }
            0xB4 if !self.powered => Talk::Send(vec![0; 64]),
            0xB4 => Talk::Send(Vec::new()),
            _ => Talk::Deaf,
        }
    }

    fn take(&mut self, mut taken: Vec<u8>) -> Talk {
        match &*taken {
            [_, th, tl, configuration] => {
                self.settings = [*th, *tl, *configuration | 0x1F];
                taken.clear();
                Talk::Deaf
            }
            _ => Talk::Take(taken),
        }
    }
}

impl Chip {
    /// A DS18B20 of that number.
    pub fn ds18b20(number: u64) -> Self {
        Self {
            rom: Rom::new(FAMILY, number),
            kind: Kind::Thermometer(Thermometer::default()),
            talk: Talk::default(),
        }
    }

    /// A memory with that content, of family 2D: `F0` and two bytes of an address send what is there.
    pub fn memory(number: u64, content: &[u8]) -> Self {
        Self {
            rom: Rom::new(MEMORY, number),
            kind: Kind::Memory(content.to_vec()),
            talk: Talk::default(),
        }
    }

    /// Its code.
    pub fn rom(&self) -> Rom {
        self.rom
    }

    /// The thermometer, if it is one.
    pub fn thermometer(&mut self) -> Option<&mut Thermometer> {
        match &mut self.kind {
            Kind::Thermometer(thermometer) => Some(thermometer),
            Kind::Memory(_) => None,
        }
    }

    pub(super) fn has_alarm(&self) -> bool {
        matches!(&self.kind, Kind::Thermometer(thermometer) if thermometer.has_alarm())
    }

    pub(super) fn reset(&mut self) {
        self.talk = Talk::Rom;
    }

    pub(super) fn deselect(&mut self) {
        self.talk = Talk::Deaf;
    }

    pub(super) fn write(&mut self, byte: u8) {
        self.talk = match core::mem::take(&mut self.talk) {
            Talk::Rom => match byte {
                0x55 => Talk::Match(0),
                0xCC => Talk::Function,
                0x33 => {
                    let mut code = self.rom.0.to_vec();
                    code.reverse();
                    Talk::Send(code)
                }
                _ => Talk::Deaf,
            },
            Talk::Match(7) if self.rom.0.get(7) == Some(&byte) => Talk::Function,
            Talk::Match(at) if at < 7 && self.rom.0.get(at) == Some(&byte) => Talk::Match(at + 1),
            Talk::Deaf | Talk::Match(_) => Talk::Deaf,
            Talk::Function => match &mut self.kind {
                Kind::Thermometer(thermometer) => thermometer.function(byte),
                Kind::Memory(_) if byte == 0xF0 => Talk::Take(vec![byte]),
                Kind::Memory(_) => Talk::Deaf,
            },
            Talk::Take(mut taken) => {
                taken.push(byte);
                match &mut self.kind {
                    Kind::Thermometer(thermometer) => thermometer.take(taken),
                    Kind::Memory(content) => recall(content, taken),
                }
            }
            // A one is no other than a slot in which it may send.
            Talk::Send(mut bytes) => {
                bytes.pop();
                Talk::Send(bytes)
            }
        };
    }

    pub(super) fn read(&mut self) -> u8 {
        match &mut self.talk {
            Talk::Send(bytes) => bytes.pop().unwrap_or(0xFF),
            Talk::Deaf | Talk::Rom | Talk::Match(_) | Talk::Function | Talk::Take(_) => {
                self.write(0xFF);
                0xFF
            }
        }
    }
}

fn recall(content: &[u8], taken: Vec<u8>) -> Talk {
    let [_, low, high] = *taken else {
        return Talk::Take(taken);
    };
    let at = usize::from(u16::from_le_bytes([low, high]));
    let mut rest = content.get(at..).unwrap_or_default().to_vec();
    rest.reverse();
    Talk::Send(rest)
}
