//! The local interface: made, marked as ours, removed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use super::here;
use super::options::{Wanted, Way};
use crate::bus::can::enumerate::OURS;
use crate::bus::can::hardware::CanHost;
use crate::bus::names::{Label, NAMES, NameFile};
use crate::bus::{AttachError, Wish};
use crate::kernel::can::{Kind, MTU_CLASSIC, MTU_FD, NAME_MAX};

/// Numbers that are tried after a name that is taken.
const NUMBERS: u32 = 100;
/// Where the kernel has its interfaces.
const INTERFACES: &str = "/sys/class/net";

/// What is to be made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    way: Way,
    /// The only name that will do, or the beginning of one.
    name: Result<String, String>,
    alias: String,
    mtu: u32,
    label: Label,
}

impl Plan {
    pub(super) fn new(wish: &Wish, wanted: &Wanted, fd: bool) -> Self {
        Self {
            way: wanted.way,
            name: wish.name.clone().ok_or_else(|| default_name(wish)),
            alias: format!("{OURS}{}/{}", wish.node, wish.device),
            mtu: if fd { MTU_FD } else { MTU_CLASSIC },
            label: wish.label(),
        }
    }

    fn names(&self) -> Vec<String> {
        match &self.name {
            Ok(name) => vec![name.clone()],
            Err(start) => (1..NUMBERS).map(|number| numbered(start, number)).collect(),
        }
    }
}

/// `mc-` and the name at the owner, of what may stand in a name.
fn default_name(wish: &Wish) -> String {
    let place = wish.device.split_once(':').map_or("", |(_, place)| place);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let place: String = place.chars().filter(|c| plain(*c)).collect();
    format!("mc-{}", if place.is_empty() { "can" } else { &place })
}

/// `start`, or it with a number behind it, cut to fit. A place is left for the peer's dot.
fn numbered(start: &str, number: u32) -> String {
    let number = match number {
        1 => String::new(),
        number => format!("-{number}"),
    };
    let room = NAME_MAX - 1 - number.len();
    format!("{}{number}", start.get(..room).unwrap_or(start))
}

/// The interface, and what is needed to remove it.
pub(super) struct Interface {
    host: Arc<dyn CanHost>,
    name: String,
    index: u32,
    port: u32,
    /// Tells udev of it.
    file: Option<NameFile>,
}

impl Interface {
    /// Removes what an earlier program left of this attachment, and makes a new interface that is up.
    pub(super) async fn make(host: Arc<dyn CanHost>, plan: Plan) -> Result<Self, AttachError> {
        let made = tokio::task::spawn_blocking(move || make(&host, &plan)).await;
        made.map_err(|error| here("cannot make an interface", io::Error::other(error)))?
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The interface on which our socket is: itself, or the other one of the pair.
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    /// Removes it; no harm if somebody did already.
    pub(super) async fn remove(self) -> io::Result<()> {
        let Self {
            host, index, file, ..
        } = self;
        let removed = tokio::task::spawn_blocking(move || gone(host.delete(index))).await;
        drop(file);
        removed.map_err(io::Error::other)?
    }
}

fn make(host: &Arc<dyn CanHost>, plan: &Plan) -> Result<Interface, AttachError> {
    let listed = host.list();
    for link in listed.map_err(|cause| here("cannot list the CAN interfaces", cause))? {
        if link.alias == plan.alias {
            // The other one of a pair goes with it.
            gone(host.delete(link.index))
                .map_err(|cause| here("cannot remove an earlier interface", cause))?;
        }
    }
    for name in plan.names() {
        let peer = format!(".{}", name.get(..NAME_MAX - 1).unwrap_or(&name));
        let (kind, port) = match plan.way {
            Way::Vcan => (Kind::Vcan, name.clone()),
            Way::Vxcan => (Kind::Vxcan(peer.clone()), peer),
        };
        // Another device's file must stay as it is.
        let file = (!Path::new(INTERFACES).join(&name).exists())
            .then(|| NameFile::try_write(Path::new(NAMES), &name, &plan.label));
        match host.create(&name, &kind, plan.mtu) {
            Ok(()) => {
                let interface = set_up(host, &name, &port, &plan.alias)?;
                return Ok(Interface {
                    file: file.flatten(),
                    ..interface
                });
            }
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            Err(cause) => return Err(here("cannot make a virtual CAN interface", cause)),
        }
    }
    let (Ok(name) | Err(name)) = &plan.name;
    Err(AttachError::Wish(format!(
        "there is an interface {name} already"
    )))
}

fn set_up(
    host: &Arc<dyn CanHost>,
    name: &str,
    port: &str,
    alias: &str,
) -> Result<Interface, AttachError> {
    let index = host
        .find(name)
        .map_err(|cause| here("cannot find the new interface", cause))?
        .index;
    let prepare = || {
        let port = host.find(port)?.index;
        for index in [port, index] {
            host.set_alias(index, alias)?;
            host.set_up(index, true)?;
        }
        Ok(port)
    };
    match prepare() {
        Ok(port) => Ok(Interface {
            host: Arc::clone(host),
            name: name.to_owned(),
            index,
            port,
            file: None,
        }),
        Err(cause) => {
            // What made it fail is to be told, not this.
            let _ = host.delete(index);
            Err(here("cannot start the new interface", cause))
        }
    }
}

fn gone(deleted: io::Result<()>) -> io::Result<()> {
    match deleted {
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_an_interface_whatever_the_device_is_called() {
        let name = |device: &str, number| {
            let wish = Wish {
                device: device.to_owned(),
                ..Wish::default()
            };
            numbered(&default_name(&wish), number)
        };
        assert_eq!(name("can:can0", 1), "mc-can0");
        assert_eq!(name("can:can0", 2), "mc-can0-2");
        assert_eq!(name("can:", 1), "mc-can");
        assert_eq!(name("can:gearbox/left", 1), "mc-gearboxleft");
        assert_eq!(name("can:gearbox-left-12", 99), "mc-gearbox--99");
        assert!(name("can:gearbox-left-12", 1).len() < NAME_MAX);
    }
}
