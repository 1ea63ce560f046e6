//! The 1-Wire bus (profile 19.9): the w1 netlink connector on the side that has a bus, an emulated
//! DS2490 on vhci on the side that uses it, to which the kernel's own drivers bind.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
