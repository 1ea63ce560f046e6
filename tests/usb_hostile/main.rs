//! Peers and devices that mean harm, against both halves of USB: what they say reaches neither
//! kernel, and costs no more memory than what they may have outstanding.
#![cfg(test)]

mod client;
mod descriptions;
mod device;
#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;
mod memory;
mod server;
