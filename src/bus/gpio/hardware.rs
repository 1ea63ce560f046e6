//! What the server half needs of GPIO chips; implemented by the character device
//! ([`cdev::CdevHost`]) and by the fake chips of the tests.
//!
//! Chips behind slow buses make every call wait, so they are made on threads that may. Only
//! [`GpioLines::poll_events`] never waits.

pub mod cdev;

use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use super::op::{Bias, Direction, Drive, Edge};

pub use crate::kernel::gpio_cdev::ChipInfo;

/// Opens chips.
pub trait GpioHost: Send + Sync {
    /// The chip that the kernel calls `gpiochipN`.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `PermissionDenied`, or another I/O error.
    fn open(&self, place: &str) -> io::Result<Arc<dyn GpioChip>>;
}

/// An open chip. The errors are those of the calls of [`crate::kernel::gpio_cdev::Chip`] of the same
/// names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait GpioChip: Send + Sync {
    /// What it says of itself.
    fn info(&self) -> Result<ChipInfo, Errno>;
    /// What is known of one line.
    fn line_info(&self, line: u32) -> Result<KernelLine, Errno>;
    /// Takes lines.
    fn request(&self, lines: &[u32], setup: &Setup) -> Result<Arc<dyn GpioLines>, Errno>;
}

/// Requested lines; given back when this is dropped. Bit k of a mask is the k-th of them, and the
/// errors are those of the calls of [`crate::kernel::gpio_cdev::Lines`] of the same names.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
pub trait GpioLines: Send + Sync {
    /// The values of the lines of `mask`.
    fn get(&self, mask: u64) -> Result<u64, Errno>;
    /// Sets the values of the lines of `mask`.
    fn set(&self, mask: u64, bits: u64) -> Result<(), Errno>;
    /// Uses the lines in another way, without giving them back in between.
    fn configure(&self, setup: &Setup) -> Result<(), Errno>;
    /// The oldest events that were not taken yet. An error other than `ENODEV`, the chip being gone,
    /// is not expected.
    fn poll_events(&self, context: &mut Context<'_>) -> Poll<Result<Vec<LineEvent>, Errno>>;
}

/// What is known of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLine {
    /// Its name, empty if it has none.
    pub name: String,
    /// Who has it, as it calls itself; `None` when nobody has.
    pub consumer: Option<String>,
    /// Its direction now.
    pub dir: Direction,
    /// Its bias, [`Bias::AsIs`] where nobody set one.
    pub bias: Bias,
    /// How it is driven as an output.
    pub drive: Drive,
    /// Active means low.
    pub low: bool,
}

/// How lines are used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Inputs or outputs.
    pub dir: Direction,
    /// Values that outputs begin with.
    pub values: u64,
    /// What pulls them.
    pub bias: Bias,
    /// How outputs are driven.
    pub drive: Drive,
    /// Active means low.
    pub low: bool,
    /// The inputs whose changes are told.
    pub watched: u64,
    /// Which changes of those.
    pub edge: Edge,
    /// Microseconds of debouncing for each input; a line that is missing here has none.
    pub debounce_us: Vec<u32>,
}

/// An input that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineEvent {
    /// Which of the requested lines.
    pub index: u8,
    /// From inactive to active, or the other way.
    pub rising: bool,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Counts from 1 whatever the line; a gap shows that the kernel dropped events.
    pub seqno: u32,
}
