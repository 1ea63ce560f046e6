//! What is plugged in: the looks at the hardware of every bus.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Server;
use crate::bus::usb::enumerate::{self, Location, UsbDeviceInfo};
use crate::bus::usb::hostuse::{self, Roots};
use crate::bus::{self, Owned, Present};
use crate::device::id::DeviceId;
use crate::device::registry::{Change, Found, Hazard};
use crate::device::sticky::{Seen, StickyIds};
use crate::kernel::clock;
use crate::kernel::uevent::DeviceEvents;
use crate::wire::time::Mono;

/// The class of the devices that no table names.
const USB: &str = "usb";

/// How long a look stays good while the kernel tells of every device: whether this machine uses one
/// itself (a mounted disk) is told by nobody.
const FRESH: Duration = Duration::from_secs(5);

/// A device that comes or goes makes a dozen messages, for itself and each interface.
const BURST: Duration = Duration::from_millis(50);

/// How long a look at one bus is waited for, while all requests for devices wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// A look at one bus.
type Looking = JoinHandle<io::Result<Vec<(Found, Hardware)>>>;

/// What its bus knows of a present device.
#[derive(Clone, Debug)]
pub(super) enum Hardware {
    /// It is at USB.
    Usb(UsbDeviceInfo),
    /// It is at another bus.
    Other(Present),
}

impl Hardware {
    /// What is known of a device at USB.
    pub(super) const fn usb(&self) -> Option<&UsbDeviceInfo> {
        match self {
            Self::Usb(info) => Some(info),
            Self::Other(_) => None,
        }
    }

    /// What is known of a device at another bus.
    pub(super) const fn other(&self) -> Option<&Present> {
        match self {
            Self::Usb(_) => None,
            Self::Other(present) => Some(present),
        }
    }

    /// Where the guardian finds it, if it is one that the guardian can give back.
    pub(super) fn location(&self) -> Option<&Location> {
        self.usb().map(|info| &info.location)
    }
}

/// All present devices.
pub(super) type Devices = Rc<HashMap<DeviceId, Hardware>>;

/// The looks at what is plugged in: one at a time.
#[derive(Default)]
pub(super) struct Scans {
    turn: tokio::sync::Mutex<()>,
    begun: Cell<u64>,
    last: RefCell<Devices>,
    /// When the last one began, while the kernel tells of every change since.
    watched_since: Cell<Option<Mono>>,
    ids: RefCell<StickyIds>,
    /// What each bus had when it could be looked at last.
    seen: RefCell<BTreeMap<&'static str, Vec<(Found, Hardware)>>>,
    /// Looks that were not waited for any longer.
    late: RefCell<BTreeMap<&'static str, Looking>>,
    /// The buses that cannot be looked at.
    blind: RefCell<BTreeSet<&'static str>>,
}

/// Looks whenever the kernel tells that something changed.
pub(super) async fn watch(server: Rc<Server>) {
    let fall_back = |error: &io::Error| {
        tracing::warn!(%error, "cannot watch devices, looking at every request instead");
    };
    let classes = server.owned.iter().map(|owned| owned.class);
    let subsystems = classes.chain([USB]).filter_map(subsystem).collect();
    let events = match DeviceEvents::listen(subsystems) {
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

/// The kernel's subsystem whose devices are of that class.
fn subsystem(class: &str) -> Option<&'static str> {
    match class {
        USB => Some("usb"),
        "serial" => Some("tty"),
        "can" => Some("net"),
        "hid" => Some("input"),
        "gpio" => Some("gpio"),
        "pwm" => Some("pwm"),
        "i2c" => Some("i2c-dev"),
        "spi" => Some("spidev"),
        "onewire" => Some("w1"),
        _ => None,
    }
}

async fn rest_of_burst(events: &DeviceEvents) -> io::Result<()> {
    tokio::time::sleep(BURST).await;
    events.has_changed().map(drop)
}

impl Server {
    /// What is plugged in, as far as the last look is good enough; else as [`Server::scan`].
    pub(super) async fn recent(&self) -> Devices {
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
    pub(super) async fn scan(&self) -> Devices {
        let wanted = self.scans.begun.get() + 1;
        let _turn = self.scans.turn.lock().await;
        if self.scans.begun.get() < wanted {
            self.scans.begun.set(wanted);
            self.look().await;
            let found = self.take_scan();
            *self.scans.last.borrow_mut() = Rc::new(found);
        }
        self.scans.last.borrow().clone()
    }

    async fn look(&self) {
        let usb = spawn_blocking(look_at_usb);
        let others: Vec<_> = self
            .owned
            .iter()
            .map(|owned| self.begin_look(owned))
            .collect();
        let found = joined(usb.await).map(|found| self.keep_ids(found));
        self.saw(USB, found);
        for (class, mut found) in others {
            let seen = if let Ok(found) = timeout(PATIENCE, &mut found).await {
                joined(found)
            } else {
                self.scans.late.borrow_mut().insert(class, found);
                Err(io::ErrorKind::TimedOut.into())
            };
            self.saw(class, seen);
        }
    }

    /// Looks at one bus. Where an earlier look still hangs, that one is waited for: a kernel may hold a file
    /// of sysfs as long as its bus is busy, and threads must not pile up meanwhile.
    fn begin_look(&self, owned: &'static Owned) -> (&'static str, Looking) {
        let late = self.scans.late.borrow_mut().remove(owned.class);
        let hanging = late.filter(|look| !look.is_finished());
        let look = hanging.unwrap_or_else(|| spawn_blocking(|| look_at(owned)));
        (owned.class, look)
    }

    /// A bus that cannot be looked at keeps what it had: that says nothing about what is there.
    fn saw(&self, class: &'static str, found: io::Result<Vec<(Found, Hardware)>>) {
        let mut blind = self.scans.blind.borrow_mut();
        let found = match found {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                if blind.insert(class) {
                    tracing::warn!(class, %error, "cannot look for devices");
                }
                return;
            }
        };
        blind.remove(class);
        self.scans.seen.borrow_mut().insert(class, found);
    }

    fn keep_ids(&self, mut found: Vec<(Found, UsbDeviceInfo)>) -> Vec<(Found, Hardware)> {
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
        found
            .into_iter()
            .map(|(found, info)| (found, Hardware::Usb(info)))
            .collect()
    }

    fn take_scan(&self) -> HashMap<DeviceId, Hardware> {
        let seen = self.scans.seen.borrow();
        let (mut found, hardware): (Vec<Found>, Vec<Hardware>) =
            seen.values().flatten().cloned().unzip();
        let titles = self.titles.borrow();
        for found in &mut found {
            if let Some(title) = titles.of(&found.id) {
                title.clone_into(&mut found.name);
            }
        }
        drop(titles);
        let ids: Vec<DeviceId> = found.iter().map(|found| found.id.clone()).collect();
        let before: HashSet<DeviceId> = self.offered().collect();
        let changes = self.registry.borrow_mut().sync(found);
        let after: HashSet<DeviceId> = self.offered().collect();
        if !changes.is_empty() {
            self.tell_differences();
        }
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
        ids.into_iter().zip(hardware).collect()
    }
}

/// What a look on another thread saw.
fn joined<T>(look: Result<io::Result<T>, JoinError>) -> io::Result<T> {
    look.map_err(io::Error::other).and_then(|found| found)
}

/// What a device has to share with an earlier one to be taken for the same.
fn told_apart(info: &UsbDeviceInfo) -> String {
    let serial = info.serial.as_deref().unwrap_or_default();
    let (vendor, product) = (info.vendor, info.product);
    format!("{} {vendor:04x}:{product:04x} {serial}", info.port_name())
}

/// The id of a device that a bus calls so, if that can be one.
fn usable_id(class: &str, id: &str) -> Option<DeviceId> {
    match id.parse::<DeviceId>() {
        Ok(id) if id.class() == class => Some(id),
        Ok(_) => {
            tracing::warn!(
                device = id,
                class,
                "device left out: it is of another class"
            );
            None
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(device = id, error, "device left out");
            None
        }
    }
}

/// Reads sysfs; may wait.
fn look_at_usb() -> io::Result<Vec<(Found, UsbDeviceInfo)>> {
    let roots = Roots::default();
    let devices = enumerate::list()?.into_iter().filter_map(|info| {
        let hazard = hostuse::check(&roots, &info.location.sysfs).map(|reason| Hazard {
            reason: reason.to_string(),
            forcible: reason.is_forcible(),
        });
        let found = Found {
            id: usable_id(USB, &info.id)?,
            port: info.port_name().parse().ok(),
            peer: info.peer.as_ref().and_then(|peer| peer.parse().ok()),
            name: info.name(),
            hazard,
        };
        Some((found, info))
    });
    Ok(devices.collect())
}

/// May wait.
fn look_at(owned: &Owned) -> io::Result<Vec<(Found, Hardware)>> {
    let devices = (owned.look)()?.into_iter().filter_map(|present| {
        let hazard = |bus::Hazard { reason, forcible }| Hazard { reason, forcible };
        let found = Found {
            id: usable_id(owned.class, &present.id)?,
            port: None,
            peer: None,
            name: present.name.clone(),
            hazard: present.hazard.clone().map(hazard),
        };
        Some((found, Hardware::Other(present)))
    });
    Ok(devices.collect())
}
