//! The ports of `vhci-hcd`: which there are, attaching a socket to one, detaching it.
//!
//! Every call is a few reads and one write of sysfs files, microseconds each.

mod place;
mod sysfs;
mod wear;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use self::sysfs::Sysfs;
pub use self::wear::SEQNUM_LIMIT;
use self::wear::Wear;

/// Where the kernel has its platform devices.
pub const PLATFORM: &str = "/sys/devices/platform";

/// Why a port cannot be listed, attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum VhciError {
    /// The module is not there.
    #[error("the kernel's virtual USB host controller is missing ({path}); run: modprobe vhci-hcd")]
    NotLoaded {
        /// What was looked for.
        path: PathBuf,
    },
    /// This process may not use the file.
    #[error("no permission to use {path}; run the client as root")]
    Permission {
        /// The file.
        path: PathBuf,
    },
    /// Every port of the right hub is in use.
    #[error(
        "all {total} {hub} ports of vhci-hcd are in use, and how many there are was decided when \
         the kernel was built; detach a device"
    )]
    NoFreePort {
        /// Which kind of port was needed.
        hub: Hub,
        /// How many of them exist.
        total: usize,
    },
    /// No port of the right hub exists.
    #[error(
        "this kernel's vhci-hcd has no {hub} ports, and no device can be used at another speed than \
         its own; plug it into a slower hub or port of its owner, such as a USB 2 one"
    )]
    NoHub {
        /// Which kind of port was needed.
        hub: Hub,
    },
    /// The only free ports are those of hubs that cannot number URBs any more.
    #[error(
        "{worn} of {hubs} {hub} hubs of vhci-hcd have used up their sequence numbers and the others \
         are full; detach all devices and run: modprobe -r vhci_hcd && modprobe vhci_hcd"
    )]
    WornOut {
        /// Which kind of hub was needed.
        hub: Hub,
        /// How many of them are worn out.
        worn: usize,
        /// How many there are.
        hubs: usize,
    },
    /// The kernel does not take these arguments.
    #[error("vhci-hcd refused {speed} on port {port}")]
    Refused {
        /// The last port that was tried.
        port: PortId,
        /// The speed that was asked for.
        speed: Speed,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A status file is not what this program understands.
    #[error("{path} has an unknown format: {line:?}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The line in question.
        line: String,
    },
    /// Anything else.
    #[error("{path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl VhciError {
    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotLoaded { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            _ => Self::Io { path, source },
        }
    }
}

/// A port's number, counted over all controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The two root hubs of a controller; the speed of a device decides which one it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hub {
    /// Low, full and high speed.
    High,
    /// Super speed and above.
    Super,
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high-speed",
            Self::Super => "super-speed",
        })
    }
}

/// A device's speed in the kernel's numbering (`enum usb_device_speed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// 1: 1.5 Mbit/s.
    Low,
    /// 2: 12 Mbit/s.
    Full,
    /// 3: 480 Mbit/s.
    High,
    /// 5: 5 Gbit/s.
    Super,
    /// 6: 10 Gbit/s and more.
    SuperPlus,
}

impl Speed {
    /// The kernel's number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Low => 1,
            Self::Full => 2,
            Self::High => 3,
            Self::Super => 5,
            Self::SuperPlus => 6,
        }
    }

    /// The hub that has ports for it.
    pub const fn hub(self) -> Hub {
        match self {
            Self::Low | Self::Full | Self::High => Hub::High,
            Self::Super | Self::SuperPlus => Hub::Super,
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low speed",
            Self::Full => "full speed",
            Self::High => "high speed",
            Self::Super => "super speed",
            Self::SuperPlus => "super speed plus",
        })
    }
}

/// `sta` of a port (kernel `enum usbip_device_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// 4: nothing is attached.
    Free,
    /// 5: attached, not yet addressed.
    NotAssigned,
    /// 6: in use.
    Used,
    /// 7: broken, on its way to being free.
    Error,
    /// Another number.
    Unknown(u32),
}

impl PortState {
    const fn from_code(code: u32) -> Self {
        match code {
            4 => Self::Free,
            5 => Self::NotAssigned,
            6 => Self::Used,
            7 => Self::Error,
            other => Self::Unknown(other),
        }
    }
}

/// One row of a status file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// The controller it belongs to, from 0.
    pub controller: usize,
    /// The hub it belongs to.
    pub hub: Hub,
    /// Whether it is in use.
    pub state: PortState,
    /// `devid` that it was attached with, 0 when free.
    pub devid: u32,
    /// The local device, such as `3-1`; `0-0` when there is none.
    pub local_bus_id: String,
}

/// What can be asked of a kernel's `vhci-hcd`: implemented by its files in sysfs, and by tests that
/// play the kernel.
pub trait Controllers: fmt::Debug {
    /// Every port of every controller.
    ///
    /// # Errors
    /// [`VhciError`] when the module is missing or a file cannot be read or understood.
    fn ports(&self) -> Result<Vec<Port>, VhciError>;

    /// Gives a socket to a port. The kernel takes its own reference to the socket.
    ///
    /// # Errors
    /// `EBUSY` when the port is in use, `EINVAL` for what the kernel does not take.
    fn attach(
        &self,
        port: PortId,
        socket: BorrowedFd<'_>,
        devid: u32,
        speed: Speed,
    ) -> io::Result<()>;

    /// Frees a port.
    ///
    /// # Errors
    /// `EINVAL` when it is free.
    fn detach(&self, port: PortId) -> io::Result<()>;

    /// Where one of its files is, for messages.
    fn path(&self, file: &str) -> PathBuf;

    /// Another number when the module was loaded again.
    fn generation(&self) -> u64;
}

/// The controllers of one kernel.
#[derive(Debug)]
pub struct Vhci {
    controllers: Box<dyn Controllers>,
    /// The controller to try first the next time. A port whose link dies during enumeration blocks
    /// its whole hub for seconds, so neighbours are avoided.
    first: Cell<usize>,
    wear: Wear,
}

impl Vhci {
    /// The running kernel's.
    pub fn system() -> Self {
        Self::at(Path::new(PLATFORM))
    }

    /// Those below another directory than [`PLATFORM`].
    pub fn at(platform: &Path) -> Self {
        Self::of(Box::new(Sysfs::below(platform)))
    }

    /// Those of a kernel that somebody plays.
    pub fn of(controllers: Box<dyn Controllers>) -> Self {
        Self {
            controllers,
            first: Cell::new(0),
            wear: Wear::default(),
        }
    }

    /// Lets hubs count as worn out from that sequence number on instead of [`SEQNUM_LIMIT`].
    #[must_use]
    pub fn with_seqnum_limit(mut self, limit: u32) -> Self {
        self.wear.limit = limit.min(SEQNUM_LIMIT);
        self
    }

    /// The sequence number from which on a device must leave its hub.
    pub const fn seqnum_limit(&self) -> u32 {
        self.wear.limit
    }

    /// Every port of every controller.
    ///
    /// # Errors
    /// [`VhciError`] when the module is missing or a file cannot be read or understood.
    pub fn ports(&self) -> Result<Vec<Port>, VhciError> {
        self.controllers.ports()
    }

    /// Gives a socket to a free port, after which the kernel enumerates the device. The kernel keeps
    /// its own reference to the socket. Hubs that are worn out are left alone.
    ///
    /// `devid` is only a name. The socket must be a connected stream.
    ///
    /// # Errors
    /// [`VhciError`]; nothing is attached then.
    pub fn attach(
        &self,
        socket: BorrowedFd<'_>,
        devid: u32,
        speed: Speed,
    ) -> Result<PortId, VhciError> {
        self.attach_pinned(socket, devid, speed, None)
    }

    /// The same, to the port that a number stands for: always the same one if it is free, the next
    /// free one after it otherwise.
    ///
    /// # Errors
    /// As [`Vhci::attach`].
    pub fn attach_pinned(
        &self,
        socket: BorrowedFd<'_>,
        devid: u32,
        speed: Speed,
        pin: Option<u16>,
    ) -> Result<PortId, VhciError> {
        let ports = self.ports()?;
        let mut candidates = self.candidates(&ports, speed.hub());
        if let Some(pin) = pin {
            pinned_first(&ports, &mut candidates, pin);
        }
        for port in candidates {
            match self.write(port.id, socket, devid, speed) {
                Ok(()) => {
                    self.first.set(port.controller + 1);
                    return Ok(port.id);
                }
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
                    return Err(VhciError::Refused {
                        port: port.id,
                        speed,
                        source,
                    });
                }
                Err(source) => return Err(VhciError::io(&self.controllers.path("attach"), source)),
            }
        }
        Err(self.full(&ports, speed.hub()))
    }

    /// Whether [`Self::attach`] would find a port for that speed now.
    ///
    /// # Errors
    /// Why not.
    pub fn has_room(&self, speed: Speed) -> Result<(), VhciError> {
        let ports = self.ports()?;
        if self.candidates(&ports, speed.hub()).is_empty() {
            return Err(self.full(&ports, speed.hub()));
        }
        Ok(())
    }

    /// Frees a port; the kernel closes its end of the socket soon afterwards. Does nothing when the
    /// port is free already.
    ///
    /// # Errors
    /// [`VhciError`] when the module is missing or the file cannot be written.
    pub fn detach(&self, port: PortId) -> Result<(), VhciError> {
        match self.controllers.detach(port) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => {
                result.map_err(|source| VhciError::io(&self.controllers.path("detach"), source))
            }
        }
    }

    /// Remembers that the hub of a port has used up its sequence numbers, until the module is loaded
    /// again.
    ///
    /// # Errors
    /// [`VhciError`] when the ports cannot be listed.
    pub fn wear_out(&self, port: PortId) -> Result<(), VhciError> {
        let ports = self.ports()?;
        if let Some(port) = ports.iter().find(|row| row.id == port) {
            let generation = self.controllers.generation();
            self.wear.mark(generation, port.controller, port.hub);
        }
        Ok(())
    }

    /// Kernels that do not know super speed plus answer EINVAL; the device works at super speed too.
    fn write(
        &self,
        port: PortId,
        socket: BorrowedFd<'_>,
        devid: u32,
        speed: Speed,
    ) -> io::Result<()> {
        match self.controllers.attach(port, socket, devid, speed) {
            Err(error)
                if speed == Speed::SuperPlus && error.raw_os_error() == Some(libc::EINVAL) =>
            {
                self.controllers.attach(port, socket, devid, Speed::Super)
            }
            result => result,
        }
    }

    fn is_worn(&self, port: &Port) -> bool {
        let generation = self.controllers.generation();
        self.wear.is_worn(generation, port.controller, port.hub)
    }

    /// Why there is no port of a kind.
    fn full(&self, ports: &[Port], hub: Hub) -> VhciError {
        let of_hub = || ports.iter().filter(move |port| port.hub == hub);
        let total = of_hub().count();
        let controllers = |ports: &mut dyn Iterator<Item = &Port>| {
            let numbers: BTreeSet<_> = ports.map(|port| port.controller).collect();
            numbers.len()
        };
        let worn = controllers(&mut of_hub().filter(|port| self.is_worn(port)));
        match (total, worn) {
            (0, _) => VhciError::NoHub { hub },
            (_, 0) => VhciError::NoFreePort { hub, total },
            (_, _) => VhciError::WornOut {
                hub,
                worn,
                hubs: controllers(&mut of_hub()),
            },
        }
    }

    /// The free ports of one kind that are not worn out: controllers with the fewest devices first,
    /// among equals the one after the last that was used.
    fn candidates<'a>(&self, ports: &'a [Port], hub: Hub) -> Vec<&'a Port> {
        let of_hub = || ports.iter().filter(move |port| port.hub == hub);
        let controllers = ports
            .iter()
            .map(|port| port.controller + 1)
            .max()
            .unwrap_or(1);
        let mut used = vec![0usize; controllers];
        for port in of_hub().filter(|port| port.state != PortState::Free) {
            if let Some(count) = used.get_mut(port.controller) {
                *count += 1;
            }
        }
        let first = self.first.get() % controllers;
        let mut free: Vec<_> = of_hub()
            .filter(|port| port.state == PortState::Free && !self.is_worn(port))
            .collect();
        free.sort_by_key(|port| {
            let turn = (port.controller + controllers - first) % controllers;
            (used.get(port.controller).copied(), turn, port.id)
        });
        free
    }
}

/// Sorts the free ports of a hub's kind by how far behind the pinned one they are.
fn pinned_first(ports: &[Port], candidates: &mut [&Port], pin: u16) {
    let Some(hub) = candidates.first().map(|port| port.hub) else {
        return;
    };
    let mut of_hub: Vec<_> = ports.iter().filter(|port| port.hub == hub).collect();
    of_hub.sort_by_key(|port| port.id);
    let count = of_hub.len();
    // INVARIANT: a candidate is one of the ports, so there is at least one.
    let first = usize::from(pin) % count;
    let place = |id| of_hub.iter().position(|port| port.id == id);
    candidates.sort_by_key(|port| place(port.id).map(|place| (place + count - first) % count));
}

#[cfg(test)]
mod tests;
