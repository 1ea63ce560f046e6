//! A session and its link as one sans-IO machine: sealed messages on one side, operations on the
//! other.

use core::fmt;

use crate::session::clock::WallClock;
use crate::session::trust::Trust;
use crate::session::{
    CloseReason, Entropy, PeerIdentity, Received, RecordBuf, Restriction, Role, SealError, Session,
};
use crate::wire::compress::Algorithm;
use crate::wire::flags::Tier;
use crate::wire::limits::MESSAGE_MARGIN;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

use super::{DeclaredReply, Link, LinkConfig, LinkEvent, TierPolicy, Violation};

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed it, with its reason.
    ClosedByPeer(CloseReason),
    /// This side closed it, with the reason that was sent.
    ClosedHere(CloseReason),
    /// The peer broke a rule; it was told which.
    Violation(Violation),
    /// A message could not be opened. The other side is told nothing (profile 8.5).
    Forged,
    /// Key material is suspected by one of both sides (profile 14.4).
    Revoked,
    /// Nothing was heard for three keepalive periods (profile 14.1).
    Silent,
    /// The session's keys may seal nothing more (profile 14.2).
    Exhausted,
    /// The path broke or was closed without `SESSION_CLOSE` (profile 14.3).
    PathLost,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedByPeer(reason) => write!(f, "closed by the other side, {reason}"),
            Self::ClosedHere(reason) => write!(f, "closed, {reason}"),
            Self::Violation(violation) => write!(f, "the other side broke the rules: {violation}"),
            Self::Forged => f.write_str("a message could not be opened"),
            Self::Revoked => f.write_str("the keys are not trusted any more"),
            Self::Silent => f.write_str("the other side is silent"),
            Self::Exhausted => f.write_str("the session's keys are used up"),
            Self::PathLost => f.write_str("the connection was lost"),
        }
    }
}

/// Looks on at the frames of a connection, for a capture that somebody asked for. It sees content,
/// never keys.
pub trait Tap: fmt::Debug {
    /// The frames of one record, opened or about to be sealed; `outgoing` tells which.
    fn record(&mut self, now: Mono, outgoing: bool, tier: Tier, frames: &[u8]);
}

/// An established session and what runs inside of it.
#[derive(Debug)]
pub struct Connection {
    session: Session,
    link: Link,
    tap: Option<Box<dyn Tap>>,
    end: Option<End>,
    /// The path takes and brings nothing more.
    cut: bool,
}

impl Connection {
    /// Puts a link into a session that was just established. `foreign` peers are of another family;
    /// `declared_reply` is how the operations declare the length of their answers.
    pub fn new(
        now: Mono,
        session: Session,
        ordered: bool,
        foreign: bool,
        declared_reply: DeclaredReply,
    ) -> Self {
        let initiator = session.role() == Role::Initiator;
        let config = LinkConfig {
            ordered,
            max_tier: session.selected_tier(),
            policy: TierPolicy::new(foreign),
            declared_reply,
            selected: Algorithm::selected(session.capabilities()),
            ..LinkConfig::new(initiator, session.local_limits(), session.peer_limits())
        };
        Self {
            link: Link::new(now, config),
            session,
            tap: None,
            end: None,
            cut: false,
        }
    }

    /// Lets somebody look on from now on.
    #[must_use]
    pub fn tapped(mut self, tap: Option<Box<dyn Tap>>) -> Self {
        self.tap = tap;
        self
    }

    /// Takes one sealed message. What it brought comes from [`Connection::poll_event`].
    pub fn receive(&mut self, now: Mono, rng: &mut dyn Entropy, message: &mut [u8]) {
        if self.cut {
            return;
        }
        let taken = match self.session.receive(now, rng, message) {
            Ok(Received::Record {
                tier,
                age_secs,
                plaintext,
            }) => {
                // INVARIANT: the session returns ranges of the message it was given.
                let plaintext = message.get(plaintext).unwrap_or_default();
                if let Some(tap) = &mut self.tap {
                    tap.record(now, false, tier, plaintext);
                }
                self.ending_or(|link| link.handle_record(now, tier, age_secs, plaintext))
            }
            Ok(Received::Direct {
                opcode,
                flags,
                age_secs,
                plaintext,
            }) => {
                // INVARIANT: as above.
                let plaintext = message.get(plaintext).unwrap_or_default();
                let tier = flags.tier;
                self.ending_or(|link| {
                    link.handle_direct(now, tier, age_secs, opcode, flags, plaintext)
                })
            }
            Ok(Received::Handled | Received::Dropped(_)) => Ok(()),
            Ok(Received::Closed {
                by_peer: true,
                reason,
            }) => {
                self.finish(now, End::ClosedByPeer(reason));
                Ok(())
            }
            Ok(Received::Closed {
                by_peer: false,
                reason,
            }) => {
                self.finish(now, End::ClosedHere(reason));
                Ok(())
            }
            Ok(Received::Revoked { .. }) => {
                self.finish(now, End::Revoked);
                Ok(())
            }
            Err(_) => {
                self.cut = true;
                self.finish(now, End::Forged);
                Ok(())
            }
        };
        if let Err(violation) = taken {
            let reason = CloseReason::new(violation.status, violation.sub);
            self.session.close(now, &reason);
            self.finish(now, End::Violation(violation));
        }
        self.follow_session(now);
    }

    /// When the session has ended itself, what runs inside ends with it and for the same reason.
    fn follow_session(&mut self, now: Mono) {
        if let Some(reason) = self.session.closing() {
            let end = End::ClosedHere(reason.clone());
            self.finish(now, end);
        }
    }

    /// After the end nothing is taken in any more.
    fn ending_or(
        &mut self,
        take: impl FnOnce(&mut Link) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if self.end.is_some() {
            Ok(())
        } else {
            take(&mut self.link)
        }
    }

    /// The next thing that the peer did, or that came of the end.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.link.poll_event()
    }

    /// Seals the next message into `buf`, whose content is replaced; false when there is nothing to
    /// send now. To be called again after every message and whenever something happened.
    pub fn poll_transmit(&mut self, now: Mono, rng: &mut dyn Entropy, buf: &mut RecordBuf) -> bool {
        if self.cut {
            return false;
        }
        buf.clear();
        match self.session.poll_control(now, rng, buf) {
            Some(Ok(())) => return true,
            Some(Err(error)) => return self.cannot_seal(now, &error),
            None => {}
        }
        if self.end.is_some() {
            return false;
        }
        let budget = self.link.record_budget();
        let Some(tier) = self.link.fill_record(now, budget, buf.plaintext()) else {
            return false;
        };
        if let Some(tap) = &mut self.tap {
            tap.record(now, true, tier, buf.content());
        }
        match self.session.seal(now, tier, Opcode::Record, buf) {
            Ok(()) => true,
            Err(error) => self.cannot_seal(now, &error),
        }
    }

    fn cannot_seal(&mut self, now: Mono, error: &SealError) -> bool {
        let end = match error {
            SealError::Exhausted => End::Exhausted,
            SealError::Closed
            | SealError::Core(_)
            | SealError::Tier { .. }
            | SealError::TooLong { .. }
            | SealError::Buffer => End::PathLost,
        };
        self.cut = true;
        self.finish(now, end);
        false
    }

    /// When [`Connection::handle_timeout`] must be called next.
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.is_over() {
            return None;
        }
        let link = if self.end.is_some() {
            None
        } else {
            self.link.next_timeout()
        };
        [self.session.next_timeout(), link]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.cut {
            return;
        }
        if self.session.handle_timeout(now).is_err() {
            self.cut = true;
            self.finish(now, End::Silent);
            return;
        }
        self.follow_session(now);
        if self.end.is_none() {
            self.link.handle_timeout(now);
        }
    }

    /// Closes the session with a reason; the close is sent by [`Connection::poll_transmit`].
    pub fn close(&mut self, now: Mono, status: Status, sub: &str) {
        let reason = CloseReason::new(status, sub);
        self.session.close(now, &reason);
        self.finish(now, End::ClosedHere(reason));
    }

    /// Judges the peer's certificate anew (profile 5.3); true when that ends the connection. What
    /// the peer had open is over at once, whether or not it still listens.
    pub fn recheck(&mut self, now: Mono, trust: &Trust, wall: WallClock) -> bool {
        let certificate = self.session.peer().certificate.as_ref();
        let revoked = certificate.is_some_and(|own| own.check_revocation(trust).is_err());
        let ending = self.session.recheck(now, trust, wall);
        if ending {
            let sub = if revoked { sub::REVOKED } else { sub::EXPIRED };
            let reason = CloseReason::new(Status::Unauthorized, sub);
            self.finish(now, End::ClosedHere(reason));
        }
        ending
    }

    /// The path broke or ended: outstanding requests fail (profile 14.3).
    pub fn path_lost(&mut self, now: Mono) {
        self.cut = true;
        self.finish(now, End::PathLost);
    }

    fn finish(&mut self, now: Mono, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
            self.link.abort(now);
        }
    }

    /// Why the connection ended or is ending.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// True when it will neither send nor receive anything more.
    pub const fn is_over(&self) -> bool {
        self.cut || self.session.is_over()
    }

    /// Who the other end is.
    pub const fn peer(&self) -> &PeerIdentity {
        self.session.peer()
    }

    /// What the session may be used for.
    pub const fn restriction(&self) -> Restriction {
        self.session.restricted()
    }

    /// The longest message that the peer may send, in bytes (profile 15.2).
    pub fn max_message(&self) -> usize {
        let record = usize::try_from(self.session.local_limits().rec).unwrap_or(usize::MAX);
        record.saturating_add(MESSAGE_MARGIN)
    }

    /// The inside, for requests, answers and streams.
    pub const fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The outside, for rotation, tickets and trust.
    pub const fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}
