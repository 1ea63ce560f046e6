//! Giving back what a daemon had that was killed: usbfs released it, but to no driver.

use std::io;

use nix::errno::Errno;

use crate::bus::usb::descriptor::{Configuration, Descriptors};
use crate::bus::usb::enumerate::Location;
use crate::bus::usb::hardware::{UsbHost, UsbPort};

/// What the kernel calls the programs' claims.
const USBFS: &str = "usbfs";

/// Lets the kernel find drivers for a device's interfaces again. For the start of the daemon.
///
/// # Errors
/// The device cannot be opened or read.
pub async fn reconnect(host: &dyn UsbHost, location: &Location) -> io::Result<()> {
    let port = host.open(location).await?.port();
    tokio::task::spawn_blocking(move || connect(&*port, &interfaces(&*port)?))
        .await
        .map_err(io::Error::other)?
}

/// Gives a device back as [`serve`](super::serve) would have done: its configuration as it was, the
/// device reset so that nothing of the peer's stays in it (profile 17.5), its interfaces with their
/// drivers. What a driver has already is left alone. May wait.
///
/// # Errors
/// `EBUSY` while a program has an interface, and others when the device is gone or does not obey.
pub fn mend(port: &dyn UsbPort, configuration: u8) -> io::Result<()> {
    let mut bare = Vec::new();
    let all = interfaces(port)?;
    for interface in &all {
        match port.driver(*interface)?.as_deref() {
            Some(USBFS) => return Err(Errno::EBUSY.into()),
            Some(_) => {}
            None => bare.push(*interface),
        }
    }
    if bare.len() < all.len() {
        // It was killed between two interfaces, and nobody has used the device.
        return connect(port, &bare);
    }
    if port.active_configuration()? != configuration {
        port.set_configuration(configuration)?;
    }
    port.reset()?;
    connect(port, &interfaces(port)?)
}

/// Those of the active configuration.
fn interfaces(port: &dyn UsbPort) -> io::Result<Vec<u8>> {
    let configuration = port.active_configuration()?;
    let device = Descriptors::parse(&port.descriptors()?).map_err(io::Error::other)?;
    let active = device.configuration(configuration);
    Ok(active.map(Configuration::interfaces).unwrap_or_default())
}

fn connect(port: &dyn UsbPort, interfaces: &[u8]) -> io::Result<()> {
    for interface in interfaces {
        match port.connect(*interface) {
            // EBUSY: it has a driver, or another program has it.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
