//! How much may be on its way to the owner's port. A program's write shall end about when it would on
//! a UART: what it believes to be sent is soon sent, so that its own timeouts hold.

use super::{Ask, Purpose, Question, Tty};

/// At least so many bytes may be on their way.
const LEAST: usize = 8192;
/// Of a fast port as much as it sends in half a second: so many baud are one byte of it, at ten bits a
/// byte.
const BAUD_PER_BYTE: u32 = 20;
/// After this part of what may be on its way another mark follows, although one is not answered.
const PARTS: usize = 4;

/// Bytes that were sent and that the owner's port has not taken.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: usize,
    /// Those behind the last mark.
    unmarked: usize,
    /// Marks without an answer.
    marks: usize,
}

impl Ahead {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn sent(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.unmarked += bytes;
    }

    /// The port has taken everything before a mark.
    const fn taken(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.marks = self.marks.saturating_sub(1);
    }
}

impl Tty {
    /// Whether so many more bytes may go.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let ahead = self.ahead.bytes;
        ahead == 0 || ahead + bytes <= self.most_ahead()
    }

    fn most_ahead(&self) -> usize {
        let of_half_a_second = usize::try_from(self.actual.baud / BAUD_PER_BYTE);
        of_half_a_second.unwrap_or(LEAST).max(LEAST)
    }

    /// Asks the owner to say when its port has taken what was sent, unless it is about to say so.
    pub(super) fn mark(&mut self) {
        let Ahead {
            unmarked, marks, ..
        } = self.ahead;
        if marks == 0 || unmarked >= self.most_ahead() / PARTS {
            self.mark_now();
        }
    }

    /// The same for all that was sent.
    pub(super) fn mark_now(&mut self) {
        let bytes = std::mem::take(&mut self.ahead.unmarked);
        if bytes == 0 {
            return;
        }
        self.ahead.marks += 1;
        let question = Question::after_writes(false, 0);
        self.ask(question, Ask::of(None, Purpose::Taken { bytes }));
    }

    /// The answer to a mark.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.ahead.taken(bytes);
        self.mark();
    }
}
