//! Who the other end is.

use super::certificate::NodeCertificate;
use super::identity::{FamilyId, NodeId};
use super::psk::PskUse;
use crate::wire::flags::Tier;

/// The identity that the handshake proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node.
    pub node_id: NodeId,
    /// Its public X25519 key; what an enrolment certifies (profile 5.4).
    pub key: [u8; 32],
    /// Its verified certificate; `None` before enrolment.
    pub certificate: Option<NodeCertificate>,
}

impl PeerIdentity {
    /// The peer's family, `None` before enrolment.
    pub fn family(&self) -> Option<FamilyId> {
        self.certificate
            .as_ref()
            .map(|certificate| certificate.family)
    }

    /// The roles its certificate names; they feed the access list (profile 17.2).
    pub fn roles(&self) -> &[String] {
        self.certificate
            .as_ref()
            .map_or(&[], |certificate| &certificate.roles)
    }

    /// Its name for people.
    pub fn name(&self) -> Option<&str> {
        self.certificate.as_ref()?.name.as_deref()
    }

    /// The user it belongs to.
    pub fn user(&self) -> Option<&str> {
        self.certificate.as_ref()?.user.as_deref()
    }

    /// The highest tier it may be granted; before enrolment there is no such limit.
    pub fn tier(&self) -> Tier {
        self.certificate
            .as_ref()
            .map_or(Tier::T5, |certificate| certificate.tier)
    }
}

/// What a session may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restriction {
    /// Everything that access lists allow.
    None,
    /// ENROL, `FAMILY_UPDATE` and `SESSION_CLOSE` (profile 5.4).
    EnrolOnly,
    /// `FAMILY_UPDATE` and `SESSION_CLOSE`: the peer came with a replaced PSK (profile 5.3).
    UpdateOnly,
}

impl Restriction {
    /// What the PSK that was mixed leaves allowed.
    pub(super) const fn of(psk: Option<PskUse>) -> Self {
        match psk {
            None | Some(PskUse::Pair | PskUse::Family { current: true, .. }) => Self::None,
            Some(PskUse::Enrol) => Self::EnrolOnly,
            Some(PskUse::Family { current: false, .. }) => Self::UpdateOnly,
        }
    }
}
