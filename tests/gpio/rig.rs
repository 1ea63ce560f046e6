//! A peer that talks to the server half.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::fake::FakeSession;
use myclerk::bus::gpio::fake::{FakeChip, FakeGpio};
use myclerk::bus::gpio::op::{
    Direction, EdgeEvent, GetLines, LineInfo, LineInfoRequest, LineRequest, LineRequested,
    LineValues, SetLines,
};
use myclerk::bus::{AskError, BusStream, Inbound, Opener, Outgoing};
use myclerk::wire::class::Class;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test as a daemon would: one thread.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test hangs")
    })
}

/// A machine with one chip of eight lines, and a session with it.
pub(crate) fn machine() -> (FakeChip, Rc<FakeSession>) {
    let chip = FakeChip::new("board", &["a", "b", "c", "d", "", "", "", "h"]);
    let session = FakeGpio::new(std::slice::from_ref(&chip)).session();
    (chip, session)
}

pub(crate) fn outputs(lines: &[u32], val: u64, safe: &[Option<bool>]) -> LineRequest {
    LineRequest {
        dev: "gpio:board".to_owned(),
        lines: lines.to_vec(),
        dir: Direction::Output,
        val,
        safe: safe.to_vec(),
        ..LineRequest::default()
    }
}

pub(crate) fn inputs(lines: &[u32]) -> LineRequest {
    LineRequest {
        dev: "gpio:board".to_owned(),
        lines: lines.to_vec(),
        ..LineRequest::default()
    }
}

/// Requested lines, as the peer has them.
pub(crate) struct Lines {
    pub(crate) stream: BusStream,
    pub(crate) count: usize,
    pub(crate) val: u64,
    events: VecDeque<EdgeEvent>,
}

impl Lines {
    pub(crate) async fn request(
        session: &FakeSession,
        request: &LineRequest,
    ) -> Result<Self, AskError> {
        let payload = request.encode().expect("a request");
        let opened = session
            .open(Opcode::GpioLineRequest, payload, PATIENCE)
            .await;
        let (answer, stream) = opened?;
        let count = request.lines.len();
        let answer = LineRequested::decode(&answer, count).expect("an answer");
        Ok(Self {
            stream,
            count,
            val: answer.val,
            events: VecDeque::new(),
        })
    }

    pub(crate) async fn ask(
        &mut self,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, (Status, String)> {
        let outgoing = Outgoing {
            opcode,
            class: Class::Interactive,
            payload,
            reply_len: 64,
            timeout_ms: 0,
            deadline_ms: 0,
        };
        let asked = self.stream.outlet.request(outgoing).expect("sent");
        loop {
            match self.stream.inbound.recv().await {
                Some(Inbound::Response {
                    corr,
                    status,
                    payload,
                    ..
                }) if corr == asked => {
                    if status.is_success() {
                        return Ok(payload);
                    }
                    let error =
                        myclerk::wire::error::ErrorMap::decode(&payload).expect("an error map");
                    return Err((
                        status,
                        format!("{}: {}", error.sub, error.msg.unwrap_or_default()),
                    ));
                }
                Some(Inbound::Event { payload, .. }) => self.take(&payload),
                other => panic!("{other:?} instead of an answer"),
            }
        }
    }

    pub(crate) async fn set(&mut self, mask: u64, bits: u64) -> Result<u64, (Status, String)> {
        let mut payload = Vec::new();
        SetLines { mask, bits }.encode(&mut payload);
        let answer = self.ask(Opcode::GpioLineSet, payload).await?;
        Ok(LineValues::decode(&answer, mask).expect("values").bits)
    }

    pub(crate) async fn get(&mut self, mask: u64) -> Result<u64, (Status, String)> {
        let mut payload = Vec::new();
        GetLines { mask }.encode(&mut payload);
        let answer = self.ask(Opcode::GpioLineGet, payload).await?;
        Ok(LineValues::decode(&answer, mask).expect("values").bits)
    }

    pub(crate) async fn event(&mut self) -> EdgeEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match self.stream.inbound.recv().await {
                Some(Inbound::Event { payload, .. }) => self.take(&payload),
                other => panic!("{other:?} instead of an event"),
            }
        }
    }

    /// Events that have come and nobody has asked for.
    pub(crate) fn unread(&self) -> usize {
        self.events.len()
    }

    /// Waits for the server to end the stream.
    pub(crate) async fn reset(&mut self) -> Status {
        loop {
            match self.stream.inbound.recv().await {
                Some(Inbound::Reset { status }) => return status,
                Some(Inbound::Event { .. }) => {}
                other => panic!("{other:?} instead of the end"),
            }
        }
    }

    fn take(&mut self, payload: &[u8]) {
        self.stream.outlet.consume(payload.len());
        self.events
            .push_back(EdgeEvent::decode(payload, self.count).expect("an event"));
    }
}

pub(crate) async fn info(session: &FakeSession, line: u32) -> LineInfo {
    let request = LineInfoRequest {
        dev: "gpio:board".to_owned(),
        line,
    };
    let payload = request.encode().expect("a request");
    let answer = session.call(Opcode::GpioLineInfo, payload, PATIENCE).await;
    LineInfo::decode(&answer.expect("an answer")).expect("an info")
}

/// Waits until the server half has done what nothing tells the peer of.
pub(crate) async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
