//! `ACL_SET`, `ACL_GET`, `ACL_GRANT` and `ACL_REVOKE` (profile 17.2, 19.3).

use serde::{Deserialize, Serialize};

use crate::device::acl::{Entry, MAX_ENTRIES, Mode, Subject};
use crate::device::id::Pattern;
use crate::wire::msgpack::{self, DecodeError, EncodeError};

/// The most ranges of opcodes in one entry.
const MAX_OPS: usize = 64;

/// An [`Entry`] as it travels: its mode is a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    /// Whose access.
    pub sub: Subject,
    /// Which devices.
    pub dev: Pattern,
    /// [`Mode`] as a number.
    pub mode: u8,
    /// Ranges of opcodes, both ends included; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<(u16, u16)>,
    /// Seconds since 1970 after which the entry no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl From<Entry> for WireEntry {
    fn from(entry: Entry) -> Self {
        Self {
            sub: entry.subject,
            dev: entry.device,
            mode: entry.mode.to_u8(),
            ops: entry.ops,
            until: entry.until,
        }
    }
}

impl TryFrom<WireEntry> for Entry {
    type Error = DecodeError;

    fn try_from(entry: WireEntry) -> Result<Self, DecodeError> {
        let mode = Mode::from_u8(entry.mode).ok_or(DecodeError::Range)?;
        let backwards = entry.ops.iter().any(|(low, high)| low > high);
        if backwards || entry.ops.len() > MAX_OPS {
            return Err(DecodeError::Range);
        }
        Ok(Self {
            device: entry.dev,
            subject: entry.sub,
            mode,
            ops: entry.ops,
            until: entry.until,
        })
    }
}

/// Request of `ACL_SET`: replaces all entries of one pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclSetRequest {
    /// The pattern, as it stands in the entries.
    pub dev: Pattern,
    /// What is to be in the list for it; each with the same pattern.
    pub entries: Vec<WireEntry>,
    /// The version that this rests on.
    pub ver: u64,
}

impl AclSetRequest {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload into pattern, entries and version.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape, an entry that is none, more than [`MAX_ENTRIES`], an entry
    /// of another pattern.
    pub fn decode(payload: &[u8]) -> Result<(Pattern, Vec<Entry>, u64), DecodeError> {
        let request: Self = msgpack::decode(payload)?;
        if request.entries.len() > MAX_ENTRIES {
            return Err(DecodeError::ArrayElements(request.entries.len()));
        }
        let other = |entry: &WireEntry| entry.dev != request.dev;
        if let Some(entry) = request.entries.iter().find(|&entry| other(entry)) {
            let text = format!("an entry for {}, not {}", entry.dev, request.dev);
            return Err(DecodeError::Shape(text));
        }
        let entries: Result<Vec<Entry>, _> =
            request.entries.into_iter().map(Entry::try_from).collect();
        Ok((request.dev, entries?, request.ver))
    }
}

/// Request of `ACL_GET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternRequest {
    /// The pattern, as it stands in the entries.
    pub dev: Pattern,
}

impl PatternRequest {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode(payload)
    }
}

/// Answer of `ACL_GET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclGetResponse {
    /// The entries of that pattern.
    pub entries: Vec<WireEntry>,
    /// The version of the whole list, for `ACL_SET`.
    pub ver: u64,
}

impl AclGetResponse {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode(payload)
    }
}

/// Request of `ACL_GRANT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclGrantRequest {
    /// What is to be in the list.
    pub entry: WireEntry,
}

impl AclGrantRequest {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape or an entry that is none.
    pub fn decode(payload: &[u8]) -> Result<Entry, DecodeError> {
        let request: Self = msgpack::decode(payload)?;
        request.entry.try_into()
    }
}

/// Request of `ACL_REVOKE`: removes the entries of one pattern and one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRevokeRequest {
    /// The pattern, as it stands in the entries.
    pub dev: Pattern,
    /// Whose.
    pub sub: Subject,
}

impl AclRevokeRequest {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode(payload)
    }
}

/// Answer of `ACL_SET`, `ACL_GRANT` and `ACL_REVOKE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclVersion {
    /// The version of the whole list, now.
    pub ver: u64,
}

impl AclVersion {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            device: "usb:*".parse().unwrap(),
            subject: "role:lab".parse().unwrap(),
            mode: Mode::Exclusive,
            ops: vec![(0x0600, 0x060f)],
            until: Some(1 << 40),
        }
    }

    #[test]
    fn an_entry_survives_with_its_mode_as_a_number() {
        let grant = AclGrantRequest {
            entry: entry().into(),
        };
        let payload = grant.encode().unwrap();
        assert!(payload.windows(6).any(|bytes| bytes == b"\xa4mode\x04"));
        assert_eq!(AclGrantRequest::decode(&payload), Ok(entry()));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for wrong in [
            WireEntry {
                mode: 5,
                ..entry().into()
            },
            WireEntry {
                ops: vec![(2, 1)],
                ..entry().into()
            },
            WireEntry {
                ops: vec![(0, 1); MAX_OPS + 1],
                ..entry().into()
            },
        ] {
            let payload = AclGrantRequest { entry: wrong }.encode().unwrap();
            assert_eq!(AclGrantRequest::decode(&payload), Err(DecodeError::Range));
        }
        let subject = b"\x82\xa3dev\xa1*\xa3sub\xa3you";
        assert!(AclRevokeRequest::decode(subject).is_err());
    }

    #[test]
    fn a_set_is_of_one_pattern_and_bounded() {
        let set = |dev: &str, count: usize| AclSetRequest {
            dev: dev.parse().unwrap(),
            entries: vec![entry().into(); count],
            ver: 7,
        };
        let good = set("usb:*", 2).encode().unwrap();
        let read = AclSetRequest::decode(&good).unwrap();
        assert_eq!(read, ("usb:*".parse().unwrap(), vec![entry(), entry()], 7));
        let other = set("can:*", 1).encode().unwrap();
        assert!(matches!(
            AclSetRequest::decode(&other),
            Err(DecodeError::Shape(_))
        ));
        let large = set("usb:*", MAX_ENTRIES + 1).encode().unwrap();
        assert!(matches!(
            AclSetRequest::decode(&large),
            Err(DecodeError::ArrayElements(_))
        ));
    }

    #[test]
    fn answers_survive() {
        let list = AclGetResponse {
            entries: vec![entry().into()],
            ver: 3,
        };
        let read = AclGetResponse::decode(&list.encode().unwrap()).unwrap();
        assert_eq!(read, list);
        let version = AclVersion { ver: 4 };
        let read = AclVersion::decode(&version.encode().unwrap()).unwrap();
        assert_eq!(read, version);
    }
}
