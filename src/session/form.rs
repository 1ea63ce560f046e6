//! The three sealed forms of a message (profile 3.4, 3.5).

use crate::wire::flags::Tier;

/// Bytes of a Poly1305 tag.
pub(crate) const TAG_LEN: usize = 16;

/// A tier that seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    T3,
    T4,
    T5,
}

impl Form {
    pub(crate) const fn of(tier: Tier) -> Option<Self> {
        match tier {
            Tier::T0 | Tier::T1 | Tier::T2 => None,
            Tier::T3 => Some(Self::T3),
            Tier::T4 => Some(Self::T4),
            Tier::T5 => Some(Self::T5),
        }
    }

    pub(crate) const fn tier(self) -> Tier {
        match self {
            Self::T3 => Tier::T3,
            Self::T4 => Tier::T4,
            Self::T5 => Tier::T5,
        }
    }

    /// Bytes before the ciphertext; at Tier 5 the tag is among them.
    pub(crate) const fn header_len(self) -> usize {
        match self {
            Self::T3 => 12,
            Self::T4 => 48,
            Self::T5 => 48 + TAG_LEN,
        }
    }

    /// Bytes of associated data, the header without a tag.
    pub(crate) const fn aad_len(self) -> usize {
        match self {
            Self::T3 => 12,
            Self::T4 | Self::T5 => 48,
        }
    }

    /// Bytes of the truncated HMAC.
    pub(crate) const fn trailer_len(self) -> usize {
        match self {
            Self::T3 => 4,
            Self::T4 => 8,
            Self::T5 => 32,
        }
    }

    /// Bytes behind the ciphertext.
    pub(crate) const fn tail_len(self) -> usize {
        match self {
            Self::T3 | Self::T4 => TAG_LEN + self.trailer_len(),
            Self::T5 => self.trailer_len(),
        }
    }

    /// Bytes a message is longer than its plaintext: 32, 72, 96 (profile 3.4, 3.5).
    pub(crate) const fn overhead(self) -> usize {
        self.header_len() + self.tail_len()
    }
}
