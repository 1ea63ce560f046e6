//! TCP (profile 15.2): `BE32 length || message` on an ordered path.
//!
//! Connections are set up by tokio, whose accept and connect may be dropped at any time; a ring
//! would go on with them in the kernel and leak the socket. All data goes through the ring.
//!
//! An operation that the ring has begun cannot be taken back: a dropped future leaves it running,
//! its buffer and its socket alive, its bytes lost. Each half therefore owns its operation and not
//! the future that waits for it, and ends it by `shutdown`, never by the drop alone.

mod dial;
mod listener;

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::framing::Deframer;
use super::{
    Framed, LocalFuture, MessageReader, MessageWriter, Path, PathControl, Sent, TransportError,
};
use crate::kernel::sockopt;
use crate::wire::limits::{MAX_UNAUTHENTICATED_MESSAGE, MESSAGE_MARGIN};

pub use dial::dial;
pub use listener::{Accepted, Listener};

/// Unsent bytes in the kernel while nothing on the path is urgent (profile 11.3).
pub const RELAXED_UNSENT: u32 = 256 << 10;
/// The hard bound of `limits.rec` with its margin (profile 15.2 and 18).
const MAX_MESSAGE: usize = (1 << 20) + MESSAGE_MARGIN;
/// The kernel gives a silent peer up after this. It only stands behind the protocol's keepalive,
/// which needs three periods of at most 60 s (profile 14.1).
const DEAD_PEER: Duration = Duration::from_secs(200);
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(20);

/// A connected socket; the fd is closed when the last of both halves, the control handle and the
/// ring's operations lets go of it.
struct Connection {
    stream: TcpStream,
    peer: String,
    limit: Cell<usize>,
    in_flight: Cell<usize>,
}

/// Makes a path of a socket that tokio has connected.
fn path(stream: tokio::net::TcpStream, peer: SocketAddr) -> io::Result<Path> {
    let stream = stream.into_std()?;
    // Whether the ring waits on a non-blocking socket depends on the operation and the kernel.
    stream.set_nonblocking(false)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(RELAXED_UNSENT)?;
    socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_EVERY),
    )?;
    let connection = Rc::new(Connection {
        stream: TcpStream::from_std(stream),
        peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
        limit: Cell::new(MAX_UNAUTHENTICATED_MESSAGE),
        in_flight: Cell::new(0),
    });
    Ok(Path {
        reader: Box::new(Reader {
            connection: Rc::clone(&connection),
            deframer: Deframer::new(),
            pending: None,
            ended: false,
        }),
        writer: Box::new(Writer {
            connection: Rc::clone(&connection),
            pending: None,
            ended: false,
        }),
        control: connection,
    })
}

impl Connection {
    /// Shuts down what is still open; a socket that the peer has already reset says so, which
    /// changes nothing.
    fn shut(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how);
    }
}

impl PathControl for Connection {
    fn peer(&self) -> &str {
        &self.peer
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
        sockopt::set_notsent_lowat(&self.stream, bytes)
            .map_err(TransportError::io("setting TCP_NOTSENT_LOWAT"))
    }

    fn unsent(&self) -> usize {
        let kernel = sockopt::not_sent(&self.stream).unwrap_or(0);
        self.in_flight.get().saturating_add(kernel)
    }

    fn delivery_rate(&self) -> Option<u64> {
        sockopt::delivery_rate(&self.stream).ok().flatten()
    }

    fn abort(&self) {
        self.shut(Shutdown::Both);
    }
}

type Read = (io::Result<usize>, Vec<u8>);

struct Reader {
    connection: Rc<Connection>,
    deframer: Deframer,
    pending: Option<LocalFuture<'static, Read>>,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            let limit = self.connection.limit.get();
            if let Some(message) = self.deframer.next_message(limit)? {
                return Ok(Some(message));
            }
            let (deframer, connection) = (&mut self.deframer, &self.connection);
            let read = self.pending.get_or_insert_with(|| {
                let (buffer, range) = deframer.space();
                let connection = Rc::clone(connection);
                Box::pin(async move {
                    let (result, slice) = connection.stream.read(buffer.slice(range)).await;
                    (result, slice.into_inner())
                })
            });
            let (result, buffer) = read.await;
            self.pending = None;
            self.deframer.restore(buffer);
            let received = result.map_err(TransportError::io("receiving"))?;
            if received == 0 {
                self.ended = true;
                return if self.deframer.at_boundary() {
                    Ok(None)
                } else {
                    Err(TransportError::Truncated)
                };
            }
        }
    }
}

impl MessageReader for Reader {
    fn recv(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, TransportError>> {
        Box::pin(async move {
            if self.ended {
                return Ok(None);
            }
            let result = self.next().await;
            if result.is_err() {
                self.ended = true;
                self.connection.abort();
            }
            result
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.connection.shut(Shutdown::Read);
    }
}

type Written = (io::Result<()>, Framed);

struct Writer {
    connection: Rc<Connection>,
    pending: Option<LocalFuture<'static, Written>>,
    ended: bool,
}

impl Writer {
    /// Waits for a message whose `send` was dropped.
    async fn settle(&mut self) -> Result<(), TransportError> {
        if self.ended {
            return Err(TransportError::Closed);
        }
        let Some(pending) = self.pending.as_mut() else {
            return Ok(());
        };
        let (result, _) = pending.await;
        self.finish(result)
    }

    fn finish(&mut self, result: io::Result<()>) -> Result<(), TransportError> {
        self.pending = None;
        self.connection.in_flight.set(0);
        if result.is_err() {
            self.ended = true;
            self.connection.abort();
        }
        result.map_err(TransportError::io("sending"))
    }
}

impl MessageWriter for Writer {
    fn send(&mut self, framed: Framed) -> LocalFuture<'_, Sent> {
        Box::pin(async move {
            if let Err(error) = self.settle().await {
                return (Err(error), framed);
            }
            self.connection.in_flight.set(framed.framed().len());
            let whole = write_whole(Rc::clone(&self.connection), framed);
            let (result, framed) = self.pending.insert(Box::pin(whole)).await;
            (self.finish(result), framed)
        })
    }

    fn close(&mut self) -> LocalFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            self.settle().await?;
            self.ended = true;
            self.connection.shut(Shutdown::Write);
            Ok(())
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.connection.shut(Shutdown::Write);
    }
}

/// Writes all of it; the kernel takes it in pieces when `TCP_NOTSENT_LOWAT` is reached.
async fn write_whole(connection: Rc<Connection>, framed: Framed) -> Written {
    let (bytes, start) = framed.into_parts();
    let end = bytes.len();
    let mut rest = bytes.slice(start..end);
    let result = loop {
        let result;
        (result, rest) = connection.stream.write(rest).submit().await;
        match result {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                let in_flight = connection.in_flight.get();
                connection.in_flight.set(in_flight.saturating_sub(count));
                if count >= rest.len() {
                    break Ok(());
                }
                rest = rest.slice(count..);
            }
            Err(error) => break Err(error),
        }
    };
    (result, Framed::from_parts(rest.into_inner(), start))
}
