//! From two keys and a byte path to sealed messages: identity, handshake, key schedule, sealing,
//! rotation, resumption. No I/O, no clock, no randomness of its own.
//!
//! A handshake ([`Initiator`], [`Responder`] or [`Resumer`]) ends with a [`Session`]; the session
//! seals and opens messages and keeps itself alive. Panic contract: no byte from a path makes any
//! function here panic.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod clock;
mod control;
pub mod enrol;
pub mod entropy;
mod epoch;
mod established;
pub mod handshake;
pub mod identity;
mod ids;
mod keys;
pub mod negotiate;
pub mod noise;
pub mod nonce;
pub mod open;
mod peer;
mod pending;
pub mod psk;
mod receive;
pub mod record_buf;
pub mod replay;
pub mod revocation;
mod rotation;
pub mod schedule;
pub mod seal;
pub mod ticket;
mod tickets;
pub mod trust;

pub use control::CloseReason;
pub use entropy::Entropy;
pub use epoch::Role;
pub use established::{LIFETIME, Session, SessionDead};
pub use handshake::{
    Dial, Established, HandshakeError, HandshakeInfo, Initiator, LocalNode, Offered, Policy,
    Progress, Responder, Resumer,
};
pub use open::{OpenError, OpenErrorKind};
pub use peer::{PeerIdentity, Restriction};
pub use receive::Received;
pub use record_buf::RecordBuf;
pub use seal::SealError;
pub use ticket::{HeldTicket, TicketError, TicketNonce, TicketTable};

#[cfg(test)]
mod tests;
