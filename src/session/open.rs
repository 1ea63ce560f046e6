//! Opening a message in place, in the order of profile 8.5.

use core::fmt;
use core::ops::Range;

use ring::aead;
use subtle::ConstantTimeEq;

use super::clock::SessionClock;
use super::keys::DirectionKeys;
use super::nonce::{self, WireCounter};
use super::replay::ReplayWindow;
use super::schedule::{Direction, Traffic};
use crate::wire::flags::Flags;
use crate::wire::header::{HeaderError, Prefix};
use crate::wire::message::{Message, Sealed};
use crate::wire::opcode::Opcode;
use crate::wire::time::Mono;

/// Which check refused a message; for logs and tests, never for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenErrorKind {
    /// Shorter than the tier's header and trailer.
    Short,
    /// Longer than our own limit.
    Long,
    /// Outside the table of profile 3.1.
    Flags,
    /// No such session on this path.
    Session,
    /// Key id or public key are not the epoch's.
    KeyId,
    /// Not the next counter of an ordered path.
    Order,
    /// Seen already, or too old to tell.
    Replay,
    /// More than five minutes off the peer's clock.
    Time,
    /// Wrong HMAC.
    Trailer,
    /// Wrong Poly1305 tag.
    Aead,
    /// The session is over.
    Closed,
}

/// A message was not accepted. On an ordered path the caller closes the path without a word
/// (profile 8.5); all reasons look the same from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message was not accepted")]
pub struct OpenError(OpenErrorKind);

impl OpenError {
    /// Which check refused it.
    pub const fn kind(self) -> OpenErrorKind {
        self.0
    }
}

impl From<OpenErrorKind> for OpenError {
    fn from(kind: OpenErrorKind) -> Self {
        Self(kind)
    }
}

/// What the header of a sealed message says, before anything is authenticated (steps 1 and 2).
///
/// # Errors
/// [`OpenErrorKind::Short`] or [`OpenErrorKind::Flags`].
pub fn parse(message: &[u8]) -> Result<Sealed, OpenErrorKind> {
    match Message::parse(message) {
        Ok(Message::Sealed(sealed)) => Ok(sealed),
        Ok(Message::Open { .. } | Message::Negotiation { .. } | Message::Handshake(_)) => {
            Err(OpenErrorKind::Flags)
        }
        Err(HeaderError::Short { .. } | HeaderError::Empty) => Err(OpenErrorKind::Short),
        Err(
            HeaderError::Flags(_)
            | HeaderError::Tier(_)
            | HeaderError::NotAllowed { .. }
            | HeaderError::Crc,
        ) => Err(OpenErrorKind::Flags),
    }
}

/// An authenticated message; its plaintext lies where the ciphertext was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Tier, C and F.
    pub flags: Flags,
    /// Operation code.
    pub opcode: Opcode,
    /// The message's counter.
    pub counter: u32,
    /// Seconds the message took, by the peer's clock (profile 16.3).
    pub age_secs: u32,
    /// The public key in the header, at Tiers 4 and 5.
    pub public: Option<[u8; 32]>,
    /// Where the plaintext lies in the message.
    pub plaintext: Range<usize>,
}

/// How counters arrive on a path (profile 8.6).
enum Order {
    Strict { last: Option<u32> },
    Window(Box<ReplayWindow>),
}

/// The receiving half of one epoch.
pub struct Opener {
    keys: DirectionKeys,
    sid: u16,
    key_id: u32,
    public: [u8; 32],
    order: Order,
}

impl Opener {
    /// The receiver of what the peer sends in `direction`; `public` is the peer's ephemeral of this
    /// epoch.
    pub fn new(
        traffic: &Traffic,
        direction: Direction,
        sid: u16,
        public: [u8; 32],
        ordered: bool,
    ) -> Self {
        let order = if ordered {
            Order::Strict { last: None }
        } else {
            Order::Window(Box::default())
        };
        let keys = DirectionKeys::new(traffic, direction);
        Self {
            keys,
            sid,
            key_id: traffic.key_id(),
            public,
            order,
        }
    }

    /// The Session ID that selects this epoch.
    pub const fn session_id(&self) -> u16 {
        self.sid
    }

    /// The highest counter opened so far.
    pub fn highest(&self) -> Option<u32> {
        match &self.order {
            Order::Strict { last } => *last,
            Order::Window(window) => window.highest(),
        }
    }

    /// Takes counters below `counter` for lost; never goes back, so nothing is accepted twice.
    pub fn skip_to(&mut self, counter: u32) {
        let Some(passed) = counter.checked_sub(1) else {
            return;
        };
        match &mut self.order {
            Order::Strict { last } => *last = (*last).max(Some(passed)),
            Order::Window(window) => {
                window.commit(passed);
            }
        }
    }

    /// Steps 4 to 9 of profile 8.5 for a message whose Session ID is ours: `message` is what
    /// `sealed` was parsed from. Nothing changes, in `self` or for the caller, unless it opens; the
    /// ciphertext is garbage after a failure of step 8.
    ///
    /// # Errors
    /// The check that failed.
    pub fn open(
        &mut self,
        sealed: &Sealed,
        clock: &SessionClock,
        now: Mono,
        message: &mut [u8],
    ) -> Result<Opened, OpenErrorKind> {
        let prefix = *sealed.header.prefix();
        self.check_key(sealed, prefix.opcode)?;
        let counter = self.counter(&prefix)?;
        if !clock.accepts(now, prefix.timestamp) {
            return Err(OpenErrorKind::Time);
        }
        self.authenticate(sealed, counter, message)?;
        self.commit(counter);
        Ok(Opened {
            flags: prefix.flags,
            opcode: prefix.opcode,
            counter,
            age_secs: clock.age(now, prefix.timestamp),
            public: sealed.header.key().map(|(_, public)| *public),
            plaintext: sealed.layout.ciphertext.clone(),
        })
    }

    /// True when `public` is the peer's ephemeral of this epoch.
    pub fn is_public(&self, public: &[u8; 32]) -> bool {
        bool::from(self.public.ct_eq(public))
    }

    /// A rotation announces its new public key in the header, so there the key is compared once the
    /// phase is known.
    fn check_key(&self, sealed: &Sealed, opcode: Opcode) -> Result<(), OpenErrorKind> {
        let Some((key_id, public)) = sealed.header.key() else {
            return Ok(());
        };
        let known = opcode == Opcode::SessionRotate || self.is_public(public);
        if key_id == self.key_id && known {
            Ok(())
        } else {
            Err(OpenErrorKind::KeyId)
        }
    }

    fn counter(&self, prefix: &Prefix) -> Result<u32, OpenErrorKind> {
        let wire = WireCounter {
            sequence: prefix.sequence,
            nonce: prefix.nonce,
        };
        let low24 = nonce::from_wire(wire, self.keys.random32);
        match &self.order {
            Order::Strict { last } => {
                let next = last.map_or(Some(0), |last| last.checked_add(1));
                next.filter(|next| next & 0x00FF_FFFF == low24)
                    .ok_or(OpenErrorKind::Order)
            }
            Order::Window(window) => nonce::reconstruct(low24, window.highest())
                .filter(|counter| window.is_fresh(*counter))
                .ok_or(OpenErrorKind::Replay),
        }
    }

    fn authenticate(
        &self,
        sealed: &Sealed,
        counter: u32,
        message: &mut [u8],
    ) -> Result<(), OpenErrorKind> {
        let prefix = sealed.header.prefix();
        let layout = &sealed.layout;
        let part = |range: &Range<usize>| message.get(range.clone()).ok_or(OpenErrorKind::Short);
        let (aad, tag) = (part(&layout.aad)?, part(&layout.tag)?);
        let (ciphertext, trailer) = (part(&layout.ciphertext)?, part(&layout.trailer)?);
        if !self
            .keys
            .trailer_matches(prefix.flags.tier, aad, tag, ciphertext, trailer)
        {
            return Err(OpenErrorKind::Trailer);
        }
        let tag = aead::Tag::try_from(tag).map_err(|_| OpenErrorKind::Short)?;
        let nonce = nonce::aead_nonce(prefix.timestamp, self.keys.random32, counter);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let (front, back) = message
            .split_at_mut_checked(layout.ciphertext.start)
            .ok_or(OpenErrorKind::Short)?;
        let aad = front.get(layout.aad.clone()).ok_or(OpenErrorKind::Short)?;
        let ciphertext = back
            .get_mut(..layout.ciphertext.len())
            .ok_or(OpenErrorKind::Short)?;
        self.keys
            .aead
            .open_in_place_separate_tag(nonce, aead::Aad::from(aad), tag, ciphertext, 0..)
            .map(|_| ())
            .map_err(|_| OpenErrorKind::Aead)
    }

    fn commit(&mut self, counter: u32) {
        match &mut self.order {
            Order::Strict { last } => *last = Some(counter),
            Order::Window(window) => {
                window.commit(counter);
            }
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Opener(session {:04x}, highest {:?})",
            self.sid,
            self.highest()
        )
    }
}
