//! What the own side may ask of a link.

use core::time::Duration;

use crate::wire::{
    error::ErrorMap,
    flags::Tier,
    frame::{Body, FrameHead},
    limits::UNDECLARED_REPLY,
    opcode::Opcode,
    status::{Status, sub},
    time::Mono,
};

use super::{
    Link,
    class::{Class, DataForm, StreamKind},
    config::LinkConfig,
    event::{LinkError, LinkEvent},
    ids::{Corr, StreamId},
    operation::{Operation, StreamRole, belongs},
    requests::{FIRST_REPEAT, Outstanding, Phase},
    scheduler::Control,
    stream::State,
    unit::{Origin, Unit},
};

/// For operations without a timeout of their own (profile 10.4).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers with MORE that may wait on one stream.
const ANSWERS_WAITING: usize = 256;
/// Kept payloads are not larger than this, unless the path is unordered: what is refused for its
/// tier is an administrative act or an opening, never bulk.
const KEPT_PAYLOAD: usize = 4096;

/// Where a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// On a fresh stream, which it opens.
    New,
    /// On stream 0 or on an open stream.
    On(StreamId),
}

/// An operation that the peer shall perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its stream.
    pub target: Target,
    /// The operation.
    pub opcode: Opcode,
    /// MessagePack, or empty for "no parameters".
    pub payload: Vec<u8>,
    /// Scheduling class of the request.
    pub class: Class,
    /// Least tier of the record that carries it.
    pub min_tier: Tier,
    /// CANCEL is sent after this time; `None` waits for ever (an interrupt IN transfer).
    pub timeout: Option<Duration>,
    /// Declared maximum length of the answer, bytes.
    pub reply_len: u32,
    /// Discarded, and answered with 0x22, when it cannot be sent before (class 2).
    pub deadline: Option<Mono>,
}

impl Request {
    /// A request with the defaults of its operation, an undeclared answer and 30 s of time.
    pub fn new(target: Target, opcode: Opcode, payload: Vec<u8>) -> Self {
        Self {
            target,
            class: Class::of_request(opcode, payload.len()),
            min_tier: Operation::of(opcode).tier(),
            opcode,
            payload,
            timeout: Some(DEFAULT_TIMEOUT),
            reply_len: UNDECLARED_REPLY,
            deadline: None,
        }
    }

    /// Declares the answer's maximum length, which may move the request to class 4.
    #[must_use]
    pub fn with_reply_len(mut self, reply_len: u32) -> Self {
        let reply = usize::try_from(reply_len).unwrap_or(usize::MAX);
        self.class = Class::of_request(self.opcode, self.payload.len().max(reply));
        self.reply_len = reply_len;
        self
    }

    /// Another timeout; `None` waits for ever.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Link {
    /// Queues a request. Exactly one [`LinkEvent::Response`] with `more` false follows, whatever
    /// happens. Beyond what the peer's limits admit, requests wait here, 4096 of them or 32 MiB.
    ///
    /// # Errors
    /// [`LinkError`]; nothing was queued. After a [`LinkError::WouldBlock`]
    /// [`LinkEvent::Writable`] of stream 0 follows.
    pub fn request(&mut self, now: Mono, request: Request) -> Result<(StreamId, Corr), LinkError> {
        self.check_request(&request)?;
        let stream = match request.target {
            Target::New => self.open_stream(now, &request)?,
            Target::On(stream) => stream.0,
        };
        let corr = self.requests.next_corr();
        let class = self.request_class(stream, &request);
        let opcode = request.opcode;
        let head = FrameHead::new(stream, Body::Request { opcode, corr });
        self.requests.insert(
            corr,
            Outstanding {
                stream,
                opcode,
                class,
                tier: request.min_tier,
                cost: LinkConfig::cost(request.payload.len(), Some(request.reply_len)),
                phase: Phase::Waiting,
                cancel_wanted: false,
                timeout: request.timeout,
                expires: request.timeout.map(|timeout| now.after(timeout)),
                sent_at: None,
                payload: None,
                repeat_after: FIRST_REPEAT,
                raised: false,
                timer: None,
            },
        );
        let expires = self.requests.get(corr).and_then(|request| request.expires);
        self.requests.set_timer(corr, expires);
        self.urgent.enter(class);
        let mut unit = Unit::new(head, request.payload, Origin::Request, request.min_tier);
        unit.deadline = request.deadline;
        self.requests.wait(unit, class);
        self.admit_waiting();
        Ok((StreamId(stream), Corr(corr)))
    }

    /// Whether [`Self::request`] would take the request now.
    ///
    /// # Errors
    /// Those of [`Self::request`].
    pub fn check_request(&mut self, request: &Request) -> Result<(), LinkError> {
        let opcode = request.opcode;
        let operation = Operation::of(opcode);
        if opcode.is_core() || opcode == Opcode::Record {
            return Err(LinkError::NotAnOperation);
        }
        if operation.ordered_only() && !self.config.ordered {
            return Err(LinkError::OrderedPath);
        }
        if request.min_tier > self.config.max_tier {
            return Err(LinkError::Tier(request.min_tier));
        }
        let length = request.payload.len();
        let cost = LinkConfig::cost(length, Some(request.reply_len));
        if !self.fits_peer(length) || !self.requests.admissible(request.class, cost) {
            return Err(LinkError::TooLarge);
        }
        if !self.requests.has_room(length) {
            return Err(LinkError::WouldBlock);
        }
        match (request.target, operation.role) {
            (Target::New, StreamRole::Opens) => Ok(()),
            (Target::New, _) | (Target::On(_), StreamRole::Opens) => Err(LinkError::StreamState),
            (Target::On(stream), role) => {
                let open = self.streams.get(stream.0).ok_or(LinkError::UnknownStream)?;
                let bound = matches!(role, StreamRole::Bound | StreamRole::Closes);
                let fits = !bound || belongs(opcode, open.kind.opener);
                if open.state == State::Open && fits && !(bound && stream.is_control()) {
                    Ok(())
                } else {
                    Err(LinkError::StreamState)
                }
            }
        }
    }

    fn open_stream(&mut self, now: Mono, request: &Request) -> Result<u32, LinkError> {
        let most = usize::try_from(self.config.peer.str).unwrap_or(usize::MAX);
        if self.streams.count(true) >= most {
            return Err(LinkError::StreamLimit);
        }
        let id = self.streams.allocate().ok_or(LinkError::StreamLimit)?;
        let kind = StreamKind::of(request.opcode, &request.payload);
        self.insert_stream(now, id, kind, true);
        Ok(id)
    }

    /// Requests whose class depends on their size stay in one class while any of them waits on the
    /// stream, so that none overtakes another.
    fn request_class(&mut self, stream: u32, request: &Request) -> Class {
        if Operation::of(request.opcode).sized()
            && let Some(stream) = self.streams.get_mut(stream)
        {
            return stream.requests.enter(request.class);
        }
        request.class
    }

    /// Answers a request of the peer. After an answer with `more` false the request is done.
    ///
    /// # Errors
    /// [`LinkError::UnknownRequest`] when nothing is owed, for example because the stream was reset;
    /// [`LinkError::TooLarge`]: answer with an error instead; [`LinkError::WouldBlock`] only with
    /// `more`.
    pub fn respond(
        &mut self,
        stream: StreamId,
        corr: Corr,
        status: Status,
        payload: Vec<u8>,
        more: bool,
    ) -> Result<(), LinkError> {
        let owed = self
            .answers
            .get(corr.0)
            .filter(|owed| owed.stream == stream.0 && !owed.answered)
            .ok_or(LinkError::UnknownRequest)?;
        let opcode = owed.opcode;
        if !self.fits_peer(payload.len()) {
            return Err(LinkError::TooLarge);
        }
        if more {
            let lane_stream = self.streams.get_mut(stream.0);
            if let Some(lane_stream) = lane_stream
                && lane_stream.answers_waiting() >= ANSWERS_WAITING
            {
                lane_stream.wants_room = true;
                return Err(LinkError::WouldBlock);
            }
        }
        let unit = self.answer_unit(stream.0, corr.0, opcode, status, payload, more);
        self.queue_answer(corr.0, unit);
        Ok(())
    }

    /// [`Self::respond`] with an error map.
    ///
    /// # Errors
    /// As [`Self::respond`].
    pub fn refuse(
        &mut self,
        stream: StreamId,
        corr: Corr,
        status: Status,
        error: &ErrorMap,
    ) -> Result<(), LinkError> {
        // INVARIANT: only a `detail` with a key twice cannot be encoded; the status then stands alone.
        let payload = error.encode().unwrap_or_default();
        self.respond(stream, corr, status, payload, false)
    }

    /// Sends an EVENT on an open stream; on stream 0 only TICKET and `FAMILY_UPDATE`, of which the
    /// caller sends at most 16 a second. On streams of class 1 and 2 the oldest frames make room and
    /// are reported by [`LinkEvent::Dropped`].
    ///
    /// # Errors
    /// [`LinkError`]; nothing was queued.
    pub fn event(
        &mut self,
        stream: StreamId,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<(), LinkError> {
        let open = self.streams.get(stream.0).ok_or(LinkError::UnknownStream)?;
        let allowed = if stream.is_control() {
            matches!(opcode, Opcode::Ticket | Opcode::FamilyUpdate)
        } else {
            !opcode.is_core() && opcode != Opcode::Record
        };
        if !allowed {
            return Err(LinkError::NotAnOperation);
        }
        let class = Class::of_event(opcode, open.kind.class);
        let tier = if stream.is_control() {
            self.config.policy.minimum(opcode)
        } else {
            Tier::T3
        };
        if tier > self.config.max_tier {
            return Err(LinkError::Tier(tier));
        }
        let head = FrameHead::new(stream.0, Body::Event { opcode });
        self.queue_flow(class, Unit::new(head, payload, Origin::Flow, tier))
    }

    /// Sends DATA on an open stream; `fin` when it is the last in this direction.
    ///
    /// # Errors
    /// [`LinkError`]; nothing was queued. [`Self::writable`] tells beforehand whether there is room.
    pub fn data(&mut self, stream: StreamId, payload: Vec<u8>, fin: bool) -> Result<(), LinkError> {
        self.data_until(stream, payload, fin, None)
    }

    /// [`Self::data`] that is discarded when it cannot be sent before `deadline` (class 2).
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn data_until(
        &mut self,
        stream: StreamId,
        payload: Vec<u8>,
        fin: bool,
        deadline: Option<Mono>,
    ) -> Result<(), LinkError> {
        let open = self.streams.get(stream.0).ok_or(LinkError::UnknownStream)?;
        if stream.is_control() || open.fin.given {
            return Err(LinkError::StreamState);
        }
        if payload.is_empty() && !fin {
            return Ok(());
        }
        let relay = open.kind.opener == Opcode::RelayOpen;
        let class = open.kind.class;
        let head = FrameHead {
            relay,
            ..FrameHead::new(stream.0, Body::Data { fin })
        };
        let record = usize::try_from(self.config.peer.rec).unwrap_or(usize::MAX);
        if relay && head.emitted_len(payload.len()) > record {
            return Err(LinkError::TooLarge);
        }
        let mut unit = Unit::new(head, payload, Origin::Flow, Tier::T3);
        unit.deadline = deadline;
        self.queue_flow(class, unit)?;
        if let Some(open) = self.streams.get_mut(stream.0) {
            open.fin.given |= fin;
        }
        Ok(())
    }

    fn queue_flow(&mut self, class: Class, unit: Unit) -> Result<(), LinkError> {
        let id = unit.head.stream;
        let length = unit.pending();
        let open = self.streams.get_mut(id).ok_or(LinkError::UnknownStream)?;
        if !matches!(open.state, State::Open | State::Accepted) || open.fin.given {
            return Err(LinkError::StreamState);
        }
        let bytes =
            open.kind.data == DataForm::Bytes && matches!(unit.head.body, Body::Data { .. });
        if !bytes && !self.config.fits_peer(length) {
            return Err(LinkError::TooLarge);
        }
        if class <= Class::Media {
            let dropped = open.make_room(class, length);
            self.report_dropped(id, dropped);
        } else if open.queued() > 0 && open.queued() + length > self.config.queue_bytes {
            open.wants_room = true;
            return Err(LinkError::WouldBlock);
        }
        self.enqueue(id, class, unit);
        Ok(())
    }

    /// True when `bytes` more of DATA or EVENT would be accepted on a stream now. After a false
    /// [`LinkEvent::Writable`] follows.
    pub fn writable(&mut self, stream: StreamId, bytes: usize) -> bool {
        let limit = self.config.queue_bytes;
        let Some(open) = self.streams.get_mut(stream.0) else {
            return false;
        };
        let room = open.queued() == 0 || open.queued() + bytes <= limit;
        open.wants_room |= !room;
        room
    }

    /// True for stream 0 and for streams whose opening succeeded and that are not closed.
    pub fn is_open(&self, stream: StreamId) -> bool {
        let open = self.streams.get(stream.0);
        open.is_some_and(|open| open.state == State::Open)
    }

    /// Bytes of DATA and EVENT that wait on a stream, for a drain.
    pub fn queued(&self, stream: StreamId) -> usize {
        self.streams
            .get(stream.0)
            .map_or(0, super::stream::Stream::queued)
    }

    /// Asks the peer to abandon an own request. The final answer follows: the normal one, or 0x22
    /// `cancelled`; after 5 s without any the stream is reset. A request that was not sent yet is
    /// answered here.
    ///
    /// # Errors
    /// [`LinkError::UnknownRequest`] when it has its final answer.
    pub fn cancel(&mut self, now: Mono, stream: StreamId, corr: Corr) -> Result<(), LinkError> {
        let request = self.requests.get(corr.0);
        if request.is_none_or(|request| request.stream != stream.0) {
            return Err(LinkError::UnknownRequest);
        }
        self.cancel_request(now, corr.0, sub::CANCELLED);
        Ok(())
    }

    /// Ends a stream at once, in both directions; its outstanding requests are answered with
    /// `status` here, those of the peer need no answer any more.
    ///
    /// # Errors
    /// [`LinkError::UnknownStream`]; also for stream 0, which cannot be reset.
    pub fn reset(
        &mut self,
        now: Mono,
        stream: StreamId,
        status: Status,
        error: Option<&ErrorMap>,
    ) -> Result<(), LinkError> {
        if stream.is_control() || self.streams.get(stream.0).is_none() {
            return Err(LinkError::UnknownStream);
        }
        // INVARIANT: as in `refuse`.
        let payload = error
            .and_then(|error| error.encode().ok())
            .unwrap_or_default();
        let known = self.peer_knows(stream.0);
        self.close_stream(now, stream.0, status, &payload);
        if known {
            self.scheduler.control.push_back(Control::Reset {
                stream: stream.0,
                status,
                payload,
            });
        }
        Ok(())
    }

    /// The session is over: every request is answered with 0x21, every stream is reset
    /// (profile 14.3).
    pub fn abort(&mut self, now: Mono) {
        for id in self.streams.ids() {
            self.close_stream(now, id, Status::ServiceUnavailable, &[]);
            self.events.push_back(LinkEvent::Reset {
                stream: StreamId(id),
                status: Status::ServiceUnavailable,
                payload: Vec::new(),
            });
        }
        for corr in self.requests.all() {
            self.finish_request(corr, Status::ServiceUnavailable, Vec::new());
        }
    }

    fn fits_peer(&self, payload: usize) -> bool {
        self.config.fits_peer(payload)
    }

    pub(super) const fn keeps_payload(&self, request: &Outstanding, length: usize) -> bool {
        !self.config.ordered || (length <= KEPT_PAYLOAD && !request.raised)
    }
}
