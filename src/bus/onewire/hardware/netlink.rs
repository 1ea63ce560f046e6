//! Real buses, through the kernel's w1 netlink connector.

use std::time::Duration;

use nix::errno::Errno;

use super::{OnewireHost, Outcome, Step};
use crate::bus::onewire::op::Rom;
use crate::kernel::w1::{Command, Connector, Done};

/// How long steps may take. The kernel's own search of a long bus may be under way, or a driver that
/// keeps the bus while a thermometer converts.
const STEPS: Duration = Duration::from_secs(10);
/// How long a search may take.
const SEARCH: Duration = Duration::from_secs(25);

/// The status of a reset that nobody answered: -1.
const NOBODY: u8 = 255;

/// The buses of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetlinkHost;

impl OnewireHost for NetlinkHost {
    fn search(&self, place: &str, alarm: bool) -> Result<Vec<Rom>, Errno> {
        let command = if alarm {
            Command::AlarmSearch
        } else {
            Command::Search
        };
        let done = run(place, &[command], SEARCH)?;
        let found = done.iter().flat_map(|done| done.data.chunks_exact(8));
        Ok(found
            .filter_map(|code| code.try_into().ok().map(Rom))
            .collect())
    }

    fn run(&self, place: &str, steps: &[Step<'_>]) -> Result<Outcome, Errno> {
        let commands = steps.iter().map(|step| {
            Ok(match step {
                Step::Reset => Command::Reset,
                Step::Write(bytes) => Command::Write(bytes),
                Step::Read(count) => {
                    Command::Read(u16::try_from(*count).map_err(|_| Errno::EMSGSIZE)?)
                }
            })
        });
        let commands = commands.collect::<Result<Vec<_>, Errno>>()?;
        let done = run(place, &commands, STEPS)?;
        let mut outcome = Outcome::default();
        for (step, done) in steps.iter().zip(done) {
            match (step, done.status) {
                (Step::Reset, NOBODY) => outcome.present = false,
                (Step::Reset, 0) => outcome.present = true,
                (Step::Write(_) | Step::Read(_), 0) => outcome.data.extend(done.data),
                (_, code) => return Err(Errno::from_raw(i32::from(code))),
            }
        }
        Ok(outcome)
    }
}

fn run(place: &str, commands: &[Command<'_>], timeout: Duration) -> Result<Vec<Done>, Errno> {
    let master = super::super::enumerate::number(place).ok_or(Errno::ENODEV)?;
    // One for each, so that no late answer to a former one is ever in the way.
    let mut connector = Connector::open().map_err(|error| {
        let errno = error.raw_os_error().map(Errno::from_raw);
        errno.unwrap_or(Errno::EIO)
    })?;
    connector.run(master, commands, timeout)
}
