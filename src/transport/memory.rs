//! Two ends of a path inside one thread. Without timers, so that tests run it on virtual time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use super::{
    Framed, LocalFuture, MessageReader, MessageWriter, Path, PathControl, Sent, TransportError,
};
use crate::wire::limits::{MAX_UNAUTHENTICATED_MESSAGE, MESSAGE_MARGIN};

/// The hard bound of `limits.rec` with its margin, as on TCP.
const MAX_MESSAGE: usize = (1 << 20) + MESSAGE_MARGIN;

/// Two connected ends. Each direction holds about `bound` bytes; a message is taken while fewer are
/// waiting, so that one longer than the bound passes too.
pub fn pair(bound: usize) -> (Path, Path) {
    let there = Rc::new(Direction::new(bound));
    let back = Rc::new(Direction::new(bound));
    (
        end("memory:0", &back, &there),
        end("memory:1", &there, &back),
    )
}

fn end(peer: &'static str, inbound: &Rc<Direction>, outbound: &Rc<Direction>) -> Path {
    let control = Rc::new(Control {
        peer,
        limit: Cell::new(MAX_UNAUTHENTICATED_MESSAGE),
        inbound: Rc::clone(inbound),
        outbound: Rc::clone(outbound),
    });
    Path {
        reader: Box::new(Reader(Rc::clone(&control))),
        writer: Box::new(Writer(Rc::clone(&control))),
        control,
    }
}

/// The messages on their way in one direction.
struct Direction {
    messages: RefCell<VecDeque<Vec<u8>>>,
    bytes: Cell<usize>,
    bound: Cell<usize>,
    closed: Cell<bool>,
    arrived: Notify,
    drained: Notify,
}

impl Direction {
    fn new(bound: usize) -> Self {
        Self {
            messages: RefCell::default(),
            bytes: Cell::new(0),
            bound: Cell::new(bound),
            closed: Cell::new(false),
            arrived: Notify::new(),
            drained: Notify::new(),
        }
    }

    /// No more goes in; what is inside may still be read.
    fn close(&self) {
        self.closed.set(true);
        self.arrived.notify_one();
        self.drained.notify_one();
    }

    /// Room, `false` when it was closed.
    async fn room(&self) -> bool {
        while !self.closed.get() && self.bytes.get() > 0 && self.bytes.get() >= self.bound.get() {
            self.drained.notified().await;
        }
        !self.closed.get()
    }

    fn push(&self, message: Vec<u8>) {
        self.bytes.set(self.bytes.get() + message.len());
        self.messages.borrow_mut().push_back(message);
        self.arrived.notify_one();
    }

    async fn pop(&self) -> Option<Vec<u8>> {
        loop {
            let message = self.messages.borrow_mut().pop_front();
            if let Some(message) = message {
                self.bytes.set(self.bytes.get() - message.len());
                self.drained.notify_one();
                return Some(message);
            }
            if self.closed.get() {
                return None;
            }
            self.arrived.notified().await;
        }
    }
}

struct Control {
    peer: &'static str,
    limit: Cell<usize>,
    inbound: Rc<Direction>,
    outbound: Rc<Direction>,
}

impl PathControl for Control {
    fn peer(&self) -> &str {
        self.peer
    }

    fn ordered(&self) -> bool {
        true
    }

    fn max_message(&self) -> usize {
        MAX_MESSAGE
    }

    fn set_limit(&self, bytes: usize) {
        self.limit.set(bytes.min(MAX_MESSAGE));
    }

    fn set_unsent_limit(&self, bytes: u32) -> Result<(), TransportError> {
        self.outbound
            .bound
            .set(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.outbound.drained.notify_one();
        Ok(())
    }

    fn unsent(&self) -> usize {
        self.outbound.bytes.get()
    }

    fn delivery_rate(&self) -> Option<u64> {
        None
    }

    fn abort(&self) {
        self.inbound.close();
        self.outbound.close();
    }
}

struct Reader(Rc<Control>);

impl MessageReader for Reader {
    fn recv(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(async move {
            let Some(message) = self.0.inbound.pop().await else {
                return Ok(None);
            };
            let limit = self.0.limit.get();
            if message.len() <= limit {
                return Ok(Some(message));
            }
            self.0.abort();
            self.0.inbound.messages.borrow_mut().clear();
            Err(TransportError::Oversize {
                length: u32::try_from(message.len()).unwrap_or(u32::MAX),
                limit,
            })
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.inbound.close();
    }
}

struct Writer(Rc<Control>);

impl MessageWriter for Writer {
    fn send(&mut self, framed: Framed) -> LocalFuture<'_, Sent> {
        Box::pin(async move {
            if !self.0.outbound.room().await {
                return (Err(TransportError::Closed), framed);
            }
            self.0.outbound.push(framed.message().to_vec());
            (Ok(()), framed)
        })
    }

    fn close(&mut self) -> LocalFuture<'_, Result<(), TransportError>> {
        self.0.outbound.close();
        Box::pin(async { Ok(()) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.outbound.close();
    }
}
