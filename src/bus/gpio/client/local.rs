//! The simulated chip as the client half sees it; the kernel's is in [`super::sim`].

use core::future::Future;
use core::pin::Pin;
use std::io;

use crate::bus::gpio::op::{Bias, Direction, Drive, Edge};

/// What the client half does to the chip.
pub trait Sim {
    /// What it is on this machine: its device node and its label.
    fn files(&self) -> Vec<String>;

    /// Gives a line the level that it has while it is an input.
    ///
    /// # Errors
    /// The chip is gone.
    fn set_pull(&self, line: u32, high: bool) -> io::Result<()>;

    /// The level of a line.
    ///
    /// # Errors
    /// The chip is gone.
    fn value(&self, line: u32) -> io::Result<bool>;

    /// Takes the chip away, also from under its users. Done once nothing of it is left.
    fn remove(&self) -> Pin<Box<dyn Future<Output = io::Result<()>>>>;
}

/// How a program of this machine uses a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineUse {
    /// Who drives it.
    pub dir: Direction,
    /// What pulls it.
    pub bias: Bias,
    /// How it is driven as an output.
    pub drive: Drive,
    /// Active means low.
    pub low: bool,
    /// The edges that the program waits for.
    pub edge: Edge,
    /// Microseconds for which an input must be stable; 0 is no debouncing.
    pub debounce_us: u32,
}

impl LineUse {
    /// Whether the owner's line serves one use as well as the other. The edges do not matter: of
    /// inputs all are asked for.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        Self {
            edge: other.edge,
            ..*self
        } == *other
    }
}

/// Something that happened to a line of the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is used like this from now on; `None` by nobody.
    Used(Option<LineUse>),
    /// It was set to a level, not regarding active-low.
    Set(bool),
    /// It was made an input or an output. That also happens when one that is driven to one level
    /// only is set to the other.
    Direction {
        /// An input.
        input: bool,
    },
    /// Edge detection has read it.
    Read,
    /// Some of the above were missed.
    Missed,
}

/// A [`Change`] and the number of its line.
pub type LineChange = (u32, Change);
