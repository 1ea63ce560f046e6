//! A remote bus as a character device that behaves as the kernel's i2c-dev does, by CUSE.
//!
//! [`call`] is what programs call: numbers, structures, their memory; none of it does any I/O. [`node`]
//! joins it with the device and the owner. One call of a program is one question to the owner.

pub mod call;
mod layout;
pub mod node;

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::usb::bus_of;
use crate::bus::remote::Remote;
use crate::bus::{AttachError, Ended, Local, Opener, Wish};
use crate::kernel::cuse::{CHANNEL, Config, Cuse, MAX_TRANSFER};

use self::node::{Node, Steering};

/// How the names of such devices begin.
const PREFIX: &str = "i2c-";
/// The first number of a device. The kernel gives its adapters the lowest free ones.
const FIRST: u32 = 1000;
/// How many numbers are tried.
const NUMBERS: u32 = 256;
/// The highest number that the kernel has room for (`I2C_MINORS`), and that tools take.
const HIGHEST: u32 = 0xF_FFFF;

/// Makes a bus local.
pub(super) async fn attach(opener: Rc<dyn Opener>, wish: Wish) -> Result<Local, AttachError> {
    if let Some(complaint) = wish.name.as_deref().and_then(complaint) {
        return Err(AttachError::Wish(complaint));
    }
    if let Err(cause) = Path::new(CHANNEL).metadata() {
        return Err(no_cuse(cause));
    }
    let bus = bus_of(opener.as_ref(), &wish.device).await?;
    let (device, name) = make(&wish)?;
    let remote = Remote::new(opener, &wish);
    let (node, steering) = Node::new(Rc::new(device), remote, bus, format!("/dev/{name}"));
    Ok(start(node, steering))
}

fn start(node: Node, steering: Steering) -> Local {
    tracing::info!(node = steering.file(), "I2C bus attached");
    let file = steering.file().to_owned();
    let task = tokio::task::spawn_local(async move {
        let ended = node.serve().await;
        tracing::info!(node = file, %ended, "I2C bus detached");
        ended
    });
    Local {
        handle: Rc::new(steering),
        ended: Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Ended::Failed(error.to_string()))
        }),
    }
}

/// Why a name will not do; `None` when it will. Tools build it of a number.
fn complaint(name: &str) -> Option<String> {
    let number = name.strip_prefix(PREFIX);
    let number = number.and_then(|digits| Some((digits, digits.parse::<u32>().ok()?)));
    if number.is_some_and(|(digits, number)| number <= HIGHEST && number.to_string() == digits) {
        return None;
    }
    Some(format!(
        "{name:?} cannot be the name of an I2C bus: i2c- and a number of at most {HIGHEST}"
    ))
}

/// Makes the device under the name that is wished for, or the first free one.
fn make(wish: &Wish) -> Result<(Cuse, String), AttachError> {
    let names: Vec<_> = match &wish.name {
        Some(name) => vec![name.clone()],
        None => (FIRST..FIRST + NUMBERS)
            .map(|number| format!("{PREFIX}{number}"))
            .collect(),
    };
    for name in &names {
        let config = Config {
            name: name.clone(),
            // So a call comes whole; what it may be long is decided here.
            max_read: MAX_TRANSFER,
            max_write: MAX_TRANSFER,
        };
        match Cuse::create(&config) {
            Ok(device) => return Ok((device, name.clone())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(no_cuse(cause)),
            Err(cause) => {
                return Err(AttachError::Here {
                    what: format!("cannot make /dev/{name}"),
                    cause,
                    mend: None,
                });
            }
        }
    }
    Err(AttachError::Wish(match &wish.name {
        Some(name) => format!("there is a /dev/{name} already"),
        None => format!("all names from {PREFIX}{FIRST} on are taken"),
    }))
}

fn no_cuse(cause: io::Error) -> AttachError {
    AttachError::Here {
        what: format!("no character devices can be made: {CHANNEL}"),
        cause,
        mend: Some("modprobe cuse".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_name_is_one_that_tools_know() {
        for good in ["i2c-0", "i2c-7", "i2c-1048575"] {
            assert_eq!(complaint(good), None, "{good}");
        }
        for bad in [
            "i2c-",
            "i2c-1048576",
            "i2c-07",
            "i2c-x",
            "../i2c-1",
            "bus",
            "",
        ] {
            assert!(complaint(bad).is_some(), "{bad}");
        }
    }
}
