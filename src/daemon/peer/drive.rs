//! The tasks that move a peer's messages: reader, writer, timers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::{Answer, Incoming, Peer, Service, Shared};
use crate::bus::{Caller, Inbound};
use crate::daemon::system::SystemEntropy;
use crate::kernel::clock;
use crate::link::connection::{Connection, End};
use crate::link::{Corr, LinkEvent, StreamId};
use crate::session::record_buf::RecordBuf;
use crate::transport::{Framed, MessageReader, MessageWriter, Path, TransportError};
use crate::wire::status::Status;
use crate::wire::time::Mono;

/// How long a closing session waits for the other side before the path is cut (profile 14.3).
const LINGER: Duration = Duration::from_millis(1500);

/// Starts the tasks of an established session and returns its handle. Must be called inside a
/// `LocalSet`.
pub fn start(connection: Connection, path: Path, service: Rc<dyn Service>) -> Peer {
    let Path {
        reader,
        writer,
        control,
    } = path;
    control.set_limit(connection.max_message());
    let (ended, _) = watch::channel(None);
    let peer = Peer(Rc::new(Shared {
        identity: connection.peer().clone(),
        connection: RefCell::new(connection),
        service,
        path: control,
        streams: RefCell::new(HashMap::new()),
        calls: RefCell::new(HashMap::new()),
        news: RefCell::new(HashMap::new()),
        work: Notify::new(),
        rearm: Notify::new(),
        read_over: Notify::new(),
        write_over: Notify::new(),
        ended,
        hung_up: Cell::new(false),
        probed: Cell::new(false),
        caller: Caller::default(),
        asked: RefCell::new(HashMap::new()),
        bytes_in: Cell::new(0),
        bytes_out: Cell::new(0),
    }));
    tokio::task::spawn_local(read(peer.clone(), reader));
    tokio::task::spawn_local(write(peer.clone(), writer));
    tokio::task::spawn_local(keep_time(peer.clone()));
    peer
}

async fn read(peer: Peer, mut reader: Box<dyn MessageReader>) {
    let end = loop {
        match reader.recv().await {
            Ok(Some(mut message)) => {
                let shared = &peer.0;
                let length = u64::try_from(message.len()).unwrap_or(u64::MAX);
                shared
                    .bytes_in
                    .set(shared.bytes_in.get().saturating_add(length));
                shared.connection.borrow_mut().receive(
                    clock::mono(),
                    &mut SystemEntropy,
                    &mut message,
                );
                peer.dispatch();
                // A session that ends has a new deadline, which the writer may be too busy to tell.
                shared.wake_all();
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    peer.path_ended(end.as_ref(), end.as_ref().is_none_or(is_hang_up));
    peer.0.read_over.notify_one();
}

/// Whether it was the other machine that ended the path, and not silence.
fn is_hang_up(error: &TransportError) -> bool {
    match error {
        TransportError::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ),
        TransportError::Truncated => true,
        TransportError::Oversize { .. }
        | TransportError::Empty
        | TransportError::Closed
        | TransportError::Resolve { .. }
        | TransportError::Unreachable { .. } => false,
    }
}

async fn write(peer: Peer, mut writer: Box<dyn MessageWriter>) {
    let mut spare = Vec::new();
    let mut unsent_limit = None;
    loop {
        let mut buf = RecordBuf::reuse(std::mem::take(&mut spare));
        let now = clock::mono();
        let (more, wanted_limit) = {
            let mut connection = peer.0.connection.borrow_mut();
            let more = connection.poll_transmit(now, &mut SystemEntropy, &mut buf);
            (
                more,
                u32::try_from(connection.link().unsent_limit()).unwrap_or(u32::MAX),
            )
        };
        if unsent_limit != Some(wanted_limit) {
            unsent_limit = Some(wanted_limit);
            // A path that cannot bound its queue only loses latency.
            let _ = peer.0.path.set_unsent_limit(wanted_limit);
        }
        // Requests that came too late were answered instead of sent.
        peer.dispatch();
        if !more {
            (spare, _) = buf.into_framed();
            if peer.is_over() {
                break;
            }
            peer.0.rearm.notify_one();
            peer.0.work.notified().await;
            continue;
        }
        match peer.send(&mut *writer, buf).await {
            Ok(bytes) => spare = bytes,
            Err(error) => {
                peer.path_ended(Some(&error), is_hang_up(&error));
                break;
            }
        }
    }
    // The other side may be gone already.
    let _ = writer.close().await;
    // What it sent and nobody read would make the kernel reset the connection under our last words.
    let _ = tokio::time::timeout(LINGER, peer.0.read_over.notified()).await;
    peer.0.path.abort();
    peer.0.write_over.notify_one();
}

async fn keep_time(peer: Peer) {
    // When a session that ends is cut, whether or not its last word could be sent.
    let mut cut: Option<Mono> = None;
    loop {
        peer.dispatch();
        if peer.ended().is_some() {
            break;
        }
        if cut.is_none() && peer.0.connection.borrow().end().is_some() {
            cut = Some(clock::mono().after(LINGER));
        }
        let timeout = peer.0.connection.borrow().next_timeout();
        let next = [timeout, cut].into_iter().flatten().min();
        let pause = next.map(|at| at.since(clock::mono()));
        tokio::select! {
            () = sleep(pause) => {
                let now = clock::mono();
                peer.0.connection.borrow_mut().handle_timeout(now);
                if cut.is_some_and(|cut| cut <= now) {
                    peer.0.connection.borrow_mut().path_lost(now);
                }
                peer.0.wake();
                // A timer that is due and stays due must not spin.
                if timeout.is_some_and(|at| peer.0.connection.borrow().next_timeout() == Some(at)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            () = peer.0.rearm.notified() => {}
        }
    }
    // The writer may be waiting for a peer that reads nothing.
    let _ = tokio::time::timeout(LINGER, peer.0.write_over.notified()).await;
    peer.0.path.abort();
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

impl Peer {
    /// Sends one sealed record and gives its buffer back.
    async fn send(
        &self,
        writer: &mut dyn MessageWriter,
        buf: RecordBuf,
    ) -> Result<Vec<u8>, TransportError> {
        let (bytes, range) = buf.into_framed();
        let length = u64::try_from(range.len()).unwrap_or(u64::MAX);
        let Ok(framed) = Framed::new(bytes, range.start) else {
            return Err(TransportError::Empty);
        };
        self.0
            .connection
            .borrow_mut()
            .link()
            .written(clock::mono(), length);
        let (result, framed) = writer.send(framed).await;
        self.0
            .bytes_out
            .set(self.0.bytes_out.get().saturating_add(length));
        self.0
            .connection
            .borrow_mut()
            .link()
            .delivered(clock::mono(), length);
        result.map(|()| framed.into_parts().0)
    }

    /// Hands everything that the connection has to say to whom it concerns.
    fn dispatch(&self) {
        loop {
            // The borrow must end before the event is handled, which may send.
            let event = self.0.connection.borrow_mut().poll_event();
            match event {
                Some(event) => self.route(event),
                None => break,
            }
        }
        if self.is_over() {
            let end = self.0.connection.borrow().end().cloned();
            self.finish(end.unwrap_or(End::PathLost));
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each kind of event"
    )]
    fn route(&self, event: LinkEvent) {
        let (stream, inbound) = match event {
            LinkEvent::Request {
                stream,
                corr,
                opcode,
                payload,
                tier: _,
                age_secs,
            } => {
                let corr = corr.0;
                (
                    stream,
                    Inbound::Request {
                        corr,
                        opcode,
                        payload,
                        age_secs,
                    },
                )
            }
            LinkEvent::Cancel { stream, corr } => {
                if let Some(caller) = self.0.asked.borrow().get(&(stream, corr)) {
                    return caller.give_up();
                }
                (stream, Inbound::Cancel { corr: corr.0 })
            }
            LinkEvent::Response {
                stream,
                corr,
                status,
                payload,
                more,
            } => {
                // The end of a session answers what is outstanding with that status (profile 14.3); that
                // it ended is told anyway.
                let lost = status == Status::ServiceUnavailable && self.is_ending();
                if more && self.0.calls.borrow().contains_key(&(stream, corr)) {
                    if let Some(news) = self.0.news.borrow().get(&(stream, corr)) {
                        news.send_replace(payload);
                    }
                    return;
                }
                let call = self.0.calls.borrow_mut().remove(&(stream, corr));
                if lost {
                    return;
                }
                if let Some(call) = call {
                    // The caller may have given up waiting.
                    let _ = call.send(Answer { status, payload });
                    return;
                }
                let corr = corr.0;
                (
                    stream,
                    Inbound::Response {
                        corr,
                        status,
                        payload,
                        more,
                    },
                )
            }
            LinkEvent::Event {
                stream,
                opcode,
                payload,
                age_secs,
            } => {
                if stream == StreamId::CONTROL {
                    return self.0.service.event(self, opcode, &payload);
                }
                (
                    stream,
                    Inbound::Event {
                        opcode,
                        payload,
                        age_secs,
                    },
                )
            }
            LinkEvent::Data {
                stream,
                payload,
                fin,
            } => (stream, Inbound::Data { payload, fin }),
            LinkEvent::Reset {
                stream,
                status,
                payload: _,
            } => {
                // So does the end of a session with its streams. A peer that answers neither a request nor
                // its CANCEL is gone, though the session is not known to be lost yet.
                let lost = match status {
                    Status::ServiceUnavailable => self.is_ending(),
                    status => status == Status::Timeout,
                };
                let end = if lost {
                    Inbound::Closed
                } else {
                    Inbound::Reset { status }
                };
                self.0.deliver(stream, end);
                self.0.streams.borrow_mut().remove(&stream);
                return;
            }
            LinkEvent::Writable { stream } => (stream, Inbound::Writable),
            LinkEvent::Dropped { stream, count } => (stream, Inbound::Dropped { count }),
            LinkEvent::Missing { stream, count } => {
                return tracing::debug!(%stream, count, "frames of the peer are missing");
            }
        };
        self.hand_over(stream, inbound);
    }

    /// Gives something to the task of its stream; a request without one goes to the service, and so
    /// does its end.
    fn hand_over(&self, stream: StreamId, inbound: Inbound) {
        let left = self.0.deliver(stream, inbound);
        if let Some(Inbound::Cancel { corr }) = left {
            return self.0.service.cancelled(self, stream, Corr(corr));
        }
        if let Some(Inbound::Request {
            corr,
            opcode,
            payload,
            age_secs,
        }) = left
        {
            let corr = Corr(corr);
            let request = Incoming {
                stream,
                corr,
                opcode,
                payload,
                age_secs,
            };
            self.0.service.request(self, request);
        }
    }

    pub(super) fn path_ended(&self, error: Option<&TransportError>, hung_up: bool) {
        if let Some(error) = error {
            let error: &dyn std::error::Error = error;
            tracing::debug!(peer = self.name(), error, "path ended");
        }
        if self.0.connection.borrow().end().is_none() {
            self.0.hung_up.set(hung_up);
        }
        self.0.connection.borrow_mut().path_lost(clock::mono());
        self.dispatch();
    }

    /// True when nothing more will be sent or received.
    fn is_over(&self) -> bool {
        self.0.connection.borrow().is_over()
    }

    fn finish(&self, end: End) {
        if self.ended().is_some() {
            return;
        }
        self.0.ended.send_replace(Some(Rc::new(end)));
        self.0.caller.leave();
        let streams = std::mem::take(&mut *self.0.streams.borrow_mut());
        for (sender, _) in streams.into_values() {
            let _ = sender.send(Inbound::Closed);
        }
        self.0.calls.borrow_mut().clear();
        self.0.news.borrow_mut().clear();
        self.0.wake();
        self.0.rearm.notify_one();
    }
}
