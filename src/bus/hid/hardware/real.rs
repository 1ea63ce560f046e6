//! Real devices, through evdev, and those that we make, through uinput.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{InputDevice, InputHost, InputPort, Made, Maker, Making, Opening};
use crate::bus::{Roots, programs};
use crate::kernel::evdev::{Description, Effect, Evdev, Event, Snapshot, Watch};
use crate::kernel::uinput::{Uinput, Wish};

/// The node of uinput.
pub const UINPUT: &str = "/dev/uinput";
/// The folder of the nodes of evdev.
pub const NODES: &str = "/dev/input";

/// How long evdev may take to be loaded.
const EVDEV: Duration = Duration::from_secs(10);
/// How often is looked whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// The input devices of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct EvdevHost;

impl InputHost for EvdevHost {
    fn open<'a>(&'a self, place: &str) -> Opening<'a> {
        let node = Path::new(NODES).join(place);
        Box::pin(async move {
            let opened = node.clone();
            // Opening may wake the hardware.
            let device = spawn(move || Evdev::open(&opened)).await??;
            let device = EvdevDevice {
                node,
                watch: Arc::new(device).watch()?,
            };
            let device: Box<dyn InputDevice> = Box::new(device);
            Ok(device)
        })
    }
}

struct EvdevDevice {
    node: PathBuf,
    watch: Watch<Arc<Evdev>>,
}

impl InputDevice for EvdevDevice {
    fn poll_events(
        &self,
        context: &mut Context<'_>,
        events: &mut Vec<Event>,
    ) -> Poll<Result<(), Errno>> {
        self.watch.poll(context, |device| device.read(events))
    }

    fn port(&self) -> Arc<dyn InputPort> {
        Arc::new(EvdevPort {
            node: self.node.clone(),
            device: self.watch.device().clone(),
        })
    }
}

struct EvdevPort {
    node: PathBuf,
    device: Arc<Evdev>,
}

impl InputPort for EvdevPort {
    fn description(&self) -> Result<Description, Errno> {
        self.device.description()
    }

    fn snapshot(&self, of: &Description) -> Result<Snapshot, Errno> {
        self.device.snapshot(of)
    }

    fn grab(&self, on: bool) -> Result<(), Errno> {
        self.device.grab(on)
    }

    fn programs(&self) -> Vec<String> {
        let roots = Roots::default();
        let is_this = |node: &Path| roots.dev.join(node) == self.node;
        let mut found: Vec<String> = programs::with_open(&roots, is_this)
            .into_iter()
            .map(|(_, program)| program)
            .collect();
        // Who opened it twice is named once.
        found.dedup();
        found
    }

    fn write(&self, events: &[Event]) -> Result<(), Errno> {
        self.device.write(events)
    }

    fn upload(&self, effect: Effect) -> Result<i16, Errno> {
        self.device.upload(effect)
    }

    fn erase(&self, id: i16) -> Result<(), Errno> {
        self.device.erase(id)
    }
}

/// Makes devices through uinput.
#[derive(Clone, Debug)]
pub struct UinputMaker {
    node: PathBuf,
}

impl Default for UinputMaker {
    fn default() -> Self {
        Self {
            node: UINPUT.into(),
        }
    }
}

impl Maker for UinputMaker {
    fn make(&self, of: Description, phys: String) -> Making<'_> {
        let node = self.node.clone();
        Box::pin(async move {
            let made = spawn(move || {
                let device = Uinput::create(&node, &of, &phys)?;
                let event = event_of(&device)?;
                io::Result::Ok((device, event))
            });
            let (device, event) = made.await??;
            let made: Box<dyn Made> = Box::new(UinputDevice {
                node: format!("{NODES}/{event}"),
                watch: device.watch()?,
            });
            Ok(made)
        })
    }
}

/// The name of its event node. Where evdev is a module, the first device of a machine lets udev load
/// it.
fn event_of(device: &Uinput) -> io::Result<String> {
    let end = Instant::now() + EVDEV;
    loop {
        match device.event_name() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        if Instant::now() > end {
            return Err(io::Error::other("evdev does not take it: modprobe evdev"));
        }
        std::thread::sleep(LOOK);
    }
}

struct UinputDevice {
    node: String,
    watch: Watch<Uinput>,
}

impl Made for UinputDevice {
    fn node(&self) -> String {
        self.node.clone()
    }

    fn poll_wishes(
        &self,
        context: &mut Context<'_>,
        wishes: &mut Vec<Wish>,
    ) -> Poll<Result<(), Errno>> {
        self.watch.poll(context, |device| device.read(wishes))
    }

    fn write(&self, events: &[Event]) -> Result<(), Errno> {
        self.watch.device().write(events)
    }

    fn uploaded(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno> {
        self.watch.device().uploaded(request, result)
    }

    fn erased(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno> {
        self.watch.device().erased(request, result)
    }

    fn remove(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let device = self.watch.into_device();
            // The kernel waits for those who still look at it.
            let _ = spawn(move || drop(device)).await;
        })
    }
}

async fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
}
