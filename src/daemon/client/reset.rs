//! Resets that a person asks for.
//!
//! The reset is made by this machine's kernel, on the imported device, so that the drivers here know
//! of it and set the device up again; the attachment hands it on to the owner's device (`USB_RESET`)
//! when the kernel comes to it.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::Client;
use super::attached::{Attached, sysfs};
use crate::daemon::control::message::{AttachedDevice, ControlError, DetachTarget};
use crate::kernel::usbfs::Device;

const DEV: &str = "/dev";

impl Client {
    /// Resets attached devices; a device without trouble is none the worse for it.
    pub(super) async fn reset(
        &self,
        target: &DetachTarget,
    ) -> Result<Vec<AttachedDevice>, ControlError> {
        let devices = self.attached_targets(target)?;
        for device in &devices {
            let Some(handle) = device.usb() else {
                let message = format!("{} is no USB device; only those are reset", device.device);
                return Err(ControlError::usage(message));
            };
            let place = sysfs(&self.vhci, handle.port()).and_then(|sysfs| usbfs_node(&sysfs));
            let Some((bus, address)) = place else {
                let message = format!("{} is not set up on this machine", device.device);
                return Err(ControlError::failed(message).mend("myclerk status"));
            };
            let _notice = handle.announce_reset();
            reset(device, bus, address).await?;
        }
        Ok(devices
            .iter()
            .map(|device| device.info(&self.vhci))
            .collect())
    }
}

async fn reset(attached: &Attached, bus: u8, address: u8) -> Result<(), ControlError> {
    let work = move || -> io::Result<()> {
        let device = Device::open(Path::new(DEV), bus, address)?;
        Ok(device.reset()?)
    };
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
        .and_then(|result| result);
    done.map_err(|error| {
        let device = &attached.device;
        let gone = error.raw_os_error() == Some(Errno::ENODEV as i32);
        if gone {
            let message = format!("{device} did not come back as it was");
            return ControlError::failed(message)
                .because("this machine's kernel sets it up anew, if it still answers")
                .mend("myclerk status");
        }
        ControlError::failed(format!("{device} cannot be reset"))
            .because(error.to_string())
            .mend("myclerk doctor")
    })
}

/// The numbers of a device's node, `/dev/bus/usb/BUS/ADDRESS`.
fn usbfs_node(sysfs: &Path) -> Option<(u8, u8)> {
    let number = |file: &str| {
        let text = fs::read_to_string(sysfs.join(file)).ok()?;
        text.trim().parse().ok()
    };
    Some((number("busnum")?, number("devnum")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_of_a_device_is_read_from_sysfs() {
        let sysfs = tempfile::tempdir().unwrap();
        assert_eq!(usbfs_node(sysfs.path()), None);
        fs::write(sysfs.path().join("busnum"), "3\n").unwrap();
        assert_eq!(usbfs_node(sysfs.path()), None);
        fs::write(sysfs.path().join("devnum"), "12\n").unwrap();
        assert_eq!(usbfs_node(sysfs.path()), Some((3, 12)));
    }
}
