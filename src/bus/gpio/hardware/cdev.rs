//! Real chips, through their character devices.

use core::task::{Context, Poll, ready};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use super::{ChipInfo, GpioChip, GpioHost, GpioLines, KernelLine, LineEvent, Setup};
use crate::bus::gpio::op::{Bias, Direction, Drive, Edge, all_lines};
use crate::kernel::gpio_cdev::{Attribute, Chip, Config, Lines, flag};

/// What the kernel tells others about who has a line.
pub const CONSUMER: &str = "myclerk";

/// The chips of this machine.
#[derive(Clone, Debug)]
pub struct CdevHost {
    dev: PathBuf,
}

impl CdevHost {
    /// Chips in that directory, normally `/dev`.
    pub fn new(dev: impl Into<PathBuf>) -> Self {
        Self { dev: dev.into() }
    }
}

impl Default for CdevHost {
    fn default() -> Self {
        Self::new("/dev")
    }
}

impl GpioHost for CdevHost {
    fn open(&self, place: &str) -> io::Result<Arc<dyn GpioChip>> {
        Ok(Arc::new(Chip::open(&self.dev.join(place))?))
    }
}

impl GpioChip for Chip {
    fn info(&self) -> Result<ChipInfo, Errno> {
        self.info()
    }

    fn line_info(&self, line: u32) -> Result<KernelLine, Errno> {
        let info = self.line_info(line)?;
        let is = |flags: u64| info.flags & flags != 0;
        let of = |table: &[(u64, u8)]| {
            let found = table.iter().find(|(flags, _)| is(*flags));
            found.map_or(0, |(_, code)| *code)
        };
        let bias = of(&[
            (flag::BIAS_DISABLED, Bias::Disabled.into()),
            (flag::BIAS_PULL_UP, Bias::PullUp.into()),
            (flag::BIAS_PULL_DOWN, Bias::PullDown.into()),
        ]);
        let drive = of(&[
            (flag::OPEN_DRAIN, Drive::OpenDrain.into()),
            (flag::OPEN_SOURCE, Drive::OpenSource.into()),
        ]);
        let dir = of(&[(flag::OUTPUT, Direction::Output.into())]);
        Ok(KernelLine {
            name: info.name,
            consumer: is(flag::USED).then_some(info.consumer),
            dir: Direction::try_from(dir).unwrap_or_default(),
            bias: Bias::try_from(bias).unwrap_or_default(),
            drive: Drive::try_from(drive).unwrap_or_default(),
            low: is(flag::ACTIVE_LOW),
        })
    }

    fn request(&self, lines: &[u32], setup: &Setup) -> Result<Arc<dyn GpioLines>, Errno> {
        let requested = self.request(lines, CONSUMER, &config(setup, lines.len()))?;
        Ok(Arc::new(Requested {
            requested,
            lines: lines.to_vec(),
        }))
    }
}

/// Requested lines, and their numbers.
struct Requested {
    requested: Lines,
    lines: Vec<u32>,
}

impl GpioLines for Requested {
    fn get(&self, mask: u64) -> Result<u64, Errno> {
        self.requested.get(mask)
    }

    fn set(&self, mask: u64, bits: u64) -> Result<(), Errno> {
        self.requested.set(mask, bits)
    }

    fn configure(&self, setup: &Setup) -> Result<(), Errno> {
        self.requested.configure(&config(setup, self.lines.len()))
    }

    fn poll_events(&self, context: &mut Context<'_>) -> Poll<Result<Vec<LineEvent>, Errno>> {
        let events = ready!(self.requested.poll_events(context))?;
        let index = |offset: u32| self.lines.iter().position(|line| *line == offset);
        let told = events.into_iter().filter_map(|event| {
            Some(LineEvent {
                index: u8::try_from(index(event.offset)?).ok()?,
                rising: event.rising,
                time_ns: event.time_ns,
                seqno: event.seqno,
            })
        });
        Poll::Ready(Ok(told.collect()))
    }
}

/// The kernel's form of a setup of so many lines.
fn config(setup: &Setup, lines: usize) -> Config {
    let mut flags = match setup.bias {
        Bias::AsIs => 0,
        Bias::Disabled => flag::BIAS_DISABLED,
        Bias::PullUp => flag::BIAS_PULL_UP,
        Bias::PullDown => flag::BIAS_PULL_DOWN,
    };
    if setup.low {
        flags |= flag::ACTIVE_LOW;
    }
    let all = all_lines(lines);
    if setup.dir == Direction::Output {
        flags |= flag::OUTPUT
            | match setup.drive {
                Drive::PushPull => 0,
                Drive::OpenDrain => flag::OPEN_DRAIN,
                Drive::OpenSource => flag::OPEN_SOURCE,
            };
        return Config {
            flags,
            attributes: vec![(Attribute::Values(setup.values & all), all)],
        };
    }
    flags |= flag::INPUT;
    let edges = match setup.edge {
        Edge::None => 0,
        Edge::Rising => flag::EDGE_RISING,
        Edge::Falling => flag::EDGE_FALLING,
        Edge::Both => flag::EDGE_RISING | flag::EDGE_FALLING,
    };
    let mut attributes = Vec::new();
    if edges != 0 && setup.watched & all != 0 {
        attributes.push((Attribute::Flags(flags | edges), setup.watched & all));
    }
    let mut debounced: BTreeMap<u32, u64> = BTreeMap::new();
    for (index, us) in setup.debounce_us.iter().take(lines).enumerate() {
        *debounced.entry(*us).or_default() |= 1 << index;
    }
    debounced.remove(&0);
    let debounced = debounced.into_iter();
    attributes.extend(debounced.map(|(us, mask)| (Attribute::DebounceUs(us), mask)));
    Config { flags, attributes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_begin_with_their_values_and_have_no_edges() {
        let setup = Setup {
            dir: Direction::Output,
            values: 0b101,
            bias: Bias::PullUp,
            drive: Drive::OpenDrain,
            low: true,
            edge: Edge::Both,
            watched: 7,
            ..Setup::default()
        };
        let expected = Config {
            flags: flag::OUTPUT | flag::OPEN_DRAIN | flag::BIAS_PULL_UP | flag::ACTIVE_LOW,
            attributes: vec![(Attribute::Values(0b01), 0b11)],
        };
        assert_eq!(config(&setup, 2), expected);
    }

    #[test]
    fn only_the_watched_inputs_have_edges_and_equal_debounce_times_are_one_attribute() {
        let setup = Setup {
            bias: Bias::PullDown,
            edge: Edge::Falling,
            watched: 0b110,
            debounce_us: vec![0, 500, 20, 500],
            ..Setup::default()
        };
        let base = flag::INPUT | flag::BIAS_PULL_DOWN;
        let expected = Config {
            flags: base,
            attributes: vec![
                (Attribute::Flags(base | flag::EDGE_FALLING), 0b110),
                (Attribute::DebounceUs(20), 0b100),
                (Attribute::DebounceUs(500), 0b1010),
            ],
        };
        assert_eq!(config(&setup, 4), expected);
    }

    #[test]
    fn inputs_that_nobody_watches_are_plain() {
        let setup = Setup {
            edge: Edge::Both,
            ..Setup::default()
        };
        let plain = Config {
            flags: flag::INPUT,
            attributes: vec![],
        };
        assert_eq!(config(&setup, 64), plain);
    }

    #[test]
    fn a_chip_that_is_gone_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let opened = CdevHost::new(dir.path()).open("gpiochip0");
        assert_eq!(
            opened.err().map(|error| error.kind()),
            Some(io::ErrorKind::NotFound)
        );
    }
}
