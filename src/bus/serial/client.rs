//! The half that makes a remote serial port a tty, by CUSE.
//!
//! CUSE gives a character device and nothing of a tty. [`termios`], [`structs`] and [`ioctl`] are the
//! kernel's structures and numbers, [`ldisc`] is the line discipline; none of them does any I/O.
//! [`tty`] decides: calls of programs and what the owner sends go in, answers and requests come out,
//! and nothing in it waits. [`pump`] joins it with the [device](crate::bus::chardev) and the session.

pub mod asks;
mod attach;
pub mod incoming;
pub mod ioctl;
pub mod ldisc;
pub mod name;
pub mod outage;
pub mod pulse;
pub mod pump;
pub mod settings;
pub mod structs;
pub mod termios;
pub mod tty;

pub use attach::PRESENTER;
