//! A device that is kept for a peer whose session was lost: nothing of it is given back, what was under
//! way is given up, and the peer goes on where it was when it comes back in time.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::bus::usb::op::{Kept, TOKEN};
use crate::bus::{Inbound, Outlet};

/// The longest time that a device is kept, whatever the peer asks for.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A stream of the peer, and what its loss is worth.
pub struct Session {
    /// What can be sent.
    pub outlet: Rc<dyn Outlet>,
    /// What arrives.
    pub inbound: UnboundedReceiver<Inbound>,
    /// How long the device is kept now that the stream is lost with its session; zero when the session
    /// was ended in order. Asked after [`Inbound::Closed`].
    pub keep: Box<dyn Fn() -> Duration>,
}

impl Session {
    /// A stream whose loss gives the device back.
    pub fn plain(outlet: Rc<dyn Outlet>, inbound: UnboundedReceiver<Inbound>) -> Self {
        Self {
            outlet,
            inbound,
            keep: Box::new(|| Duration::ZERO),
        }
    }
}

/// The peer is back.
pub struct Return {
    /// Number of its `USB_DEVICE_ATTACH` request, which the task answers.
    pub corr: u32,
    /// The stream that it opened.
    pub session: Session,
}

/// The right to come back to a device.
pub struct Lease {
    /// Names this use.
    pub token: [u8; TOKEN],
    /// The longest time that the device is kept.
    pub hold: Duration,
    /// Where the peer comes back. The end of it gives the device back at once.
    pub returns: UnboundedReceiver<Return>,
}

impl Lease {
    /// What the peer is told.
    pub(super) fn kept(&self, back: bool) -> Kept {
        Kept {
            token: self.token,
            hold: u32::try_from(self.hold.as_millis()).unwrap_or(u32::MAX),
            back,
        }
    }
}
