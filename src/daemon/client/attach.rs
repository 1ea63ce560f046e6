//! Remote devices as local ones.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;

use super::follow::is_unplugging;
use super::hub::Hub;
use super::{Client, files};
use crate::bus::usb::client::{self, AttachError, Attachment, Handle};
use crate::bus::usb::op::{AttachRequest, AttachResponse, Mode as UseMode, Speed};
use crate::daemon::admin::unresolved;
use crate::daemon::control::Conversation;
use crate::daemon::control::message::{AttachedDevice, ControlError, NodeName};
use crate::daemon::peer::{CallError, Peer};
use crate::device::acl::Mode;
use crate::device::id::DeviceId;
use crate::device::name::{self, Candidate, NameError};
use crate::device::op::{Brief, DeviceRequest, Info, ListRequest, ListResponse};
use crate::device::registry::State;
use crate::kernel::clock;
use crate::kernel::vhci::{PortId, Vhci};
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// Time for the owner to list its devices.
const LIST: Duration = Duration::from_secs(10);
/// Time for the owner to open a device: drivers may take a while to let go.
const OPEN: Duration = Duration::from_secs(30);
/// Time for this kernel to find a driver for an attached device.
const SETTLE: Duration = Duration::from_secs(8);
const USB_DEVICES: &str = "/sys/bus/usb/devices";

/// A remote device that is local now.
pub(super) struct Attached {
    pub(super) node: NodeName,
    /// As it was asked for: its id, or the name of its port.
    pub(super) device: String,
    /// Its id, as far as the owner told.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) speed: Speed,
    since: Mono,
    handle: Handle,
    ended: Cell<bool>,
    end: Notify,
    why: RefCell<Option<String>>,
}

impl Attached {
    /// The port it is on now.
    pub(super) fn port(&self) -> PortId {
        self.handle.port()
    }

    /// Steers the attachment.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Starts giving it back.
    pub(super) fn detach(&self) {
        self.handle.detach();
    }

    /// Waits until it is gone.
    pub(super) async fn gone(&self) {
        loop {
            let end = self.end.notified();
            if self.ended.get() {
                return;
            }
            end.await;
        }
    }

    /// The device for people, with the files that it has now.
    pub(super) fn info(&self, vhci: &Vhci) -> AttachedDevice {
        let files = sysfs(vhci, self.port()).map(|device| files::below(&device));
        AttachedDevice {
            files: files.unwrap_or_default(),
            ..self.describe()
        }
    }

    /// The device for people, without a look at this machine.
    pub(super) fn describe(&self) -> AttachedDevice {
        AttachedDevice {
            node: self.node.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            port: self.port().0,
            speed: self.speed.to_string(),
            live: !self.ended.get(),
            age: clock::mono().since(self.since).as_secs(),
            files: Vec::new(),
            waiting: None,
        }
    }
}

/// Where sysfs has the device on a port, once the kernel has enumerated it.
pub(super) fn sysfs(vhci: &Vhci, port: PortId) -> Option<PathBuf> {
    let ports = vhci.ports().ok()?;
    let port = ports.into_iter().find(|candidate| candidate.id == port)?;
    let device = Path::new(USB_DEVICES).join(port.local_bus_id);
    device.join("idVendor").exists().then_some(device)
}

impl Client {
    /// Makes a device of a node local; one that is local already is only described.
    pub(super) async fn attach(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        query: &str,
        asker: &Conversation,
    ) -> Result<AttachedDevice, ControlError> {
        let node = hub.node();
        let peer = self.connected(hub).await?;
        let target = Target::named(&peer, query, &node).await?;
        if let Some(attached) = self.find_attached(&node.id, &target.brief.dev) {
            return Ok(attached.info(&self.vhci));
        }
        if target.listed {
            // Without vhci-hcd the owner need not let its drivers go for nothing.
            self.vhci.ports().map_err(|error| self.no_port(&error))?;
        }
        self.end_waiting(&node.id, target.name());
        asker.step(format!("asking {} for {}", node.name, target.name()));
        let attached = self.take(hub, &peer, target).await?;
        asker.step("waiting for this machine's drivers");
        tokio::select! {
            biased;
            () = asker.gone() => {
                attached.detach();
                attached.gone().await;
                return Err(ControlError::failed("the attach was taken back"));
            }
            settled = self.settle(&attached) => settled?,
        }
        Ok(attached.info(&self.vhci))
    }

    fn not_attached(&self, error: &AttachError, device: &str) -> ControlError {
        match error {
            AttachError::Vhci(error) => self.no_port(error),
            AttachError::Streams => {
                ControlError::refused(format!("no driver on this machine can use {device}"))
                    .because(error.to_string())
            }
            AttachError::Socket(cause) => {
                let error = ControlError::failed(error.to_string()).because(cause.to_string());
                match cause.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EMFILE) => {
                        error.mend("raise its limit of open files: LimitNOFILE= of its service")
                    }
                    Some(_) | None => error,
                }
            }
            AttachError::Speed(_) | AttachError::Descriptors(_) => {
                ControlError::failed(error.to_string())
            }
        }
    }

    /// Makes a device local and looks after it from then on.
    pub(super) async fn take(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        peer: &Peer,
        target: Target,
    ) -> Result<Rc<Attached>, ControlError> {
        let node = hub.node();
        let (response, stream) = open(peer, target.name(), &node).await?;
        let (outlet, inbound) = (Rc::clone(&stream.outlet), stream.inbound);
        let attachment = match client::attach(&self.vhci, &response, stream.outlet, inbound) {
            Ok(attachment) => attachment,
            Err(error) => {
                outlet.reset(Status::Ok);
                return Err(self.not_attached(&error, target.name()));
            }
        };
        let attached = Rc::new(Attached {
            node,
            device: target.name().to_owned(),
            id: target.brief.dev,
            name: target.brief.name,
            speed: response.spd,
            since: clock::mono(),
            handle: attachment.handle(),
            ended: Cell::new(false),
            end: Notify::new(),
            why: RefCell::default(),
        });
        self.attached.borrow_mut().push(Rc::clone(&attached));
        let follow = target.port.is_some().then(|| Rc::clone(hub));
        let watching = watch(Rc::clone(self), Rc::clone(&attached), attachment, follow);
        tokio::task::spawn_local(watching);
        Ok(attached)
    }

    /// Whoever asks for a port need not wait for it any longer.
    fn end_waiting(&self, node: &str, port: &str) {
        for waiting in self.waiting.borrow().iter() {
            if waiting.was.node.id == node && waiting.was.device == port {
                waiting.give_up();
            }
        }
    }

    /// Waits until a driver has bound, the device ended, or the time is over: a device without a
    /// driver on this machine is attached all the same.
    async fn settle(&self, attached: &Attached) -> Result<(), ControlError> {
        let bound = async {
            loop {
                let device = sysfs(&self.vhci, attached.port());
                if device.is_some_and(|device| has_driver(&device)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = bound => Ok(()),
            () = tokio::time::sleep(SETTLE) => Ok(()),
            () = attached.gone() => {
                let why = attached.why.borrow().clone().unwrap_or_default();
                Err(ControlError::failed(format!("{} was lost at once", attached.device))
                    .because(why))
            }
        }
    }

    /// The devices that a node offers to this one.
    pub(super) async fn remote_devices(&self, hub: &Hub) -> Result<Vec<Brief>, ControlError> {
        match hub.peer() {
            Some(peer) => list(&peer, &hub.node()).await,
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn find_attached(&self, node: &str, device: &str) -> Option<Rc<Attached>> {
        let attached = self.attached.borrow();
        attached
            .iter()
            .find(|a| a.node.id == node && (a.device == device || a.id == device))
            .cloned()
    }
}

/// Notes the end of an attachment, and follows its port to the next device there.
async fn watch(
    client: Rc<Client>,
    attached: Rc<Attached>,
    attachment: Attachment,
    follow: Option<Rc<Hub>>,
) {
    let end = attachment.ended().await;
    let reason: &dyn std::error::Error = &end;
    let (node, device) = (&attached.node.name, &attached.device);
    tracing::info!(node, device, port = %attached.port(), reason, "device is no longer attached");
    *attached.why.borrow_mut() = Some(end.to_string());
    attached.ended.set(true);
    attached.end.notify_waiters();
    client
        .attached
        .borrow_mut()
        .retain(|other| !Rc::ptr_eq(other, &attached));
    if let Some(hub) = follow.filter(|_| is_unplugging(&end)) {
        client.follow(hub, attached).await;
    }
}

/// What a person wants to have.
pub(super) struct Target {
    /// The device, as far as it is known.
    brief: Brief,
    /// The owner told of it.
    listed: bool,
    /// The name of its port, when it was asked for by that.
    port: Option<String>,
}

impl Target {
    /// What a person calls so.
    async fn named(peer: &Peer, query: &str, node: &NodeName) -> Result<Self, ControlError> {
        if query.parse::<DeviceId>().is_ok_and(|name| name.is_port()) {
            return Ok(Self::at_port(peer, query).await);
        }
        let offered = list(peer, node).await?;
        let brief = resolve(&offered, query, node)?;
        Ok(Self {
            listed: offered.contains(&brief),
            brief,
            port: None,
        })
    }

    /// What is plugged in there now. If the owner does not tell, it will say why when it is asked
    /// for the device.
    pub(super) async fn at_port(peer: &Peer, port: &str) -> Self {
        let request = DeviceRequest {
            dev: port.to_owned(),
        };
        let info = match msgpack::encode(&request) {
            Ok(payload) => peer.call(Opcode::DeviceInfo, payload, LIST).await.ok(),
            Err(_) => None,
        };
        let info = info.and_then(|info| msgpack::decode::<Info>(&info).ok());
        let brief = info
            .filter(|info| info.dev.parse::<DeviceId>().is_ok())
            .map(Info::brief);
        Self {
            listed: brief.is_some(),
            brief: brief.unwrap_or_else(|| unlisted(port)),
            port: Some(port.to_owned()),
        }
    }

    /// What the owner is asked for.
    fn name(&self) -> &str {
        self.port.as_deref().unwrap_or(&self.brief.dev)
    }
}

/// True when some interface of the device has a driver.
fn has_driver(device: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(device) else {
        return false;
    };
    entries.flatten().any(|entry| {
        entry.file_name().to_string_lossy().contains(':') && entry.path().join("driver").exists()
    })
}

/// The most devices of one node that are looked at: no list may fill this machine's memory.
const MAX_DEVICES: usize = 4096;

/// Every device that the node offers to this one.
async fn list(peer: &Peer, node: &NodeName) -> Result<Vec<Brief>, ControlError> {
    let nonsense = |_| ControlError::failed(format!("{} sent a list without sense", node.name));
    let mut request = ListRequest::default();
    let mut devices = Vec::new();
    loop {
        let payload =
            msgpack::encode(&request).map_err(|error| ControlError::failed(error.to_string()))?;
        let answer = peer
            .call(Opcode::DeviceList, payload, LIST)
            .await
            .map_err(|error| call_error(&error, node, "its devices"))?;
        let page = ListResponse::decode(&answer).map_err(nonsense)?;
        let empty = page.devs.is_empty();
        // What is no device id cannot be named by a person, nor asked for.
        let named = page
            .devs
            .into_iter()
            .filter(|brief| brief.dev.parse::<DeviceId>().is_ok());
        devices.extend(named.take(MAX_DEVICES - devices.len()));
        match page.more {
            // A list that does not advance would never end.
            Some(more)
                if !empty
                    && devices.len() < MAX_DEVICES
                    && request.after.as_ref().is_none_or(|after| more > *after) =>
            {
                request.after = Some(more);
            }
            Some(_) | None => return Ok(devices),
        }
    }
}

/// The listed device that a person means. A whole id that is not listed is asked for all the same:
/// it is the owner who says no, and whose log tells that somebody wanted it.
fn resolve(devices: &[Brief], query: &str, node: &NodeName) -> Result<Brief, ControlError> {
    let candidates: Vec<_> = devices
        .iter()
        .map(|d| Candidate {
            id: &d.dev,
            name: &d.name,
        })
        .collect();
    let found = name::resolve(query, &candidates);
    if found == Err(NameError::Unknown) && is_whole_id(query) {
        return Ok(unlisted(query));
    }
    let found = found.map_err(|error| {
        if error == NameError::Unknown {
            let message = format!("{} offers no device {query:?}", node.name);
            let error = ControlError::not_found(message).mend("myclerk list");
            if devices.is_empty() {
                return error.because("it offers nothing to this machine");
            }
            return error;
        }
        unresolved(
            &format!("device on {}", node.name),
            query,
            error,
            "myclerk list",
        )
    })?;
    devices
        .get(found)
        .cloned()
        .ok_or_else(|| ControlError::not_found(format!("there is no device {query:?}")))
}

fn is_whole_id(query: &str) -> bool {
    query.starts_with("usb:") && query.parse::<DeviceId>().is_ok()
}

fn unlisted(id: &str) -> Brief {
    Brief {
        dev: id.to_owned(),
        class: "usb".to_owned(),
        name: String::new(),
        state: State::Unavailable.to_u8(),
        mode: Mode::None.to_u8(),
        owner: None,
    }
}

async fn open(
    peer: &Peer,
    device: &str,
    node: &NodeName,
) -> Result<(AttachResponse, crate::daemon::peer::PeerStream), ControlError> {
    let request = AttachRequest {
        dev: device.to_owned(),
        mode: UseMode::ReadWrite,
        lock: None,
        ifs: None,
    };
    let payload = request
        .encode()
        .map_err(|error| ControlError::failed(error.to_string()))?;
    let (answer, stream) = peer
        .open(Opcode::UsbDeviceAttach, payload, OPEN)
        .await
        .map_err(|error| call_error(&error, node, device))?;
    match AttachResponse::decode(&answer) {
        Ok(response) => Ok((response, stream)),
        Err(error) => {
            stream.outlet.reset(Status::BadRequest);
            let message = format!("{} answered without sense", node.name);
            Err(ControlError::failed(message).because(error.to_string()))
        }
    }
}

/// A refusal by the owner, in words for the person at this machine.
fn call_error(error: &CallError, node: &NodeName, thing: &str) -> ControlError {
    let name = &node.name;
    match error {
        CallError::Refused { status, error: map } => match map.sub.as_ref() {
            sub::EXCLUSIVE => ControlError::refused(format!("{thing} on {name} is in use"))
                .because("another machine has it attached; it must detach it first"),
            sub::ACL => {
                ControlError::refused(format!("{name} does not let this machine use {thing}"))
                    .mend(format!("on {name}: myclerk acl grant {thing} THIS-MACHINE"))
            }
            sub::DEVICE => ControlError::not_found(format!("{name} offers no device {thing:?}"))
                .mend("myclerk list"),
            sub::DEVICE_GONE => {
                ControlError::not_found(format!("{thing} was unplugged from {name}"))
            }
            _ => {
                let cause = map
                    .msg
                    .clone()
                    .unwrap_or_else(|| format!("{status} ({})", map.sub));
                ControlError::refused(format!("{name} refuses {thing}")).because(cause)
            }
        },
        CallError::Ended(end) => {
            ControlError::failed(format!("the session with {name} ended")).because(end.to_string())
        }
        CallError::Link(error) => {
            ControlError::failed(format!("{name} could not be asked")).because(error.to_string())
        }
    }
}
