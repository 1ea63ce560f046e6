//! USB devices in use by peers.

use std::rc::Rc;
use std::time::Duration;

use super::Server;
use super::dispatch::bad_payload;
use super::leases::keep;
use super::look::Hardware;
use super::uses::Asked;
use crate::bus::usb::hardware::usbfs::UsbfsHost;
use crate::bus::usb::hostuse::Roots;
use crate::bus::usb::op::AttachRequest;
use crate::bus::usb::server::{self, Grant, Session};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::acl::Need;
use crate::device::op::LockToken;
use crate::device::registry::Sharing;

impl Server {
    /// Gives offered devices back to their kernel drivers, in case a daemon before this one was
    /// killed while it had them.
    pub(super) async fn mend(&self) {
        let found = self.scan().await;
        for id in self.offered() {
            let Some(location) = found.get(&id).and_then(Hardware::location) else {
                continue;
            };
            let mended = server::reconnect(&UsbfsHost::default(), location).await;
            if let Err(error) = mended {
                tracing::warn!(device = id.as_str(), %error, "cannot look after its drivers");
            }
        }
    }

    /// Serves the stream of a `USB_DEVICE_ATTACH` from its request to its end.
    pub(super) async fn usb_attach(self: Rc<Self>, peer: Peer, request: Incoming) {
        let attach = AttachRequest::decode(&request.payload).map_err(bad_payload);
        if let Ok(AttachRequest {
            token: Some(token), ..
        }) = attach
        {
            return self.usb_return(&peer, &request, token);
        }
        let asked = attach.as_ref().map_err(Clone::clone).map(|attach| Asked {
            device: attach.dev.clone(),
            need: Need::Write,
            sharing: Sharing::Exclusive,
            lock: attach.lock.map(LockToken),
            pick: |hardware: &Hardware| Some((hardware.location()?.clone(), attach.clone())),
        });
        let server = Rc::clone(&self);
        let lessee = peer.clone();
        self.lend(peer, request, asked, async |loan, request, stream| {
            let force = server.policy.borrow().forces(loan.device.names());
            let (location, attach) = loan.hardware;
            let lease = server.leases.begin(loan.ticket, &attach);
            let hold = lease.as_ref().map_or(Duration::ZERO, |lease| lease.hold);
            let grant = Grant {
                corr: request.corr.0,
                request: attach,
                location,
                force,
                roots: Roots::default(),
                quiet: loan.quiet,
            };
            let host = UsbfsHost::default();
            let session = Session {
                outlet: stream.outlet,
                inbound: stream.inbound,
                keep: Box::new(move || keep(&lessee, hold)),
            };
            server::serve_leased(&host, grant, session, lease).await
        })
        .await;
    }
}
