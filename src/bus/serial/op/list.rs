//! `SERIAL_PORT_LIST`.

use serde::{Deserialize, Serialize};

use super::{OpEncodeError, OpError, check_device_id};
use crate::wire::msgpack;

/// One port of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEntry {
    /// Stable id, at most [`super::MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// What people call it.
    pub name: String,
    /// It can steer an RS-485 transceiver; `None` when that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rs485: Option<bool>,
    /// State, 0–3 (profile 19.2).
    pub state: u8,
}

/// The answer to `SERIAL_PORT_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortList {
    /// What the caller may see.
    pub ports: Vec<PortEntry>,
}

impl PortList {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, an id is empty or too long, or a state above 3.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let list: Self = msgpack::decode(payload)?;
        for port in &list.ports {
            check_device_id(&port.dev)?;
            if port.state > 3 {
                return Err(OpError::Field("state"));
            }
        }
        Ok(list)
    }
}
