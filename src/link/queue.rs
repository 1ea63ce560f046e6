//! What both directions share: putting frames into lanes, settling requests, opening and closing
//! streams.

use crate::wire::{
    compress,
    error::ErrorMap,
    flags::Tier,
    frame::{Body, FrameHead},
    limits::Limits,
    opcode::Opcode,
    status::{Status, sub},
    time::Mono,
};

use super::{
    Link,
    class::{Class, StreamKind},
    config::LinkConfig,
    credit::{RecvCredit, WINDOW},
    event::{LinkEvent, Violation},
    ids::{Corr, StreamId},
    operation::{Operation, StreamRole},
    requests::{CANCEL_GRACE, Outstanding, Phase},
    scheduler::Control,
    stream::{LANES, Side, State, Stream, lane_of},
    unit::{Origin, Unit},
};

/// Fields of a frame before its payload, at most.
const UNIT_HEAD: usize = 32;

/// How many class 1 and class 2 things are open: streams of the class, and requests of it on other
/// streams (a USB device has its interrupt endpoints on the same stream as the rest).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Urgent {
    interrupt: u32,
    media: u32,
}

impl Urgent {
    pub(super) const fn enter(&mut self, class: Class) {
        if let Some(count) = self.count(class) {
            *count += 1;
        }
    }

    pub(super) const fn leave(&mut self, class: Class) {
        if let Some(count) = self.count(class) {
            *count = count.saturating_sub(1);
        }
    }

    const fn count(&mut self, class: Class) -> Option<&mut u32> {
        match class {
            Class::Interrupt => Some(&mut self.interrupt),
            Class::Media => Some(&mut self.media),
            Class::Control | Class::Interactive | Class::Bulk => None,
        }
    }

    pub(super) const fn interrupt_open(self) -> bool {
        self.interrupt > 0
    }

    pub(super) const fn any_open(self) -> bool {
        self.interrupt > 0 || self.media > 0
    }
}

impl LinkConfig {
    pub(super) fn fits_peer(&self, payload: usize) -> bool {
        fits(&self.peer, payload)
    }
}

fn fits(limits: &Limits, payload: usize) -> bool {
    let most = usize::try_from(limits.msg).unwrap_or(usize::MAX);
    payload.saturating_add(UNIT_HEAD) <= most
}

impl Link {
    /// Puts a unit into the lane of its class on a stream; above Tier 3 into the queue for records
    /// of their own.
    pub(super) fn enqueue(&mut self, stream: u32, class: Class, mut unit: Unit) {
        unit.ticket = self.next_ticket;
        self.next_ticket += 1;
        if unit.tier > Tier::T3 {
            self.elevated.push_back((stream, unit));
            return;
        }
        let side = match unit.origin {
            Origin::Answer | Origin::Refusal => Side::Free,
            Origin::Request if class <= Class::Interrupt => Side::Free,
            Origin::Request | Origin::Flow => Side::Ordered,
        };
        let lane = lane_of(class);
        if let Some(open) = self.streams.get_mut(stream)
            && let Some(queue) = open.lanes.get_mut(lane)
        {
            queue.push(unit, side);
        }
        self.activate(stream, lane);
    }

    /// Puts a lane that has something to send into its class's round.
    pub(super) fn activate(&mut self, stream: u32, lane: usize) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        let sends = open.sends();
        if let Some(queue) = open.lanes.get_mut(lane)
            && sends
            && !queue.active
            && !queue.is_empty()
        {
            queue.active = true;
            self.scheduler.join(lane, stream);
        }
    }

    pub(super) fn activate_stream(&mut self, stream: u32) {
        for lane in 0..LANES {
            self.activate(stream, lane);
        }
    }

    /// After something that any stream may have waited for.
    pub(super) fn activate_all(&mut self) {
        self.activate_stream(0);
        for id in self.streams.ids() {
            self.activate_stream(id);
        }
    }

    /// Moves waiting requests into lanes as far as the peer's limits admit.
    pub(super) fn admit_waiting(&mut self) {
        while let Some((unit, corr)) = self.requests.admit() {
            self.enqueue_request(corr, unit);
        }
        if self.requests.offers_room() {
            self.events.push_back(LinkEvent::Writable {
                stream: StreamId::CONTROL,
            });
        }
    }

    /// An opening request waits on stream 0, because its own stream does not send yet.
    pub(super) fn enqueue_request(&mut self, corr: u32, unit: Unit) {
        let Some(request) = self.requests.get(corr) else {
            return;
        };
        let class = request.class;
        let opens = Operation::of(request.opcode).role == StreamRole::Opens;
        let stream = if opens { 0 } else { request.stream };
        self.enqueue(stream, class, unit);
    }

    pub(super) fn insert_stream(&mut self, now: Mono, id: u32, kind: StreamKind, own: bool) {
        let (send, recv, ceiling) = match kind.class {
            // Class 1 starts small and stays so: its frames are worth little when they are old.
            Class::Control | Class::Interrupt => {
                let least = u32::try_from(WINDOW.0).unwrap_or(u32::MAX);
                let (send, recv) = (self.config.peer.cr, self.config.local.cr);
                (send.min(least), recv.min(least), WINDOW.0)
            }
            Class::Media | Class::Interactive | Class::Bulk => {
                (self.config.peer.cr, self.config.local.cr, WINDOW.1)
            }
        };
        let recv = RecvCredit::new(now, recv, ceiling);
        self.streams.insert(id, Stream::new(kind, own, send, recv));
        self.urgent.enter(kind.class);
    }

    /// A RESPONSE of the application, compressed where that is allowed and worth it.
    pub(super) fn answer_unit(
        &self,
        stream: u32,
        corr: u32,
        opcode: Opcode,
        status: Status,
        payload: Vec<u8>,
        more: bool,
    ) -> Unit {
        let tier = self.answer_tier(opcode);
        let body = Body::Response { corr, status, more };
        let mut head = FrameHead::new(stream, body);
        let packed = self
            .config
            .selected
            .filter(|_| self.config.compress && Operation::of(opcode).compressible())
            .and_then(|algorithm| compress::compress(algorithm, &payload, self.config.peer.msg));
        head.compressed = packed.is_some();
        Unit::new(head, packed.unwrap_or(payload), Origin::Answer, tier)
    }

    /// An answer is as worthy of protection as its request was.
    pub(super) fn answer_tier(&self, opcode: Opcode) -> Tier {
        self.config.policy.minimum(opcode).min(self.config.max_tier)
    }

    /// Queues a RESPONSE of the application and does what a final one entails.
    pub(super) fn queue_answer(&mut self, corr: u32, unit: Unit) {
        let last = unit.is_final_answer();
        let Body::Response { status, .. } = unit.head.body else {
            return;
        };
        let success = status.is_success();
        let Some(owed) = self.answers.get_mut(corr) else {
            return;
        };
        owed.answered |= last;
        owed.succeeded |= last && success;
        let (stream, class, opcode) = (owed.stream, owed.class, owed.opcode);
        match Operation::of(opcode).role {
            StreamRole::Opens => {
                if last
                    && success
                    && let Some(open) = self.streams.get_mut(stream)
                {
                    open.state = State::Accepted;
                }
                let open = self.streams.get(stream).is_some_and(Stream::sends);
                self.enqueue(if open { stream } else { 0 }, class, unit);
            }
            StreamRole::Closes if last && success => self.begin_closing(stream, unit),
            StreamRole::Closes | StreamRole::Bound | StreamRole::Free => {
                let class = self.answer_class(stream, class, opcode);
                self.enqueue(stream, class, unit);
            }
        }
    }

    /// See [`Link::request_class`].
    fn answer_class(&mut self, stream: u32, class: Class, opcode: Opcode) -> Class {
        match self.streams.get_mut(stream) {
            Some(open) if Operation::of(opcode).sized() => open.answers.enter(class),
            Some(_) | None => class,
        }
    }

    /// A closing operation succeeded: DATA and EVENT that wait are worthless now, what else is owed
    /// on the stream is answered, and the closing answer leaves after all that.
    fn begin_closing(&mut self, stream: u32, farewell: Unit) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        open.state = State::Closing;
        open.farewell = Some(farewell);
        for queue in &mut open.lanes {
            queue.discard(|unit| unit.origin == Origin::Flow);
        }
        for corr in self.answers.on_stream(stream) {
            let Some(owed) = self.answers.get(corr).filter(|owed| !owed.answered) else {
                continue;
            };
            let opcode = owed.opcode;
            let payload = error_payload(&ErrorMap::new(sub::CANCELLED));
            let unit = self.answer_unit(stream, corr, opcode, Status::Timeout, payload, false);
            self.queue_answer(corr, unit);
        }
        self.send_farewell(stream);
    }

    /// Lets the closing answer go when no other answer of its stream waits.
    pub(super) fn send_farewell(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        if open.answers_waiting() > 0 || self.elevated.iter().any(|(on, _)| *on == stream) {
            return;
        }
        if let Some(farewell) = open.farewell.take() {
            self.enqueue(stream, Class::Interactive, farewell);
        }
    }

    /// Answers a request that never reaches the application.
    pub(super) fn refuse_request(
        &mut self,
        stream: u32,
        corr: u32,
        status: Status,
        error: &ErrorMap,
    ) -> Result<(), Violation> {
        self.guards.refusal()?;
        let body = Body::Response {
            corr,
            status,
            more: false,
        };
        let head = FrameHead::new(stream, body);
        let unit = Unit::new(head, error_payload(error), Origin::Refusal, Tier::T3);
        self.enqueue(0, Class::Interactive, unit);
        Ok(())
    }

    /// Forgets an own request.
    pub(super) fn settle(&mut self, corr: u32) -> Option<Outstanding> {
        let request = self.requests.remove(corr)?;
        self.urgent.leave(request.class);
        Some(request)
    }

    /// Gives an own request its final answer here. Its frame must not be on the way any more, or its
    /// stream must be closed.
    pub(super) fn finish_request(&mut self, corr: u32, status: Status, payload: Vec<u8>) {
        let Some(request) = self.settle(corr) else {
            return;
        };
        if request.phase != Phase::Abandoned {
            self.events.push_back(LinkEvent::Response {
                stream: StreamId(request.stream),
                corr: Corr(corr),
                status,
                payload,
                more: false,
            });
        }
    }

    /// Sends CANCEL after a request, or takes it back when it was not sent.
    pub(super) fn cancel_request(&mut self, now: Mono, corr: u32, why: &'static str) {
        let Some(request) = self.requests.get_mut(corr) else {
            return;
        };
        match request.phase {
            Phase::Cancelled | Phase::Abandoned => {}
            Phase::Sent => {
                let stream = request.stream;
                request.phase = Phase::Cancelled;
                request.expires = Some(now.after(CANCEL_GRACE));
                self.requests.set_timer(corr, Some(now.after(CANCEL_GRACE)));
                let cancel = Control::Cancel { stream, corr };
                self.scheduler.control.push_back(cancel);
            }
            Phase::Waiting => self.withdraw(now, corr, why),
            Phase::Queued => {
                if self.take_back(corr) {
                    self.withdraw(now, corr, why);
                } else if let Some(request) = self.requests.get_mut(corr) {
                    request.cancel_wanted = true;
                }
            }
        }
    }

    /// Takes the frame of a request out of its lane; false when a part of it is in a record.
    fn take_back(&mut self, corr: u32) -> bool {
        let Some(request) = self.requests.get(corr) else {
            return false;
        };
        let class = request.class;
        let opens = Operation::of(request.opcode).role == StreamRole::Opens;
        let stream = if opens { 0 } else { request.stream };
        let ours = |unit: &Unit| unit.origin == Origin::Request && unit.corr() == Some(corr);
        let before = self.elevated.len();
        self.elevated
            .retain(|(_, unit)| unit.is_begun() || !ours(unit));
        let lane = self
            .streams
            .get_mut(stream)
            .and_then(|open| open.lanes.get_mut(lane_of(class)));
        let taken = lane.map_or(0, |lane| lane.discard(ours).len());
        taken > 0 || self.elevated.len() < before
    }

    /// Answers a request that was never sent; a stream that it would have opened never was.
    fn withdraw(&mut self, now: Mono, corr: u32, why: &'static str) {
        let Some(request) = self.requests.get(corr) else {
            return;
        };
        let (stream, operation) = (request.stream, Operation::of(request.opcode));
        self.finish_request(corr, Status::Timeout, error_payload(&ErrorMap::new(why)));
        if operation.role == StreamRole::Opens {
            self.close_stream(now, stream, Status::Timeout, &[]);
        } else if operation.sized()
            && let Some(open) = self.streams.get_mut(stream)
        {
            open.requests.leave();
        }
        self.admit_waiting();
    }

    /// Takes a stream out of the table. Own requests on it get `status` as their final answer, those
    /// of the peer are forgotten. Units of which a part is sent go on, from stream 0.
    pub(super) fn close_stream(&mut self, now: Mono, id: u32, status: Status, payload: &[u8]) {
        let Some(mut open) = self.streams.remove(now, id) else {
            return;
        };
        self.urgent.leave(open.kind.class);
        let held = open.recv.release();
        self.return_session_credit(open.kind.class, held);
        for (lane, queue) in open.lanes.iter_mut().enumerate() {
            if queue.active {
                self.scheduler.leave(lane, id);
            }
            self.adopt(lane, queue.take_begun());
        }
        self.discard_on_control(id);
        for corr in self.requests.on_stream(id) {
            self.finish_request(corr, status, payload.to_vec());
        }
        for corr in self.answers.on_stream(id) {
            if let Some(owed) = self.answers.remove(corr) {
                self.urgent.leave(owed.class);
            }
        }
        self.admit_waiting();
    }

    /// False while the opening request of an own stream is not in a record.
    pub(super) fn peer_knows(&self, id: u32) -> bool {
        let open = self.streams.get(id);
        if open.is_none_or(|open| !open.own || open.state != State::Opening) {
            return true;
        }
        let corrs = self.requests.on_stream(id);
        let opener = corrs.first().and_then(|corr| self.requests.get(*corr));
        opener.is_some_and(|opener| matches!(opener.phase, Phase::Sent | Phase::Cancelled))
    }

    /// Takes over units of a closed stream of which a part is sent.
    fn adopt(&mut self, lane: usize, units: Vec<Unit>) {
        if units.is_empty() {
            return;
        }
        if let Some(queue) = self
            .streams
            .get_mut(0)
            .and_then(|zero| zero.lanes.get_mut(lane))
        {
            for unit in units {
                queue.push(unit, Side::Ordered);
            }
        }
        self.activate(0, lane);
    }

    /// Frames of a closed stream that wait elsewhere: its opening request or the answer to that,
    /// and whatever needs Tier 4.
    fn discard_on_control(&mut self, id: u32) {
        let of_stream = |unit: &Unit| unit.head.stream == id && unit.origin != Origin::Refusal;
        self.elevated
            .retain(|(_, unit)| unit.is_begun() || !of_stream(unit));
        if let Some(zero) = self.streams.get_mut(0) {
            for queue in &mut zero.lanes {
                queue.discard(of_stream);
            }
        }
    }

    /// Tells the application about frames dropped before they were sent, once until it has looked.
    pub(super) fn report_dropped(&mut self, stream: u32, dropped: u32) {
        if dropped == 0 {
            return;
        }
        let id = StreamId(stream);
        let last = self.events.iter_mut().rev().find_map(|event| {
            if let LinkEvent::Dropped { stream, count } = event
                && *stream == id
            {
                Some(count)
            } else {
                None
            }
        });
        if let Some(count) = last {
            *count = count.saturating_add(dropped);
        } else {
            let count = dropped;
            self.events
                .push_back(LinkEvent::Dropped { stream: id, count });
        }
    }
}

/// The payload of an error; empty in the impossible case that it cannot be encoded.
pub(super) fn error_payload(error: &ErrorMap) -> Vec<u8> {
    error.encode().unwrap_or_default()
}

/// An error map without more than a sub-code.
pub(super) const fn error(sub: &'static str) -> ErrorMap {
    ErrorMap::new(sub)
}
