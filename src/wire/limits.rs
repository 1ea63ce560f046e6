//! The limits that both sides announce in the handshake (profile 6.4 and 18).

use serde::{Deserialize, Deserializer, Serialize};

/// Largest message before a session is authenticated, in bytes (profile 15.2 and 18).
pub const MAX_UNAUTHENTICATED_MESSAGE: usize = 4096;
/// Bytes a sealed message may be longer than `rec` on a byte stream (profile 15.2).
pub const MESSAGE_MARGIN: usize = 128;
/// Largest number of frames in one record by default and at most (profile 18).
pub const FRAMES_PER_RECORD: (usize, usize) = (4096, 16384);
/// Unfinished fragmented units per direction (profile 13.1).
pub const REASSEMBLIES: usize = 8;
/// Unknown-stream frames or unknown operations before the session is closed (profile 11.1, 18).
pub const MAX_UNKNOWN: u32 = 100;
/// CREDIT, CANCEL, RESET, PAD, NOP frames without effect per second (profile 18).
pub const MAX_IDLE_FRAMES_PER_SECOND: u32 = 1000;
/// Certificate chain: objects and bytes (profile 18).
pub const CERT_CHAIN: (usize, usize) = (2, 2048);
/// Entries in a list of capabilities, profiles or roles (profile 18).
pub const MAX_LIST: usize = 32;
/// Bytes that an operation without a declared answer length counts against `rqb` (profile 11.2).
pub const UNDECLARED_REPLY: u32 = 65536;

/// `limits` of profile 6.4; every value is clamped to the bounds of profile 18 before use and is
/// never taken as an allocation size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Initial credit of a stream, bytes.
    #[serde(deserialize_with = "saturating")]
    pub cr: u32,
    /// Largest reassembled or decompressed unit, bytes.
    #[serde(deserialize_with = "saturating")]
    pub msg: u32,
    /// Largest plaintext of one sealed message, bytes.
    #[serde(deserialize_with = "saturating")]
    pub rec: u32,
    /// Outstanding requests.
    #[serde(deserialize_with = "saturating")]
    pub req: u32,
    /// Bytes of outstanding requests and their declared answers.
    #[serde(deserialize_with = "saturating")]
    pub rqb: u32,
    /// Initial session credit, bytes.
    #[serde(deserialize_with = "saturating")]
    pub scr: u32,
    /// Open streams.
    #[serde(deserialize_with = "saturating")]
    pub str: u32,
}

impl Limits {
    /// The defaults of profile 18.
    pub const DEFAULT: Self = Self {
        cr: 256 << 10,
        msg: 1 << 20,
        rec: 64 << 10,
        req: 256,
        rqb: 8 << 20,
        scr: 4 << 20,
        str: 256,
    };

    /// The values moved into the hard bounds of profile 18. A peer may announce less than our
    /// default for anything, so the lower bound is what still lets a session work.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            cr: self.cr.min(16 << 20),
            msg: self.msg.clamp(4 << 10, 16 << 20),
            rec: self.rec.clamp(4 << 10, 1 << 20),
            req: self.req.clamp(1, 4096),
            rqb: self.rqb.clamp(64 << 10, 64 << 20),
            scr: self.scr.min(64 << 20),
            str: self.str.clamp(1, 4096),
        }
    }
}

/// A peer may announce more than 32 bits hold; it is clamped anyway.
fn saturating<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = u64::deserialize(deserializer)?;
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::msgpack;

    #[test]
    fn values_beyond_32_bits_are_no_error_and_missing_ones_are_defaults() {
        let limits = msgpack::decode::<Limits>(b"\x81\xa3rec\xcf\x01\0\0\0\0\0\0\0").unwrap();
        assert_eq!(limits.rec, u32::MAX);
        assert_eq!(limits.msg, Limits::DEFAULT.msg);
    }

    #[test]
    fn hostile_values_land_in_the_bounds_of_the_profile() {
        let huge = Limits {
            cr: u32::MAX,
            msg: u32::MAX,
            rec: u32::MAX,
            req: u32::MAX,
            rqb: u32::MAX,
            scr: u32::MAX,
            str: u32::MAX,
        };
        let top = huge.clamped();
        assert_eq!((top.cr, top.msg, top.rec), (16 << 20, 16 << 20, 1 << 20));
        assert_eq!(
            (top.req, top.rqb, top.scr, top.str),
            (4096, 64 << 20, 64 << 20, 4096)
        );
        let zero = Limits {
            cr: 0,
            msg: 0,
            rec: 0,
            req: 0,
            rqb: 0,
            scr: 0,
            str: 0,
        }
        .clamped();
        assert_eq!((zero.rec, zero.req, zero.str), (4096, 1, 1));
        assert_eq!(Limits::DEFAULT.clamped(), Limits::DEFAULT);
    }
}
