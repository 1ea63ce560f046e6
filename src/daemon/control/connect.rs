//! The asker's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::Side;
use super::message::{
    Answer, ControlError, Line, Opening, Progress, Question, Reply, Request, VERSION,
};

/// The longest line taken from a daemon, in bytes.
const MAX_LINE: u64 = 8 * 1024 * 1024;

/// Why there was no conversation with a daemon.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens there.
    #[error("the {} daemon is not running", .side.word())]
    NotRunning {
        /// Which daemon.
        side: Side,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The socket exists, this user may not use it.
    #[error("no permission to use {}", .path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon closed the connection before its last line.
    #[error("the {} daemon ended while it was working on this", .0.word())]
    Ended(Side),
    /// Reading or writing failed.
    #[error("cannot talk to the {} daemon", side.word())]
    Io {
        /// Which daemon.
        side: Side,
        /// Why not.
        source: io::Error,
    },
    /// A line from the daemon is not understood: it is of another version.
    #[error("cannot understand the {} daemon: it seems to be of another version", side.word())]
    Version {
        /// Which daemon.
        side: Side,
        /// What is wrong with the line.
        source: serde_json::Error,
    },
}

/// What the daemon says.
#[derive(Debug)]
pub enum Incoming {
    /// News; more follows.
    Progress(Progress),
    /// To be answered with [`Connection::answer`]; more follows.
    Question(Question),
    /// The end.
    Done(Result<Reply, ControlError>),
}

/// One request to a daemon. Dropping it takes the request back.
pub struct Connection {
    side: Side,
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Connection {
    /// Connects and sends the request.
    ///
    /// # Errors
    /// [`AskError::NotRunning`] when nobody listens.
    pub async fn open(run_dir: &Path, side: Side, request: &Request) -> Result<Self, AskError> {
        let path = side.socket(run_dir);
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) => return Err(connect_error(side, path, error)),
        };
        let (read, write) = stream.into_split();
        let mut this = Self {
            side,
            read: BufReader::new(read),
            write,
        };
        let request = serde_json::to_value(request).map_err(|error| this.io(error.into()))?;
        this.send(&Opening {
            version: VERSION,
            request,
        })
        .await?;
        Ok(this)
    }

    /// The next thing the daemon says; not to be called after [`Incoming::Done`].
    ///
    /// # Errors
    /// [`AskError::Ended`] when the daemon is gone.
    pub async fn next(&mut self) -> Result<Incoming, AskError> {
        let mut line = Vec::new();
        let read = (&mut self.read)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await;
        read.map_err(|error| self.io(error))?;
        if line.last() != Some(&b'\n') {
            return Err(AskError::Ended(self.side));
        }
        let line = serde_json::from_slice(&line).map_err(|source| AskError::Version {
            side: self.side,
            source,
        })?;
        Ok(match line {
            Line::Progress(progress) => Incoming::Progress(progress),
            Line::Question(question) => Incoming::Question(question),
            Line::Reply(reply) => Incoming::Done(Ok(*reply)),
            Line::Error(error) => Incoming::Done(Err(error)),
        })
    }

    /// Answers the last question.
    ///
    /// # Errors
    /// [`AskError::Io`] when the daemon is gone.
    pub async fn answer(&mut self, yes: bool) -> Result<(), AskError> {
        self.send(&Answer { yes }).await
    }

    async fn send(&mut self, value: &impl serde::Serialize) -> Result<(), AskError> {
        let mut text = serde_json::to_vec(value).map_err(|error| self.io(error.into()))?;
        text.push(b'\n');
        self.write
            .write_all(&text)
            .await
            .map_err(|error| self.io(error))
    }

    fn io(&self, source: io::Error) -> AskError {
        AskError::Io {
            side: self.side,
            source,
        }
    }
}

fn connect_error(side: Side, path: PathBuf, error: io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning { side, path }
        }
        io::ErrorKind::PermissionDenied => AskError::Permission { path },
        _ => AskError::Io {
            side,
            source: error,
        },
    }
}
