//! USB devices that are kept for a node whose session was lost, and the way back to them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Server;
use super::devices::refused;
use crate::bus::usb::op::{AttachRequest, TOKEN};
use crate::bus::usb::server::{LONGEST, Lease, Return, Session};
use crate::daemon::peer::{Incoming, Peer};
use crate::daemon::system::SystemEntropy;
use crate::device::acl::Need;
use crate::device::registry::{Refusal, Ticket};
use crate::link::connection::End;
use crate::session::Entropy;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long a device is kept when the other machine itself has ended the connection: its program was
/// killed, or something between the two machines lost its memory. In the latter case it is back soon.
const BRIEF: Duration = Duration::from_secs(2);

/// Who may come back to which use of a device.
#[derive(Default)]
pub(super) struct Leases(RefCell<HashMap<Ticket, Lessee>>);

struct Lessee {
    token: [u8; TOKEN],
    hold: Duration,
    back: UnboundedSender<Return>,
}

impl Leases {
    /// A lease for a use that begins, if the peer asks for one.
    pub(super) fn begin(&self, ticket: Ticket, request: &AttachRequest) -> Option<Lease> {
        let wanted = request.hold.filter(|hold| *hold > 0)?;
        let hold = Duration::from_millis(u64::from(wanted)).min(LONGEST);
        let mut token = [0; TOKEN];
        SystemEntropy.fill(&mut token);
        let (back, returns) = unbounded_channel();
        self.0
            .borrow_mut()
            .insert(ticket, Lessee { token, hold, back });
        Some(lease(token, hold, returns))
    }

    /// Whether the device may still be kept for its user.
    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.0.borrow().contains_key(&ticket)
    }

    /// From now on the loss of the session is the end of that use.
    pub(super) fn end(&self, ticket: Ticket) {
        self.0.borrow_mut().remove(&ticket);
    }

    /// As [`Self::end`] for all.
    pub(super) fn end_all(&self) {
        self.0.borrow_mut().clear();
    }

    fn find(&self, token: &[u8; TOKEN]) -> Option<(Ticket, Duration, UnboundedSender<Return>)> {
        let leases = self.0.borrow();
        let found = leases.iter().find(|(_, lessee)| lessee.token == *token);
        found.map(|(ticket, lessee)| (*ticket, lessee.hold, lessee.back.clone()))
    }
}

fn lease(token: [u8; TOKEN], hold: Duration, returns: UnboundedReceiver<Return>) -> Lease {
    Lease {
        token,
        hold,
        returns,
    }
}

/// How long the device is kept now that this session is over.
pub(super) fn keep(peer: &Peer, hold: Duration) -> Duration {
    worth(peer.ended().as_deref(), peer.was_hung_up(), hold)
}

/// What the end of a session is worth to its devices.
fn worth(end: Option<&End>, hung_up: bool, hold: Duration) -> Duration {
    match end {
        Some(End::PathLost) if hung_up => hold.min(BRIEF),
        Some(End::PathLost | End::Silent | End::Forged | End::Exhausted) => hold,
        Some(End::ClosedByPeer(_) | End::ClosedHere(_) | End::Violation(_) | End::Revoked)
        | None => Duration::ZERO,
    }
}

impl Server {
    /// Gives a node the device back that was kept for it.
    pub(super) fn usb_return(self: &Rc<Self>, peer: &Peer, request: &Incoming, token: [u8; TOKEN]) {
        // Before the answer: a reset that comes meanwhile must reach the bus half.
        let handle = peer.take_stream(request.stream);
        let Some((hold, back)) = self.take_over(peer, request, &token) else {
            let error = ErrorMap::new(sub::LOCK_LOST).with_msg("the device was not kept");
            peer.refuse(request.stream, request.corr, Status::Forbidden, &error);
            return peer.drop_stream(request.stream);
        };
        let owner = peer.clone();
        let session = Session {
            outlet: handle.outlet,
            inbound: handle.inbound,
            keep: Box::new(move || keep(&owner, hold)),
        };
        let corr = request.corr.0;
        if back.send(Return { corr, session }).is_err() {
            let (status, error) = refused(&Refusal::Unknown);
            peer.refuse(request.stream, request.corr, status, &error);
            peer.drop_stream(request.stream);
        }
    }

    /// Writes the use over to the session that the node is heard of in now, if it has the right.
    fn take_over(
        &self,
        peer: &Peer,
        request: &Incoming,
        token: &[u8; TOKEN],
    ) -> Option<(Duration, UnboundedSender<Return>)> {
        let (ticket, hold, back) = self.leases.find(token)?;
        let mut uses = self.uses.borrow_mut();
        let used = uses.iter_mut().find(|used| used.ticket == ticket)?;
        let same = used.peer.identity().node_id == peer.identity().node_id;
        let node = peer.identity().node_id.0;
        let holder = self.locks.holder(&used.device.id);
        let permitted = self.viewed(peer.identity(), |view| {
            let names = used.device.names();
            let opcode = Opcode::UsbDeviceAttach;
            let holds = holder == Some(node);
            view.permits(names, opcode, Need::Write, holds).is_ok()
        });
        let permitted = permitted && holder.is_none_or(|holder| holder == node);
        if !same || !permitted || used.peer.is(peer) {
            return None;
        }
        // It may not be known yet that the old session is lost.
        let old = std::mem::replace(&mut used.peer, peer.clone());
        let old_stream = std::mem::replace(&mut used.stream, request.stream);
        drop(uses);
        if old.ended().is_none() {
            old.lose();
        }
        old.drop_stream(old_stream);
        Some((hold, back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::CloseReason;

    #[test]
    fn only_a_lost_session_keeps_a_device_and_a_silent_one_longest() {
        let hold = Duration::from_secs(30);
        let closed = || CloseReason::new(Status::Ok, "");
        for (end, hung_up, kept) in [
            (Some(End::Silent), false, hold),
            (Some(End::PathLost), false, hold),
            (Some(End::PathLost), true, BRIEF),
            (Some(End::Forged), false, hold),
            (Some(End::ClosedByPeer(closed())), false, Duration::ZERO),
            (Some(End::ClosedHere(closed())), true, Duration::ZERO),
            (Some(End::Revoked), false, Duration::ZERO),
            (None, false, Duration::ZERO),
        ] {
            assert_eq!(worth(end.as_ref(), hung_up, hold), kept, "{end:?}");
        }
        let brief = Duration::from_millis(10);
        assert_eq!(worth(Some(&End::PathLost), true, brief), brief);
    }

    #[test]
    fn nobody_has_a_device_kept_for_longer_than_is_allowed() {
        let mut registry = crate::device::registry::Registry::default();
        registry.add(crate::device::registry::Found {
            id: "usb:1:2".parse().unwrap(),
            port: None,
            peer: None,
            name: String::new(),
            hazard: None,
        });
        let sharing = crate::device::registry::Sharing::Exclusive;
        let id = "usb:1:2".parse().unwrap();
        let ticket = registry.begin_use(&id, [1; 16], sharing).unwrap();
        let leases = Leases::default();
        let asked = |hold| AttachRequest {
            hold,
            ..AttachRequest::whole("usb:1:2")
        };
        assert!(leases.begin(ticket, &asked(None)).is_none());
        assert!(leases.begin(ticket, &asked(Some(0))).is_none());
        let lease = leases.begin(ticket, &asked(Some(u32::MAX))).unwrap();
        assert_eq!(lease.hold, LONGEST);
        assert!(leases.has(ticket) && leases.find(&lease.token).is_some());
        assert!(leases.find(&[0; TOKEN]).is_none());
        leases.end(ticket);
        assert!(!leases.has(ticket) && leases.find(&lease.token).is_none());
    }
}
