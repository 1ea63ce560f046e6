//! The payloads of opcodes 0x0610–0x0618 and of `STREAM_START` type 4 (profile 19.5 and 19.3);
//! nothing else knows them.
//!
//! Beyond the profile, all of it in optional map keys, which a peer that does not know them ignores:
//! * `"seq"` of `SERIAL_CONTROL_SET`: steps that run next to the hardware, see [`Step`];
//! * `"flush"` of `SERIAL_PORT_CONFIGURE`: bytes that are waiting in the port are thrown away;
//! * `"edges"` and `"lost"` of the event 0x0617: how often each line changed, and how many events
//!   the peer was not sent;
//! * what stands in the map `"rs485"`, which the profile leaves open.

mod control;
mod data;
mod list;
mod numbered;
mod settings;
mod stream;

pub use control::{
    Break, ControlSet, Edges, Errors, LineChange, LineEvent, Lines, MAX_BREAK_MS, MAX_SEQUENCE_US,
    MAX_STEP_US, MAX_STEPS, Step,
};
pub use data::{DataRead, DataWrite, MAX_DATA, Written, declared_reply, decode_read, encode_read};
pub use list::{PortEntry, PortList};
pub use settings::{
    Change, DataBits, Flow, Flush, MAX_BAUD, MAX_GAP_US, MAX_RS485_DELAY_MS, Mode, OpenRequest,
    Parity, Rs485, Settings, StopBits,
};
pub use stream::{Direction, StreamParameters, StreamSettings, StreamStart};

use crate::wire::msgpack::{self, DecodeError, EncodeError, Writer};

/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed serial payload")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
}

/// Why a payload cannot be written.
pub type OpEncodeError = EncodeError;

/// `{}`: `SERIAL_PORT_LIST`, `SERIAL_PORT_CLOSE` and `SERIAL_CONTROL_GET`, and every answer without
/// content.
pub fn encode_empty() -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).map(0);
    out
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

/// `field` is between the two, both included.
fn check_range<T: PartialOrd>(
    field: &'static str,
    value: &T,
    least: &T,
    most: &T,
) -> Result<(), OpError> {
    if value < least || value > most {
        return Err(OpError::Field(field));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
