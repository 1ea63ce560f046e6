//! The USB client half as a whole: these tests play the kernel at the other end of the socket and
//! the server behind the outlet, or put the server half with a fake device there.
#![cfg(test)]

mod attaching;
mod ending;
mod isochronous;
mod kernel;
mod late;
mod machine;
mod moving;
mod outage;
mod pair;
mod resets;
mod rig;
#[path = "../session_support/mod.rs"]
mod session_support;
mod sizes;
mod streaming;
mod transfers;
