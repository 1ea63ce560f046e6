//! From opened plaintext to frames: whole ones, fragments, compressed ones.

use crate::wire::{
    compress,
    flags::{Flags, Tier},
    fragment::{self, Header},
    frame::{self, Body, Frame, FrameError, FrameHead, RawFrame},
    limits::FRAMES_PER_RECORD,
    status::{Status, sub},
    time::Mono,
};

use super::{Link, event::Violation, queue::error};

/// How a frame came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) now: Mono,
    pub(super) tier: Tier,
    pub(super) age_secs: u32,
}

/// A payload, still in the record or already our own.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Content<'_> {
    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Credit charged for units that are not complete.
#[derive(Debug, Default)]
pub(super) struct Charges(Vec<Charge>);

#[derive(Clone, Copy, Debug)]
struct Charge {
    message_id: u32,
    head: FrameHead,
    bytes: u64,
}

impl Link {
    /// Takes the plaintext of a RECORD that was sealed at `tier` and arrived `age_secs` whole
    /// seconds later. [`Self::poll_event`] then has what it brought.
    ///
    /// # Errors
    /// [`Violation`]: the session must be closed with it. The frames before the offending one have
    /// taken effect.
    pub fn handle_record(
        &mut self,
        now: Mono,
        tier: Tier,
        age_secs: u32,
        plaintext: &[u8],
    ) -> Result<(), Violation> {
        let at = Arrival {
            now,
            tier,
            age_secs,
        };
        let (mut pads, mut others) = (0u32, 0u32);
        for raw in frame::frames(plaintext, FRAMES_PER_RECORD.0) {
            match raw.map_err(malformed)? {
                RawFrame::Whole(frame) => {
                    if frame.head.body == Body::Pad {
                        pads += 1;
                        continue;
                    }
                    self.take_frame(&at, frame)?;
                }
                RawFrame::Fragment {
                    flags,
                    header,
                    piece,
                } => self.take_piece(&at, flags, header, piece)?,
            }
            others += 1;
        }
        // One PAD brings a record to its size and so has its effect.
        let wasted = if others > 0 {
            pads.saturating_sub(1)
        } else {
            pads
        };
        for _ in 0..wasted {
            self.guards.idle_frame(now)?;
        }
        Ok(())
    }

    pub(super) fn take_frame(&mut self, at: &Arrival, frame: Frame<'_>) -> Result<(), Violation> {
        let content = Content::Borrowed(frame.payload);
        self.dispatch(at, &frame.head, content, 0)
    }

    fn take_piece(
        &mut self,
        at: &Arrival,
        flags: Flags,
        header: Header,
        piece: &[u8],
    ) -> Result<(), Violation> {
        if self.config.ordered {
            self.charge_piece(at, flags, &header, piece)?;
        }
        let Some(unit) = self
            .reassembler
            .accept(at.now, flags, header, piece)
            .map_err(|_| BAD_FRAGMENT)?
        else {
            return Ok(());
        };
        let charged = self.charges.take(header.message_id);
        self.take_unit(at, unit, charged)
    }

    /// A reassembled frame; `charged` bytes of its payload are paid for.
    fn take_unit(
        &mut self,
        at: &Arrival,
        unit: fragment::Unit,
        charged: u64,
    ) -> Result<(), Violation> {
        let frame = frame::parse_unit(unit.flags, &unit.bytes).map_err(malformed)?;
        let head = frame.head;
        let start = unit.bytes.len() - frame.payload.len();
        let mut payload = unit.bytes;
        payload.drain(..start);
        self.dispatch(at, &head, Content::Owned(payload), charged)
    }

    /// Credit counts as the pieces arrive, so that a peer cannot have eight units under way that it
    /// was never allowed to send (profile 13.1).
    fn charge_piece(
        &mut self,
        at: &Arrival,
        flags: Flags,
        header: &Header,
        piece: &[u8],
    ) -> Result<(), Violation> {
        let (head, bytes) = if header.index == 0 {
            let whole = Flags {
                fragment: false,
                ..flags
            };
            let Ok(frame) = frame::parse_unit(whole, piece) else {
                // Told when the unit is complete.
                return Ok(());
            };
            if !matches!(frame.head.body, Body::Data { .. } | Body::Event { .. }) {
                return Ok(());
            }
            self.charges.start(header.message_id, frame.head);
            (frame.head, frame.payload.len())
        } else {
            let Some(charge) = self.charges.of(header.message_id) else {
                return Ok(());
            };
            (charge.head, piece.len())
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.charges.add(header.message_id, bytes);
        self.charge_flow(at.now, &head, bytes)
    }

    fn dispatch(
        &mut self,
        at: &Arrival,
        head: &FrameHead,
        content: Content<'_>,
        charged: u64,
    ) -> Result<(), Violation> {
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let Some(content) = self.unpack(head, content)? else {
            return Ok(());
        };
        let stream = head.stream;
        match head.body {
            Body::Data { .. } | Body::Event { .. } => {
                let due = length.saturating_sub(charged);
                self.charge_flow(at.now, head, due)?;
                self.on_flow(at, head, content)
            }
            Body::Request { opcode, corr } => self.on_request(at, stream, corr, opcode, content),
            Body::Response { corr, status, more } => {
                self.on_response(at, stream, corr, status, more, content)
            }
            Body::Credit { limit } => self.on_credit(at, stream, limit),
            Body::Cancel { corr } => self.on_cancel(at, stream, corr),
            Body::Reset { status } => self.on_reset(at, stream, status, content),
            Body::Pad => self.guards.idle_frame(at.now),
            Body::Ignored { .. } => Ok(()),
        }
    }

    /// Unpacks a compressed payload. A request that cannot be unpacked is refused and gone; anything
    /// else ends the session.
    fn unpack<'a>(
        &mut self,
        head: &FrameHead,
        content: Content<'a>,
    ) -> Result<Option<Content<'a>>, Violation> {
        if !head.compressed {
            return Ok(Some(content));
        }
        let unpacked = self.config.selected.and_then(|algorithm| {
            let limit = self.config.local.msg;
            compress::decompress(algorithm, content.as_slice(), limit).ok()
        });
        match (unpacked, head.body) {
            (Some(bytes), _) => Ok(Some(Content::Owned(bytes))),
            (None, Body::Request { corr, .. }) => {
                let error = error(sub::DECOMPRESS);
                self.refuse_request(head.stream, corr, Status::BadRequest, &error)?;
                Ok(None)
            }
            (None, _) => Err(Violation::decompress("a payload that cannot be unpacked")),
        }
    }
}

impl Charges {
    fn of(&self, message_id: u32) -> Option<Charge> {
        let found = self.0.iter().find(|charge| charge.message_id == message_id);
        found.copied()
    }

    fn start(&mut self, message_id: u32, head: FrameHead) {
        self.0.push(Charge {
            message_id,
            head,
            bytes: 0,
        });
    }

    fn add(&mut self, message_id: u32, bytes: u64) {
        for charge in &mut self.0 {
            if charge.message_id == message_id {
                charge.bytes = charge.bytes.saturating_add(bytes);
            }
        }
    }

    fn take(&mut self, message_id: u32) -> u64 {
        let at = self
            .0
            .iter()
            .position(|charge| charge.message_id == message_id);
        at.map_or(0, |at| self.0.swap_remove(at).bytes)
    }
}

const BAD_FRAGMENT: Violation = Violation::fragment("contradicting or too many fragments");

fn malformed(error: FrameError) -> Violation {
    match error {
        FrameError::Fragment(_) => BAD_FRAGMENT,
        FrameError::TooMany(_) => Violation::limit("too many frames in a record"),
        FrameError::Empty
        | FrameError::Beyond
        | FrameError::Short(_)
        | FrameError::Flags(_)
        | FrameError::Tier(_)
        | FrameError::Relay
        | FrameError::Kind(_)
        | FrameError::KindFlag
        | FrameError::Cut
        | FrameError::Stream(_)
        | FrameError::Corr(_) => Violation::payload("a malformed frame"),
    }
}
