//! Real devices, through usbfs.

use core::task::{Context, Poll};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::{Opening, UsbDevice, UsbHost, UsbPort};
use crate::bus::usb::enumerate::Location;
use crate::kernel::usbfs::{Completion, Device, Events, SETUP_LEN, Transfer};

/// The USB devices of this machine.
#[derive(Clone, Debug)]
pub struct UsbfsHost {
    dev: PathBuf,
}

impl UsbfsHost {
    /// Devices below that directory, normally `/dev`.
    pub fn new(dev: impl Into<PathBuf>) -> Self {
        Self { dev: dev.into() }
    }
}

impl Default for UsbfsHost {
    fn default() -> Self {
        Self::new("/dev")
    }
}

impl UsbHost for UsbfsHost {
    fn open<'a>(&'a self, location: &Location) -> Opening<'a> {
        let location = location.clone();
        Box::pin(async move {
            let dev = self.dev.clone();
            let (bus, address) = (location.bus, location.address);
            // Opening wakes a suspended device, which takes its time.
            let device = tokio::task::spawn_blocking(move || Device::open(&dev, bus, address))
                .await
                .map_err(io::Error::other)??;
            let events = Events::new(device.clone())?;
            let port = Arc::new(UsbfsPort {
                device,
                sysfs: location.sysfs,
            });
            let device: Box<dyn UsbDevice> = Box::new(UsbfsDevice { events, port });
            Ok(device)
        })
    }
}

/// Opens only the face of a device that may wait, below `dev`; needs no runtime. May wait.
///
/// # Errors
/// As [`UsbHost::open`].
pub fn open_port(dev: &Path, location: &Location) -> io::Result<Arc<dyn UsbPort>> {
    let device = Device::open(dev, location.bus, location.address)?;
    let sysfs = location.sysfs.clone();
    Ok(Arc::new(UsbfsPort { device, sysfs }))
}

struct UsbfsDevice {
    events: Events,
    port: Arc<UsbfsPort>,
}

impl UsbDevice for UsbfsDevice {
    fn submit(&self, transfer: Transfer) -> Result<(), Errno> {
        self.port.device.submit(transfer)
    }

    fn reap(&self) -> Result<Option<Completion>, Errno> {
        self.port.device.reap()
    }

    fn claim(&self, interface: u8) -> Result<(), Errno> {
        self.port.device.claim(interface)
    }

    fn poll_completed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.events.poll_completed(context)
    }

    fn port(&self) -> Arc<dyn UsbPort> {
        Arc::clone(&self.port) as Arc<dyn UsbPort>
    }
}

struct UsbfsPort {
    device: Device,
    sysfs: PathBuf,
}

impl UsbPort for UsbfsPort {
    fn descriptors(&self) -> io::Result<Vec<u8>> {
        self.device.descriptors()
    }

    fn active_configuration(&self) -> Result<u8, Errno> {
        // Empty while the device has no configuration.
        let text = fs::read_to_string(self.sysfs.join("bConfigurationValue"))
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        Ok(text.trim().parse().unwrap_or(0))
    }

    fn speed(&self) -> Result<u8, Errno> {
        self.device.speed()
    }

    fn control(
        &self,
        setup: [u8; SETUP_LEN],
        data: &mut [u8],
        timeout_ms: u32,
    ) -> Result<usize, Errno> {
        self.device.control(setup, data, timeout_ms)
    }

    fn discard(&self, key: u64) -> Result<(), Errno> {
        self.device.discard(key)
    }

    fn claim(&self, interface: u8) -> Result<(), Errno> {
        self.device.claim(interface)
    }

    fn disconnect_claim(&self, interface: u8) -> Result<(), Errno> {
        self.device.disconnect_claim(interface)
    }

    fn release(&self, interface: u8) -> Result<(), Errno> {
        self.device.release(interface)
    }

    fn driver(&self, interface: u8) -> Result<Option<String>, Errno> {
        self.device.driver(interface)
    }

    fn connect(&self, interface: u8) -> Result<(), Errno> {
        self.device.connect(interface)
    }

    fn set_configuration(&self, value: u8) -> Result<(), Errno> {
        self.device.set_configuration(value)
    }

    fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), Errno> {
        self.device.set_interface(interface, alternate)
    }

    fn clear_halt(&self, endpoint: u8) -> Result<(), Errno> {
        self.device.clear_halt(endpoint)
    }

    fn reset(&self) -> Result<(), Errno> {
        self.device.reset()
    }
}
