//! The real binary, alone and with a daemon's control socket played by the test.

mod alone;
mod asking;
mod support;
