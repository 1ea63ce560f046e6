//! A session without a network, for the tests of both halves of a bus in one thread: streams with
//! credit, whose other end is served as the test wants, and which can be cut.

use core::future::{Future, ready};
use core::pin::Pin;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use super::{
    AskError, BusStream, Inbound, Opener, Outgoing, Outlet, OutletError, Pending, Refused,
};
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// Bytes of DATA and EVENT that an end may have sent beyond what the other has used up.
pub const WINDOW: usize = 64 << 10;

/// The number of the request that opens a stream.
pub const OPENING: u32 = 1;

/// A request that opens a stream, as the owner's side sees it.
pub struct Opened {
    /// The operation.
    pub opcode: Opcode,
    /// Its parameters.
    pub payload: Vec<u8>,
    /// The owner's end; it answers number [`OPENING`].
    pub stream: BusStream,
}

type Serve = Box<dyn Fn(Opened)>;
type Call = Box<dyn Fn(Opcode, &[u8]) -> Result<Vec<u8>, Refused>>;

/// A session with an owner that is played by closures.
pub struct FakeSession {
    serve: Serve,
    call: Call,
    ends: RefCell<Vec<Weak<End>>>,
    lost: Cell<bool>,
    mended: Notify,
    torn: Notify,
}

impl FakeSession {
    /// `serve` gets every stream that is opened and spawns a task for it, `call` answers what is
    /// asked on stream 0.
    pub fn new(
        serve: impl Fn(Opened) + 'static,
        call: impl Fn(Opcode, &[u8]) -> Result<Vec<u8>, Refused> + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            serve: Box::new(serve),
            call: Box::new(call),
            ends: RefCell::default(),
            lost: Cell::new(false),
            mended: Notify::new(),
            torn: Notify::new(),
        })
    }

    /// There is a session again.
    pub fn mend(&self) {
        self.lost.set(false);
        self.mended.notify_waiters();
    }

    /// The session is lost until [`FakeSession::mend`]: both ends of every stream see
    /// [`Inbound::Closed`].
    pub fn cut(&self) {
        self.lost.set(true);
        for end in self.ends.take().iter().filter_map(Weak::upgrade) {
            end.send(Inbound::Closed);
            end.cut.set(true);
        }
        self.torn.notify_waiters();
    }
}

impl Opener for FakeSession {
    fn call(&self, opcode: Opcode, payload: Vec<u8>, _: Duration) -> Pending<'_, Vec<u8>> {
        if self.lost.get() {
            return Box::pin(ready(Err(over())));
        }
        let answer = (self.call)(opcode, &payload).map_err(|refused| AskError::Refused {
            status: refused.status,
            error: ErrorMap::decode(&refused.payload()).unwrap_or_default(),
        });
        Box::pin(async move { answer })
    }

    fn open(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        _: Duration,
    ) -> Pending<'_, (Vec<u8>, BusStream)> {
        if self.lost.get() {
            return Box::pin(ready(Err(over())));
        }
        let (mut mine, theirs, ends) = stream();
        self.ends.borrow_mut().extend(ends);
        (self.serve)(Opened {
            opcode,
            payload,
            stream: theirs,
        });
        Box::pin(async move {
            match mine.inbound.recv().await {
                Some(Inbound::Response {
                    status, payload, ..
                }) if status.is_success() => Ok((payload, mine)),
                Some(Inbound::Response {
                    status, payload, ..
                }) => Err(AskError::Refused {
                    status,
                    error: ErrorMap::decode(&payload).unwrap_or_default(),
                }),
                other => Err(AskError::Ended(format!("{other:?} came first"))),
            }
        })
    }

    fn lost(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            let torn = self.torn.notified();
            if !self.lost.get() {
                torn.await;
            }
        })
    }

    fn returned(&self, within: Duration) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async move {
            let mended = self.mended.notified();
            !self.lost.get() || timeout(within, mended).await.is_ok()
        })
    }
}

fn over() -> AskError {
    AskError::Ended("it was cut".to_owned())
}

/// Both ends of an open stream.
pub fn pair() -> (BusStream, BusStream) {
    let (one, other, _) = stream();
    (one, other)
}

fn stream() -> (BusStream, BusStream, [Weak<End>; 2]) {
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

struct End {
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

    fn send(&self, inbound: Inbound) {
        if !self.cut.get() {
            // The other end may have left.
            let _ = self.to_peer.send(inbound);
        }
    }

    /// Takes so much credit if there is so much.
    fn spend(&self, bytes: usize) -> bool {
        let left = self.room.get().checked_sub(bytes);
        self.room.set(left.unwrap_or(self.room.get()));
        left.is_some()
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
