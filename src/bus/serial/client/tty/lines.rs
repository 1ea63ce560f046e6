//! The modem lines (kernel `tty_tiocmset`, `uart_wait_modem_status`).

use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::{Answer, Ask, Purpose, Question, Tty};
use crate::bus::serial::client::ioctl::LineChange;
use crate::bus::serial::client::structs::{Counters, line};
use crate::bus::serial::client::termios::flag;
use crate::bus::serial::op::{self, ControlSet, Edges, Flush, LineEvent, Lines};
use crate::wire::opcode::Opcode;

/// A change of one line waits so long for a change of the other, so that both go in one request: a
/// program cannot change one on and the other off in one call.
const MERGE: Duration = Duration::from_millis(5);

/// What is known of the lines and who waits for them.
#[derive(Debug, Default)]
pub(super) struct LineState {
    /// As the owner last said.
    pub(super) now: Lines,
    pub(super) counters: Counters,
    watchers: Vec<Watcher>,
    merge: Option<Merge>,
    /// DTR and RTS as they were last asked for.
    pub(super) wanted: (Option<bool>, Option<bool>),
    told: Told,
}

/// What the owner has counted, at its last event.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    edges: Option<Edges>,
    errors: Option<op::Errors>,
}

/// `TIOCMIWAIT`.
#[derive(Clone, Copy, Debug)]
struct Watcher {
    id: u64,
    mask: u32,
}

/// A change that is not sent yet.
#[derive(Clone, Copy, Debug)]
struct Merge {
    dtr: Option<bool>,
    rts: Option<bool>,
    until: Instant,
}

impl Merge {
    /// Both changes in one; `None` when they are about the same line, which is a pulse.
    fn with(self, other: Self) -> Option<Self> {
        let apart = (self.dtr.is_none() || other.dtr.is_none())
            && (self.rts.is_none() || other.rts.is_none());
        apart.then(|| Self {
            dtr: self.dtr.or(other.dtr),
            rts: self.rts.or(other.rts),
            until: self.until,
        })
    }

    const fn is_whole(self) -> bool {
        self.dtr.is_some() && self.rts.is_some()
    }
}

impl LineState {
    /// The owner counts from 0 again.
    pub(super) fn counts_anew(&mut self) {
        self.told = Told::default();
    }

    pub(super) fn merge_until(&self) -> Option<Instant> {
        self.merge.map(|merge| merge.until)
    }

    pub(super) fn merge_is_due(&self, now: Instant) -> bool {
        self.merge_until().is_some_and(|until| until <= now)
    }

    /// A program does not wait any longer. Whether it did.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        let before = self.watchers.len();
        self.watchers.retain(|watcher| watcher.id != id);
        self.watchers.len() < before
    }

    pub(super) fn forget_all(&mut self) -> impl Iterator<Item = u64> + use<> {
        let watchers = std::mem::take(&mut self.watchers);
        watchers.into_iter().map(|watcher| watcher.id)
    }
}

impl Tty {
    /// `TIOCMGET`, or to know how they are.
    pub(super) fn ask_lines(&mut self, call: Option<u64>) {
        let question = Question {
            opcode: Opcode::SerialControlGet,
            payload: op::encode_empty(),
            timeout_ms: 0,
        };
        self.ask(question, Ask::of(call, Purpose::Lines));
    }

    /// `TIOCMSET` and its kin. Nobody waits for the owner: what is asked for next is asked of it
    /// behind this, and a program's own delays between two changes stay what they are.
    pub(super) fn change_lines(&mut self, now: Instant, change: LineChange, mask: u32) {
        let state = |bit: u32| match change {
            LineChange::Assign => Some(mask & bit != 0),
            LineChange::Raise => (mask & bit != 0).then_some(true),
            LineChange::Lower => (mask & bit != 0).then_some(false),
        };
        let wanted = Merge {
            dtr: state(line::DTR),
            rts: state(line::RTS),
            until: now + MERGE,
        };
        let merged = match self.lines.merge.take() {
            Some(earlier) => earlier.with(wanted).unwrap_or_else(|| {
                self.send_merged(earlier);
                wanted
            }),
            None => wanted,
        };
        if merged.is_whole() {
            self.send_merged(merged);
        } else if merged.dtr.is_some() || merged.rts.is_some() {
            self.lines.merge = Some(merged);
        }
    }

    /// Sends a change that waits for another one.
    pub(super) fn send_lines(&mut self) {
        if let Some(merge) = self.lines.merge.take() {
            self.send_merged(merge);
        }
    }

    fn send_merged(&mut self, merge: Merge) {
        self.set_lines(&ControlSet {
            dtr: merge.dtr,
            rts: merge.rts,
            seq: Vec::new(),
        });
    }

    /// Nobody waits for it.
    pub(super) fn set_lines(&mut self, set: &ControlSet) {
        let (dtr, rts) = self.lines.wanted;
        self.lines.wanted = (set.dtr.or(dtr), set.rts.or(rts));
        if self.asks.is_paused() {
            // They become so when the owner is back.
            return;
        }
        self.ask_control(set, Ask::of(None, Purpose::SetLines));
    }

    /// Asks for a change of the lines, or a sequence of them.
    pub(super) fn ask_control(&mut self, set: &ControlSet, ask: Ask) {
        let Ok(payload) = set.encode() else {
            return self.unanswered(ask);
        };
        let question = Question {
            opcode: Opcode::SerialControlSet,
            payload,
            timeout_ms: 0,
        };
        self.ask(question, ask);
    }

    /// `TIOCMIWAIT`: until one of these lines changes.
    pub(super) fn await_lines(&mut self, id: u64, mask: u64) {
        let mask = u32::try_from(mask).unwrap_or_default();
        self.lines.watchers.push(Watcher { id, mask });
    }

    /// The lines are like this; without the owner's counts, which come with events only.
    pub(super) fn lines_are(&mut self, lines: Lines) {
        let before = std::mem::replace(&mut self.lines.now, lines);
        if before.dcd && !lines.dcd && !self.termios.line_has(flag::CLOCAL) {
            self.hang_up();
        }
    }

    /// An event of the owner.
    pub(super) fn lines_changed(&mut self, event: &LineEvent) {
        let edges = self.count_edges(event);
        self.count_errors(event);
        self.lines_are(event.lines);
        let watchers = std::mem::take(&mut self.lines.watchers);
        for watcher in watchers {
            if edges & watcher.mask != 0 {
                self.answer(watcher.id, &Answer::Done(Vec::new()));
            } else {
                self.lines.watchers.push(watcher);
            }
        }
    }

    /// Which lines have changed: by the owner's counts, or by their states where its driver does not
    /// count.
    fn count_edges(&mut self, event: &LineEvent) -> u32 {
        let old = self.lines.now;
        let told = self.lines.told.edges.unwrap_or_default();
        let new = event.change.edges;
        let since = |then: u32, now: fn(&Edges) -> u32, differs: bool| match &new {
            Some(edges) => now(edges).wrapping_sub(then),
            None => u32::from(differs),
        };
        let lines = event.lines;
        let cts = since(told.cts, |edges| edges.cts, old.cts != lines.cts);
        let dsr = since(told.dsr, |edges| edges.dsr, old.dsr != lines.dsr);
        let ri = since(told.ri, |edges| edges.ri, old.ri && !lines.ri);
        let dcd = since(told.dcd, |edges| edges.dcd, old.dcd != lines.dcd);
        self.lines.told.edges = new.or(self.lines.told.edges);
        let edges = &mut self.lines.counters.edges;
        let mut changed = 0;
        for (count, by, bit) in [
            (&mut edges.cts, cts, line::CTS),
            (&mut edges.dsr, dsr, line::DSR),
            (&mut edges.ri, ri, line::RI),
            (&mut edges.dcd, dcd, line::CD),
        ] {
            *count = count.wrapping_add(by);
            if by > 0 {
                changed |= bit;
            }
        }
        changed
    }

    fn count_errors(&mut self, event: &LineEvent) {
        let Some(new) = event.change.err else {
            return;
        };
        let told = self.lines.told.errors.replace(new).unwrap_or_default();
        let errors = &mut self.lines.counters.errors;
        for (count, new, told) in [
            (&mut errors.parity, new.parity, told.parity),
            (&mut errors.framing, new.framing, told.framing),
            (&mut errors.overrun, new.overrun, told.overrun),
        ] {
            *count = count.wrapping_add(new.wrapping_sub(told));
        }
        let breaks = new.brk.wrapping_sub(told.brk);
        errors.brk = errors.brk.wrapping_add(breaks);
        if breaks > 0 && self.is_interrupted_by_break() {
            self.flush_input();
            self.discipline.flush_echo();
            self.flush_owner(None, Flush::Output);
        }
    }

    /// The zero that stands for a break in the data cannot be told from any other; what can be done
    /// here is to empty the queues.
    const fn is_interrupted_by_break(&self) -> bool {
        let termios = &self.termios;
        termios.input(flag::BRKINT) && !termios.input(flag::IGNBRK) && !termios.local(flag::NOFLSH)
    }

    /// The bits that a program passed.
    pub(super) fn int(bytes: &[u8]) -> Result<u32, Errno> {
        let bytes = bytes.first_chunk().ok_or(Errno::EFAULT)?;
        Ok(u32::from_ne_bytes(*bytes))
    }
}
