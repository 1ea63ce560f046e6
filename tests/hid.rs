//! Both halves of an input device, over a session in memory.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests end where something is not as it must be"
)]

#[path = "hid/rig.rs"]
mod rig;

#[path = "hid/back.rs"]
mod back;
#[path = "hid/ending.rs"]
mod ending;
#[path = "hid/events.rs"]
mod events;
#[path = "hid/hostile.rs"]
mod hostile;
#[path = "hid/outage.rs"]
mod outage;
