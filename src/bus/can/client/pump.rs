//! The task of a local interface: frames of local programs to the owner, frames of the owner to local
//! programs.

use core::future::poll_fn;
use core::task::Poll;
use std::collections::BTreeMap;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::operations::Ask;
use super::outage::Outage;
use super::remote::Way;
use crate::bus::can::hardware::CanPort;
use crate::bus::can::op::{FrameEvent, encode_empty, encode_send};
use crate::bus::can::waiting::{AGAIN, Waiting, takes};
use crate::bus::outage::{Returning, returned};
use crate::bus::{AskError, BusStream, Ended, Inbound, Outgoing};
use crate::kernel::can::{Frame, Received};
use crate::wire::class::Class;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// How long the owner may take to answer the end of the stream.
const CLOSING: Duration = Duration::from_secs(5);
/// How long it may take for another operation, in milliseconds.
const PATIENCE_MS: u32 = 30_000;
/// How soon a full interface is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(1);
/// Messages of the session that are looked at before the sockets are.
const IN_A_ROW: usize = 64;
/// Room for the longest encoded frame.
const LONGEST: usize = 88;

/// What became of an interface's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Frames of local programs that the owner was not given.
    pub(super) unsent: u64,
    /// Frames of the remote bus that local programs were not given, by the owner's count and ours.
    pub(super) unheard: u64,
}

/// Who waits for an answer, and what to keep if it is a good one.
struct Asked {
    answer: oneshot::Sender<Result<Vec<u8>, AskError>>,
    setting: Option<Setting>,
}

/// What was set at the owner's interface, for as long as its stream lasts.
#[derive(Clone)]
struct Setting {
    opcode: Opcode,
    payload: Vec<u8>,
}

enum Step {
    Inbound(Option<Inbound>),
    Asked(Option<Ask>),
    Local(Result<(), Errno>),
    Written(Result<(), Errno>),
    Returned(Result<Way, Ended>),
    Timer,
}

pub(super) struct Pump {
    port: Box<dyn CanPort>,
    stream: BusStream,
    outage: Outage,
    /// While there is no session.
    returning: Option<Returning<Way>>,
    asks: mpsc::UnboundedReceiver<Ask>,
    /// Somebody has its handle.
    steered: bool,
    answers: BTreeMap<u32, Asked>,
    settings: Vec<Setting>,
    /// What sets the owner's interface again.
    restoring: BTreeMap<u32, Opcode>,
    /// The owner lets us send.
    writes: bool,
    /// Frames of local programs.
    sending: Waiting<Frame>,
    /// Frames of the owner, and the credit that each gives back.
    heard: Waiting<(Frame, usize)>,
    full: Option<Instant>,
    overflow: u32,
    counts: Counts,
}

impl Pump {
    pub(super) fn new(
        port: Box<dyn CanPort>,
        way: Way,
        asks: mpsc::UnboundedReceiver<Ask>,
        outage: Outage,
    ) -> Self {
        Self {
            port,
            stream: way.stream,
            outage,
            returning: None,
            asks,
            steered: true,
            answers: BTreeMap::new(),
            settings: Vec::new(),
            restoring: BTreeMap::new(),
            writes: way.writes,
            sending: Waiting::new(),
            heard: Waiting::new(),
            full: None,
            overflow: 0,
            counts: Counts::default(),
        }
    }

    /// Carries frames until one side ends it. The socket is closed when this returns.
    pub(super) async fn run(mut self) -> (Ended, Counts) {
        let ended = self.carry().await;
        match ended {
            Ended::Detached => self.close().await,
            Ended::Failed(_) => self.stream.outlet.reset(Status::InternalError),
            Ended::Owner(_) | Ended::Session => {}
        }
        self.counts.unsent += u64::try_from(self.sending.len()).unwrap_or(0);
        (ended, self.counts)
    }

    async fn carry(&mut self) -> Ended {
        let mut frames = Vec::new();
        loop {
            self.settle();
            let timer = self.timer();
            let first = self.heard.front().filter(|_| self.full.is_none());
            let step = tokio::select! {
                message = self.stream.inbound.recv(), if self.returning.is_none() => {
                    Step::Inbound(message)
                }
                returned = returned(&mut self.returning) => Step::Returned(returned),
                ask = self.asks.recv(), if self.steered => Step::Asked(ask),
                local = poll_fn(|context| self.port.poll_receive(context, &mut frames)) => {
                    Step::Local(local)
                }
                written = poll_fn(|context| match first {
                    Some((frame, _)) => self.port.poll_send(context, frame),
                    None => Poll::Pending,
                }) => Step::Written(written),
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    Step::Timer
                }
            };
            let ended = match step {
                Step::Inbound(message) => self.messages(message),
                Step::Asked(ask) => self.asked(ask),
                Step::Local(result) => {
                    self.read(&mut frames);
                    result.err().and_then(ended_by)
                }
                Step::Written(result) => self.written(result),
                Step::Returned(Ok(way)) => {
                    self.go_on(way);
                    None
                }
                Step::Returned(Err(ended)) => Some(ended),
                Step::Timer => None,
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    fn settle(&mut self) {
        let now = Instant::now();
        self.full = self.full.filter(|until| *until > now);
        while self.sending.expired(now).is_some() {
            self.counts.unsent += 1;
        }
        while let Some((_, bytes)) = self.heard.expired(now) {
            self.counts.unheard += 1;
            self.stream.outlet.consume(bytes);
        }
        while self.sending.front().is_some() && takes(&*self.stream.outlet, LONGEST) {
            if let Some(frame) = self.sending.pop() {
                let payload = encode_send(&frame);
                self.stream.outlet.event(Opcode::CanFrameSend, payload);
            }
        }
    }

    fn timer(&self) -> Option<Instant> {
        let blocked = !self.sending.is_empty();
        let again = match self.returning {
            Some(_) => self.sending.expiry(),
            None => blocked.then(|| Instant::now() + AGAIN),
        };
        [again, self.full, self.heard.expiry()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes what local programs sent.
    fn read(&mut self, frames: &mut Vec<Received>) {
        let now = Instant::now();
        for received in frames.drain(..) {
            let lost = received.overflow.wrapping_sub(self.overflow);
            self.overflow = received.overflow;
            self.counts.unsent += u64::from(lost);
            let refused = !self.writes || received.frame.is_error();
            if refused || self.sending.push(now, received.frame).is_some() {
                self.counts.unsent += 1;
            }
        }
    }

    /// What a try to give a frame to local programs came to.
    fn written(&mut self, result: Result<(), Errno>) -> Option<Ended> {
        if result == Err(Errno::ENOBUFS) {
            self.full = Some(Instant::now() + QUEUE_FULL);
            return None;
        }
        if let Some((_, bytes)) = self.heard.pop() {
            self.stream.outlet.consume(bytes);
        }
        let errno = result.err()?;
        self.counts.unheard += 1;
        match errno {
            Errno::ENODEV | Errno::ENXIO => ended_by(errno),
            // The interface is down, or somebody made it too small for FD.
            _ => None,
        }
    }

    /// Takes a message and those that are behind it.
    fn messages(&mut self, first: Option<Inbound>) -> Option<Ended> {
        let mut next = Some(first.unwrap_or(Inbound::Closed));
        for _ in 0..IN_A_ROW {
            let Some(message) = next else {
                break;
            };
            let ended = self.message(message);
            if ended.is_some() {
                return ended;
            }
            next = self.stream.inbound.try_recv().ok();
        }
        match next {
            Some(message) => self.message(message),
            None => None,
        }
    }

    fn message(&mut self, message: Inbound) -> Option<Ended> {
        let outlet = &self.stream.outlet;
        match message {
            Inbound::Event {
                opcode, payload, ..
            } => {
                let event = FrameEvent::decode(&payload);
                match event {
                    Ok(event) if opcode == Opcode::CanFrameReceive => {
                        self.counts.unheard += u64::from(event.lost);
                        let heard = (event.frame, payload.len());
                        if let Some((_, bytes)) = self.heard.push(Instant::now(), heard) {
                            outlet.consume(bytes);
                            self.counts.unheard += 1;
                        }
                    }
                    Ok(_) | Err(_) => outlet.consume(payload.len()),
                }
            }
            Inbound::Response {
                corr,
                status,
                payload,
                ..
            } => {
                // The owner says no where somebody else decides about its interface now.
                if let Some(opcode) = self
                    .restoring
                    .remove(&corr)
                    .filter(|_| !status.is_success())
                {
                    tracing::warn!(%opcode, %status, "the owner's interface is not set as it was");
                }
                if let Some(Asked { answer, setting }) = self.answers.remove(&corr) {
                    self.keep(setting.filter(|_| status.is_success()));
                    // Whoever asked may have left.
                    let _ = answer.send(answered(status, payload));
                }
            }
            Inbound::Dropped { count } => self.counts.unsent += u64::from(count),
            Inbound::Data { payload, .. } => outlet.consume(payload.len()),
            Inbound::Request { corr, .. } => outlet.respond(corr, Status::BadRequest, Vec::new()),
            Inbound::Cancel { .. } | Inbound::Writable => {}
            Inbound::Reset { status } => return Some(Ended::Owner(status)),
            Inbound::Closed => return self.lost(),
        }
        None
    }

    /// The session was lost.
    fn lost(&mut self) -> Option<Ended> {
        match self.outage.begin() {
            Ok(returning) => self.returning = Some(returning),
            Err(ended) => return Some(ended),
        }
        self.restoring.clear();
        // Another stream's credit.
        self.heard.iter_mut().for_each(|(_, bytes)| *bytes = 0);
        for (_, Asked { answer, .. }) in core::mem::take(&mut self.answers) {
            // Whoever asked may have left.
            let _ = answer.send(Err(AskError::Ended("the session was lost".to_owned())));
        }
        None
    }

    /// There is a session again.
    fn go_on(&mut self, way: Way) {
        self.returning = None;
        (self.stream, self.writes) = (way.stream, way.writes);
        self.outage.end();
        for Setting { opcode, payload } in self.settings.clone() {
            match self.stream.outlet.request(outgoing(opcode, payload)) {
                Ok(corr) => {
                    self.restoring.insert(corr, opcode);
                }
                Err(error) => {
                    tracing::warn!(%opcode, %error, "the owner's interface is not set as it was");
                }
            }
        }
    }

    /// Notes what the owner has set.
    fn keep(&mut self, setting: Option<Setting>) {
        if let Some(setting) = setting {
            self.settings.retain(|old| old.opcode != setting.opcode);
            self.settings.push(setting);
        }
    }

    fn asked(&mut self, ask: Option<Ask>) -> Option<Ended> {
        let (opcode, payload, answer) = match ask {
            Some(Ask::Request {
                opcode,
                payload,
                answer,
            }) => (opcode, payload, answer),
            Some(Ask::Detach) => return Some(Ended::Detached),
            None => {
                self.steered = false;
                return None;
            }
        };
        let sets = matches!(opcode, Opcode::CanConfigure | Opcode::CanFilterSet);
        let setting = sets.then(|| Setting {
            opcode,
            payload: payload.clone(),
        });
        match self.stream.outlet.request(outgoing(opcode, payload)) {
            Ok(corr) => {
                self.answers.insert(corr, Asked { answer, setting });
            }
            Err(error) => {
                // Whoever asked may have left.
                let _ = answer.send(Err(AskError::NotSent(error.to_string())));
            }
        }
        None
    }

    /// Gives the interface back and waits until the owner has it.
    async fn close(&mut self) {
        let mut payload = Vec::new();
        encode_empty(&mut payload);
        let outlet = &self.stream.outlet;
        let Ok(closing) = outlet.request(outgoing(Opcode::CanInterfaceClose, payload)) else {
            outlet.reset(Status::Ok);
            return;
        };
        let limit = Instant::now() + CLOSING;
        while let Ok(message) = timeout_at(limit, self.stream.inbound.recv()).await {
            match message {
                Some(Inbound::Response { corr, .. }) if corr == closing => return,
                None | Some(Inbound::Closed | Inbound::Reset { .. }) => return,
                Some(_) => {}
            }
        }
        outlet.reset(Status::Timeout);
    }
}

fn outgoing(opcode: Opcode, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        opcode,
        class: Class::Interrupt,
        payload,
        reply_len: 1024,
        timeout_ms: PATIENCE_MS,
        deadline_ms: 0,
    }
}

fn answered(status: Status, payload: Vec<u8>) -> Result<Vec<u8>, AskError> {
    if status.is_success() {
        return Ok(payload);
    }
    Err(AskError::Refused {
        status,
        error: ErrorMap::decode(&payload).unwrap_or_default(),
    })
}

/// An interface that is down can come up again; one that somebody removed cannot.
fn ended_by(errno: Errno) -> Option<Ended> {
    match errno {
        Errno::ENETDOWN => None,
        Errno::ENODEV | Errno::ENXIO => Some(Ended::Failed(
            "somebody removed the local interface".to_owned(),
        )),
        errno => Some(Ended::Failed(format!(
            "the local interface failed: {}",
            errno.desc()
        ))),
    }
}
