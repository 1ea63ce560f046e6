//! A stream within this process, with credit as on a session's.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{BusStream, Inbound, Outgoing, Outlet, OutletError};
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// Bytes of DATA and EVENT that an end may have sent beyond what the other has used up.
pub const WINDOW: usize = 64 << 10;

/// The number of the request that opens a stream.
pub const OPENING: u32 = 1;

/// Both ends of an open stream.
pub fn pair() -> (BusStream, BusStream) {
    let (one, other, _) = cuttable();
    (one, other)
}

/// The same with what cuts them.
pub(super) fn cuttable() -> (BusStream, BusStream, [Weak<End>; 2]) {
    let (to_one, at_one) = mpsc::unbounded_channel();
    let (to_other, at_other) = mpsc::unbounded_channel();
    let one = End::new(to_other, to_one.clone());
    let other = End::new(to_one, one.to_peer.clone());
    *one.peer.borrow_mut() = Rc::downgrade(&other);
    *other.peer.borrow_mut() = Rc::downgrade(&one);
    let ends = [Rc::downgrade(&one), Rc::downgrade(&other)];
    let stream =
        |outlet: Rc<End>, inbound: UnboundedReceiver<Inbound>| BusStream { outlet, inbound };
    (stream(one, at_one), stream(other, at_other), ends)
}

/// One end of a stream.
pub(super) struct End {
    next: Cell<u32>,
    /// What this end may still send.
    room: Cell<usize>,
    /// It asked for more than that.
    wants_room: Cell<bool>,
    cut: Cell<bool>,
    to_peer: UnboundedSender<Inbound>,
    to_self: UnboundedSender<Inbound>,
    peer: RefCell<Weak<End>>,
}

impl End {
    fn new(to_peer: UnboundedSender<Inbound>, to_self: UnboundedSender<Inbound>) -> Rc<Self> {
        Rc::new(Self {
            next: Cell::new(OPENING + 1),
            room: Cell::new(WINDOW),
            wants_room: Cell::new(false),
            cut: Cell::new(false),
            to_peer,
            to_self,
            peer: RefCell::default(),
        })
    }

    pub(super) fn send(&self, inbound: Inbound) {
        if !self.cut.get() {
            // The other end may have left.
            let _ = self.to_peer.send(inbound);
        }
    }

    /// Whatever is sent from now on is lost.
    pub(super) fn cut(&self) {
        self.cut.set(true);
    }

    /// Takes so much credit if there is so much.
    fn spend(&self, bytes: usize) -> bool {
        let left = self.room.get().checked_sub(bytes);
        self.room.set(left.unwrap_or(self.room.get()));
        left.is_some()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.send(Inbound::Closed);
    }
}

impl Outlet for End {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        if self.cut.get() {
            return Err(OutletError::Closed);
        }
        let corr = self.next.get();
        self.next.set(corr + 1);
        let request = Inbound::Request {
            corr,
            opcode: outgoing.opcode,
            payload: outgoing.payload,
            age_secs: 0,
        };
        self.to_peer
            .send(request)
            .map(|()| corr)
            .map_err(|_| OutletError::Closed)
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.send(Inbound::Response {
            corr,
            status,
            payload,
            more: false,
        });
    }

    fn event(&self, opcode: Opcode, payload: Vec<u8>) {
        if self.spend(payload.len()) {
            self.send(Inbound::Event {
                opcode,
                payload,
                age_secs: 0,
            });
        } else {
            let _ = self.to_self.send(Inbound::Dropped { count: 1 });
        }
    }

    fn data(&self, payload: Vec<u8>, fin: bool) {
        if self.spend(payload.len()) {
            self.send(Inbound::Data { payload, fin });
        }
    }

    fn cancel(&self, corr: u32) {
        self.send(Inbound::Cancel { corr });
    }

    fn reset(&self, status: Status) {
        self.send(Inbound::Reset { status });
        self.cut.set(true);
    }

    fn consume(&self, bytes: usize) {
        let Some(peer) = self.peer.borrow().upgrade() else {
            return;
        };
        peer.room.set(peer.room.get() + bytes);
        if peer.wants_room.take() {
            let _ = peer.to_self.send(Inbound::Writable);
        }
    }

    fn writable(&self, bytes: usize) -> bool {
        let room = bytes <= self.room.get() && !self.cut.get();
        self.wants_room.set(self.wants_room.get() || !room);
        room
    }

    fn queued(&self) -> usize {
        0
    }
}
