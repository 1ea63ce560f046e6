//! Bytes to headers, frames and payloads and back. No I/O, no clock, no keys, no bus.
//!
//! Panic contract: no function here panics on any input; every length is checked before it is used
//! and before anything is allocated for it.
#![forbid(unsafe_code)]

pub mod class;
pub mod compress;
pub mod crc16;
pub mod direct;
pub mod error;
pub mod flags;
pub mod fragment;
pub mod frame;
pub mod header;
pub mod hex;
pub mod limits;
pub mod message;
pub mod msgpack;
pub mod opcode;
pub mod status;
pub mod tier1;
pub mod tier2;
pub mod tier3;
pub mod tier4;
pub mod tier5;
pub mod time;
pub mod varint;
