//! The five messages of a handshake and the two of a resumption as bytes (profile 6.3–6.5, 14.5).

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::HandshakeError;
use crate::session::control::encode;
use crate::session::schedule::{self, Secret};
use crate::wire::limits::{Limits, MAX_LIST, MAX_UNAUTHENTICATED_MESSAGE};
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::tier2;
use crate::wire::tier4::{Handshake, Header, TRAILER_LEN, handshake_prefix};

/// The header fields of a Tier 4 handshake message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// `KEY_EXCHANGE_*`, `SESSION_RESUME` or `SESSION_RESUMED`.
    pub opcode: Opcode,
    /// 0, 1 or 2 (profile 6.1).
    pub sequence: u8,
    /// 0 while the initiator does not know it.
    pub session_id: u16,
    /// Session clock, seconds.
    pub timestamp: u32,
    /// Random, without meaning.
    pub noise16: u16,
    /// Of the PSK or the ticket, 0 for none.
    pub key_id: u32,
    /// The ephemeral.
    pub public: &'a [u8; 32],
}

impl Fields<'_> {
    /// The message with the given payload and its trailer under `K_hs`.
    pub fn message(&self, payload: &[u8], mac_key: &Secret) -> Vec<u8> {
        let header = Header {
            prefix: handshake_prefix(
                self.opcode,
                self.sequence,
                self.session_id,
                self.timestamp,
                self.noise16,
            ),
            key_id: self.key_id,
            public_key: *self.public,
        };
        let mut message = header.to_bytes().to_vec();
        message.extend_from_slice(payload);
        let trailer = trailer(mac_key, &message);
        message.extend_from_slice(&trailer);
        message
    }
}

fn trailer(mac_key: &Secret, covered: &[u8]) -> [u8; TRAILER_LEN] {
    let mac = schedule::hmac(&mac_key.0, &[covered]);
    core::array::from_fn(|index| mac[index])
}

/// The payload of a `KEY_EXCHANGE_*` message and of `SESSION_RESUMED`: a Noise message without the
/// ephemeral that stands in the header.
#[derive(Serialize, Deserialize)]
struct KeyExchange {
    #[serde(with = "serde_bytes")]
    noise: Vec<u8>,
}

/// Wraps the part of a Noise message that is not in the header.
pub fn key_exchange(noise: &[u8]) -> Vec<u8> {
    encode(&KeyExchange {
        noise: noise.to_vec(),
    })
}

/// A handshake message whose opcode and sequence are the expected ones.
pub(super) fn expect(
    message: &[u8],
    opcode: Opcode,
    sequence: u8,
) -> Result<Handshake<'_>, HandshakeError> {
    bounded(message)?;
    let parts = Handshake::parse(message).map_err(|_| HandshakeError::Malformed)?;
    let prefix = &parts.header.prefix;
    if (prefix.opcode, prefix.sequence) == (opcode, sequence) {
        Ok(parts)
    } else {
        Err(HandshakeError::Unexpected(prefix.opcode))
    }
}

/// A negotiation message whose opcode is the expected one.
pub(super) fn expect_tier2(
    message: &[u8],
    opcode: Opcode,
) -> Result<(tier2::Header, &[u8]), HandshakeError> {
    bounded(message)?;
    let (header, payload) = tier2::Header::parse(message).map_err(|_| HandshakeError::Malformed)?;
    if header.opcode == opcode && header.sequence == 0 {
        Ok((header, payload))
    } else {
        Err(HandshakeError::Unexpected(header.opcode))
    }
}

const fn bounded(message: &[u8]) -> Result<(), HandshakeError> {
    if message.len() > MAX_UNAUTHENTICATED_MESSAGE {
        return Err(HandshakeError::TooLong);
    }
    Ok(())
}

/// Compares the trailer in constant time.
pub(super) fn check_trailer(parts: &Handshake<'_>, mac_key: &Secret) -> Result<(), HandshakeError> {
    if bool::from(trailer(mac_key, parts.covered).ct_eq(parts.trailer)) {
        Ok(())
    } else {
        Err(HandshakeError::Trailer)
    }
}

/// The Noise message of m3 or m4 (or of a resumption): the header's ephemeral and the payload.
pub(super) fn noise_with_ephemeral(parts: &Handshake<'_>) -> Result<Vec<u8>, HandshakeError> {
    let KeyExchange { noise } = decode(parts.payload)?;
    Ok([&parts.header.public_key[..], &noise].concat())
}

/// The Noise message of m5, which has no ephemeral.
pub(super) fn noise_only(parts: &Handshake<'_>) -> Result<Vec<u8>, HandshakeError> {
    decode::<KeyExchange>(parts.payload).map(|payload| payload.noise)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, HandshakeError> {
    msgpack::decode(payload).map_err(|_| HandshakeError::Malformed)
}

/// Noise payload of m4 (profile 6.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponsePayload {
    /// `H(m2)`.
    #[serde(with = "serde_bytes")]
    pub ack: [u8; 32],
    /// The responder's certificate chain.
    #[serde(with = "serde_bytes")]
    pub cert: Vec<u8>,
    /// Everything the responder supports.
    pub caps: Vec<u64>,
    /// The highest tier it grants.
    #[serde(rename = "max-tier")]
    pub max_tier: u64,
    /// T0 of its session clock, seconds since 1970 if known.
    pub time: u64,
    /// Quality of its clock.
    #[serde(default)]
    pub clk: u64,
    /// Number of its revocation list.
    #[serde(default)]
    pub crl: u64,
    /// Its limits.
    #[serde(default)]
    pub limits: Limits,
}

/// Noise payload of m5 (profile 6.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletePayload {
    /// The initiator's certificate chain.
    #[serde(with = "serde_bytes")]
    pub cert: Vec<u8>,
    /// T0 of its session clock, seconds since 1970 if known.
    pub time: u64,
    /// Quality of its clock.
    #[serde(default)]
    pub clk: u64,
    /// Number of its revocation list.
    #[serde(default)]
    pub crl: u64,
    /// Its limits.
    #[serde(default)]
    pub limits: Limits,
}

/// True for a list of capabilities or profiles that is short enough (profile 18).
pub(super) const fn is_short(list: &[u64]) -> bool {
    list.len() <= MAX_LIST
}
