//! The tty of a remote serial port, with the test as the kernel and as the owner.

mod ending;
mod lines;
mod opening;
mod pair;
mod reading;
mod rig;
mod settings;
mod writing;
