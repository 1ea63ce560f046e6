//! How a device is spoken to: `SPI_DEVICE_OPEN` and `SPI_CONFIGURE`.

use serde::{Deserialize, Serialize};

use super::{MAX_DEVICE_ID, OpError, Settings, check, mode, narrow};
use crate::kernel::spidev::MAX_TRANSFERS;
use crate::wire::msgpack::{self, EncodeError};

/// Clock phase and polarity: the four modes of the profile.
const PROFILE_MODE: u32 = mode::CPHA | mode::CPOL;
/// The bits that have a key of their own.
const NAMED: u32 = PROFILE_MODE | mode::CS_HIGH | mode::LSB_FIRST;

/// `SPI_DEVICE_OPEN`: takes a device and opens its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The device's id.
    pub dev: String,
    /// How it shall be spoken to; a clock of 0 Hz leaves that. Only the bits of the mode that the
    /// profile has are sent.
    pub settings: Settings,
    /// An owner that knows this key leaves the device as it is.
    pub keep: bool,
}

/// What an owner takes beyond the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Most transfers of one message. Each may have the elements after the fifth.
    pub entries: u32,
    /// Most bytes of one message each way.
    pub bufsiz: u32,
    /// The bits of the mode that `"flags"` may have.
    pub flags: u32,
}

/// The answer to [`OpenRequest`] and to [`Change`]: what the hardware made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How the device is spoken to.
    pub settings: Settings,
    /// What the owner takes beyond the profile; only in the answer to an opening.
    pub ext: Option<Extension>,
}

/// `SPI_CONFIGURE`; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Clock phase and polarity, 0–3.
    pub mode: Option<u32>,
    /// The least significant bit first.
    pub lsb: Option<bool>,
    /// Chip select is active high.
    pub cs_high: Option<bool>,
    /// All other bits of the mode. Only for an owner that announced them.
    pub flags: Option<u32>,
    /// Bits of a word.
    pub bits: Option<u8>,
    /// The clock in Hz.
    pub hz: Option<u32>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dev: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hz: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lsb: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cs_high: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flags: Option<u32>,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    keep: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ext: Option<Extension>,
}

impl Wire {
    /// The settings, without what the profile has no key for.
    fn new(settings: &Settings) -> Self {
        let has = |bit| (settings.mode & bit != 0).then_some(true);
        Self {
            mode: Some(settings.mode & PROFILE_MODE),
            hz: Some(settings.hz),
            bits: Some(settings.bits.into()),
            lsb: has(mode::LSB_FIRST),
            cs_high: has(mode::CS_HIGH),
            ..Self::default()
        }
    }

    /// The settings; those that have to be there are.
    fn settings(&self) -> Result<Settings, OpError> {
        let (Some(mode), Some(hz), Some(bits)) = (self.mode, self.hz, self.bits) else {
            return Err(OpError::Field("mode, hz or bits"));
        };
        let flags = self.flags.unwrap_or_default();
        check("mode", mode <= PROFILE_MODE)?;
        check("flags", flags & NAMED == 0)?;
        let lsb = bit(self.lsb, mode::LSB_FIRST);
        let cs_high = bit(self.cs_high, mode::CS_HIGH);
        Ok(Settings {
            mode: mode | lsb | cs_high | flags,
            bits: narrow("bits", bits)?,
            hz,
        })
    }
}

fn bit(set: Option<bool>, bit: u32) -> u32 {
    if set == Some(true) { bit } else { 0 }
}

impl OpenRequest {
    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(&Wire {
            dev: Some(self.dev.clone()),
            keep: self.keep,
            ..Wire::new(&self.settings)
        })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, the id is empty or too long, or a setting is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut wire: Wire = msgpack::decode(payload)?;
        // They are announced in the answer at the earliest.
        wire.flags = None;
        let settings = wire.settings()?;
        let dev = wire.dev.unwrap_or_default();
        check("dev", (1..=MAX_DEVICE_ID).contains(&dev.len()))?;
        Ok(Self {
            dev,
            settings,
            keep: wire.keep,
        })
    }
}

impl Opened {
    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let flags = self.settings.mode & !NAMED;
        msgpack::encode(&Wire {
            flags: (flags != 0).then_some(flags),
            ext: self.ext,
            ..Wire::new(&self.settings)
        })
    }

    /// Reads an answer. More transfers than a message of Linux has are read as these.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or a setting or limit is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let wire: Wire = msgpack::decode(payload)?;
        let most = u32::try_from(MAX_TRANSFERS).unwrap_or(u32::MAX);
        if let Some(ext) = &wire.ext {
            check("entries", ext.entries > 0)?;
            check("bufsiz", ext.bufsiz > 0)?;
        }
        Ok(Self {
            settings: wire.settings()?,
            ext: wire.ext.map(|ext| Extension {
                entries: ext.entries.min(most),
                flags: ext.flags & mode::ALL & !NAMED,
                ..ext
            }),
        })
    }
}

impl Change {
    /// All bits of the mode; `flags` only where there are any or the owner takes them.
    pub fn of_mode(bits: u32, takes_flags: bool) -> Self {
        let flags = bits & !NAMED;
        Self {
            mode: Some(bits & PROFILE_MODE),
            lsb: Some(bits & mode::LSB_FIRST != 0),
            cs_high: Some(bits & mode::CS_HIGH != 0),
            flags: (takes_flags || flags != 0).then_some(flags),
            ..Self::default()
        }
    }

    /// The mode after it; `None` where it stays as it is.
    pub fn mode_after(&self, before: u32) -> Option<u32> {
        let named = [(self.lsb, mode::LSB_FIRST), (self.cs_high, mode::CS_HIGH)];
        let mut after = before;
        if let Some(mode) = self.mode {
            after = after & !PROFILE_MODE | mode & PROFILE_MODE;
        }
        for (set, bit) in named {
            match set {
                Some(true) => after |= bit,
                Some(false) => after &= !bit,
                None => {}
            }
        }
        if let Some(flags) = self.flags {
            after = after & NAMED | flags & !NAMED;
        }
        let said = self.mode.is_some()
            || self.lsb.is_some()
            || self.cs_high.is_some()
            || self.flags.is_some();
        said.then_some(after)
    }

    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(&Wire {
            mode: self.mode,
            lsb: self.lsb,
            cs_high: self.cs_high,
            flags: self.flags,
            bits: self.bits.map(u32::from),
            hz: self.hz,
            ..Wire::default()
        })
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or a setting is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let wire: Wire = msgpack::decode(payload)?;
        check("mode", wire.mode.is_none_or(|mode| mode <= PROFILE_MODE))?;
        check("flags", wire.flags.is_none_or(|flags| flags & NAMED == 0))?;
        Ok(Self {
            mode: wire.mode,
            lsb: wire.lsb,
            cs_high: wire.cs_high,
            flags: wire.flags,
            bits: wire.bits.map(|bits| narrow("bits", bits)).transpose()?,
            hz: wire.hz,
        })
    }
}
