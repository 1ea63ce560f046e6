//! What the changes of a line mean for the owner's line.

use std::collections::VecDeque;

use super::inbox::{Inbox, Order};
use super::local::{Change, LineUse};
use crate::bus::gpio::op::{Direction, Drive};

/// Levels kept of a line that nobody has requested yet.
const EARLY: usize = 64;

/// What is known of one line's local use. A program that requests an output sets it first and has
/// requested it afterwards, so the level that comes before is the one to begin with.
#[derive(Debug, Default)]
pub(super) struct Intake {
    used: Option<LineUse>,
    /// The last level of an output.
    level: bool,
    early: VecDeque<bool>,
}

impl Intake {
    /// Takes a change, and orders what follows from it. `read` looks at the line.
    pub(super) fn take(&mut self, change: Change, read: impl FnOnce() -> bool, inbox: &mut Inbox) {
        match change {
            Change::Set(high) => match self.output() {
                Some(_) => self.set(high, inbox),
                None => self.keep(high),
            },
            Change::Direction { input } => self.turned(input, inbox),
            Change::Used(Some(used)) => self.begin(used, read, inbox),
            Change::Used(None) => self.end(inbox),
            Change::Missed => {
                // An output that only pulls in one direction does not show its level.
                if self
                    .output()
                    .is_some_and(|used| used.drive == Drive::PushPull)
                {
                    self.set(read(), inbox);
                }
            }
            Change::Read => {}
        }
    }

    fn output(&self) -> Option<&LineUse> {
        self.used
            .as_ref()
            .filter(|used| used.dir == Direction::Output)
    }

    fn set(&mut self, high: bool, inbox: &mut Inbox) {
        if self.level != high {
            self.level = high;
            inbox.push(Order::Level(high));
        }
    }

    fn keep(&mut self, high: bool) {
        if self.early.len() == EARLY {
            self.early.pop_front();
        }
        self.early.push_back(high);
    }

    /// gpiolib plays open drain and open source by turning the line.
    fn turned(&mut self, input: bool, inbox: &mut Inbox) {
        match self.output().map(|used| used.drive) {
            Some(Drive::OpenDrain) => self.set(input, inbox),
            Some(Drive::OpenSource) => self.set(!input, inbox),
            None if input => self.early.clear(),
            Some(Drive::PushPull) | None => {}
        }
    }

    fn begin(&mut self, used: LineUse, read: impl FnOnce() -> bool, inbox: &mut Inbox) {
        let before = self.used.replace(used);
        let is_output = used.dir == Direction::Output;
        if before.is_some_and(|before| before.is_like(&used)) {
            if !is_output {
                inbox.push(Order::Use { used, level: false });
            }
            return;
        }
        let was_output = before.is_some_and(|before| before.dir == Direction::Output);
        let mut early = core::mem::take(&mut self.early).into_iter();
        let level = match (early.next(), used.drive) {
            (Some(high), _) => high,
            (None, _) if was_output => self.level,
            (None, Drive::PushPull) => is_output && read(),
            (None, Drive::OpenDrain) => true,
            (None, Drive::OpenSource) => false,
        };
        self.level = level;
        inbox.push(Order::Use { used, level });
        if is_output {
            early.for_each(|high| self.set(high, inbox));
        }
    }

    fn end(&mut self, inbox: &mut Inbox) {
        self.early.clear();
        if self.used.take().is_some() {
            inbox.push(Order::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::gpio::op::Edge;

    const OUTPUT: LineUse = LineUse {
        dir: Direction::Output,
        bias: crate::bus::gpio::op::Bias::AsIs,
        drive: Drive::PushPull,
        low: false,
        edge: Edge::None,
        debounce_us: 0,
    };
    const DRAIN: LineUse = LineUse {
        drive: Drive::OpenDrain,
        ..OUTPUT
    };

    fn orders(intake: &mut Intake, value: bool, changes: &[Change]) -> Vec<Order> {
        let mut inbox = Inbox::default();
        for change in changes {
            intake.take(*change, || value, &mut inbox);
        }
        core::iter::from_fn(|| inbox.pop()).collect()
    }

    fn fresh(value: bool, changes: &[Change]) -> Vec<Order> {
        orders(&mut Intake::default(), value, changes)
    }

    const OUT: Change = Change::Direction { input: false };
    const IN: Change = Change::Direction { input: true };

    #[test]
    fn an_output_begins_with_the_level_that_was_set_before_it_was_requested() {
        let begun = fresh(false, &[Change::Set(true), OUT, Change::Used(Some(OUTPUT))]);
        assert_eq!(
            begun,
            [Order::Use {
                used: OUTPUT,
                level: true
            }]
        );
    }

    #[test]
    fn what_is_set_between_request_and_our_knowing_of_it_is_told_in_order() {
        let changes = [
            Change::Set(true),
            OUT,
            Change::Set(false),
            Change::Set(true),
            Change::Used(Some(OUTPUT)),
        ];
        assert_eq!(
            fresh(true, &changes),
            [
                Order::Use {
                    used: OUTPUT,
                    level: true
                },
                Order::Level(false),
                Order::Level(true)
            ]
        );
    }

    #[test]
    fn every_pulse_is_told_and_no_repetition() {
        let mut intake = Intake::default();
        orders(
            &mut intake,
            false,
            &[Change::Set(false), OUT, Change::Used(Some(OUTPUT))],
        );
        let changes = [true, true, false, true, false, false].map(Change::Set);
        let levels = [true, false, true, false].map(Order::Level);
        assert_eq!(orders(&mut intake, false, &changes), levels);
    }

    #[test]
    fn an_open_drain_line_is_high_where_it_is_not_driven() {
        let mut intake = Intake::default();
        let begun = orders(&mut intake, false, &[IN, Change::Used(Some(DRAIN))]);
        assert_eq!(
            begun,
            [Order::Use {
                used: DRAIN,
                level: true
            }]
        );
        assert_eq!(
            orders(&mut intake, false, &[Change::Set(false), OUT]),
            [Order::Level(false)]
        );
        assert_eq!(orders(&mut intake, false, &[IN]), [Order::Level(true)]);
        assert_eq!(orders(&mut intake, false, &[Change::Missed]), []);
    }

    #[test]
    fn after_missed_changes_the_line_is_looked_at() {
        let mut intake = Intake::default();
        orders(
            &mut intake,
            false,
            &[Change::Set(false), OUT, Change::Used(Some(OUTPUT))],
        );
        assert_eq!(
            orders(&mut intake, true, &[Change::Missed]),
            [Order::Level(true)]
        );
        assert_eq!(orders(&mut intake, true, &[Change::Missed]), []);
        assert_eq!(fresh(true, &[Change::Missed]), []);
    }

    #[test]
    fn a_new_configuration_of_an_output_keeps_its_level() {
        let mut intake = Intake::default();
        orders(
            &mut intake,
            false,
            &[Change::Set(true), OUT, Change::Used(Some(OUTPUT))],
        );
        let again = orders(
            &mut intake,
            false,
            &[Change::Set(true), OUT, Change::Used(Some(OUTPUT))],
        );
        assert_eq!(again, []);
        let low = LineUse {
            low: true,
            ..OUTPUT
        };
        let other = orders(
            &mut intake,
            false,
            &[Change::Set(true), OUT, Change::Used(Some(low))],
        );
        assert_eq!(
            other,
            [Order::Use {
                used: low,
                level: true
            }]
        );
    }

    #[test]
    fn an_input_that_becomes_an_output_begins_with_its_own_level() {
        let mut intake = Intake::default();
        let input = LineUse::default();
        orders(&mut intake, true, &[IN, Change::Used(Some(input))]);
        let changes = [Change::Set(true), OUT, Change::Used(Some(OUTPUT))];
        assert_eq!(
            orders(&mut intake, false, &changes),
            [Order::Use {
                used: OUTPUT,
                level: true
            }]
        );
    }

    #[test]
    fn a_release_forgets_what_was_set() {
        let mut intake = Intake::default();
        let changes = [
            Change::Set(true),
            OUT,
            Change::Used(Some(OUTPUT)),
            Change::Used(None),
        ];
        assert_eq!(
            orders(&mut intake, false, &changes).last(),
            Some(&Order::Idle)
        );
        assert_eq!(
            orders(&mut intake, false, &[Change::Set(true), Change::Used(None)]),
            []
        );
        let begun = orders(&mut intake, false, &[Change::Used(Some(OUTPUT))]);
        assert_eq!(
            begun,
            [Order::Use {
                used: OUTPUT,
                level: false
            }]
        );
    }
}
