//! `DEVICE_SUBSCRIBE` and its events (profile 19.2).

use serde::{Deserialize, Serialize};

use super::Brief;
use crate::device::id::{DeviceId, Pattern};
use crate::wire::msgpack::{self, DecodeError, EncodeError, Value};

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum EventKind {
    /// 1: it was plugged in, or this subscriber may know of it from now on. `info` is its [`Brief`].
    Added,
    /// 2: it was unplugged, or this subscriber may know of it no longer.
    Removed,
    /// 3: its name, state or user is another one. `info` is its [`Brief`].
    Changed,
    /// 4: a node has its lock now. `info` is its [`Brief`].
    Locked,
    /// 5: nobody has its lock any longer. `info` is its [`Brief`].
    Unlocked,
    /// 6: it is routed to this subscriber now (profile 17.4).
    Routed,
    /// 7: what this subscriber may do with it is something else now. `info` is its [`Brief`].
    Acl,
    /// A later version's; to be ignored.
    Other(u8),
}

impl From<u8> for EventKind {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Added,
            2 => Self::Removed,
            3 => Self::Changed,
            4 => Self::Locked,
            5 => Self::Unlocked,
            6 => Self::Routed,
            7 => Self::Acl,
            other => Self::Other(other),
        }
    }
}

impl From<EventKind> for u8 {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Added => 1,
            EventKind::Removed => 2,
            EventKind::Changed => 3,
            EventKind::Locked => 4,
            EventKind::Unlocked => 5,
            EventKind::Routed => 6,
            EventKind::Acl => 7,
            EventKind::Other(other) => other,
        }
    }
}

/// Which events are wanted: event `n` is bit `n - 1`. The default is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventMask(pub u64);

impl Default for EventMask {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl EventMask {
    /// Only these.
    pub fn of(kinds: &[EventKind]) -> Self {
        Self(kinds.iter().map(|&kind| bit(kind)).fold(0, |a, b| a | b))
    }

    /// Whether that event is wanted.
    pub fn has(self, kind: EventKind) -> bool {
        self.0 & bit(kind) != 0
    }
}

fn bit(kind: EventKind) -> u64 {
    let number = u32::from(u8::from(kind));
    number
        .checked_sub(1)
        .and_then(|place| 1u64.checked_shl(place))
        .unwrap_or(0)
}

/// Request of `DEVICE_SUBSCRIBE`; answered with `{}`, after which the stream carries events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeRequest {
    /// Only this device, or those whose id begins so where it ends in `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<Pattern>,
    /// Only these events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<EventMask>,
}

impl SubscribeRequest {
    /// Whether such an event of that device is asked for.
    pub fn wants(&self, kind: EventKind, device: &DeviceId) -> bool {
        self.mask.unwrap_or_default().has(kind)
            && self.dev.as_ref().is_none_or(|dev| dev.matches(device))
    }

    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload; an empty one asks for everything.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape, or a `dev` that is no id or pattern.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode_or_default(payload)
    }
}

/// One event of `DEVICE_SUBSCRIBE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceEvent {
    /// What happened.
    pub ev: EventKind,
    /// To which device.
    pub dev: DeviceId,
    /// Depends on `ev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Value>,
    /// So many events before this one were dropped because the subscriber did not read. It has to
    /// ask for the list anew to know how things are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl DeviceEvent {
    /// The device as its owner shows it now, where the event tells.
    pub fn brief(&self) -> Option<Brief> {
        let info = msgpack::encode(self.info.as_ref()?).ok()?;
        let brief: Brief = msgpack::decode(&info).ok()?;
        (brief.dev == self.dev.as_str()).then_some(brief)
    }

    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when `info` has a map with a key twice.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape, or a `dev` that is no id.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode(payload)
    }
}

impl Brief {
    /// As the `info` of an event.
    pub fn to_value(&self) -> Value {
        let mut entries: Vec<(Value, Value)> = vec![
            ("dev".into(), self.dev.as_str().into()),
            ("class".into(), self.class.as_str().into()),
            ("name".into(), self.name.as_str().into()),
            ("state".into(), u64::from(self.state).into()),
            ("mode".into(), u64::from(self.mode).into()),
        ];
        if let Some(owner) = self.owner {
            entries.push(("owner".into(), Value::Bin(owner.to_vec())));
        }
        Value::Map(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief() -> Brief {
        Brief {
            dev: "usb:0403:6001".to_owned(),
            class: "usb".to_owned(),
            name: "FT232R".to_owned(),
            state: 2,
            mode: 3,
            owner: Some([7; 16]),
        }
    }

    #[test]
    fn an_event_brings_the_device_as_the_list_shows_it() {
        let event = DeviceEvent {
            ev: EventKind::Locked,
            dev: "usb:0403:6001".parse().unwrap(),
            info: Some(brief().to_value()),
            lost: 3,
        };
        let read = DeviceEvent::decode(&event.encode().unwrap()).unwrap();
        assert_eq!((read.ev, read.lost), (EventKind::Locked, 3));
        assert_eq!(read.brief(), Some(brief()));
        let listed = msgpack::encode(&brief()).unwrap();
        assert_eq!(msgpack::encode(&brief().to_value()).unwrap(), listed);
    }

    #[test]
    fn the_least_event_is_two_fields_and_an_unknown_one_survives() {
        let event = DeviceEvent::decode(b"\x82\xa2ev\x09\xa3dev\xa1x").unwrap();
        assert_eq!(event.ev, EventKind::Other(9));
        assert_eq!((event.info.as_ref(), event.lost), (None, 0));
        assert_eq!(event.brief(), None);
        assert_eq!(event.encode().unwrap(), b"\x82\xa2ev\x09\xa3dev\xa1x");
    }

    #[test]
    fn an_event_about_another_device_than_its_info_tells_of_none() {
        let event = DeviceEvent {
            ev: EventKind::Added,
            dev: "usb:other".parse().unwrap(),
            info: Some(brief().to_value()),
            lost: 0,
        };
        assert_eq!(event.brief(), None);
    }

    #[test]
    fn a_mask_and_a_pattern_narrow_what_is_told() {
        let all = SubscribeRequest::decode(&[]).unwrap();
        let device: DeviceId = "usb:0403:6001".parse().unwrap();
        assert!(all.wants(EventKind::Added, &device) && all.wants(EventKind::Other(60), &device));
        let some = SubscribeRequest {
            dev: Some("usb:0403:*".parse().unwrap()),
            mask: Some(EventMask::of(&[EventKind::Added, EventKind::Removed])),
        };
        let some = SubscribeRequest::decode(&some.encode().unwrap()).unwrap();
        assert_eq!(some.mask, Some(EventMask(3)));
        assert!(some.wants(EventKind::Removed, &device));
        assert!(!some.wants(EventKind::Changed, &device));
        assert!(!some.wants(EventKind::Other(0), &device));
        assert!(!some.wants(EventKind::Other(255), &device));
        assert!(!some.wants(EventKind::Added, &"usb:0404:1".parse().unwrap()));
    }

    #[test]
    fn a_filter_that_is_no_id_is_refused() {
        assert!(SubscribeRequest::decode(b"\x81\xa3dev\xa3a b").is_err());
        assert!(SubscribeRequest::decode(b"\x81\xa4mask\xff").is_err());
    }
}
