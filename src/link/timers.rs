//! Timeouts of requests: CANCEL, then RESET; on unordered paths repetitions (profile 10.4).

use core::time::Duration;

use crate::wire::{
    frame::{Body, FrameHead},
    status::{Status, sub},
    time::Mono,
};

use super::{
    Link,
    event::LinkEvent,
    ids::{Corr, StreamId},
    queue::{error, error_payload},
    requests::Phase,
    scheduler::Control,
    unit::{Origin, Unit},
};

/// Longest pause between two repetitions of a request.
const LONGEST_REPEAT: Duration = Duration::from_secs(16);

impl Link {
    /// When [`Self::handle_timeout`] must be called next; `None` as long as nothing is outstanding.
    pub fn next_timeout(&self) -> Option<Mono> {
        let timers = [self.requests.next_timer(), self.reassembler.next_timeout()];
        timers.into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.reassembler.expire(now);
        while let Some(corr) = self.requests.pop_due(now) {
            self.on_timer(now, corr);
        }
    }

    fn on_timer(&mut self, now: Mono, corr: u32) {
        let Some(request) = self.requests.get(corr) else {
            return;
        };
        let expired = request.expires.is_some_and(|expires| expires <= now);
        match (expired, request.phase) {
            (false, _) => self.repeat(corr),
            (true, Phase::Cancelled) => self.give_up(now, corr),
            (true, Phase::Waiting | Phase::Queued | Phase::Sent | Phase::Abandoned) => {
                self.cancel_request(now, corr, sub::TIMEOUT);
            }
        }
    }

    /// Neither an answer nor an answer to CANCEL: the stream is beyond hope. Stream 0 cannot be
    /// reset; there the request is only forgotten by the application.
    fn give_up(&mut self, now: Mono, corr: u32) {
        let Some(request) = self.requests.get_mut(corr) else {
            return;
        };
        let stream = request.stream;
        let payload = error_payload(&error(sub::TIMEOUT));
        if stream == 0 {
            request.phase = Phase::Abandoned;
            self.events.push_back(LinkEvent::Response {
                stream: StreamId::CONTROL,
                corr: Corr(corr),
                status: Status::Timeout,
                payload,
                more: false,
            });
            return;
        }
        self.close_stream(now, stream, Status::Timeout, &payload);
        self.events.push_back(LinkEvent::Reset {
            stream: StreamId(stream),
            status: Status::Timeout,
            payload: payload.clone(),
        });
        self.scheduler.control.push_back(Control::Reset {
            stream,
            status: Status::Timeout,
            payload,
        });
    }

    /// Sets the timer of a request that was just sent on an unordered path.
    pub(super) fn arm_repetition(&mut self, now: Mono, corr: u32) {
        if self.config.ordered {
            return;
        }
        let Some(request) = self.requests.get_mut(corr) else {
            return;
        };
        let repeat = now.after(request.repeat_after);
        request.repeat_after = (request.repeat_after * 2).min(LONGEST_REPEAT);
        let at = request
            .expires
            .map_or(repeat, |expires| expires.min(repeat));
        self.requests.set_timer(corr, Some(at));
    }

    /// Sends a request once more with the same correlation id: the peer executes it at most once.
    fn repeat(&mut self, corr: u32) {
        let Some(request) = self.requests.get_mut(corr) else {
            return;
        };
        let payload = match request.phase {
            Phase::Sent => request.payload.take(),
            Phase::Waiting | Phase::Queued | Phase::Cancelled | Phase::Abandoned => None,
        };
        let expires = request.expires;
        let Some(payload) = payload else {
            self.requests.set_timer(corr, expires);
            return;
        };
        request.phase = Phase::Queued;
        let body = Body::Request {
            opcode: request.opcode,
            corr,
        };
        let head = FrameHead::new(request.stream, body);
        let unit = Unit::new(head, payload, Origin::Request, request.tier);
        self.requests.set_timer(corr, expires);
        self.enqueue_request(corr, unit);
    }
}
