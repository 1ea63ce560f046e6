//! Attachments by port that outlive their device: when it goes away, whatever is plugged in there
//! soon afterwards takes its place. A device that gets its firmware from a driver comes back as
//! another one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Client;
use super::attached::Attached;
use super::hub::Hub;
use super::target::Target;
use crate::bus::usb::client::Ended;
use crate::daemon::control::message::{AttachedDevice, ControlError};
use crate::kernel::clock;
use crate::wire::status::Status;
use crate::wire::time::Mono;

/// How long a port may stay empty.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pauses between attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// An attachment whose device is gone and whose port is watched.
pub(super) struct Waiting {
    pub(super) was: Rc<Attached>,
    until: Mono,
    given_up: Cell<bool>,
    giving_up: Notify,
}

impl Waiting {
    /// Ends the waiting.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
        self.giving_up.notify_one();
    }

    /// The device that went away, for people.
    pub(super) fn info(&self) -> AttachedDevice {
        let left = self.until.since(clock::mono());
        AttachedDevice {
            files: Vec::new(),
            live: false,
            waiting: Some(left.as_secs()),
            ..self.was.describe()
        }
    }
}

/// True for the ends by which a device goes away that may come back: it was unplugged, or its owner cannot
/// be reached.
pub(super) const fn may_return(end: &Ended) -> bool {
    match end {
        Ended::DeviceGone
        | Ended::Exchanged
        | Ended::NotBack(_)
        | Ended::Reset(Status::ServiceUnavailable)
        | Ended::SessionClosed => true,
        Ended::Reset(_)
        | Ended::Detached
        | Ended::Kernel
        | Ended::KernelFault(_)
        | Ended::Violation(_)
        | Ended::NoPort(_)
        | Ended::Socket(_)
        | Ended::Silent
        | Ended::TornDown => false,
    }
}

impl Client {
    /// Attaches what is plugged into the port of `was` next, within [`PATIENCE`].
    pub(super) async fn follow(self: Rc<Self>, hub: Rc<Hub>, was: Rc<Attached>) {
        let waiting = Rc::new(Waiting {
            was,
            until: clock::mono().after(PATIENCE),
            given_up: Cell::new(false),
            giving_up: Notify::new(),
        });
        self.waiting.borrow_mut().push(Rc::clone(&waiting));
        self.try_again(&hub, &waiting).await;
        self.waiting
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &waiting));
    }

    async fn try_again(self: &Rc<Self>, hub: &Rc<Hub>, waiting: &Waiting) {
        let (node, port) = (&waiting.was.node.name, &waiting.was.device);
        tracing::info!(node, port, "waiting for a device at the same port");
        let mut pause = PAUSES.0;
        while clock::mono() < waiting.until {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = waiting.giving_up.notified() => return,
            }
            match self.attach_again(hub, port).await {
                Ok(attached) => {
                    tracing::info!(
                        node,
                        port,
                        device = attached.id,
                        "followed to its next device"
                    );
                    if waiting.given_up.get() {
                        attached.detach();
                    }
                    return;
                }
                Err(error) => tracing::debug!(node, port, %error, "nothing to attach yet"),
            }
            if waiting.given_up.get() {
                return;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        tracing::info!(
            node,
            port,
            "nothing was plugged in there; no longer waiting"
        );
    }

    async fn attach_again(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        port: &str,
    ) -> Result<Rc<Attached>, ControlError> {
        let peer = self.connected(hub).await?;
        let target = Target::at_port(&peer, port).await;
        self.take(hub, &peer, target).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_followed_that_may_come_back() {
        for end in [
            Ended::DeviceGone,
            Ended::Reset(Status::ServiceUnavailable),
            Ended::SessionClosed,
        ] {
            assert!(may_return(&end), "{end}");
        }
        for end in [
            Ended::Reset(Status::Forbidden),
            Ended::Detached,
            Ended::Kernel,
        ] {
            assert!(!may_return(&end), "{end}");
        }
    }
}
