//! One epoch: the keys between two rotations (profile 7.3).

use core::time::Duration;

use super::open::Opener;
use super::schedule::{Direction, Secret, Traffic};
use super::seal::Sealer;
use crate::wire::time::Mono;

/// Which end of a session; kept for its whole life, whoever starts a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sent `SESSION_INIT` or `SESSION_RESUME`.
    Initiator,
    /// Answered it.
    Responder,
}

impl Role {
    const fn sends(self) -> Direction {
        match self {
            Self::Initiator => Direction::I2r,
            Self::Responder => Direction::R2i,
        }
    }

    const fn receives(self) -> Direction {
        match self {
            Self::Initiator => Direction::R2i,
            Self::Responder => Direction::I2r,
        }
    }
}

/// Both ephemeral public keys of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ephemerals {
    pub(super) initiator: [u8; 32],
    pub(super) responder: [u8; 32],
}

/// A counter at which a new epoch is wanted (profile 14.2).
const SOFT_COUNT: u32 = 1 << 31;
/// The age at which a new epoch is wanted, and the one at which the session ends (profile 14.2).
pub(super) const SOFT_AGE: Duration = Duration::from_secs(12 * 3600);
pub(super) const HARD_AGE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) struct Epoch {
    /// 0 after the handshake, then the rotation number.
    pub(super) number: u32,
    pub(super) created: Mono,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) session_key: Secret,
    pub(super) resumption: Secret,
}

impl Epoch {
    pub(super) fn new(
        (role, ordered): (Role, bool),
        (number, created): (u32, Mono),
        sid: u16,
        session_key: Secret,
        ephemerals: &Ephemerals,
    ) -> Self {
        let traffic = Traffic::new(&session_key);
        let (own, peer) = match role {
            Role::Initiator => (ephemerals.initiator, ephemerals.responder),
            Role::Responder => (ephemerals.responder, ephemerals.initiator),
        };
        Self {
            number,
            created,
            sealer: Sealer::new(&traffic, role.sends(), sid, own),
            opener: Opener::new(&traffic, role.receives(), sid, peer, ordered),
            resumption: traffic.resumption(),
            session_key,
        }
    }

    pub(super) const fn session_id(&self) -> u16 {
        self.sealer.session_id()
    }

    /// True when enough messages went either way to want new keys.
    pub(super) fn is_worn(&self) -> bool {
        self.sealer.counter() >= SOFT_COUNT || self.opener.highest() >= Some(SOFT_COUNT)
    }
}
