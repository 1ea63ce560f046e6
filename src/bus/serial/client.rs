//! The half that makes a remote serial port a tty, by CUSE.

pub mod ldisc;
pub mod termios;
