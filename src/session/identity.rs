//! Keys that outlive a session, and the identifiers made from them (profile 5.1).

use core::fmt;
use core::str::FromStr;

use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::entropy::{self, Entropy};
use crate::wire::hex;

/// The text is not the hex form of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hex digits")]
pub struct NotHex {
    /// Digits the identifier has.
    pub expected: usize,
}

macro_rules! identifier {
    ($(#[doc = $doc:literal])* $name:ident, $length:literal) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_bytes::ByteArray::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
            }
        }

        impl FromStr for $name {
            type Err = NotHex;

            fn from_str(text: &str) -> Result<Self, NotHex> {
                hex::decode(text).map(Self).ok_or(NotHex { expected: 2 * $length })
            }
        }
    };
}

identifier! {
    /// The first 16 bytes of `H("mkb1 family" || root public key)` (profile 5.1).
    FamilyId, 16
}
identifier! {
    /// The first 16 bytes of `H("mkb1 node" || X25519 public key)`; the draft's `device-id`
    /// (profile 5.1).
    NodeId, 16
}
identifier! {
    /// The public Ed25519 key of a family's root or of an issuer (profile 5.1).
    AuthorityKey, 32
}
identifier! {
    /// The first 8 bytes of the hash of an issuer's public key (profile 5.2).
    IssuerId, 8
}
identifier! {
    /// The serial of a certificate, what a revocation list names (profile 5.2).
    Serial, 8
}

fn labelled<const N: usize>(label: &[u8], bytes: &[u8]) -> [u8; N] {
    let digest = Sha256::new()
        .chain_update(label)
        .chain_update(bytes)
        .finalize();
    let mut out = [0; N];
    out.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    out
}

impl NodeId {
    /// The id of the node that holds the private half of `public`.
    pub fn of(public: &[u8; 32]) -> Self {
        Self(labelled(b"mkb1 node", public))
    }
}

impl AuthorityKey {
    /// The id of the family whose root this is.
    pub fn family_id(&self) -> FamilyId {
        FamilyId(labelled(b"mkb1 family", &self.0))
    }

    /// The id that signed objects name their issuer by.
    pub fn issuer_id(&self) -> IssuerId {
        IssuerId(labelled(b"", &self.0))
    }
}

impl Serial {
    /// A fresh random serial.
    pub fn generate(rng: &mut dyn Entropy) -> Self {
        Self(entropy::public(rng))
    }
}

/// The private Ed25519 key of a family's root, or of an issuer that the root certified.
///
/// It is kept offline or on one administrative node (profile 5.1).
pub struct Authority(ed25519_dalek::SigningKey);

impl Authority {
    /// A fresh key.
    pub fn generate(rng: &mut dyn Entropy) -> Self {
        Self::from_bytes(&entropy::secret(rng))
    }

    /// The key with the given 32-byte seed (RFC 8032 section 5.1.5).
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for storage.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> AuthorityKey {
        AuthorityKey(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.public()).finish()
    }
}

/// A node's static X25519 key. It is generated on the node and never leaves it (profile 5.1).
pub struct NodeKey {
    secret: StaticSecret,
    public: [u8; 32],
}

impl NodeKey {
    /// A fresh key.
    pub fn generate(rng: &mut dyn Entropy) -> Self {
        Self::from_bytes(&entropy::secret(rng))
    }

    /// The key with the given private bytes (RFC 7748 section 5, clamped when used).
    pub fn from_bytes(private: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*private);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// The private bytes, for storage.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// The public half.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The id of this node.
    pub fn node_id(&self) -> NodeId {
        NodeId::of(&self.public)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeKey").field(&self.node_id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_private_byte() {
        let node = NodeKey::from_bytes(&[0x5a; 32]);
        let root = Authority::from_bytes(&[0x5a; 32]);
        for text in [format!("{node:?}"), format!("{root:?}")] {
            assert!(!text.contains("5a5a") && !text.contains("90, 90"), "{text}");
        }
    }

    #[test]
    fn an_identifier_survives_its_text() {
        let id = NodeKey::from_bytes(&[7; 32]).node_id();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("zz".parse::<NodeId>(), Err(NotHex { expected: 32 }));
    }
}
