//! Status codes (draft 9.1) and the sub-codes that refine them (profile 10.3).

use core::fmt;

/// An 8-bit status. `0x00`–`0x0F` is success; everything else is a failure (profile 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0x00 Operation completed successfully.
    Ok,
    /// 0x10 Malformed message or invalid parameters.
    BadRequest,
    /// 0x11 Authentication required or failed.
    Unauthorized,
    /// 0x12 Insufficient permissions or tier.
    Forbidden,
    /// 0x13 Requested resource does not exist.
    NotFound,
    /// 0x17 Session expired or invalid.
    InvalidSession,
    /// 0x20 Server encountered an unexpected error.
    InternalError,
    /// 0x21 Service temporarily unavailable.
    ServiceUnavailable,
    /// 0x22 Operation timed out.
    Timeout,
    /// Any other number; [`Status::class`] tells how to treat it.
    Other(u8),
}

/// How a status is to be treated when its exact number is not known (profile 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// 0x00–0x0F.
    Success,
    /// 0x10–0x1F: repeating the same request is pointless.
    Permanent,
    /// Everything else: temporary, treated like `INTERNAL_ERROR`.
    Temporary,
}

impl Status {
    /// The status with the given number.
    pub const fn from_u8(code: u8) -> Self {
        match code {
            0x00 => Self::Ok,
            0x10 => Self::BadRequest,
            0x11 => Self::Unauthorized,
            0x12 => Self::Forbidden,
            0x13 => Self::NotFound,
            0x17 => Self::InvalidSession,
            0x20 => Self::InternalError,
            0x21 => Self::ServiceUnavailable,
            0x22 => Self::Timeout,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Ok => 0x00,
            Self::BadRequest => 0x10,
            Self::Unauthorized => 0x11,
            Self::Forbidden => 0x12,
            Self::NotFound => 0x13,
            Self::InvalidSession => 0x17,
            Self::InternalError => 0x20,
            Self::ServiceUnavailable => 0x21,
            Self::Timeout => 0x22,
            Self::Other(code) => code,
        }
    }

    /// Success, permanent or temporary failure.
    pub const fn class(self) -> StatusClass {
        match self.to_u8() {
            0x00..=0x0F => StatusClass::Success,
            0x10..=0x1F => StatusClass::Permanent,
            0x20..=0xFF => StatusClass::Temporary,
        }
    }

    /// True for 0x00–0x0F.
    pub const fn is_success(self) -> bool {
        matches!(self.class(), StatusClass::Success)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::BadRequest => "BAD_REQUEST",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidSession => "INVALID_SESSION",
            Self::InternalError => "INTERNAL_ERROR",
            Self::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::Other(code) => return write!(f, "status 0x{code:02x}"),
        })
    }
}

/// The sub-codes of profile 10.3, as they stand in the error map's `sub`.
pub mod sub {
    macro_rules! subs {
        ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
            $($(#[doc = $doc])* pub const $name: &str = $text;)*
            /// Every sub-code of profile 10.3.
            pub const ALL: &[&str] = &[$($text),*];
        };
    }
    subs! {
        /// `BAD_REQUEST`: the opcode has no meaning here.
        UNKNOWN_OP = "unknown-op";
        /// `BAD_REQUEST`: the payload does not fit the operation.
        BAD_PAYLOAD = "bad-payload";
        /// `BAD_REQUEST`: a limit of profile 18 would be exceeded.
        LIMIT = "limit";
        /// `BAD_REQUEST`: credit was exceeded.
        FLOW_CONTROL = "flow-control";
        /// `BAD_REQUEST`: the stream is not in a state that allows this.
        STREAM_STATE = "stream-state";
        /// `BAD_REQUEST`: contradicting fragments.
        FRAGMENT = "fragment";
        /// `BAD_REQUEST`: a compressed payload is wrong or too large.
        DECOMPRESS = "decompress";
        /// `BAD_REQUEST`: a known operation that this node or path does not offer.
        UNSUPPORTED = "unsupported";
        /// `BAD_REQUEST`: the peer did not offer profile 1.
        PROFILE_REQUIRED = "profile-required";
        /// `BAD_REQUEST`: both clocks are synchronised and disagree.
        CLOCK_SKEW = "clock-skew";
        /// `BAD_REQUEST`: the other session of a simultaneous open is kept.
        DUPLICATE = "duplicate";
        /// UNAUTHORIZED: this peer must mix a PSK.
        PSK_REQUIRED = "psk-required";
        /// UNAUTHORIZED: the certificate is on the revocation list.
        REVOKED = "revoked";
        /// UNAUTHORIZED: certificate or session lifetime is over.
        EXPIRED = "expired";
        /// UNAUTHORIZED: no pinned root for that family.
        UNKNOWN_FAMILY = "unknown-family";
        /// FORBIDDEN: the record's tier is below the operation's minimum.
        TIER = "tier";
        /// FORBIDDEN: no ACL entry grants this.
        ACL = "acl";
        /// FORBIDDEN: somebody else uses the device.
        EXCLUSIVE = "exclusive";
        /// FORBIDDEN: somebody else holds the lock.
        LOCK_HELD = "lock-held";
        /// FORBIDDEN: the presented lock is no longer valid.
        LOCK_LOST = "lock-lost";
        /// FORBIDDEN: this session may only enrol.
        ENROL_ONLY = "enrol-only";
        /// FORBIDDEN: the device is now routed to another node.
        REROUTED = "rerouted";
        /// FORBIDDEN: the record exceeds the operation's maximum age.
        TOO_OLD = "too-old";
        /// `NOT_FOUND`: no such device, or none that the caller may see.
        DEVICE = "device";
        /// `NOT_FOUND`: no such stream.
        STREAM = "stream";
        /// `NOT_FOUND`: no such route.
        ROUTE = "route";
        /// `NOT_FOUND`: no such lock.
        LOCK = "lock";
        /// `NOT_FOUND`: no such model.
        MODEL = "model";
        /// `INVALID_SESSION`: the ticket is unknown, used or expired.
        TICKET = "ticket";
        /// `INVALID_SESSION`: no such session.
        SESSION = "session";
        /// `INTERNAL_ERROR`: the device answered with an errno (in `detail`).
        DEVICE_IO = "device-io";
        /// `INTERNAL_ERROR`: a fault in this program.
        INTERNAL = "internal";
        /// `SERVICE_UNAVAILABLE`: try again later.
        BUSY = "busy";
        /// `SERVICE_UNAVAILABLE`: the device was unplugged.
        DEVICE_GONE = "device-gone";
        /// `SERVICE_UNAVAILABLE`: the daemon is stopping.
        SHUTTING_DOWN = "shutting-down";
        /// TIMEOUT: the operation took too long.
        TIMEOUT = "timeout";
        /// TIMEOUT: the requester cancelled.
        CANCELLED = "cancelled";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_both_ways() {
        for code in 0..=u8::MAX {
            assert_eq!(Status::from_u8(code).to_u8(), code);
        }
    }

    #[test]
    fn unknown_numbers_fall_into_the_class_of_their_range() {
        assert!(Status::from_u8(0x0F).is_success());
        assert_eq!(Status::from_u8(0x14).class(), StatusClass::Permanent);
        assert_eq!(Status::from_u8(0x2F).class(), StatusClass::Temporary);
        assert_eq!(Status::from_u8(0xF0).class(), StatusClass::Temporary);
    }
}
