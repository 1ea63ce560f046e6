//! The node with the hardware as the bus halves see it that make remote devices local: whichever session
//! there is with it now.

use core::future::Future;
use core::pin::Pin;
use std::time::Duration;

use super::hub::Hub;
use crate::bus::{AskError, BusStream, Opener, Pending};
use crate::daemon::control::message::Link;
use crate::daemon::peer::{CallError, Peer};
use crate::kernel::clock;
use crate::link::connection::End;
use crate::wire::opcode::Opcode;

/// While a device waits for its owner, so often an attempt to connect is asked for.
const ATTEMPT: Duration = Duration::from_secs(1);

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { status, error } => Self::Refused { status, error },
            CallError::Ended(end) => Self::Ended(end.to_string()),
            CallError::Link(error) => Self::NotSent(error.to_string()),
        }
    }
}

impl Hub {
    /// Whether nothing is kept there for the session that was last.
    fn keeps_nothing(&self) -> bool {
        self.has_refused()
            || self.last_end().is_some_and(|end| match *end {
                End::ClosedByPeer(_) | End::ClosedHere(_) | End::Violation(_) | End::Revoked => {
                    true
                }
                End::Forged | End::Silent | End::Exhausted | End::PathLost => false,
            })
    }

    /// The session that there is now.
    pub(super) fn session(&self) -> Result<Peer, AskError> {
        self.peer()
            .ok_or_else(|| AskError::Ended("it is over".to_owned()))
    }
}

impl Opener for Hub {
    fn call(&self, opcode: Opcode, payload: Vec<u8>, timeout: Duration) -> Pending<'_, Vec<u8>> {
        Box::pin(async move { Ok(self.session()?.call(opcode, payload, timeout).await?) })
    }

    fn open(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Pending<'_, (Vec<u8>, BusStream)> {
        Box::pin(async move {
            let (answer, stream) = self.session()?.open(opcode, payload, timeout).await?;
            Ok((answer, stream.into()))
        })
    }

    fn lost(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            if let Some(peer) = self.peer() {
                peer.closed().await;
            }
        })
    }

    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            loop {
                let changed = self.changed();
                if self.keeps_nothing() {
                    return;
                }
                changed.await;
            }
        })
    }

    fn returned(&self, within: Duration) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async move {
            let until = clock::mono().after(within);
            loop {
                let left = until.since(clock::mono());
                if self.wait_for_peer(left.min(ATTEMPT)).await.is_some() {
                    return true;
                }
                if left.is_zero() || self.standing().0 == Link::Refused {
                    return false;
                }
            }
        })
    }
}
