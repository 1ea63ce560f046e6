//! GPIO lines (profile 19.6): the v2 character device on the side that has the chip, gpio-sim on
//! the side that uses it.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
