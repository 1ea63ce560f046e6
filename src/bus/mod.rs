//! The buses: one folder each, with the operations of the wire (`op`), the half that owns the
//! hardware (`server`) and the half that makes a local kernel device of it (`client`).
//!
//! A bus half runs on one stream of one session. It sees that session only through an [`Outlet`]
//! and a queue of [`Inbound`]; it knows nothing of records, credit or transports.

pub mod adapter;
pub mod can;
pub mod chardev;
pub mod fake;
pub mod gpio;
pub mod hid;
pub mod i2c;
mod local;
pub mod names;
pub mod onewire;
pub mod outage;
mod owned;
pub mod pipe;
mod programs;
pub mod pwm;
mod refused;
pub mod remote;
pub mod serial;
pub mod spi;
pub mod usb;

pub use local::{
    AskError, AttachError, Attaching, BusStream, Ended, Handle, Here, Local, Opener, Operate,
    OperateError, Operating, Parameters, Pending, Presenter, Wish,
};
pub use owned::{
    Answer, Caller, End, Grant, Hazard, Listing, Owned, Present, Roots, Serving, Wanted,
};
pub use refused::Refused;
use refused::waiting;

use crate::wire::class::Class;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// How old a request may be that moves something in the world, in seconds (profile 16.3).
pub const MAX_AGE_SECS: u32 = 10;

/// The buses whose devices can be offered, besides USB.
pub const OWNED: &[&Owned] = &[
    &can::server::OWNED,
    &gpio::server::OWNED,
    &hid::server::OWNED,
    &i2c::server::OWNED,
    &onewire::server::OWNED,
    &pwm::server::OWNED,
    &serial::server::OWNED,
    &spi::server::OWNED,
];

/// How devices are made local, besides those of USB.
pub const PRESENTERS: &[&Presenter] = &[
    &can::client::PRESENTER,
    &gpio::client::PRESENTER,
    &hid::client::PRESENTER,
    &i2c::client::PRESENTER,
    &onewire::client::PRESENTER,
    &pwm::client::PRESENTER,
    &serial::client::PRESENTER,
    &spi::client::PRESENTER,
];

/// What a bus half may do on its stream; implemented by the daemon's peer.
///
/// Nothing here blocks. Everything except [`Outlet::request`] is accepted without a result: when
/// the session is gone it has no effect, and [`Inbound::Closed`] tells so.
pub trait Outlet {
    /// Sends a REQUEST and returns the correlation number that its answers carry.
    ///
    /// # Errors
    /// [`OutletError`]; nothing was sent then, and the request is handed back unharmed where
    /// trying again makes sense.
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError>;

    /// Sends the final RESPONSE to the peer's request `corr`.
    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>);

    /// Sends an EVENT.
    fn event(&self, opcode: Opcode, payload: Vec<u8>);

    /// Sends DATA; `fin` ends this direction of the stream.
    fn data(&self, payload: Vec<u8>, fin: bool);

    /// Asks the peer to give up our request `corr`. A final RESPONSE follows all the same
    /// (profile 10.4).
    fn cancel(&self, corr: u32);

    /// Ends the stream in both directions.
    fn reset(&self, status: Status);

    /// So many payload bytes of DATA and EVENT that arrived are used up: the peer may send as many
    /// more (profile 11.2). A half that does not say so is sent no more than the first 64 to 256 KiB.
    fn consume(&self, bytes: usize);

    /// Whether so many bytes of DATA would be taken now. After a false [`Inbound::Writable`] follows;
    /// DATA that is sent without asking is dropped when there is no room.
    fn writable(&self, bytes: usize) -> bool;

    /// Bytes of DATA and EVENT that were accepted and have not left yet.
    fn queued(&self) -> usize;
}

/// The length that an operation declares for its answer, in bytes, if it declares one (profile
/// 11.2); the buses know their payloads.
pub fn declared_reply(opcode: Opcode, payload: &[u8]) -> Option<u32> {
    usb::op::declared_reply(opcode, payload)
        .or_else(|| serial::op::declared_reply(opcode, payload))
        .or_else(|| i2c::op::declared_reply(opcode, payload))
        .or_else(|| spi::op::declared_reply(opcode, payload))
}

/// One request on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The operation.
    pub opcode: Opcode,
    /// The class it competes in (profile 11.3).
    pub class: Class,
    /// The encoded parameters.
    pub payload: Vec<u8>,
    /// Longest answer payload in bytes, counted against the peer's `rqb` (profile 11.2).
    pub reply_len: u32,
    /// Milliseconds until the link cancels the request; 0 never does.
    pub timeout_ms: u32,
    /// Milliseconds after which the request is not worth sending: one that is still here then is
    /// answered with `Timeout` "timeout" instead (profile 11.3). 0 sends it whenever that may be.
    pub deadline_ms: u32,
}

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// The peer's limit of outstanding requests or bytes is reached (profile 11.2). The request
    /// comes back; it fits again after one of ours was answered.
    #[error("the peer's limit of outstanding requests is reached")]
    WouldBlock(Outgoing),
    /// The request can never be sent: it is larger than the peer's limits.
    #[error("the request exceeds the peer's limits")]
    TooLarge,
    /// The stream or the session has ended.
    #[error("the stream is closed")]
    Closed,
}

/// What arrives on the stream of a bus half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// The peer asks for an operation.
    Request {
        /// Answer with this number.
        corr: u32,
        /// The operation.
        opcode: Opcode,
        /// Its parameters, not yet looked at.
        payload: Vec<u8>,
        /// Seconds since the peer sealed it, by the session clock (profile 16).
        age_secs: u32,
    },
    /// The peer gives up its request. It must still be answered.
    Cancel {
        /// The request's number.
        corr: u32,
    },
    /// An answer to one of our requests.
    Response {
        /// The request's number.
        corr: u32,
        /// Success or failure of the operation as such.
        status: Status,
        /// The result, or an error map.
        payload: Vec<u8>,
        /// False for the final answer.
        more: bool,
    },
    /// An event of the peer.
    Event {
        /// What kind.
        opcode: Opcode,
        /// Its content, not yet looked at.
        payload: Vec<u8>,
        /// Seconds since the peer sealed it.
        age_secs: u32,
    },
    /// Bytes of the stream.
    Data {
        /// The bytes.
        payload: Vec<u8>,
        /// The peer sends no more.
        fin: bool,
    },
    /// The peer ended the stream.
    Reset {
        /// Why.
        status: Status,
    },
    /// After [`Outlet::writable`] said no: there is room again.
    Writable,
    /// Own events were dropped oldest-first for lack of credit (classes 1 and 2); the next event says
    /// so to the peer (profile 10.2).
    Dropped {
        /// How many since the last such report.
        count: u32,
    },
    /// The session is gone; nothing follows.
    Closed,
}
