//! USB devices in use by peers.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::devices::refused;
use super::dispatch::bad_payload;
use super::{Server, Use};
use crate::bus::usb::enumerate::Location;
use crate::bus::usb::hardware::usbfs::UsbfsHost;
use crate::bus::usb::hostuse::Roots;
use crate::bus::usb::op::AttachRequest;
use crate::bus::usb::server::{self, Grant};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::acl::Need;
use crate::device::id::DeviceId;
use crate::device::registry::{Found, Refusal, Ticket};
use crate::kernel::clock;
use crate::link::StreamId;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long a device may take that is being given back.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device in use, until this is dropped.
struct InUse {
    server: Rc<Server>,
    peer: Peer,
    loan: Loan,
    stream: StreamId,
}

/// What a peer may have: a present device that the registry has marked as used.
struct Loan {
    device: Found,
    ticket: Ticket,
    location: Location,
}

impl InUse {
    fn enter(server: &Rc<Server>, peer: &Peer, loan: Loan, stream: StreamId) -> Self {
        server.uses.borrow_mut().push(Use {
            device: loan.device.clone(),
            peer: peer.clone(),
            stream,
        });
        server.guardian.lend(&loan.location);
        Self {
            server: Rc::clone(server),
            peer: peer.clone(),
            loan,
            stream,
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let ended = |used: &Use| used.peer.is(&self.peer) && used.stream == self.stream;
        self.server.uses.borrow_mut().retain(|used| !ended(used));
        self.server.guardian.back(&self.loan.location);
        let Loan { device, ticket, .. } = &self.loan;
        self.server
            .registry
            .borrow_mut()
            .end_use(&device.id, *ticket);
        self.server.freed.notify_waiters();
    }
}

impl Server {
    /// Gives offered devices back to their kernel drivers, in case a daemon before this one was
    /// killed while it had them.
    pub(super) async fn mend(&self) {
        let found = self.scan().await;
        for id in self.offered() {
            let Some(info) = found.get(&id) else {
                continue;
            };
            let mended = server::reconnect(&UsbfsHost::default(), &info.location).await;
            if let Err(error) = mended {
                tracing::warn!(device = id.as_str(), %error, "cannot look after its drivers");
            }
        }
    }

    /// Serves the stream of a `USB_DEVICE_ATTACH` from its request to its end.
    pub(super) async fn usb_attach(self: Rc<Self>, peer: Peer, request: Incoming) {
        let (stream, corr) = (request.stream, request.corr);
        // Before anything is waited for: a reset that comes meanwhile must reach the bus half.
        let handle = peer.take_stream(stream);
        let node = peer.identity().node_id;
        let heard = self.attaches.borrow_mut().hear(node, None, clock::mono());
        match self.usb_grant(&peer, &request).await {
            Ok((loan, mut grant)) => {
                grant.quiet = heard.is_none();
                let device = loan.device.id.clone();
                let _use = InUse::enter(&self, &peer, loan, stream);
                let host = UsbfsHost::default();
                let end = server::serve(&host, grant, handle.outlet, handle.inbound).await;
                if let Some(unsaid) = heard {
                    let (peer, device) = (peer.name(), device.as_str());
                    tracing::info!(peer, device, ?end, unsaid, "use of device ended");
                }
            }
            Err((status, error)) => {
                if let Some(unsaid) = heard {
                    let (peer, sub) = (peer.name(), &error.sub);
                    tracing::info!(peer, %status, %sub, unsaid, "use of a device refused");
                }
                peer.refuse(stream, corr, status, &error);
            }
        }
        peer.drop_stream(stream);
    }

    /// Decides whether the peer may have the device, and marks it as used when it may.
    async fn usb_grant(
        &self,
        peer: &Peer,
        request: &Incoming,
    ) -> Result<(Loan, Grant), (Status, ErrorMap)> {
        let attach = AttachRequest::decode(&request.payload).map_err(bad_payload)?;
        let unknown = |_| refused(&Refusal::Unknown);
        let name: DeviceId = attach.dev.parse().map_err(unknown)?;
        if self.stopping.get() {
            let error = ErrorMap::new(sub::SHUTTING_DOWN);
            return Err((Status::ServiceUnavailable, error));
        }
        let lent = timeout(PATIENCE, async {
            loop {
                let freed = self.freed.notified();
                match self.try_lend(peer, &name).await {
                    Err(Refusal::InUse) if self.comes_free(peer, &name) => freed.await,
                    lent => return lent,
                }
            }
        });
        let loan = lent.await.unwrap_or(Err(Refusal::InUse));
        let loan = loan.map_err(|refusal| refused(&refusal))?;
        let grant = Grant {
            corr: request.corr.0,
            request: attach,
            location: loan.location.clone(),
            force: self.policy.borrow().forces(loan.device.names()),
            roots: Roots::default(),
            quiet: false,
        };
        Ok((loan, grant))
    }

    async fn try_lend(&self, peer: &Peer, name: &DeviceId) -> Result<Loan, Refusal> {
        let infos = self.scan().await;
        let mut registry = self.registry.borrow_mut();
        let device = self.viewed(peer.identity(), |view| {
            registry
                .check(view, name, Opcode::UsbDeviceAttach, Need::Write, false)
                .map(|device| device.found.clone())
        })?;
        let info = infos.get(&device.id).ok_or(Refusal::Unknown)?;
        let ticket = registry.begin_use(&device.id, peer.identity().node_id.0)?;
        Ok(Loan {
            device,
            ticket,
            location: info.location.clone(),
        })
    }

    /// Whether the one who has the device is about to lose it: its session has ended, or will, since
    /// the same node asks again. A client that was killed and started again does that.
    fn comes_free(&self, peer: &Peer, name: &DeviceId) -> bool {
        let registry = self.registry.borrow();
        let device = registry.find(name).map(|device| &device.found.id);
        let uses = self.uses.borrow();
        let mut users = uses.iter().filter(|used| Some(&used.device.id) == device);
        users.any(|used| {
            let same = used.peer.identity().node_id == peer.identity().node_id;
            used.peer.ended().is_some() || (same && !used.peer.is(peer))
        })
    }
}
