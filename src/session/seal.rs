//! Sealing a message in place (profile 8.1–8.4).

use core::fmt;

use ring::aead;

use super::keys::DirectionKeys;
use super::nonce::{self, COUNTER_LIMIT};
use super::record_buf::RecordBuf;
use super::schedule::{Direction, Traffic};
use crate::wire::flags::{Flags, TAG_LEN, Tier};
use crate::wire::header::{PREFIX_LEN, Prefix};
use crate::wire::opcode::Opcode;

/// Why a message was not sealed. Nothing has been consumed then, not even a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The session is closing or closed.
    #[error("the session is closed")]
    Closed,
    /// Core messages are the session's own (profile 9.1).
    #[error("{0} is sealed by the session itself")]
    Core(Opcode),
    /// The tier is not one of a sealed message, or above the session's.
    #[error("{tier} is not allowed in a session limited to {selected}")]
    Tier {
        /// The tier asked for.
        tier: Tier,
        /// The session's highest.
        selected: Tier,
    },
    /// The plaintext is longer than the peer takes.
    #[error("{length} bytes of plaintext, the peer takes {limit}")]
    TooLong {
        /// Length of the plaintext in bytes.
        length: usize,
        /// The peer's `rec`, in bytes.
        limit: usize,
    },
    /// The epoch's counter or age has reached its hard limit (profile 8.1, 14.2).
    #[error("the keys of this epoch are used up")]
    Exhausted,
    /// The buffer holds a sealed message, or lost the room for the header.
    #[error("the buffer cannot be sealed")]
    Buffer,
}

/// The header fields a caller chooses.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// Tier, C and F.
    pub flags: Flags,
    /// Operation code.
    pub opcode: Opcode,
    /// Session clock, seconds.
    pub timestamp: u32,
}

/// The sending half of one epoch.
pub struct Sealer {
    keys: DirectionKeys,
    sid: u16,
    key_id: u32,
    public: [u8; 32],
    next: u32,
}

impl Sealer {
    /// The sender of `direction`; `public` is the sender's ephemeral of this epoch.
    pub fn new(traffic: &Traffic, direction: Direction, sid: u16, public: [u8; 32]) -> Self {
        let keys = DirectionKeys::new(traffic, direction);
        Self {
            keys,
            sid,
            key_id: traffic.key_id(),
            public,
            next: 0,
        }
    }

    /// The counter of the next message.
    pub const fn counter(&self) -> u32 {
        self.next
    }

    /// The Session ID in every header.
    pub const fn session_id(&self) -> u16 {
        self.sid
    }

    /// Leaves out counters; never goes back, so no nonce is used twice.
    pub fn skip_to(&mut self, counter: u32) {
        self.next = self.next.max(counter);
    }

    /// Seals the plaintext in `buf` under the next counter. `rotating` replaces the public key in
    /// the header (`SESSION_ROTATE`, profile 14.2).
    ///
    /// # Errors
    /// [`SealError`]; the counter is only consumed on success.
    pub fn seal(
        &mut self,
        heading: Heading,
        rotating: Option<&[u8; 32]>,
        buf: &mut RecordBuf,
    ) -> Result<(), SealError> {
        let tier = heading.flags.tier;
        if self.next >= COUNTER_LIMIT {
            return Err(SealError::Exhausted);
        }
        let (room, plaintext) = buf.parts(tier).ok_or(SealError::Buffer)?;
        let (aad, tag_room) = room
            .split_at_mut_checked(tier.aad_len())
            .ok_or(SealError::Buffer)?;
        self.write_header(heading, rotating, aad);
        let nonce = nonce::aead_nonce(heading.timestamp, self.keys.random32, self.next);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let tag = self
            .keys
            .aead
            .seal_in_place_separate_tag(nonce, aead::Aad::from(&*aad), plaintext)
            .map_err(|_| SealError::Buffer)?;
        let trailer = self.keys.trailer(tier, aad, tag.as_ref(), plaintext);
        let trailer = trailer
            .as_ref()
            .get(..tier.trailer_len())
            .unwrap_or_default();
        if tag_room.len() == TAG_LEN {
            tag_room.copy_from_slice(tag.as_ref());
            buf.complete(tier, &[trailer]);
        } else {
            buf.complete(tier, &[tag.as_ref(), trailer]);
        }
        self.next += 1;
        Ok(())
    }

    /// Writes everything but the tag of Tier 5.
    fn write_header(&self, heading: Heading, rotating: Option<&[u8; 32]>, aad: &mut [u8]) {
        let wire = nonce::to_wire(self.next, self.keys.random32);
        let prefix = Prefix {
            flags: heading.flags,
            opcode: heading.opcode,
            sequence: wire.sequence,
            session_id: self.sid,
            timestamp: heading.timestamp,
            nonce: wire.nonce,
        };
        let public = rotating.unwrap_or(&self.public);
        let fields = prefix
            .to_bytes()
            .into_iter()
            .chain(self.key_id.to_be_bytes())
            .chain(*public);
        debug_assert!(aad.len() == PREFIX_LEN || aad.len() == PREFIX_LEN + 36);
        aad.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(session {:04x}, counter {})", self.sid, self.next)
    }
}
