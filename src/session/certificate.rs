//! Signed objects and certificate chains (profile 5.2).

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::clock::{ClockQuality, WallClock};
use super::identity::{Authority, AuthorityKey, FamilyId, IssuerId, NodeId, Serial};
use super::trust::Trust;
use crate::wire::flags::Tier;
use crate::wire::limits::{CERT_CHAIN, MAX_LIST};
use crate::wire::msgpack::{self, DecodeError, EncodeError};

/// Why a certificate or a revocation list is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are no certificate chain or signed object.
    #[error("the certificate is malformed")]
    Malformed(#[from] DecodeError),
    /// More than two objects or 2048 bytes (profile 18), or a list that is too long.
    #[error("the certificate exceeds a limit")]
    Limit,
    /// The chain is empty where a certificate is required.
    #[error("the peer has no certificate")]
    Missing,
    /// No root of that family is pinned.
    #[error("family {0} is not known here")]
    UnknownFamily(FamilyId),
    /// The object names an issuer that is neither the root nor in the chain.
    #[error("the certificate's issuer {0} is not in the chain")]
    UnknownIssuer(IssuerId),
    /// A signature does not verify.
    #[error("the certificate's signature does not verify")]
    Signature,
    /// It certifies another key than the one the peer has proven.
    #[error("the certificate belongs to another key")]
    OtherKey,
    /// Issuer and node belong to different families.
    #[error("the issuer belongs to another family")]
    OtherFamily,
    /// Its tier is not 3, 4 or 5.
    #[error("the certificate grants no usable tier")]
    Tier,
    /// It is not valid yet.
    #[error("the certificate is not valid before {not_before} (seconds since 1970)")]
    NotYetValid {
        /// Start of validity, seconds since 1970.
        not_before: u64,
    },
    /// It is no longer valid.
    #[error("the certificate expired at {not_after} (seconds since 1970)")]
    Expired {
        /// End of validity, seconds since 1970.
        not_after: u64,
    },
    /// Its serial, or its issuer's, is on the revocation list.
    #[error("the certificate {0} has been revoked")]
    Revoked(Serial),
}

/// `body(node)` of profile 5.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBody {
    /// The family that certifies.
    #[serde(rename = "fam")]
    pub family: FamilyId,
    /// The node's public X25519 key.
    #[serde(with = "serde_bytes")]
    pub key: [u8; 32],
    /// Start of validity, seconds since 1970.
    #[serde(rename = "nb")]
    pub not_before: u64,
    /// End of validity, seconds since 1970.
    #[serde(rename = "na")]
    pub not_after: u64,
    /// Roles that the access list knows, at most 32.
    pub roles: Vec<String>,
    /// What a revocation list names.
    #[serde(rename = "ser")]
    pub serial: Serial,
    /// The highest tier the node may be granted, 3–5.
    pub tier: u8,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user the device belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// `body(issuer)` of profile 5.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerBody {
    /// The family that certifies.
    #[serde(rename = "fam")]
    pub family: FamilyId,
    /// The issuer's public Ed25519 key.
    pub key: AuthorityKey,
    /// Start of validity, seconds since 1970.
    #[serde(rename = "nb")]
    pub not_before: u64,
    /// End of validity, seconds since 1970.
    #[serde(rename = "na")]
    pub not_after: u64,
    /// What a revocation list names.
    #[serde(rename = "ser")]
    pub serial: Serial,
}

/// What an object is signed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Node,
    Issuer,
    Crl,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Node => b"node",
            Self::Issuer => b"issuer",
            Self::Crl => b"crl",
        }
    }
}

/// `signed` of profile 5.2. The signature covers the body's bytes as they were transmitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    #[serde(with = "serde_bytes")]
    b: Vec<u8>,
    i: IssuerId,
    #[serde(with = "serde_bytes")]
    s: [u8; 64],
}

impl Signed {
    pub(super) fn create<T: Serialize>(
        authority: &Authority,
        kind: Kind,
        body: &T,
    ) -> Result<Self, EncodeError> {
        let b = msgpack::encode(body)?;
        let s = authority.sign(&Self::message(kind, &b));
        Ok(Self {
            b,
            i: authority.public().issuer_id(),
            s,
        })
    }

    /// The body, still unverified.
    pub(super) fn body<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DecodeError> {
        msgpack::decode(&self.b)
    }

    pub(super) fn verify(&self, kind: Kind, key: &AuthorityKey) -> Result<(), CertificateError> {
        if self.i != key.issuer_id() {
            return Err(CertificateError::UnknownIssuer(self.i));
        }
        let verifier = VerifyingKey::from_bytes(&key.0).map_err(|_| CertificateError::Signature)?;
        // Strict: neither small-order keys nor second encodings of one signature are accepted.
        verifier
            .verify_strict(
                &Self::message(kind, &self.b),
                &Signature::from_bytes(&self.s),
            )
            .map_err(|_| CertificateError::Signature)
    }

    fn message(kind: Kind, body: &[u8]) -> Vec<u8> {
        [b"mkb1 sig\0", kind.label(), b"\0", body].concat()
    }
}

/// `[node-object, ? issuer-object]` as it is sent in a handshake; empty before enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChain {
    raw: Vec<u8>,
    node: Option<Signed>,
    issuer: Option<Signed>,
}

/// A node certificate whose chain, key, validity and revocation have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The node.
    pub node_id: NodeId,
    /// Its family.
    pub family: FamilyId,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its serial, and its issuer's when there is one.
    pub serials: (Serial, Option<Serial>),
    /// The highest tier it may be granted.
    pub tier: Tier,
    /// Its name for people.
    pub name: Option<String>,
    /// The user it belongs to.
    pub user: Option<String>,
    /// The end of validity of node and issuer, whichever comes first; seconds since 1970.
    pub not_after: u64,
    /// Start of validity, seconds since 1970.
    pub not_before: u64,
}

impl CertificateChain {
    /// The chain of a node that is not enrolled yet: an empty array.
    pub fn empty() -> Self {
        Self {
            raw: vec![0x90],
            node: None,
            issuer: None,
        }
    }

    /// Certifies a node, directly by the root or through an issuer whose certificate is
    /// `issuer` (made by [`CertificateChain::certify_issuer`]).
    ///
    /// # Errors
    /// [`CertificateError::Limit`] when the result is larger than profile 18 allows.
    pub fn issue(
        authority: &Authority,
        body: &NodeBody,
        issuer: Option<&[u8]>,
    ) -> Result<Self, CertificateError> {
        let node =
            Signed::create(authority, Kind::Node, body).map_err(|_| CertificateError::Limit)?;
        let mut chain = vec![node];
        if let Some(issuer) = issuer {
            chain.push(msgpack::decode(issuer)?);
        }
        let raw = msgpack::encode(&chain).map_err(|_| CertificateError::Limit)?;
        Self::decode(&raw)
    }

    /// The root certifies an issuer; the bytes go into [`CertificateChain::issue`].
    ///
    /// # Errors
    /// [`EncodeError`] never in practice: every field of the body can be encoded.
    pub fn certify_issuer(root: &Authority, body: &IssuerBody) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(&Signed::create(root, Kind::Issuer, body)?)
    }

    /// Reads a chain as transmitted.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] or [`CertificateError::Limit`].
    pub fn decode(raw: &[u8]) -> Result<Self, CertificateError> {
        let (objects, bytes) = CERT_CHAIN;
        if raw.len() > bytes {
            return Err(CertificateError::Limit);
        }
        let chain: Vec<Signed> = msgpack::decode(raw)?;
        if chain.len() > objects {
            return Err(CertificateError::Limit);
        }
        let mut chain = chain.into_iter();
        Ok(Self {
            raw: raw.to_vec(),
            node: chain.next(),
            issuer: chain.next(),
        })
    }

    /// The chain as transmitted.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// True for a node that is not enrolled.
    pub const fn is_empty(&self) -> bool {
        self.node.is_none()
    }

    /// What the chain says about its node, without any check; for a node's own chain.
    ///
    /// # Errors
    /// [`CertificateError::Missing`] for an empty chain, [`CertificateError::Malformed`].
    pub fn claims(&self) -> Result<NodeBody, CertificateError> {
        Ok(self
            .node
            .as_ref()
            .ok_or(CertificateError::Missing)?
            .body()?)
    }

    /// Checks the chain for the holder of `key`: signatures up to a pinned root, key, limits,
    /// validity at the present that `trust` and `wall` allow to assume, revocation.
    ///
    /// Revocation and validity are looked at last, so an error about them means that everything
    /// else is in order.
    ///
    /// # Errors
    /// [`CertificateError`] for the first check that fails.
    pub fn verify(
        &self,
        key: &[u8; 32],
        trust: &Trust,
        wall: WallClock,
    ) -> Result<NodeCertificate, CertificateError> {
        let signed = self.node.as_ref().ok_or(CertificateError::Missing)?;
        let body: NodeBody = signed.body()?;
        let root = trust
            .root(body.family)
            .ok_or(CertificateError::UnknownFamily(body.family))?;
        let issuer = self.verified_issuer(root, body.family)?;
        signed.verify(
            Kind::Node,
            issuer.as_ref().map_or(root, |issuer| &issuer.key),
        )?;
        if body.key != *key {
            return Err(CertificateError::OtherKey);
        }
        let certificate = body.checked(issuer.as_ref())?;
        certificate.check_revocation(trust)?;
        certificate.check_validity(trust.present(wall), wall.quality)?;
        Ok(certificate)
    }

    fn verified_issuer(
        &self,
        root: &AuthorityKey,
        family: FamilyId,
    ) -> Result<Option<IssuerBody>, CertificateError> {
        let Some(signed) = &self.issuer else {
            return Ok(None);
        };
        signed.verify(Kind::Issuer, root)?;
        let body: IssuerBody = signed.body()?;
        if body.family != family {
            return Err(CertificateError::OtherFamily);
        }
        Ok(Some(body))
    }
}

impl NodeBody {
    fn checked(self, issuer: Option<&IssuerBody>) -> Result<NodeCertificate, CertificateError> {
        if self.roles.len() > MAX_LIST {
            return Err(CertificateError::Limit);
        }
        let tier = match Tier::from_u8(self.tier) {
            Some(tier @ (Tier::T3 | Tier::T4 | Tier::T5)) => tier,
            Some(Tier::T0 | Tier::T1 | Tier::T2) | None => return Err(CertificateError::Tier),
        };
        Ok(NodeCertificate {
            node_id: NodeId::of(&self.key),
            family: self.family,
            roles: self.roles,
            serials: (self.serial, issuer.map(|issuer| issuer.serial)),
            tier,
            name: self.name,
            user: self.user,
            not_after: issuer.map_or(self.not_after, |i| i.not_after.min(self.not_after)),
            not_before: issuer.map_or(self.not_before, |i| i.not_before.max(self.not_before)),
        })
    }
}

impl NodeCertificate {
    /// Looks for the serials in the newest revocation list.
    ///
    /// # Errors
    /// [`CertificateError::Revoked`].
    pub fn check_revocation(&self, trust: &Trust) -> Result<(), CertificateError> {
        let (node, issuer) = self.serials;
        for serial in [Some(node), issuer].into_iter().flatten() {
            if trust.is_revoked(self.family, serial) {
                return Err(CertificateError::Revoked(serial));
            }
        }
        Ok(())
    }

    /// Compares the validity with the present, a lower bound of the real time. Without a
    /// synchronised clock a start in the future says nothing (profile 16.4).
    ///
    /// # Errors
    /// [`CertificateError::Expired`] or [`CertificateError::NotYetValid`].
    pub fn check_validity(
        &self,
        present: u64,
        quality: ClockQuality,
    ) -> Result<(), CertificateError> {
        if present > self.not_after {
            return Err(CertificateError::Expired {
                not_after: self.not_after,
            });
        }
        if present < self.not_before && quality == ClockQuality::Synchronised {
            return Err(CertificateError::NotYetValid {
                not_before: self.not_before,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
