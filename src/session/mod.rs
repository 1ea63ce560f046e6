//! From two keys and a byte path to sealed messages: identity, handshake, key schedule, sealing,
//! rotation, resumption. No I/O, no clock, no randomness of its own.
#![forbid(unsafe_code)]

pub mod entropy;
mod hex;
pub mod identity;
pub mod nonce;
pub mod replay;
pub mod schedule;

pub use entropy::Entropy;
