//! The flags byte that opens every message and every frame (draft 3.1, profile 3.1).

use core::fmt;

/// Bytes of a Poly1305 tag.
pub const TAG_LEN: usize = 16;

/// One of the draft's six security tiers (draft 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// Frame inside a sealed record.
    T0 = 0,
    /// Four bytes, no protection.
    T1 = 1,
    /// Six bytes and a CRC: negotiation only.
    T2 = 2,
    /// Twelve bytes, sealed, HMAC-32: the normal carrier.
    T3 = 3,
    /// 48 bytes, sealed, HMAC-64: key exchange and administrative acts.
    T4 = 4,
    /// 64 bytes, sealed, HMAC-256.
    T5 = 5,
}

impl Tier {
    /// The tier with the given number, `None` for 6 and above.
    pub const fn from_u8(tier: u8) -> Option<Self> {
        match tier {
            0 => Some(Self::T0),
            1 => Some(Self::T1),
            2 => Some(Self::T2),
            3 => Some(Self::T3),
            4 => Some(Self::T4),
            5 => Some(Self::T5),
            _ => None,
        }
    }

    /// The number, 0–5.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// Bytes of the header; at Tier 5 the tag is its last 16 (profile 3.2–3.5).
    pub const fn header_len(self) -> usize {
        match self {
            Self::T0 => 1,
            Self::T1 => 4,
            Self::T2 => 6,
            Self::T3 => 12,
            Self::T4 => 48,
            Self::T5 => 64,
        }
    }

    /// Bytes of the header that are associated data of a sealed message: all but the tag.
    pub const fn aad_len(self) -> usize {
        match self {
            Self::T5 => 48,
            Self::T0 | Self::T1 | Self::T2 | Self::T3 | Self::T4 => self.header_len(),
        }
    }

    /// Bytes behind the payload or ciphertext: CRC at Tier 2, HMAC at Tier 3 and above, without the
    /// tag that stands before the HMAC of sealed Tier 3 and 4 messages.
    pub const fn trailer_len(self) -> usize {
        match self {
            Self::T0 | Self::T1 => 0,
            Self::T2 => 2,
            Self::T3 => 4,
            Self::T4 => 8,
            Self::T5 => 32,
        }
    }

    /// Bytes by which a message is longer than its payload: 32, 72 and 96 sealed (profile 3.4, 3.5).
    pub const fn overhead(self) -> usize {
        let tag = match self {
            Self::T3 | Self::T4 => TAG_LEN,
            Self::T0 | Self::T1 | Self::T2 | Self::T5 => 0,
        };
        self.header_len() + tag + self.trailer_len()
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tier {}", self.to_u8())
    }
}

/// The decoded flags byte: `V` 0xC0, `T` 0x38, `C` 0x04, `F` 0x02, `E` 0x01 (profile A-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The header form that follows.
    pub tier: Tier,
    /// C: the payload is a compression container (profile 13.2).
    pub compressed: bool,
    /// F: a fragment header follows (profile 13.1).
    pub fragment: bool,
    /// E: the payload is sealed.
    pub encrypted: bool,
}

/// Why a flags byte is not acceptable (profile 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// The version bits are not 0.
    #[error("version {0} is not 0")]
    Version(u8),
    /// Tiers 6 and 7 do not exist.
    #[error("tier {0} does not exist")]
    Tier(u8),
}

impl Flags {
    /// Flags of a sealed message at the given tier, without C and F.
    pub const fn sealed(tier: Tier) -> Self {
        Self {
            tier,
            compressed: false,
            fragment: false,
            encrypted: true,
        }
    }

    /// Flags of an unsealed message or a plain frame at the given tier.
    pub const fn plain(tier: Tier) -> Self {
        Self {
            tier,
            compressed: false,
            fragment: false,
            encrypted: false,
        }
    }

    /// Decodes the byte. Which combinations a tier allows is the header's business.
    ///
    /// # Errors
    /// [`FlagsError`] when the version is not 0 or the tier is 6 or 7.
    pub const fn parse(byte: u8) -> Result<Self, FlagsError> {
        if byte >> 6 != 0 {
            return Err(FlagsError::Version(byte >> 6));
        }
        let number = (byte >> 3) & 7;
        match Tier::from_u8(number) {
            None => Err(FlagsError::Tier(number)),
            Some(tier) => Ok(Self {
                tier,
                compressed: byte & 0x04 != 0,
                fragment: byte & 0x02 != 0,
                encrypted: byte & 0x01 != 0,
            }),
        }
    }

    /// The byte on the wire.
    pub const fn to_u8(self) -> u8 {
        (self.tier.to_u8() << 3)
            | ((self.compressed as u8) << 2)
            | ((self.fragment as u8) << 1)
            | self.encrypted as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_those_of_the_profile_table() {
        assert_eq!(Flags::plain(Tier::T0).to_u8(), 0x00);
        assert_eq!(Flags::plain(Tier::T1).to_u8(), 0x08);
        assert_eq!(Flags::plain(Tier::T2).to_u8(), 0x10);
        assert_eq!(Flags::sealed(Tier::T3).to_u8(), 0x19);
        assert_eq!(Flags::plain(Tier::T4).to_u8(), 0x20);
        assert_eq!(Flags::sealed(Tier::T4).to_u8(), 0x21);
        assert_eq!(Flags::sealed(Tier::T5).to_u8(), 0x29);
    }

    #[test]
    fn overheads_are_those_of_the_profile() {
        assert_eq!(
            [Tier::T0, Tier::T1, Tier::T2, Tier::T3, Tier::T4, Tier::T5].map(Tier::overhead),
            [1, 4, 8, 32, 72, 96]
        );
        assert_eq!(
            [Tier::T3, Tier::T4, Tier::T5].map(Tier::aad_len),
            [12, 48, 48]
        );
    }

    #[test]
    fn every_byte_is_refused_or_survives() {
        for byte in 0..=u8::MAX {
            match Flags::parse(byte) {
                Ok(flags) => assert_eq!(flags.to_u8(), byte),
                Err(FlagsError::Version(version)) => assert_eq!(version, byte >> 6),
                Err(FlagsError::Tier(tier)) => assert!(tier >= 6),
            }
        }
    }
}
