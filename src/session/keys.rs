//! The keys of one direction of one epoch, ready for use.

use core::fmt;

use ring::{aead, hmac};
use subtle::ConstantTimeEq;

use super::schedule::{Direction, Traffic};
use crate::wire::flags::Tier;

/// AEAD key, the three HMAC keys with their inner and outer state computed, and Random32.
///
/// `ring` does not wipe its keys when they are dropped (see `docs/protocol.md`).
pub(super) struct DirectionKeys {
    pub(super) aead: aead::LessSafeKey,
    mac: [hmac::Key; 3],
    pub(super) random32: u32,
}

impl DirectionKeys {
    pub(super) fn new(traffic: &Traffic, direction: Direction) -> Self {
        let mac = |tier| hmac::Key::new(hmac::HMAC_SHA256, &traffic.mac(tier, direction).0);
        Self {
            aead: chacha20_poly1305(&traffic.aead(direction).0),
            mac: [mac(Tier::T3), mac(Tier::T4), mac(Tier::T5)],
            random32: traffic.random32(direction),
        }
    }

    /// The untruncated HMAC of a message: at Tier 3 over header and tag only, at Tiers 4 and 5 over
    /// everything in the order of the wire (profile 8.4).
    pub(super) fn trailer(
        &self,
        tier: Tier,
        aad: &[u8],
        tag: &[u8],
        ciphertext: &[u8],
    ) -> hmac::Tag {
        let [three, four, five] = &self.mac;
        let (key, parts) = match tier {
            Tier::T0 | Tier::T1 | Tier::T2 | Tier::T3 => (three, [aad, tag, &[][..]]),
            Tier::T4 => (four, [aad, ciphertext, tag]),
            Tier::T5 => (five, [aad, tag, ciphertext]),
        };
        let mut context = hmac::Context::with_key(key);
        for part in parts {
            context.update(part);
        }
        context.sign()
    }

    /// Compares a received trailer in constant time.
    pub(super) fn trailer_matches(
        &self,
        tier: Tier,
        aad: &[u8],
        tag: &[u8],
        ciphertext: &[u8],
        received: &[u8],
    ) -> bool {
        let expected = self.trailer(tier, aad, tag, ciphertext);
        expected
            .as_ref()
            .get(..tier.trailer_len())
            .is_some_and(|expected| bool::from(expected.ct_eq(received)))
    }
}

impl fmt::Debug for DirectionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectionKeys(..)")
    }
}

fn chacha20_poly1305(key: &[u8; 32]) -> aead::LessSafeKey {
    // INVARIANT: the key has the 32 bytes that the algorithm takes.
    #[expect(clippy::expect_used, reason = "the length is fixed at compile time")]
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).expect("32 bytes");
    aead::LessSafeKey::new(key)
}
