//! What a node remembers: its key, its family, members, access rules, peers.
//!
//! One directory, mode 0700, by default `/var/lib/myclerk`. Secrets stand alone in files of mode
//! 0600 as 64 hexadecimal digits; everything else is TOML that a person can read. Files are
//! replaced whole (written aside, synced, renamed), and a file that cannot be understood is never
//! overwritten.
//!
//! The daemon and the subcommands may write at the same time: reading is free, writing needs the
//! directory's lock ([`StateDir::lock`]), which also covers the reading that a change is based on.

mod clock;
mod fence;
mod files;
mod identity;
mod invite;
mod members;
mod peers;
mod policy;
mod psk;
mod root;
mod titles;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

pub use clock::BUILD_FLOOR;
pub use identity::{Family, Identity, Membership};
pub use invite::{Invitation, InviteError, MAX_ADDRESSES};
pub use members::{Member, Members};
pub use peers::{Peer, Peers};
pub use psk::FamilyPsk;
pub use root::{Created, FamilyRoot, Issued, Revocation};
pub use titles::Titles;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// This node has no identity yet.
    #[error("this machine is not set up yet: there is no identity in {}", .0.display())]
    NotSetUp(PathBuf),
    /// The family's root key is not on this node.
    #[error("this machine does not hold the family's root key ({} is absent)", .0.display())]
    NoRoot(PathBuf),
    /// It is there and means nothing.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A secret that others can read is no secret.
    #[error("{} may be read by others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file operation failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The change would break a rule of the state.
    #[error("{0}")]
    Rule(String),
}

impl StateError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    fn damaged(path: &Path, why: &dyn ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// The directory, for reading.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The state at this path; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory (0700) if it is absent.
    ///
    /// # Errors
    /// [`StateError::Io`], and [`StateError::Exposed`] when it exists and others may enter it.
    pub fn create(&self) -> Result<(), StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(StateError::io("make the directory", &self.path))?;
        files::check_private(&self.path)
    }

    /// Looks whether the directory is there and nobody else's business.
    ///
    /// # Errors
    /// [`StateError::Io`] and [`StateError::Exposed`].
    pub fn check(&self) -> Result<(), StateError> {
        files::check_private(&self.path)
    }

    /// Takes the directory's lock and waits for it if somebody else is writing, which is short. The
    /// lock ends with the value.
    ///
    /// # Errors
    /// [`StateError::Io`], for instance when the directory does not exist or is not this user's.
    pub fn lock(&self) -> Result<LockedState, StateError> {
        let path = self.path.join("lock");
        let io = || StateError::io("lock", &path);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(io())?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io()(errno.into()))?;
        Ok(LockedState {
            state: self.clone(),
            _lock: lock,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The directory, for writing. Methods that change something are here.
#[derive(Debug)]
pub struct LockedState {
    state: StateDir,
    _lock: Flock<File>,
}

impl Deref for LockedState {
    type Target = StateDir;

    fn deref(&self) -> &StateDir {
        &self.state
    }
}

#[cfg(test)]
mod tests;
