//! From a wish to a character device.

use std::io;
use std::path::Path;

use crate::bus::names::{NAMES, NameFile};
use crate::bus::{AttachError, Wish};
use crate::kernel::cuse::{CHANNEL, Config, Cuse, MAX_TRANSFER};

/// A device, under the name that it got.
pub struct Made {
    /// The device.
    pub device: Cuse,
    /// Its name below `/dev`.
    pub name: String,
    /// What tells udev about it; to be dropped with the device.
    pub file: Option<NameFile>,
}

/// Whether this machine can make character devices.
///
/// # Errors
/// Why not, with the command that mends it.
pub fn check() -> Result<(), AttachError> {
    match Path::new(CHANNEL).metadata() {
        Ok(_) => Ok(()),
        Err(cause) => Err(no_cuse(cause)),
    }
}

/// Makes a device under the name that is wished for, or else the first free one of these.
///
/// # Errors
/// The name is taken, or all of them are; this machine makes none.
pub fn make(wish: &Wish, names: impl IntoIterator<Item = String>) -> Result<Made, AttachError> {
    if let Some(name) = &wish.name {
        return make_named(wish, name).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => {
                AttachError::Wish(format!("there is a /dev/{name} already"))
            }
            _ => no_device(name, cause),
        });
    }
    let mut tried = None;
    for name in names {
        match make_named(wish, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                tried.get_or_insert(name);
            }
            Err(cause) => return Err(no_device(&name, cause)),
            Ok(made) => return Ok(made),
        }
    }
    let first = tried.unwrap_or_default();
    Err(AttachError::Wish(format!(
        "all names from {first} on are taken"
    )))
}

fn make_named(wish: &Wish, name: &str) -> io::Result<Made> {
    // Another device's file must stay as it is.
    if Path::new("/dev").join(name).symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // udev looks for it as soon as there is a device.
    let file = NameFile::write(Path::new(NAMES), name, &wish.label())?;
    let config = Config {
        name: name.to_owned(),
        max_read: MAX_TRANSFER,
        max_write: MAX_TRANSFER,
    };
    Ok(Made {
        device: Cuse::create(&config)?,
        name: name.to_owned(),
        file,
    })
}

fn no_device(name: &str, cause: io::Error) -> AttachError {
    if cause.kind() == io::ErrorKind::NotFound {
        return no_cuse(cause);
    }
    AttachError::Here {
        what: format!("cannot make /dev/{name}"),
        cause,
        mend: None,
    }
}

fn no_cuse(cause: io::Error) -> AttachError {
    AttachError::Here {
        what: format!("no character devices can be made: {CHANNEL}"),
        cause,
        mend: Some("modprobe cuse".to_owned()),
    }
}
