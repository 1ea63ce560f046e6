//! A tty: what programs call and what the owner sends goes in; answers to programs and requests to
//! the owner come out. Nothing here waits.

mod ahead;
mod call;
mod configure;
mod ending;
mod lines;
mod opening;
mod outage;
mod owner;
mod polling;
mod reading;
mod writing;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use nix::errno::Errno;
use tokio::time::Instant;

use self::ahead::Ahead;
use self::lines::LineState;
use self::opening::Openings;
use self::polling::Wish;
use self::reading::Reading;
use self::writing::Writing;
use super::asks::{Ask, Asks, Purpose, Question};
use super::incoming::Incoming;
use super::ldisc::Discipline;
use super::structs::{Serial, WINDOW};
use super::termios::Termios;
use crate::bus::Outlet;
use crate::bus::chardev::{Answer, Device};
use crate::bus::serial::op::Settings;
use crate::kernel::cuse::{Body, Request};

/// An open file.
#[derive(Debug, Default)]
struct OpenFile {
    /// The line was hung up while it was open: it stays so for this file.
    hung_up: bool,
}

/// One tty.
pub struct Tty {
    device: Rc<dyn Device>,
    asks: Asks,
    ahead: Ahead,
    termios: Termios,
    actual: Settings,
    discipline: Discipline,
    incoming: Incoming,
    /// Owners' answers that end a throwing away of input.
    flushing: usize,
    files: BTreeMap<u64, OpenFile>,
    openings: Openings,
    exclusive: bool,
    reads: VecDeque<Reading>,
    writes: VecDeque<Writing>,
    wishes: BTreeMap<u64, Wish>,
    lines: LineState,
    /// A program stopped output (`TCOOFF`).
    held: bool,
    serial: Serial,
    window: [u8; WINDOW],
    gone: bool,
}

impl Tty {
    /// A tty that nobody has opened, for a port that is as `actual` says. `number` stands in its
    /// name.
    pub fn new(
        device: Rc<dyn Device>,
        outlet: Rc<dyn Outlet>,
        actual: Settings,
        number: u32,
    ) -> Self {
        let mut termios = Termios::FIRST;
        super::settings::tell(&mut termios, &actual);
        let mut tty = Self {
            device,
            asks: Asks::new(outlet),
            ahead: Ahead::default(),
            termios,
            actual,
            discipline: Discipline::default(),
            incoming: Incoming::default(),
            flushing: 0,
            files: BTreeMap::new(),
            openings: Openings::default(),
            exclusive: false,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            wishes: BTreeMap::new(),
            lines: LineState::default(),
            held: false,
            serial: Serial::new(number),
            window: [0; WINDOW],
            gone: false,
        };
        tty.ask_lines(None);
        tty
    }

    /// A program called.
    pub fn request(&mut self, now: Instant, request: Request) {
        let Request { id, uid, body, .. } = request;
        if matches!(body, Body::Read { .. } | Body::Write { .. }) {
            self.send_lines();
        }
        match body {
            Body::Open { flags } => self.open(id, uid, flags),
            Body::Release { fh } => self.release(fh),
            Body::Read { fh, size, nonblock } => self.read(id, fh, size, nonblock),
            Body::Write { fh, data, nonblock } => self.write(id, fh, data, nonblock),
            Body::Ioctl(ioctl) => self.ioctl(now, id, &ioctl),
            Body::Poll {
                fh,
                kh,
                schedule_notify,
                ..
            } => self.poll(id, fh, kh, schedule_notify),
            Body::Interrupt { id } => self.interrupt(id),
        }
        self.settle(now);
    }

    /// The time came that [`Tty::deadline`] named, or passed.
    pub fn tick(&mut self, now: Instant) {
        if self.lines.merge_is_due(now) {
            self.send_lines();
        }
        self.settle(now);
    }

    /// When [`Tty::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let read = self.reads.front().and_then(Reading::deadline);
        [read, self.lines.merge_until()].into_iter().flatten().min()
    }

    /// Does all that can be done.
    fn settle(&mut self, now: Instant) {
        loop {
            self.take_input();
            if !self.serve_reads(now) {
                break;
            }
        }
        self.send_echo();
        self.serve_writes();
        self.serve_openings();
        self.wake_pollers();
    }

    fn answer(&self, id: u64, answer: &Answer) {
        if let Err(error) = self.device.answer(id, answer) {
            tracing::debug!(%error, "answer to a program");
        }
    }

    fn fail(&self, id: u64, errno: Errno) {
        self.answer(id, &Answer::Failed(errno));
    }

    /// Asks the owner; a call whose question cannot be sent fails.
    fn ask(&mut self, question: Question, ask: Ask) {
        if let Err(ask) = self.asks.send(question, ask) {
            self.unanswered(ask);
        }
    }

    /// The owner does not answer this any more.
    fn unanswered(&mut self, Ask { call, purpose }: Ask) {
        match purpose {
            // Nothing is transmitted any more; the next program may open the tty.
            Purpose::Close => self.closed(true),
            Purpose::Flush { input } => self.flushed(input),
            Purpose::Operate(done) => {
                // Who asked may have left.
                let _ = done.send(Err(outage::cut()));
            }
            Purpose::Configure(_)
            | Purpose::Rs485
            | Purpose::Lines
            | Purpose::SetLines
            | Purpose::Taken { .. }
            | Purpose::Drain(_)
            | Purpose::Finish => {}
        }
        if let Some(id) = call {
            self.fail(id, Errno::EIO);
        }
    }

    /// The owner has thrown away what it had, or never will.
    fn flushed(&mut self, input: bool) {
        self.flushing = self.flushing.saturating_sub(usize::from(input));
    }

    /// A signal came to a program that waits.
    fn interrupt(&mut self, id: u64) {
        if let Some(read) = take(&mut self.reads, |read| read.id == id) {
            self.answer(id, &read.interrupted());
        } else if let Some(write) = take(&mut self.writes, |write| write.id == id) {
            self.answer(id, &write.interrupted());
        } else if self.openings.forget(id) {
            self.fail(id, Errno::EINTR);
            self.after_close();
        } else if self.lines.forget(id) || self.asks.forget(id) {
            self.fail(id, Errno::EINTR);
        }
    }

    /// Whether a file can be used: it is open, and the line was not hung up.
    fn is_usable(&self, fh: u64) -> bool {
        self.files.get(&fh).is_some_and(|file| !file.hung_up)
    }
}

fn take<T>(queue: &mut VecDeque<T>, which: impl Fn(&T) -> bool) -> Option<T> {
    let index = queue.iter().position(which)?;
    queue.remove(index)
}

impl Ask {
    fn of(call: Option<u64>, purpose: Purpose) -> Self {
        Self { call, purpose }
    }
}
