//! USB devices of others as local ones; those of other buses go to their presenters.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use super::Client;
use super::attached::{Attached, Form, sysfs};
use super::follow::may_return;
use super::hub::Hub;
use super::measured::Measured;
use super::present::Wanted;
use super::target::{Target, USB, ask_error};
use crate::bus::outage::GRACE;
use crate::bus::usb::client::{self, AttachError, Attachment, Line, Way};
use crate::bus::usb::op::{AttachRequest, AttachResponse};
use crate::daemon::control::Conversation;
use crate::daemon::control::message::{AttachedDevice, ControlError, NodeName};
use crate::daemon::peer::Peer;
use crate::daemon::peer::meter::Meter;
use crate::kernel::vhci::PortId;
use crate::wire::crc16;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// Time for the owner to open a device: drivers may take a while to let go.
const OPEN: Duration = Duration::from_secs(30);
/// Time for this kernel to find a driver for an attached device.
const SETTLE: Duration = Duration::from_secs(8);

impl Client {
    /// Makes a device of a node local; one that is local already is only described.
    pub(super) async fn attach(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        wanted: Wanted,
        asker: &Conversation,
    ) -> Result<AttachedDevice, ControlError> {
        let node = hub.node();
        let peer = self.connected(hub).await?;
        let target = Target::named(&peer, &wanted.device, &node, self.presenters).await?;
        let _turn = self.turns.take(&node.id, &target.brief.dev).await;
        if let Some(attached) = self.find_attached(&node.id, &target.brief.dev) {
            if attached.comes_back(OPEN).await {
                return Ok(attached.info(&self.vhci));
            }
            if self.find_attached(&node.id, &target.brief.dev).is_some() {
                let path = format!("{}/{}", node.name, attached.device);
                let error = ControlError::failed(format!("{path} is here without its owner"))
                    .because("the owner does not give it again");
                return Err(error.mend(format!("myclerk detach {path}")));
            }
        }
        if target.class() == USB {
            wanted.is_plain()?;
            self.attach_usb(hub, &peer, target, asker).await
        } else {
            self.present(hub, target, wanted, asker).await
        }
    }

    async fn attach_usb(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        peer: &Peer,
        target: Target,
        asker: &Conversation,
    ) -> Result<AttachedDevice, ControlError> {
        let node = hub.node();
        if target.listed {
            // Without vhci-hcd the owner need not let its drivers go for nothing.
            self.vhci.ports().map_err(|error| self.no_port(&error))?;
        }
        self.end_waiting(&node.id, target.name());
        asker.step(format!("asking {} for {}", node.name, target.name()));
        let attached = self.take(hub, peer, target).await?;
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
        let request = AttachRequest {
            lock: self
                .lease_of(&node.id, &target.brief.dev)
                .map(|token| token.0),
            hold: u32::try_from(GRACE.as_millis()).ok(),
            ..AttachRequest::whole(target.name())
        };
        let (response, stream) = open(peer, &request, &node).await?;
        let outlet = Rc::clone(&stream.outlet);
        let meter = Rc::new(Meter::default());
        stream.measure(&meter);
        let measured = Measured {
            hub: Rc::clone(hub),
            meter: Rc::clone(&meter),
        };
        let line = Line {
            session: (stream.outlet, stream.inbound),
            way: Way::of(Rc::new(measured), request, &response),
        };
        let identity = format!("{}/{}", node.id, target.brief.dev);
        let pin = Some(crc16::checksum(identity.as_bytes()));
        let attachment = match client::attach_line(&self.vhci, pin, &response, line) {
            Ok(attachment) => attachment,
            Err(error) => {
                outlet.reset(Status::Ok);
                return Err(self.not_attached(&error, target.name()));
            }
        };
        let label = self
            .auto
            .label(&node, &target.brief.dev, &target.brief.name);
        let told = client::tell_udev(&self.vhci, attachment.handle(), label);
        let follow = target.port.is_some().then(|| Rc::clone(hub));
        let form = Form::Usb {
            handle: attachment.handle(),
            speed: response.spd,
        };
        let attached = Attached::new(node, target, form, meter);
        self.attached.borrow_mut().push(Rc::clone(&attached));
        attached.keep_until_gone(told);
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
                let port = attached.port();
                let device = port.and_then(|port| sysfs(&self.vhci, port));
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
    let port = attached.port().map(|PortId(port)| port);
    tracing::info!(node, device, port, reason, "device is no longer attached");
    attached.has_ended(end.to_string());
    client.forget(&attached);
    if let Some(hub) = follow.filter(|_| may_return(&end)) {
        client.follow(hub, attached).await;
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

async fn open(
    peer: &Peer,
    request: &AttachRequest,
    node: &NodeName,
) -> Result<(AttachResponse, crate::daemon::peer::PeerStream), ControlError> {
    let payload = request
        .encode()
        .map_err(|error| ControlError::failed(error.to_string()))?;
    let (answer, stream) = peer
        .open(Opcode::UsbDeviceAttach, payload, OPEN)
        .await
        .map_err(|error| ask_error(&error.into(), node, &request.dev))?;
    match AttachResponse::decode(&answer) {
        Ok(response) => Ok((response, stream)),
        Err(error) => {
            stream.outlet.reset(Status::BadRequest);
            let message = format!("{} answered without sense", node.name);
            Err(ControlError::failed(message).because(error.to_string()))
        }
    }
}
