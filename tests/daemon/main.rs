//! Real daemons over TCP on this machine: the whole life of a family, strangers at the door,
//! members and hubs that break the rules.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod hub;
mod joining;
mod life;
mod machine;
mod member;
mod misbehaving;
mod strangers;
mod wire;
