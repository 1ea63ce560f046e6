//! The tty of a remote serial port, with the test as the kernel and as the owner.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod ending;
mod lines;
mod opening;
mod outage;
mod pair;
mod reading;
mod rig;
mod settings;
mod writing;
