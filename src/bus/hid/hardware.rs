//! What both halves need of the kernel; implemented by evdev and uinput ([`real`]) and by the fakes
//! of the tests.
//!
//! An owner's device has two faces. [`InputDevice`] never waits and gives events. [`InputPort`] may
//! wait, for an upload of an effect that the hardware takes its time with, and is used on threads
//! that may.

pub mod real;

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use crate::kernel::evdev::{Description, Effect, Event, Snapshot};
use crate::kernel::uinput::Wish;

/// A device of this machine while it is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn InputDevice>>> + 'a>>;

/// Opens devices of this machine.
pub trait InputHost {
    /// Opens the device that the kernel calls so, `event3`.
    ///
    /// # Errors
    /// `NotFound` when it was unplugged, or another I/O error.
    fn open<'a>(&'a self, place: &str) -> Opening<'a>;
}

/// The face of an open device that never waits.
pub trait InputDevice {
    /// Appends the events that are there; ready when there are some.
    ///
    /// # Errors
    /// `ENODEV` when the device was unplugged.
    fn poll_events(
        &self,
        context: &mut Context<'_>,
        events: &mut Vec<Event>,
    ) -> Poll<Result<(), Errno>>;

    /// The other face.
    fn port(&self) -> Arc<dyn InputPort>;
}

/// The face of an open device whose calls may wait. The errors are those of the calls of
/// [`crate::kernel::evdev::Evdev`] of the same names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait InputPort: Send + Sync {
    /// What it can do.
    fn description(&self) -> Result<Description, Errno>;
    /// What state it is in.
    fn snapshot(&self, of: &Description) -> Result<Snapshot, Errno>;
    /// Takes it away from everybody else on this machine, or gives it back.
    fn grab(&self, on: bool) -> Result<(), Errno>;
    /// The other programs of this machine that have it open, as far as this one may see.
    fn programs(&self) -> Vec<String>;
    /// Sets LEDs, sounds, the repetition; plays effects.
    fn write(&self, events: &[Event]) -> Result<(), Errno>;
    /// Gives it an effect.
    fn upload(&self, effect: Effect) -> Result<i16, Errno>;
    /// Takes an effect back.
    fn erase(&self, id: i16) -> Result<(), Errno>;
}

/// A device of ours while it is being made.
pub type Making<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Made>>> + 'a>>;

/// Makes devices.
pub trait Maker {
    /// Makes one, at that place in the machine.
    ///
    /// # Errors
    /// As [`crate::kernel::uinput::Uinput::create`].
    fn make(&self, of: Description, phys: String) -> Making<'_>;
}

/// A device of ours. The errors are those of the calls of [`crate::kernel::uinput::Uinput`] of the
/// same names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait Made {
    /// The node of its events, `/dev/input/event7`.
    fn node(&self) -> String;
    /// Appends what its programs want; ready when there is something.
    fn poll_wishes(
        &self,
        context: &mut Context<'_>,
        wishes: &mut Vec<Wish>,
    ) -> Poll<Result<(), Errno>>;
    /// It does this.
    fn write(&self, events: &[Event]) -> Result<(), Errno>;
    /// Answers [`Wish::Upload`].
    fn uploaded(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno>;
    /// Answers [`Wish::Erase`].
    fn erased(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno>;
    /// Takes it away; done when nobody sees it any more.
    fn remove(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>>;
}
