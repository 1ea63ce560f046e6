//! The half that makes a remote bus local: by an emulated adapter that the kernel's own driver takes
//! ([`usb`]), or as a character device by CUSE ([`cuse`]).

pub mod cuse;
mod usb;

use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::bus::{AttachError, Attaching, Here, Local, Opener, Presenter, Wish};
use crate::kernel::cuse::CHANNEL;
use crate::kernel::vhci::PLATFORM;

/// The way by CUSE; the other one is the default.
const CUSE: &str = "cuse";

/// I2C buses become adapters, or only their character devices.
pub const PRESENTER: Presenter = Presenter {
    class: "i2c",
    ways: &["usb", CUSE],
    named: false,
    options: &[],
    check,
    attach: |opener, wish, here| -> Attaching {
        let here = here.clone();
        Box::pin(async move { attach(opener, wish, &here).await })
    },
    operate: None,
};

/// One of the two ways is enough; the one that is wished for says itself what it lacks.
fn check() -> Result<(), AttachError> {
    let vhci = Path::new(PLATFORM).join("vhci_hcd.0");
    if vhci.exists() || Path::new(CHANNEL).exists() {
        return Ok(());
    }
    Err(AttachError::Here {
        what: "there are neither ports for emulated adapters nor CUSE".to_owned(),
        cause: io::ErrorKind::NotFound.into(),
        mend: Some("modprobe vhci-hcd".to_owned()),
    })
}

async fn attach(opener: Rc<dyn Opener>, wish: Wish, here: &Here) -> Result<Local, AttachError> {
    if wish.way.as_deref() == Some(CUSE) {
        return cuse::attach(opener, wish).await;
    }
    if wish.name.is_some() {
        return Err(AttachError::Wish(
            "the kernel names its adapters itself; a name can be chosen with --as cuse".to_owned(),
        ));
    }
    usb::attach(opener, wish, here).await
}
