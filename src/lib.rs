//! Hardware plugged into one Linux machine, used on another as if it were plugged in there.
//!
//! The layers, lowest first; a lower one never names a higher one (`docs/architecture.md`):
//! [`wire`], [`session`], [`link`], [`transport`], [`kernel`], [`bus`], [`device`], [`daemon`],
//! [`cli`].

pub mod bus;
pub mod cli;
pub mod daemon;
pub mod device;
pub mod kernel;
pub mod link;
pub mod session;
pub mod transport;
pub mod wire;
