//! The handshake (profile 6): five messages, one round trip until the initiator may send.
//!
//! Both sides are state machines that eat messages and return messages; [`Progress::Established`]
//! ends them with a [`Session`].

mod error;
mod initiator;
pub mod messages;
mod responder;
mod resume;

use core::fmt;
use core::time::Duration;

pub use error::HandshakeError;
pub use initiator::{Dial, Initiator};
pub use responder::{Offered, Responder};
pub use resume::Resumer;

use super::certificate::CertificateChain;
use super::clock::{ClockQuality, WallClock};
use super::established::Session;
use super::identity::NodeKey;
use super::negotiate::capability;
use super::peer::PeerIdentity;
use super::psk::PskUse;
use super::ticket::TicketNonce;
use super::trust::Trust;
use crate::wire::flags::Tier;
use crate::wire::limits::Limits;

/// Time for a handshake on an ordered path (profile 6.8).
pub const TIMEOUT_ORDERED: Duration = Duration::from_secs(10);
/// Time for a handshake on an unordered path.
pub const TIMEOUT_UNORDERED: Duration = Duration::from_secs(60);
/// How long a message that came too early is held, and an answer kept (profile 6.1, 6.8).
const HOLD: Duration = Duration::from_secs(2);
const KEEP_ANSWER: Duration = Duration::from_secs(10);

/// What a node brings into every handshake.
#[derive(Debug)]
pub struct LocalNode {
    /// Its static key.
    pub key: NodeKey,
    /// Its own certificate chain, [`CertificateChain::empty`] before enrolment.
    pub chain: CertificateChain,
    /// Whom it trusts.
    pub trust: Trust,
    /// What it supports, in order of preference (see `negotiate::supported`).
    pub capabilities: Vec<u64>,
    /// The highest tier it grants and asks for.
    pub max_tier: Tier,
    /// The limits it announces.
    pub limits: Limits,
    /// KEEPALIVE period, 1–60 s, 15 s by default (profile 14.1).
    pub keepalive: Duration,
}

impl LocalNode {
    /// Our highest tier: configured, and granted by the own certificate.
    fn ceiling(&self) -> Tier {
        let certified = self
            .chain
            .claims()
            .ok()
            .and_then(|body| Tier::from_u8(body.tier));
        self.max_tier.min(certified.unwrap_or(Tier::T5))
    }
}

/// What both sides decide for one handshake.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The lowest tier a session may be limited to.
    pub floor: Tier,
    /// Members of the own family must mix a PSK.
    pub psk_required: bool,
    /// Nobody without a PSK gets an answer to `KEY_EXCHANGE_INIT`: strangers learn nothing, not even
    /// our certificate (profile 6.8). Shuts out federated nodes without a PSK.
    pub psk_first: bool,
    /// True for TCP, WebSocket and relay streams; false for paths that lose or reorder.
    pub ordered: bool,
    /// The node's idea of the time when the handshake starts.
    pub wall: WallClock,
}

/// What a handshake leads to.
#[derive(Debug)]
pub enum Progress {
    /// Nothing to send, more to come.
    Wait,
    /// Send these, in order; more to come.
    Send(Vec<Vec<u8>>),
    /// Send these, in order; the session is there.
    Established(Box<Established>),
    /// The peer is authenticated and refused: send this sealed `SESSION_CLOSE` and close the path.
    Refused {
        /// The message.
        close: Vec<u8>,
        /// Why.
        reason: HandshakeError,
    },
}

/// The end of a handshake.
#[derive(Debug)]
pub struct Established {
    /// To be sent before anything the session seals.
    pub send: Vec<Vec<u8>>,
    /// The session.
    pub session: Session,
    /// What else came to light.
    pub info: HandshakeInfo,
}

/// What the authenticated handshake said beside the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeInfo {
    /// The PSK that was mixed and its Key ID.
    pub psk: Option<(u32, PskUse)>,
    /// The number of the peer's revocation list; the side that is behind asks for an update
    /// (profile 5.3).
    pub peer_list: u64,
    /// The peer's time, seconds since 1970. Of a synchronised peer it goes into
    /// [`Trust::learn_time`].
    pub peer_time: u64,
    /// The quality of the peer's clock.
    pub peer_clock: ClockQuality,
    /// At a responder: the ticket by which an earlier session was resumed. Only a sealed message of the
    /// peer proves that it was the peer who used it (profile 14.5).
    pub resumed: Option<TicketNonce>,
}

/// A peer of another family needs the capability of federation (profile 5.5).
fn check_family(
    node: &LocalNode,
    peer: &PeerIdentity,
    capabilities: &[u64],
) -> Result<(), HandshakeError> {
    let foreign = peer
        .family()
        .is_some_and(|family| node.trust.own_family() != Some(family));
    if foreign && !capabilities.contains(&capability::FEDERATION) {
        return Err(HandshakeError::Federation);
    }
    Ok(())
}

/// Deadline of a handshake on the given kind of path.
const fn timeout(ordered: bool) -> Duration {
    if ordered {
        TIMEOUT_ORDERED
    } else {
        TIMEOUT_UNORDERED
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "waiting",
            Self::Send(_) => "answered",
            Self::Established(_) => "established",
            Self::Refused { .. } => "refused",
        })
    }
}
