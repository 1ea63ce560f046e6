//! Changes of the modem lines and errors on the line, told to the peer as events.
//!
//! Where the driver can wait for a change, a thread does, and the port is looked at every [`LOOK`] for
//! errors besides, which no driver tells of. Where it cannot, the port is looked at every [`POLL`], so
//! that a shorter pulse is seen only if the driver counts.

use core::future::pending;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::bus::Outlet;
use crate::bus::serial::hardware::{PortControl, Snapshot};
use crate::bus::serial::op::{LineChange, LineEvent, Lines};
use crate::bus::serial::server::stop::Stop;
use crate::kernel::clock;
use crate::wire::opcode::Opcode;

/// How often a port is looked at whose driver cannot wait for a change of its lines.
const POLL: Duration = Duration::from_millis(20);
/// How often every other port is looked at: for errors, and whether it is still there.
const LOOK: Duration = Duration::from_millis(200);

/// What a look found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// When, in microseconds of the monotonic clock.
    pub(super) us: u64,
    pub(super) result: Result<Snapshot, Errno>,
}

/// Watches one port.
pub(super) struct Watch {
    control: Arc<dyn PortControl>,
    /// What the thread that waits for changes saw last.
    waited: watch::Receiver<Option<Seen>>,
    /// It ends when the driver cannot wait, or the port is released.
    waiter: Option<JoinHandle<()>>,
    next: Instant,
    looking: Option<tokio::task::JoinHandle<Seen>>,
    last: Snapshot,
    last_us: u64,
    lost: u32,
}

impl Watch {
    pub(super) fn new(control: &Arc<dyn PortControl>, stop: &Arc<Stop>, first: Snapshot) -> Self {
        let (sender, waited) = watch::channel(None);
        let thread = first.lines.and_then(|_| {
            let (control, stop) = (Arc::clone(control), Arc::clone(stop));
            thread::Builder::new()
                .name("modem lines".to_owned())
                .spawn(move || wait(&*control, &stop, &sender))
                .inspect_err(|error| warn!(%error, "no thread waits for the modem lines"))
                .ok()
        });
        Self {
            control: Arc::clone(control),
            waited,
            waiter: thread,
            next: Instant::now() + POLL,
            looking: None,
            last: first,
            last_us: 0,
            lost: 0,
        }
    }

    /// The next look at the port. Nothing is lost when this is dropped.
    pub(super) async fn seen(&mut self) -> Seen {
        if self.looking.is_none() {
            tokio::select! {
                seen = changed(&mut self.waited) => return seen,
                () = sleep_until(self.next) => {}
            }
            let control = Arc::clone(&self.control);
            self.looking = Some(spawn_blocking(move || look(&*control)));
        }
        let looked = async {
            match &mut self.looking {
                Some(looking) => looking.await,
                None => pending().await,
            }
        };
        let seen = tokio::select! {
            seen = changed(&mut self.waited) => return seen,
            looked = looked => looked,
        };
        self.looking = None;
        self.next = Instant::now() + self.period();
        seen.unwrap_or(Seen {
            us: 0,
            result: Err(Errno::EINTR),
        })
    }

    fn period(&self) -> Duration {
        let waits = self
            .waiter
            .as_ref()
            .is_some_and(|waiter| !waiter.is_finished());
        if waits || self.last.lines.is_none() {
            LOOK
        } else {
            POLL
        }
    }

    /// Sends an event if something is different from what the peer was told last.
    pub(super) fn tell(&mut self, outlet: &dyn Outlet, us: u64, snapshot: Snapshot) {
        // Two threads look; the later look counts.
        if us < self.last_us {
            return;
        }
        let news = inputs(&snapshot) != inputs(&self.last)
            || (snapshot.errors, snapshot.edges) != (self.last.errors, self.last.edges);
        self.last_us = us;
        self.last = snapshot;
        let Some(lines) = snapshot.lines.filter(|_| news) else {
            return;
        };
        let event = LineEvent {
            lines,
            change: LineChange {
                us,
                err: snapshot.errors,
                edges: snapshot.edges,
                lost: core::mem::take(&mut self.lost),
            },
        };
        match event.encode() {
            Ok(payload) => outlet.event(Opcode::SerialControlGet, payload),
            Err(error) => warn!(%error, "an event was not sent"),
        }
    }

    /// So many events were not sent.
    pub(super) fn dropped(&mut self, count: u32) {
        self.lost = self.lost.saturating_add(count);
    }
}

fn inputs(snapshot: &Snapshot) -> Option<Lines> {
    snapshot.lines.map(|lines| Lines {
        dtr: false,
        rts: false,
        ..lines
    })
}

async fn changed(waited: &mut watch::Receiver<Option<Seen>>) -> Seen {
    loop {
        if waited.changed().await.is_err() {
            return pending().await;
        }
        if let Some(seen) = waited.borrow_and_update().clone() {
            return seen;
        }
    }
}

fn look(control: &dyn PortControl) -> Seen {
    let result = control.snapshot();
    Seen {
        us: clock::mono().0,
        result,
    }
}

fn wait(control: &dyn PortControl, stop: &Stop, seen: &watch::Sender<Option<Seen>>) {
    while !stop.is_stopped() {
        match control.wait_change() {
            Ok(()) => {
                let us = clock::mono().0;
                let result = control.snapshot();
                seen.send_replace(Some(Seen { us, result }));
            }
            Err(Errno::EINTR) => {}
            // The next look tells what that means.
            Err(_) => return,
        }
    }
}
