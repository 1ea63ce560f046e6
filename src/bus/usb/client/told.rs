//! What udev is told of a device on a port of vhci-hcd, wherever it moves.

use std::path::Path;
use std::rc::Rc;

use tokio::task::JoinHandle;

use super::Handle;
use crate::bus::names::{Label, NameFile, PORTS};
use crate::kernel::vhci::Vhci;

/// Udev knows of a device until this is dropped.
#[derive(Debug)]
pub struct Told(JoinHandle<()>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells udev whose device is on the port of `handle`, and whose its device files are to be. To be
/// called before anything else is awaited: the kernel asks the device for its descriptors by this
/// thread, so that udev cannot hear of it before.
pub fn tell_udev(vhci: &Rc<Vhci>, handle: Handle, label: Label) -> Told {
    let vhci = Rc::clone(vhci);
    let mut file = write(&vhci, &handle, &label);
    Told(tokio::task::spawn_local(async move {
        loop {
            handle.0.moved.notified().await;
            drop(file.take());
            file = write(&vhci, &handle, &label);
        }
    }))
}

fn write(vhci: &Vhci, handle: &Handle, label: &Label) -> Option<NameFile> {
    let name = vhci.bus_id(handle.port())?;
    NameFile::try_write(Path::new(PORTS), &name, label)
}
