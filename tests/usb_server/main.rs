//! The server half of USB against a fake device: what a peer asks on its stream, what the device
//! is asked to do, what the peer is told.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod attaching;
mod bench;
mod changes;
mod ending;
mod fidelity;
mod hostile;
mod iso;
mod taken;
mod transfers;
