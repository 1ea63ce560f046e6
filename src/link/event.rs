//! What a link reports and why it refuses.

use crate::wire::{
    flags::Tier,
    opcode::Opcode,
    status::{Status, sub},
};

use super::ids::{Corr, StreamId};

/// Something the peer did, in order of arrival. Payloads are whole and decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// An operation to perform. It was sealed at a sufficient tier, and its stream is in a state
    /// that allows it. Exactly one final [`super::Link::respond`] is owed.
    Request {
        /// Stream 0, an open stream, or the one that this request opens.
        stream: StreamId,
        /// To be handed back with the answer.
        corr: Corr,
        /// May be [`Opcode::Unknown`]: answer 0x10 `unknown-op`.
        opcode: Opcode,
        /// MessagePack, or empty for "no parameters".
        payload: Vec<u8>,
        /// Of the record.
        tier: Tier,
        /// Whole seconds between sealing and arrival, for the maximum age of profile 16.3.
        age_secs: u32,
    },
    /// The peer no longer wants the answer of that request; the final answer is still owed.
    Cancel {
        /// Of the request.
        stream: StreamId,
        /// Of the request.
        corr: Corr,
    },
    /// An answer to an own request.
    Response {
        /// Of the request.
        stream: StreamId,
        /// Of the request.
        corr: Corr,
        /// On failure `payload` is an error map, or empty when the link itself gave up.
        status: Status,
        /// MessagePack or empty.
        payload: Vec<u8>,
        /// Another answer follows; false exactly once for each request.
        more: bool,
    },
    /// An EVENT on a stream, or a TICKET or `FAMILY_UPDATE` on stream 0.
    Event {
        /// Where it ran.
        stream: StreamId,
        /// What happened.
        opcode: Opcode,
        /// MessagePack.
        payload: Vec<u8>,
        /// Whole seconds between sealing and arrival.
        age_secs: u32,
    },
    /// DATA of a stream.
    Data {
        /// The stream.
        stream: StreamId,
        /// Raw bytes; a whole unit unless the stream is a byte stream.
        payload: Vec<u8>,
        /// The peer sends no further DATA on this stream.
        fin: bool,
    },
    /// The stream is gone. Its own requests were answered before by [`Self::Response`], those of
    /// the peer need no answer any more.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        status: Status,
        /// Empty or an error map.
        payload: Vec<u8>,
    },
    /// After a [`LinkError::WouldBlock`] on this stream: there is room again.
    Writable {
        /// The stream.
        stream: StreamId,
    },
    /// Own DATA or EVENT frames of class 1 or 2 were dropped oldest-first, for lack of credit or
    /// because their deadline passed. The source reports the count in its next event.
    Dropped {
        /// The stream.
        stream: StreamId,
        /// Frames dropped since the last such report.
        count: u32,
    },
    /// On an unordered path: DATA or EVENT frames of the peer were lost or came too late.
    Missing {
        /// The stream.
        stream: StreamId,
        /// Frames between the last one delivered and the next.
        count: u64,
    },
}

/// Why the link does not accept something from its own side; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The queue is full; [`LinkEvent::Writable`] follows.
    #[error("the stream's queue is full")]
    WouldBlock,
    /// No such stream, or it is closed.
    #[error("no such stream")]
    UnknownStream,
    /// The stream is not in a state, or was not opened by an operation, that allows this.
    #[error("the stream does not allow this now")]
    StreamState,
    /// The peer allows no further stream.
    #[error("too many open streams")]
    StreamLimit,
    /// No such request is waiting for an answer, or the request is on another stream.
    #[error("no such request")]
    UnknownRequest,
    /// The payload, or payload and answer, exceed what the peer announced.
    #[error("larger than the peer accepts")]
    TooLarge,
    /// The session's ceiling is below the operation's minimum tier.
    #[error("needs {0}, which this session does not have")]
    Tier(Tier),
    /// The operation needs an ordered path (profile 15.4).
    #[error("needs an ordered path")]
    OrderedPath,
    /// Core opcodes and RECORD never travel as frames (profile 9.1).
    #[error("not an operation")]
    NotAnOperation,
}

/// The peer broke a rule that ends the session: close it with `status` and `sub` (profile 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status}, {sub}: {what}")]
pub struct Violation {
    /// For `SESSION_CLOSE`.
    pub status: Status,
    /// Its sub-code.
    pub sub: &'static str,
    /// For the log.
    pub what: &'static str,
}

impl Violation {
    const fn bad_request(sub: &'static str, what: &'static str) -> Self {
        Self {
            status: Status::BadRequest,
            sub,
            what,
        }
    }

    pub(super) const fn limit(what: &'static str) -> Self {
        Self::bad_request(sub::LIMIT, what)
    }

    pub(super) const fn flow_control(what: &'static str) -> Self {
        Self::bad_request(sub::FLOW_CONTROL, what)
    }

    pub(super) const fn stream_state(what: &'static str) -> Self {
        Self::bad_request(sub::STREAM_STATE, what)
    }

    pub(super) const fn payload(what: &'static str) -> Self {
        Self::bad_request(sub::BAD_PAYLOAD, what)
    }

    pub(super) const fn fragment(what: &'static str) -> Self {
        Self::bad_request(sub::FRAGMENT, what)
    }

    pub(super) const fn decompress(what: &'static str) -> Self {
        Self::bad_request(sub::DECOMPRESS, what)
    }

    pub(super) const fn duplicate(what: &'static str) -> Self {
        Self::bad_request(sub::DUPLICATE, what)
    }
}
