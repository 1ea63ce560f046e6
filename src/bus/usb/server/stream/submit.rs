//! Transfers on their way into usbfs.

use core::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{STARVED, Stream};
use crate::bus::Outlet;
use crate::bus::Refused;
use crate::bus::usb::server::check::Order;
use crate::bus::usb::server::iso::{IsoOrder, Submitted};
use crate::bus::usb::server::reply::{self, NO_MEMORY};
use crate::kernel::usbfs::{SETUP_LEN, Transfer};

impl Stream {
    pub(super) fn submit(
        &mut self,
        outlet: &dyn Outlet,
        corr: u32,
        interface: Option<u8>,
        order: &Order<'_>,
    ) -> Result<(), Errno> {
        if let Err(errno) = self.check_claim(interface) {
            return self.not_accepted(outlet, corr, errno);
        }
        let mut buffer = self.spare.take();
        buffer.extend_from_slice(
            order
                .setup
                .as_ref()
                .map_or(&[], <[u8; SETUP_LEN]>::as_slice),
        );
        buffer.extend_from_slice(order.data);
        let key = self.outstanding.next_key();
        let transfer = Transfer {
            key,
            endpoint: order.endpoint,
            kind: order.kind,
            buffer,
            receive: order.receive,
            packets: Vec::new(),
            short_not_ok: order.flags.short_not_ok,
            zero_packet: order.flags.zero_packet,
        };
        match self.device.submit(transfer) {
            Ok(()) => {
                let timeout = Duration::from_millis(order.timeout_ms.into());
                let deadline = (order.timeout_ms != 0).then(|| Instant::now() + timeout);
                self.outstanding.insert(key, corr, order.form, deadline);
                Ok(())
            }
            Err(errno) => self.not_accepted(outlet, corr, errno),
        }
    }

    pub(super) fn submit_iso(
        &mut self,
        outlet: &dyn Outlet,
        corr: u32,
        interface: Option<u8>,
        order: &IsoOrder<'_>,
    ) -> Result<(), Errno> {
        if let Err(errno) = self.check_claim(interface) {
            return self.not_accepted(outlet, corr, errno);
        }
        let device = &*self.device;
        let all = &mut self.outstanding;
        match all.submit_iso(device, &mut self.spare, corr, order) {
            Submitted::Whole => Ok(()),
            Submitted::Partly(keys, errno) => {
                debug!(%errno, "only a part of an isochronous transfer was accepted");
                if errno == Errno::ENOMEM {
                    self.tell_memory();
                }
                self.discards.extend(keys);
                Ok(())
            }
            Submitted::Not(errno) => self.not_accepted(outlet, corr, errno),
        }
    }

    /// Answers a transfer that usbfs refused.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn not_accepted(
        &mut self,
        outlet: &dyn Outlet,
        corr: u32,
        errno: Errno,
    ) -> Result<(), Errno> {
        let refused = match errno {
            Errno::ENODEV => return Err(errno),
            // The interface is not ours, or not in the setting that it should be in.
            Errno::EBUSY | Errno::ENOENT if self.try_again(corr) => return Err(Errno::EBUSY),
            Errno::ENOMEM if self.starved.is_none_or(|since| since.elapsed() < STARVED.1) => {
                return Err(errno);
            }
            Errno::ENOMEM => {
                self.tell_memory();
                reply::no_memory()
            }
            Errno::EBUSY => Refused::io("another program of the owner has taken the device", errno),
            Errno::ENOSPC => Refused::io("the owner's USB bus has no bandwidth left for it", errno),
            errno => Refused::io("the transfer was not accepted", errno),
        };
        outlet.respond(corr, refused.status, refused.payload());
        Ok(())
    }

    /// Says in the log, once, what the owner of this machine can do.
    pub(super) fn tell_memory(&mut self) {
        if !core::mem::replace(&mut self.told_memory, true) {
            warn!("{NO_MEMORY}");
        }
    }
}
