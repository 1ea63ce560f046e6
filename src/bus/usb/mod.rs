//! USB (profile 19.4): usbfs on the side that has the device, vhci-hcd on the side that uses it.

pub mod client;
pub mod descriptor;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod hostuse;
pub mod op;
pub mod server;
