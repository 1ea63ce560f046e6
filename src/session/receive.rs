//! What an established session does with a message.

use core::ops::Range;
use core::time::Duration;

use super::control::{CloseReason, RevokeBody, RotateBody, TicketBody, is_keepalive};
use super::entropy::Entropy;
use super::established::{Session, State};
use super::open::{self, OpenError, OpenErrorKind, Opened};
use crate::wire::flags::{Flags, Tier};
use crate::wire::limits::{MAX_IDLE_FRAMES_PER_SECOND, MAX_UNKNOWN};
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// Failed openings of an epoch on an unordered path before the session closes (profile 8.5).
const MAX_FAILURES: u32 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// What a message was. Plaintexts lie in the message's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Frames (profile 9.1).
    Record {
        /// Tier of the record.
        tier: Tier,
        /// Seconds it was under way (profile 16.3).
        age_secs: u32,
        /// Where the frames lie in the message.
        plaintext: Range<usize>,
    },
    /// An operation in direct form (profile 9.1).
    Direct {
        /// Which.
        opcode: Opcode,
        /// Tier, C and F.
        flags: Flags,
        /// Seconds it was under way.
        age_secs: u32,
        /// Where the plaintext lies in the message.
        plaintext: Range<usize>,
    },
    /// The session's own; there may be something to send now.
    Handled,
    /// The session is over. What [`Session::poll_control`] still has is sent, then the path closes.
    Closed {
        /// False when this acknowledges our own close.
        by_peer: bool,
        /// The reason given.
        reason: CloseReason,
    },
    /// The peer suspects key material; everything is erased (profile 14.4).
    Revoked {
        /// Text for people.
        reason: Option<String>,
    },
    /// Not accepted on an unordered path: dropped without a word.
    Dropped(OpenErrorKind),
}

impl Session {
    /// Opens a message in place and acts on it if it is the session's own.
    ///
    /// # Errors
    /// [`OpenError`] on an ordered path: the caller closes the path without a word.
    pub fn receive(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        message: &mut [u8],
    ) -> Result<Received, OpenError> {
        match self.open(now, message) {
            Ok((opened, number)) => {
                self.liveness.received(now);
                self.confirmed = true;
                self.repeat = None;
                Ok(self.dispatch(now, rng, (opened, number), message))
            }
            Err(kind) if self.ordered => Err(kind.into()),
            Err(kind) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= MAX_FAILURES {
                    self.close(now, &CloseReason::new(Status::BadRequest, sub::LIMIT));
                }
                Ok(Received::Dropped(kind))
            }
        }
    }

    /// The order of profile 8.5; returns the number of the epoch that opened it.
    fn open(&mut self, now: Mono, message: &mut [u8]) -> Result<(Opened, u32), OpenErrorKind> {
        let sealed = open::parse(message)?;
        let limit = usize::try_from(self.local_limits.rec).unwrap_or(usize::MAX);
        if sealed.layout.ciphertext.len() > limit {
            return Err(OpenErrorKind::Long);
        }
        let sid = sealed.header.prefix().session_id;
        let clock = self.peer_clock;
        let keys = self.keys.as_mut().ok_or(OpenErrorKind::Closed)?;
        let current = keys.current.number;
        if keys.current.session_id() == sid {
            let opened = keys.current.opener.open(&sealed, &clock, now, message)?;
            if keys.current.is_worn() {
                self.want_rotation(super::rotation::Reason::Count);
            }
            return Ok((opened, current));
        }
        if let Some(next) = keys.next.as_mut().filter(|next| next.session_id() == sid) {
            let opened = next.opener.open(&sealed, &clock, now, message)?;
            let number = next.number;
            self.promote(now);
            self.failures = 0;
            return Ok((opened, number));
        }
        match &mut keys.old {
            Some((old, until)) if old.session_id() == sid && now < *until => Ok((
                old.open(&sealed, &clock, now, message)?,
                current.wrapping_sub(1),
            )),
            Some(_) | None => Err(OpenErrorKind::Session),
        }
    }

    fn dispatch(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        (opened, number): (Opened, u32),
        message: &[u8],
    ) -> Received {
        let (flags, opcode, age_secs) = (opened.flags, opened.opcode, opened.age_secs);
        let allowed = match opcode.exact_tier() {
            Some(tier) => flags.tier == tier,
            None => flags.tier <= self.tier,
        };
        if !allowed {
            return self.violation(now, Status::Forbidden, sub::TIER);
        }
        if opcode.is_core() || opcode == Opcode::Ticket {
            if flags.compressed || flags.fragment {
                return self.violation(now, Status::BadRequest, sub::BAD_PAYLOAD);
            }
            let payload = message.get(opened.plaintext.clone()).unwrap_or_default();
            return self.on_core(now, rng, (&opened, number), payload);
        }
        // After a close nothing new is begun (profile 14.3).
        if self.state != State::Open {
            return Received::Handled;
        }
        let plaintext = opened.plaintext;
        match opcode {
            Opcode::Record => Received::Record {
                tier: flags.tier,
                age_secs,
                plaintext,
            },
            opcode => Received::Direct {
                opcode,
                flags,
                age_secs,
                plaintext,
            },
        }
    }

    fn on_core(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        (opened, number): (&Opened, u32),
        payload: &[u8],
    ) -> Received {
        match opened.opcode {
            Opcode::Nop | Opcode::KeepaliveAck => self.on_idle(now),
            Opcode::Keepalive if is_keepalive(payload) => {
                self.pending.echo = Some(payload.to_vec());
                Received::Handled
            }
            Opcode::SessionClose => self.on_close(payload),
            Opcode::SessionCloseAck => self.on_close_ack(now),
            Opcode::SessionRevoke => {
                let body = msgpack::decode_or_default::<RevokeBody>(payload).unwrap_or_default();
                self.held.clear();
                self.erase();
                Received::Revoked {
                    reason: body.reason,
                }
            }
            Opcode::SessionRotate => {
                let body = msgpack::decode::<RotateBody>(payload).ok();
                let done = body.map(|body| self.on_rotate(now, rng, (opened, number), body));
                match done {
                    Some(Ok(())) => Received::Handled,
                    Some(Err(_)) | None => {
                        self.violation(now, Status::BadRequest, sub::BAD_PAYLOAD)
                    }
                }
            }
            Opcode::Ticket => match TicketBody::from_direct(payload) {
                Some(body) if self.hold_ticket(now, number, &body) => Received::Handled,
                Some(_) | None => self.violation(now, Status::BadRequest, sub::BAD_PAYLOAD),
            },
            Opcode::Unknown(_) if self.unknown < MAX_UNKNOWN => {
                self.unknown += 1;
                Received::Handled
            }
            _ => self.violation(now, Status::BadRequest, sub::UNKNOWN_OP),
        }
    }

    /// Cover traffic is welcome within reason (profile 18).
    fn on_idle(&mut self, now: Mono) -> Received {
        let (began, count) = &mut self.idle;
        if now.since(*began) >= SECOND {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        if *count > MAX_IDLE_FRAMES_PER_SECOND {
            return self.violation(now, Status::BadRequest, sub::LIMIT);
        }
        Received::Handled
    }

    fn on_close(&mut self, payload: &[u8]) -> Received {
        self.state = State::Over;
        self.pending = super::pending::Pending {
            close_ack: true,
            ..Default::default()
        };
        Received::Closed {
            by_peer: true,
            reason: CloseReason::decode(payload),
        }
    }

    fn on_close_ack(&mut self, now: Mono) -> Received {
        if self.state == State::Open {
            return self.violation(now, Status::BadRequest, sub::UNKNOWN_OP);
        }
        self.erase();
        let reason = CloseReason {
            status: Status::Ok,
            sub: None,
            msg: None,
        };
        Received::Closed {
            by_peer: false,
            reason,
        }
    }

    /// The peer broke a rule inside the authenticated channel.
    fn violation(&mut self, now: Mono, status: Status, sub: &str) -> Received {
        self.close(now, &CloseReason::new(status, sub));
        Received::Handled
    }
}
