//! Who uses an interface through this program, and what of it was changed for them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tracing::warn;

use super::failed;
use crate::bus::Refused;
use crate::bus::can::hardware::{CanHost, Settings};
use crate::bus::can::op::{Configure, Configured, ErrorState, ErrorStatus, Modes};
use crate::kernel::can::{BusState, Controller, Link, Timing};
use crate::wire::status::{Status, sub};

/// The modes that `CAN_CONFIGURE` knows.
const MODES: u32 = Controller::LOOPBACK | Controller::LISTEN_ONLY | Controller::ONE_SHOT;

/// A machine with interfaces and those who use them. Clones are the same.
#[derive(Clone)]
pub struct Owner {
    host: Arc<dyn CanHost>,
    uses: Arc<Mutex<BTreeMap<u32, Use>>>,
}

/// The use of one interface.
#[derive(Default)]
struct Use {
    streams: usize,
    exclusive: bool,
    /// It was down and is up for the streams.
    raised: bool,
    /// How it was before a stream configured it.
    before: Option<Link>,
}

impl Owner {
    /// Of a machine whose interfaces nobody uses.
    pub fn new(host: Arc<dyn CanHost>) -> Self {
        Self {
            host,
            uses: Arc::default(),
        }
    }

    pub(super) fn host(&self) -> Arc<dyn CanHost> {
        Arc::clone(&self.host)
    }

    fn uses(&self) -> MutexGuard<'_, BTreeMap<u32, Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one stream to use an interface. Dropping the last one of an interface undoes what was
/// changed of it, and waits for the kernel.
pub(super) struct Lease(Interface);

/// An interface that somebody has a lease of.
#[derive(Clone)]
pub(super) struct Interface {
    owner: Owner,
    index: u32,
    name: String,
}

impl Lease {
    pub(super) fn take(owner: &Owner, link: &Link, exclusive: bool) -> Result<Self, Refused> {
        let mut uses = owner.uses();
        let using = uses.entry(link.index).or_default();
        if using.exclusive || (exclusive && using.streams > 0) {
            let text = "somebody else has the interface open";
            return Err(Refused::new(Status::Forbidden, sub::EXCLUSIVE, text));
        }
        using.streams += 1;
        using.exclusive = exclusive;
        drop(uses);
        Ok(Self(Interface {
            owner: owner.clone(),
            index: link.index,
            name: link.name.clone(),
        }))
    }

    /// What of it may wait, for a thread that may. Not to be used when the lease has ended.
    pub(super) fn share(&self) -> Interface {
        self.0.clone()
    }
}

impl Interface {
    /// Lets the interface take part in traffic, if it is set up for that.
    pub(super) fn raise(&self) -> io::Result<()> {
        let link = self.owner.host.find(&self.name)?;
        let unset = |controller: Controller| controller.timing.bitrate == 0;
        if link.up || link.controller.is_some_and(unset) {
            return Ok(());
        }
        self.owner.host.set_up(self.index, true)?;
        self.change(|using| using.raised = true);
        Ok(())
    }

    /// `CAN_CONFIGURE`; also restarts a controller that is off the bus.
    pub(super) fn configure(&self, wanted: &Configure) -> Result<Configured, Refused> {
        let others = self.owner.uses().get(&self.index).map_or(0, |u| u.streams) > 1;
        if others {
            let text = "others have the interface open, and it cannot be locked";
            return Err(Refused::new(Status::Forbidden, sub::EXCLUSIVE, text));
        }
        let link = self.find()?;
        let Some(now) = link.controller else {
            return Err(Refused::unsupported("a virtual interface has no bit rate"));
        };
        let settings = settings(wanted, &now);
        self.change(|using| {
            using.before.get_or_insert_with(|| link.clone());
        });
        let host = &*self.owner.host;
        let set = host
            .set_up(self.index, false)
            .and_then(|()| host.configure(self.index, &settings))
            .and_then(|()| host.set_up(self.index, true));
        if let Err(error) = set {
            self.restore(&link);
            return Err(failed("the interface cannot be set so", &error));
        }
        self.find().map(|link| configured(&link))
    }

    /// `CAN_ERROR_STATUS`.
    pub(super) fn errors(&self) -> Result<ErrorStatus, Refused> {
        Ok(status(&self.find()?))
    }

    fn find(&self) -> Result<Link, Refused> {
        let found = self.owner.host.find(&self.name);
        let link = found.map_err(|error| failed("cannot find the interface", &error))?;
        if link.index == self.index {
            Ok(link)
        } else {
            // Another one has its name now.
            Err(Refused::gone())
        }
    }

    fn change(&self, change: impl FnOnce(&mut Use)) {
        if let Some(using) = self.owner.uses().get_mut(&self.index) {
            change(using);
        }
    }

    /// Sets the interface up as it was.
    fn restore(&self, before: &Link) {
        let host = &*self.owner.host;
        let restored = host.set_up(self.index, false).and_then(|()| {
            match before.controller {
                Some(controller) if controller.timing.bitrate > 0 => {
                    host.configure(self.index, &as_before(&controller))?;
                }
                // A controller without a bit rate stays down.
                Some(_) | None => return Ok(()),
            }
            host.set_up(self.index, before.up)
        });
        self.complain(restored);
    }

    fn complain(&self, undone: io::Result<()>) {
        match undone {
            Ok(()) => {}
            // It was unplugged.
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => {}
            Err(error) => {
                let (interface, reason) = (&self.name, &error as &dyn std::error::Error);
                warn!(interface, reason, "CAN interface left as a peer set it");
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Self(interface) = self;
        let mut uses = interface.owner.uses();
        let Some(using) = uses.get_mut(&interface.index) else {
            return;
        };
        using.streams -= 1;
        if using.streams > 0 {
            return;
        }
        let using = uses.remove(&interface.index).unwrap_or_default();
        drop(uses);
        if let Some(before) = using.before {
            interface.restore(&before);
        }
        if using.raised {
            interface.complain(interface.owner.host.set_up(interface.index, false));
        }
    }
}

fn settings(wanted: &Configure, now: &Controller) -> Settings {
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let mode = wanted.mode.unwrap_or_default();
    let mut settings = Settings {
        timing: Timing {
            bitrate: wanted.bitrate,
            sample_point: wanted.sample.unwrap_or(0),
        },
        data: wanted.dbitrate.map(|bitrate| Timing {
            bitrate,
            sample_point: 0,
        }),
        mask: bit(wanted.mode.is_some(), MODES),
        modes: bit(mode.loopback, Controller::LOOPBACK)
            | bit(mode.listen_only, Controller::LISTEN_ONLY)
            | bit(mode.one_shot, Controller::ONE_SHOT),
    };
    if settings.data.is_some() || now.modes & Controller::FD != 0 {
        settings.mask |= Controller::FD;
        settings.modes |= bit(settings.data.is_some(), Controller::FD);
    }
    settings
}

fn as_before(before: &Controller) -> Settings {
    let fd = before.modes & Controller::FD != 0;
    Settings {
        timing: before.timing,
        data: (fd && before.data.bitrate > 0).then_some(before.data),
        mask: MODES | Controller::FD,
        modes: before.modes & (MODES | Controller::FD),
    }
}

fn configured(link: &Link) -> Configured {
    let Some(controller) = &link.controller else {
        return Configured::default();
    };
    let on = |bit| controller.modes & bit != 0;
    Configured {
        bitrate: controller.timing.bitrate,
        sample: controller.timing.sample_point,
        dbitrate: controller.data.bitrate,
        mode: Modes {
            loopback: on(Controller::LOOPBACK),
            listen_only: on(Controller::LISTEN_ONLY),
            one_shot: on(Controller::ONE_SHOT),
        },
    }
}

/// A virtual interface has no errors.
fn status(link: &Link) -> ErrorStatus {
    let Some(controller) = &link.controller else {
        return ErrorStatus::default();
    };
    let (tx, rx) = controller.errors.unwrap_or_default();
    ErrorStatus {
        state: match controller.state {
            BusState::Active => ErrorState::Active,
            BusState::Warning => ErrorState::Warning,
            BusState::Passive => ErrorState::Passive,
            BusState::Off | BusState::Stopped | BusState::Sleeping | BusState::Unknown(_) => {
                ErrorState::Off
            }
        },
        tx: u32::from(tx),
        rx: u32::from(rx),
        restarts: controller.restarts,
        busoff: controller.bus_offs,
    }
}
