//! One stream of an interface: frames from the bus to the session, frames from the session to the bus,
//! and the requests between them.

use core::future::poll_fn;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

use super::uses::Lease;
use super::{bad, encoded, failed, unknown, waiting};
use crate::bus::can::hardware::CanPort;
use crate::bus::can::op::{
    CanMode, Configure, FrameEvent, MAX_PULL, Open, Pull, decode_empty, decode_filters,
    decode_send, encode_empty, encode_pulled,
};
use crate::bus::can::waiting::{AGAIN, Waiting, takes};
use crate::bus::{Answer, End, Inbound, MAX_AGE_SECS, Outlet, Refused};
use crate::kernel::can::{Frame, Received};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How soon an interface whose queue was full is tried again; nobody tells when it is not.
const QUEUE_FULL: Duration = Duration::from_millis(1);
/// Most requests of the pull form at a time.
const MOST_PULLS: usize = 16;
/// Messages of the session that are looked at before the sockets are.
const IN_A_ROW: usize = 64;

/// A frame that waits for the interface.
struct Sending {
    frame: Frame,
    /// The request to be answered; `None` for an event.
    corr: Option<u32>,
    /// Bytes of credit that are free once it was sent.
    bytes: usize,
}

/// A request of the pull form that waits for frames.
struct Pulling {
    corr: u32,
    max: usize,
    until: Instant,
}

/// What became of a stream's frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Frames of the bus that the peer was not given.
    pub(super) unheard: u64,
    /// Frames of the peer that were not given to the bus.
    pub(super) unsent: u64,
}

/// What happened next.
enum Step {
    Inbound(Option<Inbound>),
    Heard(Result<(), Errno>),
    Sent(Result<(), Errno>),
    Timer,
}

pub(super) struct Stream {
    lease: Lease,
    port: Box<dyn CanPort>,
    outlet: Rc<dyn Outlet>,
    mode: CanMode,
    fd: bool,
    /// Frames of the bus that the session has not taken, and their times.
    heard: Waiting<Received>,
    sending: Waiting<Sending>,
    /// The interface's queue is full until then.
    full: Option<Instant>,
    /// Frames wait to be asked for.
    pulled: bool,
    pulls: VecDeque<Pulling>,
    /// Lost since the last event that said so.
    lost: u32,
    /// What the socket had lost when it was read last.
    overflow: u32,
    counts: Counts,
}

impl Stream {
    pub(super) fn new(
        lease: Lease,
        port: Box<dyn CanPort>,
        outlet: Rc<dyn Outlet>,
        open: &Open,
    ) -> Self {
        Self {
            lease,
            port,
            outlet,
            mode: open.mode,
            fd: open.fd,
            heard: Waiting::new(),
            sending: Waiting::new(),
            full: None,
            pulled: false,
            pulls: VecDeque::new(),
            lost: 0,
            overflow: 0,
            counts: Counts::default(),
        }
    }

    /// Serves the stream until it ends. Nothing is sent any more when this returns.
    pub(super) async fn run(mut self, inbound: UnboundedReceiver<Inbound>) -> (End, Counts, Lease) {
        let end = self.serve(inbound).await;
        match end {
            End::DeviceGone => self.outlet.reset(Status::ServiceUnavailable),
            End::Failed => self.outlet.reset(Status::InternalError),
            End::Refused(_) | End::Detached | End::PeerLeft => {}
        }
        self.counts.unsent += u64::try_from(self.sending.len()).unwrap_or(0);
        (end, self.counts, self.lease)
    }

    async fn serve(&mut self, mut inbound: UnboundedReceiver<Inbound>) -> End {
        let mut frames = Vec::new();
        loop {
            self.settle();
            let timer = self.timer();
            let sending = self.sending.front().filter(|_| self.full.is_none());
            let step = tokio::select! {
                message = inbound.recv() => Step::Inbound(message),
                heard = poll_fn(|context| self.port.poll_receive(context, &mut frames)) => {
                    Step::Heard(heard)
                }
                sent = poll_fn(|context| match sending {
                    Some(sending) => self.port.poll_send(context, &sending.frame),
                    None => core::task::Poll::Pending,
                }) => Step::Sent(sent),
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    Step::Timer
                }
            };
            let end = match step {
                Step::Inbound(message) => self.messages(message, &mut inbound).await,
                Step::Heard(result) => {
                    self.hear(&mut frames);
                    ended_by(result.err())
                }
                Step::Sent(result) => ended_by(self.sent(result)),
                Step::Timer => None,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Does what can be done at once: gives up what is too old, gives the session what it takes,
    /// answers who waited.
    fn settle(&mut self) {
        let now = Instant::now();
        self.full = self.full.filter(|until| *until > now);
        while self.heard.expired(now).is_some() {
            self.lose(1);
        }
        while let Some(sending) = self.sending.expired(now) {
            let text = "the bus did not take the frame in time";
            self.give_up(&sending, Refused::new(Status::Timeout, sub::TIMEOUT, text));
        }
        if self.pulled {
            self.answer_pulls(now);
        } else {
            self.hand_over();
        }
    }

    fn timer(&self) -> Option<Instant> {
        let now = Instant::now();
        let blocked = !self.pulled && !self.heard.is_empty();
        [
            self.full,
            blocked.then(|| now + AGAIN),
            self.sending.expiry(),
            self.pulls.iter().map(|pull| pull.until).min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // --- from the bus -------------------------------------------------------------------------

    fn hear(&mut self, frames: &mut Vec<Received>) {
        let now = Instant::now();
        for received in frames.drain(..) {
            let lost = received.overflow.wrapping_sub(self.overflow);
            self.overflow = received.overflow;
            self.lose(lost);
            // A classic reader of an FD bus does not hear FD frames, as on a classic socket.
            if received.frame.is_fd() && !self.fd {
                continue;
            }
            if self.heard.push(now, received).is_some() {
                self.lose(1);
            }
        }
    }

    fn lose(&mut self, frames: u32) {
        self.lost = self.lost.saturating_add(frames);
        self.counts.unheard += u64::from(frames);
    }

    fn event(&mut self, received: &Received) -> FrameEvent {
        FrameEvent {
            frame: received.frame,
            time_us: received.time_us,
            lost: core::mem::take(&mut self.lost),
        }
    }

    fn hand_over(&mut self) {
        while let Some(received) = self.heard.front().copied() {
            let lost = self.lost;
            let event = self.event(&received);
            if !takes(&*self.outlet, event.encoded_len()) {
                self.lost = lost;
                return;
            }
            self.heard.pop();
            self.outlet.event(Opcode::CanFrameReceive, event.encode());
        }
    }

    fn answer_pulls(&mut self, now: Instant) {
        while let Some(pull) = self.pulls.front() {
            if self.heard.is_empty() {
                let before = self.pulls.len();
                self.pulls.retain(|pull| {
                    let waits = pull.until > now;
                    if !waits {
                        let none = encode_pulled(&[]);
                        self.outlet.respond(pull.corr, Status::Ok, none);
                    }
                    waits
                });
                if self.pulls.len() == before {
                    return;
                }
                continue;
            }
            let (corr, max) = (pull.corr, pull.max);
            self.pulls.pop_front();
            let mut events = Vec::new();
            while events.len() < max
                && let Some(received) = self.heard.pop()
            {
                events.push(self.event(&received));
            }
            self.outlet
                .respond(corr, Status::Ok, encode_pulled(&events));
        }
    }

    // --- to the bus ---------------------------------------------------------------------------

    /// What a try to send the first frame came to; the errno with which the interface is gone.
    fn sent(&mut self, result: Result<(), Errno>) -> Option<Errno> {
        match result {
            Ok(()) => {
                if let Some(sending) = self.sending.pop() {
                    self.outlet.consume(sending.bytes);
                    if let Some(corr) = sending.corr {
                        self.answer(corr, Ok(empty()));
                    }
                }
                None
            }
            Err(Errno::ENOBUFS) => {
                self.full = Some(Instant::now() + QUEUE_FULL);
                None
            }
            Err(errno) => {
                if let Some(sending) = self.sending.pop() {
                    self.give_up(&sending, Refused::io("the frame was not sent", errno));
                }
                is_gone(errno).then_some(errno)
            }
        }
    }

    fn give_up(&mut self, sending: &Sending, refused: Refused) {
        self.outlet.consume(sending.bytes);
        self.counts.unsent += 1;
        if let Some(corr) = sending.corr {
            self.answer(corr, Err(refused));
        }
    }

    /// Takes a frame of the peer's.
    fn take(&mut self, payload: &[u8], corr: Option<u32>, age_secs: u32) {
        let bytes = if corr.is_none() { payload.len() } else { 0 };
        let frame = if !self.mode.writes() {
            Err(Refused::new(
                Status::Forbidden,
                sub::ACL,
                "the interface was not opened for sending",
            ))
        } else if age_secs > MAX_AGE_SECS {
            let text = format!("the frame is {age_secs} seconds old");
            Err(Refused::new(Status::Forbidden, sub::TOO_OLD, text))
        } else {
            decode_send(payload).map_err(|error| bad(&error))
        };
        match frame {
            Ok(frame) => {
                let sending = Sending { frame, corr, bytes };
                if let Some(oldest) = self.sending.push(Instant::now(), sending) {
                    let text = "too many frames wait for the bus";
                    self.give_up(
                        &oldest,
                        Refused::new(Status::ServiceUnavailable, sub::BUSY, text),
                    );
                }
            }
            Err(refused) => {
                self.outlet.consume(bytes);
                self.counts.unsent += 1;
                if let Some(corr) = corr {
                    self.answer(corr, Err(refused));
                }
            }
        }
    }

    // --- from the session ---------------------------------------------------------------------

    /// Takes a message and those that are behind it.
    async fn messages(
        &mut self,
        first: Option<Inbound>,
        inbound: &mut UnboundedReceiver<Inbound>,
    ) -> Option<End> {
        let end = self.message(first.unwrap_or(Inbound::Closed)).await;
        if end.is_some() {
            return end;
        }
        for _ in 1..IN_A_ROW {
            let Ok(message) = inbound.try_recv() else {
                break;
            };
            let end = self.message(message).await;
            if end.is_some() {
                return end;
            }
        }
        None
    }

    async fn message(&mut self, message: Inbound) -> Option<End> {
        match message {
            Inbound::Request {
                corr,
                opcode,
                payload,
                age_secs,
            } => return self.request(corr, opcode, &payload, age_secs).await,
            Inbound::Event {
                opcode,
                payload,
                age_secs,
            } => {
                if opcode == Opcode::CanFrameSend {
                    self.take(&payload, None, age_secs);
                } else {
                    self.outlet.consume(payload.len());
                }
            }
            Inbound::Cancel { corr } => self.cancel(corr),
            Inbound::Dropped { count } => self.lose(count),
            Inbound::Data { payload, .. } => self.outlet.consume(payload.len()),
            Inbound::Response { .. } | Inbound::Writable => {}
            Inbound::Reset { .. } => return Some(End::Detached),
            Inbound::Closed => return Some(End::PeerLeft),
        }
        None
    }

    async fn request(
        &mut self,
        corr: u32,
        opcode: Opcode,
        payload: &[u8],
        age_secs: u32,
    ) -> Option<End> {
        let answer = match opcode {
            Opcode::CanInterfaceClose => {
                let closed = decode_empty(payload).map_err(|error| bad(&error));
                let end = closed.is_ok().then_some(End::Detached);
                self.answer(corr, closed.map(|()| empty()));
                return end;
            }
            Opcode::CanFrameSend => {
                self.take(payload, Some(corr), age_secs);
                return None;
            }
            Opcode::CanFrameReceive => match self.pull(corr, payload) {
                Ok(()) => return None,
                Err(refused) => Err(refused),
            },
            Opcode::CanFilterSet => self.set_filters(payload),
            Opcode::CanConfigure => self.configure(payload, age_secs).await,
            Opcode::CanErrorStatus => self.errors(payload).await,
            other => Err(unknown(other)),
        };
        self.answer(corr, answer);
        None
    }

    fn answer(&self, corr: u32, answer: Answer) {
        match answer {
            Ok(payload) => self.outlet.respond(corr, Status::Ok, payload),
            Err(refused) => self.outlet.respond(corr, refused.status, refused.payload()),
        }
    }

    fn pull(&mut self, corr: u32, payload: &[u8]) -> Result<(), Refused> {
        let pull = Pull::decode(payload).map_err(|error| bad(&error))?;
        if !self.mode.reads() {
            let text = "the interface was not opened for hearing";
            return Err(Refused::new(Status::Forbidden, sub::ACL, text));
        }
        if self.pulls.len() >= MOST_PULLS {
            let text = "too many requests wait for frames";
            return Err(Refused::new(Status::BadRequest, sub::LIMIT, text));
        }
        self.pulled = true;
        self.pulls.push_back(Pulling {
            corr,
            max: usize::try_from(pull.max.min(MAX_PULL)).unwrap_or(1),
            until: Instant::now() + Duration::from_millis(u64::from(pull.timeout_ms)),
        });
        Ok(())
    }

    fn cancel(&mut self, corr: u32) {
        let is_it = |pull: &Pulling| pull.corr == corr;
        if let Some(position) = self.pulls.iter().position(is_it) {
            self.pulls.remove(position);
            self.answer(corr, Err(Refused::cancelled()));
        } else if let Some(sending) = self.sending.take(|sending| sending.corr == Some(corr)) {
            self.give_up(&sending, Refused::cancelled());
        }
    }

    fn set_filters(&self, payload: &[u8]) -> Answer {
        let filters = decode_filters(payload).map_err(|error| bad(&error))?;
        if self.mode.reads() {
            self.port
                .set_filters(&filters)
                .map_err(|error| failed("cannot set the filters", &error))?;
        }
        Ok(empty())
    }

    async fn configure(&mut self, payload: &[u8], age_secs: u32) -> Answer {
        let wanted = Configure::decode(payload).map_err(|error| bad(&error))?;
        if !self.mode.writes() {
            let text = "the interface was not opened for sending";
            return Err(Refused::new(Status::Forbidden, sub::ACL, text));
        }
        if age_secs > MAX_AGE_SECS {
            let text = format!("the request is {age_secs} seconds old");
            return Err(Refused::new(Status::Forbidden, sub::TOO_OLD, text));
        }
        let lease = self.lease.share();
        let actual = waiting(move || lease.configure(&wanted)).await??;
        encoded(actual.encode())
    }

    async fn errors(&self, payload: &[u8]) -> Answer {
        decode_empty(payload).map_err(|error| bad(&error))?;
        let lease = self.lease.share();
        let status = waiting(move || lease.errors()).await??;
        encoded(status.encode())
    }
}

fn empty() -> Vec<u8> {
    let mut out = Vec::new();
    encode_empty(&mut out);
    out
}

/// An interface that is down comes back; one that is gone does not.
const fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENODEV | Errno::ENXIO)
}

fn ended_by(errno: Option<Errno>) -> Option<End> {
    match errno? {
        Errno::ENETDOWN => None,
        errno if is_gone(errno) => Some(End::DeviceGone),
        _ => Some(End::Failed),
    }
}
