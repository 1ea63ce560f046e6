//! The USB client half as a whole: these tests play the kernel at the other end of the socket and
//! the server behind the outlet, or put the server half with a fake device there.
#![cfg(test)]

mod attaching;
mod ending;
mod kernel;
mod machine;
mod moving;
mod pair;
mod resets;
mod rig;
mod transfers;
