//! The half that has the GPIO chip, over fake chips and a session in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "gpio/ending.rs"]
mod ending;
#[path = "gpio/events.rs"]
mod events;
#[path = "gpio/hostile.rs"]
mod hostile;
#[path = "gpio/lines.rs"]
mod lines;
#[path = "gpio/rig.rs"]
mod rig;
