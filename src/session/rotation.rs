//! Changing the keys of a session (profile 14.2): only the initiator offers, so both sides never
//! start at once.

use core::time::Duration;

use zeroize::Zeroizing;

use super::control::RotateBody;
use super::entropy::{self, Entropy};
use super::epoch::{Ephemerals, Epoch, Role};
use super::established::{Keys, Session};
use super::identity::NodeKey;
use super::open::Opened;
use super::record_buf::RecordBuf;
use super::schedule::{self, RotationInputs};
use super::seal::SealError;
use crate::wire::time::Mono;

/// How long old receive keys stay on an unordered path.
const OLD_KEYS: Duration = Duration::from_secs(30);
/// Repetitions of an offer on an unordered path, seconds after the one before.
const REPEATS: [u64; 3] = [1, 2, 4];
/// After this an unanswered wish is sent again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

const ASK: u8 = 0;
const OFFER: u8 = 1;
const ACCEPT: u8 = 2;

/// Why new keys are wanted; `reason` of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Wish = 0,
    Count = 1,
    Age = 2,
}

/// Where a rotation stands.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    wanted: Option<Reason>,
    offer: Option<Offer>,
    answer: Option<Answer>,
    /// When an ask or an offer without answer is repeated.
    again: Option<Mono>,
}

/// The initiator's offer. The key stays the same for one rotation number, however often it is sent.
#[derive(Debug)]
struct Offer {
    number: u32,
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    sent: usize,
    due: bool,
}

/// The responder's answer to the newest offer.
#[derive(Debug)]
struct Answer {
    number: u32,
    session_id: u16,
    initiator: [u8; 32],
    responder: [u8; 32],
    due: bool,
}

impl Rotation {
    /// True while a rotation is wanted or under way.
    pub(super) const fn is_busy(&self) -> bool {
        self.wanted.is_some() || self.offer.is_some() || self.again.is_some()
    }

    pub(super) const fn next_timeout(&self) -> Option<Mono> {
        self.again
    }

    pub(super) fn handle_timeout(&mut self, now: Mono) {
        if self.again.is_some_and(|again| now >= again) {
            self.again = None;
            match &mut self.offer {
                Some(offer) => offer.due = true,
                None => self.wanted = self.wanted.or(Some(Reason::Wish)),
            }
        }
    }

    fn promoted(&mut self) {
        self.wanted = None;
        self.offer = None;
        self.again = None;
        if let Some(answer) = &mut self.answer {
            answer.due = false;
        }
    }
}

/// Why a `SESSION_ROTATE` closes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRotation;

impl Session {
    /// Asks for new keys now, from either end.
    pub fn rotate(&mut self) {
        self.want_rotation(Reason::Wish);
    }

    pub(super) fn want_rotation(&mut self, reason: Reason) {
        let under_way = self.keys.as_ref().is_none_or(|keys| keys.next.is_some());
        if !under_way && !self.rotation.is_busy() {
            self.rotation.wanted = Some(reason);
        }
    }

    /// The next `SESSION_ROTATE` to send.
    pub(super) fn poll_rotation(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        buf: &mut RecordBuf,
    ) -> Option<Result<(), SealError>> {
        match self.role {
            Role::Initiator => self.poll_offer(now, rng, buf),
            Role::Responder => self.poll_answer(now, buf),
        }
    }

    fn poll_offer(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        buf: &mut RecordBuf,
    ) -> Option<Result<(), SealError>> {
        let number = self.keys.as_ref()?.current.number.checked_add(1)?;
        if self.rotation.wanted.take().is_some() && self.rotation.offer.is_none() {
            let private = entropy::secret(rng);
            let public = *NodeKey::from_bytes(&private).public();
            self.rotation.offer = Some(Offer {
                number,
                private,
                public,
                sent: 0,
                due: true,
            });
        }
        let offer = self.rotation.offer.as_mut().filter(|offer| offer.due)?;
        offer.due = false;
        let wait = REPEATS.get(offer.sent).filter(|_| !self.ordered);
        offer.sent += 1;
        let wait = wait.map_or(TRY_AGAIN, |secs| Duration::from_secs(*secs));
        // An ordered path loses nothing, so repeating there would be a protocol error.
        self.rotation.again = (!self.ordered).then(|| now.after(wait));
        let (public, number) = (offer.public, Some(offer.number));
        let body = RotateBody {
            phase: OFFER,
            reason: None,
            rotation: number,
            session_id: None,
        };
        Some(self.seal_rotation(now, &body, Some(&public), buf))
    }

    fn poll_answer(&mut self, now: Mono, buf: &mut RecordBuf) -> Option<Result<(), SealError>> {
        if let Some(answer) = self.rotation.answer.as_mut().filter(|answer| answer.due) {
            answer.due = false;
            let public = answer.responder;
            let (rotation, session_id) = (Some(answer.number), Some(answer.session_id));
            let body = RotateBody {
                phase: ACCEPT,
                reason: None,
                rotation,
                session_id,
            };
            return Some(self.seal_rotation(now, &body, Some(&public), buf));
        }
        let reason = self.rotation.wanted.take()?;
        self.rotation.again = Some(now.after(TRY_AGAIN));
        let body = RotateBody {
            phase: ASK,
            reason: Some(reason as u64),
            rotation: None,
            session_id: None,
        };
        Some(self.seal_rotation(now, &body, None, buf))
    }

    /// A `SESSION_ROTATE` that was opened in the epoch `number`.
    pub(super) fn on_rotate(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        (opened, number): (&Opened, u32),
        body: RotateBody,
    ) -> Result<(), BadRotation> {
        let public = opened.public.ok_or(BadRotation)?;
        let keys = self.keys.as_ref().ok_or(BadRotation)?;
        match (self.role, body.phase) {
            (Role::Initiator, ASK) => {
                // From an epoch that has ended meanwhile, the wish is granted already.
                if number == keys.current.number {
                    if !keys.current.opener.is_public(&public) {
                        return Err(BadRotation);
                    }
                    self.want_rotation(Reason::Wish);
                }
                Ok(())
            }
            (Role::Initiator, ACCEPT) => self.on_accept(now, public, body),
            (Role::Responder, OFFER) => self.on_offer(now, rng, public, body),
            (Role::Initiator | Role::Responder, _) => Err(BadRotation),
        }
    }

    fn on_offer(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        initiator: [u8; 32],
        body: RotateBody,
    ) -> Result<(), BadRotation> {
        let number = body.rotation.ok_or(BadRotation)?;
        let keys = self.keys.as_mut().ok_or(BadRotation)?;
        if let Some(answer) = &mut self.rotation.answer
            && answer.number == number
        {
            if self.ordered || answer.initiator != initiator {
                return Err(BadRotation);
            }
            answer.due = keys.next.is_some();
            return Ok(());
        }
        if keys.next.is_some() || Some(number) != keys.current.number.checked_add(1) {
            return Err(BadRotation);
        }
        let session_id = self.ids.allocate(now, rng);
        let private = entropy::secret(rng);
        let responder = *NodeKey::from_bytes(&private).public();
        let ephemerals = Ephemerals {
            initiator,
            responder,
        };
        let path = (self.role, self.ordered);
        let next = keys.derive(path, now, session_id, &private, &ephemerals, &initiator);
        keys.next = Some(next.ok_or(BadRotation)?);
        self.rotation.again = None;
        self.rotation.wanted = None;
        self.rotation.answer = Some(Answer {
            number,
            session_id,
            initiator,
            responder,
            due: true,
        });
        Ok(())
    }

    fn on_accept(
        &mut self,
        now: Mono,
        responder: [u8; 32],
        body: RotateBody,
    ) -> Result<(), BadRotation> {
        let (Some(number), Some(session_id)) = (body.rotation, body.session_id) else {
            return Err(BadRotation);
        };
        let keys = self.keys.as_mut().ok_or(BadRotation)?;
        let Some(offer) = self
            .rotation
            .offer
            .as_ref()
            .filter(|offer| offer.number == number)
        else {
            let known = keys.next.as_ref().unwrap_or(&keys.current);
            let repeated = known.number == number && known.session_id() == session_id;
            return if repeated && !self.ordered {
                Ok(())
            } else {
                Err(BadRotation)
            };
        };
        let current = keys.current.session_id();
        if session_id == 0 || session_id == u16::MAX || session_id == current {
            return Err(BadRotation);
        }
        let ephemerals = Ephemerals {
            initiator: offer.public,
            responder,
        };
        let path = (self.role, self.ordered);
        let next = keys.derive(
            path,
            now,
            session_id,
            &offer.private,
            &ephemerals,
            &responder,
        );
        keys.next = Some(next.ok_or(BadRotation)?);
        self.rotation.promoted();
        self.pending.keepalive = true;
        Ok(())
    }

    /// The peer sent under the new keys: the old ones are done with.
    pub(super) fn promote(&mut self, now: Mono) {
        let Some(keys) = &mut self.keys else {
            return;
        };
        let Some(next) = keys.next.take() else {
            return;
        };
        let old = core::mem::replace(&mut keys.current, next);
        self.ids.retire(old.session_id(), now);
        keys.old = (!self.ordered).then(|| (old.opener, now.after(OLD_KEYS)));
        self.rotation.promoted();
    }
}

impl Keys {
    /// The epoch after the current one (profile 7.4); `None` when the peer's key is of low order.
    fn derive(
        &self,
        path: (Role, bool),
        now: Mono,
        session_id: u16,
        private: &Zeroizing<[u8; 32]>,
        ephemerals: &Ephemerals,
        peer: &[u8; 32],
    ) -> Option<Epoch> {
        let dh = schedule::x25519(private, peer)?;
        let number = self.current.number.checked_add(1)?;
        let inputs = RotationInputs {
            number,
            old_sid: self.current.session_id(),
            new_sid: session_id,
            initiator: &ephemerals.initiator,
            responder: &ephemerals.responder,
        };
        let key = schedule::next_session_key(&self.current.session_key, &dh, &inputs);
        Some(Epoch::new(path, (number, now), session_id, key, ephemerals))
    }
}
