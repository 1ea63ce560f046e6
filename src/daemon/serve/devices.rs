//! What of the present devices a peer may see and keep.

use std::collections::BTreeMap;

use super::Server;
use super::dispatch::{Answer, bad_payload, internal};
use super::look::Hardware;
use crate::bus::usb::enumerate::UsbDeviceInfo;
use crate::bus::usb::op::DeviceList;
use crate::bus::usb::server::entry;
use crate::daemon::peer::Peer;
use crate::device::acl::Caller;
use crate::device::export::ExportPolicy;
use crate::device::id::DeviceId;
use crate::device::op::{Brief, DeviceRequest, Info, ListRequest, ListResponse};
use crate::device::registry::{Device, Refusal, State, View};
use crate::session::PeerIdentity;
use crate::wire::error::ErrorMap;
use crate::wire::msgpack::{self, Value};
use crate::wire::status::{Status, sub};

/// Of a peer without a family, which no entry names.
const NO_FAMILY: [u8; 16] = [0; 16];

/// The answer that tells a peer why it may not.
pub(super) fn refused(refusal: &Refusal) -> (Status, ErrorMap) {
    let (status, code) = refusal.status();
    let error = ErrorMap::new(code).with_msg(refusal.to_string());
    match refusal {
        Refusal::NeedsLock => (status, error.with_detail(sub::LOCK)),
        Refusal::Unknown
        | Refusal::Acl
        | Refusal::LockHeld
        | Refusal::LockLost
        | Refusal::InUse
        | Refusal::Hazard(_) => (status, error),
    }
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
                .map(|(device, rights)| self.brief(device, view.policy, rights.mode().to_u8()))
                .collect()
        })
    }

    /// A device as a peer with that mode sees it.
    pub(super) fn brief(&self, device: &Device, policy: &ExportPolicy, mode: u8) -> Brief {
        let id = &device.found.id;
        let holder = self.locks.holder(id);
        let state = match holder {
            Some(_) => State::Locked,
            None => device.state(policy),
        };
        Brief {
            dev: id.as_str().to_owned(),
            class: id.class().to_owned(),
            name: device.found.name.clone(),
            state: state.to_u8(),
            mode,
            owner: holder.or_else(|| device.user()),
        }
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
}

fn brief_id(brief: &Brief) -> Result<DeviceId, (Status, ErrorMap)> {
    brief.dev.parse().map_err(internal)
}

pub(super) fn properties(hardware: &Hardware) -> BTreeMap<String, Value> {
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
