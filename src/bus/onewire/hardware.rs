//! What the server half needs of 1-Wire buses; implemented by netlink ([`netlink::NetlinkHost`]) and by
//! the fake buses of the tests. All of it may wait for the bus.

pub mod netlink;

use nix::errno::Errno;

use super::op::Rom;

/// Something that is done on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A reset pulse.
    Reset,
    /// Bytes are written.
    Write(&'a [u8]),
    /// So many bytes are read.
    Read(usize),
}

/// What came of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Some device answered the reset, if there was one and as far as the driver can tell.
    pub present: bool,
    /// All that was read.
    pub data: Vec<u8>,
}

/// The buses of a machine.
pub trait OnewireHost: Send + Sync {
    /// Finds the devices of the bus that the kernel calls `w1_bus_masterN`, or those with an alarm. Their
    /// codes are as the bus gave them: a CRC may be wrong.
    ///
    /// # Errors
    /// `ENODEV` when the bus is gone, `ETIMEDOUT` when the kernel does not get done with it.
    fn search(&self, place: &str, alarm: bool) -> Result<Vec<Rom>, Errno>;

    /// Does these steps with nothing of this machine in between.
    ///
    /// # Errors
    /// As [`OnewireHost::search`].
    fn run(&self, place: &str, steps: &[Step<'_>]) -> Result<Outcome, Errno>;
}
