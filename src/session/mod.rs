//! From two keys and a byte path to sealed messages: identity, handshake, key schedule, sealing,
//! rotation, resumption. No I/O, no clock, no randomness of its own.
#![forbid(unsafe_code)]

pub mod certificate;
pub mod clock;
pub mod entropy;
mod form;
mod hex;
pub mod identity;
pub mod nonce;
pub mod psk;
pub mod record_buf;
pub mod replay;
pub mod revocation;
pub mod schedule;
pub mod trust;

pub use entropy::Entropy;
