//! Serial ports (profile 19.5): termios on the side that has the port, a CUSE tty on the side that
//! uses it.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
