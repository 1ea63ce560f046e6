//! The side that dials (profile 6.1, 6.7).

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::messages::{self, CompletePayload, Fields, ResponsePayload};
use super::{Established, HandshakeError, HandshakeInfo, LocalNode, Policy, Progress, timeout};
use crate::session::certificate::CertificateChain;
use crate::session::clock::{ClockQuality, SessionClock};
use crate::session::control::{CloseReason, encode};
use crate::session::entropy::{self, Entropy};
use crate::session::epoch::{Ephemerals, Role};
use crate::session::established::{Agreed, Session};
use crate::session::identity::NodeId;
use crate::session::negotiate::{self, PROFILE, SessionAck, SessionInit};
use crate::session::noise::{Noise, Side};
use crate::session::peer::{PeerIdentity, Restriction};
use crate::session::psk::{Psk, PskUse};
use crate::session::schedule::{self, Secret, Transcript};
use crate::wire::flags::Tier;
use crate::wire::message::Message;
use crate::wire::opcode::Opcode;
use crate::wire::tier2;
use crate::wire::time::Mono;

/// Seconds between repetitions of the first messages on an unordered path (profile 6.8).
const REPEATS: [u64; 3] = [1, 2, 4];

/// Whom an initiator dials and how.
#[derive(Clone, Debug)]
pub struct Dial {
    /// The node it means to reach; required for an enrolment.
    pub expected: Option<NodeId>,
    /// The PSK to mix.
    pub psk: Option<(Psk, PskUse)>,
    /// The tier to ask for, 3–5; the own certificate may lower it.
    pub tier: Tier,
}

/// An initiator that has sent its first two messages.
#[derive(Debug)]
pub struct Initiator {
    dial: Dial,
    policy: Policy,
    nonce: [u8; 8],
    capabilities: Vec<u64>,
    ephemeral: [u8; 32],
    /// Gone, and wiped, once m4 has been looked at.
    noise: Option<Noise>,
    mac_key: Secret,
    clock: SessionClock,
    first: [Vec<u8>; 2],
    ack: Option<(SessionAck, Vec<u8>)>,
    early: Option<Vec<u8>>,
    deadline: Mono,
    repeats: VecDeque<Mono>,
}

impl Initiator {
    /// Starts a handshake: returns `SESSION_INIT` and `KEY_EXCHANGE_INIT`, to be sent in this order
    /// at once.
    ///
    /// # Errors
    /// [`HandshakeError::TierNeedsPsk`], [`HandshakeError::EnrolNeedsPeer`] or
    /// [`HandshakeError::Tier`] when `dial` contradicts the profile or the policy.
    pub fn start(
        node: &LocalNode,
        dial: Dial,
        policy: Policy,
        now: Mono,
        rng: &mut dyn Entropy,
    ) -> Result<(Self, [Vec<u8>; 2]), HandshakeError> {
        let tier = dial.tier.min(node.ceiling());
        check_dial(&dial, tier, policy.floor)?;
        let dial = Dial { tier, ..dial };
        let nonce = entropy::public(rng);
        let init = SessionInit {
            nonce,
            timestamp: policy.wall.secs,
            capabilities: node.capabilities.clone(),
            device_id: None,
            tier: u64::from(tier.to_u8()),
            profile: vec![PROFILE],
        };
        let header = tier2::Header {
            opcode: Opcode::SessionInit,
            sequence: 0,
            session_id: 0,
        };
        let m1 = header.message(&encode(&init));

        let private: Zeroizing<[u8; 32]> = entropy::secret(rng);
        let psk = dial.psk.as_ref().map(|(psk, _)| psk);
        let mac_key = schedule::handshake_mac_key(psk.map(Psk::secret));
        let prologue = prologue(&m1);
        let mut noise = Noise::full(Side::Initiator(private), &prologue, &node.key, psk)?;
        let message = noise.write(&[])?;
        let (ephemeral, rest) = message
            .split_first_chunk()
            .ok_or(HandshakeError::Malformed)?;
        let clock = SessionClock::start(policy.wall, now);
        let fields = Fields {
            opcode: Opcode::KeyExchangeInit,
            sequence: 1,
            session_id: 0,
            timestamp: clock.timestamp(now),
            noise16: u16::from_be_bytes(entropy::public(rng)),
            key_id: psk.map_or(0, Psk::id),
            public: ephemeral,
        };
        let m3 = fields.message(&messages::key_exchange(rest), &mac_key);
        let first = [m1, m3];
        let initiator = Self {
            dial,
            policy,
            nonce,
            capabilities: init.capabilities,
            ephemeral: *ephemeral,
            noise: Some(noise),
            mac_key,
            clock,
            first: first.clone(),
            ack: None,
            early: None,
            deadline: now.after(timeout(policy.ordered)),
            repeats: repeats(policy.ordered, now),
        };
        Ok((initiator, first))
    }

    /// Eats one message of the responder.
    ///
    /// # Errors
    /// [`HandshakeError`]: the handshake is over, the caller closes the path.
    pub fn handle(
        &mut self,
        node: &LocalNode,
        now: Mono,
        rng: &mut dyn Entropy,
        message: &[u8],
    ) -> Result<Progress, HandshakeError> {
        if let Some(reason) = hint(message) {
            return Err(HandshakeError::Refused(reason));
        }
        match &self.ack {
            None if !self.policy.ordered && is_response(message) => {
                self.early = Some(message.to_vec());
                Ok(Progress::Wait)
            }
            None => {
                self.acknowledged(message)?;
                match self.early.take() {
                    None => Ok(Progress::Wait),
                    Some(early) => self.handle(node, now, rng, &early),
                }
            }
            Some((_, m2)) if !self.policy.ordered && m2 == message => Ok(Progress::Wait),
            Some((ack, m2)) => {
                let (ack, m2) = (ack.clone(), m2.clone());
                let noise = self.noise.take().ok_or(HandshakeError::Timeout)?;
                self.complete(node, now, rng, noise, (&ack, &m2), message)
            }
        }
    }

    /// When [`Initiator::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Mono {
        self.repeats
            .front()
            .map_or(self.deadline, |repeat| self.deadline.min(*repeat))
    }

    /// Messages to repeat on an unordered path.
    ///
    /// # Errors
    /// [`HandshakeError::Timeout`].
    pub fn handle_timeout(&mut self, now: Mono) -> Result<Vec<Vec<u8>>, HandshakeError> {
        if now >= self.deadline {
            return Err(HandshakeError::Timeout);
        }
        match self.repeats.front() {
            Some(due) if now >= *due => {
                self.repeats.pop_front();
                Ok(self.first.to_vec())
            }
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// m2: remembered, and believed only once m4 has confirmed it.
    fn acknowledged(&mut self, message: &[u8]) -> Result<(), HandshakeError> {
        let (header, payload) = messages::expect_tier2(message, Opcode::SessionAck)?;
        let ack: SessionAck = messages::decode(payload)?;
        let named = ack.session_id == header.session_id;
        if !named || ack.session_id == 0 || ack.session_id == u16::MAX {
            return Err(HandshakeError::Malformed);
        }
        if ack.init_nonce != self.nonce {
            return Err(HandshakeError::Downgrade);
        }
        if ack.profile != PROFILE {
            return Err(HandshakeError::Profile);
        }
        self.ack = Some((ack, message.to_vec()));
        Ok(())
    }

    /// m4 to m5 and the session.
    fn complete(
        &mut self,
        node: &LocalNode,
        now: Mono,
        rng: &mut dyn Entropy,
        mut noise: Noise,
        (ack, m2): (&SessionAck, &[u8]),
        m4: &[u8],
    ) -> Result<Progress, HandshakeError> {
        let parts = messages::expect(m4, Opcode::KeyExchangeResponse, 1)?;
        let header = parts.header;
        if header.prefix.session_id != ack.session_id || header.key_id != self.key_id() {
            return Err(HandshakeError::Malformed);
        }
        messages::check_trailer(&parts, &self.mac_key)?;
        let payload = noise.read(&messages::noise_with_ephemeral(&parts)?)?;
        let response: ResponsePayload = messages::decode(&payload)?;
        let tier = self.check_negotiation(ack, m2, &response)?;
        let key = noise.remote_static().ok_or(HandshakeError::Malformed)?;
        let peer = self.check_peer(node, key, &response, tier)?;
        super::check_family(node, &peer, &ack.selected_capabilities)?;

        let m5 = self.write_complete(node, now, rng, &mut noise, ack.session_id)?;
        let mut transcript = Transcript::full();
        let [m1, m3] = &self.first;
        for message in [m1, m2, m3, m4, &m5] {
            transcript.add(message);
        }
        let split = noise.split().ok_or(HandshakeError::Malformed)?;
        let shared = schedule::shared_secret(&transcript.finish(), &split);
        let session = Session::new(
            node,
            Agreed {
                role: Role::Initiator,
                ordered: self.policy.ordered,
                session_id: ack.session_id,
                session_key: schedule::session_key(&shared, &self.nonce, &ack.nonce),
                ephemerals: Ephemerals {
                    initiator: self.ephemeral,
                    responder: header.public_key,
                },
                peer,
                peer_limits: response.limits.clamped(),
                tier,
                capabilities: ack.selected_capabilities.clone(),
                restriction: Restriction::of(self.dial.psk.as_ref().map(|(_, usage)| *usage)),
                clock: self.clock,
                peer_clock: SessionClock::new(response.time, now),
                wall: self.policy.wall,
                full_handshake: now,
                now,
            },
            (!self.policy.ordered).then(|| m5.clone()),
        );
        let info = HandshakeInfo {
            psk: self
                .dial
                .psk
                .as_ref()
                .map(|(psk, usage)| (psk.id(), *usage)),
            peer_list: response.crl,
            peer_time: response.time,
            peer_clock: ClockQuality::from_u64(response.clk),
            resumed: None,
        };
        Ok(Progress::Established(Box::new(Established {
            send: vec![m5],
            session,
            info,
        })))
    }

    /// The checks against a changed negotiation (profile 6.7).
    fn check_negotiation(
        &self,
        ack: &SessionAck,
        m2: &[u8],
        response: &ResponsePayload,
    ) -> Result<Tier, HandshakeError> {
        let max = negotiate::session_tier(response.max_tier).ok_or(HandshakeError::Downgrade)?;
        let tier = self.dial.tier.min(max);
        let selected = negotiate::select(&self.capabilities, &response.caps);
        let same = response.ack == schedule::hash(&[m2])
            && ack.selected_tier == u64::from(tier.to_u8())
            && selected.as_ref() == Some(&ack.selected_capabilities);
        if !same {
            return Err(HandshakeError::Downgrade);
        }
        Ok(tier)
    }

    fn check_peer(
        &self,
        node: &LocalNode,
        key: [u8; 32],
        response: &ResponsePayload,
        tier: Tier,
    ) -> Result<PeerIdentity, HandshakeError> {
        let found = NodeId::of(&key);
        if let Some(expected) = self.dial.expected
            && expected != found
        {
            return Err(HandshakeError::WrongPeer { expected, found });
        }
        let chain = CertificateChain::decode(&response.cert)?;
        let certificate = chain.verify(&key, &node.trust, self.policy.wall)?;
        let highest = certificate.tier;
        if tier < self.policy.floor || tier > highest {
            let lowest = self.policy.floor;
            return Err(HandshakeError::Tier {
                selected: tier,
                lowest,
                highest,
            });
        }
        Ok(PeerIdentity {
            node_id: found,
            key,
            certificate: Some(certificate),
        })
    }

    fn write_complete(
        &mut self,
        node: &LocalNode,
        now: Mono,
        rng: &mut dyn Entropy,
        noise: &mut Noise,
        session_id: u16,
    ) -> Result<Vec<u8>, HandshakeError> {
        let payload = CompletePayload {
            cert: node.chain.as_bytes().to_vec(),
            time: self.clock.announced(now),
            clk: u64::from(self.policy.wall.quality.to_u8()),
            crl: node.trust.announced_list(),
            limits: node.limits,
        };
        let noise = noise.write(&encode(&payload))?;
        let fields = Fields {
            opcode: Opcode::KeyExchangeComplete,
            sequence: 2,
            session_id,
            timestamp: self.clock.timestamp(now),
            noise16: u16::from_be_bytes(entropy::public(rng)),
            key_id: self.key_id(),
            public: &self.ephemeral,
        };
        Ok(fields.message(&messages::key_exchange(&noise), &self.mac_key))
    }

    fn key_id(&self) -> u32 {
        self.dial.psk.as_ref().map_or(0, |(psk, _)| psk.id())
    }
}

fn check_dial(dial: &Dial, tier: Tier, floor: Tier) -> Result<(), HandshakeError> {
    if tier < floor || tier < Tier::T3 {
        let lowest = floor.max(Tier::T3);
        return Err(HandshakeError::Tier {
            selected: tier,
            lowest,
            highest: Tier::T5,
        });
    }
    match &dial.psk {
        None if tier == Tier::T5 => Err(HandshakeError::TierNeedsPsk),
        Some((_, PskUse::Enrol)) if dial.expected.is_none() => Err(HandshakeError::EnrolNeedsPeer),
        None | Some((_, PskUse::Enrol | PskUse::Pair | PskUse::Family { .. })) => Ok(()),
    }
}

/// `"MKB1" || H(m1)` (profile 6.4).
pub(super) fn prologue(m1: &[u8]) -> Vec<u8> {
    [&b"MKB1"[..], &schedule::hash(&[m1])].concat()
}

pub(super) fn repeats(ordered: bool, now: Mono) -> VecDeque<Mono> {
    let mut at = now;
    REPEATS
        .iter()
        .filter(|_| !ordered)
        .map(|secs| {
            at = at.after(core::time::Duration::from_secs(*secs));
            at
        })
        .collect()
}

/// The unsealed refusal in a message, if it is one.
pub(super) fn hint(message: &[u8]) -> Option<CloseReason> {
    let Ok(Message::Negotiation { header, payload }) = Message::parse(message) else {
        return None;
    };
    (header.opcode == Opcode::SessionClose).then(|| CloseReason::decode(payload))
}

fn is_response(message: &[u8]) -> bool {
    messages::expect(message, Opcode::KeyExchangeResponse, 1).is_ok()
}
