//! Remote devices that are local now.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use std::time::Duration;

use tokio::sync::Notify;

use super::target::{Target, USB};
use super::{Client, files};
use crate::bus::usb::client;
use crate::bus::usb::op::Speed;
use crate::bus::{self, Presenter};
use crate::daemon::control::message::{AttachedDevice, NodeName};
use crate::daemon::peer::meter::Meter;
use crate::kernel::clock;
use crate::kernel::vhci::{PortId, Vhci};
use crate::wire::time::Mono;

/// From one look at a device without its owner to the next.
const LOOK: Duration = Duration::from_millis(50);

const USB_DEVICES: &str = "/sys/bus/usb/devices";

/// A remote device that is local now.
pub(super) struct Attached {
    pub(super) node: NodeName,
    /// As it was asked for: its id, or the name of its port.
    pub(super) device: String,
    /// Its id, as far as the owner told.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) form: Form,
    since: Mono,
    pub(super) meter: Rc<Meter>,
    ended: Cell<bool>,
    end: Notify,
    pub(super) why: RefCell<Option<String>>,
}

/// What a device is on this machine.
pub(super) enum Form {
    /// One that vhci-hcd has.
    Usb {
        handle: client::Handle,
        speed: Speed,
    },
    /// What a presenter made of it.
    Other {
        presenter: &'static Presenter,
        handle: Rc<dyn bus::Handle>,
    },
}

impl Attached {
    pub(super) fn new(node: NodeName, target: Target, form: Form, meter: Rc<Meter>) -> Rc<Self> {
        Rc::new(Self {
            node,
            device: target.name().to_owned(),
            id: target.brief.dev,
            name: target.brief.name,
            form,
            since: clock::mono(),
            meter,
            ended: Cell::new(false),
            end: Notify::new(),
            why: RefCell::default(),
        })
    }

    /// The port of vhci-hcd that it is on now, if it is a USB device.
    pub(super) fn port(&self) -> Option<PortId> {
        self.usb().map(client::Handle::port)
    }

    /// Steers the attachment of a USB device.
    pub(super) const fn usb(&self) -> Option<&client::Handle> {
        match &self.form {
            Form::Usb { handle, .. } => Some(handle),
            Form::Other { .. } => None,
        }
    }

    /// Starts giving it back.
    pub(super) fn detach(&self) {
        match &self.form {
            Form::Usb { handle, .. } => handle.detach(),
            Form::Other { handle, .. } => handle.detach(),
        }
    }

    /// False while it is here without its owner.
    pub(super) fn has_session(&self) -> bool {
        match &self.form {
            Form::Usb { handle, .. } => handle.is_live(),
            Form::Other { handle, .. } => handle.is_live(),
        }
    }

    /// Nothing of it is left on this machine.
    pub(super) fn has_ended(&self, why: String) {
        *self.why.borrow_mut() = Some(why);
        self.ended.set(true);
        self.end.notify_waiters();
    }

    /// Waits until it has a session with its owner, at most so long; false when it has none then, or is
    /// gone.
    pub(super) async fn comes_back(&self, within: Duration) -> bool {
        let waiting = async {
            while !self.ended.get() && !self.has_session() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(within, waiting).await;
        !self.ended.get() && self.has_session()
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

    /// Drops something once it is gone.
    pub(super) fn keep_until_gone(self: &Rc<Self>, thing: impl Sized + 'static) {
        let attached = Rc::clone(self);
        tokio::task::spawn_local(async move {
            attached.gone().await;
            drop(thing);
        });
    }

    /// What it is on this machine now.
    pub(super) fn files(&self, vhci: &Vhci) -> Vec<String> {
        match &self.form {
            Form::Usb { handle, .. } => {
                let device = sysfs(vhci, handle.port());
                device
                    .map(|device| files::below(&device))
                    .unwrap_or_default()
            }
            Form::Other { handle, .. } => handle.files(),
        }
    }

    /// The device for people, with the files that it has now.
    pub(super) fn info(&self, vhci: &Vhci) -> AttachedDevice {
        AttachedDevice {
            files: self.files(vhci),
            ..self.describe()
        }
    }

    /// The device for people, without a look at this machine.
    pub(super) fn describe(&self) -> AttachedDevice {
        let (class, speed) = match &self.form {
            Form::Usb { speed, .. } => (USB, Some(speed.to_string())),
            Form::Other { presenter, .. } => (presenter.class, None),
        };
        AttachedDevice {
            node: self.node.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            class: class.to_owned(),
            port: self.port().map(|port| port.0),
            speed,
            live: !self.ended.get() && self.has_session(),
            age: clock::mono().since(self.since).as_secs(),
            files: Vec::new(),
            auto: false,
            waiting: None,
            traffic: Some(self.meter.read(clock::mono()).into()),
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
    pub(super) fn find_attached(&self, node: &str, device: &str) -> Option<Rc<Attached>> {
        let attached = self.attached.borrow();
        attached
            .iter()
            .find(|a| a.node.id == node && (a.device == device || a.id == device))
            .cloned()
    }

    /// Takes a device out of the list of those that are local.
    pub(super) fn forget(&self, attached: &Rc<Attached>) {
        self.attached
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, attached));
        self.auto.changed(&attached.node.id);
    }
}
