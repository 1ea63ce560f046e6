//! The real binary, alone and with a daemon's control socket played by the test.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod alone;
mod asking;
mod generated;
#[path = "../support/home.rs"]
mod support;
