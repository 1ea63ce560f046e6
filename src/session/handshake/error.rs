//! Why a handshake did not come to a session.

use crate::session::certificate::CertificateError;
use crate::session::clock::TOLERANCE_SECS;
use crate::session::control::CloseReason;
use crate::session::identity::NodeId;
use crate::session::noise::NoiseError;
use crate::session::ticket::TicketError;
use crate::wire::flags::Tier;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// Why a handshake ended. Nothing of it is retried with weaker parameters (profile 6.7).
///
/// What an initiator sees of a responder that refuses: a wrong token or PSK ends in silence and a
/// closed path, so that strangers learn nothing; a refusal after both sides are authenticated comes
/// as a sealed `SESSION_CLOSE` in the established session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Header, CRC or payload cannot be read.
    #[error("the peer sent a malformed handshake message")]
    Malformed,
    /// Longer than 4096 bytes.
    #[error("the peer sent a handshake message that is too long")]
    TooLong,
    /// A message that does not belong here.
    #[error("{0} does not belong at this point of a handshake")]
    Unexpected(Opcode),
    /// A wrong trailer: another PSK, or changed bytes.
    #[error("a handshake message has the wrong trailer: another pre-shared key, or changed bytes")]
    Trailer,
    /// Noise did not accept a message.
    #[error("the key exchange failed: another pre-shared key, or changed bytes")]
    Noise(#[from] NoiseError),
    /// The peer does not speak profile 1.
    #[error("the peer does not speak profile 1")]
    Profile,
    /// The two sides share no usable set of capabilities.
    #[error("the peer lacks capabilities that every session needs")]
    Capabilities,
    /// The negotiation was changed on the way.
    #[error("the negotiation was changed on the way to the peer or back")]
    Downgrade,
    /// The session would be below our floor, or above what a certificate grants.
    #[error("{selected} was selected, outside {lowest} to {highest}")]
    Tier {
        /// What the negotiation gave.
        selected: Tier,
        /// Our floor.
        lowest: Tier,
        /// What the peer's certificate grants.
        highest: Tier,
    },
    /// Tier 5 needs a PSK (profile 6.2).
    #[error("tier 5 needs a pre-shared key")]
    TierNeedsPsk,
    /// Another node answered than the one that was dialled.
    #[error("node {found} answered, not {expected}")]
    WrongPeer {
        /// The one dialled.
        expected: NodeId,
        /// The one that answered.
        found: NodeId,
    },
    /// An enrolment must name the node it means (profile 5.4).
    #[error("an enrolment needs the node-id from the token")]
    EnrolNeedsPeer,
    /// The peer's certificate is not accepted.
    #[error("the peer's certificate is not accepted")]
    Certificate(#[from] CertificateError),
    /// No PSK with that id is accepted here.
    #[error("the peer used an unknown pre-shared key (id {0:08x})")]
    UnknownPsk(u32),
    /// Our policy wants a PSK from members of the own family.
    #[error("the peer came without the family's pre-shared key")]
    PskRequired,
    /// The peer belongs to another family and federation was not negotiated.
    #[error("the peer belongs to another family and federation was not negotiated")]
    Federation,
    /// Both clocks are synchronised and differ.
    #[error("the clocks differ by {0} s, more than {max}", max = TOLERANCE_SECS)]
    ClockSkew(u64),
    /// The ticket is not accepted.
    #[error("the resumption ticket is not accepted")]
    Ticket(#[from] TicketError),
    /// The peer's unsealed, unauthenticated hint.
    #[error("the peer refuses: {0}")]
    Refused(CloseReason),
    /// It took too long (profile 6.8).
    #[error("the peer did not complete the handshake in time")]
    Timeout,
}

impl HandshakeError {
    /// The refusal that a responder may tell an authenticated peer, sealed.
    pub(super) fn sealed_reason(&self) -> Option<CloseReason> {
        let (status, sub) = match self {
            Self::Certificate(error) => match error {
                CertificateError::Revoked(_) => (Status::Unauthorized, sub::REVOKED),
                CertificateError::Expired { .. } | CertificateError::NotYetValid { .. } => {
                    (Status::Unauthorized, sub::EXPIRED)
                }
                CertificateError::UnknownFamily(_) | CertificateError::Missing => {
                    (Status::Unauthorized, sub::UNKNOWN_FAMILY)
                }
                CertificateError::Malformed(_)
                | CertificateError::Limit
                | CertificateError::UnknownIssuer(_)
                | CertificateError::Signature
                | CertificateError::OtherKey
                | CertificateError::OtherFamily
                | CertificateError::Tier => return None,
            },
            Self::PskRequired => (Status::Unauthorized, sub::PSK_REQUIRED),
            Self::Federation => (Status::BadRequest, sub::UNSUPPORTED),
            Self::ClockSkew(_) => (Status::BadRequest, sub::CLOCK_SKEW),
            Self::Tier { .. } => (Status::Forbidden, sub::TIER),
            Self::Malformed
            | Self::TooLong
            | Self::Unexpected(_)
            | Self::Trailer
            | Self::Noise(_)
            | Self::Profile
            | Self::Capabilities
            | Self::Downgrade
            | Self::TierNeedsPsk
            | Self::WrongPeer { .. }
            | Self::EnrolNeedsPeer
            | Self::UnknownPsk(_)
            | Self::Ticket(_)
            | Self::Refused(_)
            | Self::Timeout => return None,
        };
        Some(CloseReason {
            msg: Some(self.to_string()),
            ..CloseReason::new(status, sub)
        })
    }

    /// The unsealed hint that a responder sends before it closes the path; `None` means silence
    /// (profile 6.8).
    pub fn hint(&self) -> Option<Vec<u8>> {
        let (status, sub) = match self {
            Self::Profile => (Status::BadRequest, sub::PROFILE_REQUIRED),
            Self::Capabilities => (Status::BadRequest, sub::UNSUPPORTED),
            Self::Ticket(_) => (Status::InvalidSession, sub::TICKET),
            Self::Malformed
            | Self::TooLong
            | Self::Unexpected(_)
            | Self::Trailer
            | Self::Noise(_)
            | Self::Downgrade
            | Self::Tier { .. }
            | Self::TierNeedsPsk
            | Self::WrongPeer { .. }
            | Self::EnrolNeedsPeer
            | Self::Certificate(_)
            | Self::UnknownPsk(_)
            | Self::PskRequired
            | Self::Federation
            | Self::ClockSkew(_)
            | Self::Refused(_)
            | Self::Timeout => return None,
        };
        Some(CloseReason::new(status, sub).hint())
    }
}
