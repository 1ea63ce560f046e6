//! A played device that stands for a device of another machine.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::attach::{attach, made};
use super::{Adapter, MANUFACTURER};
use crate::bus::remote::Remote;
use crate::bus::usb::client::{self, Attachment};
use crate::bus::{AttachError, Ended, Handle, Here, Local, Wish};
use crate::kernel::vhci::{PortId, Vhci, VhciError};

/// How long the kernel has to find the device and its driver.
const BINDING: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const PERIOD: Duration = Duration::from_millis(20);

/// The driver that the device is for.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// Its module.
    pub module: &'static str,
    /// Whether a directory below the device is what the driver made of it, by its name.
    pub makes: fn(&str) -> bool,
    /// What that is for a person, by its directory: a device file, a name.
    pub files: fn(&Path) -> Vec<String>,
}

/// Finds what a driver made of a device, by the port of the device.
pub type Find = Box<dyn Fn(&Vhci, PortId) -> Option<PathBuf>>;

/// What a driver makes of a device that is not found below the device itself.
pub struct Made {
    /// The driver's module.
    pub module: &'static str,
    /// Where that is.
    pub find: Find,
    /// As [`Driver::files`].
    pub files: fn(&Path) -> Vec<String>,
}

impl From<Driver> for Made {
    fn from(driver: Driver) -> Self {
        Self {
            module: driver.module,
            find: Box::new(move |vhci, port| made(vhci, port, driver.makes)),
            files: driver.files,
        }
    }
}

/// The names by which the device says whom it stands for: maker, owner's name for it, owner and id.
pub fn strings(wish: &Wish) -> [String; 3] {
    let title = if wish.title.is_empty() {
        &wish.device
    } else {
        &wish.title
    };
    let serial = format!("{}/{}", wish.node, wish.device);
    [MANUFACTURER.to_owned(), title.clone(), serial]
}

/// Plugs in what stands for a remote device and waits for its driver. It stays as long as the remote
/// device does.
///
/// # Errors
/// There is no port, or no driver; nothing is plugged in then.
pub async fn plug_in(
    here: &Here,
    wish: &Wish,
    remote: Rc<Remote>,
    driver: impl Into<Made>,
    adapter: Rc<dyn Adapter>,
) -> Result<Local, AttachError> {
    let driver = driver.into();
    let pin = format!("{}/{}", wish.node, wish.device);
    let attachment = attach(&here.vhci, &pin, adapter).map_err(no_port)?;
    let told = client::tell_udev(&here.vhci, attachment.handle(), wish.label());
    let plugged = Rc::new(Plugged {
        vhci: Rc::clone(&here.vhci),
        handle: attachment.handle(),
        remote: Rc::clone(&remote),
        driver,
    });
    if !plugged.is_bound_in_time().await {
        plugged.handle.detach();
        attachment.ended().await;
        return Err(AttachError::Here {
            what: format!(
                "the kernel's driver {} did not take the adapter",
                plugged.driver.module
            ),
            cause: io::ErrorKind::TimedOut.into(),
            mend: Some(format!("modprobe {}", plugged.driver.module)),
        });
    }
    tracing::info!(port = %plugged.handle.port(), files = ?plugged.files(), "adapter plugged in");
    let ended = Box::pin(async move {
        let ended = watch(remote, attachment).await;
        drop(told);
        ended
    });
    Ok(Local {
        handle: plugged,
        ended,
    })
}

async fn watch(remote: Rc<Remote>, attachment: Attachment) -> Ended {
    let handle = attachment.handle();
    let mut unplugged = Box::pin(attachment.ended());
    tokio::select! {
        ended = remote.watch() => {
            handle.detach();
            unplugged.await;
            ended
        }
        ended = &mut unplugged => {
            // Whoever asks from now on finds no device.
            remote.give_up();
            Ended::Failed(ended.to_string())
        }
    }
}

/// Steers it.
struct Plugged {
    vhci: Rc<Vhci>,
    handle: client::Handle,
    remote: Rc<Remote>,
    driver: Made,
}

impl Plugged {
    async fn is_bound_in_time(&self) -> bool {
        let until = Instant::now() + BINDING;
        while self.made().is_none() {
            if Instant::now() >= until {
                return false;
            }
            sleep(PERIOD).await;
        }
        true
    }

    fn made(&self) -> Option<PathBuf> {
        (self.driver.find)(&self.vhci, self.handle.port())
    }
}

impl Handle for Plugged {
    fn files(&self) -> Vec<String> {
        let made = self.made();
        made.map(|path| (self.driver.files)(&path))
            .unwrap_or_default()
    }

    fn detach(&self) {
        self.remote.give_up();
    }

    fn is_live(&self) -> bool {
        self.remote.is_live()
    }
}

fn no_port(error: client::AttachError) -> AttachError {
    let mend = match &error {
        client::AttachError::Vhci(VhciError::NotLoaded { .. }) => {
            Some("modprobe vhci-hcd".to_owned())
        }
        _ => None,
    };
    AttachError::Here {
        what: "cannot plug in an emulated adapter".to_owned(),
        cause: io::Error::other(error),
        mend,
    }
}
