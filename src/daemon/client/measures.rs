//! What the client counts, for a monitoring system.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Client;
use super::attached::Attached;
use super::hub::Hub;
use crate::daemon::control::message::Traffic;
use crate::daemon::metrics::{Exposition, Kind, Source};
use crate::kernel::clock;

/// Nodes and devices that have samples of their own.
const NODES: usize = 64;
const DEVICES: usize = 256;

impl Source for Client {
    fn measure(&self, out: &mut Exposition) {
        out.daemon("client", clock::mono().since(self.started));
        let hubs = self.hubs.borrow();
        // What counts as past is none of them: no count ever goes back.
        let peers: Vec<_> = hubs.iter().filter_map(|hub| hub.last_peer()).collect();
        self.past.measure(&peers, out);
        nodes(&hubs, out);
        let attached = self.attached.borrow();
        let help = "Devices that are local now.";
        out.family("myclerk_devices_attached", Kind::Gauge, help);
        out.sample(&[], u64::try_from(attached.len()).unwrap_or(u64::MAX));
        devices(&attached, out);
    }
}

/// By name too: two nodes that are not known yet have no node-id.
fn nodes(hubs: &[Rc<Hub>], out: &mut Exposition) {
    let nodes = hubs.iter().take(NODES).map(|hub| {
        let node = hub.node();
        ((node.id, node.name), hub)
    });
    let nodes: BTreeMap<_, _> = nodes.collect();
    let help = "Sessions after the first one with a node.";
    out.family("myclerk_reconnects_total", Kind::Counter, help);
    for ((id, name), hub) in &nodes {
        let again = hub.sessions.get().saturating_sub(1);
        out.sample(&[("node_id", id), ("node", name)], again);
    }
    let help = "The shortest round trip in the session with a node.";
    out.family("myclerk_round_trip_seconds", Kind::Gauge, help);
    for ((id, name), hub) in &nodes {
        if let Some(micros) = hub.info().rtt_us {
            out.seconds(&[("node_id", id), ("node", name)], micros);
        }
    }
}

fn devices(attached: &[Rc<Attached>], out: &mut Exposition) {
    let devices = attached.iter().take(DEVICES).map(|device| {
        let traffic = Traffic::from(device.meter.read(clock::mono()));
        let node = &device.node;
        ([&*device.device, &node.id, &node.name], (device, traffic))
    });
    let devices: BTreeMap<[&str; 3], _> = devices.collect();
    let traffic = devices.iter();
    out.devices(traffic.map(|(key, (_, traffic))| (*key, traffic)));
    let help = "How long the requests of a device took, from here to its owner and back.";
    out.family("myclerk_request_duration_seconds", Kind::Histogram, help);
    for ([device, id, name], (attached, _)) in &devices {
        let labels = [("device", *device), ("node_id", id), ("node", name)];
        out.spread(&labels, &attached.meter.spread());
    }
}
