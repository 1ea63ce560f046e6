//! What the administrator asks over the control socket.

use std::collections::{BTreeMap, BTreeSet};

use super::Server;
use super::invite::Wanted;
use super::uses::Use;
use crate::daemon::admin::{self, Known};
use crate::daemon::control::message::{
    ControlError, InUse, LocalDevice, NodeName, Reply, Request, Revoked, ServerStatus, SessionInfo,
    Traffic, Unexported,
};
use crate::daemon::control::{ControlHandler, Conversation};
use crate::daemon::peer::Peer;
use crate::daemon::system::SystemEntropy;
use crate::device::id::DeviceId;
use crate::kernel::clock;
use crate::wire::hex;

impl ControlHandler for Server {
    async fn handle(&self, request: Request, asker: &Conversation) -> Result<Reply, ControlError> {
        match request {
            Request::Status => Ok(Reply::Server(self.status())),
            Request::List => {
                self.scan().await;
                Ok(Reply::Local(self.local_devices()))
            }
            Request::Export { device, force } => self.export(&device, force).await,
            Request::Unexport { device } => self.unexport(&device),
            Request::AclGrant {
                device,
                subject,
                mode,
            } => {
                self.scan().await;
                let line = self
                    .known(|known| admin::acl_grant(&self.state, known, &device, &subject, mode))?;
                self.reload()?;
                Ok(Reply::Acl(vec![line]))
            }
            Request::AclRevoke { device, subject } => {
                let lines =
                    self.known(|known| admin::acl_revoke(&self.state, known, &device, &subject))?;
                self.reload()?;
                Ok(Reply::Acl(lines))
            }
            Request::AclList => Ok(Reply::Acl(
                self.known(|known| admin::acl_list(&self.state, known))?,
            )),
            Request::Invite {
                roles,
                addresses,
                minutes,
                admit,
            } => {
                let wanted = Wanted {
                    roles,
                    addresses,
                    minutes,
                    admit,
                };
                Ok(Reply::Joined(self.open_invite(wanted, asker).await?))
            }
            Request::Members => Ok(Reply::Members(
                self.known(|known| admin::members(&self.state, known))?,
            )),
            Request::Revoke { node } => Ok(Reply::Revoked(self.revoke(&node)?)),
            request @ (Request::Who | Request::Lock { .. } | Request::Unlock { .. }) => {
                self.lock_request(request).await
            }
            Request::AutoList
            | Request::Attach { .. }
            | Request::Detach { .. }
            | Request::Reset { .. }
            | Request::Operate { .. } => Err(wrong_half()),
        }
    }
}

pub(super) fn wrong_half() -> ControlError {
    let message = "this is the server half; devices are attached on the machine that uses them";
    ControlError::usage(message).mend("myclerk client")
}

impl Server {
    async fn export(&self, device: &str, force: bool) -> Result<Reply, ControlError> {
        self.scan().await;
        let exported = self.known(|known| admin::export(&self.state, known, device, force))?;
        self.reload()?;
        Ok(Reply::Exported(exported))
    }

    pub(super) fn known<R>(&self, ask: impl FnOnce(Known<'_>) -> R) -> R {
        let registry = self.registry.borrow();
        let sessions: Vec<NodeName> = self
            .sessions
            .borrow()
            .iter()
            .map(|entry| node_name(&entry.peer))
            .collect();
        ask(Known {
            devices: Some(&registry),
            sessions: &sessions,
        })
    }

    fn unexport(&self, device: &str) -> Result<Reply, ControlError> {
        let offered: Vec<DeviceId> = self.offered().collect();
        let unexported = self.known(|known| admin::unexport(&self.state, known, device))?;
        let lent = |used: &&Use| offered.contains(&used.device.id);
        let users: Vec<(DeviceId, NodeName)> = self
            .uses
            .borrow()
            .iter()
            .filter(lent)
            .map(|used| (used.device.id.clone(), node_name(&used.peer)))
            .collect();
        self.reload()?;
        let offered: Vec<DeviceId> = self.offered().collect();
        let taken_from = users
            .into_iter()
            .find(|(device, _)| !offered.contains(device))
            .map(|(_, user)| user);
        Ok(Reply::Unexported(Unexported {
            taken_from,
            ..unexported
        }))
    }

    fn revoke(&self, query: &str) -> Result<Revoked, ControlError> {
        let wall = self.present();
        let (mut revoked, revocation) =
            admin::revoke(&self.state, query, &mut SystemEntropy, wall)?;
        if let Ok(node) = revoked.node.id.parse() {
            revoked.closed = self.exclude(node, &revocation);
        }
        // Its access entries are gone from the disk.
        self.reload()?;
        tracing::info!(
            node = revoked.node.id,
            name = revoked.node.name,
            "node revoked"
        );
        Ok(revoked)
    }

    fn status(&self) -> ServerStatus {
        let now = clock::mono();
        let policy = self.policy.borrow();
        let offered = self
            .registry
            .borrow()
            .devices()
            .filter(|d| policy.offers(d.found.names()))
            .count();
        let sessions = self.sessions.borrow();
        ServerStatus {
            node: self.name.clone(),
            family: self.family.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: now.since(self.started).as_secs(),
            listen: self.listen.clone(),
            offered,
            sessions: sessions
                .iter()
                .map(|entry| {
                    let (bytes_in, bytes_out) = entry.peer.traffic();
                    SessionInfo {
                        node: node_name(&entry.peer),
                        address: entry.peer.address().to_owned(),
                        age: now.since(entry.since).as_secs(),
                        tier: entry.tier,
                        devices: self.used_by(&entry.peer),
                        uses: self.traffic_of(&entry.peer),
                        bytes_in,
                        bytes_out,
                    }
                })
                .collect(),
        }
    }

    fn used_by(&self, peer: &Peer) -> Vec<String> {
        let uses = self.uses.borrow();
        let own = uses.iter().filter(|used| used.peer.is(peer));
        // A device may be used by many streams.
        let devices: BTreeSet<_> = own.map(|used| used.device.id.as_str().to_owned()).collect();
        devices.into_iter().collect()
    }

    /// What goes over the streams of a session, by device.
    fn traffic_of(&self, peer: &Peer) -> Vec<InUse> {
        let mut devices: BTreeMap<String, Traffic> = BTreeMap::new();
        for used in self.uses.borrow().iter().filter(|used| used.peer.is(peer)) {
            let device = used.device.id.as_str().to_owned();
            let one = Traffic::from(used.meter.read(clock::mono()));
            devices.entry(device).or_default().add(&one);
        }
        let uses = devices.into_iter();
        uses.map(|(device, traffic)| InUse { device, traffic })
            .collect()
    }

    fn local_devices(&self) -> Vec<LocalDevice> {
        let policy = self.policy.borrow();
        let registry = self.registry.borrow();
        registry
            .devices()
            .map(|device| LocalDevice {
                id: device.found.id.as_str().to_owned(),
                name: device.found.name.clone(),
                plugged: device.found.port.as_ref().map(ToString::to_string),
                exported: policy.offers(device.found.names()),
                hazard: device
                    .found
                    .hazard
                    .as_ref()
                    .map(|hazard| hazard.reason.clone()),
                user: device
                    .user()
                    .map(|node| self.user_name(&hex::encode(&node))),
                others: device
                    .nodes()
                    .iter()
                    .skip(1)
                    .map(|node| self.user_name(&hex::encode(node)))
                    .collect(),
            })
            .collect()
    }

    pub(super) fn user_name(&self, node: &str) -> NodeName {
        let sessions = self.sessions.borrow();
        let session = sessions
            .iter()
            .find(|e| e.peer.identity().node_id.to_string() == node);
        let name = session.map(|entry| entry.peer.name()).unwrap_or_default();
        NodeName {
            id: node.to_owned(),
            name,
        }
    }
}

/// A peer for people.
pub(super) fn node_name(peer: &Peer) -> NodeName {
    let identity = peer.identity();
    NodeName {
        id: identity.node_id.to_string(),
        name: identity.name().unwrap_or_default().to_owned(),
    }
}
