//! An established session (profile 14): seals and opens, keeps itself alive, changes its keys,
//! ends.

use core::time::Duration;

use super::clock::{self, SessionClock, WallClock};
use super::control::{CloseReason, RevokeBody};
use super::epoch::{Ephemerals, Epoch, HARD_AGE, Role, SOFT_AGE};
use super::handshake::LocalNode;
use super::identity::NodeId;
use super::ids::SessionIds;
use super::open::Opener;
use super::peer::{PeerIdentity, Restriction};
use super::pending::{Liveness, Pending, Repeat};
use super::record_buf::RecordBuf;
use super::rotation::{Reason, Rotation};
use super::schedule::Secret;
use super::seal::{Heading, SealError};
use super::ticket::{HeldTicket, TicketNonce};
use super::trust::Trust;
use crate::wire::flags::{Flags, Tier};
use crate::wire::limits::Limits;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// A chain of rotations and resumptions ends this long after the full handshake (profile 14.6).
pub const LIFETIME: Duration = Duration::from_secs(7 * 86400);
/// How long a close waits for its acknowledgement (profile 14.3).
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What a handshake or a resumption agreed on.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) role: Role,
    pub(super) ordered: bool,
    pub(super) session_id: u16,
    pub(super) session_key: Secret,
    pub(super) ephemerals: Ephemerals,
    pub(super) peer: PeerIdentity,
    pub(super) peer_limits: Limits,
    pub(super) tier: Tier,
    pub(super) capabilities: Vec<u64>,
    pub(super) restriction: Restriction,
    pub(super) clock: SessionClock,
    pub(super) peer_clock: SessionClock,
    pub(super) wall: WallClock,
    pub(super) full_handshake: Mono,
    pub(super) now: Mono,
}

/// Why a session is over; the caller closes the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionDead {
    /// Nothing authenticated arrived for three keepalive periods (profile 14.1).
    #[error("the peer is silent")]
    Silent,
    /// Our `SESSION_CLOSE` was not acknowledged within a second; it does not matter any more.
    #[error("the peer did not acknowledge the close")]
    Unacknowledged,
    /// Closed or revoked before.
    #[error("the session is closed")]
    Closed,
}

/// The epochs of a session; gone when it is over.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) current: Epoch,
    /// Agreed on, but the peer has not sent under it yet.
    pub(super) next: Option<Epoch>,
    /// Of the previous epoch, on unordered paths for 30 s (profile 14.2).
    pub(super) old: Option<(Opener, Mono)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// We closed; waiting for the acknowledgement.
    Closing {
        deadline: Mono,
    },
    /// The peer closed; the acknowledgement may still be pending.
    Over,
}

/// An established session.
#[derive(Debug)]
pub struct Session {
    pub(super) role: Role,
    pub(super) ordered: bool,
    pub(super) peer: PeerIdentity,
    pub(super) peer_limits: Limits,
    pub(super) local_limits: Limits,
    pub(super) tier: Tier,
    pub(super) capabilities: Vec<u64>,
    pub(super) restriction: Restriction,
    pub(super) clock: SessionClock,
    pub(super) peer_clock: SessionClock,
    pub(super) full_handshake: Mono,
    pub(super) ends: Mono,
    pub(super) keys: Option<Box<Keys>>,
    pub(super) rotation: Rotation,
    pub(super) ids: SessionIds,
    pub(super) pending: Pending,
    pub(super) liveness: Liveness,
    pub(super) state: State,
    pub(super) confirmed: bool,
    pub(super) failures: u32,
    pub(super) unknown: u32,
    /// Messages without effect in the second that began then.
    pub(super) idle: (Mono, u32),
    pub(super) repeat: Option<Repeat>,
    pub(super) issued: Vec<TicketNonce>,
    pub(super) held: Vec<HeldTicket>,
}

impl Session {
    /// `last` is the last handshake message, to be repeated on an unordered path until the peer has
    /// confirmed the keys.
    pub(super) fn new(node: &LocalNode, agreed: Agreed, last: Option<Vec<u8>>) -> Self {
        let now = agreed.now;
        let path = (agreed.role, agreed.ordered);
        let (sid, key) = (agreed.session_id, agreed.session_key);
        let current = Epoch::new(path, (0, now), sid, key, &agreed.ephemerals);
        let present = node.trust.present(agreed.wall);
        let certified = agreed.peer.certificate.as_ref();
        let expiry = certified.map(|peer| clock::when(peer.not_after, present, now));
        let lifetime = agreed.full_handshake.after(LIFETIME);
        Self {
            role: agreed.role,
            ordered: agreed.ordered,
            peer: agreed.peer,
            peer_limits: agreed.peer_limits,
            local_limits: node.limits.clamped(),
            tier: agreed.tier,
            capabilities: agreed.capabilities,
            restriction: agreed.restriction,
            clock: agreed.clock,
            peer_clock: agreed.peer_clock,
            full_handshake: agreed.full_handshake,
            ends: expiry.map_or(lifetime, |expiry| lifetime.min(expiry)),
            keys: Some(Box::new(Keys {
                current,
                next: None,
                old: None,
            })),
            rotation: Rotation::default(),
            ids: SessionIds::default(),
            pending: Pending::new(agreed.role),
            liveness: Liveness::new(node.keepalive, now),
            state: State::Open,
            confirmed: agreed.role == Role::Responder,
            failures: 0,
            unknown: 0,
            idle: (now, 0),
            repeat: last.map(|message| Repeat::new(message, now)),
            issued: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Seals the plaintext in `buf` without C and F: a RECORD, or a direct message of an operation.
    ///
    /// # Errors
    /// [`SealError`]; nothing has been consumed then.
    pub fn seal(
        &mut self,
        now: Mono,
        tier: Tier,
        opcode: Opcode,
        buf: &mut RecordBuf,
    ) -> Result<(), SealError> {
        self.seal_flagged(now, Flags::sealed(tier), opcode, buf)
    }

    /// [`Session::seal`] for direct messages that are compressed or fragmented.
    ///
    /// # Errors
    /// [`SealError`]; nothing has been consumed then.
    pub fn seal_flagged(
        &mut self,
        now: Mono,
        flags: Flags,
        opcode: Opcode,
        buf: &mut RecordBuf,
    ) -> Result<(), SealError> {
        if self.state != State::Open {
            return Err(SealError::Closed);
        }
        if opcode.is_core() {
            return Err(SealError::Core(opcode));
        }
        if flags.tier < Tier::T3 || flags.tier > self.tier {
            return Err(SealError::Tier {
                tier: flags.tier,
                selected: self.tier,
            });
        }
        let limit = usize::try_from(self.peer_limits.rec).unwrap_or(usize::MAX);
        if buf.len() > limit {
            return Err(SealError::TooLong {
                length: buf.len(),
                limit,
            });
        }
        self.seal_any(now, flags, opcode, None, buf)
    }

    pub(super) fn seal_any(
        &mut self,
        now: Mono,
        flags: Flags,
        opcode: Opcode,
        rotating: Option<&[u8; 32]>,
        buf: &mut RecordBuf,
    ) -> Result<(), SealError> {
        let heading = Heading {
            flags,
            opcode,
            timestamp: self.clock.timestamp(now),
        };
        let role = self.role;
        let keys = self.keys.as_mut().ok_or(SealError::Closed)?;
        let epoch = keys.sending(role);
        if now.since(epoch.created) >= HARD_AGE && opcode != Opcode::SessionClose {
            return Err(SealError::Exhausted);
        }
        epoch.sealer.seal(heading, rotating, buf)?;
        let worn = epoch.is_worn();
        self.liveness.sent(now);
        self.pending.confirm = false;
        if worn {
            self.want_rotation(Reason::Count);
        }
        Ok(())
    }

    /// Ends the session: seals nothing new, says why, waits a second for the acknowledgement.
    pub fn close(&mut self, now: Mono, reason: &CloseReason) {
        if self.state == State::Open {
            self.state = State::Closing {
                deadline: now.after(CLOSE_WAIT),
            };
            self.pending.close = Some(reason.clone());
        }
    }

    /// Why this side closes, as long as the peer was not told: a session also ends itself, when its
    /// lifetime is over or the peer broke a rule of the session's own messages.
    pub const fn closing(&self) -> Option<&CloseReason> {
        self.pending.close.as_ref()
    }

    /// Key material is suspected: tells the peer, erases everything, the tickets too (profile 14.4).
    /// What was issued must also go from the responder's table
    /// ([`Session::forget_tickets`]).
    pub fn revoke(&mut self, reason: Option<String>) {
        if self.keys.is_some() {
            self.state = State::Over;
            self.pending = Pending {
                revoke: Some(RevokeBody { reason }),
                ..Pending::default()
            };
            self.held.clear();
        }
    }

    /// Closes the session when a newer revocation list, or the present, no longer allows its peer
    /// (profile 5.3, 14.6). True when it did.
    pub fn recheck(&mut self, now: Mono, trust: &Trust, wall: WallClock) -> bool {
        let Some(certificate) = &self.peer.certificate else {
            return false;
        };
        if certificate.check_revocation(trust).is_err() {
            self.revoke(Some(sub::REVOKED.to_owned()));
            return true;
        }
        if certificate
            .check_validity(trust.present(wall), wall.quality)
            .is_err()
        {
            self.close(now, &CloseReason::new(Status::Unauthorized, sub::EXPIRED));
            return true;
        }
        false
    }

    /// When [`Session::handle_timeout`] is due; `None` once the session is over.
    pub fn next_timeout(&self) -> Option<Mono> {
        let keys = self.keys.as_ref()?;
        if let State::Closing { deadline } = self.state {
            return Some(deadline.min(self.liveness.dead_at()));
        }
        let created = keys.sending_ref(self.role).created;
        let soft =
            (!self.rotation.is_busy() && keys.next.is_none()).then(|| created.after(SOFT_AGE));
        let candidates = [
            Some(self.ends),
            Some(created.after(HARD_AGE)),
            Some(keys.current.created.after(HARD_AGE)),
            soft,
            keys.old.as_ref().map(|(_, until)| *until),
            self.rotation.next_timeout(),
            self.repeat.as_ref().and_then(Repeat::next),
            Some(self.liveness.next_timeout(self.pending.keepalive)),
        ];
        candidates.into_iter().flatten().min()
    }

    /// Lets time pass; afterwards [`Session::poll_control`] may have something to send.
    ///
    /// # Errors
    /// [`SessionDead`] when the session is over.
    pub fn handle_timeout(&mut self, now: Mono) -> Result<(), SessionDead> {
        let Some(keys) = &mut self.keys else {
            return Err(SessionDead::Closed);
        };
        if keys.old.as_ref().is_some_and(|(_, until)| now >= *until) {
            keys.old = None;
        }
        let age = now.since(keys.sending_ref(self.role).created);
        let oldest = now.since(keys.current.created);
        if self.liveness.is_dead(now) {
            self.erase();
            return Err(SessionDead::Silent);
        }
        if let State::Closing { deadline } = self.state
            && now >= deadline
        {
            self.erase();
            return Err(SessionDead::Unacknowledged);
        }
        if now >= self.ends || oldest >= HARD_AGE {
            self.close(now, &CloseReason::new(Status::Unauthorized, sub::EXPIRED));
        } else if age >= SOFT_AGE {
            self.want_rotation(Reason::Age);
        }
        self.pending.keepalive |= self.liveness.is_due(now);
        self.rotation.handle_timeout(now);
        Ok(())
    }

    /// Asks the peer for a sign of life now.
    pub const fn ping(&mut self) {
        self.pending.keepalive = true;
    }

    /// When the last authenticated message came.
    pub const fn last_heard(&self) -> Mono {
        self.liveness.last_heard()
    }

    /// The peer, as the handshake proved it.
    pub const fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The peer's limits, clamped to the bounds of profile 18.
    pub const fn peer_limits(&self) -> Limits {
        self.peer_limits
    }

    /// Our own limits as announced, clamped.
    pub const fn local_limits(&self) -> Limits {
        self.local_limits
    }

    /// The highest tier of this session (profile 6.2).
    pub const fn selected_tier(&self) -> Tier {
        self.tier
    }

    /// The capabilities both sides selected, ascending (profile 6.3).
    pub fn capabilities(&self) -> &[u64] {
        &self.capabilities
    }

    /// What the session may be used for; whoever executes operations enforces it.
    pub const fn restricted(&self) -> Restriction {
        self.restriction
    }

    /// When two nodes have dialled each other at once, the session whose initiator has the smaller
    /// node-id is closed with the sub-code `duplicate` (profile 6.8). True for that one; `own` is
    /// our own node-id.
    pub fn loses_to_its_reverse(&self, own: NodeId) -> bool {
        match self.role {
            Role::Initiator => own < self.peer.node_id,
            Role::Responder => self.peer.node_id < own,
        }
    }

    /// Our end.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The Session ID we currently send with; `None` once the session is over.
    pub fn session_id(&self) -> Option<u16> {
        Some(self.keys.as_ref()?.sending_ref(self.role).session_id())
    }

    /// Number of rotations so far.
    pub fn epoch(&self) -> Option<u32> {
        Some(self.keys.as_ref()?.current.number)
    }

    /// True once the peer has proven that it holds the keys; until then the delivery of what an
    /// initiator sends is unconfirmed (profile 6.1).
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// True once everything is erased.
    pub const fn is_over(&self) -> bool {
        self.keys.is_none()
    }

    pub(super) fn set_ids(&mut self, ids: SessionIds) {
        self.ids = ids;
    }

    pub(super) const fn unconfirmed(&mut self) {
        self.confirmed = false;
    }

    pub(super) fn erase(&mut self) {
        self.state = State::Over;
        self.keys = None;
        self.pending = Pending::default();
        self.repeat = None;
        self.rotation = Rotation::default();
    }
}

impl Keys {
    /// The epoch we send under: an initiator changes as soon as it has the responder's keys, a
    /// responder when it has opened something of the new epoch (profile 14.2).
    pub(super) fn sending(&mut self, role: Role) -> &mut Epoch {
        match (role, &mut self.next) {
            (Role::Initiator, Some(next)) => next,
            (Role::Initiator, None) | (Role::Responder, _) => &mut self.current,
        }
    }

    pub(super) fn sending_ref(&self, role: Role) -> &Epoch {
        match (role, &self.next) {
            (Role::Initiator, Some(next)) => next,
            (Role::Initiator, None) | (Role::Responder, _) => &self.current,
        }
    }
}
