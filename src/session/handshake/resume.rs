//! Resumption with a ticket (profile 14.5): Noise `NNpsk0` in one round trip, no data before it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::initiator::{hint, repeats};
use super::messages::{self, Fields};
use super::{Established, HandshakeError, HandshakeInfo, LocalNode, Policy, Progress, timeout};
use crate::session::clock::{ClockQuality, SessionClock};
use crate::session::control::encode;
use crate::session::entropy::{self, Entropy};
use crate::session::epoch::{Ephemerals, Role};
use crate::session::established::{Agreed, LIFETIME, Session};
use crate::session::ids::SessionIds;
use crate::session::negotiate::{self, PROFILE};
use crate::session::noise::{Noise, Side};
use crate::session::peer::Restriction;
use crate::session::schedule::{self, Secret, Transcript};
use crate::session::ticket::{
    self, Grant, HeldTicket, TICKET_LEN, TicketError, TicketNonce, TicketTable,
};
use crate::wire::flags::Tier;
use crate::wire::limits::Limits;
use crate::wire::opcode::Opcode;
use crate::wire::time::Mono;

/// Payload of `SESSION_RESUME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResumeBody {
    #[serde(rename = "old-session-id")]
    old_session_id: u16,
    #[serde(with = "serde_bytes")]
    ticket: [u8; TICKET_LEN],
    #[serde(with = "serde_bytes")]
    noise: Vec<u8>,
}

/// Noise payload of `SESSION_RESUME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ResumeOffer {
    #[serde(with = "serde_bytes")]
    nonce: [u8; 8],
    timestamp: u64,
    #[serde(default)]
    capabilities: Vec<u64>,
    tier: u64,
    profile: Vec<u64>,
    #[serde(default)]
    clk: u64,
    #[serde(default)]
    limits: Limits,
}

/// Noise payload of `SESSION_RESUMED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ResumeAnswer {
    #[serde(rename = "session-id")]
    session_id: u16,
    #[serde(with = "serde_bytes")]
    nonce: [u8; 8],
    #[serde(rename = "selected-tier")]
    selected_tier: u64,
    #[serde(rename = "selected-capabilities")]
    selected_capabilities: Vec<u64>,
    caps: Vec<u64>,
    #[serde(rename = "max-tier")]
    max_tier: u64,
    profile: u64,
    time: u64,
    #[serde(default)]
    clk: u64,
    #[serde(default)]
    crl: u64,
    #[serde(default)]
    limits: Limits,
}

/// `"MKB1R" || H(ticket) || BE16(old-session-id)`.
fn prologue(ticket: &[u8; TICKET_LEN], old_session_id: u16) -> Vec<u8> {
    let hash = schedule::hash(&[ticket]);
    [&b"MKB1R"[..], &hash, &old_session_id.to_be_bytes()].concat()
}

fn session_key(
    split: &(Secret, Secret),
    messages: [&[u8]; 2],
    nonces: (&[u8; 8], &[u8; 8]),
) -> Secret {
    let mut transcript = Transcript::resumption();
    for message in messages {
        transcript.add(message);
    }
    let shared = schedule::shared_secret(&transcript.finish(), split);
    schedule::session_key(&shared, nonces.0, nonces.1)
}

/// An initiator that tries to resume. A failure means a full handshake, nothing weaker.
#[derive(Debug)]
pub struct Resumer {
    ticket: HeldTicket,
    policy: Policy,
    nonce: [u8; 8],
    tier: Tier,
    capabilities: Vec<u64>,
    ephemeral: [u8; 32],
    noise: Option<Noise>,
    mac_key: Secret,
    clock: SessionClock,
    first: Vec<u8>,
    deadline: Mono,
    repeats: VecDeque<Mono>,
}

impl Resumer {
    /// Starts a resumption: returns `SESSION_RESUME`, to be sent alone. The ticket is used up.
    ///
    /// # Errors
    /// [`HandshakeError::Ticket`] when the ticket has expired, its peer was revoked meanwhile, or
    /// the full handshake is seven days old; [`HandshakeError::Tier`] when the policy's floor is
    /// above the ticket's session.
    pub fn start(
        node: &LocalNode,
        ticket: HeldTicket,
        policy: Policy,
        now: Mono,
        rng: &mut dyn Entropy,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        if now >= ticket.expires {
            return Err(TicketError::Unknown.into());
        }
        check_grant(node, &ticket.grant, &policy, now)?;
        let tier = ticket.grant.tier.min(node.ceiling());
        let clock = SessionClock::start(policy.wall, now);
        let offer = ResumeOffer {
            nonce: entropy::public(rng),
            timestamp: clock.announced(now),
            capabilities: node.capabilities.clone(),
            tier: u64::from(tier.to_u8()),
            profile: vec![PROFILE],
            clk: u64::from(policy.wall.quality.to_u8()),
            limits: node.limits,
        };
        let private: Zeroizing<[u8; 32]> = entropy::secret(rng);
        let session_id = ticket.grant.session_id;
        let prologue = prologue(&ticket.ticket, session_id);
        let mut noise = Noise::resumption(Side::Initiator(private), &prologue, &ticket.psk)?;
        let message = noise.write(&encode(&offer))?;
        let (public, rest) = message
            .split_first_chunk()
            .ok_or(HandshakeError::Malformed)?;
        let mac_key = schedule::handshake_mac_key(Some(&ticket.psk));
        let fields = Fields {
            opcode: Opcode::SessionResume,
            sequence: 0,
            session_id: 0,
            timestamp: clock.timestamp(now),
            noise16: u16::from_be_bytes(entropy::public(rng)),
            key_id: ticket::key_id(&ticket.ticket),
            public,
        };
        let body = ResumeBody {
            old_session_id: session_id,
            ticket: ticket.ticket,
            noise: rest.to_vec(),
        };
        let first = fields.message(&encode(&body), &mac_key);
        let resumer = Self {
            policy,
            nonce: offer.nonce,
            tier,
            capabilities: offer.capabilities,
            ephemeral: *public,
            noise: Some(noise),
            mac_key,
            clock,
            first: first.clone(),
            deadline: now.after(timeout(policy.ordered)),
            repeats: repeats(policy.ordered, now),
            ticket,
        };
        Ok((resumer, first))
    }

    /// Eats the responder's answer.
    ///
    /// # Errors
    /// [`HandshakeError`]: no session, and the ticket is used up.
    pub fn handle(
        &mut self,
        node: &LocalNode,
        now: Mono,
        message: &[u8],
    ) -> Result<Progress, HandshakeError> {
        if let Some(reason) = hint(message) {
            return Err(HandshakeError::Refused(reason));
        }
        let parts = messages::expect(message, Opcode::SessionResumed, 0)?;
        let header = parts.header;
        if header.key_id != ticket::key_id(&self.ticket.ticket) {
            return Err(HandshakeError::Malformed);
        }
        messages::check_trailer(&parts, &self.mac_key)?;
        let mut noise = self.noise.take().ok_or(HandshakeError::Timeout)?;
        let payload = noise.read(&messages::noise_with_ephemeral(&parts)?)?;
        let answer: ResumeAnswer = messages::decode(&payload)?;
        let sid = answer.session_id;
        if sid != header.prefix.session_id || sid == 0 || sid == u16::MAX {
            return Err(HandshakeError::Malformed);
        }
        let tier = self.check_negotiation(&answer)?;
        let split = noise.split().ok_or(HandshakeError::Malformed)?;
        let grant = self.ticket.grant.clone();
        let session = Session::new(
            node,
            Agreed {
                role: Role::Initiator,
                ordered: self.policy.ordered,
                session_id: sid,
                session_key: session_key(
                    &split,
                    [&self.first, message],
                    (&self.nonce, &answer.nonce),
                ),
                ephemerals: Ephemerals {
                    initiator: self.ephemeral,
                    responder: header.public_key,
                },
                peer: grant.peer,
                peer_limits: answer.limits.clamped(),
                tier,
                capabilities: answer.selected_capabilities,
                restriction: Restriction::None,
                clock: self.clock,
                peer_clock: SessionClock::new(answer.time, now),
                wall: self.policy.wall,
                full_handshake: grant.full_handshake,
                now,
            },
            None,
        );
        let info = info(answer.crl, answer.time, answer.clk);
        Ok(Progress::Established(Box::new(Established {
            send: Vec::new(),
            session,
            info,
        })))
    }

    /// When [`Resumer::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Mono {
        self.repeats
            .front()
            .map_or(self.deadline, |repeat| self.deadline.min(*repeat))
    }

    /// The message to repeat on an unordered path, if it is time.
    ///
    /// # Errors
    /// [`HandshakeError::Timeout`].
    pub fn handle_timeout(&mut self, now: Mono) -> Result<Option<Vec<u8>>, HandshakeError> {
        if now >= self.deadline {
            return Err(HandshakeError::Timeout);
        }
        let due = self.repeats.front().is_some_and(|due| now >= *due);
        if due {
            self.repeats.pop_front();
        }
        Ok(due.then(|| self.first.clone()))
    }

    fn check_negotiation(&self, answer: &ResumeAnswer) -> Result<Tier, HandshakeError> {
        let max = negotiate::session_tier(answer.max_tier).ok_or(HandshakeError::Downgrade)?;
        let tier = self.tier.min(max);
        let selected = narrowed(&self.capabilities, &answer.caps, &self.ticket.grant);
        let same = answer.profile == PROFILE
            && answer.selected_tier == u64::from(tier.to_u8())
            && selected.as_ref() == Some(&answer.selected_capabilities);
        if !same {
            return Err(HandshakeError::Downgrade);
        }
        if tier < self.policy.floor {
            let (lowest, highest) = (self.policy.floor, self.ticket.grant.tier);
            return Err(HandshakeError::Tier {
                selected: tier,
                lowest,
                highest,
            });
        }
        Ok(tier)
    }
}

/// A `SESSION_RESUME` whose ticket, trailer and Noise message are in order.
struct Accepted {
    noise: Noise,
    mac_key: Secret,
    grant: Grant,
    offer: ResumeOffer,
    key_id: u32,
    initiator: [u8; 32],
    ticket_nonce: TicketNonce,
}

/// Takes a ticket out of the table, once Noise has accepted it.
fn accept(
    node: &LocalNode,
    policy: &Policy,
    tickets: &mut TicketTable,
    now: Mono,
    rng: &mut dyn Entropy,
    message: &[u8],
) -> Result<Accepted, HandshakeError> {
    let parts = messages::expect(message, Opcode::SessionResume, 0)?;
    let header = parts.header;
    let body: ResumeBody = messages::decode(parts.payload)?;
    let (ticket_nonce, psk, grant) = tickets.look_up(now, &body.ticket)?;
    let named = header.key_id == ticket::key_id(&body.ticket)
        && header.prefix.session_id == 0
        && body.old_session_id == grant.session_id;
    if !named {
        return Err(TicketError::Unknown.into());
    }
    check_grant(node, &grant, policy, now)?;
    let mac_key = schedule::handshake_mac_key(Some(&psk));
    messages::check_trailer(&parts, &mac_key)?;
    let prologue = prologue(&body.ticket, body.old_session_id);
    let side = Side::Responder(entropy::secret(rng));
    let mut noise = Noise::resumption(side, &prologue, &psk)?;
    let offer = noise.read(&[&header.public_key[..], &body.noise].concat())?;
    tickets.forget(&[ticket_nonce]);
    let offer = messages::decode(&offer)?;
    let (key_id, initiator) = (header.key_id, header.public_key);
    Ok(Accepted {
        noise,
        mac_key,
        grant,
        offer,
        key_id,
        initiator,
        ticket_nonce,
    })
}

/// The responder's side in one step.
pub(super) fn answer(
    node: &LocalNode,
    (policy, clock, mut ids): (&Policy, &SessionClock, SessionIds),
    tickets: Option<&mut TicketTable>,
    now: Mono,
    rng: &mut dyn Entropy,
    message: &[u8],
) -> Result<Progress, HandshakeError> {
    let tickets = tickets.ok_or(TicketError::Unknown)?;
    let mut accepted = accept(node, policy, tickets, now, rng, message)?;
    let answer = accepted.answer(node, (policy, clock, &mut ids), now, rng)?;
    let (reply, responder) = accepted.reply((clock, &answer), now, rng)?;
    let Accepted {
        noise,
        grant,
        offer,
        initiator,
        ticket_nonce,
        ..
    } = accepted;
    let split = noise.split().ok_or(HandshakeError::Malformed)?;
    let tier = negotiate::session_tier(answer.selected_tier).ok_or(HandshakeError::Malformed)?;
    let mut session = Session::new(
        node,
        Agreed {
            role: Role::Responder,
            ordered: policy.ordered,
            session_id: answer.session_id,
            session_key: session_key(&split, [message, &reply], (&offer.nonce, &answer.nonce)),
            ephemerals: Ephemerals {
                initiator,
                responder,
            },
            peer: grant.peer,
            peer_limits: offer.limits.clamped(),
            tier,
            capabilities: answer.selected_capabilities,
            restriction: Restriction::None,
            clock: *clock,
            peer_clock: SessionClock::new(offer.timestamp, now),
            wall: policy.wall,
            full_handshake: grant.full_handshake,
            now,
        },
        None,
    );
    session.set_ids(ids);
    // The ticket proves the PSK, but only a sealed message proves that `SESSION_RESUME` was fresh
    // (profile D-16).
    session.unconfirmed();
    let info = HandshakeInfo {
        resumed: Some(ticket_nonce),
        ..info(0, offer.timestamp, offer.clk)
    };
    Ok(Progress::Established(Box::new(Established {
        send: vec![reply],
        session,
        info,
    })))
}

impl Accepted {
    /// What the new session will be.
    fn answer(
        &self,
        node: &LocalNode,
        (policy, clock, ids): (&Policy, &SessionClock, &mut SessionIds),
        now: Mono,
        rng: &mut dyn Entropy,
    ) -> Result<ResumeAnswer, HandshakeError> {
        let (tier, selected_capabilities) = choose(node, &self.offer, &self.grant, policy)?;
        Ok(ResumeAnswer {
            session_id: ids.allocate(now, rng),
            nonce: entropy::public(rng),
            selected_tier: u64::from(tier.to_u8()),
            selected_capabilities,
            caps: node.capabilities.clone(),
            max_tier: u64::from(node.ceiling().min(self.grant.tier).to_u8()),
            profile: PROFILE,
            time: clock.announced(now),
            clk: u64::from(policy.wall.quality.to_u8()),
            crl: node.trust.announced_list(),
            limits: node.limits,
        })
    }

    /// `SESSION_RESUMED` and the ephemeral in it.
    fn reply(
        &mut self,
        (clock, answer): (&SessionClock, &ResumeAnswer),
        now: Mono,
        rng: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, [u8; 32]), HandshakeError> {
        let written = self.noise.write(&encode(answer))?;
        let (public, rest) = written
            .split_first_chunk()
            .ok_or(HandshakeError::Malformed)?;
        let fields = Fields {
            opcode: Opcode::SessionResumed,
            sequence: 0,
            session_id: answer.session_id,
            timestamp: clock.timestamp(now),
            noise16: u16::from_be_bytes(entropy::public(rng)),
            key_id: self.key_id,
            public,
        };
        Ok((
            fields.message(&messages::key_exchange(rest), &self.mac_key),
            *public,
        ))
    }
}

/// Revocation, validity and age are checked at each step of a chain (profile 14.6).
fn check_grant(
    node: &LocalNode,
    grant: &Grant,
    policy: &Policy,
    now: Mono,
) -> Result<(), HandshakeError> {
    if now.since(grant.full_handshake) >= LIFETIME {
        return Err(TicketError::Unknown.into());
    }
    if let Some(certificate) = &grant.peer.certificate {
        let present = node.trust.present(policy.wall);
        certificate
            .check_revocation(&node.trust)
            .map_err(TicketError::Certificate)?;
        certificate
            .check_validity(present, policy.wall.quality)
            .map_err(TicketError::Certificate)?;
    }
    if grant.tier < policy.floor {
        let (lowest, highest) = (policy.floor, grant.tier);
        return Err(HandshakeError::Tier {
            selected: grant.tier,
            lowest,
            highest,
        });
    }
    Ok(())
}

/// The rules of profile 6.2 and 6.3, bounded by the ticket's session.
fn choose(
    node: &LocalNode,
    offer: &ResumeOffer,
    grant: &Grant,
    policy: &Policy,
) -> Result<(Tier, Vec<u64>), HandshakeError> {
    if !messages::is_short(&offer.profile) || !offer.profile.contains(&PROFILE) {
        return Err(HandshakeError::Profile);
    }
    let requested = negotiate::session_tier(offer.tier).ok_or(HandshakeError::Malformed)?;
    let tier = requested.min(node.ceiling()).min(grant.tier);
    if tier < policy.floor {
        let (lowest, highest) = (policy.floor, grant.tier);
        return Err(HandshakeError::Tier {
            selected: tier,
            lowest,
            highest,
        });
    }
    let capabilities = narrowed(&offer.capabilities, &node.capabilities, grant)
        .ok_or(HandshakeError::Capabilities)?;
    Ok((tier, capabilities))
}

/// The selection, less what the ticket's session did not have.
fn narrowed(offered: &[u64], supported: &[u64], grant: &Grant) -> Option<Vec<u64>> {
    let mut selected = negotiate::select(offered, supported)?;
    selected.retain(|number| grant.capabilities.contains(number));
    Some(selected)
}

fn info(peer_list: u64, peer_time: u64, clk: u64) -> HandshakeInfo {
    HandshakeInfo {
        psk: None,
        peer_list,
        peer_time,
        peer_clock: ClockQuality::from_u64(clk),
        resumed: None,
    }
}
