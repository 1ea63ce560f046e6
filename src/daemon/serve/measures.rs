//! What the server counts, for a monitoring system.

use std::collections::BTreeMap;

use super::Server;
use super::control::node_name;
use crate::daemon::control::message::Traffic;
use crate::daemon::metrics::{Exposition, Kind, Source};
use crate::daemon::peer::Peer;
use crate::kernel::clock;

/// Devices in use that have samples of their own.
const DEVICES: usize = 256;

impl Source for Server {
    fn measure(&self, out: &mut Exposition) {
        out.daemon("server", clock::mono().since(self.started));
        let sessions = self.sessions.borrow();
        let peers: Vec<Peer> = sessions.iter().map(|entry| entry.peer.clone()).collect();
        drop(sessions);
        self.past.measure(&peers, out);
        let uses = self.uses.borrow();
        let in_use: BTreeMap<_, ()> = uses.iter().map(|used| (&used.device.id, ())).collect();
        let help = "Devices that the export policy offers.";
        out.family("myclerk_devices_offered", Kind::Gauge, help);
        out.sample(&[], count(self.offered().count()));
        let help = "Devices that other nodes have open.";
        out.family("myclerk_devices_in_use", Kind::Gauge, help);
        out.sample(&[], count(in_use.len()));
        drop(in_use);
        // A node may use a device on several streams and in several sessions.
        let mut devices: BTreeMap<[String; 3], Traffic> = BTreeMap::new();
        for used in uses.iter() {
            let node = node_name(&used.peer);
            let key = [used.device.id.as_str().to_owned(), node.id, node.name];
            if devices.len() == DEVICES && !devices.contains_key(&key) {
                continue;
            }
            let traffic = Traffic::from(used.meter.read(clock::mono()));
            devices.entry(key).or_default().add(&traffic);
        }
        let lines = devices.iter();
        out.devices(lines.map(|([device, id, name], traffic)| ([&**device, id, name], traffic)));
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
