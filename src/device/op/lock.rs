//! `DEVICE_LOCK` and `DEVICE_UNLOCK` (profile 17.3, 19.2).

use core::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::wire::msgpack::{self, DecodeError, EncodeError};

/// The longest a lock lasts without renewal, in milliseconds (profile 17.3).
pub const MAX_TTL_MS: u32 = 3_600_000;
/// The longest that a request for a lock waits, in milliseconds; a longer `wait` is cut to this.
pub const MAX_WAIT_MS: u32 = 3_600_000;

/// What proves that a lock is one's own, together with the node-id.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockToken(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl PartialEq for LockToken {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for LockToken {}

impl fmt::Debug for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockToken(..)")
    }
}

/// Request of `DEVICE_LOCK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRequest {
    /// The device.
    pub dev: String,
    /// How long the lock is to last without renewal, in milliseconds: 1 to [`MAX_TTL_MS`].
    pub ttl: u32,
    /// How long to wait for it, in milliseconds.
    #[serde(default)]
    pub wait: u32,
    /// Renews the lock with this token instead of asking for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockToken>,
    /// Answers with MORE tell of the place in the queue before the final one. Not in the profile, so
    /// that only who asks for it gets more than one answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pos: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl LockRequest {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape, [`DecodeError::Range`] for a `ttl` out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut request: Self = msgpack::decode(payload)?;
        if !(1..=MAX_TTL_MS).contains(&request.ttl) {
            return Err(DecodeError::Range);
        }
        request.wait = request.wait.min(MAX_WAIT_MS);
        Ok(request)
    }
}

/// Final answer of `DEVICE_LOCK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockResponse {
    /// Renews and releases the lock.
    pub lock: LockToken,
    /// Greater than that of every lock that this owner gave before.
    pub fence: u64,
    /// How long it lasts from now on without renewal, in milliseconds.
    pub ttl: u32,
}

impl LockResponse {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`] for another shape, [`DecodeError::Range`] for a `ttl` out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let response: Self = msgpack::decode(payload)?;
        if (1..=MAX_TTL_MS).contains(&response.ttl) {
            Ok(response)
        } else {
            Err(DecodeError::Range)
        }
    }
}

/// An answer with MORE to a `DEVICE_LOCK` that has `pos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    /// How many are served before: 0 is the next.
    pub pos: u32,
}

impl QueuePosition {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
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

/// Request of `DEVICE_UNLOCK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockRequest {
    /// The device.
    pub dev: String,
    /// The lock; a node with the role `admin` may leave it out to break whichever there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockToken>,
}

impl UnlockRequest {
    /// The payload.
    ///
    /// # Errors
    /// None that a value of this type causes.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> LockRequest {
        LockRequest {
            dev: "can:can0".to_owned(),
            ttl: 600_000,
            wait: 5,
            lock: Some(LockToken([9; 16])),
            pos: true,
        }
    }

    #[test]
    fn requests_and_answers_survive() {
        let read = LockRequest::decode(&request().encode().unwrap()).unwrap();
        assert_eq!(read, request());
        let response = LockResponse {
            lock: LockToken([1; 16]),
            fence: u64::MAX,
            ttl: MAX_TTL_MS,
        };
        let read = LockResponse::decode(&response.encode().unwrap()).unwrap();
        assert_eq!(read, response);
        let unlock = UnlockRequest {
            dev: "can:can0".to_owned(),
            lock: Some(LockToken([1; 16])),
        };
        let read = UnlockRequest::decode(&unlock.encode().unwrap()).unwrap();
        assert_eq!(read, unlock);
        let position = QueuePosition { pos: 4 };
        let read = QueuePosition::decode(&position.encode().unwrap()).unwrap();
        assert_eq!(read, position);
    }

    #[test]
    fn the_request_of_the_profile_has_no_further_keys() {
        let plain = LockRequest {
            lock: None,
            pos: false,
            wait: 0,
            ..request()
        };
        let payload = plain.encode().unwrap();
        let mut keys = b"\x83\xa3dev\xa8can:can0\xa3ttl\xce\x00\x09\x27\xc0\xa4wait\x00".to_vec();
        assert_eq!(payload, keys);
        // Without a wait, too.
        keys.truncate(keys.len() - 6);
        keys[0] = 0x82;
        assert_eq!(LockRequest::decode(&keys), Ok(plain));
    }

    #[test]
    fn a_ttl_out_of_range_is_refused_and_a_long_wait_is_cut() {
        for (ttl, result) in [
            (0, Err(DecodeError::Range)),
            (MAX_TTL_MS + 1, Err(DecodeError::Range)),
            (MAX_TTL_MS, Ok(MAX_WAIT_MS)),
        ] {
            let wait = u32::MAX;
            let asked = LockRequest {
                ttl,
                wait,
                ..request()
            };
            let read = LockRequest::decode(&asked.encode().unwrap());
            assert_eq!(read.map(|read| read.wait), result);
        }
    }

    #[test]
    fn a_token_is_sixteen_bytes_and_is_not_printed() {
        let short = b"\x82\xa3dev\xa1x\xa4lock\xc4\x0f123456789012345";
        assert!(UnlockRequest::decode(short).is_err());
        assert!(!format!("{:?}", request()).contains('9'));
    }
}
