//! Opening and closing, and what becomes of the lines (kernel `drivers/tty/tty_port.c`).

use nix::errno::Errno;

use super::{Answer, Ask, OpenFile, Purpose, Question, Tty};
use crate::bus::serial::client::settings;
use crate::bus::serial::client::termios::flag;
use crate::bus::serial::op::{ControlSet, Flush};

const O_NONBLOCK: u32 = 0o4000;
/// For so long output may go on after the last close, in milliseconds (kernel `closing_wait`).
const CLOSING_MS: u32 = 30_000;

/// Programs that wait for their open to end, and what they wait for.
#[derive(Debug, Default)]
pub(super) struct Openings {
    waiting: Vec<Opening>,
    /// The next number of an open file.
    next: u64,
    /// The lines are raised: somebody uses the port.
    active: bool,
    /// The last close is under way.
    closing: bool,
}

#[derive(Debug)]
struct Opening {
    id: u64,
    nonblock: bool,
}

impl Openings {
    /// A program does not wait any longer. Whether it did.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|opening| opening.id != id);
        self.waiting.len() < before
    }
}

impl Tty {
    pub(super) fn open(&mut self, id: u64, uid: u32, flags: u32) {
        if self.gone {
            self.fail(id, Errno::EIO);
        } else if self.exclusive && uid != 0 {
            self.fail(id, Errno::EBUSY);
        } else {
            let nonblock = flags & O_NONBLOCK != 0;
            self.openings.waiting.push(Opening { id, nonblock });
        }
    }

    /// Lets programs in, once the last close is over and there is carrier where it is wanted.
    pub(super) fn serve_openings(&mut self) {
        if self.openings.closing || self.openings.waiting.is_empty() {
            return;
        }
        if !self.openings.active {
            self.activate();
        }
        let carrier = self.termios.line_has(flag::CLOCAL) || self.lines.now.dcd;
        for opening in std::mem::take(&mut self.openings.waiting) {
            if carrier || opening.nonblock {
                self.openings.next += 1;
                let fh = self.openings.next;
                self.files.insert(fh, OpenFile::default());
                self.answer(opening.id, &Answer::Opened(fh));
            } else {
                self.openings.waiting.push(opening);
            }
        }
    }

    /// The first open raises the lines.
    fn activate(&mut self) {
        self.openings.active = true;
        if !settings::is_hung_up(&self.termios) {
            self.raise(true);
        }
    }

    /// Lets the owner raise or drop DTR and RTS; nobody waits for it.
    pub(super) fn raise(&mut self, up: bool) {
        self.set_lines(&ControlSet {
            dtr: Some(up),
            rts: Some(up),
            seq: Vec::new(),
        });
    }

    pub(super) fn release(&mut self, fh: u64) {
        self.wishes.remove(&fh);
        if self.files.remove(&fh).is_some() {
            self.after_close();
        }
    }

    /// Somebody has the tty open.
    pub(super) fn is_open(&self) -> bool {
        self.files.values().any(|file| !file.hung_up)
    }

    /// After the last close the port rests.
    pub(super) fn after_close(&mut self) {
        let used = self.is_open() || !self.openings.waiting.is_empty();
        if used || !self.openings.active {
            return;
        }
        self.openings.active = false;
        self.exclusive = false;
        self.held = false;
        self.discipline.start();
        self.flush_input();
        self.discipline.flush_echo();
        self.send_lines();
        if self.termios.line_has(flag::HUPCL) && !self.gone {
            if self.asks.is_paused() {
                return self.raise(false);
            }
            self.openings.closing = true;
            let question = Question::after_writes(true, CLOSING_MS);
            self.ask(question, Ask::of(None, Purpose::Close));
        }
    }

    /// What was written before the last close is transmitted, or never will be.
    pub(super) fn closed(&mut self, drained: bool) {
        if !drained {
            self.flush_owner(None, Flush::Output);
        }
        self.raise(false);
        self.openings.closing = false;
    }

    /// The line is hung up for all who have it open.
    pub(super) fn hang_up(&mut self) {
        for file in self.files.values_mut() {
            file.hung_up = true;
        }
        self.end_reads();
        self.end_writes();
        for id in self.lines.forget_all() {
            self.fail(id, Errno::EIO);
        }
        self.after_close();
    }

    /// Programs whose open waits are turned away.
    pub(super) fn end_openings(&mut self) {
        for opening in std::mem::take(&mut self.openings.waiting) {
            self.fail(opening.id, Errno::EIO);
        }
    }
}
