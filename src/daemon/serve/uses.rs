//! Devices that peers have: lent, in use, given back.

use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::Server;
use super::devices::refused;
use super::look::Hardware;
use crate::bus::BusStream;
use crate::bus::usb::enumerate::Location;
use crate::daemon::audit::{Record, What};
use crate::daemon::peer::meter::Meter;
use crate::daemon::peer::{Incoming, Peer};
use crate::device::acl::Need;
use crate::device::id::DeviceId;
use crate::device::op::{EventKind, LockToken};
use crate::device::registry::{Found, Refusal, Sharing, Ticket};
use crate::kernel::clock;
use crate::link::StreamId;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// How long a device may take that is being given back.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a session may take to show that it lives, when its node is heard of elsewhere.
const PROBE: Duration = Duration::from_secs(2);

/// One device in use by a peer.
pub(super) struct Use {
    /// This use and no other.
    pub(super) ticket: Ticket,
    /// The device.
    pub(super) device: Found,
    /// Who has it.
    pub(super) peer: Peer,
    /// On which stream.
    pub(super) stream: StreamId,
    /// The operation that opened the stream.
    pub(super) opcode: Opcode,
    /// The right that it needs.
    pub(super) need: Need,
    /// The fence of the lock that its user had when it began.
    pub(super) fence: Option<u64>,
    /// When it began.
    pub(super) since: Mono,
    /// What goes over that stream.
    pub(super) meter: Rc<Meter>,
}

/// What a peer asks for, and what it needs to be given it.
pub(super) struct Asked<F> {
    /// The device, as the peer names it.
    pub(super) device: String,
    /// The right that the peer needs.
    pub(super) need: Need,
    /// Whether others may have it too.
    pub(super) sharing: Sharing,
    /// The lock that it says it has.
    pub(super) lock: Option<LockToken>,
    /// What of the hardware serves the stream; `None` for devices of other buses.
    pub(super) pick: F,
}

/// What a peer may have: a present device that the registry has marked as used.
pub(super) struct Loan<P> {
    /// The device.
    pub(super) device: Found,
    /// Its hardware.
    pub(super) hardware: P,
    /// The log has heard enough of this peer for now.
    pub(super) quiet: bool,
    /// This use and no other.
    pub(super) ticket: Ticket,
    /// What the guardian has to know of it.
    location: Option<Location>,
}

/// A device in use, until this is dropped.
struct InUse {
    server: Rc<Server>,
    device: DeviceId,
    ticket: Ticket,
    location: Option<Location>,
}

impl InUse {
    fn enter<P>(server: &Rc<Server>, used: Use, loan: &Loan<P>) -> Self {
        let device = used.device.id.clone();
        server.uses.borrow_mut().push(used);
        if let Some(location) = &loan.location {
            server.guardian.lend(location);
        }
        server.tell(EventKind::Changed, &device);
        Self {
            server: Rc::clone(server),
            device,
            ticket: loan.ticket,
            location: loan.location.clone(),
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut uses = self.server.uses.borrow_mut();
        if let Some(at) = uses.iter().position(|used| used.ticket == self.ticket) {
            let used = uses.remove(at);
            used.peer.drop_stream(used.stream);
        }
        drop(uses);
        self.server.leases.end(self.ticket);
        if let Some(location) = &self.location {
            self.server.guardian.back(location);
        }
        let registry = &self.server.registry;
        registry.borrow_mut().end_use(&self.device, self.ticket);
        self.server.tell(EventKind::Changed, &self.device);
        // Before anybody else who waits for the device: it may be promised.
        self.server.settle_locks();
        self.server.freed.notify_waiters();
    }
}

impl Server {
    /// Serves the stream of a request for a device to its end, if the peer may have the device;
    /// refuses it otherwise.
    pub(super) async fn lend<P, E: Debug>(
        self: Rc<Self>,
        peer: Peer,
        request: Incoming,
        asked: Result<Asked<impl Fn(&Hardware) -> Option<P>>, (Status, ErrorMap)>,
        serve: impl AsyncFnOnce(Loan<P>, Incoming, BusStream) -> E,
    ) {
        let (stream, corr, opcode) = (request.stream, request.corr, request.opcode);
        // Before anything is waited for: a reset that comes meanwhile must reach the bus half.
        let handle = peer.take_stream(stream);
        let node = peer.identity().node_id;
        let heard = self.attaches.borrow_mut().hear(node, None, clock::mono());
        let wanted = asked.as_ref().ok().map(|asked| asked.device.clone());
        let lent = match asked {
            Ok(asked) => {
                let loan = self.wait_for_loan(&peer, opcode, &asked).await;
                loan.map(|loan| (loan, asked.need))
            }
            Err(refusal) => Err(refusal),
        };
        match lent {
            Ok((mut loan, need)) => {
                loan.quiet = heard.is_none();
                let device = loan.device.id.clone();
                let meter = Rc::new(Meter::default());
                handle.measure(&meter);
                let used = Use {
                    ticket: loan.ticket,
                    device: loan.device.clone(),
                    peer: peer.clone(),
                    stream,
                    opcode,
                    need,
                    fence: self.fence_of(&peer, &device),
                    since: clock::mono(),
                    meter,
                };
                let _use = InUse::enter(&self, used, &loan);
                self.record(&peer, Record::new(What::Attached).on(&device));
                let streams = BusStream {
                    outlet: handle.outlet,
                    inbound: handle.inbound,
                };
                let end = serve(loan, request, streams).await;
                let detached = Record::new(What::Detached).on(&device);
                self.record(&peer, detached.because(format!("{end:?}")));
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
                self.record_refusal(&peer, wanted.as_deref(), &error);
                peer.refuse(stream, corr, status, &error);
                peer.drop_stream(stream);
            }
        }
    }

    /// Decides whether the peer may have the device, and marks it as used when it may.
    async fn wait_for_loan<P>(
        &self,
        peer: &Peer,
        opcode: Opcode,
        asked: &Asked<impl Fn(&Hardware) -> Option<P>>,
    ) -> Result<Loan<P>, (Status, ErrorMap)> {
        let unknown = |_| refused(&Refusal::Unknown);
        let name: DeviceId = asked.device.parse().map_err(unknown)?;
        if self.stopping.get() {
            let error = ErrorMap::new(sub::SHUTTING_DOWN);
            return Err((Status::ServiceUnavailable, error));
        }
        let lent = timeout(PATIENCE, async {
            loop {
                let freed = self.freed.notified();
                match self.try_lend(peer, &name, opcode, asked).await {
                    Err(Refusal::InUse) if self.frees(peer, &name) => freed.await,
                    lent => return lent,
                }
            }
        });
        let loan = lent.await.unwrap_or(Err(Refusal::InUse));
        loan.map_err(|refusal| refused(&refusal))
    }

    async fn try_lend<P>(
        &self,
        peer: &Peer,
        name: &DeviceId,
        opcode: Opcode,
        asked: &Asked<impl Fn(&Hardware) -> Option<P>>,
    ) -> Result<Loan<P>, Refusal> {
        let present = self.scan().await;
        let device = self.usable(peer, name, opcode, asked.need, asked.lock)?;
        let mut registry = self.registry.borrow_mut();
        let all = present.get(&device.id).ok_or(Refusal::Unknown)?;
        let hardware = (asked.pick)(all).ok_or(Refusal::Unknown)?;
        let node = peer.identity().node_id.0;
        let ticket = registry.begin_use(&device.id, node, asked.sharing)?;
        Ok(Loan {
            device,
            hardware,
            quiet: false,
            ticket,
            location: all.location().cloned(),
        })
    }

    /// Whether the one who has the device is about to lose it: its session has ended, or will, since
    /// the same node asks again in another one. A client that was killed and started again does that:
    /// for it the device is not kept any longer, and whether its old session still lives is looked into.
    fn frees(&self, peer: &Peer, name: &DeviceId) -> bool {
        let registry = self.registry.borrow();
        let device = registry.find(name).map(|device| &device.found.id);
        let uses = self.uses.borrow();
        let mut frees = false;
        for used in uses.iter().filter(|used| Some(&used.device.id) == device) {
            let same = used.peer.identity().node_id == peer.identity().node_id;
            let ended = used.peer.ended().is_some();
            if same && ended {
                self.leases.end(used.ticket);
            } else if same && !used.peer.is(peer) {
                used.peer.probe(PROBE);
            }
            frees |= (same && !used.peer.is(peer)) || (ended && !self.leases.has(used.ticket));
        }
        frees
    }
}
