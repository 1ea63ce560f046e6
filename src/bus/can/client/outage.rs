//! The time without a session: the interface stays, frames wait as long as they mean something, and what
//! was set at the owner's interface is set again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::remote::{Remote, Way};
use crate::bus::outage::{Returning, again};
use crate::bus::{Ended, Opener};

/// What is needed to come out of an outage.
pub(super) struct Outage {
    opener: Rc<dyn Opener>,
    remote: Remote,
    grace: Duration,
    live: Rc<Cell<bool>>,
}

impl Outage {
    /// And what tells whether there is a session.
    pub(super) fn new(
        opener: Rc<dyn Opener>,
        remote: Remote,
        grace: Duration,
    ) -> (Self, Rc<Cell<bool>>) {
        let live = Rc::new(Cell::new(true));
        let outage = Self {
            opener,
            remote,
            grace,
            live: Rc::clone(&live),
        };
        (outage, live)
    }

    /// The session was lost. Where nothing is waited for, that is the end.
    pub(super) fn begin(&self) -> Result<Returning<Way>, Ended> {
        if self.grace.is_zero() {
            return Err(Ended::Session);
        }
        let device = &self.remote.device;
        tracing::info!(device, "the owner of the CAN interface cannot be reached");
        self.live.set(false);
        let remote = self.remote.clone();
        Ok(again(Rc::clone(&self.opener), self.grace, move |opener| {
            let remote = remote.clone();
            async move { Ok(remote.open(&*opener).await?.1) }
        }))
    }

    /// There is a session again.
    pub(super) fn end(&self) {
        let device = &self.remote.device;
        tracing::info!(device, "the owner of the CAN interface is back");
        self.live.set(true);
    }
}
