//! The running programs: configuration, stored state, the control socket, logging.

pub mod admin;
pub mod client;
pub mod config;
pub mod control;
pub mod enrol;
pub mod handshake;
pub mod logging;
pub mod node;
pub mod peer;
pub mod serve;
pub mod state;
pub mod system;
