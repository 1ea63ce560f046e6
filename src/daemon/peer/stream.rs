//! One stream of a peer as a bus half sees it.

use std::cell::OnceCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use super::meter::Meter;
use crate::bus::{BusStream, Inbound, Outgoing, Outlet, OutletError};
use crate::kernel::clock;
use crate::link::{Corr, LinkError, Request, StreamId, Target};
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// A stream with its two ends: what may be done on it and what arrives.
pub struct PeerStream {
    /// Its number in the session.
    pub id: StreamId,
    /// For the bus half. It does not keep the session alive.
    pub outlet: Rc<dyn Outlet>,
    /// Ends with [`Inbound::Reset`] or [`Inbound::Closed`].
    pub inbound: mpsc::UnboundedReceiver<Inbound>,
    gauge: Gauge,
}

/// The meter of a stream, once it has one.
#[derive(Clone, Default)]
pub(super) struct Gauge(Rc<OnceCell<Rc<Meter>>>);

impl Gauge {
    fn meter(&self) -> Option<&Rc<Meter>> {
        self.0.get()
    }

    /// Counts what the peer sent.
    pub(super) fn came(&self, inbound: &Inbound) {
        let Some(meter) = self.meter() else {
            return;
        };
        match inbound {
            Inbound::Request { payload, .. }
            | Inbound::Event { payload, .. }
            | Inbound::Data { payload, .. } => meter.came(payload.len()),
            Inbound::Response {
                corr,
                payload,
                more,
                ..
            } => {
                meter.came(payload.len());
                if !more {
                    meter.answered(*corr, clock::mono());
                }
            }
            Inbound::Dropped { count } => meter.dropped(*count),
            Inbound::Cancel { .. }
            | Inbound::Writable
            | Inbound::Reset { .. }
            | Inbound::Closed => {}
        }
    }

    fn went(&self, bytes: usize) {
        if let Some(meter) = self.meter() {
            meter.went(bytes);
        }
    }
}

impl PeerStream {
    pub(super) fn new(
        id: StreamId,
        peer: Weak<Shared>,
        inbound: mpsc::UnboundedReceiver<Inbound>,
        gauge: Gauge,
    ) -> Self {
        let outlet = StreamOutlet {
            stream: id,
            peer,
            gauge: gauge.clone(),
        };
        Self {
            id,
            outlet: Rc::new(outlet),
            inbound,
            gauge,
        }
    }

    /// What goes over the stream counts for that meter from now on.
    pub fn measure(&self, meter: &Rc<Meter>) {
        // A stream is of one device and has one meter.
        let _ = self.gauge.0.set(Rc::clone(meter));
    }
}

impl From<PeerStream> for BusStream {
    fn from(stream: PeerStream) -> Self {
        Self {
            outlet: stream.outlet,
            inbound: stream.inbound,
        }
    }
}

struct StreamOutlet {
    stream: StreamId,
    peer: Weak<Shared>,
    gauge: Gauge,
}

impl Outlet for StreamOutlet {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        let Some(peer) = self.peer.upgrade() else {
            return Err(OutletError::Closed);
        };
        let mut connection = peer.connection.borrow_mut();
        let link = connection.link();
        let now = clock::mono();
        let mut request = Request::new(Target::On(self.stream), outgoing.opcode, outgoing.payload)
            .with_timeout(milliseconds(outgoing.timeout_ms));
        request.deadline = milliseconds(outgoing.deadline_ms).map(|within| now.after(within));
        request.class = outgoing.class;
        request.reply_len = outgoing.reply_len;
        match link.check_request(&request) {
            Ok(()) => {}
            Err(LinkError::WouldBlock) => {
                let payload = request.payload;
                return Err(OutletError::WouldBlock(Outgoing {
                    payload,
                    ..outgoing
                }));
            }
            Err(LinkError::TooLarge) => return Err(OutletError::TooLarge),
            Err(
                LinkError::UnknownStream
                | LinkError::StreamState
                | LinkError::StreamLimit
                | LinkError::UnknownRequest
                | LinkError::Tier(_)
                | LinkError::OrderedPath
                | LinkError::NotAnOperation,
            ) => return Err(OutletError::Closed),
        }
        let bytes = request.payload.len();
        let (_, corr) = link
            .request(now, request)
            .map_err(|_| OutletError::Closed)?;
        drop(connection);
        if let Some(meter) = self.gauge.meter() {
            meter.went(bytes);
            meter.asked(corr.0, now);
        }
        peer.wake();
        Ok(corr.0)
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        if let Some(peer) = self.peer.upgrade() {
            if let Some(meter) = self.gauge.meter() {
                meter.went(payload.len());
                meter.served();
            }
            peer.respond(self.stream, Corr(corr), status, payload);
        }
    }

    fn event(&self, opcode: Opcode, payload: Vec<u8>) {
        if let Some(peer) = self.peer.upgrade() {
            self.gauge.went(payload.len());
            let sent = peer
                .connection
                .borrow_mut()
                .link()
                .event(self.stream, opcode, payload);
            if let Err(error) = sent {
                tracing::debug!(stream = %self.stream, %opcode, %error, "event not sent");
            }
            peer.wake();
        }
    }

    fn data(&self, payload: Vec<u8>, fin: bool) {
        if let Some(peer) = self.peer.upgrade() {
            self.gauge.went(payload.len());
            let sent = peer
                .connection
                .borrow_mut()
                .link()
                .data(self.stream, payload, fin);
            if let Err(error) = sent {
                tracing::debug!(stream = %self.stream, %error, "data not sent");
            }
            peer.wake();
        }
    }

    fn cancel(&self, corr: u32) {
        if let Some(peer) = self.peer.upgrade() {
            // A request that has its final answer needs no cancelling.
            let _ =
                peer.connection
                    .borrow_mut()
                    .link()
                    .cancel(clock::mono(), self.stream, Corr(corr));
            peer.wake();
        }
    }

    fn reset(&self, status: Status) {
        if let Some(peer) = self.peer.upgrade() {
            peer.reset(self.stream, status, None);
            peer.streams.borrow_mut().remove(&self.stream);
        }
    }

    fn consume(&self, bytes: usize) {
        if let Some(peer) = self.peer.upgrade() {
            peer.connection
                .borrow_mut()
                .link()
                .consume(self.stream, bytes);
            peer.wake();
        }
    }

    fn writable(&self, bytes: usize) -> bool {
        self.peer.upgrade().is_some_and(|peer| {
            let mut connection = peer.connection.borrow_mut();
            connection.link().writable(self.stream, bytes)
        })
    }

    fn queued(&self) -> usize {
        self.peer.upgrade().map_or(0, |peer| {
            peer.connection.borrow_mut().link().queued(self.stream)
        })
    }
}

/// 0 stands for none.
fn milliseconds(count: u32) -> Option<Duration> {
    (count > 0).then(|| Duration::from_millis(u64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_measured_to_its_last_answer() {
        let (gauge, meter) = (Gauge::default(), Rc::new(Meter::default()));
        let response = |corr, more| Inbound::Response {
            corr,
            status: Status::Ok,
            payload: vec![0; 10],
            more,
        };
        gauge.came(&response(1, false));
        assert_eq!(meter.read(clock::mono()).bytes_in, 0, "it has no meter yet");
        let _ = gauge.0.set(Rc::clone(&meter));
        meter.asked(7, clock::mono());
        gauge.came(&response(7, true));
        assert_eq!(meter.read(clock::mono()).requests, 0);
        gauge.came(&response(7, false));
        gauge.came(&response(7, false));
        gauge.came(&Inbound::Dropped { count: 3 });
        gauge.came(&Inbound::Data {
            payload: vec![0; 5],
            fin: false,
        });
        gauge.went(2);
        let reading = meter.read(clock::mono());
        assert_eq!(reading.requests, 1);
        assert!(reading.p50.is_some());
        assert_eq!((reading.bytes_in, reading.bytes_out), (35, 2));
        assert_eq!(reading.drops, 3);
    }
}
