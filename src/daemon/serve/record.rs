//! What goes into the audit log, and how much of it: no node may fill it.

use super::Server;
use super::control::node_name;
use crate::daemon::audit::{Record, What};
use crate::daemon::peer::Peer;
use crate::kernel::clock;
use crate::wire::error::ErrorMap;

impl Server {
    /// Something that a peer did; left out when it does such things too often.
    pub(super) fn record(&self, peer: &Peer, record: Record) {
        let node = peer.identity().node_id;
        let now = clock::mono();
        let heard = self.recorded.borrow_mut().hear(node, None, now);
        if let Some(unsaid) = heard {
            self.audit.write(&record.of(node_name(peer)).after(unsaid));
        }
    }

    /// A peer was not given the device, or what it is called there.
    pub(super) fn record_refusal(&self, peer: &Peer, device: Option<&str>, error: &ErrorMap) {
        let mut record = Record::new(What::Refused).because(error.sub.as_ref());
        record.device = device.map(readable);
        self.record(peer, record);
    }
}

/// What a peer calls a device may be anything.
fn readable(device: &str) -> String {
    device.chars().take(64).collect()
}
