//! The running programs: configuration, stored state, the control socket, logging, sessions.

mod addresses;
pub mod admin;
pub mod audit;
mod capture;
pub mod client;
pub mod config;
pub mod control;
pub mod enrol;
pub mod guardian;
pub mod handshake;
pub mod logging;
pub mod metrics;
pub mod node;
mod notify;
pub mod peer;
pub mod serve;
mod signals;
pub mod state;
mod suspend;
pub mod system;
