//! What concerns a bus as a whole: which there are, who is on it, who is selected.

use serde::{Deserialize, Serialize};

use super::{
    MAX_FOUND, MAX_NAME, OpEncodeError, OpError, Rom, check_device_id, read_device, read_rom,
};
use crate::wire::msgpack::{self, Reader, Writer};

/// One bus of `ONEWIRE_BUS_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusEntry {
    /// Stable id, at most [`MAX_DEVICE_ID`](super::MAX_DEVICE_ID) bytes.
    pub dev: String,
    /// What people call it, at most [`MAX_NAME`] bytes.
    pub name: String,
    /// `READ` takes bytes to write before, and an operation without `select` may follow one with it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub wr: bool,
}

/// The answer to `ONEWIRE_BUS_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusList {
    /// What the caller may see.
    pub buses: Vec<BusEntry>,
}

impl BusList {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, an id is empty or too long, or a name is too long or has
    /// control characters.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let list: Self = msgpack::decode(payload)?;
        for bus in &list.buses {
            check_device_id(&bus.dev)?;
            if bus.name.len() > MAX_NAME || bus.name.chars().any(char::is_control) {
                return Err(OpError::Field("name"));
            }
        }
        Ok(list)
    }
}

/// `ONEWIRE_SEARCH` `[dev, alarm]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The bus.
    pub dev: String,
    /// Only devices with an alarm.
    pub alarm: bool,
}

impl Search {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(2);
        writer.str(&self.dev);
        writer.bool(self.alarm);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or the id is empty or too long.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let request = Self {
            dev: read_device(&mut reader)?,
            alarm: reader.bool()?,
        };
        reader.finish_fixed(extra)?;
        Ok(request)
    }
}

/// `[[*bin8]]`: the answer to [`Search`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// At most [`MAX_FOUND`] devices, each with a right CRC.
    pub roms: Vec<Rom>,
}

impl Found {
    /// The encoded answer; devices beyond [`MAX_FOUND`] are left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 10 * self.roms.len());
        let mut writer = Writer::new(&mut out);
        let roms = self.roms.get(..MAX_FOUND).unwrap_or(&self.roms);
        writer.array(1);
        writer.array(u32::try_from(roms.len()).unwrap_or(0));
        for rom in roms {
            writer.bin(&rom.0);
        }
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, too many devices, or one with a wrong CRC.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let count = reader.array_header()?;
        if count > MAX_FOUND {
            return Err(OpError::Field("roms"));
        }
        let roms = (0..count).map(|_| read_rom(&mut reader));
        let roms = roms.collect::<Result<_, _>>()?;
        reader.finish_fixed(extra)?;
        Ok(Self { roms })
    }
}

/// `[dev]`: `ONEWIRE_RESET`, `ONEWIRE_READ_ROM`, `ONEWIRE_SKIP_ROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusRequest {
    /// The bus.
    pub dev: String,
}

impl BusRequest {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.str(&self.dev);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or the id is empty or too long.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let dev = read_device(&mut reader)?;
        reader.finish_fixed(extra)?;
        Ok(Self { dev })
    }
}

/// `ONEWIRE_MATCH_ROM` `[dev, bin8]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchRom {
    /// The bus.
    pub dev: String,
    /// The device that is addressed from now on, with a right CRC.
    pub rom: Rom,
}

impl MatchRom {
    /// The encoded request.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(2);
        writer.str(&self.dev);
        writer.bin(&self.rom.0);
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, the id is empty or too long, or the CRC is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let request = Self {
            dev: read_device(&mut reader)?,
            rom: read_rom(&mut reader)?,
        };
        reader.finish_fixed(extra)?;
        Ok(request)
    }
}

/// `[present]`: the answer to `ONEWIRE_RESET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Some device answered the reset, as far as the owner's driver can tell.
    pub present: bool,
}

impl Presence {
    /// The encoded answer.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.bool(self.present);
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let present = reader.bool()?;
        reader.finish_fixed(extra)?;
        Ok(Self { present })
    }
}

/// `[bin8]`: the answer to `ONEWIRE_READ_ROM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RomAnswer {
    /// The only device of the bus, with a right CRC.
    pub rom: Rom,
}

impl RomAnswer {
    /// The encoded answer.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.bin(&self.rom.0);
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or the CRC is wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let rom = read_rom(&mut reader)?;
        reader.finish_fixed(extra)?;
        Ok(Self { rom })
    }
}
