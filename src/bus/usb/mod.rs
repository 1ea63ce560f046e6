//! USB (profile 19.4): usbfs on the side that has the device, vhci-hcd on the side that uses it.

pub mod client;
pub mod op;
