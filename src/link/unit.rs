//! A frame that waits to be sent, and how it goes into a record: whole, cut (DATA of byte streams)
//! or in fragments (profile 11.3 and 13.1).

use core::num::NonZeroU16;

use crate::wire::{
    flags::{Flags, Tier},
    fragment::{self, Header},
    frame::{Body, FrameHead},
    limits::{FRAMES_PER_RECORD, REASSEMBLIES},
    time::Mono,
    varint,
};

use super::class::DataForm;

/// Length, flags and fragment header in front of a piece.
const PIECE_OVERHEAD: usize = 4 + 1 + fragment::HEADER_LEN;
/// Longest DATA frame of a byte stream, so that the streams of a class share a record.
const LONGEST_DATA: usize = 16 << 10;
/// Less than this is not worth a frame of its own when more could go into the next record.
const LEAST_PIECE: usize = 256;

/// Why a unit exists; decides what happens when its last byte is in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// DATA or EVENT.
    Flow,
    /// An own REQUEST.
    Request,
    /// The application's RESPONSE.
    Answer,
    /// The link's own RESPONSE to a request that never reached the application.
    Refusal,
}

#[derive(Debug)]
pub(super) struct Unit {
    pub(super) head: FrameHead,
    pub(super) payload: Vec<u8>,
    pub(super) origin: Origin,
    pub(super) tier: Tier,
    /// Order among the units of one lane.
    pub(super) ticket: u64,
    /// Worthless afterwards (class 2).
    pub(super) deadline: Option<Mono>,
    /// Payload bytes of a byte stream that are already in records.
    cut: usize,
    fragments: Option<Progress>,
    /// Was once left for the next record; the next time it is fragmented rather than left again.
    deferred: bool,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    id: u32,
    index: u16,
    count: NonZeroU16,
    offset: usize,
}

/// Hands out message ids and counts the units that are fragmented at the same time.
#[derive(Debug, Default)]
pub(super) struct FragmentSlots {
    next_id: u32,
    open: usize,
}

/// The record being filled.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) out: &'a mut Vec<u8>,
    start: usize,
    /// Plaintext bytes to stay within, and those never to exceed.
    budget: usize,
    largest: usize,
    frames: usize,
}

impl<'a> Record<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, budget: usize, largest: usize) -> Self {
        Self {
            start: out.len(),
            out,
            budget: budget.min(largest),
            largest,
            frames: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.out.len().saturating_sub(self.start)
    }

    pub(super) const fn budget(&self) -> usize {
        self.budget
    }

    pub(super) const fn room(&self) -> usize {
        if self.frames >= FRAMES_PER_RECORD.0 {
            0
        } else {
            self.budget.saturating_sub(self.len())
        }
    }

    pub(super) fn emit(&mut self, head: &FrameHead, payload: &[u8]) {
        head.emit(payload, self.out);
        self.frames += 1;
    }
}

/// What the stream allows a unit at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Payload bytes that credit covers; `None` for frames that need none.
    pub(super) credit: Option<u64>,
    /// Longest frame before a unit is fragmented.
    pub(super) longest: usize,
    /// Longest piece that the peer's credit window lets through in any case.
    pub(super) window: usize,
    pub(super) form: DataForm,
    /// How many units may be fragmented at the same time.
    pub(super) slots: usize,
}

/// What became of an attempt to put a unit into a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// Its last byte is in the record; so many payload bytes were charged.
    Whole(u64),
    /// A part is; so many payload bytes were charged.
    Part(u64),
    /// The record is full for this unit.
    NoRoom,
    /// Credit is missing.
    NoCredit,
    /// It must be fragmented, and too many units are already.
    NoSlot,
}

impl Allowance {
    /// Half of the peer's window, so that a piece is never larger than what the peer grants once
    /// half is consumed.
    const fn largest_piece(&self) -> usize {
        match self.credit {
            Some(_) if self.window > 128 => self.window / 2,
            Some(_) => 64,
            None => usize::MAX,
        }
    }

    /// What so many payload bytes cost.
    fn charge(&self, bytes: usize) -> u64 {
        match self.credit {
            Some(_) => u64::try_from(bytes).unwrap_or(u64::MAX),
            None => 0,
        }
    }
}

impl Unit {
    pub(super) const fn new(head: FrameHead, payload: Vec<u8>, origin: Origin, tier: Tier) -> Self {
        Self {
            head,
            payload,
            origin,
            tier,
            ticket: 0,
            deadline: None,
            cut: 0,
            fragments: None,
            deferred: false,
        }
    }

    /// True when a part is in a record already, so that the rest has to follow.
    pub(super) const fn is_begun(&self) -> bool {
        self.fragments.is_some()
    }

    /// Bytes of memory that sending it will free.
    pub(super) const fn pending(&self) -> usize {
        self.payload.len().saturating_sub(self.cut)
    }

    /// The correlation id of a REQUEST or RESPONSE.
    pub(super) const fn corr(&self) -> Option<u32> {
        match self.head.body {
            Body::Request { corr, .. } | Body::Response { corr, .. } | Body::Cancel { corr } => {
                Some(corr)
            }
            Body::Data { .. }
            | Body::Event { .. }
            | Body::Credit { .. }
            | Body::Reset { .. }
            | Body::Pad
            | Body::Ignored { .. } => None,
        }
    }

    /// True for the last DATA in this direction.
    pub(super) const fn is_fin(&self) -> bool {
        matches!(self.head.body, Body::Data { fin: true })
    }

    /// True for the last RESPONSE to a request.
    pub(super) const fn is_final_answer(&self) -> bool {
        matches!(self.head.body, Body::Response { more: false, .. })
    }

    /// Appends as much as the record and the allowance permit.
    pub(super) fn pack(
        &mut self,
        record: &mut Record<'_>,
        allow: &Allowance,
        slots: &mut FragmentSlots,
    ) -> Packed {
        if let Some(progress) = self.fragments {
            return self.pack_piece(record, allow, slots, progress);
        }
        let data = matches!(self.head.body, Body::Data { .. });
        if data && allow.form == DataForm::Bytes {
            return self.pack_bytes(record, allow);
        }
        let length = self.payload.len();
        let whole = self.head.emitted_len(length);
        let paid = allow
            .credit
            .is_none_or(|credit| usize::try_from(credit).unwrap_or(usize::MAX) >= length);
        if !paid && length <= allow.window {
            return Packed::NoCredit;
        }
        if paid && whole <= allow.longest {
            let fits = whole <= record.room();
            if fits || (self.head.relay && record.is_empty()) {
                record.emit(&self.head, &self.payload);
                return Packed::Whole(allow.charge(length));
            }
            let again = core::mem::replace(&mut self.deferred, true);
            if !again || self.head.relay || whole <= 2 * LEAST_PIECE {
                return Packed::NoRoom;
            }
        }
        if slots.open >= allow.slots.min(REASSEMBLIES) {
            return Packed::NoSlot;
        }
        let progress = slots.begin(self.head.unit_head_len() + length, allow);
        self.pack_piece(record, allow, slots, progress)
    }

    fn pack_bytes(&mut self, record: &mut Record<'_>, allow: &Allowance) -> Packed {
        let rest = self.payload.len().saturating_sub(self.cut);
        let credit = allow.credit.unwrap_or(u64::MAX);
        let credit = usize::try_from(credit).unwrap_or(usize::MAX);
        if credit == 0 && rest > 0 {
            return Packed::NoCredit;
        }
        let overhead = self.head.emitted_len(0) + 3;
        let longest = allow.longest.min(LONGEST_DATA).saturating_sub(overhead);
        let wanted = rest.min(credit).min(longest);
        let Some(room) = record.room().checked_sub(overhead) else {
            return Packed::NoRoom;
        };
        if room < wanted.min(LEAST_PIECE) {
            return Packed::NoRoom;
        }
        let end = self.cut + wanted.min(room);
        let last = end == self.payload.len();
        let mut head = self.head;
        if let Body::Data { fin } = &mut head.body {
            *fin &= last;
        }
        let bytes = self.payload.get(self.cut..end).unwrap_or_default();
        record.emit(&head, bytes);
        let charged = allow.charge(bytes.len());
        self.cut = end;
        if last {
            Packed::Whole(charged)
        } else {
            Packed::Part(charged)
        }
    }

    fn pack_piece(
        &mut self,
        record: &mut Record<'_>,
        allow: &Allowance,
        slots: &mut FragmentSlots,
        progress: Progress,
    ) -> Packed {
        let head_len = self.head.unit_head_len();
        let total = head_len + self.payload.len();
        let Some(piece) = plan(record, &progress, total, allow.largest_piece()) else {
            return Packed::NoRoom;
        };
        let begin = progress.offset.saturating_sub(head_len);
        let end = (progress.offset + piece).saturating_sub(head_len);
        let charged = allow.charge(end - begin);
        if allow.credit.is_some_and(|credit| credit < charged) {
            return Packed::NoCredit;
        }
        if self.fragments.is_none() {
            slots.open += 1;
        }
        self.emit_piece(record, &progress, total, begin..end);
        if progress.offset + piece == total {
            slots.open = slots.open.saturating_sub(1);
            self.fragments = None;
            return Packed::Whole(charged);
        }
        self.fragments = Some(Progress {
            index: progress.index + 1,
            offset: progress.offset + piece,
            ..progress
        });
        Packed::Part(charged)
    }

    fn emit_piece(
        &self,
        record: &mut Record<'_>,
        progress: &Progress,
        total: usize,
        payload: core::ops::Range<usize>,
    ) {
        let head_len = if progress.offset == 0 {
            self.head.unit_head_len()
        } else {
            0
        };
        let length = 1 + fragment::HEADER_LEN + head_len + payload.len();
        varint::write(record.out, u64::try_from(length).unwrap_or(varint::MAX));
        let flags = Flags {
            fragment: true,
            ..self.head.flags()
        };
        record.out.push(flags.to_u8());
        Header {
            message_id: progress.id,
            index: progress.index,
            count: progress.count.get(),
            total: u32::try_from(total).unwrap_or(u32::MAX),
        }
        .emit(record.out);
        if progress.offset == 0 {
            self.head.emit_unit_head(record.out);
        }
        let bytes = self.payload.get(payload).unwrap_or_default();
        record.out.extend_from_slice(bytes);
        record.frames += 1;
    }
}

impl FragmentSlots {
    /// Plans pieces of half the longest frame: the spare half lets later pieces grow when a record
    /// had less room than planned, since the count of pieces cannot change any more.
    fn begin(&mut self, total: usize, allow: &Allowance) -> Progress {
        let piece = (allow.longest / 2)
            .max(LEAST_PIECE)
            .min(allow.largest_piece() / 2)
            .max(1);
        let count = total.div_ceil(piece).clamp(2, usize::from(u16::MAX));
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        Progress {
            id,
            index: 0,
            count: u16::try_from(count)
                .ok()
                .and_then(NonZeroU16::new)
                .unwrap_or(NonZeroU16::MAX),
            offset: 0,
        }
    }

    pub(super) const fn in_use(&self) -> usize {
        self.open
    }
}

/// The length of the next piece: an even share of the rest, less when the record is nearly full,
/// but never so little that the pieces left could not carry the rest. The first piece is long enough
/// to show the whole head, from which the receiver charges credit.
fn plan(record: &Record<'_>, progress: &Progress, total: usize, cap: usize) -> Option<usize> {
    let left = usize::from(progress.count.get() - progress.index).max(1);
    let rest = total.saturating_sub(progress.offset);
    let even = rest.div_ceil(left);
    let largest = record.largest.saturating_sub(PIECE_OVERHEAD);
    let forced = rest.saturating_sub((left - 1).saturating_mul(largest));
    let even = even.min(cap).max(forced);
    let least = even.min(LEAST_PIECE).max(forced);
    let room = record.room().saturating_sub(PIECE_OVERHEAD);
    if room >= least {
        Some(even.min(room))
    } else if record.is_empty() {
        Some(least)
    } else {
        None
    }
}
