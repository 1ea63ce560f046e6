//! Core messages that wait to be sent, and the clocks that make them due.

use core::time::Duration;
use std::collections::VecDeque;

use super::control::{CloseReason, RevokeBody, RotateBody, TicketBody, encode};
use super::entropy::Entropy;
use super::epoch::Role;
use super::established::{Session, State};
use super::record_buf::RecordBuf;
use super::seal::SealError;
use crate::wire::flags::{Flags, Tier};
use crate::wire::opcode::Opcode;
use crate::wire::time::Mono;

/// Bounds of the keepalive period (profile 14.1).
const PERIOD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Periods of silence after which a session is dead.
const DEAD_PERIODS: u32 = 3;

/// What waits. Each kind at most once, so a peer cannot make the queue grow.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) revoke: Option<RevokeBody>,
    pub(super) close: Option<CloseReason>,
    pub(super) close_ack: bool,
    /// Tickets with the epoch they belong to.
    pub(super) tickets: VecDeque<(u32, TicketBody)>,
    /// The bytes of a KEEPALIVE to echo.
    pub(super) echo: Option<Vec<u8>>,
    pub(super) keepalive: bool,
    /// The initiator waits for a first message (profile 6.1).
    pub(super) confirm: bool,
}

impl Pending {
    pub(super) fn new(role: Role) -> Self {
        Self {
            confirm: role == Role::Responder,
            ..Self::default()
        }
    }
}

/// When a session needs a sign of life, and when it lacks one (profile 14.1).
#[derive(Debug)]
pub(super) struct Liveness {
    period: Duration,
    sent: Mono,
    received: Mono,
    /// A KEEPALIVE went out since the last message came in.
    probed: bool,
}

impl Liveness {
    pub(super) fn new(period: Duration, now: Mono) -> Self {
        let period = period.clamp(PERIOD.0, PERIOD.1);
        Self {
            period,
            sent: now,
            received: now,
            probed: false,
        }
    }

    pub(super) const fn sent(&mut self, now: Mono) {
        self.sent = now;
    }

    pub(super) const fn received(&mut self, now: Mono) {
        self.received = now;
        self.probed = false;
    }

    pub(super) const fn last_heard(&self) -> Mono {
        self.received
    }

    /// A peer with a longer period than ours may rightly be silent while we send; asking it in time
    /// keeps it from being taken for dead.
    fn due_at(&self) -> Mono {
        let idle = self.sent.after(self.period);
        if self.probed {
            idle
        } else {
            idle.min(self.received.after(self.period))
        }
    }

    pub(super) fn is_due(&self, now: Mono) -> bool {
        now >= self.due_at()
    }

    pub(super) fn dead_at(&self) -> Mono {
        self.received.after(self.period * DEAD_PERIODS)
    }

    pub(super) fn is_dead(&self, now: Mono) -> bool {
        now >= self.dead_at()
    }

    pub(super) fn next_timeout(&self, pending: bool) -> Mono {
        let dead = self.dead_at();
        if pending {
            dead
        } else {
            dead.min(self.due_at())
        }
    }
}

/// The last handshake message on a lossy path (profile 6.8).
#[derive(Debug)]
pub(super) struct Repeat {
    message: Vec<u8>,
    due: VecDeque<Mono>,
}

impl Repeat {
    pub(super) fn new(message: Vec<u8>, now: Mono) -> Self {
        let due = [1, 3, 7].map(|secs| now.after(Duration::from_secs(secs)));
        Self {
            message,
            due: due.into(),
        }
    }

    pub(super) fn next(&self) -> Option<Mono> {
        self.due.front().copied()
    }

    fn take(&mut self, now: Mono) -> Option<&[u8]> {
        self.due.front().filter(|due| now >= **due)?;
        self.due.pop_front();
        Some(&self.message)
    }
}

impl Session {
    /// Seals the next message of the session's own into `buf`, if there is one; the caller sends it
    /// and asks again. To be called after everything that is received, sealed or timed out, and once
    /// right after the handshake.
    ///
    /// An error means that the message is lost and the session cannot go on.
    pub fn poll_control(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        buf: &mut RecordBuf,
    ) -> Option<Result<(), SealError>> {
        self.keys.as_ref()?;
        if let Some(message) = self.repeat.as_mut().and_then(|repeat| repeat.take(now)) {
            buf.set_message(message);
            return Some(Ok(()));
        }
        buf.clear();
        let result = self.poll_end(now, buf).or_else(|| match self.state {
            State::Open => self
                .poll_rotation(now, rng, buf)
                .or_else(|| self.poll_small(now, buf)),
            State::Closing { .. } | State::Over => None,
        });
        if let Some(Err(_)) = result {
            self.erase();
        }
        result
    }

    fn poll_end(&mut self, now: Mono, buf: &mut RecordBuf) -> Option<Result<(), SealError>> {
        if let Some(body) = self.pending.revoke.take() {
            buf.extend_from_slice(&encode(&body));
            let result = self.seal_core(now, Tier::T4, Opcode::SessionRevoke, buf);
            self.erase();
            return Some(result);
        }
        if let Some(reason) = self.pending.close.take() {
            buf.extend_from_slice(&reason.encode());
            return Some(self.seal_core(now, Tier::T3, Opcode::SessionClose, buf));
        }
        if core::mem::take(&mut self.pending.close_ack) {
            let result = self.seal_core(now, Tier::T3, Opcode::SessionCloseAck, buf);
            self.erase();
            return Some(result);
        }
        None
    }

    fn poll_small(&mut self, now: Mono, buf: &mut RecordBuf) -> Option<Result<(), SealError>> {
        let number = self.keys.as_ref()?.sending_ref(self.role).number;
        while let Some((epoch, body)) = self.pending.tickets.pop_front() {
            // A ticket belongs to the epoch it was derived from; after a rotation nobody could use it.
            if epoch == number {
                buf.extend_from_slice(&body.to_direct());
                return Some(self.seal_core(now, Tier::T3, Opcode::Ticket, buf));
            }
        }
        if let Some(echo) = self.pending.echo.take() {
            buf.extend_from_slice(&echo);
            return Some(self.seal_core(now, Tier::T3, Opcode::KeepaliveAck, buf));
        }
        if core::mem::take(&mut self.pending.keepalive) || self.pending.confirm {
            self.liveness.probed = true;
            return Some(self.seal_core(now, Tier::T3, Opcode::Keepalive, buf));
        }
        None
    }

    pub(super) fn seal_rotation(
        &mut self,
        now: Mono,
        body: &RotateBody,
        public: Option<&[u8; 32]>,
        buf: &mut RecordBuf,
    ) -> Result<(), SealError> {
        buf.extend_from_slice(&encode(body));
        self.seal_any(
            now,
            Flags::sealed(Tier::T4),
            Opcode::SessionRotate,
            public,
            buf,
        )
    }

    pub(super) fn seal_core(
        &mut self,
        now: Mono,
        tier: Tier,
        opcode: Opcode,
        buf: &mut RecordBuf,
    ) -> Result<(), SealError> {
        self.seal_any(now, Flags::sealed(tier), opcode, None, buf)
    }

    /// The sealed `SESSION_CLOSE` of a session that never opens: the peer is authenticated, but
    /// refused (profile 6.8).
    pub(super) fn refuse(mut self, now: Mono, reason: &CloseReason) -> Vec<u8> {
        let mut buf = RecordBuf::with_capacity(0);
        buf.extend_from_slice(&reason.encode());
        match self.seal_core(now, Tier::T3, Opcode::SessionClose, &mut buf) {
            Ok(()) => buf.message().to_vec(),
            Err(_) => Vec::new(),
        }
    }
}
