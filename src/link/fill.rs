//! Filling a record: which frames, how many, at which tier (profile 11.3).

use core::time::Duration;

use crate::wire::{
    flags::Tier,
    frame::{Body, FrameHead},
    status::{Status, sub},
    time::Mono,
};

use super::{
    ASSUMED_ROUND_TRIP, Link,
    answers::Kept,
    class::{Class, DataForm},
    event::LinkEvent,
    ids::StreamId,
    operation::{Operation, StreamRole},
    queue::{error, error_payload},
    rate::bytes_in,
    requests::Phase,
    scheduler::{Control, begin_turn, charge_stream},
    stream::{Side, State},
    unit::{Allowance, Origin, Packed, Record, Unit},
};

/// Longest frame while a class 1 stream is open, bytes.
const LONGEST_BESIDE_URGENT: usize = 16 << 10;
/// A class 0 frame without payload, and the length of its length.
const CONTROL_FRAME: usize = 32;
/// Units that may be fragmented at the same time: bulk and what needs credit leave slots to others.
const BULK_SLOTS: usize = 5;
const FLOW_SLOTS: usize = 3;
const ALL_SLOTS: usize = 8;

/// What came of the attempt to send the head of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// So many bytes went into the record.
    Sent(usize),
    /// The record is full.
    Full,
    /// Nothing there can be sent now; the lane left its round.
    Idle,
}

impl Link {
    /// Plaintext bytes that the next record should have at most (profile 11.3): one millisecond of
    /// the path while a class 1 or 2 stream is open, else the peer's `rec`.
    pub fn record_budget(&self) -> usize {
        let largest = usize::try_from(self.config.peer.rec).unwrap_or(usize::MAX);
        if self.urgent.any_open() {
            let share = bytes_in(self.rate.estimate(), Duration::from_millis(1));
            largest.min(usize::try_from(share).unwrap_or(usize::MAX).max(4096))
        } else {
            largest
        }
    }

    /// Sealed bytes that may be on the way to the peer's kernel but not sent (profile 11.3), those
    /// of the kernel's not-sent queue included.
    pub fn unsent_limit(&self) -> usize {
        if self.urgent.any_open() {
            let share = bytes_in(self.rate.estimate(), Duration::from_millis(2));
            usize::try_from(share).unwrap_or(usize::MAX).max(16384)
        } else {
            256 << 10
        }
    }

    /// Appends the frames of one record to `out`, at most `budget` bytes (normally
    /// [`Self::record_budget`]), and returns the tier at which to seal it. `None`, and nothing
    /// appended, when nothing is ready. To be called until it returns `None`, as long as the
    /// transport may take more ([`Self::unsent_limit`]).
    ///
    /// A single piece of a fragmented unit may exceed a budget that shrank after the unit was begun,
    /// never the peer's `rec`.
    pub fn fill_record(&mut self, now: Mono, budget: usize, out: &mut Vec<u8>) -> Option<Tier> {
        let largest = usize::try_from(self.config.peer.rec).unwrap_or(usize::MAX);
        let mut record = Record::new(out, budget, largest);
        let elevated_turn = !self.elevated_last;
        if elevated_turn && let Some(tier) = self.fill_elevated(now, &mut record) {
            return Some(tier);
        }
        self.elevated_last = false;
        self.fill_control(now, &mut record);
        self.bucket.refill(now, self.rate.estimate());
        self.fill_urgent(now, &mut record, true);
        self.fill_shared(now, &mut record);
        self.fill_urgent(now, &mut record, false);
        if !record.is_empty() {
            return Some(Tier::T3);
        }
        if elevated_turn {
            return None;
        }
        self.fill_elevated(now, &mut record)
    }

    /// A record for frames that need more than Tier 3. They never share one with bulk, and a record
    /// of the others goes between two of theirs.
    fn fill_elevated(&mut self, now: Mono, record: &mut Record<'_>) -> Option<Tier> {
        let tier = self.elevated.front()?.1.tier;
        let allow = self.allowance(record, None, Class::Interactive, DataForm::Units, 0);
        while let Some((stream, unit)) = self.elevated.front_mut() {
            if unit.tier != tier {
                break;
            }
            let stream = *stream;
            match unit.pack(record, &allow, &mut self.slots) {
                Packed::Whole(_) => {
                    if let Some((_, unit)) = self.elevated.pop_front() {
                        self.after_sending(now, stream, unit);
                    }
                }
                Packed::Part(_) => {}
                Packed::NoRoom | Packed::NoCredit | Packed::NoSlot => break,
            }
        }
        self.elevated_last = !record.is_empty();
        self.elevated_last.then_some(tier)
    }

    fn fill_control(&mut self, now: Mono, record: &mut Record<'_>) {
        while let Some(next) = self.scheduler.control.front() {
            let payload = match next {
                Control::Reset { payload, .. } => payload.len(),
                Control::Credit { .. } | Control::Cancel { .. } => 0,
            };
            if record.room() < CONTROL_FRAME + payload {
                return;
            }
            match self.scheduler.control.pop_front() {
                Some(Control::Credit { stream }) => self.emit_credit(now, record, stream),
                Some(Control::Cancel { stream, corr }) => {
                    let head = FrameHead::new(stream, Body::Cancel { corr });
                    record.emit(&head, &[]);
                }
                Some(Control::Reset {
                    stream,
                    status,
                    payload,
                }) => {
                    let head = FrameHead::new(stream, Body::Reset { status });
                    record.emit(&head, &payload);
                }
                None => {}
            }
        }
    }

    fn emit_credit(&mut self, now: Mono, record: &mut Record<'_>, stream: u32) {
        let round_trip = self.round_trip.unwrap_or(ASSUMED_ROUND_TRIP);
        let limit = if stream == 0 {
            self.session_recv.listed = false;
            self.session_recv.grant(now, round_trip)
        } else {
            self.streams.get_mut(stream).and_then(|open| {
                open.recv.listed = false;
                open.recv.grant(now, round_trip)
            })
        };
        if let Some(limit) = limit {
            record.emit(&FrameHead::new(stream, Body::Credit { limit }), &[]);
        }
    }

    /// Class 1, each frame completely: first as far as the token bucket allows, and after the
    /// others, when there is still room, without that limit.
    fn fill_urgent(&mut self, now: Mono, record: &mut Record<'_>, limited: bool) {
        while let Some(stream) = self.scheduler.head(0) {
            if limited && self.bucket.is_empty() {
                return;
            }
            match self.send_head(now, record, stream, 0) {
                Outcome::Sent(bytes) => {
                    self.bucket.take(u64::try_from(bytes).unwrap_or(u64::MAX));
                    if self.scheduler.head(0) == Some(stream) {
                        self.scheduler.rotate(0);
                    }
                }
                Outcome::Full => return,
                Outcome::Idle => {}
            }
        }
    }

    fn fill_shared(&mut self, now: Mono, record: &mut Record<'_>) {
        while let Some(lane) = self.scheduler.shared_lane() {
            let Some(stream) = self.scheduler.head(lane) else {
                return;
            };
            if !self.with_deficit(stream, lane, begin_turn) {
                self.scheduler.rotate(lane);
                continue;
            }
            match self.send_head(now, record, stream, lane) {
                Outcome::Sent(bytes) => {
                    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.scheduler.charge(lane, bytes);
                    let over =
                        self.with_deficit(stream, lane, |deficit| charge_stream(deficit, bytes));
                    if over && self.scheduler.head(lane) == Some(stream) {
                        self.scheduler.rotate(lane);
                    }
                }
                Outcome::Full => return,
                Outcome::Idle => {}
            }
        }
    }

    fn with_deficit(&mut self, stream: u32, lane: usize, f: impl FnOnce(&mut i64) -> bool) -> bool {
        self.streams
            .get_mut(stream)
            .and_then(|open| open.lanes.get_mut(lane))
            .is_none_or(|lane| f(&mut lane.deficit))
    }

    /// Sends from the head of a lane what can be sent.
    fn send_head(
        &mut self,
        now: Mono,
        record: &mut Record<'_>,
        stream: u32,
        lane: usize,
    ) -> Outcome {
        self.drop_late(now, stream, lane);
        for excluded in [None, Some(Side::Free), Some(Side::Ordered)] {
            let Some((side, allow)) = self.choose(record, stream, lane, excluded) else {
                continue;
            };
            let before = record.len();
            match self.pack_head(record, stream, lane, side, &allow) {
                Some(Packed::Whole(charged)) => {
                    self.spend(stream, lane, charged);
                    self.take_out(now, stream, lane, side);
                    return Outcome::Sent(record.len() - before);
                }
                Some(Packed::Part(charged)) => {
                    self.spend(stream, lane, charged);
                    return Outcome::Sent(record.len() - before);
                }
                Some(Packed::NoRoom) => return Outcome::Full,
                Some(Packed::NoSlot) => self.slot_wanted = true,
                Some(Packed::NoCredit) | None => {}
            }
        }
        self.leave_round(stream, lane);
        Outcome::Idle
    }

    /// The side of a lane to send from, and what its head is allowed.
    fn choose(
        &self,
        record: &Record<'_>,
        stream: u32,
        lane: usize,
        excluded: Option<Side>,
    ) -> Option<(Side, Allowance)> {
        let open = self.streams.get(stream)?;
        let queue = open.lanes.get(lane)?;
        let credit = self.credit(stream, lane);
        let side = match excluded {
            None => queue.next(credit > 0)?,
            Some(Side::Free) => Side::Ordered,
            Some(Side::Ordered) => Side::Free,
        };
        let unit = queue.peek(side)?;
        let counted = unit.origin == Origin::Flow && unit.head.stream != 0;
        let credit = (counted && (stream != 0 || lane > 0)).then_some(credit);
        let class = CLASSES.get(lane).copied()?;
        let window = open.peer_window;
        Some((
            side,
            self.allowance(record, credit, class, open.kind.data, window),
        ))
    }

    /// DATA and EVENT bytes that may be sent from a lane; on stream 0, whose own events need no
    /// credit, those of units taken over from closed streams.
    fn credit(&self, stream: u32, lane: usize) -> u64 {
        let session = if lane == 0 {
            u64::MAX
        } else {
            self.session_send.room()
        };
        match self.streams.get(stream) {
            Some(open) if stream != 0 => session.min(open.send.room()),
            Some(_) | None => session,
        }
    }

    fn allowance(
        &self,
        record: &Record<'_>,
        credit: Option<u64>,
        class: Class,
        form: DataForm,
        window: usize,
    ) -> Allowance {
        let longest = if self.urgent.interrupt_open() {
            record.budget().min(LONGEST_BESIDE_URGENT)
        } else {
            record.budget()
        };
        let slots = match (class, credit) {
            (_, Some(_)) => FLOW_SLOTS,
            (Class::Bulk, None) => BULK_SLOTS,
            (_, None) => ALL_SLOTS,
        };
        Allowance {
            credit,
            longest,
            window,
            form,
            slots,
        }
    }

    fn pack_head(
        &mut self,
        record: &mut Record<'_>,
        stream: u32,
        lane: usize,
        side: Side,
        allow: &Allowance,
    ) -> Option<Packed> {
        let open = self.streams.get_mut(stream)?;
        let next_sseq = open.next_sseq;
        let unit = open.lanes.get_mut(lane)?.head(side)?;
        let numbered =
            !self.config.ordered && unit.origin == Origin::Flow && stream != 0 && !unit.is_begun();
        if numbered {
            unit.head.sseq = Some(next_sseq);
        }
        let pending = unit.pending();
        let packed = unit.pack(record, allow, &mut self.slots);
        let sent = match packed {
            Packed::Whole(_) => pending,
            Packed::Part(_) => pending - unit.pending(),
            Packed::NoRoom | Packed::NoCredit | Packed::NoSlot => return Some(packed),
        };
        if unit.origin == Origin::Flow {
            open.lanes.get_mut(lane)?.left(sent);
        }
        if numbered {
            open.next_sseq += 1;
        }
        Some(packed)
    }

    /// Charges what was sent to the credit of stream and session.
    fn spend(&mut self, stream: u32, lane: usize, charged: u64) {
        if charged == 0 {
            return;
        }
        if lane > 0 {
            self.session_send.spend(charged);
        }
        if let Some(open) = self.streams.get_mut(stream).filter(|_| stream != 0) {
            open.send.spend(charged);
        }
    }

    fn leave_round(&mut self, stream: u32, lane: usize) {
        if let Some(queue) = self
            .streams
            .get_mut(stream)
            .and_then(|open| open.lanes.get_mut(lane))
        {
            queue.active = false;
            queue.deficit = queue.deficit.min(0);
        }
        self.scheduler.leave(lane, stream);
    }

    /// Removes what cannot be sent in time any more from the head of a lane.
    fn drop_late(&mut self, now: Mono, stream: u32, lane: usize) {
        let mut dropped = 0;
        while let Some(unit) = self
            .streams
            .get_mut(stream)
            .and_then(|open| open.lanes.get_mut(lane))
            .and_then(|queue| queue.pop_late(now))
        {
            if let (Origin::Request, Some(corr)) = (unit.origin, unit.corr()) {
                let payload = error_payload(&error(sub::TIMEOUT));
                self.finish_request(corr, Status::Timeout, payload);
            } else {
                dropped += 1;
            }
        }
        self.report_dropped(stream, dropped);
    }

    /// The last byte of a lane's head is in the record.
    fn take_out(&mut self, now: Mono, stream: u32, lane: usize, side: Side) {
        let Some(queue) = self
            .streams
            .get_mut(stream)
            .and_then(|open| open.lanes.get_mut(lane))
        else {
            return;
        };
        let unit = queue.pop(side);
        if queue.is_empty() {
            self.leave_round(stream, lane);
        }
        if let Some(unit) = unit {
            self.after_sending(now, stream, unit);
        }
        if self.slot_wanted && self.slots.in_use() < BULK_SLOTS {
            self.slot_wanted = false;
            self.activate_all();
        }
    }

    /// What follows from a unit having been sent; `stream` is where it waited.
    fn after_sending(&mut self, now: Mono, stream: u32, unit: Unit) {
        match unit.origin {
            Origin::Flow => self.after_flow(now, &unit),
            Origin::Request => self.after_request(now, unit),
            Origin::Answer => {
                self.after_answer(now, unit);
                self.send_farewell(stream);
            }
            Origin::Refusal => self.guards.refusal_sent(),
        }
        self.offer_room(stream);
    }

    fn after_flow(&mut self, now: Mono, unit: &Unit) {
        let id = unit.head.stream;
        let Some(open) = self.streams.get_mut(id) else {
            return;
        };
        open.fin.sent |= unit.is_fin();
        if open.fin.both() {
            self.close_stream(now, id, Status::ServiceUnavailable, &[]);
        }
    }

    /// Tells a producer that was refused before that there is room again.
    fn offer_room(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        if open.wants_room && open.queued() <= self.config.queue_bytes / 2 {
            open.wants_room = false;
            self.events.push_back(LinkEvent::Writable {
                stream: StreamId(stream),
            });
        }
    }

    fn after_request(&mut self, now: Mono, unit: Unit) {
        let Some(corr) = unit.corr() else {
            return;
        };
        let Some(request) = self.requests.get(corr) else {
            self.undo_opening(&unit);
            return;
        };
        if Operation::of(request.opcode).sized()
            && let Some(open) = self.streams.get_mut(request.stream)
        {
            open.requests.leave();
        }
        let keeps = self.keeps_payload(request, unit.payload.len());
        let Some(request) = self.requests.get_mut(corr) else {
            return;
        };
        if request.phase != Phase::Queued {
            return;
        }
        request.phase = Phase::Sent;
        request.sent_at = Some(now);
        request.payload = keeps.then_some(unit.payload);
        if request.cancel_wanted {
            self.cancel_request(now, corr, sub::CANCELLED);
        } else {
            self.arm_repetition(now, corr);
        }
    }

    /// A stream was given up while its opening request was being sent in pieces; only now can the
    /// peer be told.
    fn undo_opening(&mut self, unit: &Unit) {
        let Body::Request { opcode, .. } = unit.head.body else {
            return;
        };
        if Operation::of(opcode).role == StreamRole::Opens {
            self.scheduler.control.push_back(Control::Reset {
                stream: unit.head.stream,
                status: Status::Timeout,
                payload: error_payload(&error(sub::CANCELLED)),
            });
        }
    }

    fn after_answer(&mut self, now: Mono, unit: Unit) {
        let Some(corr) = unit.corr() else {
            return;
        };
        let stream = unit.head.stream;
        let Some(owed) = self.answers.get(corr).filter(|owed| owed.stream == stream) else {
            return;
        };
        let operation = Operation::of(owed.opcode);
        let succeeded = owed.succeeded;
        if operation.sized()
            && let Some(open) = self.streams.get_mut(stream)
        {
            open.answers.leave();
        }
        if !unit.is_final_answer() {
            return;
        }
        if let Some(owed) = self.answers.remove(corr) {
            self.urgent.leave(owed.class);
        }
        self.keep_answer(now, corr, unit);
        match (operation.role, succeeded) {
            (StreamRole::Opens, true) => {
                if let Some(open) = self.streams.get_mut(stream) {
                    open.state = State::Open;
                }
                self.list_credit(stream);
                self.activate_stream(stream);
            }
            (StreamRole::Opens, false) | (StreamRole::Closes, true) => {
                self.close_stream(now, stream, Status::ServiceUnavailable, &[]);
            }
            (StreamRole::Closes, false) | (StreamRole::Bound | StreamRole::Free, _) => {}
        }
    }

    /// On an unordered path the request may come again.
    fn keep_answer(&mut self, now: Mono, corr: u32, unit: Unit) {
        let Body::Response { status, .. } = unit.head.body else {
            return;
        };
        if !self.config.ordered {
            let kept = Kept {
                stream: unit.head.stream,
                status,
                compressed: unit.head.compressed,
                tier: unit.tier,
                payload: Some(unit.payload),
            };
            self.answers.keep(now, corr, kept);
        }
    }
}

/// The class that stands for each lane.
const CLASSES: [Class; 4] = [
    Class::Interrupt,
    Class::Media,
    Class::Interactive,
    Class::Bulk,
];
