//! What the headers of Tiers 1 to 5 share: the first twelve bytes of Tiers 3 to 5, the table of
//! allowed flags, and the errors.

use core::fmt;

use super::flags::{Flags, FlagsError, Tier};
use super::opcode::Opcode;

/// Why a message's header is not acceptable: the message is discarded, on an ordered path the path
/// is closed (profile 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than the tier's header and trailer.
    #[error("a {tier} message of {length} bytes")]
    Short {
        /// Of the flags byte.
        tier: Tier,
        /// Bytes of the message.
        length: usize,
    },
    /// No byte at all.
    #[error("an empty message")]
    Empty,
    /// Wrong version or no such tier.
    #[error("wrong flags")]
    Flags(#[from] FlagsError),
    /// The flags are not those of the parser's tier.
    #[error("a header of {0}")]
    Tier(Tier),
    /// Flags and opcode do not go together (table of profile 3.1).
    #[error("flags 0x{:02x} with {opcode}", flags.to_u8())]
    NotAllowed {
        /// As received.
        flags: Flags,
        /// As received.
        opcode: Opcode,
    },
    /// The CRC of a Tier 2 message is wrong.
    #[error("wrong CRC")]
    Crc,
}

/// The table of profile 3.1: which flags go with which opcode on a path.
///
/// A bare Tier 0 message is never allowed. Tier 1 is allowed here for the opcodes of an "open zone"
/// only (profile 3.2); whether there is one is the operator's decision.
///
/// # Errors
/// [`HeaderError::NotAllowed`].
pub const fn allowed(flags: Flags, opcode: Opcode) -> Result<(), HeaderError> {
    let plain = !flags.compressed && !flags.fragment;
    let fits = match flags.tier {
        Tier::T0 => false,
        Tier::T1 => {
            plain
                && !flags.encrypted
                && matches!(opcode.to_u16(), 0x0100..=0x01FF | 0xF010..=0xFFFE)
        }
        Tier::T2 => {
            plain
                && !flags.encrypted
                && matches!(
                    opcode,
                    Opcode::SessionInit | Opcode::SessionAck | Opcode::SessionClose | Opcode::Nop
                )
        }
        Tier::T4 if opcode.is_handshake() => plain && !flags.encrypted,
        Tier::T3 | Tier::T4 | Tier::T5 => {
            flags.encrypted && (plain || !matches!(opcode, Opcode::Record))
        }
    };
    if fits {
        Ok(())
    } else {
        Err(HeaderError::NotAllowed { flags, opcode })
    }
}

/// Bytes of the prefix.
pub const PREFIX_LEN: usize = 12;

/// The first twelve bytes of Tier 3, 4 and 5 headers (profile 3.4).
///
/// | Offset | Size | Field |
/// |---|---|---|
/// | 0 | 1 | flags |
/// | 1 | 2 | operation code |
/// | 3 | 1 | sequence |
/// | 4 | 2 | session id |
/// | 6 | 4 | timestamp |
/// | 10 | 2 | nonce |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Tier, C, F and E.
    pub flags: Flags,
    /// The operation, [`Opcode::Record`] for a container of frames.
    pub opcode: Opcode,
    /// Counter bits 0–7; 0, 1, 2 in the handshake.
    pub sequence: u8,
    /// Unique on the path; 0 is none.
    pub session_id: u16,
    /// Session clock in seconds, modulo 2^32 (profile 16).
    pub timestamp: u32,
    /// Counter bits 8–23 masked (profile 8.1); 16 random bits in the handshake.
    pub nonce: u16,
}

impl Prefix {
    /// Reads the prefix of a message that must be of `tier`, as long as that tier's header and
    /// trailer, and allowed by the table of profile 3.1.
    pub(super) fn parse(message: &[u8], tier: Tier) -> Result<Self, HeaderError> {
        let flags = flags_of(message, tier)?;
        let short = HeaderError::Short {
            tier,
            length: message.len(),
        };
        let ([_, o0, o1, sequence, s0, s1, t0, t1, t2, t3, n0, n1], _) =
            message.split_first_chunk::<PREFIX_LEN>().ok_or(short)?;
        let opcode = Opcode::from_u16(u16::from_be_bytes([*o0, *o1]));
        allowed(flags, opcode)?;
        if message.len() < least(flags) {
            return Err(short);
        }
        Ok(Self {
            flags,
            opcode,
            sequence: *sequence,
            session_id: u16::from_be_bytes([*s0, *s1]),
            timestamp: u32::from_be_bytes([*t0, *t1, *t2, *t3]),
            nonce: u16::from_be_bytes([*n0, *n1]),
        })
    }

    /// The prefix on the wire.
    pub const fn to_bytes(&self) -> [u8; PREFIX_LEN] {
        let [o0, o1] = self.opcode.to_u16().to_be_bytes();
        let [s0, s1] = self.session_id.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [n0, n1] = self.nonce.to_be_bytes();
        [
            self.flags.to_u8(),
            o0,
            o1,
            self.sequence,
            s0,
            s1,
            t0,
            t1,
            t2,
            t3,
            n0,
            n1,
        ]
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} seq {} session {:04x} time {} nonce {:04x}",
            self.flags.tier,
            self.opcode,
            self.sequence,
            self.session_id,
            self.timestamp,
            self.nonce
        )
    }
}

/// The flags of a message that must be of `tier`.
pub(super) fn flags_of(message: &[u8], tier: Tier) -> Result<Flags, HeaderError> {
    let flags = Flags::parse(*message.first().ok_or(HeaderError::Empty)?)?;
    if flags.tier == tier {
        Ok(flags)
    } else {
        Err(HeaderError::Tier(flags.tier))
    }
}

/// Bytes of the shortest message with these flags.
const fn least(flags: Flags) -> usize {
    if flags.encrypted {
        flags.tier.overhead()
    } else {
        flags.tier.header_len() + flags.tier.trailer_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table in profile 3.1.
    fn row(flags: Flags, opcode: Opcode) -> bool {
        let carries = flags.compressed || flags.fragment;
        let open_zone = (0x0100..0x0200).contains(&opcode.to_u16())
            || (0xF010..0xFFFF).contains(&opcode.to_u16());
        match flags.to_u8() & !0x06 {
            0x08 => !carries && open_zone,
            0x10 => !carries && [0x0000, 0x0003, 0x0004, 0x0005].contains(&opcode.to_u16()),
            0x19 | 0x29 => !(carries && opcode == Opcode::Record),
            0x20 => !carries && opcode.is_handshake(),
            0x21 => !(opcode.is_handshake() || carries && opcode == Opcode::Record),
            _ => false,
        }
    }

    #[test]
    fn flags_and_opcodes_go_together_as_in_the_table() {
        for flags in (0..=u8::MAX).filter_map(|byte| Flags::parse(byte).ok()) {
            for opcode in (0..=u16::MAX).map(Opcode::from_u16) {
                assert_eq!(
                    allowed(flags, opcode).is_ok(),
                    row(flags, opcode),
                    "{flags:?} {opcode}"
                );
            }
        }
    }
}
