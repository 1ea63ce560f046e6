//! A peer with an open port, in one thread.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use myclerk::bus::fake::{OPENING, pair};
use myclerk::bus::serial::fake::Fake;
use myclerk::bus::serial::hardware::SerialHost;
use myclerk::bus::serial::op::{LineEvent, Mode, OpenRequest, Settings};
use myclerk::bus::serial::server::serve;
use myclerk::bus::{BusStream, End, Grant, Inbound, Outgoing, Present};
use myclerk::wire::class::Class;
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// Longer than any test takes.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Runs a test that must end.
pub(crate) fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(TOO_LONG, test())
            .await
            .expect("the test takes too long");
    });
}

pub(crate) fn open_request(mode: Mode, settings: Settings) -> OpenRequest {
    OpenRequest {
        dev: "serial:fake".to_owned(),
        mode,
        settings,
    }
}

fn present(place: &str) -> Present {
    Present {
        id: "serial:fake".to_owned(),
        name: "a port".to_owned(),
        place: place.to_owned(),
        hazard: None,
        props: BTreeMap::new(),
    }
}

/// An answer.
pub(crate) type Answered = Result<Vec<u8>, (Status, ErrorMap)>;

/// The peer's end of a stream, and the task that serves it.
pub(crate) struct Peer {
    pub(crate) stream: BusStream,
    /// Puts something into the server's queue.
    pub(crate) inject: UnboundedSender<Inbound>,
    pub(crate) serving: JoinHandle<End>,
    /// What arrived while something else was waited for.
    early: VecDeque<Inbound>,
    /// DATA is not consumed as it arrives.
    pub(crate) hoards: bool,
}

impl Peer {
    /// Asks for a port; the answer was not looked at.
    pub(crate) fn asks(
        host: impl SerialHost + 'static,
        place: &str,
        (opcode, payload): (Opcode, Vec<u8>),
        write: bool,
    ) -> Self {
        let (mine, mut theirs) = pair();
        let (inject, inbound) = unbounded_channel();
        let forward = inject.clone();
        spawn_local(async move {
            while let Some(message) = theirs.inbound.recv().await {
                if forward.send(message).is_err() {
                    return;
                }
            }
        });
        let grant = Grant {
            corr: OPENING,
            opcode,
            payload,
            present: present(place),
            write,
            quiet: true,
        };
        let stream = BusStream {
            outlet: theirs.outlet,
            inbound,
        };
        let serving = spawn_local(async move { serve(&host, grant, stream).await });
        Self {
            stream: mine,
            inject,
            serving,
            early: VecDeque::new(),
            hoards: false,
        }
    }

    /// Has the fake port open with these settings.
    pub(crate) async fn with(fake: &Fake, mode: Mode, settings: Settings) -> Self {
        let payload = open_request(mode, settings).encode().unwrap();
        let opening = (Opcode::SerialPortOpen, payload);
        let mut peer = Self::asks(fake.clone(), "fake", opening, true);
        peer.answer(OPENING).await.expect("the port opens");
        peer
    }

    /// Has the fake port open for everything.
    pub(crate) async fn new(fake: &Fake) -> Self {
        Self::with(fake, Mode::ReadWrite, Settings::default()).await
    }

    pub(crate) fn send(&self, opcode: Opcode, payload: Vec<u8>) -> u32 {
        self.stream
            .outlet
            .request(Outgoing {
                opcode,
                class: Class::Interactive,
                payload,
                reply_len: 65536,
                timeout_ms: 0,
                deadline_ms: 0,
            })
            .unwrap()
    }

    /// Waits for what `wanted` picks; everything else is kept for later.
    async fn pick<T>(&mut self, wanted: impl Fn(&Inbound) -> Option<T>) -> T {
        if let Some(at) = self.early.iter().position(|early| wanted(early).is_some()) {
            let found = self.early.remove(at).unwrap();
            return wanted(&found).unwrap();
        }
        loop {
            let message = self
                .stream
                .inbound
                .recv()
                .await
                .expect("the stream goes on");
            if let Inbound::Data { payload, .. } = &message
                && !self.hoards
            {
                self.stream.outlet.consume(payload.len());
            }
            if let Inbound::Event { payload, .. } = &message {
                self.stream.outlet.consume(payload.len());
            }
            if let Some(found) = wanted(&message) {
                return found;
            }
            self.early.push_back(message);
        }
    }

    pub(crate) async fn answer(&mut self, to: u32) -> Answered {
        self.pick(|message| match message {
            Inbound::Response {
                corr,
                status,
                payload,
                more: false,
            } if *corr == to => Some(if status.is_success() {
                Ok(payload.clone())
            } else {
                Err((*status, ErrorMap::decode(payload).unwrap()))
            }),
            _ => None,
        })
        .await
    }

    pub(crate) async fn ask(&mut self, opcode: Opcode, payload: Vec<u8>) -> Answered {
        let corr = self.send(opcode, payload);
        self.answer(corr).await
    }

    /// The status and the sub-code with which a request is refused.
    pub(crate) async fn refusal(&mut self, opcode: Opcode, payload: Vec<u8>) -> (Status, String) {
        let (status, error) = self.ask(opcode, payload).await.expect_err("is refused");
        (status, error.sub.into_owned())
    }

    /// The next DATA frame.
    pub(crate) async fn data(&mut self) -> Vec<u8> {
        self.pick(|message| match message {
            Inbound::Data { payload, .. } => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// So many bytes of DATA.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.extend(self.data().await);
        }
        bytes
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> LineEvent {
        let payload = self
            .pick(|message| match message {
                Inbound::Event {
                    opcode: Opcode::SerialControlGet,
                    payload,
                    ..
                } => Some(payload.clone()),
                _ => None,
            })
            .await;
        LineEvent::decode(&payload).expect("an event")
    }

    pub(crate) async fn reset(&mut self) -> Status {
        self.pick(|message| match message {
            Inbound::Reset { status } => Some(*status),
            _ => None,
        })
        .await
    }

    /// Sends DATA as far as the port's owner takes it; returns how much.
    pub(crate) fn write_all_that_goes(&self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        for chunk in bytes.chunks(1024) {
            if !self.stream.outlet.writable(chunk.len()) {
                break;
            }
            self.stream.outlet.data(chunk.to_vec(), false);
            sent += chunk.len();
        }
        sent
    }

    /// Sends all of it, waiting for room.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() {
            sent += self.write_all_that_goes(&bytes[sent..]);
            if sent < bytes.len() {
                self.pick(|message| (*message == Inbound::Writable).then_some(()))
                    .await;
            }
        }
    }

    /// The session is lost.
    pub(crate) async fn cut(self) -> End {
        self.inject.send(Inbound::Closed).unwrap();
        self.serving.await.unwrap()
    }

    pub(crate) async fn close(&mut self) -> Answered {
        self.ask(Opcode::SerialPortClose, Vec::new()).await
    }
}

/// Lets everything else run until that is so.
pub(crate) async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes that tell where they stand.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap())
        .collect()
}
