//! CAN (profile 19.8): a `SocketCAN` interface on the side that has the bus, vcan or vxcan on the
//! side that uses it.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
mod waiting;
