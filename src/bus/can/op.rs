//! The payloads of opcodes 0x0650–0x0657 (profile 19.8); nothing else knows them.
//!
//! What is said for every frame is a fixed-shape array, read without a copy and written with one
//! allocation. What is said once is a map.

mod frame;
mod interface;

pub use frame::{FrameEvent, Pull, decode_pulled, decode_send, encode_pulled, encode_send};
pub use interface::{
    CanMode, Configure, Configured, ErrorState, ErrorStatus, InterfaceEntry, InterfaceList, Modes,
    Open, Opened, decode_filters, encode_filters,
};

use crate::kernel::can::FrameError;
use crate::wire::msgpack::{self, DecodeError, EncodeError, Writer};

/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;
/// Most frames in one answer of the pull form: what always fits into an answer without a declared
/// length.
pub const MAX_PULL: u32 = 512;
/// Longest that the pull form waits for a frame, in milliseconds.
pub const MAX_PULL_MS: u32 = 60_000;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed CAN payload")]
    Decode(#[from] DecodeError),
    /// There is no such frame.
    #[error("no CAN frame")]
    Frame(#[from] FrameError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
}

/// Why a payload cannot be written.
pub type OpEncodeError = EncodeError;

/// Appends `{}`: `CAN_INTERFACE_LIST`, `CAN_INTERFACE_CLOSE`, `CAN_ERROR_STATUS`, and every answer
/// without content.
pub fn encode_empty(out: &mut Vec<u8>) {
    Writer::new(out).map(0);
}

/// Reads `{}`, which may also be no bytes at all (profile 4.2). Unknown keys are ignored.
///
/// # Errors
/// [`OpError`] when it is anything but a map.
pub fn decode_empty(payload: &[u8]) -> Result<(), OpError> {
    Ok(msgpack::decode_empty(payload)?)
}

fn check_device_id(id: &str) -> Result<(), OpError> {
    match id.len() {
        1..=MAX_DEVICE_ID => Ok(()),
        _ => Err(OpError::Field("dev")),
    }
}

#[cfg(test)]
mod tests;
