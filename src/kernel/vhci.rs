//! The sysfs side of `vhci-hcd`: which ports there are, attaching a socket to one, detaching it
//! (kernel `drivers/usb/usbip/vhci_sysfs.c`).
//!
//! Every call is a few reads and one write of sysfs files, microseconds each.

use std::cell::Cell;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Where the kernel has its platform devices.
pub const PLATFORM: &str = "/sys/devices/platform";

/// More controllers than any kernel is built with.
const MAX_CONTROLLERS: usize = 128;

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
        "all {total} {hub} ports of vhci-hcd are in use; detach a device, \
         or load the module with more controllers"
    )]
    NoFreePort {
        /// Which kind of port was needed.
        hub: Hub,
        /// How many of them exist.
        total: usize,
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

/// A port's number, counted over all controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The two root hubs of a controller; the speed of a device decides which one it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The controllers of one kernel.
#[derive(Debug)]
pub struct Vhci {
    directory: PathBuf,
    /// The controller to try first the next time. A port whose link dies during enumeration blocks
    /// its whole hub for seconds, so neighbours are avoided.
    first: Cell<usize>,
}

impl Vhci {
    /// The running kernel's.
    pub fn system() -> Self {
        Self::at(Path::new(PLATFORM))
    }

    /// Those below another directory than [`PLATFORM`].
    pub fn at(platform: &Path) -> Self {
        Self {
            directory: platform.join("vhci_hcd.0"),
            first: Cell::new(0),
        }
    }

    /// Every port of every controller.
    ///
    /// # Errors
    /// [`VhciError`] when the module is missing or a file cannot be read or understood.
    pub fn ports(&self) -> Result<Vec<Port>, VhciError> {
        let path = self.directory.join("nports");
        let text = read(&path)?;
        let total: u32 = text
            .trim()
            .parse()
            .map_err(|_| format_error(&path, &text))?;
        let mut ports = Vec::new();
        for controller in 0..MAX_CONTROLLERS {
            let path = match controller {
                0 => self.directory.join("status"),
                other => self.directory.join(format!("status.{other}")),
            };
            let text = match read(&path) {
                Ok(text) => text,
                Err(VhciError::NotLoaded { .. }) if controller > 0 => break,
                Err(error) => return Err(error),
            };
            for line in text.lines().skip(1) {
                let port = parse_row(controller, line)
                    .filter(|port| port.id.0 < total)
                    .ok_or_else(|| format_error(&path, line))?;
                ports.push(port);
            }
        }
        Ok(ports)
    }

    /// Gives a socket to a free port, after which the kernel enumerates the device. The kernel keeps
    /// its own reference to the socket.
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
        let path = self.directory.join("attach");
        let ports = self.ports()?;
        let socket = socket.as_raw_fd();
        self.attach_by(&ports, speed, &mut |port, speed| {
            write(&path, &format!("{port} {socket} {devid} {}", speed.code()))
        })
        .map_err(|failure| failure.into_error(&path))
    }

    /// Frees a port; the kernel closes its end of the socket soon afterwards. Does nothing when the
    /// port is free already.
    ///
    /// # Errors
    /// [`VhciError`] when the module is missing or the file cannot be written.
    pub fn detach(&self, port: PortId) -> Result<(), VhciError> {
        let path = self.directory.join("detach");
        match write(&path, &port.to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result.map_err(|source| io_error(&path, source)),
        }
    }

    fn attach_by(
        &self,
        ports: &[Port],
        speed: Speed,
        write: &mut dyn FnMut(PortId, Speed) -> io::Result<()>,
    ) -> Result<PortId, AttachFailure> {
        for port in self.candidates(ports, speed.hub()) {
            match write_speed(port.id, speed, write) {
                Ok(()) => {
                    self.first.set(port.controller + 1);
                    return Ok(port.id);
                }
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(source) => {
                    return Err(AttachFailure::Write {
                        port: port.id,
                        speed,
                        source,
                    });
                }
            }
        }
        let hub = speed.hub();
        let total = ports.iter().filter(|port| port.hub == hub).count();
        Err(AttachFailure::NoFreePort { hub, total })
    }

    /// The free ports of one kind: controllers with the fewest devices first, among equals the one
    /// after the last that was used.
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
            .filter(|port| port.state == PortState::Free)
            .collect();
        free.sort_by_key(|port| {
            let turn = (port.controller + controllers - first) % controllers;
            (used.get(port.controller).copied(), turn, port.id)
        });
        free
    }
}

/// Kernels that do not know super speed plus answer EINVAL; the device works at super speed too.
fn write_speed(
    port: PortId,
    speed: Speed,
    write: &mut dyn FnMut(PortId, Speed) -> io::Result<()>,
) -> io::Result<()> {
    match write(port, speed) {
        Err(error) if speed == Speed::SuperPlus && error.raw_os_error() == Some(libc::EINVAL) => {
            write(port, Speed::Super)
        }
        result => result,
    }
}

#[derive(Debug)]
enum AttachFailure {
    NoFreePort {
        hub: Hub,
        total: usize,
    },
    Write {
        port: PortId,
        speed: Speed,
        source: io::Error,
    },
}

impl AttachFailure {
    fn into_error(self, path: &Path) -> VhciError {
        match self {
            Self::NoFreePort { hub, total } => VhciError::NoFreePort { hub, total },
            Self::Write {
                port,
                speed,
                source,
            } if source.raw_os_error() == Some(libc::EINVAL) => VhciError::Refused {
                port,
                speed,
                source,
            },
            Self::Write { source, .. } => io_error(path, source),
        }
    }
}

/// `hs  0000 004 000 00000000 000000 0-0`: hub, port, state, speed, devid, socket, local device.
fn parse_row(controller: usize, line: &str) -> Option<Port> {
    let mut fields = line.split_ascii_whitespace();
    let hub = match fields.next()? {
        "hs" => Hub::High,
        "ss" => Hub::Super,
        _ => return None,
    };
    let id = PortId(fields.next()?.parse().ok()?);
    let state = PortState::from_code(fields.next()?.parse().ok()?);
    let _speed = fields.next()?;
    let devid = u32::from_str_radix(fields.next()?, 16).ok()?;
    let _socket = fields.next()?;
    let local_bus_id = fields.next()?.to_owned();
    Some(Port {
        id,
        controller,
        hub,
        state,
        devid,
        local_bus_id,
    })
}

fn read(path: &Path) -> Result<String, VhciError> {
    fs::read_to_string(path).map_err(|source| io_error(path, source))
}

/// In one `write`, as sysfs wants it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn format_error(path: &Path, line: &str) -> VhciError {
    VhciError::Format {
        path: path.to_owned(),
        line: line.chars().take(80).collect(),
    }
}

fn io_error(path: &Path, source: io::Error) -> VhciError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => VhciError::NotLoaded { path },
        io::ErrorKind::PermissionDenied => VhciError::Permission { path },
        _ => VhciError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;
