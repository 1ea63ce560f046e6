//! While the peer's session is lost and the device is kept for it.

use core::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::{Stream, Wake};
use crate::bus::usb::server::End;
use crate::bus::usb::server::lease::{Lease, Return, Session};
use crate::bus::{Outlet, Refused};

/// How long what was under way may take to end once the peer is back.
const REST: Duration = Duration::from_secs(10);

impl Stream {
    /// Waits for the peer, which has lost its session.
    ///
    /// # Errors
    /// How the use ends when it does not come back.
    pub(super) async fn keep(
        &mut self,
        session: &Session,
        lease: &mut Lease,
    ) -> Result<Return, End> {
        let hold = (session.keep)();
        if hold.is_zero() {
            return Err(End::PeerLeft);
        }
        let seconds = hold.as_secs_f32();
        info!(seconds, "session lost; the USB device is kept");
        self.give_up_all();
        let mut back = None;
        let end = self.await_return(&*session.outlet, lease, hold, &mut back);
        match (end.await, back) {
            (None, Some(back)) => Ok(back),
            (end, back) => {
                if let Some(Return { corr, session }) = back {
                    let refused = Refused::gone();
                    session
                        .outlet
                        .respond(corr, refused.status, refused.payload());
                }
                Err(end.unwrap_or(End::PeerLeft))
            }
        }
    }

    /// How the use ends; `None` when the peer is back and nothing of its lost session is under way.
    async fn await_return(
        &mut self,
        outlet: &dyn Outlet,
        lease: &mut Lease,
        hold: Duration,
        back: &mut Option<Return>,
    ) -> Option<End> {
        let mut until = Instant::now() + hold;
        loop {
            let end = self.proceed(outlet);
            if end.is_some() || (back.is_some() && self.is_at_rest()) {
                return end;
            }
            let end = match self.wake(timeout_at(until, lease.returns.recv())).await {
                Wake::Heard(Ok(Some(newer))) => {
                    // A peer that comes back twice has lost the first session meanwhile.
                    *back = Some(newer);
                    until = Instant::now() + REST;
                    None
                }
                Wake::Heard(Ok(None) | Err(_)) => Some(End::PeerLeft),
                Wake::Completed => self.reap(outlet),
                Wake::Returned(Some(returned)) => self.on_returned(outlet, returned),
                Wake::Returned(None) => Some(self.lose_device()),
                Wake::Deadline => self.on_deadline(),
            };
            if end.is_some() {
                return end;
            }
        }
    }
}
