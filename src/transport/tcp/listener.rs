//! Accepts connections, as many as the half-open limits allow.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::path;
use crate::transport::half_open::{HalfOpen, HalfOpenGuard};
use crate::transport::{Path, TransportError};

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 128;
/// At most one log line of a kind in this time.
const SILENCE: Duration = Duration::from_secs(60);
/// How long to wait for a free file descriptor, first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A listening socket. A connection above the half-open limits is closed without a byte.
pub struct Listener {
    socket: TcpListener,
    gate: HalfOpen,
    starved: Complaint,
    refused: Complaint,
}

/// A connection whose peer is not authenticated yet.
pub struct Accepted {
    /// The connection.
    pub path: Path,
    /// Where it comes from; an IPv4 peer on an IPv6 socket appears as IPv4.
    pub source: SocketAddr,
    /// Its place among the half-open ones: drop it when the session is authenticated or over.
    pub place: HalfOpenGuard,
}

impl Listener {
    /// Listens on `address`. `[::]` takes IPv4 peers too; the gate may be shared by several
    /// listeners.
    ///
    /// # Errors
    /// [`TransportError::Io`] when the address is taken or not ours.
    pub fn bind(address: SocketAddr, gate: HalfOpen) -> Result<Self, TransportError> {
        Ok(Self {
            socket: listen(address).map_err(TransportError::io("listening"))?,
            gate,
            starved: Complaint::default(),
            refused: Complaint::default(),
        })
    }

    /// The address it listens on, with the port that the kernel chose for port 0.
    ///
    /// # Errors
    /// [`TransportError::Io`] when the kernel does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.socket
            .local_addr()
            .map_err(TransportError::io("asking for the own address"))
    }

    /// The next connection that has a place. Without file descriptors or memory it waits and tries
    /// again. Dropping the future loses no connection.
    pub async fn accept(&mut self) -> Accepted {
        let mut pause = BACK_OFF.0;
        loop {
            match self.socket.accept().await {
                Ok((stream, source)) => {
                    pause = BACK_OFF.0;
                    if let Some(accepted) = self.admit(stream, source) {
                        return accepted;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {
                    debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    if let Some(unsaid) = self.starved.raise() {
                        warn!(%error, unsaid, "cannot accept connections, trying again");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, source: SocketAddr) -> Option<Accepted> {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let Some(place) = self.gate.admit(source.ip()) else {
            if let Some(unsaid) = self.refused.raise() {
                warn!(%source, unsaid, "too many unauthenticated connections, refused one more");
            }
            return None;
        };
        match path(stream, source) {
            Ok(path) => Some(Accepted {
                path,
                source,
                place,
            }),
            Err(error) => {
                debug!(%source, %error, "a connection was gone before it was set up");
                None
            }
        }
    }
}

/// Something that strangers can cause as often as they like and that is logged once in a while.
#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    /// How many were not logged since the last one that was, when this one is to be logged.
    fn raise(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now < last + SILENCE) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restarted server must not wait for the TIME_WAIT of its old connections. SO_REUSEPORT
    // stays off: with it another process could take half of our connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Errors of accept(2) that belong to the connection and not to us: those it passes on from the
/// network (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::EPERM
                | libc::EINTR
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_logged_once_a_minute_with_its_count() {
        let mut complaint = Complaint::default();
        assert_eq!(complaint.raise(), Some(0));
        for _ in 0..1000 {
            assert_eq!(complaint.raise(), None);
        }
        tokio::time::advance(SILENCE).await;
        assert_eq!(complaint.raise(), Some(1000));
        assert_eq!(complaint.raise(), None);
    }
}
