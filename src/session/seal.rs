//! Sealing a message in place (profile 8.1–8.4).

use core::fmt;

use ring::{aead, hmac};

use super::form::Form;
use super::keys::DirectionKeys;
use super::nonce::{self, COUNTER_LIMIT, WireCounter};
use super::record_buf::RecordBuf;
use super::schedule::{Direction, Traffic};
use crate::wire::flags::{Flags, Tier};
use crate::wire::opcode::Opcode;

/// Why a message was not sealed. Nothing has been consumed then, not even a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The session is closing or closed.
    #[error("the session is closed")]
    Closed,
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
        Self { keys, sid, key_id: traffic.key_id(), public, next: 0 }
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
    /// the header (SESSION_ROTATE, profile 14.2).
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
        let form = Form::of(tier).ok_or(SealError::Tier { tier, selected: tier })?;
        if self.next >= COUNTER_LIMIT {
            return Err(SealError::Exhausted);
        }
        let random32 = self.keys.random32;
        let wire = nonce::to_wire(self.next, random32);
        let nonce = nonce::aead_nonce(heading.timestamp, random32, self.next);
        let (room, plaintext) = buf.parts(form).ok_or(SealError::Buffer)?;
        self.write_header(form, heading, wire, rotating, room);
        let aad = &room[..form.aad_len()];
        let tag = self
            .keys
            .aead
            .seal_in_place_separate_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(aad),
                plaintext,
            )
            .map_err(|_| SealError::Buffer)?;
        let tag = tag.as_ref();
        let trailer = self.trailer(form, aad, tag, plaintext);
        let trailer = &trailer.as_ref()[..form.trailer_len()];
        match form {
            Form::T3 | Form::T4 => buf.complete(form, &[tag, trailer]),
            Form::T5 => {
                room[form.aad_len()..].copy_from_slice(tag);
                buf.complete(form, &[trailer]);
            }
        }
        self.next += 1;
        Ok(())
    }

    fn write_header(
        &self,
        form: Form,
        heading: Heading,
        wire: WireCounter,
        rotating: Option<&[u8; 32]>,
        room: &mut [u8],
    ) {
        let [high, low] = heading.opcode.to_u16().to_be_bytes();
        room[..4].copy_from_slice(&[heading.flags.to_u8(), high, low, wire.sequence]);
        room[4..6].copy_from_slice(&self.sid.to_be_bytes());
        room[6..10].copy_from_slice(&heading.timestamp.to_be_bytes());
        room[10..12].copy_from_slice(&wire.nonce.to_be_bytes());
        if form != Form::T3 {
            room[12..16].copy_from_slice(&self.key_id.to_be_bytes());
            room[16..48].copy_from_slice(rotating.unwrap_or(&self.public));
        }
    }

    fn trailer(&self, form: Form, aad: &[u8], tag: &[u8], ciphertext: &[u8]) -> hmac::Tag {
        self.keys.trailer(form, aad, tag, ciphertext)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(session {:04x}, counter {})", self.sid, self.next)
    }
}
