//! The files of `vhci-hcd` (kernel `drivers/usb/usbip/vhci_sysfs.c`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Controllers, Hub, Port, PortId, PortState, Speed, VhciError};

/// More controllers than any kernel is built with.
const MAX_CONTROLLERS: usize = 128;

/// The controllers of a running kernel, by their directory.
#[derive(Debug)]
pub(super) struct Sysfs {
    directory: PathBuf,
}

impl Sysfs {
    /// `vhci_hcd.0` below a directory of platform devices.
    pub(super) fn below(platform: &Path) -> Self {
        Self {
            directory: platform.join("vhci_hcd.0"),
        }
    }
}

impl Controllers for Sysfs {
    fn ports(&self) -> Result<Vec<Port>, VhciError> {
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

    fn attach(
        &self,
        port: PortId,
        socket: BorrowedFd<'_>,
        devid: u32,
        speed: Speed,
    ) -> io::Result<()> {
        let (socket, speed) = (socket.as_raw_fd(), speed.code());
        let text = format!("{port} {socket} {devid} {speed}");
        write(&self.directory.join("attach"), &text)
    }

    fn detach(&self, port: PortId) -> io::Result<()> {
        write(&self.directory.join("detach"), &port.to_string())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn generation(&self) -> u64 {
        fs::metadata(&self.directory).map_or(0, |metadata| metadata.ino())
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
    fs::read_to_string(path).map_err(|source| VhciError::io(path, source))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_row_is_refused_or_read(line in "(hs|ss)?[ 0-9a-f-]{0,60}\\PC{0,8}") {
            if let Some(port) = parse_row(0, &line) {
                prop_assert!(!port.local_bus_id.is_empty());
            }
        }
    }
}
