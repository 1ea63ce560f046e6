//! A raw message of a path, told apart by its first byte (profile 3.1).

use core::ops::Range;

use super::flags::{Flags, TAG_LEN, Tier};
use super::header::{HeaderError, Prefix};
use super::{tier1, tier2, tier3, tier4, tier5};

/// A message whose header is allowed; nothing of it is authenticated yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Tier 1; refused unless the operator enabled an open zone.
    Open {
        /// Its fields.
        header: tier1::Header,
        /// MessagePack.
        payload: &'a [u8],
    },
    /// Tier 2 with a correct CRC: negotiation or a hint.
    Negotiation {
        /// Its fields.
        header: tier2::Header,
        /// MessagePack or empty.
        payload: &'a [u8],
    },
    /// Tier 4 of the handshake.
    Handshake(tier4::Handshake<'a>),
    /// Tier 3, 4 or 5 of a session.
    Sealed(Sealed),
}

/// The header of a sealed message and where its parts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its fields.
    pub header: SealedHeader,
    /// Its parts.
    pub layout: Layout,
}

/// The header of a sealed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedHeader {
    /// Tier 3.
    T3(tier3::Header),
    /// Tier 4.
    T4(tier4::Header),
    /// Tier 5.
    T5(tier5::Header),
}

impl SealedHeader {
    /// The fields that all three tiers have.
    pub const fn prefix(&self) -> &Prefix {
        match self {
            Self::T3(header) => &header.prefix,
            Self::T4(header) => &header.prefix,
            Self::T5(header) => &header.prefix,
        }
    }

    /// Key id and ephemeral key, which Tier 3 does not have.
    pub const fn key(&self) -> Option<(u32, &[u8; 32])> {
        match self {
            Self::T3(_) => None,
            Self::T4(header) => Some((header.key_id, &header.public_key)),
            Self::T5(header) => Some((header.key_id, &header.public_key)),
        }
    }
}

/// Where the parts of a sealed message lie in it (profile 8.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Associated data: the header without the tag.
    pub aad: Range<usize>,
    /// As long as the plaintext.
    pub ciphertext: Range<usize>,
    /// Poly1305: behind the ciphertext, at Tier 5 before it.
    pub tag: Range<usize>,
    /// HMAC, the end of the message.
    pub trailer: Range<usize>,
}

impl Layout {
    /// The layout of a sealed message of `length` bytes; `None` when it is too short for `tier` or
    /// the tier is not sealed.
    pub const fn of(tier: Tier, length: usize) -> Option<Self> {
        if length < tier.overhead() {
            return None;
        }
        let trailer = length - tier.trailer_len();
        let (tag, ciphertext) = match tier {
            Tier::T0 | Tier::T1 | Tier::T2 => return None,
            Tier::T3 | Tier::T4 => {
                let tag = trailer - TAG_LEN;
                (tag..trailer, tier.header_len()..tag)
            }
            Tier::T5 => (
                tier.aad_len()..tier.header_len(),
                tier.header_len()..trailer,
            ),
        };
        Some(Self {
            aad: 0..tier.aad_len(),
            ciphertext,
            tag,
            trailer: trailer..length,
        })
    }
}

impl<'a> Message<'a> {
    /// Reads a message's header.
    ///
    /// # Errors
    /// [`HeaderError`] for anything outside the table of profile 3.1, a bare Tier 0 message
    /// included, and for a wrong CRC.
    pub fn parse(message: &'a [u8]) -> Result<Self, HeaderError> {
        let flags = Flags::parse(*message.first().ok_or(HeaderError::Empty)?)?;
        let header = match flags.tier {
            Tier::T0 => return Err(HeaderError::Tier(Tier::T0)),
            Tier::T1 => {
                let (header, payload) = tier1::Header::parse(message)?;
                return Ok(Self::Open { header, payload });
            }
            Tier::T2 => {
                let (header, payload) = tier2::Header::parse(message)?;
                return Ok(Self::Negotiation { header, payload });
            }
            Tier::T4 if !flags.encrypted => {
                return tier4::Handshake::parse(message).map(Self::Handshake);
            }
            Tier::T3 => SealedHeader::T3(tier3::Header::parse(message)?),
            Tier::T4 => SealedHeader::T4(tier4::Header::parse(message)?),
            Tier::T5 => SealedHeader::T5(tier5::Header::parse(message)?),
        };
        let layout = Layout::of(flags.tier, message.len()).ok_or(HeaderError::Short {
            tier: flags.tier,
            length: message.len(),
        })?;
        Ok(Self::Sealed(Sealed { header, layout }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::opcode::Opcode;

    #[test]
    fn a_bare_tier_0_message_is_never_accepted() {
        assert_eq!(
            Message::parse(&[3, 0, 0x70, 0]),
            Err(HeaderError::Tier(Tier::T0))
        );
    }

    #[test]
    fn http_and_tls_are_no_messages() {
        assert!(Message::parse(b"GET / HTTP/1.1\r\n").is_err());
        assert!(Message::parse(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").is_err());
        assert_eq!(Message::parse(b""), Err(HeaderError::Empty));
    }

    #[test]
    fn parts_cover_a_sealed_message_exactly() {
        for tier in [Tier::T3, Tier::T4, Tier::T5] {
            let length = tier.overhead() + 10;
            let layout = Layout::of(tier, length).unwrap();
            let mut parts = [
                layout.aad,
                layout.ciphertext.clone(),
                layout.tag.clone(),
                layout.trailer,
            ];
            assert_eq!((layout.ciphertext.len(), layout.tag.len()), (10, TAG_LEN));
            parts.sort_by_key(|part| part.start);
            assert_eq!(parts[0].start, 0);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert_eq!(parts[3].end, length);
            assert_eq!(Layout::of(tier, tier.overhead() - 1), None);
        }
        assert_eq!(Layout::of(Tier::T2, 100), None);
    }

    #[test]
    fn each_tier_is_told_apart() {
        let mut tier3 = tier3::Header::sealed(Opcode::Keepalive, 4, 5, 6, 7)
            .to_bytes()
            .to_vec();
        tier3.resize(40, 0);
        let Ok(Message::Sealed(sealed)) = Message::parse(&tier3) else {
            panic!("not sealed");
        };
        assert_eq!(sealed.header.prefix().session_id, 5);
        assert_eq!(sealed.header.key(), None);
        assert_eq!(sealed.layout.ciphertext, 12..20);

        let negotiation = tier2::Header {
            opcode: Opcode::Nop,
            sequence: 0,
            session_id: 0,
        }
        .message(&[]);
        assert!(matches!(
            Message::parse(&negotiation),
            Ok(Message::Negotiation { payload: [], .. })
        ));
        assert!(matches!(
            Message::parse(&[0x08, 0xF0, 0x10, 0]),
            Ok(Message::Open { .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            first in prop_oneof![any::<u8>(), Just(0x19), Just(0x20), Just(0x21), Just(0x29)],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut message = vec![first];
            message.extend(rest);
            if let Ok(Message::Sealed(sealed)) = Message::parse(&message) {
                prop_assert_eq!(sealed.header.prefix().to_bytes(), &message[..12]);
                prop_assert_eq!(sealed.layout.trailer.end, message.len());
            }
        }
    }
}
