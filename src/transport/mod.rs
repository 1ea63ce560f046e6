//! Paths that carry whole messages between two nodes (profile 15). One file per transport, one
//! trait for all of them.
//!
//! A [`Path`] is a reader, a writer and a control handle. The three are trait objects on one
//! thread, so that the code which drives a session is the same for every transport. Every transport
//! keeps these promises, and `tests/transport.rs` checks them over all of them:
//!
//! - both futures may be dropped at any time: a dropped [`MessageReader::recv`] loses no byte, a
//!   dropped [`MessageWriter::send`] puts its message on the path whole or not at all;
//! - a slow reader makes `send` wait: no transport queues without a bound;
//! - nothing is allocated because a peer *says* that it will send it.

mod buffer;
pub mod capture;
pub mod fault;
pub mod framing;
pub mod half_open;
pub mod memory;
pub mod pcapng;
pub mod tcp;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

pub use buffer::Framed;

/// A boxed future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One way to a peer. Session IDs are unique only inside one path (profile 15.1).
///
/// Dropping both halves closes it; whatever the peer sent and nobody read is then lost, and on TCP
/// may take our own last messages with it (the kernel answers unread bytes with a reset). A polite
/// end is [`MessageWriter::close`], then reading until `None`, then the drop.
pub struct Path {
    /// Messages from the peer.
    pub reader: Box<dyn MessageReader>,
    /// Messages to the peer.
    pub writer: Box<dyn MessageWriter>,
    /// What concerns both directions.
    pub control: Rc<dyn PathControl>,
}

/// The receiving half of a path.
pub trait MessageReader {
    /// The next message, without any length prefix; `None` when the peer closed between two
    /// messages. Dropping the future loses nothing.
    ///
    /// The size limit ([`PathControl::set_limit`]) is applied when a message is cut from what was
    /// received, that is inside this call: raise it before the call that follows authentication.
    ///
    /// # Errors
    /// [`TransportError`] when the path broke or the peer broke its rules. The path is then closed,
    /// and every later call returns `None`.
    fn recv(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, TransportError>>;
}

/// The result of a send with the buffer, ready to be filled again.
pub type Sent = (Result<(), TransportError>, Framed);

/// The sending half of a path.
pub trait MessageWriter {
    /// Sends one message and returns when the path has taken all of it. Waiting is the
    /// backpressure: on TCP until fewer than [`PathControl::set_unsent_limit`] bytes are unsent.
    ///
    /// The buffer comes back for reuse. When the future is dropped the buffer is gone, and the
    /// message is sent whole or not at all. The result is an error when the path broke or was
    /// closed.
    fn send(&mut self, framed: Framed) -> LocalFuture<'_, Sent>;

    /// Closes this direction after everything that was sent; the peer's reader then sees `None`.
    ///
    /// # Errors
    /// [`TransportError`] when the path broke before all was handed over.
    fn close(&mut self) -> LocalFuture<'_, Result<(), TransportError>>;
}

/// Properties and controls of a path, shared by whoever drives it.
pub trait PathControl {
    /// The other end's address for logs and limits, for example `192.0.2.7:4114`.
    fn peer(&self) -> &str;

    /// True when messages arrive in order and none is lost (profile 15.2–15.5).
    fn ordered(&self) -> bool;

    /// The longest message that this transport can carry at all, in bytes.
    fn max_message(&self) -> usize;

    /// Sets the longest message accepted from the peer, in bytes: at most 4096 before
    /// authentication (the start value), `limits.rec + 128` afterwards (profile 15.2).
    fn set_limit(&self, bytes: usize);

    /// Bounds the bytes taken from us and not yet sent (profile 11.3).
    ///
    /// # Errors
    /// [`TransportError::Io`] when the kernel refuses.
    fn set_unsent_limit(&self, bytes: u32) -> Result<(), TransportError>;

    /// Bytes taken from us and not yet sent, user space and kernel together.
    fn unsent(&self) -> usize;

    /// The estimated delivery rate in bytes per second, if the path knows it (profile 11.3).
    fn delivery_rate(&self) -> Option<u64>;

    /// Ends both directions at once. A pending `recv` returns what had already arrived, then
    /// `None` or the error of a cut message.
    fn abort(&self);
}

/// Why a path failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The operating system refused or the connection broke.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A length prefix above the limit. On a fresh connection this is some other protocol.
    #[error("a message of {length} bytes, {limit} are allowed")]
    Oversize {
        /// What the peer announced, in bytes.
        length: u32,
        /// What it may send, in bytes.
        limit: usize,
    },
    /// A length prefix of zero.
    #[error("an empty message")]
    Empty,
    /// The peer closed in the middle of a message.
    #[error("closed in the middle of a message")]
    Truncated,
    /// This side has closed the path, or it broke before.
    #[error("the path is closed")]
    Closed,
    /// The address is not of the form `host:port`, or the name has no address.
    #[error("cannot resolve {target}")]
    Resolve {
        /// The address as given.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// No address of the peer answered.
    #[error("cannot reach {target}{}", Attempts(.attempts))]
    Unreachable {
        /// The address as given.
        target: String,
        /// Each address that was tried and why it failed.
        attempts: Vec<(SocketAddr, io::Error)>,
    },
}

impl TransportError {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

struct Attempts<'a>(&'a [(SocketAddr, io::Error)]);

impl std::fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}
