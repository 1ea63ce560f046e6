//! Requests that a server half does not perform.

use nix::errno::Errno;

use crate::wire::error::ErrorMap;
use crate::wire::status::{Status, sub};

/// A request that was not performed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} ({sub}): {msg}")]
pub struct Refused {
    /// The status of the answer.
    pub status: Status,
    /// Its sub-code.
    pub sub: &'static str,
    /// For people.
    pub msg: String,
    /// The errno of a `device-io`.
    pub errno: Option<Errno>,
}

impl Refused {
    /// With that status, sub-code and text.
    pub fn new(status: Status, sub: &'static str, msg: impl Into<String>) -> Self {
        Self {
            status,
            sub,
            msg: msg.into(),
            errno: None,
        }
    }

    /// The payload does not fit the operation or the device.
    pub fn bad(msg: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, sub::BAD_PAYLOAD, msg)
    }

    /// A valid request that is not served here.
    pub fn unsupported(msg: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, sub::UNSUPPORTED, msg)
    }

    /// What the kernel or the device said to `what`.
    pub fn io(what: &str, errno: Errno) -> Self {
        if errno == Errno::ENODEV {
            return Self::gone();
        }
        Self {
            errno: Some(errno),
            ..Self::new(
                Status::InternalError,
                sub::DEVICE_IO,
                format!("{what}: {}", errno.desc()),
            )
        }
    }

    /// The device was unplugged.
    pub fn gone() -> Self {
        Self::new(
            Status::ServiceUnavailable,
            sub::DEVICE_GONE,
            "the device was unplugged",
        )
    }

    /// The requester gave the request up before it was started.
    pub fn cancelled() -> Self {
        Self::new(Status::Timeout, sub::CANCELLED, "cancelled")
    }

    /// The error map (profile 10.3).
    pub fn error(&self) -> ErrorMap {
        let mut map = ErrorMap::new(self.sub).with_msg(self.msg.as_str());
        if let Some(errno) = self.errno {
            map = map.with_detail(i64::from(errno as i32));
        }
        map
    }

    /// The same as the payload of an answer.
    pub fn payload(&self) -> Vec<u8> {
        // Only a `detail` with a key twice cannot be encoded, and this one is a number.
        self.error().encode().unwrap_or_default()
    }
}

/// Runs what may wait on a thread that may.
pub(super) async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()))
}
