//! Where the device is: with the data thread, or with one that may wait for the hardware.

use nix::errno::Errno;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use super::Stream;
use super::answers::done;
use crate::bus::Outlet;
use crate::bus::Refused;
use crate::bus::usb::op::TransferReply;
use crate::bus::usb::server::End;
use crate::bus::usb::server::check::{Change, Form};
use crate::bus::usb::server::held::Held;
use crate::wire::status::Status;

/// Where the device is: at hand for the data thread, or with a thread that waits for it.
pub(super) enum Hold {
    Here(Held),
    Away(JoinHandle<Returned>),
    /// It came to nothing; the stream is about to end.
    Lost,
}

/// What a waiting thread brings back.
pub(super) struct Returned {
    pub(super) held: Held,
    outcome: Outcome,
}

pub(super) enum Outcome {
    Discarded,
    Reclaimed(Result<(), Errno>),
    Changed {
        corr: u32,
        change: Change,
        form: Form,
        result: Result<(), Errno>,
    },
    GivenBack {
        corr: u32,
    },
}

impl Stream {
    /// Has a change of the device made.
    pub(super) fn change(&mut self, corr: u32, change: Change, form: Form) {
        // A reset waits for everything in flight, and the device may be past answering.
        let keys = match change {
            Change::Reset => self.outstanding.keys(),
            Change::SetConfiguration(_) | Change::SetInterface { .. } | Change::ClearHalt(_) => {
                Vec::new()
            }
        };
        self.send_away(move |held| {
            discard(held, &keys);
            let result = apply(held, change);
            Outcome::Changed {
                corr,
                change,
                form,
                result,
            }
        });
    }

    /// Lends the device to a thread that may wait.
    pub(super) fn send_away(&mut self, work: impl FnOnce(&mut Held) -> Outcome + Send + 'static) {
        match core::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Here(mut held) => {
                self.hold = Hold::Away(spawn_blocking(move || {
                    let outcome = work(&mut held);
                    Returned { held, outcome }
                }));
            }
            // INVARIANT: only called while the device is at hand; otherwise nothing changes.
            other @ (Hold::Away(_) | Hold::Lost) => self.hold = other,
        }
    }

    pub(super) fn on_returned(&mut self, outlet: &dyn Outlet, returned: Returned) -> Option<End> {
        self.hold = Hold::Here(returned.held);
        match returned.outcome {
            Outcome::Discarded => self.reap(outlet),
            Outcome::Reclaimed(result) => {
                if let Err(errno) = result {
                    warn!(%errno, "not every interface could be taken again");
                }
                let end = self.reap(outlet);
                self.claims.taken();
                end.or_else(|| (result == Err(Errno::ENODEV)).then_some(End::DeviceGone))
            }
            Outcome::Changed {
                corr,
                change,
                form,
                result,
            } => {
                let end = self.reap_own(outlet);
                match (result, form) {
                    (Ok(()), form) => outlet.respond(corr, Status::Ok, done(form)),
                    (Err(errno), Form::Received | Form::Sent) => {
                        let payload = TransferReply::whole(-(errno as i32), 0, &[]);
                        outlet.respond(corr, Status::Ok, payload);
                    }
                    (Err(errno), Form::Empty | Form::Descriptor) => {
                        let refused = Refused::io(&format!("{change:?}"), errno);
                        outlet.respond(corr, refused.status, refused.payload());
                    }
                }
                end.or_else(|| is_lost(change, result).then_some(End::DeviceGone))
            }
            Outcome::GivenBack { corr } => {
                self.detached = Some(corr);
                let _ = self.reap_own(outlet);
                Some(End::Detached)
            }
        }
    }
}

/// Whether a change lost the device: after a reset, not only when the kernel says so.
fn is_lost(change: Change, result: Result<(), Errno>) -> bool {
    result == Err(Errno::ENODEV) || (change == Change::Reset && result == Err(Errno::EIO))
}

fn apply(held: &mut Held, change: Change) -> Result<(), Errno> {
    match change {
        Change::SetConfiguration(value) => held.set_configuration(value),
        Change::SetInterface {
            interface,
            alternate,
        } => held.set_interface(interface, alternate),
        Change::ClearHalt(endpoint) => held.clear_halt(endpoint),
        Change::Reset => held.reset(),
    }
}

/// Gives transfers up, the last first, so that none is started by the end of the one before it.
pub(super) fn discard(held: &Held, keys: &[u64]) {
    for key in keys.iter().rev() {
        // EINVAL: it finished meanwhile and will be reaped as such.
        let _ = held.port().discard(*key);
    }
}
