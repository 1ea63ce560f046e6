//! What a link is told when its session is established.

use crate::wire::{
    compress::Algorithm,
    flags::Tier,
    limits::{Limits, UNDECLARED_REPLY},
    opcode::Opcode,
};

use super::tiers::TierPolicy;

/// Bytes of DATA and EVENT that may wait on one stream before its producer is told to wait.
pub const QUEUE_BYTES: usize = 1 << 20;
/// Largest session window, in bytes, unless the configuration says otherwise.
pub const MEMORY: u64 = 64 << 20;

/// Finds the declared maximum length of an operation's answer in its request payload, for example
/// `len` of a USB IN transfer; `None` when the operation declares none. Only the buses know their
/// payloads, and both ends must count alike (profile 11.2).
pub type DeclaredReply = fn(Opcode, &[u8]) -> Option<u32>;

/// The fixed facts of one link.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// This end opened the session: its streams have odd ids.
    pub initiator: bool,
    /// What we announced. Used as given; it was clamped when it was made.
    pub local: Limits,
    /// What the peer announced; clamped to the bounds of profile 18 by the link.
    pub peer: Limits,
    /// The path keeps order and loses nothing (TCP, WebSocket, relay).
    pub ordered: bool,
    /// Ceiling of the session, `selected-tier` of the handshake.
    pub max_tier: Tier,
    /// Minimum tiers for the peer's requests, and for our answers to them.
    pub policy: TierPolicy,
    /// Declared answers of the peer's requests.
    pub declared_reply: DeclaredReply,
    /// The compressor that `SESSION_ACK` selected: what we can unpack.
    pub selected: Option<Algorithm>,
    /// Pack the answers of the few operations that profile 13.2 allows. Off by default.
    pub compress: bool,
    /// Producers are told to wait above this, bytes for each stream.
    pub queue_bytes: usize,
    /// Ceiling of the session window, bytes: what all streams of classes 2–4 may have buffered here.
    pub memory: u64,
}

impl LinkConfig {
    /// An ordered link at Tier 4 with the profile's minimum tiers for a peer of the own family.
    pub fn new(initiator: bool, local: Limits, peer: Limits) -> Self {
        Self {
            initiator,
            local,
            peer: peer.clamped(),
            ordered: true,
            max_tier: Tier::T4,
            policy: TierPolicy::default(),
            declared_reply: |_, _| None,
            selected: None,
            compress: false,
            queue_bytes: QUEUE_BYTES,
            memory: MEMORY,
        }
    }

    /// What a request weighs against `rqb`: payload plus declared answer, 65536 where none is
    /// declared.
    pub(super) fn cost(payload: usize, reply: Option<u32>) -> u64 {
        let reply = u64::from(reply.unwrap_or(UNDECLARED_REPLY));
        u64::try_from(payload)
            .unwrap_or(u64::MAX)
            .saturating_add(reply)
    }
}
