//! Revocation lists (profile 5.3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::certificate::{CertificateError, Kind, Signed};
use super::identity::{Authority, AuthorityKey, FamilyId, Serial};
use crate::wire::msgpack::{self, EncodeError};

/// `body(crl)` of profile 5.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    at: u64,
    fam: FamilyId,
    num: u64,
    ser: BTreeSet<Serial>,
    #[serde(rename = "psk-epoch")]
    psk_epoch: u64,
}

/// A family's verified list of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    raw: Vec<u8>,
    body: Body,
}

impl RevocationList {
    /// The root revokes `serials`; `number` grows with every list.
    ///
    /// # Errors
    /// [`EncodeError`] never in practice.
    pub fn issue(
        root: &Authority,
        number: u64,
        at: u64,
        serials: BTreeSet<Serial>,
        psk_epoch: u64,
    ) -> Result<Self, EncodeError> {
        let fam = root.public().family_id();
        let body = Body {
            at,
            fam,
            num: number,
            ser: serials,
            psk_epoch,
        };
        let raw = msgpack::encode(&Signed::create(root, Kind::Crl, &body)?)?;
        Ok(Self { raw, body })
    }

    /// Reads a list that the root `root` must have signed for its own family.
    ///
    /// # Errors
    /// [`CertificateError`] when it is malformed, of another family or not signed by the root.
    pub fn verify(raw: &[u8], root: &AuthorityKey) -> Result<Self, CertificateError> {
        let signed: Signed = msgpack::decode(raw)?;
        signed.verify(Kind::Crl, root)?;
        let body: Body = signed.body()?;
        if body.fam != root.family_id() {
            return Err(CertificateError::OtherFamily);
        }
        Ok(Self {
            raw: raw.to_vec(),
            body,
        })
    }

    /// The list as transmitted and stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Its number; the highest one counts.
    pub const fn number(&self) -> u64 {
        self.body.num
    }

    /// When it was made, seconds since 1970.
    pub const fn at(&self) -> u64 {
        self.body.at
    }

    /// The family PSK epoch that was current when it was made.
    pub const fn psk_epoch(&self) -> u64 {
        self.body.psk_epoch
    }

    /// The family it belongs to.
    pub const fn family(&self) -> FamilyId {
        self.body.fam
    }

    /// The revoked serials.
    pub const fn serials(&self) -> &BTreeSet<Serial> {
        &self.body.ser
    }
}
