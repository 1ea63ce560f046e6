//! Reads, and what goes from the line into the queue that they read (kernel `n_tty_read`).

use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::{Ask, Purpose, Tty};
use crate::bus::chardev::Answer;
use crate::bus::serial::client::ldisc::Taken;
use crate::bus::serial::client::termios::Termios;
use crate::bus::serial::client::termios::flag::Control;
use crate::bus::serial::op::{Change, Flush};

/// What `VTIME` counts.
const DECISECOND: Duration = Duration::from_millis(100);

/// A read that waits.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) id: u64,
    size: usize,
    nonblock: bool,
    got: Vec<u8>,
    /// It has looked into the queue before.
    begun: bool,
    deadline: Option<Instant>,
}

impl Reading {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What a read returns when it must end without having all it wants.
    pub(super) fn interrupted(self) -> Answer {
        if self.got.is_empty() {
            Answer::Failed(Errno::EINTR)
        } else {
            Answer::Data(self.got)
        }
    }
}

impl Tty {
    pub(super) fn read(&mut self, id: u64, fh: u64, size: u32, nonblock: bool) {
        if !self.is_usable(fh) || size == 0 {
            self.answer(id, &Answer::Data(Vec::new()));
        } else if nonblock && !self.reads.is_empty() {
            self.fail(id, Errno::EAGAIN);
        } else {
            self.reads.push_back(Reading {
                id,
                size: usize::try_from(size).unwrap_or(usize::MAX),
                nonblock,
                got: Vec::new(),
                begun: false,
                deadline: None,
            });
        }
    }

    /// Every read ends as on a line that is hung up.
    pub(super) fn end_reads(&mut self) {
        for read in std::mem::take(&mut self.reads) {
            self.answer(read.id, &Answer::Data(read.got));
        }
    }

    /// Lets reads have what there is, the first one first. Whether any got something.
    pub(super) fn serve_reads(&mut self, now: Instant) -> bool {
        let mut progress = false;
        while let Some(mut read) = self.reads.pop_front() {
            let had = read.got.len();
            let answer = self.advance(&mut read, now);
            progress |= read.got.len() > had || answer.is_some();
            let Some(answer) = answer else {
                self.reads.push_front(read);
                break;
            };
            self.answer(read.id, &answer);
        }
        progress
    }

    /// The answer to a read, once it is time.
    fn advance(&mut self, read: &mut Reading, now: Instant) -> Option<Answer> {
        let (min, time) = timing(&self.termios);
        if self.discipline.readable(&self.termios, 1) {
            let room = read.size - read.got.len();
            self.discipline.read(&self.termios, room, &mut read.got);
            if self.termios.canonical() || read.got.len() >= min.clamp(1, read.size) {
                return Some(Answer::Data(std::mem::take(&mut read.got)));
            }
            read.deadline = time.map(|time| now + time);
        } else if !read.begun && min == 0 && !self.termios.canonical() {
            let Some(time) = time else {
                return Some(Answer::Data(Vec::new()));
            };
            read.deadline = Some(now + time);
        }
        read.begun = true;
        if read.nonblock && read.got.is_empty() {
            return Some(Answer::Failed(Errno::EAGAIN));
        }
        let over = read.deadline.is_some_and(|deadline| deadline <= now);
        (over || read.nonblock).then(|| Answer::Data(std::mem::take(&mut read.got)))
    }

    /// `poll(2)`: whether a read would end at once.
    pub(super) fn is_readable(&self) -> bool {
        let (min, time) = timing(&self.termios);
        let least = if time.is_none() { min } else { 1 };
        self.discipline.readable(&self.termios, least)
    }

    /// Bytes from the owner.
    pub(super) fn receive(&mut self, bytes: Vec<u8>) {
        self.lines.counters.rx = self.lines.counters.rx.wrapping_add(count(bytes.len()));
        if self.flushing > 0 || !self.is_open() {
            self.asks.outlet().consume(bytes.len());
        } else {
            self.incoming.push(bytes);
        }
    }

    /// Lets what came go through the line discipline while there is room. The owner may send as
    /// much again.
    pub(super) fn take_input(&mut self) {
        let (mut used, mut flush) = (0, false);
        while let Some(bytes) = self.incoming.next() {
            let (count, taken) = self.discipline.receive_all(&self.termios, bytes);
            self.incoming.advance(count);
            used += count;
            flush |= taken == Taken::Flush;
            if taken == Taken::Full {
                break;
            }
        }
        if used > 0 {
            self.wake_for_input();
            self.asks.consume(used);
        }
        if flush {
            self.flush_owner(None, Flush::Output);
        }
    }

    /// Throws away what was received.
    pub(super) fn flush_input(&mut self) {
        self.discipline.flush();
        let forgotten = self.incoming.clear();
        self.asks.consume(forgotten);
    }

    /// Lets the owner throw away what is there. What comes to its port afterwards, or is written here,
    /// is not to be thrown away with it: a call that wants this ends when it has happened.
    pub(super) fn flush_owner(&mut self, call: Option<u64>, flush: Flush) {
        if self.asks.is_paused() {
            // Nothing is there.
            return self.finish(call);
        }
        let input = flush.input();
        self.flushing += usize::from(input);
        let change = Change {
            flush: Some(flush),
            ..Change::default()
        };
        self.ask_change(&change, Ask::of(call, Purpose::Flush { input }));
    }
}

/// `VMIN`, and `VTIME` if there is one.
fn timing(termios: &Termios) -> (usize, Option<Duration>) {
    let time = u32::from(termios.setting(Control::Time));
    (
        usize::from(termios.setting(Control::Min)),
        (time > 0).then(|| DECISECOND * time),
    )
}

/// As much of a length as a counter has room for.
pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
