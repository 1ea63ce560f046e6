//! The life of one open port: bytes both ways, requests, changes of the modem lines.

mod reads;
mod requests;
mod watch;
mod writes;

use core::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use self::reads::{READ, Reads};
use self::watch::{Seen, Watch};
use self::writes::Writes;
use super::jobs::{Finished, Jobs};
use super::stop::Stop;
use super::{Dialect, Held, read_only};
use crate::bus::serial::hardware::{SerialPort, Snapshot};
use crate::bus::serial::op::{Flush, Mode, Settings, encode_empty};
use crate::bus::{End, Inbound, Outlet, Refused};
use crate::wire::status::Status;

/// How long a port that is closed may take to transmit what was written before. The kernel itself waits
/// up to 30 s in close(2).
const CLOSING: Duration = Duration::from_secs(10);

/// How a port was opened.
pub(super) struct Setup {
    pub(super) dialect: Dialect,
    pub(super) mode: Mode,
    /// As they really are.
    pub(super) settings: Settings,
    pub(super) first: Snapshot,
}

/// One open port.
pub(super) struct Stream {
    port: Box<dyn SerialPort>,
    dialect: Dialect,
    mode: Mode,
    settings: Settings,
    reads: Reads,
    writes: Writes,
    jobs: Jobs,
    watch: Watch,
    stop: Arc<Stop>,
    /// The request that closes the port, and until when it may transmit.
    closing: Option<(u32, Instant)>,
    /// It has transmitted everything.
    closed: bool,
    buffer: Box<[u8]>,
    /// Last, so that the port is released when everything else is gone.
    control: Held,
}

/// What the stream wakes up for.
enum Wake {
    Inbound(Option<Inbound>),
    Read(Result<usize, Errno>),
    Wrote(Result<usize, Errno>),
    Drained(Result<Result<(), Errno>, JoinError>),
    Job(Result<Finished, JoinError>),
    Seen(Seen),
    Deadline,
}

impl Stream {
    pub(super) fn new(port: Box<dyn SerialPort>, control: Held, setup: Setup) -> Self {
        let stop = Arc::new(Stop::default());
        Self {
            port,
            reads: Reads::new(&setup.settings, setup.mode),
            writes: Writes::new(Arc::clone(&control.0)),
            jobs: Jobs::new(Arc::clone(&control.0), Arc::clone(&stop)),
            watch: Watch::new(&control.0, &stop, setup.first),
            dialect: setup.dialect,
            mode: setup.mode,
            settings: setup.settings,
            stop,
            closing: None,
            closed: false,
            buffer: vec![0; READ].into_boxed_slice(),
            control,
        }
    }

    /// Serves the peer until one of the three is gone: the peer, the port, the wish to use it.
    pub(super) async fn run(
        mut self,
        outlet: Rc<dyn Outlet>,
        mut inbound: UnboundedReceiver<Inbound>,
    ) -> End {
        loop {
            let end = match self.wake(&*outlet, &mut inbound).await {
                Wake::Inbound(message) => self.on_inbound(&*outlet, message),
                Wake::Read(read) => self.on_read(&*outlet, read),
                Wake::Wrote(Ok(count)) => {
                    self.writes.took(&*outlet, count);
                    None
                }
                Wake::Drained(Ok(result)) => self.on_drained(&*outlet, result),
                Wake::Job(Ok(finished)) => self.on_finished(&*outlet, finished),
                Wake::Seen(seen) => self.on_seen(&*outlet, &seen),
                Wake::Deadline => {
                    self.reads.expire(&*outlet, Instant::now());
                    None
                }
                Wake::Wrote(Err(errno)) => Some(ended(errno, "writing")),
                Wake::Drained(Err(_)) | Wake::Job(Err(_)) => Some(End::Failed),
            };
            let Some(end) = end.or_else(|| self.proceed(&*outlet)) else {
                continue;
            };
            self.finish(&*outlet, &end).await;
            return end;
        }
    }

    async fn wake(
        &mut self,
        outlet: &dyn Outlet,
        inbound: &mut UnboundedReceiver<Inbound>,
    ) -> Wake {
        let closing = self.closing.map(|(_, until)| until);
        let wanted = match closing {
            Some(_) => 0,
            None => self.reads.wanted(outlet),
        };
        let deadline = self.reads.deadline().into_iter().chain(closing).min();
        let (port, buffer) = (&self.port, &mut self.buffer);
        // What is there is read before its time is over.
        let input = async {
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            tokio::select! {
                biased;
                read = poll_fn(|context| port.poll_read(context, room)), if wanted > 0 => {
                    Wake::Read(read)
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    Wake::Deadline
                }
                else => pending().await,
            }
        };
        let (front, draining) = self.writes.next();
        let output = async {
            match front {
                Some(data) => poll_fn(|context| port.poll_write(context, data)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            wake = input => wake,
            wrote = output => Wake::Wrote(wrote),
            message = inbound.recv() => Wake::Inbound(message),
            drained = draining.ended() => Wake::Drained(drained),
            finished = self.jobs.finished() => Wake::Job(finished),
            seen = self.watch.seen() => Wake::Seen(seen),
        }
    }

    fn on_inbound(&mut self, outlet: &dyn Outlet, message: Option<Inbound>) -> Option<End> {
        match message {
            Some(Inbound::Request {
                corr,
                opcode,
                payload,
                age_secs,
            }) => {
                let request = self.request(outlet, corr, (opcode, &payload), age_secs);
                if let Err(refused) = request {
                    outlet.respond(corr, refused.status, refused.payload());
                }
            }
            Some(Inbound::Cancel { corr }) => self.cancel(outlet, corr),
            Some(Inbound::Data { payload, .. }) if self.closing.is_some() => {
                outlet.consume(payload.len());
            }
            Some(Inbound::Data { payload, .. }) if self.mode.writes() => self.writes.push(payload),
            Some(Inbound::Data { payload, .. }) => {
                outlet.consume(payload.len());
                if !payload.is_empty() {
                    outlet.reset(read_only().status);
                    return Some(End::PeerLeft);
                }
            }
            Some(Inbound::Writable) => self.reads.unblock(),
            Some(Inbound::Dropped { count }) => self.watch.dropped(count),
            Some(Inbound::Reset { .. } | Inbound::Closed) | None => return Some(End::PeerLeft),
            Some(Inbound::Event { payload, .. }) => {
                outlet.consume(payload.len());
                debug!("the peer sent an event, which no serial stream carries");
            }
            // This half never asks the peer for anything.
            Some(Inbound::Response { .. }) => debug!("the peer answered what nobody asked"),
        }
        None
    }

    fn on_read(&mut self, outlet: &dyn Outlet, read: Result<usize, Errno>) -> Option<End> {
        match read {
            Ok(count) => {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                self.reads.received(outlet, bytes, Instant::now());
                None
            }
            Err(errno) => Some(ended(errno, "reading")),
        }
    }

    fn on_drained(&mut self, outlet: &dyn Outlet, result: Result<(), Errno>) -> Option<End> {
        match result {
            Err(Errno::ENODEV) => return Some(End::DeviceGone),
            result => self.closed |= self.writes.drained(outlet, result),
        }
        None
    }

    fn on_seen(&mut self, outlet: &dyn Outlet, seen: &Seen) -> Option<End> {
        match seen.result {
            Ok(snapshot) => {
                if self.dialect == Dialect::Serial {
                    self.watch.tell(outlet, seen.us, snapshot);
                }
                None
            }
            Err(Errno::ENODEV) => Some(End::DeviceGone),
            // The next look may succeed; what is asked for is answered with its own error.
            Err(_) => None,
        }
    }

    /// Does what can be done now: answers writes, begins the next job, closes the port.
    fn proceed(&mut self, outlet: &dyn Outlet) -> Option<End> {
        self.writes.settle(outlet);
        if let Some(change) = self.jobs.start(&self.settings)
            && change.flush.is_some_and(Flush::output)
        {
            self.writes.discard(outlet);
        }
        let (corr, until) = self.closing?;
        if !self.closed && Instant::now() < until {
            return None;
        }
        outlet.respond(corr, Status::Ok, encode_empty());
        Some(End::Detached)
    }

    /// Leaves nothing running and the port as it was.
    async fn finish(mut self, outlet: &dyn Outlet, end: &End) {
        let rest = match end {
            End::DeviceGone => Refused::gone(),
            End::Detached | End::PeerLeft | End::Failed | End::Refused(_) => Refused::cancelled(),
        };
        let unanswered = self.jobs.take_all().into_iter();
        let unanswered = unanswered.chain(self.writes.take_all(outlet));
        let closing = self.closing.filter(|_| *end != End::Detached);
        for corr in unanswered
            .chain(self.reads.take_all())
            .chain(closing.map(|(corr, _)| corr))
        {
            outlet.respond(corr, rest.status, rest.payload());
        }
        match end {
            End::DeviceGone => outlet.reset(Status::ServiceUnavailable),
            End::Failed => {
                warn!("a thread of a serial port failed");
                outlet.reset(Status::InternalError);
            }
            End::Detached | End::PeerLeft | End::Refused(_) => {}
        }
        self.stop.stop();
        let control = Arc::clone(&self.control.0);
        // A break waits for what was written, and so does a drain; both end when it is thrown away.
        let stopping = spawn_blocking(move || {
            control.stop_waiting();
            let _ = control.flush(Flush::Output);
        });
        let _ = stopping.await;
        self.jobs.settle().await;
        self.writes.end().await;
        let control = Arc::clone(&self.control.0);
        if spawn_blocking(move || control.release()).await.is_err() {
            warn!("the thread that gives a serial port back failed");
        }
    }
}

fn ended(errno: Errno, doing: &str) -> End {
    if errno == Errno::ENODEV {
        return End::DeviceGone;
    }
    warn!(%errno, doing, "a serial port failed");
    End::Failed
}
