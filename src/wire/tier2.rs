//! Tier 2: six bytes and a CRC, for the negotiation only (draft 3.4, profile 3.3).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 1 | flags, 0x10 |
//! | 1 | 2 | operation code |
//! | 3 | 1 | sequence |
//! | 4 | 2 | session id |
//! | 6 | n | payload |
//! | 6 + n | 2 | CRC-16/IBM-3740 over all before |

use core::fmt;

use super::crc16;
use super::flags::{Flags, Tier};
use super::header::{HeaderError, allowed, flags_of};
use super::opcode::Opcode;

/// Bytes of the header.
pub const HEADER_LEN: usize = Tier::T2.header_len();
/// Bytes of the CRC.
pub const TRAILER_LEN: usize = Tier::T2.trailer_len();

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `SESSION_INIT`, `SESSION_ACK`, `SESSION_CLOSE` as a hint, or `NOP`.
    pub opcode: Opcode,
    /// 0 in the handshake (profile 6.1).
    pub sequence: u8,
    /// 0 in `SESSION_INIT`, the new session's in `SESSION_ACK`.
    pub session_id: u16,
}

impl Header {
    /// Reads a message, checks its CRC, and returns the header with the payload.
    ///
    /// # Errors
    /// [`HeaderError`] when it is short, of another tier, not allowed by profile 3.1, or damaged.
    pub fn parse(message: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let flags = flags_of(message, Tier::T2)?;
        let short = HeaderError::Short {
            tier: Tier::T2,
            length: message.len(),
        };
        let (covered, crc) = message.split_last_chunk::<TRAILER_LEN>().ok_or(short)?;
        let ([_, o0, o1, sequence, s0, s1], payload) =
            covered.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
        if crc16::checksum(covered) != u16::from_be_bytes(*crc) {
            return Err(HeaderError::Crc);
        }
        let opcode = Opcode::from_u16(u16::from_be_bytes([*o0, *o1]));
        allowed(flags, opcode)?;
        let header = Self {
            opcode,
            sequence: *sequence,
            session_id: u16::from_be_bytes([*s0, *s1]),
        };
        Ok((header, payload))
    }

    /// A whole message with its CRC.
    pub fn message(&self, payload: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER_LEN + payload.len() + TRAILER_LEN);
        message.push(Flags::plain(Tier::T2).to_u8());
        message.extend_from_slice(&self.opcode.to_u16().to_be_bytes());
        message.push(self.sequence);
        message.extend_from_slice(&self.session_id.to_be_bytes());
        message.extend_from_slice(payload);
        let crc = crc16::checksum(&message);
        message.extend_from_slice(&crc.to_be_bytes());
        message
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} seq {} session {:04x}",
            Tier::T2,
            self.opcode,
            self.sequence,
            self.session_id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: Header = Header {
        opcode: Opcode::SessionInit,
        sequence: 0,
        session_id: 0x4D43,
    };

    #[test]
    fn a_message_survives() {
        let message = INIT.message(b"payload");
        assert_eq!(message.len(), 7 + Tier::T2.overhead());
        assert_eq!(Header::parse(&message), Ok((INIT, &b"payload"[..])));
        assert_eq!(INIT.to_string(), "tier 2 SESSION_INIT seq 0 session 4d43");
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let message = INIT.message(b"x");
        for bit in 0..message.len() * 8 {
            let mut damaged = message.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_keyed_sessions_operations_are_not_accepted() {
        for opcode in [Opcode::Keepalive, Opcode::Record, Opcode::UsbReset] {
            let message = Header { opcode, ..INIT }.message(&[]);
            assert!(matches!(
                Header::parse(&message),
                Err(HeaderError::NotAllowed { .. })
            ));
        }
    }

    #[test]
    fn a_cut_message_is_short_or_damaged() {
        let message = INIT.message(&[]);
        assert_eq!(message.len(), 8);
        for end in 1..message.len() {
            let error = Header::parse(&message[..end]).unwrap_err();
            assert_eq!(
                error,
                HeaderError::Short {
                    tier: Tier::T2,
                    length: end
                }
            );
        }
    }
}
