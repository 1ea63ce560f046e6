//! Both halves of I2C, over chips on a fake wire and a session in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "i2c/cuse.rs"]
mod cuse;
#[path = "i2c/kernel.rs"]
mod kernel;
#[path = "i2c/owner.rs"]
mod owner;
#[path = "i2c/rig.rs"]
mod rig;
