//! What of the present devices a peer may see and keep.

use std::collections::BTreeMap;

use super::Server;
use super::dispatch::{Answer, bad_payload, internal};
use super::look::Hardware;
use super::uses::Use;
use crate::bus::usb::enumerate::UsbDeviceInfo;
use crate::bus::usb::op::DeviceList;
use crate::bus::usb::server::entry;
use crate::daemon::peer::Peer;
use crate::device::acl::Caller;
use crate::device::id::DeviceId;
use crate::device::op::{Brief, DeviceRequest, Info, ListRequest, ListResponse};
use crate::device::registry::{Refusal, View};
use crate::session::PeerIdentity;
use crate::wire::error::ErrorMap;
use crate::wire::msgpack::{self, Value};
use crate::wire::status::{Status, sub};

/// Of a peer without a family, which no entry names.
const NO_FAMILY: [u8; 16] = [0; 16];

/// The answer that tells a peer why it may not.
pub(super) fn refused(refusal: &Refusal) -> (Status, ErrorMap) {
    let (status, sub) = refusal.status();
    (status, ErrorMap::new(sub).with_msg(refusal.to_string()))
}

impl Server {
    /// The present devices that the policy names.
    pub(super) fn offered(&self) -> impl Iterator<Item = DeviceId> {
        let (policy, registry) = (self.policy.borrow(), self.registry.borrow());
        let offered = registry
            .devices()
            .filter(|device| policy.offers(device.found.names()));
        let ids: Vec<_> = offered.map(|device| device.found.id.clone()).collect();
        ids.into_iter()
    }

    /// Asks the registry a question in the name of a peer.
    pub(super) fn viewed<R>(&self, peer: &PeerIdentity, ask: impl FnOnce(View<'_>) -> R) -> R {
        let (policy, acl) = (self.policy.borrow(), self.acl.borrow());
        let family = peer.family().map_or(NO_FAMILY, |family| family.0);
        let caller = Caller {
            node: &peer.node_id.0,
            family: &family,
            roles: peer.roles(),
        };
        ask(View {
            policy: &policy,
            acl: &acl,
            caller,
            now: self.present(),
        })
    }

    /// The devices that a peer may know of.
    pub(super) fn briefs(&self, peer: &PeerIdentity) -> Vec<Brief> {
        let registry = self.registry.borrow();
        self.viewed(peer, |view| {
            registry
                .visible(view)
                .map(|(device, rights)| Brief {
                    dev: device.found.id.as_str().to_owned(),
                    class: device.found.id.class().to_owned(),
                    name: device.found.name.clone(),
                    state: device.state(view.policy).to_u8(),
                    mode: rights.mode().to_u8(),
                    owner: device.user(),
                })
                .collect()
        })
    }

    pub(super) async fn device_list(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request: ListRequest = msgpack::decode_or_default(payload).map_err(bad_payload)?;
        self.recent().await;
        let briefs = self.briefs(peer.identity());
        ListResponse::page(&request, briefs.into_iter())
            .encode()
            .map_err(internal)
    }

    pub(super) async fn device_info(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request: DeviceRequest = msgpack::decode(payload).map_err(bad_payload)?;
        let infos = self.recent().await;
        let name: Option<DeviceId> = request.dev.parse().ok();
        let id = name.and_then(|name| {
            let registry = self.registry.borrow();
            registry.find(&name).map(|device| device.found.id.clone())
        });
        let brief = self
            .briefs(peer.identity())
            .into_iter()
            .find(|brief| id.as_ref().is_some_and(|id| id.as_str() == brief.dev))
            .ok_or_else(|| refused(&Refusal::Unknown))?;
        let info = infos.get(&brief_id(&brief)?);
        let info = Info::new(brief, info.map(properties).unwrap_or_default());
        msgpack::encode(&info).map_err(internal)
    }

    pub(super) async fn usb_device_list(&self, peer: &Peer) -> Answer {
        let infos = self.recent().await;
        let devs = self
            .briefs(peer.identity())
            .iter()
            .filter_map(|brief| Some((infos.get(&brief_id(brief).ok()?)?.usb()?, brief.state)))
            .map(|(info, state)| entry(info, state))
            .collect();
        DeviceList { devs }.encode().map_err(internal)
    }

    /// Ends the use of every device whose user may not have it any longer.
    pub(super) fn take_back(&self) {
        let lost = |used: &&Use| {
            self.viewed(used.peer.identity(), |view| {
                view.permits(used.device.names(), used.opcode, used.need, false)
                    .is_err()
            })
        };
        let uses = self.uses.borrow();
        for used in uses.iter().filter(lost) {
            tracing::info!(
                peer = used.peer.name(),
                device = used.device.id.as_str(),
                "taken back"
            );
            self.leases.end(used.ticket);
            used.peer
                .reset_stream(used.stream, Status::Forbidden, &ErrorMap::new(sub::ACL));
        }
    }
}

fn brief_id(brief: &Brief) -> Result<DeviceId, (Status, ErrorMap)> {
    brief.dev.parse().map_err(internal)
}

fn properties(hardware: &Hardware) -> BTreeMap<String, Value> {
    match hardware {
        Hardware::Usb(info) => usb_properties(info),
        Hardware::Other(present) => present.props.clone(),
    }
}

fn usb_properties(info: &UsbDeviceInfo) -> BTreeMap<String, Value> {
    let mut properties = BTreeMap::from([
        ("vid".to_owned(), Value::Uint(info.vendor.into())),
        ("pid".to_owned(), Value::Uint(info.product.into())),
        ("port".to_owned(), Value::Str(info.port_name())),
    ]);
    if let Some(serial) = &info.serial {
        properties.insert("serial".to_owned(), Value::Str(serial.clone()));
    }
    properties
}
