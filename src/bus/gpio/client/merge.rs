//! Two reports of the kernel in one order: values from tracing, uses from the watch over the chip.

use super::local::{Change, LineChange, LineUse};
use crate::bus::gpio::op::{Bias, Direction, Drive, Edge};
use crate::kernel::gpio_watch::{self, LineChange as Watched};
use crate::kernel::tracefs::Trace;

/// Which of the kernel's global line numbers are the chip's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) base: u32,
    pub(super) lines: u32,
}

/// What both say, by time. Each of them is in order in itself; in the same microsecond, which is all
/// that tracing tells, values come first: a program can set a line only some time after the line is
/// its own, but that it is is told right after its first value.
pub(super) fn merge(
    traces: Vec<Trace>,
    mut watched: Vec<Watched>,
    numbers: Numbers,
) -> Vec<LineChange> {
    watched.sort_by_key(time_of);
    let mut watched = watched.into_iter().peekable();
    let mut out = Vec::new();
    for trace in traces {
        if let Some(time) = time(&trace) {
            while let Some(change) = watched.next_if(|change| time_of(change) < time) {
                out.push(used(&change));
            }
        }
        value(&trace, numbers, &mut out);
    }
    out.extend(watched.map(|change| used(&change)));
    out
}

/// The part of `traces` that is later than all of `watched`: what belongs between may still come.
pub(super) fn later(traces: &mut Vec<Trace>, watched: &[Watched]) -> Vec<Trace> {
    let newest = watched
        .iter()
        .filter_map(|change| change.time_us)
        .max()
        .unwrap_or(0);
    let at = traces
        .iter()
        .position(|trace| time(trace).is_some_and(|time| time > newest));
    at.map_or_else(Vec::new, |at| traces.split_off(at))
}

fn time(trace: &Trace) -> Option<u64> {
    match trace {
        Trace::Set { time_us, .. }
        | Trace::Read { time_us, .. }
        | Trace::Direction { time_us, .. } => Some(*time_us),
        Trace::Lost => None,
    }
}

/// What was looked at instead of told is newer than everything.
fn time_of(change: &Watched) -> u64 {
    change.time_us.unwrap_or(u64::MAX)
}

fn value(trace: &Trace, numbers: Numbers, out: &mut Vec<LineChange>) {
    let (gpio, change) = match *trace {
        Trace::Set { gpio, high, .. } => (gpio, Change::Set(high)),
        Trace::Read { gpio, .. } => (gpio, Change::Read),
        Trace::Direction { gpio, input, .. } => (gpio, Change::Direction { input }),
        Trace::Lost => {
            out.extend((0..numbers.lines).map(|line| (line, Change::Missed)));
            return;
        }
    };
    let line = gpio
        .checked_sub(numbers.base)
        .filter(|line| *line < numbers.lines);
    out.extend(line.map(|line| (line, change)));
}

fn used(change: &Watched) -> LineChange {
    (
        change.line,
        Change::Used(change.used.as_ref().map(line_use)),
    )
}

fn line_use(used: &gpio_watch::LineUse) -> LineUse {
    LineUse {
        dir: match used.direction {
            gpio_watch::Direction::Input => Direction::Input,
            gpio_watch::Direction::Output => Direction::Output,
        },
        bias: match used.bias {
            None => Bias::AsIs,
            Some(gpio_watch::Bias::Disabled) => Bias::Disabled,
            Some(gpio_watch::Bias::PullUp) => Bias::PullUp,
            Some(gpio_watch::Bias::PullDown) => Bias::PullDown,
        },
        drive: match used.drive {
            None | Some(gpio_watch::Drive::PushPull) => Drive::PushPull,
            Some(gpio_watch::Drive::OpenDrain) => Drive::OpenDrain,
            Some(gpio_watch::Drive::OpenSource) => Drive::OpenSource,
        },
        low: used.active_low,
        edge: match used.edges {
            None => Edge::None,
            Some(gpio_watch::EdgeDetection::RisingEdge) => Edge::Rising,
            Some(gpio_watch::EdgeDetection::FallingEdge) => Edge::Falling,
            Some(gpio_watch::EdgeDetection::BothEdges) => Edge::Both,
        },
        debounce_us: used.debounce_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers = Numbers {
        base: 512,
        lines: 4,
    };

    fn set(time_us: u64, gpio: u32) -> Trace {
        Trace::Set {
            time_us,
            gpio,
            high: true,
        }
    }

    fn released(time_us: Option<u64>, line: u32) -> Watched {
        Watched {
            time_us,
            line,
            used: None,
        }
    }

    const HIGH: Change = Change::Set(true);
    const FREE: Change = Change::Used(None);

    #[test]
    fn what_happened_first_comes_first() {
        let traces = vec![set(10, 512), set(20, 512), set(30, 513)];
        let watched = vec![released(Some(25), 1), released(Some(20), 0)];
        assert_eq!(
            merge(traces, watched, NUMBERS),
            [(0, HIGH), (0, HIGH), (0, FREE), (1, FREE), (1, HIGH)]
        );
    }

    #[test]
    fn what_a_look_showed_comes_last() {
        let merged = merge(
            vec![set(99, 515)],
            vec![released(None, 2), released(Some(1), 3)],
            NUMBERS,
        );
        assert_eq!(merged, [(3, FREE), (3, HIGH), (2, FREE)]);
    }

    #[test]
    fn lines_of_other_chips_are_none_of_ours() {
        assert_eq!(merge(vec![set(1, 511), set(2, 516)], vec![], NUMBERS), []);
    }

    #[test]
    fn a_loss_concerns_every_line() {
        let merged = merge(vec![Trace::Lost], vec![], NUMBERS);
        assert_eq!(merged, [0, 1, 2, 3].map(|line| (line, Change::Missed)));
    }

    #[test]
    fn values_later_than_all_uses_are_held_back() {
        let mut traces = vec![set(10, 512), set(20, 512), Trace::Lost, set(21, 512)];
        let held = later(&mut traces, &[released(Some(20), 0), released(None, 1)]);
        assert_eq!(held, [set(21, 512)]);
        assert_eq!(traces, [set(10, 512), set(20, 512), Trace::Lost]);
    }
}
