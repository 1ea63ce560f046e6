//! What the port receives: pushed to the peer as long as that takes it, or kept until it asks. What is
//! not read here stays in the port, whose flow control then holds the sender.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::serial::op::{DataRead, Mode, Settings, encode_read};
use crate::bus::{Outlet, Refused};
use crate::wire::status::Status;

/// Most bytes of one DATA frame, and of one read: what a tty hands out at once.
pub(super) const READ: usize = 4096;

/// The reading side of one port.
#[expect(clippy::struct_excessive_bools, reason = "four reasons to read or not")]
pub(super) struct Reads {
    push: bool,
    gap: Duration,
    /// Nobody wants what is received.
    unwanted: bool,
    /// `STREAM_PAUSE`.
    paused: bool,
    /// The peer takes no DATA now.
    blocked: bool,
    /// Received and not sent yet.
    gathered: Vec<u8>,
    /// When the first of these came.
    since: Option<Instant>,
    pulls: VecDeque<Pull>,
}

struct Pull {
    corr: u32,
    max: usize,
    until: Option<Instant>,
}

impl Reads {
    pub(super) fn new(settings: &Settings, mode: Mode) -> Self {
        Self {
            push: settings.push,
            gap: gap(settings),
            unwanted: !mode.reads(),
            paused: false,
            blocked: false,
            gathered: Vec::new(),
            since: None,
            pulls: VecDeque::new(),
        }
    }

    /// How many bytes may be read now.
    pub(super) fn wanted(&mut self, outlet: &dyn Outlet) -> usize {
        if self.unwanted {
            return READ;
        }
        if !self.push {
            return self.pulls.front().map_or(0, |pull| pull.max.min(READ));
        }
        if self.paused || self.blocked {
            return 0;
        }
        if self.gathered.is_empty() && !outlet.writable(READ) {
            self.blocked = true;
            return 0;
        }
        READ.saturating_sub(self.gathered.len())
    }

    /// The port received something, for which [`Reads::wanted`] had room.
    pub(super) fn received(&mut self, outlet: &dyn Outlet, bytes: &[u8], now: Instant) {
        if self.unwanted {
            return;
        }
        if !self.push {
            if let Some(pull) = self.pulls.pop_front() {
                outlet.respond(pull.corr, Status::Ok, encode_read(bytes));
            }
            return;
        }
        self.gathered.extend_from_slice(bytes);
        self.since.get_or_insert(now);
        if self.gap.is_zero() || self.gathered.len() >= READ {
            self.send(outlet);
        }
    }

    /// The peer asks for what is received.
    pub(super) fn pull(
        &mut self,
        corr: u32,
        request: DataRead,
        now: Instant,
    ) -> Result<(), Refused> {
        if self.push || self.unwanted {
            return Err(Refused::bad(
                "what the port receives is not to be asked for",
            ));
        }
        self.pulls.push_back(Pull {
            corr,
            max: usize::try_from(request.max).unwrap_or(READ),
            until: now.checked_add(Duration::from_millis(request.timeout_ms.into())),
        });
        Ok(())
    }

    /// The peer gives such a request up; false when there is none.
    pub(super) fn cancel(&mut self, corr: u32) -> bool {
        let before = self.pulls.len();
        self.pulls.retain(|pull| pull.corr != corr);
        self.pulls.len() < before
    }

    /// When something is to be sent or answered although nothing more is received.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pulls = self.pulls.iter().filter_map(|pull| pull.until);
        let gap = self.since.and_then(|since| since.checked_add(self.gap));
        pulls.chain(gap).min()
    }

    /// Sends and answers what is due.
    pub(super) fn expire(&mut self, outlet: &dyn Outlet, now: Instant) {
        if self.since.is_some_and(|since| now >= since + self.gap) {
            self.send(outlet);
        }
        self.pulls.retain(|pull| {
            let over = pull.until.is_some_and(|until| now >= until);
            if over {
                outlet.respond(pull.corr, Status::Ok, encode_read(&[]));
            }
            !over
        });
    }

    /// The peer takes DATA again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// The settings have changed; what was received under the old ones is sent as those said, or
    /// thrown away.
    pub(super) fn configure(&mut self, outlet: &dyn Outlet, settings: &Settings, flushed: bool) {
        if flushed {
            self.gathered.clear();
            self.since = None;
        }
        self.send(outlet);
        self.push = settings.push;
        self.gap = gap(settings);
        if self.push {
            for pull in self.pulls.drain(..) {
                outlet.respond(pull.corr, Status::Ok, encode_read(&[]));
            }
        }
    }

    /// The requests that wait; nothing is left.
    pub(super) fn take_all(&mut self) -> Vec<u32> {
        self.pulls.drain(..).map(|pull| pull.corr).collect()
    }

    fn send(&mut self, outlet: &dyn Outlet) {
        self.since = None;
        if !self.gathered.is_empty() {
            outlet.data(core::mem::take(&mut self.gathered), false);
        }
    }
}

fn gap(settings: &Settings) -> Duration {
    Duration::from_micros(settings.gap_us.into())
}
