//! The two numbers by which frames name what they belong to.

use core::fmt;

/// Both kinds of number stay below this, so that they fit a four-byte varint (profile 9.2).
pub(super) const ID_END: u32 = 1 << 30;

/// A stream of the session (profile 11.1): 0 is control, odd ids were opened by the initiator,
/// even ones by the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl StreamId {
    /// Stream 0, always open.
    pub const CONTROL: Self = Self(0);

    /// True for stream 0.
    pub const fn is_control(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// Names one request among those that its sender has outstanding (profile 10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Corr(pub u32);

impl fmt::Display for Corr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corr {}", self.0)
    }
}
