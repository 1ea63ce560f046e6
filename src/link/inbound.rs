//! REQUEST, RESPONSE and CANCEL as they arrive.

use crate::wire::{
    error::ErrorMap,
    flags::Tier,
    frame::{Body, FrameHead},
    opcode::Opcode,
    status::{Status, sub},
};

use super::{
    Link,
    answers::Owed,
    class::{Class, StreamKind},
    config::LinkConfig,
    event::{LinkEvent, Violation},
    ids::{Corr, StreamId},
    operation::{Operation, StreamRole, belongs},
    queue::{error, error_payload},
    receive::{Arrival, Content},
    requests::Phase,
    stream::State,
    streams::Standing,
    unit::{Origin, Unit},
};

/// What the state of the streams says to a request.
enum Verdict {
    Accept,
    Refuse(&'static str),
    Ignore,
    UnknownStream,
}

impl Link {
    pub(super) fn on_request(
        &mut self,
        at: &Arrival,
        stream: u32,
        corr: u32,
        opcode: Opcode,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        if self.is_repetition(at, stream, corr)? {
            return Ok(());
        }
        if opcode.is_core() || opcode == Opcode::Record {
            return Err(Violation::payload("a core opcode in a frame"));
        }
        if matches!(opcode, Opcode::Unknown(_)) {
            self.guards.unknown_operation()?;
        }
        let minimum = self.config.policy.minimum(opcode);
        if at.tier < minimum {
            let error = error(sub::TIER).with_required_tier(minimum);
            return self.refuse_request(stream, corr, Status::Forbidden, &error);
        }
        let operation = Operation::of(opcode);
        let opens = operation.role == StreamRole::Opens;
        match self.judge_stream(at, stream, opcode) {
            Verdict::Accept => {}
            Verdict::Refuse(sub) => {
                return self.refuse_request(stream, corr, Status::BadRequest, &error(sub));
            }
            Verdict::Ignore => return Ok(()),
            Verdict::UnknownStream => return self.on_unknown_stream(stream),
        }
        let payload = content.as_slice();
        let reply = (self.config.declared_reply)(opcode, payload);
        let cost = LinkConfig::cost(payload.len(), reply);
        let refusal = if operation.ordered_only() && !self.config.ordered {
            Some(sub::UNSUPPORTED)
        } else if !self.answers.allows(cost) || (opens && self.is_full_of_streams()) {
            Some(sub::LIMIT)
        } else {
            None
        };
        if opens {
            self.streams.use_up(stream);
        }
        if let Some(sub) = refusal {
            if opens {
                let class = StreamKind::of(opcode, payload).class;
                self.streams.bury(at.now, stream, class);
            }
            return self.refuse_request(stream, corr, Status::BadRequest, &error(sub));
        }
        if opens {
            let kind = StreamKind::of(opcode, payload);
            self.insert_stream(at.now, stream, kind, false);
        }
        let size = payload.len().max(reply_size(reply));
        self.accept_request(stream, corr, opcode, Class::of_request(opcode, size), cost);
        self.events.push_back(LinkEvent::Request {
            stream: StreamId(stream),
            corr: Corr(corr),
            opcode,
            payload: content.into_vec(),
            tier: at.tier,
            age_secs: at.age_secs,
        });
        Ok(())
    }

    fn accept_request(&mut self, stream: u32, corr: u32, opcode: Opcode, class: Class, cost: u64) {
        self.urgent.enter(class);
        self.answers.insert(
            corr,
            Owed {
                stream,
                opcode,
                class,
                cost,
                cancelled: false,
                answered: false,
                succeeded: false,
            },
        );
    }

    /// A correlation id that is in use: a violation on an ordered path; a repeated request on an
    /// unordered one, whose answer is repeated if there is one (profile 10.4).
    fn is_repetition(&mut self, at: &Arrival, stream: u32, corr: u32) -> Result<bool, Violation> {
        if self.config.ordered {
            return match self.answers.get(corr) {
                Some(_) => Err(Violation::duplicate("a correlation id in use")),
                None => Ok(false),
            };
        }
        if self.answers.get(corr).is_some() {
            return Ok(true);
        }
        let Some(kept) = self.answers.kept(at.now, corr) else {
            return Ok(false);
        };
        if kept.stream != stream || core::mem::replace(&mut kept.repeating, true) {
            return Ok(true);
        }
        let (status, payload) = match &kept.payload {
            Some(payload) => (kept.status, payload.clone()),
            None => (Status::Timeout, error_payload(&error(sub::LIMIT))),
        };
        let mut head = FrameHead::new(
            stream,
            Body::Response {
                corr,
                status,
                more: false,
            },
        );
        head.compressed = kept.compressed;
        let tier = kept.tier;
        self.guards.refusal()?;
        let unit = Unit::new(head, payload, Origin::Refusal, tier);
        self.enqueue(0, Class::Interactive, unit);
        Ok(true)
    }

    fn judge_stream(&mut self, at: &Arrival, stream: u32, opcode: Opcode) -> Verdict {
        let role = Operation::of(opcode).role;
        let opens = role == StreamRole::Opens;
        match self.streams.standing(at.now, stream) {
            Standing::Fresh if opens => Verdict::Accept,
            Standing::Fresh | Standing::Unknown => Verdict::UnknownStream,
            Standing::Closed { .. } => Verdict::Ignore,
            Standing::Known if opens => Verdict::Refuse(sub::STREAM_STATE),
            Standing::Known => {
                let open = self.streams.get(stream);
                let usable = open.is_some_and(|open| open.state == State::Open);
                let housed = match role {
                    StreamRole::Free => true,
                    StreamRole::Bound | StreamRole::Closes | StreamRole::Opens => {
                        stream != 0 && open.is_some_and(|open| belongs(opcode, open.kind.opener))
                    }
                };
                if usable && housed {
                    Verdict::Accept
                } else {
                    Verdict::Refuse(sub::STREAM_STATE)
                }
            }
        }
    }

    fn is_full_of_streams(&self) -> bool {
        let most = usize::try_from(self.config.local.str).unwrap_or(usize::MAX);
        self.streams.count(false) >= most
    }

    pub(super) fn on_cancel(
        &mut self,
        at: &Arrival,
        stream: u32,
        corr: u32,
    ) -> Result<(), Violation> {
        let owed = self.answers.get_mut(corr);
        let Some(owed) =
            owed.filter(|owed| owed.stream == stream && !owed.cancelled && !owed.answered)
        else {
            return self.guards.idle_frame(at.now);
        };
        owed.cancelled = true;
        self.events.push_back(LinkEvent::Cancel {
            stream: StreamId(stream),
            corr: Corr(corr),
        });
        Ok(())
    }

    pub(super) fn on_response(
        &mut self,
        at: &Arrival,
        stream: u32,
        corr: u32,
        status: Status,
        more: bool,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        let Some(request) = self.requests.get_mut(corr) else {
            return self.on_stray_response(at, stream);
        };
        if request.stream != stream {
            return Err(Violation::stream_state("a RESPONSE on another stream"));
        }
        match request.phase {
            Phase::Sent | Phase::Cancelled => {}
            Phase::Abandoned if more => return Ok(()),
            Phase::Abandoned => {
                self.settle(corr);
                self.admit_waiting();
                return Ok(());
            }
            // On an unordered path the answer to an earlier repetition.
            Phase::Waiting | Phase::Queued if !self.config.ordered => {}
            Phase::Waiting | Phase::Queued => {
                return Err(Violation::stream_state("a RESPONSE before its REQUEST"));
            }
        }
        if more {
            if let (Phase::Sent, Some(timeout)) = (request.phase, request.timeout) {
                let expires = at.now.after(timeout);
                request.expires = Some(expires);
                self.requests.set_timer(corr, Some(expires));
            }
            self.report_response(stream, corr, status, content.into_vec(), true);
            return Ok(());
        }
        if request.class <= Class::Interactive
            && let Some(sent_at) = request.sent_at
        {
            let round_trip = at.now.since(sent_at);
            self.observe_round_trip(round_trip);
        }
        if status == Status::Forbidden && self.repeat_higher(corr, content.as_slice()) {
            return Ok(());
        }
        self.conclude(at, corr, status, content.into_vec());
        Ok(())
    }

    /// A response to nothing we know: late for a stream that is closed, else nonsense.
    fn on_stray_response(&mut self, at: &Arrival, stream: u32) -> Result<(), Violation> {
        match self.streams.standing(at.now, stream) {
            Standing::Closed { .. } => Ok(()),
            Standing::Known if !self.config.ordered => Ok(()),
            Standing::Known | Standing::Fresh | Standing::Unknown => self.guards.unknown_frame(),
        }
    }

    fn report_response(
        &mut self,
        stream: u32,
        corr: u32,
        status: Status,
        payload: Vec<u8>,
        more: bool,
    ) {
        self.events.push_back(LinkEvent::Response {
            stream: StreamId(stream),
            corr: Corr(corr),
            status,
            payload,
            more,
        });
    }

    /// The final answer of the peer and what it means for the stream.
    fn conclude(&mut self, at: &Arrival, corr: u32, status: Status, payload: Vec<u8>) {
        let Some(request) = self.settle(corr) else {
            return;
        };
        let stream = request.stream;
        self.report_response(stream, corr, status, payload, false);
        match (Operation::of(request.opcode).role, status.is_success()) {
            (StreamRole::Opens, true) => {
                if let Some(open) = self.streams.get_mut(stream) {
                    open.state = State::Open;
                }
                self.list_credit(stream);
                self.activate_stream(stream);
            }
            (StreamRole::Opens, false) => {
                self.close_stream(at.now, stream, status, &[]);
            }
            (StreamRole::Closes, true) => {
                let payload = error_payload(&error(sub::CANCELLED));
                self.close_stream(at.now, stream, Status::Timeout, &payload);
            }
            (StreamRole::Closes, false) | (StreamRole::Bound | StreamRole::Free, _) => {}
        }
        self.admit_waiting();
    }

    /// Sends a request once more, in a record of the tier that the peer demands (profile 10.3).
    /// False when that is not what was refused, or not possible.
    fn repeat_higher(&mut self, corr: u32, payload: &[u8]) -> bool {
        let required = ErrorMap::decode(payload)
            .ok()
            .filter(|error| error.sub == sub::TIER)
            .and_then(|error| Tier::from_u8(error.required_tier?));
        let max_tier = self.config.max_tier;
        let Some(request) = self.requests.get_mut(corr) else {
            return false;
        };
        let Some(tier) = required.filter(|tier| *tier > request.tier && *tier <= max_tier) else {
            return false;
        };
        if request.raised || request.phase != Phase::Sent {
            return false;
        }
        let Some(payload) = request.payload.take() else {
            return false;
        };
        request.raised = true;
        request.tier = tier;
        request.phase = Phase::Queued;
        let opcode = request.opcode;
        let head = FrameHead::new(request.stream, Body::Request { opcode, corr });
        let unit = Unit::new(head, payload, Origin::Request, tier);
        self.enqueue_request(corr, unit);
        true
    }
}

fn reply_size(reply: Option<u32>) -> usize {
    reply.map_or(0, |reply| usize::try_from(reply).unwrap_or(usize::MAX))
}
