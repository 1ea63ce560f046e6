//! Resumption tickets (profile 14.5): 64 bytes that only the responder can read, and the table of
//! those that are outstanding.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

use ring::aead;
use zeroize::Zeroizing;

use super::certificate::CertificateError;
use super::entropy::{self, Entropy};
use super::identity::NodeId;
use super::peer::PeerIdentity;
use super::schedule::Secret;
use crate::wire::flags::Tier;
use crate::wire::time::Mono;

/// Bytes of a ticket.
pub const TICKET_LEN: usize = 64;
/// Longest lifetime of a ticket.
pub const LIFETIME: Duration = Duration::from_secs(86400);
/// Outstanding tickets per session and per peer node (profile 18).
pub const PER_SESSION: usize = 4;
/// See [`PER_SESSION`].
pub const PER_NODE: usize = 16;
/// How long a ticket key is used for new tickets, and how long it is kept.
const KEY_USE: Duration = Duration::from_secs(86400);
const KEY_KEPT: Duration = Duration::from_secs(2 * 86400);

/// Why a ticket is not issued or not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Used, expired, erased or never issued here; a full handshake is needed.
    #[error("the ticket is unknown, used or expired")]
    Unknown,
    /// Its bytes do not authenticate.
    #[error("the ticket's bytes do not authenticate")]
    Forged,
    /// The peer's certificate is no longer acceptable.
    #[error("the certificate behind the ticket is no longer acceptable")]
    Certificate(#[from] CertificateError),
    /// Too many are outstanding.
    #[error("too many tickets are outstanding")]
    TooMany,
    /// The session may not be resumed: it is restricted, closing, changing its keys, or ours is the
    /// initiator's end.
    #[error("this session gives no tickets")]
    NotHere,
}

/// What a ticket's session was, and what its resumption may not exceed.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) peer: PeerIdentity,
    pub(super) session_id: u16,
    pub(super) tier: Tier,
    pub(super) capabilities: Vec<u64>,
    pub(super) full_handshake: Mono,
}

/// A ticket in the initiator's hands, with the PSK that goes with it.
#[derive(Debug)]
pub struct HeldTicket {
    pub(super) ticket: [u8; TICKET_LEN],
    pub(super) psk: Secret,
    pub(super) grant: Grant,
    pub(super) expires: Mono,
}

impl HeldTicket {
    /// The responder it resumes a session with.
    pub const fn peer(&self) -> &PeerIdentity {
        &self.grant.peer
    }

    /// When it becomes useless.
    pub const fn expires(&self) -> Mono {
        self.expires
    }
}

/// The random part of a ticket that names it.
pub type TicketNonce = [u8; 8];

struct Entry {
    grant: Grant,
    expires: Mono,
    expires_at: u32,
    key: u64,
}

struct TicketKey {
    number: u64,
    created: Mono,
    secret: Zeroizing<[u8; 32]>,
}

/// A responder's outstanding tickets. A ticket that is not in here is worth nothing: after its use,
/// its expiry, or a restart (profile 14.5, D-13).
#[derive(Default)]
pub struct TicketTable {
    keys: Vec<TicketKey>,
    entries: BTreeMap<TicketNonce, Entry>,
}

impl TicketTable {
    /// Outstanding tickets.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when no ticket is outstanding.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Erases everything that was given to a node, for instance when it is revoked.
    pub fn forget_node(&mut self, node: NodeId) {
        self.entries
            .retain(|_, entry| entry.grant.peer.node_id != node);
    }

    pub(super) fn forget(&mut self, nonces: &[TicketNonce]) {
        self.entries.retain(|nonce, _| !nonces.contains(nonce));
    }

    /// How many of these are still outstanding.
    pub(super) fn outstanding(&self, nonces: &[TicketNonce], now: Mono) -> usize {
        let live = |nonce| {
            self.entries
                .get(nonce)
                .is_some_and(|entry| now < entry.expires)
        };
        nonces.iter().filter(|nonce| live(*nonce)).count()
    }

    /// Seals `psk` into a ticket. `issued_at` is the session clock.
    pub(super) fn issue(
        &mut self,
        (now, issued_at): (Mono, u32),
        rng: &mut dyn Entropy,
        nonce: TicketNonce,
        psk: &Secret,
        grant: Grant,
        lifetime: Duration,
    ) -> Result<[u8; TICKET_LEN], TicketError> {
        self.entries.retain(|_, entry| now < entry.expires);
        let node = grant.peer.node_id;
        let of_node = self
            .entries
            .values()
            .filter(|entry| entry.grant.peer.node_id == node);
        if of_node.count() >= PER_NODE || self.entries.contains_key(&nonce) {
            return Err(TicketError::TooMany);
        }
        let secs = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        let expires_at = issued_at.wrapping_add(secs);
        let key = self.key(now, rng);
        let ticket = seal(&key.secret, node, psk, issued_at, expires_at, &nonce);
        let key = key.number;
        let expires = now.after(lifetime);
        self.entries.insert(
            nonce,
            Entry {
                grant,
                expires,
                expires_at,
                key,
            },
        );
        Ok(ticket)
    }

    /// Looks a ticket up and decrypts it; it stays in the table until [`TicketTable::forget`].
    pub(super) fn look_up(
        &self,
        now: Mono,
        ticket: &[u8; TICKET_LEN],
    ) -> Result<(TicketNonce, Secret, Grant), TicketError> {
        let nonce = nonce_of(ticket);
        let entry = self.entries.get(&nonce).filter(|entry| now < entry.expires);
        let entry = entry.ok_or(TicketError::Unknown)?;
        let key = self.keys.iter().find(|key| key.number == entry.key);
        let key = key
            .filter(|key| now.since(key.created) < KEY_KEPT)
            .ok_or(TicketError::Unknown)?;
        let (psk, expires_at) =
            open(&key.secret, entry.grant.peer.node_id, ticket).ok_or(TicketError::Forged)?;
        if expires_at != entry.expires_at {
            return Err(TicketError::Forged);
        }
        Ok((nonce, psk, entry.grant.clone()))
    }

    fn key(&mut self, now: Mono, rng: &mut dyn Entropy) -> &TicketKey {
        self.keys.retain(|key| now.since(key.created) < KEY_KEPT);
        let fresh = self
            .keys
            .last()
            .is_some_and(|key| now.since(key.created) < KEY_USE);
        if !fresh {
            let number = self.keys.last().map_or(0, |key| key.number + 1);
            self.keys.push(TicketKey {
                number,
                created: now,
                secret: entropy::secret(rng),
            });
        }
        // INVARIANT: a key was pushed if there was none.
        #[expect(clippy::expect_used, reason = "the branch above leaves one")]
        self.keys.last().expect("a key")
    }
}

impl fmt::Debug for TicketTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketTable({} outstanding)", self.entries.len())
    }
}

/// The ticket-nonce of a ticket.
pub(super) fn nonce_of(ticket: &[u8; TICKET_LEN]) -> TicketNonce {
    core::array::from_fn(|index| ticket[4 + index])
}

/// The Key ID of a resumption: bytes 4 to 7 of the ticket, never 0 (profile 3.4).
pub fn key_id(ticket: &[u8; TICKET_LEN]) -> u32 {
    match u32::from_be_bytes(core::array::from_fn(|index| ticket[4 + index])) {
        0 => 1,
        id => id,
    }
}

/// Makes the 64 bytes of a ticket: issued-at and nonce in clear, PSK and expires-at under
/// AES-256-GCM with the device-id as associated data.
#[expect(
    clippy::missing_panics_doc,
    reason = "the invariant below rules it out"
)]
pub fn seal(
    key: &[u8; 32],
    device: NodeId,
    psk: &Secret,
    issued_at: u32,
    expires_at: u32,
    nonce: &[u8; 8],
) -> [u8; TICKET_LEN] {
    let mut ticket = [0; TICKET_LEN];
    let (clear, rest) = ticket.split_at_mut(12);
    clear[..4].copy_from_slice(&issued_at.to_be_bytes());
    clear[4..].copy_from_slice(nonce);
    let (secret, tag_room) = rest.split_at_mut(36);
    secret[..32].copy_from_slice(&psk.0);
    secret[32..].copy_from_slice(&expires_at.to_be_bytes());
    let gcm_nonce = aead::Nonce::assume_unique_for_key(core::array::from_fn(|index| clear[index]));
    // INVARIANT: AES-GCM encrypts 36 bytes whatever they are.
    #[expect(clippy::expect_used, reason = "far below every limit of AES-GCM")]
    let tag = aes256_gcm(key)
        .seal_in_place_separate_tag(gcm_nonce, associated(device), secret)
        .expect("36 bytes");
    tag_room.copy_from_slice(tag.as_ref());
    ticket
}

/// The PSK and expires-at of a ticket, `None` when it does not authenticate.
pub fn open(key: &[u8; 32], device: NodeId, ticket: &[u8; TICKET_LEN]) -> Option<(Secret, u32)> {
    let (clear, sealed) = ticket.split_first_chunk::<12>()?;
    let mut sealed = Zeroizing::new(<[u8; 52]>::try_from(sealed).ok()?);
    let nonce = aead::Nonce::assume_unique_for_key(*clear);
    let plain = aes256_gcm(key)
        .open_in_place(nonce, associated(device), &mut *sealed)
        .ok()?;
    let (psk, expires_at) = plain.split_first_chunk::<32>()?;
    let expires_at = u32::from_be_bytes(*expires_at.first_chunk()?);
    Some((Secret(*psk), expires_at))
}

fn associated(device: NodeId) -> aead::Aad<[u8; 27]> {
    let mut aad = [0; 27];
    let (label, id) = aad.split_at_mut(11);
    label.copy_from_slice(b"mkb1 ticket");
    id.copy_from_slice(&device.0);
    aead::Aad::from(aad)
}

fn aes256_gcm(key: &[u8; 32]) -> aead::LessSafeKey {
    // INVARIANT: the key has the 32 bytes that the algorithm takes.
    #[expect(clippy::expect_used, reason = "the length is fixed at compile time")]
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("32 bytes");
    aead::LessSafeKey::new(key)
}
