//! What the server half needs of PWM chips; implemented by sysfs ([`sysfs::SysfsPwm`]) and by the fake
//! chips of the tests. All of it may wait for the hardware.

pub mod sysfs;

use nix::errno::Errno;

pub use crate::kernel::pwm::State;

/// The chips of a machine.
#[expect(clippy::missing_errors_doc, reason = "those of kernel::pwm")]
pub trait PwmHost: Send + Sync {
    /// How many channels the chip has that the kernel calls `pwmchipN`.
    fn channels(&self, place: &str) -> Result<u32, Errno>;
    /// Takes a channel; with `ours` it is one that was taken before and never given back.
    fn open(&self, place: &str, channel: u32, ours: bool) -> Result<Box<dyn PwmChannel>, Errno>;
}

/// A channel that was taken. It stays so when this is dropped.
#[expect(clippy::missing_errors_doc, reason = "those of kernel::pwm::Channel")]
pub trait PwmChannel: Send {
    /// Sets period and polarity; the channel is off afterwards.
    fn configure(&self, period_ns: u64, inversed: bool) -> Result<(), Errno>;
    /// Sets the duty cycle and lets the channel run.
    fn run(&self, duty_ns: u64) -> Result<(), Errno>;
    /// Stops the channel.
    fn stop(&self) -> Result<(), Errno>;
    /// What the channel does.
    fn state(&self) -> Result<State, Errno>;
    /// Gives the channel back.
    fn unexport(&self) -> Result<(), Errno>;
}
