//! USB devices in use by peers.

use std::rc::Rc;

use super::devices::refused;
use super::dispatch::bad_payload;
use super::{Server, Use};
use crate::bus::usb::hardware::usbfs::UsbfsHost;
use crate::bus::usb::hostuse::Roots;
use crate::bus::usb::op::AttachRequest;
use crate::bus::usb::server::{self, Grant};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::acl::Need;
use crate::device::id::DeviceId;
use crate::device::registry::Refusal;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

impl Server {
    /// Serves the stream of a `USB_DEVICE_ATTACH` from its request to its end.
    pub(super) async fn usb_attach(self: Rc<Self>, peer: Peer, request: Incoming) {
        let (stream, corr) = (request.stream, request.corr);
        match self.usb_grant(&peer, &request).await {
            Ok((device, grant)) => {
                let handle = peer.take_stream(stream);
                let used = Use {
                    device: device.clone(),
                    peer: peer.clone(),
                    stream,
                };
                self.uses.borrow_mut().push(used);
                let host = UsbfsHost::default();
                let end = server::serve(&host, grant, handle.outlet, handle.inbound).await;
                tracing::info!(
                    peer = peer.name(),
                    device = device.as_str(),
                    ?end,
                    "use of device ended"
                );
                peer.drop_stream(stream);
                self.uses
                    .borrow_mut()
                    .retain(|used| !(used.peer.is(&peer) && used.stream == stream));
                self.registry.borrow_mut().end_use(&device);
            }
            Err((status, error)) => {
                tracing::info!(
                    peer = peer.name(), %status, sub = %error.sub, "use of a device refused"
                );
                peer.refuse(stream, corr, status, &error);
            }
        }
    }

    /// Decides whether the peer may have the device, and marks it as used when it may.
    async fn usb_grant(
        &self,
        peer: &Peer,
        request: &Incoming,
    ) -> Result<(DeviceId, Grant), (Status, ErrorMap)> {
        let attach = AttachRequest::decode(&request.payload).map_err(bad_payload)?;
        let unknown = || refused(&Refusal::Unknown);
        let id: DeviceId = attach.dev.parse().map_err(|_| unknown())?;
        if self.stopping.get() {
            let error = ErrorMap::new(sub::SHUTTING_DOWN);
            return Err((Status::ServiceUnavailable, error));
        }
        let mut infos = self.scan().await;
        let force = self.policy.borrow().forces(&id);
        let mut registry = self.registry.borrow_mut();
        self.viewed(peer.identity(), |view| {
            registry
                .check(view, &id, Opcode::UsbDeviceAttach, Need::Write, false)
                .map(drop)
        })
        .map_err(|refusal| refused(&refusal))?;
        let info = infos.remove(&id).ok_or_else(unknown)?;
        registry
            .begin_use(&id, peer.identity().node_id.0)
            .map_err(|refusal| refused(&refusal))?;
        let grant = Grant {
            corr: request.corr.0,
            request: attach,
            location: info.location,
            force,
            roots: Roots::default(),
        };
        Ok((id, grant))
    }
}
