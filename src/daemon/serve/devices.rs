//! What is plugged in, and what of it a peer may see and keep.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::dispatch::{Answer, bad_payload, internal};
use super::{Server, Use};
use crate::bus::usb::enumerate::{self, UsbDeviceInfo};
use crate::bus::usb::hostuse::{self, Roots};
use crate::bus::usb::op::DeviceList;
use crate::bus::usb::server::entry;
use crate::daemon::peer::Peer;
use crate::device::acl::{Caller, Need};
use crate::device::id::DeviceId;
use crate::device::op::{Brief, DeviceRequest, Info, ListRequest, ListResponse};
use crate::device::registry::{Change, Found, Hazard, Refusal, View};
use crate::device::sticky::{Seen, StickyIds};
use crate::kernel::clock;
use crate::kernel::uevent::UsbEvents;
use crate::session::PeerIdentity;
use crate::wire::error::ErrorMap;
use crate::wire::msgpack::{self, Value};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// Of a peer without a family, which no entry names.
const NO_FAMILY: [u8; 16] = [0; 16];

/// How long a look stays good while the kernel tells of every device: whether this machine uses one
/// itself (a mounted disk) is told by nobody.
const FRESH: Duration = Duration::from_secs(5);

/// A device that comes or goes makes a dozen messages, for itself and each interface.
const BURST: Duration = Duration::from_millis(50);

/// The answer that tells a peer why it may not.
pub(super) fn refused(refusal: &Refusal) -> (Status, ErrorMap) {
    let (status, sub) = refusal.status();
    (status, ErrorMap::new(sub).with_msg(refusal.to_string()))
}

/// The looks at what is plugged in: one at a time.
#[derive(Default)]
pub(super) struct Scans {
    turn: tokio::sync::Mutex<()>,
    begun: Cell<u64>,
    last: RefCell<Rc<HashMap<DeviceId, UsbDeviceInfo>>>,
    /// When the last one began, while the kernel tells of every change since.
    watched_since: Cell<Option<Mono>>,
    ids: RefCell<StickyIds>,
}

/// Looks whenever the kernel tells that something changed.
pub(super) async fn watch(server: Rc<Server>) {
    let fall_back = |error: &io::Error| {
        tracing::warn!(%error, "cannot watch USB devices, looking at every request instead");
    };
    let events = match UsbEvents::listen() {
        Ok(events) => events,
        Err(error) => return fall_back(&error),
    };
    loop {
        let began = clock::mono();
        server.scan().await;
        server.scans.watched_since.set(Some(began));
        let changed = events.changed().await;
        // Until the next look, requests look for themselves.
        server.scans.watched_since.set(None);
        if let Err(error) = changed.and(rest_of_burst(&events).await) {
            return fall_back(&error);
        }
    }
}

async fn rest_of_burst(events: &UsbEvents) -> io::Result<()> {
    tokio::time::sleep(BURST).await;
    events.has_changed().map(drop)
}

impl Server {
    /// What is plugged in, as far as the last look is good enough; else as [`Server::scan`].
    async fn recent(&self) -> Rc<HashMap<DeviceId, UsbDeviceInfo>> {
        let since = self.scans.watched_since.get();
        if since.is_some_and(|since| clock::mono().since(since) < FRESH) {
            return self.scans.last.borrow().clone();
        }
        let began = clock::mono();
        let found = self.scan().await;
        if since.is_some() {
            self.scans.watched_since.set(Some(began));
        }
        found
    }

    /// Looks at what is plugged in now. Whoever asks while somebody looks shares the next look with
    /// all others that wait for it, so that many requests make few looks.
    pub(super) async fn scan(&self) -> Rc<HashMap<DeviceId, UsbDeviceInfo>> {
        let wanted = self.scans.begun.get() + 1;
        let _turn = self.scans.turn.lock().await;
        if self.scans.begun.get() < wanted {
            self.scans.begun.set(wanted);
            if let Some(found) = self.look_now().await {
                *self.scans.last.borrow_mut() = Rc::new(found);
            }
        }
        self.scans.last.borrow().clone()
    }

    /// `None` when nothing could be seen, which says nothing about what is there.
    async fn look_now(&self) -> Option<HashMap<DeviceId, UsbDeviceInfo>> {
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(found)) => Some(self.take_scan(found)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Some(self.take_scan(Vec::new()))
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look for USB devices");
                None
            }
            Err(error) => {
                tracing::error!(%error, "looking for USB devices failed");
                None
            }
        }
    }

    fn keep_ids(&self, found: &mut [(Found, UsbDeviceInfo)]) {
        let mut look: Vec<Seen> = found
            .iter()
            .map(|(found, info)| Seen {
                what: told_apart(info),
                id: found.id.clone(),
            })
            .collect();
        self.scans.ids.borrow_mut().settle(&mut look);
        for ((found, info), seen) in found.iter_mut().zip(look) {
            seen.id.as_str().clone_into(&mut info.id);
            found.id = seen.id;
        }
    }

    fn take_scan(
        &self,
        mut found: Vec<(Found, UsbDeviceInfo)>,
    ) -> HashMap<DeviceId, UsbDeviceInfo> {
        self.keep_ids(&mut found);
        let (found, infos): (Vec<Found>, Vec<UsbDeviceInfo>) = found.into_iter().unzip();
        let infos = found
            .iter()
            .map(|found| found.id.clone())
            .zip(infos)
            .collect();
        let before: HashSet<DeviceId> = self.offered().collect();
        let changes = self.registry.borrow_mut().sync(found);
        let after: HashSet<DeviceId> = self.offered().collect();
        for change in changes {
            match change {
                Change::Added(id) if after.contains(&id) => {
                    tracing::info!(device = id.as_str(), "device plugged in");
                }
                Change::Removed(id, _) if before.contains(&id) => {
                    tracing::info!(device = id.as_str(), "device unplugged");
                }
                Change::Added(id) => tracing::debug!(device = id.as_str(), "device found"),
                Change::Removed(id, _) => tracing::debug!(device = id.as_str(), "device gone"),
                Change::Changed(id) => tracing::debug!(device = id.as_str(), "device changed"),
            }
        }
        infos
    }

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

    fn briefs(&self, peer: &PeerIdentity) -> Vec<Brief> {
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
                    owner: device.user.map(|user| user.node),
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
            .filter_map(|brief| Some((infos.get(&brief_id(brief).ok()?)?, brief.state)))
            .map(|(info, state)| entry(info, state))
            .collect();
        DeviceList { devs }.encode().map_err(internal)
    }

    /// Ends the use of every device whose user may not have it any longer.
    pub(super) fn take_back(&self) {
        let lost = |used: &&Use| {
            let attach = Opcode::UsbDeviceAttach;
            self.viewed(used.peer.identity(), |view| {
                view.permits(used.device.names(), attach, Need::Write, false)
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
            used.peer
                .reset_stream(used.stream, Status::Forbidden, &ErrorMap::new(sub::ACL));
        }
    }
}

fn brief_id(brief: &Brief) -> Result<DeviceId, (Status, ErrorMap)> {
    brief.dev.parse().map_err(internal)
}

fn properties(info: &UsbDeviceInfo) -> BTreeMap<String, Value> {
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

/// What a device has to share with an earlier one to be taken for the same.
fn told_apart(info: &UsbDeviceInfo) -> String {
    let serial = info.serial.as_deref().unwrap_or_default();
    let (vendor, product) = (info.vendor, info.product);
    format!("{} {vendor:04x}:{product:04x} {serial}", info.port_name())
}

/// Reads sysfs; may wait.
fn look() -> io::Result<Vec<(Found, UsbDeviceInfo)>> {
    let roots = Roots::default();
    let devices = enumerate::list()?.into_iter().filter_map(|info| {
        let id = match info.id.parse() {
            Ok(id) => id,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(device = info.id, error, "device left out");
                return None;
            }
        };
        let hazard = hostuse::check(&roots, &info.location.sysfs).map(|reason| Hazard {
            reason: reason.to_string(),
            forcible: reason.is_forcible(),
        });
        Some((
            Found {
                id,
                port: info.port_name().parse().ok(),
                peer: info.peer.as_ref().and_then(|peer| peer.parse().ok()),
                name: info.name(),
                hazard,
            },
            info,
        ))
    });
    Ok(devices.collect())
}
