//! A session without a network, for the tests of both halves of a bus in one thread: streams with
//! credit, whose other end is served as the test wants, and which can be cut.

use core::future::{Future, pending, ready};
use core::pin::Pin;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::pipe::{End, cuttable};
use super::{AskError, BusStream, Here, Inbound, Opener, Pending, Refused};
use crate::kernel::vhci::Vhci;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;

pub use super::pipe::{OPENING, WINDOW, pair};

/// A machine without ports for USB devices.
pub fn here() -> Here {
    Here {
        vhci: Rc::new(Vhci::at(Path::new("/nonexistent"))),
    }
}

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
            end.cut();
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
        let (mut mine, theirs, ends) = cuttable();
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

    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(pending())
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
