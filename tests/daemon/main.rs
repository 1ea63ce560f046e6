//! Real daemons over TCP on this machine: the whole life of a family, strangers at the door,
//! members and hubs that break the rules.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod access;
mod audit;
mod auto;
mod buses;
mod echo;
mod exposition;
mod greedy;
#[allow(
    dead_code,
    reason = "which helpers are unused differs between test binaries"
)]
#[path = "../support/home.rs"]
mod home;
mod hotplug;
mod hub;
mod joining;
mod life;
mod link;
mod locks;
mod machine;
mod member;
mod metrics;
mod misbehaving;
mod outage;
mod status;
mod strangers;
mod subscribe;
mod wire;
