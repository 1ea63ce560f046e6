//! A remote bus as an adapter of the kernel's own: an emulated i2c-tiny-usb, at which drivers of chips
//! work as at any other.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use crate::bus::adapter::i2c_tiny_usb::{I2cTinyUsb, Master, Transacting};
use crate::bus::adapter::local::{self, Driver};
use crate::bus::i2c::enumerate::number;
use crate::bus::i2c::op::{BusEntry, BusList, Message, Transfer, encode_empty};
use crate::bus::remote::Remote;
use crate::bus::{AskError, AttachError, Here, Local, Opener, Wish};
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long a transaction may take: a little less than the driver waits (2 s).
const PATIENCE: Duration = Duration::from_millis(1900);

/// How long the owner has to list its buses.
const LISTING: Duration = Duration::from_secs(10);

/// There where the module i2c-dev is.
const NODES: &str = "/sys/class/i2c-dev";

const DRIVER: Driver = Driver {
    module: "i2c-tiny-usb",
    makes: is_bus,
    files: |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let node = Path::new("/dev").join(&*name);
        // Without the module i2c-dev the bus has no device file, and drivers of chips need none.
        let node = node.exists().then(|| node.display().to_string());
        vec![node.unwrap_or_else(|| name.into_owned())]
    },
};

fn is_bus(name: &str) -> bool {
    // The node comes a moment after the bus, where there is a module that makes one.
    let has_node = || !Path::new(NODES).exists() || Path::new("/dev").join(name).exists();
    number(name).is_some() && has_node()
}

/// Makes a bus local.
///
/// # Errors
/// The owner has no such bus, or this machine has no port or driver for the adapter.
pub(super) async fn attach(
    opener: Rc<dyn Opener>,
    wish: Wish,
    here: &Here,
) -> Result<Local, AttachError> {
    let bus = bus_of(opener.as_ref(), &wish.device).await?;
    let remote = Remote::new(opener, &wish);
    let owner = Rc::new(Owner {
        remote: Rc::clone(&remote),
        bus,
    });
    let adapter = I2cTinyUsb::new(local::strings(&wish), owner);
    local::plug_in(here, &wish, remote, DRIVER, adapter).await
}

/// What the owner says of a bus.
///
/// # Errors
/// It names no such bus, or does not answer.
pub(super) async fn bus_of(opener: &dyn Opener, device: &str) -> Result<BusEntry, AttachError> {
    let answer = opener
        .call(Opcode::I2cBusList, encode_empty(), LISTING)
        .await?;
    let list = BusList::decode(&answer).map_err(|error| AttachError::Answer(error.to_string()))?;
    let found = list.buses.into_iter().find(|bus| bus.dev == device);
    found.ok_or_else(|| {
        AttachError::Ask(AskError::Refused {
            status: Status::NotFound,
            error: ErrorMap::new(sub::DEVICE),
        })
    })
}

/// The bus, through the session with its owner.
struct Owner {
    remote: Rc<Remote>,
    bus: BusEntry,
}

impl Master for Owner {
    fn functionality(&self) -> u32 {
        self.bus.funcs
    }

    fn transfer(self: Rc<Self>, messages: Vec<Message>) -> Transacting {
        Box::pin(async move {
            let request = Transfer {
                dev: self.remote.device().to_owned(),
                messages,
            };
            let asked = self
                .remote
                .call(Opcode::I2cTransfer, request.encode(), PATIENCE);
            request.decode_reply(&asked.await?).map_err(|error| {
                tracing::warn!(%error, "the owner of an I2C bus answered without sense");
                Errno::EPROTO
            })
        })
    }
}
