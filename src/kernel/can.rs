//! `SocketCAN`: frames as the kernel has them, raw sockets, and the network interfaces by rtnetlink.

mod frame;
mod link;
mod netlink;
mod socket;

pub use frame::{Frame, FrameError, MAX_CLASSIC, MAX_FD};
pub use link::{
    ALIAS_MAX, BusState, Controller, Kind, Link, Links, MTU_CLASSIC, MTU_FD, NAME_MAX, Timing,
};
pub use socket::{CanSocket, Filter, MAX_FILTERS, Options, Received, is_supported};
