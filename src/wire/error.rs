//! The error map: the payload of a failed RESPONSE, of a RESET, and of `SESSION_CLOSE` (profile 10.3).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::flags::Tier;
use super::msgpack::{self, DecodeError, EncodeError, Value};
use super::status::Status;

/// Bytes of `msg`.
pub const MAX_MSG: usize = 256;

/// What a failure carries besides its [`Status`].
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ErrorMap {
    /// Refines the status; one of [`sub`](super::status::sub), or a later version's.
    #[serde(default)]
    pub sub: Cow<'static, str>,
    /// For humans, in English, at most [`MAX_MSG`] bytes; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// With sub-code "tier": the least tier at which to repeat the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_tier: Option<u8>,
    /// When to try again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// Depends on the sub-code; with "device-io" the errno.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    /// The status, when the map stands in `SESSION_CLOSE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
}

impl ErrorMap {
    /// An error with nothing but a sub-code of [`sub`](super::status::sub).
    pub const fn new(sub: &'static str) -> Self {
        Self {
            sub: Cow::Borrowed(sub),
            msg: None,
            required_tier: None,
            retry_ms: None,
            detail: None,
            code: None,
        }
    }

    /// With a sentence for humans; cut to [`MAX_MSG`] bytes.
    #[must_use]
    pub fn with_msg(mut self, msg: impl Into<String>) -> Self {
        self.msg = Some(cut(msg.into()));
        self
    }

    /// With the tier that the operation needs (draft section 8).
    #[must_use]
    pub const fn with_required_tier(mut self, tier: Tier) -> Self {
        self.required_tier = Some(tier.to_u8());
        self
    }

    /// With the time after which to try again, in milliseconds.
    #[must_use]
    pub const fn with_retry_ms(mut self, millis: u64) -> Self {
        self.retry_ms = Some(millis);
        self
    }

    /// With a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Value>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With the status, for `SESSION_CLOSE`.
    #[must_use]
    pub const fn with_code(mut self, status: Status) -> Self {
        self.code = Some(status.to_u8());
        self
    }

    /// The status that `SESSION_CLOSE` carries.
    pub fn status(&self) -> Option<Status> {
        self.code.map(Status::from_u8)
    }

    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when `detail` has a map with a key twice.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload; an empty one is the empty map, as in a RESET without explanation. A longer
    /// `msg` is cut.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is not an error map.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut error: Self = msgpack::decode_or_default(payload)?;
        error.msg = error.msg.map(cut);
        Ok(error)
    }
}

fn cut(mut msg: String) -> String {
    let end = (0..=MAX_MSG.min(msg.len()))
        .rev()
        .find(|end| msg.is_char_boundary(*end));
    msg.truncate(end.unwrap_or_default());
    msg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::sub;

    #[test]
    fn the_map_of_test_vector_14_survives() {
        let error = ErrorMap::new(sub::TIER).with_required_tier(Tier::T4);
        let payload = error.encode().unwrap();
        assert_eq!(payload, b"\x82\xa3sub\xa4tier\xadrequired-tier\x04");
        assert_eq!(ErrorMap::decode(&payload), Ok(error));
    }

    #[test]
    fn every_field_survives() {
        let error = ErrorMap::new(sub::DEVICE_IO)
            .with_msg("the device did not answer")
            .with_retry_ms(500)
            .with_detail(110i64)
            .with_code(Status::InternalError);
        let read = ErrorMap::decode(&error.encode().unwrap()).unwrap();
        assert_eq!(read, error);
        assert_eq!(read.status(), Some(Status::InternalError));
        assert_eq!(read.detail.and_then(|detail| detail.as_i64()), Some(110));
    }

    #[test]
    fn a_reset_without_explanation_is_the_empty_map() {
        assert_eq!(ErrorMap::decode(&[]), Ok(ErrorMap::default()));
        assert_eq!(ErrorMap::decode(&[0x80]), Ok(ErrorMap::default()));
        assert!(ErrorMap::decode(&[0x90]).is_err());
    }

    #[test]
    fn msg_256_is_the_limit_and_cuts_between_characters() {
        let long = format!("{}äx", "a".repeat(255));
        assert_eq!(ErrorMap::new("").with_msg(&long).msg.unwrap().len(), 255);
        let fits = "a".repeat(256);
        assert_eq!(ErrorMap::new("").with_msg(&fits).msg.unwrap(), fits);
        let received = msgpack::encode(&std::collections::BTreeMap::from([("msg", long)])).unwrap();
        assert_eq!(ErrorMap::decode(&received).unwrap().msg.unwrap().len(), 255);
    }

    #[test]
    fn an_unknown_sub_code_is_kept() {
        assert_eq!(ErrorMap::decode(b"\x81\xa3sub\xa3new").unwrap().sub, "new");
    }
}
