//! DATA, EVENT, CREDIT and RESET as they arrive, and the credit that is given back.

use crate::wire::{
    flags::Tier,
    frame::{Body, FrameHead},
    opcode::Opcode,
    status::{Status, sub},
    time::Mono,
};

use super::{
    Link,
    class::Class,
    event::{LinkEvent, Violation},
    ids::StreamId,
    queue::{error, error_payload},
    receive::{Arrival, Content},
    scheduler::Control,
    stream::State,
    streams::Standing,
};

impl Link {
    /// The application will report with [`Self::consume`] what it has consumed of a stream, instead
    /// of [`Self::poll_event`] counting as consumption. The peer is then held back by a slow
    /// consumer.
    pub fn consume_manually(&mut self, stream: StreamId) {
        if let Some(open) = self.streams.get_mut(stream.0) {
            open.recv.manual = true;
        }
    }

    /// So many DATA and EVENT payload bytes of a stream are consumed and may be replaced by new
    /// ones.
    pub fn consume(&mut self, stream: StreamId, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(open) = self.streams.get_mut(stream.0) else {
            return;
        };
        let consumed = open.recv.consume(bytes);
        let class = open.kind.class;
        self.return_session_credit(class, consumed);
        self.list_credit(stream.0);
    }

    pub(super) fn account_for_handover(&mut self, event: &LinkEvent) {
        let (stream, bytes) = match event {
            LinkEvent::Data {
                stream, payload, ..
            }
            | LinkEvent::Event {
                stream, payload, ..
            } => (*stream, payload.len()),
            LinkEvent::Request { .. }
            | LinkEvent::Cancel { .. }
            | LinkEvent::Response { .. }
            | LinkEvent::Reset { .. }
            | LinkEvent::Writable { .. }
            | LinkEvent::Dropped { .. }
            | LinkEvent::Missing { .. } => return,
        };
        let manual = self
            .streams
            .get(stream.0)
            .is_none_or(|open| open.recv.manual);
        if !manual {
            self.consume(stream, bytes);
        }
    }

    /// Bytes of a stream of that class are consumed, or nobody will consume them.
    pub(super) fn return_session_credit(&mut self, class: Class, bytes: u64) {
        if class.uses_session_credit() && bytes > 0 {
            self.session_recv.consume(bytes);
            self.list_session_credit();
        }
    }

    /// Puts CREDIT of a stream on the list when one is due.
    pub(super) fn list_credit(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        // Before that the peer may not know the stream: CREDIT would overtake its opening.
        let known = stream != 0 && open.state == State::Open;
        if known && !open.recv.listed && open.recv.is_due() {
            open.recv.listed = true;
            self.scheduler.control.push_back(Control::Credit { stream });
        }
    }

    pub(super) fn list_session_credit(&mut self) {
        if !self.session_recv.listed && self.session_recv.is_due() {
            self.session_recv.listed = true;
            let credit = Control::Credit { stream: 0 };
            self.scheduler.control.push_back(credit);
        }
    }

    /// Charges DATA or EVENT payload to its stream and to the session. Bytes for a closed stream
    /// still count for the session, because the peer counted them.
    pub(super) fn charge_flow(
        &mut self,
        now: Mono,
        head: &FrameHead,
        bytes: u64,
    ) -> Result<(), Violation> {
        if bytes == 0 || head.stream == 0 {
            return Ok(());
        }
        let class = match self.streams.standing(now, head.stream) {
            Standing::Known => {
                let Some(open) = self.streams.get_mut(head.stream) else {
                    return Ok(());
                };
                open.recv
                    .receive(bytes)
                    .map_err(|_| Violation::flow_control("more than the stream's credit"))?;
                open.kind.class
            }
            Standing::Closed { class } => class,
            Standing::Fresh | Standing::Unknown => return Ok(()),
        };
        if flow_class(head, class).uses_session_credit() {
            self.session_recv
                .receive(bytes)
                .map_err(|_| Violation::flow_control("more than the session's credit"))?;
            self.list_session_credit();
        }
        self.list_credit(head.stream);
        Ok(())
    }

    /// DATA or EVENT, already charged.
    pub(super) fn on_flow(
        &mut self,
        at: &Arrival,
        head: &FrameHead,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        if head.stream == 0 {
            return self.on_control_event(at, head, content);
        }
        match self.streams.standing(at.now, head.stream) {
            Standing::Known => {}
            Standing::Closed { .. } => return Ok(()),
            Standing::Fresh | Standing::Unknown => return self.on_unknown_stream(head.stream),
        }
        let Some(open) = self.streams.get_mut(head.stream) else {
            return Ok(());
        };
        match open.state {
            State::Open => {}
            State::Opening | State::Accepted if self.config.ordered => {
                return Err(Violation::stream_state(
                    "DATA or EVENT before the stream was open",
                ));
            }
            // Out of order; or the peer has not seen yet that we answered its closing operation.
            State::Opening | State::Accepted | State::Closing => return Ok(()),
        }
        if !self.in_sequence(head, content.len()) {
            return Ok(());
        }
        if let Body::Event { opcode } = head.body {
            self.on_event(at, head, opcode, content)
        } else {
            self.on_data(at, head, content)
        }
    }

    fn on_event(
        &mut self,
        at: &Arrival,
        head: &FrameHead,
        opcode: Opcode,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        if content.len() == 0 {
            return self.guards.idle_frame(at.now);
        }
        // An unknown event is ignored (profile F-14), and its bytes are consumed.
        if matches!(opcode, Opcode::Unknown(_)) {
            return Ok(());
        }
        self.hold(head, content.len());
        self.events.push_back(LinkEvent::Event {
            stream: StreamId(head.stream),
            opcode,
            payload: content.into_vec(),
            age_secs: at.age_secs,
        });
        Ok(())
    }

    fn on_data(
        &mut self,
        at: &Arrival,
        head: &FrameHead,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        let fin = matches!(head.body, Body::Data { fin: true });
        let Some(open) = self.streams.get_mut(head.stream) else {
            return Ok(());
        };
        if open.fin.received {
            return Err(Violation::stream_state("DATA after FIN"));
        }
        if content.len() == 0 && !fin {
            return self.guards.idle_frame(at.now);
        }
        open.fin.received = fin;
        let both = open.fin.both();
        self.hold(head, content.len());
        self.events.push_back(LinkEvent::Data {
            stream: StreamId(head.stream),
            payload: content.into_vec(),
            fin,
        });
        if both {
            self.close_stream(at.now, head.stream, Status::ServiceUnavailable, &[]);
        }
        Ok(())
    }

    /// Bytes wait for the application. Those of compressed payloads, and of events more urgent than
    /// their stream, count as consumed at once: they cannot be told apart when they are consumed.
    fn hold(&mut self, head: &FrameHead, bytes: usize) {
        let Some(open) = self.streams.get_mut(head.stream) else {
            return;
        };
        let class = open.kind.class;
        if head.compressed || flow_class(head, class) != class {
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        open.recv.buffer(bytes);
        if class.uses_session_credit() {
            self.session_recv.buffer(bytes);
        }
    }

    /// On an unordered path: false for a frame that comes late or twice. What was skipped is
    /// reported, and its bytes, whose number nobody knows, are guessed high: the sender counted
    /// them against its limit.
    fn in_sequence(&mut self, head: &FrameHead, bytes: usize) -> bool {
        let Some(open) = self.streams.get_mut(head.stream) else {
            return true;
        };
        let Some(sseq) = head.sseq.filter(|_| !self.config.ordered) else {
            return true;
        };
        if sseq < open.expected_sseq {
            return false;
        }
        let count = sseq - open.expected_sseq;
        open.expected_sseq = sseq.saturating_add(1);
        open.largest_seen = open
            .largest_seen
            .max(u64::try_from(bytes).unwrap_or(u64::MAX));
        if count > 0 {
            let lost = open.largest_seen.saturating_mul(count);
            open.recv.forgive(lost);
            if open.kind.class.uses_session_credit() {
                self.session_recv.forgive(lost);
            }
            self.events.push_back(LinkEvent::Missing {
                stream: StreamId(head.stream),
                count,
            });
            self.list_credit(head.stream);
            self.list_session_credit();
        }
        true
    }

    /// Stream 0 carries TICKET and `FAMILY_UPDATE`, nothing else (profile 10.2).
    fn on_control_event(
        &mut self,
        at: &Arrival,
        head: &FrameHead,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        let Body::Event { opcode } = head.body else {
            return Err(Violation::stream_state("DATA on stream 0"));
        };
        self.guards.control_event(at.now)?;
        let update = opcode == Opcode::FamilyUpdate && at.tier >= Tier::T4;
        let allowed = opcode == Opcode::Ticket || update;
        if allowed {
            self.events.push_back(LinkEvent::Event {
                stream: StreamId::CONTROL,
                opcode,
                payload: content.into_vec(),
                age_secs: at.age_secs,
            });
        }
        Ok(())
    }

    /// Answers a frame for a stream that was never opened.
    pub(super) fn on_unknown_stream(&mut self, stream: u32) -> Result<(), Violation> {
        self.guards.unknown_frame()?;
        self.scheduler.control.push_back(Control::Reset {
            stream,
            status: Status::NotFound,
            payload: error_payload(&error(sub::STREAM)),
        });
        Ok(())
    }

    pub(super) fn on_credit(
        &mut self,
        at: &Arrival,
        stream: u32,
        limit: u64,
    ) -> Result<(), Violation> {
        let raised = if stream == 0 {
            let raised = self.session_send.raise(limit);
            if raised {
                self.activate_all();
            }
            raised
        } else {
            match self.streams.standing(at.now, stream) {
                Standing::Known => {
                    let open = self.streams.get_mut(stream);
                    let raised = open.is_some_and(|open| open.send.raise(limit));
                    if raised {
                        self.activate_stream(stream);
                    }
                    raised
                }
                Standing::Closed { .. } => false,
                Standing::Fresh | Standing::Unknown => return self.on_unknown_stream(stream),
            }
        };
        if raised {
            Ok(())
        } else {
            self.guards.idle_frame(at.now)
        }
    }

    pub(super) fn on_reset(
        &mut self,
        at: &Arrival,
        stream: u32,
        status: Status,
        content: Content<'_>,
    ) -> Result<(), Violation> {
        if stream == 0 {
            return Err(Violation::stream_state("RESET of stream 0"));
        }
        match self.streams.standing(at.now, stream) {
            Standing::Known => {
                let payload = content.into_vec();
                self.close_stream(at.now, stream, status, &payload);
                self.events.push_back(LinkEvent::Reset {
                    stream: StreamId(stream),
                    status,
                    payload,
                });
                Ok(())
            }
            Standing::Closed { .. } => self.guards.idle_frame(at.now),
            // A RESET is never answered by one, or two ends could go on for ever.
            Standing::Fresh | Standing::Unknown => {
                self.guards.idle_frame(at.now)?;
                self.guards.unknown_frame()
            }
        }
    }
}

fn flow_class(head: &FrameHead, stream: Class) -> Class {
    if let Body::Event { opcode } = head.body {
        Class::of_event(opcode, stream)
    } else {
        stream
    }
}
