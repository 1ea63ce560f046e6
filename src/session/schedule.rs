//! The key schedule (profile 7): pure functions from secrets to secrets.

use core::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::wire::flags::Tier;

/// 32 secret bytes, wiped when dropped and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who sends: `i2r` or `r2i` of the profile's notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the initiator to the responder.
    I2r,
    /// From the responder to the initiator.
    R2i,
}

impl Direction {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::I2r => b"i2r",
            Self::R2i => b"r2i",
        }
    }
}

/// HMAC-SHA256 over several parts.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // INVARIANT: RFC 2104 defines HMAC for keys of every length, so this constructor cannot fail.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 over several parts.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// RFC 5869 Extract.
pub(crate) fn extract(salt: &[u8], ikm: &[&[u8]]) -> Secret {
    Secret(hmac(salt, ikm))
}

/// RFC 5869 Expand for at most 32 bytes, which is one HMAC.
pub(crate) fn expand<const N: usize>(prk: &Secret, info: &[&[u8]]) -> [u8; N] {
    const { assert!(N <= 32) };
    // INVARIANT: a PRK of 32 bytes is one hash long and N <= 32, so neither call can fail.
    #[expect(clippy::expect_used, reason = "both lengths are fixed at compile time")]
    let hkdf = Hkdf::<Sha256>::from_prk(&prk.0).expect("32 bytes");
    let mut out = [0; N];
    #[expect(clippy::expect_used, reason = "both lengths are fixed at compile time")]
    hkdf.expand_multi_info(info, &mut out)
        .expect("at most 32 bytes");
    out
}

/// RFC 5869 in one step, 32 bytes.
pub(crate) fn hkdf(salt: &[u8], ikm: &[&[u8]], info: &[&[u8]]) -> Secret {
    Secret(expand(&extract(salt, ikm), info))
}

/// The hash over the raw handshake messages (profile 7.1; `label` differs for resumption, 14.5).
#[derive(Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    /// The transcript of a full handshake.
    pub fn full() -> Self {
        Self(Sha256::new_with_prefix(b"mkb1 transcript"))
    }

    /// The transcript of a resumption.
    pub fn resumption() -> Self {
        Self(Sha256::new_with_prefix(b"mkb1 transcript-r"))
    }

    /// Adds the next message, header and trailer included.
    pub fn add(&mut self, message: &[u8]) {
        // Messages before authentication are at most 4096 bytes (profile 18).
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        self.0.update(length.to_be_bytes());
        self.0.update(message);
    }

    /// `th`.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// `shared_secret` of profile 7.1 from the transcript hash and Noise's `Split()`.
pub fn shared_secret(th: &[u8; 32], split: &(Secret, Secret)) -> Secret {
    hkdf(th, &[&split.0.0, &split.1.0], &[b"mkb1 shared"])
}

/// `session_key[0]` of draft 5.1 (profile 7.2).
pub fn session_key(shared: &Secret, nonce_i: &[u8; 8], nonce_r: &[u8; 8]) -> Secret {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(nonce_i);
    salt[8..].copy_from_slice(nonce_r);
    hkdf(&salt, &[&shared.0], &[b"myclerk-session-v0"])
}

/// What a session key is expanded into (profile 7.3).
pub struct Traffic {
    prk: Secret,
}

impl Traffic {
    /// The traffic secrets of one epoch.
    pub fn new(session_key: &Secret) -> Self {
        Self {
            prk: extract(b"mkb1 traffic", &[&session_key.0]),
        }
    }

    /// `K_aead[d]`.
    pub fn aead(&self, direction: Direction) -> Secret {
        Secret(expand(&self.prk, &[b"mkb1 aead ", direction.label()]))
    }

    /// `K_mac[t][d]`, for the sealed tiers 3 to 5.
    pub fn mac(&self, tier: Tier, direction: Direction) -> Secret {
        let digit = [b'0' + tier.to_u8()];
        Secret(expand(
            &self.prk,
            &[b"mkb1 mac", &digit, b" ", direction.label()],
        ))
    }

    /// `Random32[d]`.
    pub fn random32(&self, direction: Direction) -> u32 {
        u32::from_be_bytes(expand(&self.prk, &[b"mkb1 rand ", direction.label()]))
    }

    /// `KeyID[e]`, never 0.
    pub fn key_id(&self) -> u32 {
        never_zero(u32::from_be_bytes(expand(&self.prk, &[b"mkb1 kid"])))
    }

    /// `RMS`, the root of resumption PSKs.
    pub fn resumption(&self) -> Secret {
        Secret(expand(&self.prk, &[b"mkb1 resume"]))
    }

    /// `EXP`, the exporter for applications.
    pub fn exporter(&self) -> Secret {
        Secret(expand(&self.prk, &[b"mkb1 export"]))
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traffic(..)")
    }
}

/// The public inputs of a rotation (profile 7.4).
#[derive(Clone, Copy, Debug)]
pub struct RotationInputs<'a> {
    /// Number of the new epoch; 1 for the first rotation.
    pub number: u32,
    /// Session ID of the epoch that ends.
    pub old_sid: u16,
    /// Session ID of the epoch that begins.
    pub new_sid: u16,
    /// The initiator's new ephemeral.
    pub initiator: &'a [u8; 32],
    /// The responder's new ephemeral.
    pub responder: &'a [u8; 32],
}

/// The draft's `HKDF(session_key, "rotate", rotation_counter)` (draft 5.2, profile 7.4).
pub fn rotation_mid(old: &Secret, number: u32) -> Secret {
    hkdf(b"rotate", &[&old.0], &[&number.to_be_bytes()])
}

/// `session_key[n]` (profile 7.4).
pub fn next_session_key(old: &Secret, dh: &Secret, inputs: &RotationInputs<'_>) -> Secret {
    hkdf(
        &rotation_mid(old, inputs.number).0,
        &[&dh.0],
        &[
            b"mkb1 rotate",
            &inputs.number.to_be_bytes(),
            &inputs.old_sid.to_be_bytes(),
            &inputs.new_sid.to_be_bytes(),
            inputs.initiator,
            inputs.responder,
        ],
    )
}

/// `K_hs`, the key of the handshake trailers (profile 6.5); without a PSK it is public.
pub fn handshake_mac_key(psk: Option<&Secret>) -> Secret {
    let zeros = Secret([0; 32]);
    hkdf(b"mkb1 hs-mac", &[&psk.unwrap_or(&zeros).0], &[])
}

/// The key id of a PSK, never 0 (profile 7.5).
pub fn psk_id(psk: &Secret) -> u32 {
    let prk = extract(b"mkb1 psk", &[&psk.0]);
    never_zero(u32::from_be_bytes(expand(&prk, &[b"mkb1 pskid"])))
}

/// The PSK of an enrolment token (profile 5.4).
pub fn enrolment_psk(token: &[u8; 16], family: &[u8; 16]) -> Secret {
    hkdf(b"mkb1 enrol", &[token], &[family])
}

/// The PSK inside a resumption ticket (profile 14.5).
pub fn ticket_psk(resumption: &Secret, ticket_nonce: &[u8; 8]) -> Secret {
    Secret(expand(resumption, &[b"mkb1 ticket ", ticket_nonce]))
}

/// `X25519(private, public)`, `None` when the result is all zero (profile 6.6, RFC 7748 section 6.1).
pub fn x25519(private: &Zeroizing<[u8; 32]>, public: &[u8; 32]) -> Option<Secret> {
    let secret = x25519_dalek::StaticSecret::from(**private);
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    shared.was_contributory().then(|| Secret(shared.to_bytes()))
}

const fn never_zero(id: u32) -> u32 {
    if id == 0 { 1 } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expand_is_rfc_5869_test_case_1() {
        let ikm = [0x0b; 22];
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..0xfa).collect();
        let okm: [u8; 16] = expand(&extract(&salt, &[&ikm]), &[&info]);
        assert_eq!(
            okm,
            [
                0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36,
                0x2f, 0x2a
            ]
        );
    }

    #[test]
    fn a_low_order_point_gives_no_shared_secret() {
        let private = Zeroizing::new([9; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        assert!(x25519(&private, &[0; 32]).is_none());
        assert!(x25519(&private, &one).is_none());
        assert!(x25519(&private, &[9; 32]).is_some());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret([0xAB; 32])), "Secret(..)");
    }
}
