//! Payloads of the core messages inside a session (profile 14) and of `SESSION_CLOSE` before one.

use serde::{Deserialize, Serialize};

use crate::wire::direct;
use crate::wire::error::ErrorMap;
use crate::wire::frame::{Body, FrameHead};
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;
use crate::wire::tier2;

/// The end of a session, or the refusal of one, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}{}{}", .sub.as_ref().map(|sub| format!(" ({sub})")).unwrap_or_default(),
    .msg.as_ref().map(|msg| format!(": {msg}")).unwrap_or_default())]
pub struct CloseReason {
    /// Status code.
    pub status: Status,
    /// Sub-code (profile 10.3).
    pub sub: Option<String>,
    /// Text for people, at most 256 bytes, without control characters.
    pub msg: Option<String>,
}

impl CloseReason {
    /// A reason without text.
    pub fn new(status: Status, sub: &str) -> Self {
        Self {
            status,
            sub: Some(sub.to_owned()),
            msg: None,
        }
    }

    /// The error map of a `SESSION_CLOSE` (profile 10.3, 14.3).
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut map = ErrorMap::new("").with_code(self.status);
        map.sub = self.sub.clone().unwrap_or_default().into();
        match &self.msg {
            Some(msg) => encode(&map.with_msg(msg.clone())),
            None => encode(&map),
        }
    }

    /// Reads the payload of a `SESSION_CLOSE`; one that cannot be read still closes.
    pub(super) fn decode(payload: &[u8]) -> Self {
        let map = ErrorMap::decode(payload).unwrap_or_default();
        let printable = |text: &str| -> Option<String> {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            (!text.is_empty()).then_some(text)
        };
        Self {
            status: map.status().unwrap_or(Status::InternalError),
            sub: printable(&map.sub),
            msg: map.msg.as_deref().and_then(printable),
        }
    }

    /// The unsealed hint that refuses a handshake (profile 6.8).
    pub fn hint(&self) -> Vec<u8> {
        let header = tier2::Header {
            opcode: Opcode::SessionClose,
            sequence: 0,
            session_id: 0,
        };
        header.message(&self.encode())
    }
}

/// `SESSION_REVOKE` (profile 14.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RevokeBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// `SESSION_ROTATE` in all three phases (profile 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RotateBody {
    pub(super) phase: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<u32>,
    #[serde(
        rename = "session-id",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) session_id: Option<u16>,
}

/// TICKET (profile 14.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TicketBody {
    #[serde(with = "serde_bytes")]
    pub(super) ticket: [u8; 64],
    pub(super) lifetime: u64,
}

impl TicketBody {
    /// As an EVENT on stream 0 in direct form (profile 9.1).
    pub(super) fn to_direct(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let head = FrameHead::new(
            0,
            Body::Event {
                opcode: Opcode::Ticket,
            },
        );
        // INVARIANT: an EVENT has a direct form, and nothing else is refused.
        let emitted = direct::emit(&head, &encode(self), &mut out);
        debug_assert_eq!(emitted, Ok(()));
        out
    }

    pub(super) fn from_direct(plaintext: &[u8]) -> Option<Self> {
        let frame = direct::parse(Opcode::Ticket, plaintext).ok()?;
        let event = matches!(frame.head.body, Body::Event { .. }) && frame.head.stream == 0;
        event.then(|| msgpack::decode(frame.payload).ok())?
    }
}

/// Bytes that a KEEPALIVE may carry (profile 14.1).
const KEEPALIVE_LEN: usize = 8;

/// True for a payload that a `KEEPALIVE_ACK` may echo: empty, or one bin of at most 8 bytes.
pub(super) fn is_keepalive(payload: &[u8]) -> bool {
    payload.is_empty()
        || msgpack::decode::<&serde_bytes::Bytes>(payload)
            .is_ok_and(|bytes| bytes.len() <= KEEPALIVE_LEN)
}

/// Encodes one of the fixed shapes of this layer.
pub(super) fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    // INVARIANT: derived Serialize on structs of integers, strings and bytes cannot fail, and their
    // field names are distinct.
    #[expect(clippy::expect_used, reason = "these shapes can always be encoded")]
    msgpack::encode(body).expect("a fixed shape")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::sub;
    use proptest::prelude::*;

    #[test]
    fn a_reason_is_printable_and_bounded_whatever_the_peer_sent() {
        let mut map = ErrorMap::new(sub::REVOKED).with_code(Status::Unauthorized);
        map.msg = Some("\u{1b}[2J".to_owned() + &"\u{e4}".repeat(300));
        let reason = CloseReason::decode(&encode(&map));
        let msg = reason.msg.as_deref().unwrap();
        assert!(msg.starts_with("[2J") && msg.len() <= 256);
        assert!(reason.to_string().starts_with("UNAUTHORIZED (revoked): "));
    }

    #[test]
    fn only_short_byte_strings_are_echoed() {
        assert!(is_keepalive(&[]));
        assert!(is_keepalive(&[0xC4, 2, 1, 2]));
        assert!(!is_keepalive(&[0xC4, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
        assert!(!is_keepalive(&[0x80]));
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = CloseReason::decode(&bytes);
            let _ = is_keepalive(&bytes);
            let _ = msgpack::decode::<RotateBody>(&bytes);
            let _ = TicketBody::from_direct(&bytes);
        }
    }
}
