//! When somebody else takes the device: a reset by another program, or a driver bound by hand.
//!
//! Both take our interfaces away without a word (kernel `drivers/usb/core/hub.c`
//! `usb_reset_device()`: usbfs has no `pre_reset`, so it is unbound, and whatever driver fits is
//! bound afterwards). What is in flight ends as unlinked or shut down. Whoever goes on as if nothing
//! had happened makes usbfs complain of an interface that was not claimed before use, so claims are
//! checked before something is submitted to a quiet device, and taken again once.

use nix::errno::Errno;
use tracing::warn;

use super::Stream;
use super::away::{Hold, Outcome};
use crate::bus::Outlet;
use crate::bus::usb::server::check::{self, Order};
use crate::bus::usb::server::held::Held;
use crate::bus::usb::server::outstanding::{Pending, SHUT_DOWN, UNLINKED};
use crate::kernel::usbfs::Completion;

/// What a transfer that lost its device without being given up ended with (-EPROTO): to a driver,
/// "shut down" would mean that there is nothing to try again on.
const BROKEN: i32 = -71;

/// Whether the interfaces are still ours.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// They are not, or may not be: to be taken again.
    lost: bool,
    /// The request for which they were taken again last: that is done once for each.
    tried: Option<u32>,
    /// Transfers that ended as if the device were lost, in order; whether it is, reaping tells.
    suspects: Vec<(Pending, Completion)>,
}

impl Claims {
    /// Whether a transfer ended because somebody else took the device.
    pub(super) fn is_suspect(pending: &Pending, completion: &Completion) -> bool {
        matches!(completion.status, UNLINKED | SHUT_DOWN) && !pending.is_ended()
    }

    /// The interfaces were taken again: what ended before that says nothing any more.
    pub(super) const fn taken(&mut self) {
        self.lost = false;
    }

    /// Keeps it until reaping has come to its end.
    pub(super) fn suspect(&mut self, pending: Pending, completion: Completion) {
        self.suspects.push((pending, completion));
    }
}

impl Stream {
    /// Answers the suspects. `here` tells whether the device is still there, so that only our claims
    /// can be lost.
    pub(super) fn settle_suspects(&mut self, outlet: &dyn Outlet, here: bool) {
        for (pending, mut completion) in core::mem::take(&mut self.claims.suspects) {
            if here {
                completion.status = BROKEN;
                self.claims.lost = true;
            }
            self.answer(outlet, &pending, completion);
        }
    }

    /// Checks that the interface is ours before something is submitted to it, on a busy device too:
    /// a submission that waits for the end of somebody's reset would come before the news of it.
    ///
    /// # Errors
    /// `EBUSY` when it is not ours, `ENODEV` when the device is gone.
    pub(super) fn check_claim(&self, interface: Option<u8>) -> Result<(), Errno> {
        match interface.map_or(Ok(()), |interface| self.device.claim(interface)) {
            Err(Errno::ENODEV) => Err(Errno::ENODEV),
            claimed => claimed.map_err(|_| Errno::EBUSY),
        }
    }

    /// Has the interfaces taken again for a request, unless they were for this one.
    pub(super) fn try_again(&mut self, corr: u32) -> bool {
        if self.claims.tried.replace(corr) == Some(corr) {
            return false;
        }
        self.claims.lost = true;
        true
    }

    /// Takes the interfaces again when they were lost.
    pub(super) fn recover_claims(&mut self) {
        if self.claims.lost && matches!(self.hold, Hold::Here(_)) {
            self.claims.lost = false;
            warn!(
                "somebody else has reset or taken the USB device; its interfaces are taken again"
            );
            self.send_away(|held| Outcome::Reclaimed(held.reclaim()));
        }
    }
}

/// The interface that usbfs wants to be claimed for a transfer (kernel `drivers/usb/core/devio.c`
/// `check_ctrlrecip()` for those on endpoint 0).
pub(super) fn target(held: &Held, order: &Order<'_>) -> Option<u8> {
    let Some([request_type, _, _, _, index, ..]) = order.setup else {
        return held.interface_of(order.endpoint);
    };
    match (request_type & 0x60, request_type & 0x1f) {
        (check::VENDOR, _) => None,
        (_, 1) => held.has_interface(index).then_some(index),
        (_, 2) => held
            .interface_of(index)
            .or_else(|| held.interface_of(index ^ 0x80)),
        _ => None,
    }
}
