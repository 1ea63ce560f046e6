//! Writes, and what is sent back to the line (kernel `n_tty_write`).

use nix::errno::Errno;

use super::Tty;
use super::reading::count;
use crate::bus::chardev::Answer;
use crate::bus::serial::client::termios::flag;

/// Bytes that are sent at a time.
pub(super) const CHUNK: usize = 4096;
/// Most bytes that one byte becomes: a tab.
const WIDEST: usize = 8;

/// A write that waits.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) id: u64,
    data: Vec<u8>,
    done: usize,
    nonblock: bool,
}

impl Writing {
    /// What a write returns when it must end before all of it was taken.
    pub(super) fn interrupted(&self) -> Answer {
        self.ended(Errno::EINTR)
    }

    fn ended(&self, errno: Errno) -> Answer {
        if self.done == 0 {
            Answer::Failed(errno)
        } else {
            Answer::Written(self.done)
        }
    }
}

impl Tty {
    pub(super) fn write(&mut self, id: u64, fh: u64, data: Vec<u8>, nonblock: bool) {
        if !self.is_usable(fh) {
            self.fail(id, Errno::EIO);
        } else if nonblock && !self.writes.is_empty() {
            self.fail(id, Errno::EAGAIN);
        } else {
            self.writes.push_back(Writing {
                id,
                data,
                done: 0,
                nonblock,
            });
        }
    }

    /// Every write ends as on a line that is hung up.
    pub(super) fn end_writes(&mut self) {
        for write in std::mem::take(&mut self.writes) {
            self.answer(write.id, &write.ended(Errno::EIO));
        }
    }

    /// Sends what the stream has room for, the first write first.
    pub(super) fn serve_writes(&mut self) {
        while let Some(mut write) = self.writes.pop_front() {
            self.send_part(&mut write);
            if write.done == write.data.len() {
                self.answer(write.id, &Answer::Written(write.done));
            } else if write.nonblock {
                self.answer(write.id, &write.ended(Errno::EAGAIN));
            } else {
                self.writes.push_front(write);
                break;
            }
        }
    }

    fn send_part(&mut self, write: &mut Writing) {
        let processed = self.termios.output(flag::OPOST);
        let most = if processed { CHUNK / WIDEST } else { CHUNK };
        while write.done < write.data.len() && self.is_writable() {
            let rest = write.data.get(write.done..).unwrap_or_default();
            let part = rest.get(..most).unwrap_or(rest);
            let mut bytes = Vec::with_capacity(part.len());
            self.discipline.process(&self.termios, part, &mut bytes);
            write.done += part.len();
            self.send(bytes);
        }
    }

    /// Whether output goes out now.
    pub(super) fn is_writable(&self) -> bool {
        !self.held
            && !self.discipline.is_stopped()
            && self.has_room(CHUNK)
            && self.asks.outlet().writable(CHUNK)
    }

    /// Sends what is to be seen of what was received.
    pub(super) fn send_echo(&mut self) {
        if !self.discipline.echo().is_empty() && self.is_writable() {
            let echo = self.discipline.take_echo();
            self.send(echo);
        }
    }

    /// Sends bytes for which there is room.
    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.lines.counters.tx = self.lines.counters.tx.wrapping_add(count(bytes.len()));
            self.ahead.sent(bytes.len());
            self.asks.outlet().data(bytes, false);
            self.mark();
        }
    }
}
