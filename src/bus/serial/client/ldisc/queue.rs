//! What was received and edited and waits for a reader (kernel `drivers/tty/n_tty.c`, `read_buf`).

use std::collections::VecDeque;

/// Bytes of it (kernel `N_TTY_BUF_SIZE`).
const SIZE: usize = 4096;

/// Bytes in the order of their arrival. In canonical mode they are readable up to the last mark; what
/// is behind that is the line that is being typed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    /// How many bytes have been taken, ever: the name of the first one.
    taken: u64,
    /// The ends of lines.
    marks: VecDeque<Mark>,
}

/// The last byte of a line.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: u64,
    /// It only stands for the end and is not given to a reader.
    eof: bool,
}

impl Queue {
    /// Whether one more byte is taken, which may be kept as `per_byte` ones. A line too long for the
    /// queue loses its last byte for it, so that its end can still come.
    pub(super) fn make_room(&mut self, canonical: bool, per_byte: usize) -> bool {
        let room = (SIZE - self.bytes.len().min(SIZE)).div_ceil(per_byte);
        if room > 1 {
            return true;
        }
        let overflows = canonical && self.marks.is_empty();
        if overflows && room == 0 {
            self.bytes.pop_back();
        }
        overflows
    }

    /// Another byte.
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push_back(byte);
    }

    /// As many bytes as there is room for, outside of canonical mode. How many that were.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> usize {
        let room = (SIZE - 1).saturating_sub(self.bytes.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend(taken);
        taken.len()
    }

    /// The line ends here: behind its last byte, or at a byte of no meaning.
    pub(super) fn end_line(&mut self, eof: bool) {
        if eof {
            self.bytes.push_back(0);
        }
        if let Some(last) = (self.bytes.len() as u64).checked_sub(1) {
            let at = self.taken + last;
            self.marks.push_back(Mark { at, eof });
        }
    }

    /// How many bytes the line has that is being typed.
    pub(super) fn typed(&self) -> usize {
        let ended = self.marks.back().map_or(0, |mark| mark.at + 1 - self.taken);
        self.bytes
            .len()
            .saturating_sub(usize::try_from(ended).unwrap_or(usize::MAX))
    }

    /// The line that is being typed.
    pub(super) fn line(&self) -> impl DoubleEndedIterator<Item = u8> + ExactSizeIterator + '_ {
        let ended = self.bytes.len() - self.typed();
        self.bytes.iter().copied().skip(ended)
    }

    /// Takes the last byte of the line that is being typed back.
    pub(super) fn erase(&mut self) -> Option<u8> {
        if self.typed() == 0 {
            return None;
        }
        self.bytes.pop_back()
    }

    /// Forgets the line that is being typed.
    pub(super) fn kill(&mut self) {
        self.bytes.truncate(self.bytes.len() - self.typed());
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.taken += self.bytes.len() as u64;
        self.bytes.clear();
        self.marks.clear();
    }

    /// Canonical mode begins or ends: what waits counts as one line.
    pub(super) fn change_mode(&mut self, canonical: bool) {
        self.marks.clear();
        if canonical && !self.bytes.is_empty() {
            self.end_line(false);
        }
    }

    /// Whether a reader would get something, if only the end of a line; outside of canonical mode, at
    /// least so many bytes.
    pub(super) fn readable(&self, canonical: bool, least: usize) -> bool {
        if canonical {
            !self.marks.is_empty()
        } else {
            self.bytes.len() >= least.max(1)
        }
    }

    /// How many bytes readers would get.
    pub(super) fn count(&self, canonical: bool) -> usize {
        if !canonical {
            return self.bytes.len();
        }
        let ends = self.marks.iter().filter(|mark| mark.eof).count();
        (self.bytes.len() - self.typed()).saturating_sub(ends)
    }

    /// Takes up to `most` bytes, in canonical mode not beyond the end of a line. Whether a line ended.
    pub(super) fn read(&mut self, canonical: bool, most: usize, into: &mut Vec<u8>) -> bool {
        if !canonical {
            self.take(most.min(self.bytes.len()), into);
            return false;
        }
        let Some(&mark) = self.marks.front() else {
            return false;
        };
        let line = usize::try_from(mark.at + 1 - self.taken).unwrap_or(usize::MAX);
        let bytes = line - usize::from(mark.eof);
        self.take(most.min(bytes), into);
        if most < bytes {
            return false;
        }
        if mark.eof && self.bytes.pop_front().is_some() {
            self.taken += 1;
        }
        self.marks.pop_front();
        true
    }

    fn take(&mut self, count: usize, into: &mut Vec<u8>) {
        into.extend(self.bytes.drain(..count));
        self.taken += count as u64;
    }
}
