//! The time without a session: reads wait, writes wait or would block, what programs set is set once the
//! owner is back.

use std::rc::Rc;

use tokio::time::Instant;

use super::ahead::Ahead;
use super::{Ask, Purpose, Tty};
use crate::bus::serial::client::settings;
use crate::bus::serial::client::termios::Termios;
use crate::bus::serial::op::{Change, ControlSet, Flow, Settings};
use crate::bus::{AskError, Outlet};

impl Tty {
    /// The settings that programs gave it.
    pub const fn termios(&self) -> &Termios {
        &self.termios
    }

    /// The session was lost. A call whose effect at the owner is not known fails.
    pub fn lose(&mut self, now: Instant) {
        self.send_lines();
        // The owner's answers to these will not come.
        self.flushing = 0;
        self.ahead = Ahead::default();
        for ask in self.asks.pause(self.incoming.count()) {
            self.unanswered(ask);
        }
        self.settle(now);
    }

    /// There is a session again, and the owner has opened its port, which is as `actual` says.
    pub fn resume(&mut self, now: Instant, outlet: Rc<dyn Outlet>, actual: Settings) {
        // A change that waits for another one.
        self.send_lines();
        let before = std::mem::replace(&mut self.actual, actual);
        settings::tell(&mut self.termios, &self.actual);
        let at_owner = self.actual.flow == Flow::XonXoff;
        self.discipline.flow_at_owner(at_owner);
        let later = self.asks.resume(outlet);
        self.lines.counts_anew();
        self.restore_lines();
        if self.actual.rs485.is_some() && before.rs485 != self.actual.rs485 {
            let change = Change {
                rs485: before.rs485,
                ..Change::default()
            };
            self.ask_change(&change, Ask::of(None, Purpose::Rs485));
        }
        self.ask_lines(None);
        for ask in self.asks.later(later) {
            self.unanswered(ask);
        }
        self.settle(now);
    }

    /// The lines become what they were, or what programs made of them meanwhile.
    fn restore_lines(&mut self) {
        let (dtr, rts) = self.lines.wanted;
        if dtr.is_some() || rts.is_some() {
            self.set_lines(&ControlSet {
                dtr,
                rts,
                seq: Vec::new(),
            });
        }
    }
}

/// What a subcommand is told.
pub(super) fn cut() -> AskError {
    AskError::Ended("the owner cannot be reached".to_owned())
}
