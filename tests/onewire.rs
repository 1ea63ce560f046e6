//! Both halves of 1-Wire, over fake chips and a session in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "onewire/bridged.rs"]
mod bridged;
#[path = "onewire/hostile.rs"]
mod hostile;
#[path = "onewire/owner.rs"]
mod owner;
#[path = "onewire/rig.rs"]
mod rig;
