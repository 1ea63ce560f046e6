//! Counts for a monitoring system, on a loopback port or a socket, if the settings ask for it.
//!
//! Any program of this machine may connect. So a connection gets a fixed room and a short time, few are
//! served at once and not many in a second, and what is answered is made of bounded sets of labels.

mod text;

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::peer::Peer;

pub(super) use text::{Exposition, Kind};

/// Connections that are served at once; others wait in the kernel.
const AT_ONCE: usize = 4;
/// The least time from one connection to the next.
const PACE: Duration = Duration::from_millis(20);
/// How long a connection may take from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head of a request.
const HEAD: usize = 4096;
/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// Where the counts can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port of the loopback interface.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Listen {
    /// From the settings; `None` unless it is an address of the loopback interface with its port or an
    /// absolute path.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return Some(Self::Unix(text.into()));
        }
        let address: SocketAddr = text.parse().ok()?;
        address.ip().is_loopback().then_some(Self::Tcp(address))
    }
}

/// What one half of the program counts.
pub(super) trait Source {
    /// Writes the counts as they are now.
    fn measure(&self, out: &mut Exposition);
}

/// Counts of what is over.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Sessions that were opened.
    pub(super) opened: Cell<u64>,
    /// Handshakes that did not lead to a session.
    pub(super) refused: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
}

impl Past {
    /// One more.
    pub(super) fn count(counter: &Cell<u64>) {
        counter.set(counter.get().saturating_add(1));
    }

    /// A session is over.
    pub(super) fn ended(&self, peer: &Peer) {
        let (came, went) = peer.traffic();
        self.bytes_in.set(self.bytes_in.get().saturating_add(came));
        self.bytes_out
            .set(self.bytes_out.get().saturating_add(went));
    }

    /// Writes these and what concerns the sessions that there are now.
    pub(super) fn measure(&self, sessions: &[Peer], out: &mut Exposition) {
        let traffic = || sessions.iter().map(Peer::traffic);
        let came: u64 = traffic().map(|(came, _)| came).sum();
        let went: u64 = traffic().map(|(_, went)| went).sum();
        let count = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        out.family("myclerk_sessions", Kind::Gauge, "Open sessions.");
        out.sample(&[], count);
        let help = "Sessions that were opened.";
        out.family("myclerk_sessions_opened_total", Kind::Counter, help);
        out.sample(&[], self.opened.get());
        let help = "Handshakes, and attempts at one, that did not lead to a session.";
        out.family("myclerk_handshakes_refused_total", Kind::Counter, help);
        out.sample(&[], self.refused.get());
        let help = "Bytes of sealed messages in all sessions.";
        out.family("myclerk_bytes_total", Kind::Counter, help);
        out.sample(
            &[("direction", "in")],
            self.bytes_in.get().saturating_add(came),
        );
        out.sample(
            &[("direction", "out")],
            self.bytes_out.get().saturating_add(went),
        );
    }
}

/// Lets the counts be read for ever. What keeps it from listening is logged, and everything else goes on.
pub(super) async fn serve(listen: Listen, source: Rc<dyn Source>) {
    let result = match &listen {
        Listen::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        Listen::Unix(path) => bind_unix(path).map(Listener::Unix),
    };
    match result {
        Ok(listener) => accept(listener, source).await,
        Err(error) => tracing::warn!(
            %error, ?listen,
            "metrics cannot be read: choose another listen in [metrics] of the settings; when both daemons run here, \
             set client too"
        ),
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // Only a socket that nobody serves any more is in the way.
    let refuses = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let is_socket =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket(path) && Probe::connect(path).is_err_and(refuses) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn accept(listener: Listener, source: Rc<dyn Source>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let source = Rc::clone(&source);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // A client that goes away or takes too long is no concern of anybody.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &*source)).await;
                });
                tokio::time::sleep(PACE).await;
            }
            Err(error) => {
                tracing::debug!(%error, "no connection for metrics");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: impl Stream, source: &dyn Source) -> io::Result<()> {
    let verdict = match read_head(&mut stream).await? {
        Some(head) => judge(&head),
        None => Err("431 Request Header Fields Too Large"),
    };
    let (status, body) = match verdict {
        Ok(()) => {
            let mut out = Exposition::default();
            source.measure(&mut out);
            ("200 OK", out.finish())
        }
        Err(status) => (status, format!("{status}\n")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// A request up to its empty line; `None` when that does not come within [`HEAD`] bytes.
async fn read_head(stream: &mut impl Stream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::with_capacity(HEAD);
    while head.len() < HEAD {
        let left = u64::try_from(HEAD - head.len()).unwrap_or(0);
        if (&mut *stream).take(left).read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// Whether the counts are asked for; else with which status it is refused.
fn judge(head: &[u8]) -> Result<(), &'static str> {
    const BAD: &str = "400 Bad Request";
    let head = std::str::from_utf8(head).map_err(|_| BAD)?;
    let mut lines = head.split("\r\n");
    let request: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = *request else {
        return Err(BAD);
    };
    if !version.starts_with("HTTP/1.") {
        return Err(BAD);
    }
    // A page in a browser can reach loopback by a name of its own, but cannot lie about that name.
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(BAD)?;
        if name.eq_ignore_ascii_case("host") && !is_local(value.trim()) {
            return Err("403 Forbidden");
        }
    }
    if method != "GET" {
        return Err("405 Method Not Allowed");
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if path == "/metrics" {
        Ok(())
    } else {
        Err("404 Not Found")
    }
}

fn is_local(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return address.is_loopback();
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.is_empty() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests;
