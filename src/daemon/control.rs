//! The control socket: how the short-lived subcommands talk to a running daemon.
//!
//! `/run/myclerk/server.sock` and `client.sock`, one JSON object a line ([`message`]), one request
//! a connection. The daemon answers with any number of progress lines and questions and one final
//! line. The asker takes its request back by closing the connection.

pub mod connect;
pub mod listen;
pub mod message;

use std::path::{Path, PathBuf};

pub use connect::{Connection, Incoming};
pub use listen::{ControlHandler, ControlListener, Conversation};
pub use message::{ControlError, ErrorKind, Reply, Request};

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// `myclerk serve`, on the machine that has the hardware.
    Server,
    /// `myclerk client`, on the machine that wants it.
    Client,
}

impl Side {
    /// Its socket in the run directory.
    pub fn socket(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Self::Server => "server.sock",
            Self::Client => "client.sock",
        })
    }

    /// The file whose lock says that this daemon is running.
    pub fn lock(self, run_dir: &Path) -> PathBuf {
        run_dir.join(match self {
            Self::Server => "server.lock",
            Self::Client => "client.lock",
        })
    }

    /// The subcommand that starts it.
    pub const fn subcommand(self) -> &'static str {
        match self {
            Self::Server => "serve",
            Self::Client => "client",
        }
    }

    /// The word for it in messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

#[cfg(test)]
mod tests;
