//! What a device is, as a map. Sets of codes are bytes with code 8n+b in bit b of byte n.

use serde::{Deserialize, Serialize};

use super::OpError;
use crate::kernel::evdev::codes::{
    ABS_CNT, FF_CNT, FF_MAX_EFFECTS, KEY_CNT, LED_CNT, MSC_CNT, PROP_CNT, REL_CNT, SND_CNT, SW_CNT,
};
use crate::kernel::evdev::{Axis, Codes, Description, Ids};

/// Longest name in bytes.
const MAX_NAME: usize = 256;

/// Code, value, minimum, maximum, fuzz, flat, resolution.
type WireAxis = (u16, i32, i32, i32, i32, i32, i32);

#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    abs: Vec<WireAxis>,
    bus: u16,
    #[serde(default)]
    effects: u32,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    ff: Vec<u8>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    key: Vec<u8>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    led: Vec<u8>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    msc: Vec<u8>,
    name: String,
    product: u16,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    prop: Vec<u8>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    rel: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rep: Option<(u32, u32)>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    snd: Vec<u8>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    sw: Vec<u8>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uniq: String,
    vendor: u16,
    version: u16,
}

impl From<&Description> for Wire {
    fn from(of: &Description) -> Self {
        let axis = |(code, axis): &(u16, Axis)| {
            (
                *code,
                axis.value,
                axis.minimum,
                axis.maximum,
                axis.fuzz,
                axis.flat,
                axis.resolution,
            )
        };
        Self {
            abs: of.abs.iter().map(axis).collect(),
            bus: of.ids.bus,
            effects: of.effects,
            ff: of.ff.to_bytes(),
            key: of.keys.to_bytes(),
            led: of.leds.to_bytes(),
            msc: of.msc.to_bytes(),
            name: of.name.clone(),
            product: of.ids.product,
            prop: of.props.to_bytes(),
            rel: of.rel.to_bytes(),
            rep: of.repeat.map(|[delay, period]| (delay, period)),
            snd: of.sounds.to_bytes(),
            sw: of.switches.to_bytes(),
            uniq: of.uniq.clone(),
            vendor: of.ids.vendor,
            version: of.ids.version,
        }
    }
}

impl Wire {
    pub(super) fn check(self) -> Result<Description, OpError> {
        if self.name.len() > MAX_NAME {
            return Err(OpError::Field("name"));
        }
        if self.uniq.len() > MAX_NAME {
            return Err(OpError::Field("uniq"));
        }
        Ok(Description {
            ids: Ids {
                bus: self.bus,
                vendor: self.vendor,
                product: self.product,
                version: self.version,
            },
            name: self.name,
            uniq: self.uniq,
            props: codes(&self.prop, PROP_CNT, "prop")?,
            keys: codes(&self.key, KEY_CNT, "key")?,
            rel: codes(&self.rel, REL_CNT, "rel")?,
            abs: axes(self.abs)?,
            msc: codes(&self.msc, MSC_CNT, "msc")?,
            switches: codes(&self.sw, SW_CNT, "sw")?,
            leds: codes(&self.led, LED_CNT, "led")?,
            sounds: codes(&self.snd, SND_CNT, "snd")?,
            ff: codes(&self.ff, FF_CNT, "ff")?,
            effects: self.effects.min(FF_MAX_EFFECTS),
            repeat: self.rep.map(|(delay, period)| [delay, period]),
        })
    }
}

fn codes(bytes: &[u8], count: u16, what: &'static str) -> Result<Codes, OpError> {
    Codes::from_bytes(bytes, count).ok_or(OpError::Field(what))
}

/// Each axis once, in ascending order.
fn axes(wire: Vec<WireAxis>) -> Result<Vec<(u16, Axis)>, OpError> {
    if !wire.is_sorted_by(|one, next| one.0 < next.0) {
        return Err(OpError::Field("abs"));
    }
    let axis = |(code, value, minimum, maximum, fuzz, flat, resolution): WireAxis| {
        let axis = Axis {
            value,
            minimum,
            maximum,
            fuzz,
            flat,
            resolution,
        };
        (code < ABS_CNT)
            .then_some((code, axis))
            .ok_or(OpError::Field("abs"))
    };
    wire.into_iter().map(axis).collect()
}
