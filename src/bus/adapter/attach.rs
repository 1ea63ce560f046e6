//! Plugs a played device into this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Adapter, player};
use crate::bus::pipe;
use crate::bus::usb::client::{AttachError, Attachment, attach_pinned};
use crate::bus::usb::op::AttachResponse;
use crate::kernel::vhci::{PortId, Vhci};
use crate::wire::crc16;

/// What names the device in kernel messages.
const DEVNO: u32 = 0x0001_0001;
/// Where the kernel has its USB devices.
const DEVICES: &str = "/sys/bus/usb/devices";
/// How many directories below a device are looked at.
const MAX_DIRECTORIES: usize = 256;

/// Plugs a device in, at the port that is `pin`'s if that is free: the same text means the same port
/// every time, so that what depends on it stays.
///
/// Must be called inside a `LocalSet` of a runtime with time and I/O.
///
/// # Errors
/// There is no port.
pub fn attach(
    vhci: &Rc<Vhci>,
    pin: &str,
    adapter: Rc<dyn Adapter>,
) -> Result<Attachment, AttachError> {
    let description = adapter.description();
    let response = AttachResponse {
        desc: description.descriptors(),
        spd: description.speed,
        cfg: 0,
        devno: DEVNO,
        kept: None,
    };
    let (host, device) = pipe::pair();
    let pin = Some(crc16::checksum(pin.as_bytes()));
    let attachment = attach_pinned(vhci, pin, &response, (host.outlet, host.inbound))?;
    tokio::task::spawn_local(player::play(adapter, device));
    Ok(attachment)
}

/// What a driver made of the device at a port: the first directory below it that `wanted` takes, by its
/// name.
pub fn made(vhci: &Vhci, port: PortId, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let ports = vhci.ports().ok()?;
    let row = ports.into_iter().find(|row| row.id == port)?;
    // Not there yet.
    if row.local_bus_id == "0-0" {
        return None;
    }
    below(&Path::new(DEVICES).join(row.local_bus_id), wanted)
}

fn below(device: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mut waiting = vec![device.to_owned()];
    for _ in 0..MAX_DIRECTORIES {
        let directory = waiting.pop()?;
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && entry.file_name().to_str().is_some_and(&wanted) {
                return Some(entry.path());
            }
            if is_directory {
                waiting.push(entry.path());
            }
        }
    }
    None
}
