//! A remote bus as a character device that behaves as the kernel's i2c-dev does, by CUSE.
//!
//! [`call`] is what programs call: numbers, structures, their memory; none of it does any I/O. [`node`]
//! joins it with the device and the owner. One call of a program is one question to the owner.

pub mod call;
mod layout;
pub mod node;

use std::rc::Rc;

use super::usb::bus_of;
use crate::bus::chardev::make::{self, Made};
use crate::bus::remote::Remote;
use crate::bus::{AttachError, Ended, Local, Opener, Wish};

use self::node::Node;

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
    make::check()?;
    let bus = bus_of(opener.as_ref(), &wish.device).await?;
    let numbers = FIRST..FIRST + NUMBERS;
    let Made { device, name, file } =
        make::make(&wish, numbers.map(|number| format!("{PREFIX}{number}")))?;
    let remote = Remote::new(opener, &wish);
    let path = format!("/dev/{name}");
    let (node, steering) = Node::new(Rc::new(device), remote, bus, path);
    tracing::info!(node = name, "I2C bus attached");
    let task = tokio::task::spawn_local(async move {
        let ended = node.serve().await;
        drop(file);
        tracing::info!(node = name, %ended, "I2C bus detached");
        ended
    });
    Ok(Local {
        handle: Rc::new(steering),
        ended: Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Ended::Failed(error.to_string()))
        }),
    })
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
