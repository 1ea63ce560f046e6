//! One stream of a peer as a bus half sees it.

use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use crate::bus::{Inbound, Outgoing, Outlet, OutletError};
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
}

impl PeerStream {
    pub(super) fn new(
        id: StreamId,
        peer: Weak<Shared>,
        inbound: mpsc::UnboundedReceiver<Inbound>,
    ) -> Self {
        Self {
            id,
            outlet: Rc::new(StreamOutlet { stream: id, peer }),
            inbound,
        }
    }
}

struct StreamOutlet {
    stream: StreamId,
    peer: Weak<Shared>,
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
        let (_, corr) = link
            .request(now, request)
            .map_err(|_| OutletError::Closed)?;
        drop(connection);
        peer.wake();
        Ok(corr.0)
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        if let Some(peer) = self.peer.upgrade() {
            peer.respond(self.stream, Corr(corr), status, payload);
        }
    }

    fn event(&self, opcode: Opcode, payload: Vec<u8>) {
        if let Some(peer) = self.peer.upgrade() {
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
