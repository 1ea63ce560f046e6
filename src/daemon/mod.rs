//! The running programs: configuration, stored state, the control socket, logging.

pub mod config;
pub mod control;
pub mod logging;
pub mod state;
