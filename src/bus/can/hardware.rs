//! What both halves need of CAN interfaces; implemented by the kernel's ([`kernel::KernelCan`]) and
//! by those of the tests.
//!
//! [`CanHost`] may wait for the kernel and is used on threads that may, except for
//! [`CanHost::open`]. [`CanPort`] never waits.

pub mod kernel;

use core::task::{Context, Poll};
use std::io;

use nix::errno::Errno;

use crate::kernel::can::{Filter, Frame, Kind, Link, Options, Received, Timing};

/// What is set of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Timing of classic frames.
    pub timing: Timing,
    /// Timing of the data of FD frames.
    pub data: Option<Timing>,
    /// Which `CAN_CTRLMODE_*` bits are set.
    pub mask: u32,
    /// To what.
    pub modes: u32,
}

/// The interfaces of a machine. The errors are those of the calls of [`crate::kernel::can::Links`] of
/// the same names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait CanHost: Send + Sync {
    /// All of them.
    fn list(&self) -> io::Result<Vec<Link>>;
    /// One by its name.
    fn find(&self, name: &str) -> io::Result<Link>;
    /// Makes a virtual one, which is down.
    fn create(&self, name: &str, kind: &Kind, mtu: u32) -> io::Result<()>;
    /// Removes a virtual one.
    fn delete(&self, index: u32) -> io::Result<()>;
    /// Names its owner.
    fn set_alias(&self, index: u32, alias: &str) -> io::Result<()>;
    /// Lets it take part in traffic, or not.
    fn set_up(&self, index: u32, up: bool) -> io::Result<()>;
    /// Sets up the controller of one that is down.
    fn configure(&self, index: u32, settings: &Settings) -> io::Result<()>;
    /// Opens it for frames; does not wait.
    fn open(&self, index: u32, options: Options) -> io::Result<Box<dyn CanPort>>;
}

/// An interface that is open for frames. The errors are those of the calls of
/// [`crate::kernel::can::CanSocket`] of the same names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait CanPort {
    /// Lets in only these frames.
    fn set_filters(&self, filters: &[Filter]) -> io::Result<()>;
    /// Appends frames that have arrived, at least one.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        frames: &mut Vec<Received>,
    ) -> Poll<Result<(), Errno>>;
    /// Hands a frame to the interface's queue.
    fn poll_send(&self, context: &mut Context<'_>, frame: &Frame) -> Poll<Result<(), Errno>>;
}
