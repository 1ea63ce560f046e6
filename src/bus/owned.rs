//! What the halves that own hardware have in common: how a present device is told, what a peer asks
//! for, what it is given, how its use ends.

use core::future::Future;
use core::pin::Pin;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BusStream, Refused};
use crate::wire::msgpack::Value;
use crate::wire::opcode::Opcode;

/// Writes the answer of a list operation.
pub type Listing = fn(&[(Present, u8)]) -> Vec<u8>;

/// A stream being served.
pub type Serving = Pin<Box<dyn Future<Output = End>>>;

/// The payload of an answer.
pub type Answer = Result<Vec<u8>, Refused>;

/// One bus as the owner's daemon sees it: its line in [`super::OWNED`].
pub struct Owned {
    /// The class of its devices, with which their ids begin.
    pub class: &'static str,
    /// Several streams may use one device at a time.
    pub shared: bool,
    /// The operations that open a stream of a device.
    pub openers: &'static [Opcode],
    /// The operations on stream 0 that name one device.
    pub calls: &'static [Opcode],
    /// The operation that lists its devices, and how its answer is written: each device with its state
    /// (profile 19.2).
    pub list: Option<(Opcode, Listing)>,
    /// Looks for devices; may wait.
    pub look: fn() -> io::Result<Vec<Present>>,
    /// What one of `openers` or `calls` asks for.
    pub wanted: fn(Opcode, &[u8]) -> Result<Wanted, Refused>,
    /// Answers the opening request and serves its stream until that ends; the device is as it was
    /// before when this is done. Dropping it half-way leaves the device as safe as can be.
    pub serve: fn(Grant, BusStream) -> Serving,
    /// Performs one of `calls`; may wait.
    pub call: fn(&Present, &Caller, Opcode, &[u8]) -> Answer,
}

/// Who asks: a call of a session. What it holds ends with the session.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    session_over: Arc<AtomicBool>,
    given_up: Arc<AtomicBool>,
}

impl Caller {
    /// The next call of the same session.
    #[must_use]
    pub fn next(&self) -> Self {
        Self {
            session_over: Arc::clone(&self.session_over),
            given_up: Arc::default(),
        }
    }

    /// The same session, not only the same peer.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.session_over, &other.session_over)
    }

    /// Nobody waits for the answer any more: what has not begun is not to begin.
    pub fn has_left(&self) -> bool {
        self.session_over.load(Ordering::Relaxed) || self.given_up.load(Ordering::Relaxed)
    }

    /// The session is over.
    pub fn leave(&self) {
        self.session_over.store(true, Ordering::Relaxed);
    }

    /// The peer gave this call up.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

/// A device of this machine, as a look at its hardware finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// Stable id, with the bus in front: `can:can0` (profile 19).
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What the kernel calls it now: `can0`, `ttyUSB0`, `event3`, `gpiochip0`, `pwmchip0`.
    pub place: String,
    /// Why it is not given away.
    pub hazard: Option<Hazard>,
    /// What else is known, for `DEVICE_INFO`.
    pub props: BTreeMap<String, Value>,
}

/// A reason not to give a device away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// As the end of "it is not offered because …".
    pub reason: String,
    /// False where even force does not help.
    pub forcible: bool,
}

/// What a request that opens a stream asks for; all that the daemon has to know of its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The device, as the peer names it; not yet looked at.
    pub device: String,
    /// The stream lets the peer change something: the right to write is needed, else to read.
    pub write: bool,
}

/// A device for a peer, once it is decided that the peer may have it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The number of the request that opens the stream; the bus half answers it.
    pub corr: u32,
    /// Its operation.
    pub opcode: Opcode,
    /// Its parameters.
    pub payload: Vec<u8>,
    /// The device.
    pub present: Present,
    /// The peer may change something, not only look.
    pub write: bool,
    /// The log has heard enough of this peer for now.
    pub quiet: bool,
}

/// How the use of a device ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It never began.
    Refused(Refused),
    /// The peer gave the device back.
    Detached,
    /// The peer, or the session with it, went away.
    PeerLeft,
    /// The device was unplugged.
    DeviceGone,
    /// This program, or a kernel interface, failed.
    Failed,
}

/// Where the kernel's file systems are mounted.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Normally `/sys`.
    pub sys: PathBuf,
    /// Normally `/proc`.
    pub proc: PathBuf,
    /// Normally `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
        }
    }
}
