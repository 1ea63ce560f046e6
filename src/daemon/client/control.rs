//! What the person at this machine asks over the control socket.

use std::rc::Rc;
use std::time::Duration;

use super::Client;
use super::attached::{Attached, Form};
use super::follow::Waiting;
use super::hub::Hub;
use super::present::Wanted;
use crate::daemon::admin::unresolved;
use crate::daemon::control::message::{
    AttachedDevice, ClientStatus, ControlError, DetachTarget, DeviceState, Link, NodeName,
    RemoteDevice, RemoteNode, Reply, Request,
};
use crate::daemon::control::{ControlHandler, Conversation};
use crate::daemon::peer::Peer;
use crate::device::acl::Mode;
use crate::device::name::{self, Candidate};
use crate::device::op::Brief;
use crate::device::registry::State;
use crate::kernel::clock;
use crate::wire::hex;

/// How long a request waits for a session that is being set up.
const PATIENCE: Duration = Duration::from_secs(8);

impl ControlHandler for Rc<Client> {
    async fn handle(&self, request: Request, asker: &Conversation) -> Result<Reply, ControlError> {
        match request {
            Request::Status => Ok(Reply::Client(self.status())),
            Request::List => Ok(Reply::Remote(self.list().await)),
            Request::Attach {
                node,
                device,
                name,
                way,
                options,
                grace,
            } => {
                let hub = self.hub(&node)?;
                let wanted = Wanted {
                    device,
                    name,
                    way,
                    options,
                    grace: grace.map(Duration::from_secs),
                };
                let attached = self.attach(&hub, wanted, asker).await?;
                if let Some(held) = self.find_attached(&attached.node.id, &attached.device) {
                    self.auto.taken_up(&held.node.id, &held.id);
                }
                Ok(Reply::Attached(attached))
            }
            Request::AutoList => Ok(Reply::Auto(self.auto_status())),
            Request::Operate {
                node,
                device,
                operation,
                parameters,
            } => {
                let hub = self.hub(&node)?;
                let done = self.operate(&hub, &device, operation, parameters).await?;
                Ok(Reply::Operated(done))
            }
            Request::Detach { target } => Ok(Reply::Detached(self.detach(&target).await?)),
            Request::Reset { target } => Ok(Reply::Reset(self.reset(&target).await?)),
            request @ (Request::Lock { .. } | Request::Unlock { .. }) => {
                self.lock_request(request, asker).await
            }
            Request::Export { .. }
            | Request::Unexport { .. }
            | Request::AclGrant { .. }
            | Request::AclRevoke { .. }
            | Request::AclList
            | Request::Invite { .. }
            | Request::Members
            | Request::Who
            | Request::Revoke { .. } => Err(ControlError::usage(
                "this is the client half; that is decided on the machine that has the hardware",
            )
            .mend("myclerk serve")),
        }
    }
}

impl Client {
    fn status(&self) -> ClientStatus {
        ClientStatus {
            node: self.name.clone(),
            family: self.family.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: clock::mono().since(self.started).as_secs(),
            nodes: self.hubs.borrow().iter().map(|hub| hub.info()).collect(),
            attached: self
                .attached
                .borrow()
                .iter()
                .map(|a| a.info(&self.vhci))
                .chain(self.waiting.borrow().iter().map(|waiting| waiting.info()))
                .map(|device| self.with_auto(device))
                .collect(),
            rules_problem: self.auto.problem(),
        }
    }

    fn with_auto(&self, device: AttachedDevice) -> AttachedDevice {
        AttachedDevice {
            auto: self.auto.wants(&device.node, &device.device),
            ..device
        }
    }

    async fn list(&self) -> Vec<RemoteNode> {
        let hubs = self.hubs.borrow().clone();
        let mut nodes = Vec::new();
        for hub in hubs {
            if hub.standing().0 == Link::Connecting {
                hub.wait_for_peer(PATIENCE).await;
            }
            let (devices, failed) = match self.remote_devices(&hub).await {
                Ok(devices) => (devices, None),
                Err(error) => (Vec::new(), Some(error.message)),
            };
            let (link, problem) = hub.standing();
            let node = hub.node();
            let devices = devices
                .into_iter()
                .map(|d| self.remote_device(&node.id, d))
                .collect();
            nodes.push(RemoteNode {
                node,
                link,
                problem: problem.or(failed),
                devices,
            });
        }
        nodes
    }

    fn remote_device(&self, node: &str, brief: Brief) -> RemoteDevice {
        let attached = self.find_attached(node, &brief.dev);
        let port = attached.as_ref().and_then(|attached| attached.port());
        let state = match State::from_u8(brief.state) {
            State::InUse if attached.is_some() => DeviceState::Attached,
            State::Free => DeviceState::Free,
            State::InUse => DeviceState::InUse,
            State::Locked => DeviceState::Locked,
            State::Unavailable => DeviceState::Unavailable,
        };
        RemoteDevice {
            id: brief.dev,
            name: brief.name,
            mode: Mode::from_u8(brief.mode).unwrap_or(Mode::None),
            state,
            port: port.map(|port| port.0),
            files: attached
                .filter(|attached| attached.usb().is_none())
                .map(|attached| attached.files(&self.vhci))
                .unwrap_or_default(),
            user: brief.owner.map(|owner| self.node_name(&owner)),
        }
    }

    /// A node for people, with its name if this one knows it.
    pub(super) fn node_name(&self, node: &[u8; 16]) -> NodeName {
        let id = hex::encode(node);
        if id == self.name.id {
            return self.name.clone();
        }
        let hubs = self.hubs.borrow();
        let known = hubs.iter().map(|hub| hub.node()).find(|hub| hub.id == id);
        known.unwrap_or_else(|| NodeName {
            id,
            name: String::new(),
        })
    }

    /// The node that a person means.
    pub(super) fn hub(&self, query: &str) -> Result<Rc<Hub>, ControlError> {
        let hubs = self.hubs.borrow();
        let nodes: Vec<_> = hubs.iter().map(|hub| hub.node()).collect();
        let candidates: Vec<_> = nodes
            .iter()
            .map(|node| Candidate {
                id: &node.id,
                name: &node.name,
            })
            .collect();
        let found = name::resolve(query, &candidates)
            .map_err(|error| unresolved("node", query, error, "myclerk status"))?;
        hubs.get(found)
            .cloned()
            .ok_or_else(|| ControlError::not_found(format!("there is no node {query:?}")))
    }

    /// The session with a node, or why there is none.
    pub(super) async fn connected(&self, hub: &Hub) -> Result<Peer, ControlError> {
        if let Some(peer) = hub.wait_for_peer(PATIENCE).await {
            return Ok(peer);
        }
        let (link, problem) = hub.standing();
        let message = format!("there is no connection to {}", hub.node().name);
        let error = match link {
            Link::Refused => ControlError::refused(message),
            Link::Connected | Link::Connecting | Link::Waiting => {
                ControlError::failed(message).mend("myclerk status")
            }
        };
        Err(error.because(problem.unwrap_or_else(|| "it does not answer".to_owned())))
    }

    async fn detach(&self, target: &DetachTarget) -> Result<Vec<AttachedDevice>, ControlError> {
        let devices = self.targets(target)?;
        let infos = devices.iter().map(|device| match device {
            Held::Attached(attached) => attached.info(&self.vhci),
            Held::Waiting(waiting) => waiting.info(),
        });
        let infos = infos.map(|device| self.with_auto(device)).collect();
        for device in &devices {
            let was = device.was();
            self.auto.put_away(&was.node.id, &was.id);
            match device {
                Held::Attached(attached) => attached.detach(),
                Held::Waiting(waiting) => waiting.give_up(),
            }
        }
        for device in &devices {
            device.was().gone().await;
        }
        Ok(infos)
    }

    /// Everything that can be detached; what is attached comes first.
    fn held(&self) -> Vec<Held> {
        let (attached, waiting) = (self.attached.borrow(), self.waiting.borrow());
        let attached = attached.iter().cloned().map(Held::Attached);
        attached
            .chain(waiting.iter().cloned().map(Held::Waiting))
            .collect()
    }

    /// What is attached of that.
    pub(super) fn attached_targets(
        &self,
        target: &DetachTarget,
    ) -> Result<Vec<Rc<Attached>>, ControlError> {
        let of_held = |held| match held {
            Held::Attached(attached) => Ok(attached),
            Held::Waiting(waiting) => {
                let message = format!("{} has gone away", waiting.was.device);
                Err(ControlError::failed(message).mend("myclerk status"))
            }
        };
        self.targets(target)?.into_iter().map(of_held).collect()
    }

    fn targets(&self, target: &DetachTarget) -> Result<Vec<Held>, ControlError> {
        let mut held = self.held();
        match target {
            DetachTarget::All => Ok(held),
            DetachTarget::Port(port) => held
                .into_iter()
                .find(|device| device.was().port().is_some_and(|on| on.0 == *port))
                .map(|device| vec![device])
                .ok_or_else(|| {
                    ControlError::not_found(format!("nothing of ours is attached to port {port}"))
                        .mend("myclerk status")
                }),
            DetachTarget::Device { node, device } => {
                let node = node.as_ref().map(|node| self.hub(node)).transpose()?;
                let node = node.map(|hub| hub.node().id);
                held.retain(|held| node.as_ref().is_none_or(|id| held.was().node.id == *id));
                let found = held.iter().position(|held| held.is_called(device));
                let found = found.map_or_else(|| resolve(&held, device), Ok)?;
                Ok(held.into_iter().nth(found).into_iter().collect())
            }
        }
    }
}

/// What can be detached.
enum Held {
    Attached(Rc<Attached>),
    Waiting(Rc<Waiting>),
}

impl Held {
    /// The attachment, perhaps one that has ended.
    fn was(&self) -> &Attached {
        match self {
            Self::Attached(attached) => attached,
            Self::Waiting(waiting) => &waiting.was,
        }
    }

    /// By the id at its owner, or by what a presenter made of it here.
    fn is_called(&self, device: &String) -> bool {
        let was = self.was();
        let here = match &was.form {
            Form::Usb { .. } => Vec::new(),
            Form::Other { handle, .. } => handle.files(),
        };
        [&was.device, &was.id].contains(&device) || here.contains(device)
    }
}

/// The attachment that a person means.
fn resolve(held: &[Held], device: &str) -> Result<usize, ControlError> {
    let candidates: Vec<_> = held
        .iter()
        .map(|held| Candidate {
            id: &held.was().device,
            name: &held.was().name,
        })
        .collect();
    name::resolve(device, &candidates)
        .map_err(|error| unresolved("attached device", device, error, "myclerk status"))
}
