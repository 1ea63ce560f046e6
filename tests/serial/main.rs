//! The server half of serial ports, against a fake port and against pseudo-terminals: what a peer asks
//! on its stream, what the port is asked to do, what the peer is told.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod bench;
mod data;
mod ending;
mod flow;
mod hostile;
mod lines;
mod opening;
mod pty;
mod sequence;
mod stream;
