//! The I2C buses of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use super::hardware::I2cHost;
use super::hardware::dev::DevHost;
use super::op::{MAX_DEVICE_ID, MAX_NAME};
use crate::bus::adapter::MANUFACTURER;
use crate::bus::{Hazard, Present, Roots};
use crate::wire::msgpack::Value;

/// Longest name of an adapter that is part of an id.
const MAX_NAMED: usize = MAX_DEVICE_ID - "i2c:".len();

/// A bus as a look at the hardware finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What the kernel calls it: `i2c-1`.
    pub(super) place: String,
    /// What its driver calls it.
    pub(super) name: String,
    /// `I2C_FUNC_*`.
    pub(super) funcs: u32,
    /// It stands for a bus of another machine.
    pub(super) own: bool,
}

/// The buses of this machine; may wait.
///
/// # Errors
/// sysfs cannot be read; `NotFound` where the module i2c-dev is not loaded.
pub fn look() -> io::Result<Vec<Present>> {
    let roots = Roots::default();
    let host = DevHost::new(&roots.dev);
    Ok(devices(buses(&roots.sys, &host)?))
}

/// Every bus that can be opened.
fn buses(sys: &Path, host: &dyn I2cHost) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sys.join("class/i2c-dev"))? {
        let entry = entry?;
        let Ok(place) = entry.file_name().into_string() else {
            continue;
        };
        if number(&place).is_none() {
            continue;
        }
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        let own = is_own(&entry.path());
        // What a remote bus can do is a question to its owner, which may be away.
        let funcs = if own {
            Some(0)
        } else {
            host.open(&place)
                .ok()
                .and_then(|bus| bus.functionality().ok())
        };
        // One that vanished, or that is none, is as if it had never been.
        let Some(funcs) = funcs else {
            continue;
        };
        found.push(Found {
            place,
            name: name.trim_end_matches('\n').to_owned(),
            funcs,
            own,
        });
    }
    found.sort_by_key(|bus| number(&bus.place));
    Ok(found)
}

/// The N of `i2c-N`.
pub(super) fn number(place: &str) -> Option<u32> {
    let digits = place.strip_prefix("i2c-")?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Whether one of the devices that a bus hangs on is an adapter that was made for a remote one.
fn is_own(bus: &Path) -> bool {
    let Ok(path) = fs::canonicalize(bus) else {
        return false;
    };
    path.ancestors().any(|device| {
        let manufacturer = fs::read_to_string(device.join("manufacturer"));
        manufacturer.is_ok_and(|name| name.trim() == MANUFACTURER)
    })
}

/// Buses as devices. A bus is known by its adapter's name if no other has that, since the kernel
/// numbers buses as it finds them.
pub(super) fn devices(found: Vec<Found>) -> Vec<Present> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for bus in &found {
        if !seen.insert(bus.name.clone()) {
            twice.insert(bus.name.clone());
        }
    }
    let device = |bus: Found| {
        let named = !twice.contains(&bus.name) && may_name(&bus.name);
        let id = if named { &bus.name } else { &bus.place };
        let hazard = bus.own.then(|| Hazard {
            reason: "it stands for the bus of another machine".to_owned(),
            forcible: false,
        });
        let name = clean(&bus.name);
        Present {
            id: format!("i2c:{id}"),
            name: if name.is_empty() {
                bus.place.clone()
            } else {
                name
            },
            hazard,
            props: BTreeMap::from([
                ("bus".to_owned(), Value::Str(bus.place.clone())),
                ("funcs".to_owned(), Value::Uint(bus.funcs.into())),
            ]),
            place: bus.place,
        }
    };
    found.into_iter().map(device).collect()
}

/// Whether an adapter's name may be part of an id (profile 19). One that looks like the kernel's own
/// name of a bus would take the id of another.
fn may_name(name: &str) -> bool {
    let graphic = name.chars().all(|c| c.is_ascii_graphic() && c != '*');
    graphic && !name.is_empty() && name.len() <= MAX_NAMED && number(name).is_none()
}

/// A name of the kernel as the wire carries it: at most [`MAX_NAME`] bytes without control characters.
fn clean(name: &str) -> String {
    let mut clean = String::new();
    for c in name.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if clean.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::errno::Errno;

    use super::*;
    use crate::bus::i2c::fake::FakeI2c;
    use crate::bus::i2c::hardware::I2cBus;
    use crate::kernel::i2c_dev::func;

    /// Opens whatever has the number of a bus, except `i2c-3`.
    struct Any;

    impl I2cHost for Any {
        fn open(&self, place: &str) -> io::Result<Box<dyn I2cBus>> {
            match place {
                "i2c-3" => Err(Errno::ENOENT.into()),
                _ => FakeI2c::default().open("i2c-0"),
            }
        }
    }

    fn bus(number: usize, name: &str) -> Found {
        Found {
            place: format!("i2c-{number}"),
            name: name.to_owned(),
            ..Found::default()
        }
    }

    #[test]
    fn a_bus_is_known_by_its_adapters_name_if_that_can_be() {
        let long = "l".repeat(61);
        let names = ["bcm2835", "twin", "twin", "", "a b", "i2c-0", "s*", &long];
        let found = names.iter().enumerate();
        let found = found.map(|(number, name)| bus(number, name)).collect();
        let ids: Vec<_> = devices(found).into_iter().map(|bus| bus.id).collect();
        let expected = [
            "i2c:bcm2835",
            "i2c:i2c-1",
            "i2c:i2c-2",
            "i2c:i2c-3",
            "i2c:i2c-4",
            "i2c:i2c-5",
            "i2c:i2c-6",
            "i2c:i2c-7",
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn names_are_cut_between_characters_and_have_no_control_characters() {
        assert_eq!(clean("SMBus\n1"), "SMBus?1");
        assert_eq!(clean(&format!("{}ä", "n".repeat(46))), "n".repeat(46));
        assert_eq!(clean(&"n".repeat(60)).len(), MAX_NAME);
    }

    #[test]
    fn buses_that_stand_for_remote_ones_are_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("class/i2c-dev");
        fs::create_dir_all(&class).unwrap();
        for (usb, manufacturer, place) in [
            ("1-1", "MyClerk\n", "i2c-10"),
            ("1-2", "Till Harbaum\n", "i2c-2"),
            ("1-3", "Gone\n", "i2c-3"),
            ("1-4", "Nobody\n", "i2c-04"),
        ] {
            let device = dir.path().join("devices").join(usb);
            let bus = device.join(format!("{usb}:1.0")).join(place);
            fs::create_dir_all(&bus).unwrap();
            fs::write(device.join("manufacturer"), manufacturer).unwrap();
            fs::write(bus.join("name"), format!("i2c-tiny-usb at {usb}\n")).unwrap();
            symlink(&bus, class.join(place)).unwrap();
        }
        let found = buses(dir.path(), &Any).unwrap();
        let told = found.iter().map(|bus| (&*bus.place, bus.own, bus.funcs));
        let funcs = func::I2C | func::SMBUS_EMUL;
        assert!(told.eq([("i2c-2", false, funcs), ("i2c-10", true, 0)]));
        let devices = devices(found);
        assert_eq!(devices[0].name, "i2c-tiny-usb at 1-2");
        assert_eq!(devices[0].hazard, None);
        assert!(
            devices[1]
                .hazard
                .as_ref()
                .is_some_and(|hazard| !hazard.forcible)
        );
    }

    #[test]
    fn without_i2c_dev_there_are_no_buses_to_look_at() {
        let dir = tempfile::tempdir().unwrap();
        let error = buses(dir.path(), &Any).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
