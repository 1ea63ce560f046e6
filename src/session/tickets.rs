//! Tickets of an established session: issued by the responder, held by the initiator (profile 14.5).

use core::time::Duration;

use super::control::TicketBody;
use super::entropy::{self, Entropy};
use super::epoch::Role;
use super::established::{LIFETIME as SESSION_LIFETIME, Session, State};
use super::peer::Restriction;
use super::schedule;
use super::ticket::{
    self, Grant, HeldTicket, LIFETIME, PER_SESSION, TicketError, TicketNonce, TicketTable,
};
use crate::wire::msgpack;
use crate::wire::time::Mono;

impl Session {
    /// Issues one more ticket; [`Session::poll_control`] sends it.
    ///
    /// # Errors
    /// [`TicketError::TooMany`] or [`TicketError::NotHere`].
    pub fn issue_ticket(
        &mut self,
        now: Mono,
        rng: &mut dyn Entropy,
        table: &mut TicketTable,
    ) -> Result<(), TicketError> {
        let keys = self.keys.as_ref().filter(|keys| keys.next.is_none());
        let keys = keys.ok_or(TicketError::NotHere)?;
        let responder = self.role == Role::Responder && self.state == State::Open;
        if !responder || self.restriction != Restriction::None {
            return Err(TicketError::NotHere);
        }
        if table.outstanding(&self.issued, now) >= PER_SESSION {
            return Err(TicketError::TooMany);
        }
        let left = self
            .full_handshake
            .after(SESSION_LIFETIME)
            .min(self.ends)
            .since(now);
        let lifetime = Duration::from_secs(LIFETIME.min(left).as_secs());
        let nonce = entropy::public(rng);
        let psk = schedule::ticket_psk(&keys.current.resumption, &nonce);
        let (number, grant) = (keys.current.number, self.grant(keys.current.session_id()));
        let issued_at = self.clock.timestamp(now);
        let ticket = table.issue((now, issued_at), rng, nonce, &psk, grant, lifetime)?;
        self.issued.push(nonce);
        let body = TicketBody {
            ticket,
            lifetime: lifetime.as_secs(),
        };
        self.pending.tickets.push_back((number, body));
        Ok(())
    }

    /// Takes a TICKET that came as an EVENT frame on stream 0 instead of in direct form. False when
    /// it is malformed or out of place: a protocol error of the peer.
    pub fn accept_ticket(&mut self, now: Mono, payload: &[u8]) -> bool {
        let Some(number) = self.keys.as_ref().map(|keys| keys.current.number) else {
            return false;
        };
        msgpack::decode(payload).is_ok_and(|body| self.hold_ticket(now, number, &body))
    }

    /// The newest ticket that was received and not taken yet. It may be used once, for
    /// [`super::handshake::Resumer`], when the session or its path has ended.
    pub fn take_ticket(&mut self) -> Option<HeldTicket> {
        self.held.pop()
    }

    /// Whether this session gave that ticket.
    pub fn has_issued(&self, nonce: &TicketNonce) -> bool {
        self.issued.contains(nonce)
    }

    /// Erases the tickets of this session from the responder's table (profile 14.4).
    pub fn forget_tickets(&mut self, table: &mut TicketTable) {
        table.forget(&self.issued);
        self.issued.clear();
    }

    /// Derives the PSK of a ticket that was opened in epoch `number`.
    pub(super) fn hold_ticket(&mut self, now: Mono, number: u32, body: &TicketBody) -> bool {
        let Some(keys) = &self.keys else {
            return false;
        };
        if self.role != Role::Initiator || self.restriction != Restriction::None {
            return false;
        }
        // The secret of an epoch that has ended is erased, so its late tickets are useless.
        if number != keys.current.number {
            return true;
        }
        let nonce = ticket::nonce_of(&body.ticket);
        let psk = schedule::ticket_psk(&keys.current.resumption, &nonce);
        let lifetime = LIFETIME.min(Duration::from_secs(body.lifetime));
        let grant = self.grant(keys.current.session_id());
        if self.held.len() >= PER_SESSION {
            self.held.remove(0);
        }
        let expires = now.after(lifetime);
        self.held.push(HeldTicket {
            ticket: body.ticket,
            psk,
            grant,
            expires,
        });
        true
    }

    fn grant(&self, session_id: u16) -> Grant {
        Grant {
            peer: self.peer.clone(),
            session_id,
            tier: self.tier,
            capabilities: self.capabilities.clone(),
            full_handshake: self.full_handshake,
        }
    }
}
