//! The side that is dialled (profile 6.1, 6.7).

use zeroize::Zeroizing;

use super::initiator::prologue;
use super::messages::{self, CompletePayload, Fields, ResponsePayload};
use super::{
    Established, HOLD, HandshakeError, HandshakeInfo, KEEP_ANSWER, LocalNode, Policy, Progress,
    resume, timeout,
};
use crate::session::certificate::{CertificateChain, NodeCertificate};
use crate::session::clock::{ClockQuality, SessionClock, TOLERANCE_SECS};
use crate::session::control::encode;
use crate::session::entropy::{self, Entropy};
use crate::session::epoch::{Ephemerals, Role};
use crate::session::established::{Agreed, Session};
use crate::session::identity::NodeId;
use crate::session::ids::SessionIds;
use crate::session::negotiate::{self, PROFILE, SessionAck, SessionInit};
use crate::session::noise::{Noise, Side};
use crate::session::peer::{PeerIdentity, Restriction};
use crate::session::psk::{Psk, PskLookup, PskUse};
use crate::session::schedule::{self, Secret, Transcript};
use crate::session::ticket::TicketTable;
use crate::wire::flags::Tier;
use crate::wire::message::Message;
use crate::wire::opcode::Opcode;
use crate::wire::tier2;
use crate::wire::tier4::Handshake;
use crate::wire::time::Mono;

/// The keys a responder accepts.
pub struct Offered<'a> {
    /// PSKs by Key ID.
    pub psks: &'a dyn PskLookup,
    /// Outstanding resumption tickets; `None` refuses every resumption.
    pub tickets: Option<&'a mut TicketTable>,
}

/// A responder on one path.
#[derive(Debug)]
pub struct Responder {
    policy: Policy,
    clock: SessionClock,
    ids: SessionIds,
    state: State,
    deadline: Mono,
    /// `KEY_EXCHANGE_INIT` that overtook `SESSION_INIT`.
    early: Option<(Mono, Vec<u8>)>,
    /// Hashes of messages that were answered, with the answers; unordered paths repeat.
    answered: Vec<(Mono, [u8; 32], Vec<Vec<u8>>)>,
}

#[derive(Debug)]
enum State {
    Start,
    Acknowledged(Acknowledged),
    Responded(Box<Responded>),
    Over,
}

/// After m2.
#[derive(Debug)]
struct Acknowledged {
    m1: Vec<u8>,
    m2: Vec<u8>,
    session_id: u16,
    nonces: ([u8; 8], [u8; 8]),
    tier: Tier,
    capabilities: Vec<u64>,
}

/// After m4.
#[derive(Debug)]
struct Responded {
    agreed: Acknowledged,
    m3: Vec<u8>,
    m4: Vec<u8>,
    noise: Noise,
    mac_key: Secret,
    psk: Option<(u32, PskUse)>,
    ephemerals: Ephemerals,
}

/// After m5.
struct Authenticated {
    agreed: Acknowledged,
    psk: Option<(u32, PskUse)>,
    ephemerals: Ephemerals,
    complete: CompletePayload,
    key: [u8; 32],
    session_key: Secret,
}

impl Responder {
    /// A responder for a path that was opened at `now`.
    pub fn new(policy: Policy, now: Mono) -> Self {
        Self {
            policy,
            clock: SessionClock::start(policy.wall, now),
            ids: SessionIds::default(),
            state: State::Start,
            deadline: now.after(timeout(policy.ordered)),
            early: None,
            answered: Vec::new(),
        }
    }

    /// Eats one message of the initiator.
    ///
    /// # Errors
    /// [`HandshakeError`]: the handshake is over. The caller sends [`HandshakeError::hint`] if there
    /// is one, says nothing otherwise, and closes the path.
    pub fn handle(
        &mut self,
        node: &LocalNode,
        offered: &mut Offered<'_>,
        now: Mono,
        rng: &mut dyn Entropy,
        message: &[u8],
    ) -> Result<Progress, HandshakeError> {
        let digest = schedule::hash(&[message]);
        if !self.policy.ordered {
            self.answered
                .retain(|(at, ..)| now.since(*at) < KEEP_ANSWER);
            let repeated = self.answered.iter().find(|(_, known, _)| *known == digest);
            if let Some((.., answer)) = repeated {
                return Ok(Progress::Send(answer.clone()));
            }
        }
        let progress = self.step(node, offered, now, rng, message)?;
        if let Progress::Send(answer) = &progress {
            self.answered.push((now, digest, answer.clone()));
        }
        if self.early.is_some() && matches!(self.state, State::Acknowledged(_)) {
            return self.catch_up(node, offered, now, rng, progress);
        }
        Ok(progress)
    }

    /// When the handshake is given up.
    pub const fn deadline(&self) -> Mono {
        self.deadline
    }

    fn step(
        &mut self,
        node: &LocalNode,
        offered: &mut Offered<'_>,
        now: Mono,
        rng: &mut dyn Entropy,
        message: &[u8],
    ) -> Result<Progress, HandshakeError> {
        if now >= self.deadline {
            return Err(HandshakeError::Timeout);
        }
        match core::mem::replace(&mut self.state, State::Over) {
            State::Start => self.begin(node, offered, now, rng, message),
            State::Acknowledged(agreed) => {
                let responded = self.respond(node, offered, now, rng, agreed, message)?;
                let answer = vec![responded.m4.clone()];
                self.state = State::Responded(Box::new(responded));
                Ok(Progress::Send(answer))
            }
            State::Responded(responded) => self.complete(node, now, *responded, message),
            State::Over => Err(HandshakeError::Timeout),
        }
    }

    /// The first message: `SESSION_INIT`, `SESSION_RESUME`, or what overtook them.
    fn begin(
        &mut self,
        node: &LocalNode,
        offered: &mut Offered<'_>,
        now: Mono,
        rng: &mut dyn Entropy,
        message: &[u8],
    ) -> Result<Progress, HandshakeError> {
        let Ok(Message::Handshake(parts)) = Message::parse(message) else {
            let agreed = self.acknowledge(node, now, rng, message)?;
            let answer = vec![agreed.m2.clone()];
            self.state = State::Acknowledged(agreed);
            return Ok(Progress::Send(answer));
        };
        match parts.header.prefix.opcode {
            Opcode::SessionResume => {
                let path = (&self.policy, &self.clock, core::mem::take(&mut self.ids));
                let tickets = offered.tickets.as_deref_mut();
                resume::answer(node, path, tickets, now, rng, message)
            }
            Opcode::KeyExchangeInit if !self.policy.ordered => {
                self.early = Some((now, message.to_vec()));
                self.state = State::Start;
                Ok(Progress::Wait)
            }
            other => Err(HandshakeError::Unexpected(other)),
        }
    }

    /// m3 came before m1 and is answered together with it.
    fn catch_up(
        &mut self,
        node: &LocalNode,
        offered: &mut Offered<'_>,
        now: Mono,
        rng: &mut dyn Entropy,
        first: Progress,
    ) -> Result<Progress, HandshakeError> {
        let early = self.early.take();
        let early = early.filter(|(held, _)| now.since(*held) <= HOLD);
        let (Some((_, early)), Progress::Send(answers)) = (early, &first) else {
            return Ok(first);
        };
        let mut answers = answers.clone();
        if let Progress::Send(more) = self.handle(node, offered, now, rng, &early)? {
            answers.extend(more);
        }
        Ok(Progress::Send(answers))
    }

    /// m1 to m2: negotiation, nothing secret.
    fn acknowledge(
        &mut self,
        node: &LocalNode,
        now: Mono,
        rng: &mut dyn Entropy,
        m1: &[u8],
    ) -> Result<Acknowledged, HandshakeError> {
        let (header, payload) = messages::expect_tier2(m1, Opcode::SessionInit)?;
        let init: SessionInit = messages::decode(payload)?;
        // First of all, so that a peer of the bare draft learns what it lacks.
        if !init.profile.contains(&PROFILE) {
            return Err(HandshakeError::Profile);
        }
        let named = header.session_id != 0 || init.device_id.is_some();
        if named || !messages::is_short(&init.profile) {
            return Err(HandshakeError::Malformed);
        }
        let requested = negotiate::session_tier(init.tier).ok_or(HandshakeError::Malformed)?;
        let tier = requested.min(node.ceiling());
        let capabilities = negotiate::select(&init.capabilities, &node.capabilities)
            .ok_or(HandshakeError::Capabilities)?;
        let ack = SessionAck {
            session_id: self.ids.allocate(now, rng),
            nonce: entropy::public(rng),
            selected_tier: u64::from(tier.to_u8()),
            selected_capabilities: capabilities.clone(),
            profile: PROFILE,
            init_nonce: init.nonce,
        };
        let session_id = ack.session_id;
        let header = tier2::Header {
            opcode: Opcode::SessionAck,
            sequence: 0,
            session_id,
        };
        Ok(Acknowledged {
            m1: m1.to_vec(),
            m2: header.message(&encode(&ack)),
            session_id,
            nonces: (init.nonce, ack.nonce),
            tier,
            capabilities,
        })
    }

    fn admits_without_psk(&self, tier: Tier) -> Result<(), HandshakeError> {
        if self.policy.psk_first {
            Err(HandshakeError::PskRequired)
        } else if tier == Tier::T5 {
            Err(HandshakeError::TierNeedsPsk)
        } else {
            Ok(())
        }
    }

    /// m3 to m4. The trailer is checked before any X25519 (profile 6.5).
    fn respond(
        &self,
        node: &LocalNode,
        offered: &Offered<'_>,
        now: Mono,
        rng: &mut dyn Entropy,
        agreed: Acknowledged,
        m3: &[u8],
    ) -> Result<Responded, HandshakeError> {
        let parts = messages::expect(m3, Opcode::KeyExchangeInit, 1)?;
        let header = parts.header;
        if header.prefix.session_id != 0 {
            return Err(HandshakeError::Malformed);
        }
        let psk = match header.key_id {
            0 => None,
            id => Some(offered.psks.psk(id).ok_or(HandshakeError::UnknownPsk(id))?),
        };
        if psk.is_none() {
            self.admits_without_psk(agreed.tier)?;
        }
        let key = psk.as_ref().map(|(psk, _)| psk);
        let mac_key = schedule::handshake_mac_key(key.map(Psk::secret));
        messages::check_trailer(&parts, &mac_key)?;

        let private: Zeroizing<[u8; 32]> = entropy::secret(rng);
        let mut noise = Noise::full(
            Side::Responder(private),
            &prologue(&agreed.m1),
            &node.key,
            key,
        )?;
        noise.read(&messages::noise_with_ephemeral(&parts)?)?;
        let payload = ResponsePayload {
            ack: schedule::hash(&[&agreed.m2]),
            cert: node.chain.as_bytes().to_vec(),
            caps: node.capabilities.clone(),
            max_tier: u64::from(node.ceiling().to_u8()),
            time: self.clock.announced(now),
            clk: u64::from(self.policy.wall.quality.to_u8()),
            crl: node.trust.announced_list(),
            limits: node.limits,
        };
        let message = noise.write(&encode(&payload))?;
        let (public, rest) = message
            .split_first_chunk()
            .ok_or(HandshakeError::Malformed)?;
        let fields = Fields {
            opcode: Opcode::KeyExchangeResponse,
            sequence: 1,
            session_id: agreed.session_id,
            timestamp: self.clock.timestamp(now),
            noise16: u16::from_be_bytes(entropy::public(rng)),
            key_id: header.key_id,
            public,
        };
        Ok(Responded {
            m4: fields.message(&messages::key_exchange(rest), &mac_key),
            m3: m3.to_vec(),
            noise,
            mac_key,
            psk: psk.map(|(psk, usage)| (psk.id(), usage)),
            ephemerals: Ephemerals {
                initiator: header.public_key,
                responder: *public,
            },
            agreed,
        })
    }

    /// m5 to the session, or to its sealed refusal.
    fn complete(
        &mut self,
        node: &LocalNode,
        now: Mono,
        responded: Responded,
        m5: &[u8],
    ) -> Result<Progress, HandshakeError> {
        let Authenticated {
            agreed,
            psk,
            ephemerals,
            complete,
            key,
            session_key,
        } = responded.authenticate(m5)?;
        let usage = psk.map(|(_, usage)| usage);
        let verdict = self.judge(node, &complete, &key, usage, &agreed, now);
        let (certificate, refused) = match verdict {
            Ok(certificate) => (certificate, None),
            Err(error) => match error.sealed_reason() {
                Some(reason) => (None, Some((reason, error))),
                None => return Err(error),
            },
        };
        let peer = PeerIdentity {
            node_id: NodeId::of(&key),
            key,
            certificate,
        };
        let mut session = Session::new(
            node,
            Agreed {
                role: Role::Responder,
                ordered: self.policy.ordered,
                session_id: agreed.session_id,
                session_key,
                ephemerals,
                peer,
                peer_limits: complete.limits.clamped(),
                tier: agreed.tier,
                capabilities: agreed.capabilities,
                restriction: Restriction::of(usage),
                clock: self.clock,
                peer_clock: SessionClock::new(complete.time, now),
                wall: self.policy.wall,
                full_handshake: now,
                now,
            },
            None,
        );
        if let Some((close, reason)) = refused {
            return Ok(Progress::Refused {
                close: session.refuse(now, &close),
                reason,
            });
        }
        session.set_ids(core::mem::take(&mut self.ids));
        let info = complete.info(psk);
        Ok(Progress::Established(Box::new(Established {
            send: Vec::new(),
            session,
            info,
        })))
    }

    /// Who the initiator is and whether it may have a session.
    fn judge(
        &self,
        node: &LocalNode,
        complete: &CompletePayload,
        key: &[u8; 32],
        psk: Option<PskUse>,
        agreed: &Acknowledged,
        now: Mono,
    ) -> Result<Option<NodeCertificate>, HandshakeError> {
        let wall = self.policy.wall;
        let chain = CertificateChain::decode(&complete.cert)?;
        // Whatever a node that enrols brings along proves nothing; its key does (profile 5.4).
        if psk == Some(PskUse::Enrol) {
            return Ok(None);
        }
        let certificate = chain.verify(key, &node.trust, wall)?;
        let peer = PeerIdentity {
            node_id: certificate.node_id,
            key: *key,
            certificate: Some(certificate.clone()),
        };
        super::check_family(node, &peer, &agreed.capabilities)?;
        let own = node.trust.own_family() == Some(certificate.family);
        if self.policy.psk_required && own && psk.is_none() {
            return Err(HandshakeError::PskRequired);
        }
        let (lowest, highest) = (self.policy.floor, certificate.tier);
        if agreed.tier < lowest || agreed.tier > highest {
            return Err(HandshakeError::Tier {
                selected: agreed.tier,
                lowest,
                highest,
            });
        }
        let synchronised = wall.quality == ClockQuality::Synchronised
            && ClockQuality::from_u64(complete.clk) == ClockQuality::Synchronised;
        let skew = self.clock.announced(now).abs_diff(complete.time);
        if synchronised && skew > u64::from(TOLERANCE_SECS) {
            return Err(HandshakeError::ClockSkew(skew));
        }
        Ok(Some(certificate))
    }
}

impl CompletePayload {
    const fn info(&self, psk: Option<(u32, PskUse)>) -> HandshakeInfo {
        HandshakeInfo {
            psk,
            peer_list: self.crl,
            peer_time: self.time,
            peer_clock: ClockQuality::from_u64(self.clk),
            resumed: None,
        }
    }
}

impl Responded {
    /// Everything about m5 that a key proves; whether its sender is welcome comes later.
    fn authenticate(self, m5: &[u8]) -> Result<Authenticated, HandshakeError> {
        let parts = messages::expect(m5, Opcode::KeyExchangeComplete, 2)?;
        self.check_header(&parts)?;
        messages::check_trailer(&parts, &self.mac_key)?;
        let Self {
            agreed,
            m3,
            m4,
            mut noise,
            psk,
            ephemerals,
            ..
        } = self;
        let payload = noise.read(&messages::noise_only(&parts)?)?;
        let complete = messages::decode(&payload)?;
        let key = noise.remote_static().ok_or(HandshakeError::Malformed)?;
        let mut transcript = Transcript::full();
        for message in [&agreed.m1[..], &agreed.m2, &m3, &m4, m5] {
            transcript.add(message);
        }
        let split = noise.split().ok_or(HandshakeError::Malformed)?;
        let shared = schedule::shared_secret(&transcript.finish(), &split);
        let (nonce_i, nonce_r) = &agreed.nonces;
        let session_key = schedule::session_key(&shared, nonce_i, nonce_r);
        Ok(Authenticated {
            agreed,
            psk,
            ephemerals,
            complete,
            key,
            session_key,
        })
    }

    fn check_header(&self, parts: &Handshake<'_>) -> Result<(), HandshakeError> {
        let header = &parts.header;
        let same = header.prefix.session_id == self.agreed.session_id
            && header.key_id == self.psk.map_or(0, |(id, _)| id)
            && header.public_key == self.ephemerals.initiator;
        if same {
            Ok(())
        } else {
            Err(HandshakeError::Malformed)
        }
    }
}
