//! Both halves of SPI, over fake chips and a session in memory. The kernel's side of the character
//! device is played byte by byte.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "spi/chip.rs"]
mod chip;
#[path = "spi/hostile.rs"]
mod hostile;
#[path = "spi/lent.rs"]
mod lent;
#[path = "spi/messages.rs"]
mod messages;
#[path = "spi/outage.rs"]
mod outage;
#[path = "spi/owner.rs"]
mod owner;
#[path = "spi/program.rs"]
mod program;
#[path = "spi/rig.rs"]
mod rig;
#[path = "spi/settings.rs"]
mod settings;
