//! `DEVICE_CONFIGURE` and `DEVICE_CAPABILITIES` (profile 19.2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::msgpack::{self, DecodeError, EncodeError, Value};

/// The setting that every device has: what people call it.
pub const TITLE: &str = "title";

/// Request of `DEVICE_CONFIGURE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigureRequest {
    /// The device.
    pub dev: String,
    /// What is to be set.
    pub set: BTreeMap<String, Value>,
}

/// Answer of `DEVICE_CONFIGURE`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigureResponse {
    /// What is set now.
    pub set: BTreeMap<String, Value>,
}

/// Answer of `DEVICE_CAPABILITIES`, whose request is a [`super::DeviceRequest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapabilitiesResponse {
    /// What its owner can do with the device.
    pub caps: BTreeMap<String, Value>,
}

macro_rules! payload {
    ($($name:ident),*) => {$(
        impl $name {
            /// The payload.
            ///
            /// # Errors
            /// [`EncodeError`] when a value has a map with a key twice.
            pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
                msgpack::encode(self)
            }

            /// Reads a payload.
            ///
            /// # Errors
            /// [`DecodeError`] for another shape.
            pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
                msgpack::decode(payload)
            }
        }
    )*};
}

payload!(ConfigureRequest, ConfigureResponse, CapabilitiesResponse);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_any_shape_survive() {
        let set = BTreeMap::from([
            (TITLE.to_owned(), Value::from("the left printer")),
            ("other".to_owned(), Value::Array(vec![Value::Nil])),
        ]);
        let request = ConfigureRequest {
            dev: "usb:1".to_owned(),
            set: set.clone(),
        };
        let read = ConfigureRequest::decode(&request.encode().unwrap()).unwrap();
        assert_eq!(read, request);
        let response = ConfigureResponse { set: set.clone() };
        let read = ConfigureResponse::decode(&response.encode().unwrap()).unwrap();
        assert_eq!(read, response);
        let capabilities = CapabilitiesResponse { caps: set };
        let read = CapabilitiesResponse::decode(&capabilities.encode().unwrap()).unwrap();
        assert_eq!(read, capabilities);
    }

    #[test]
    fn a_request_without_a_map_is_refused() {
        assert!(ConfigureRequest::decode(b"\x81\xa3dev\xa1x").is_err());
        assert!(ConfigureRequest::decode(b"\x82\xa3dev\xa1x\xa3set\x90").is_err());
    }
}
