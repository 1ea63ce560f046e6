//! Real chips, through sysfs.

use nix::errno::Errno;

use super::{PwmChannel, PwmHost, State};
use crate::kernel::pwm::{Channel, Chips};

/// Where the kernel shows its chips.
pub const ROOT: &str = "/sys/class/pwm";

/// The chips of this machine.
#[derive(Clone, Debug)]
pub struct SysfsPwm {
    chips: Chips,
}

impl Default for SysfsPwm {
    fn default() -> Self {
        Self {
            chips: Chips::new(ROOT),
        }
    }
}

impl PwmHost for SysfsPwm {
    fn channels(&self, place: &str) -> Result<u32, Errno> {
        self.chips.channels(place)
    }

    fn open(&self, place: &str, channel: u32, ours: bool) -> Result<Box<dyn PwmChannel>, Errno> {
        Ok(Box::new(if ours {
            self.chips.exported(place, channel)
        } else {
            self.chips.export(place, channel)?
        }))
    }
}

impl PwmChannel for Channel {
    fn configure(&self, period_ns: u64, inversed: bool) -> Result<(), Errno> {
        self.configure(period_ns, inversed)
    }

    fn run(&self, duty_ns: u64) -> Result<(), Errno> {
        self.run(duty_ns)
    }

    fn stop(&self) -> Result<(), Errno> {
        self.stop()
    }

    fn state(&self) -> Result<State, Errno> {
        self.state()
    }

    fn unexport(&self) -> Result<(), Errno> {
        self.unexport()
    }
}
