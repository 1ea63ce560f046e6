//! Input devices (stream type 3 of profile 19.3): evdev on the side that has the device, uinput on
//! the side that uses it.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
pub mod state;
mod timebase;
