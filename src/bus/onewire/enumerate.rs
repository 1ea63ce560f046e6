//! The 1-Wire buses of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::bus::{Hazard, Present};
use crate::wire::msgpack::Value;

/// Where the kernel shows its buses and what is on them.
pub const ROOT: &str = "/sys/bus/w1/devices";

/// What a bus that stands for a remote one is known by: the kernel does not tell which hardware a bus
/// belongs to, and this is the only number of it that can be set and that no search changes. It is the
/// most devices that one search finds.
pub const OWN_MARK: u32 = 251;

/// The buses of this machine; may wait.
///
/// # Errors
/// sysfs cannot be read.
pub fn look() -> io::Result<Vec<Present>> {
    buses(Path::new(ROOT))
}

/// The N of `w1_bus_masterN`.
pub fn number(place: &str) -> Option<u32> {
    let digits = place.strip_prefix("w1_bus_master")?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// What the kernel calls its buses, in the order of their numbers. A kernel without 1-Wire has none.
///
/// # Errors
/// The directory cannot be read.
pub fn places(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let Ok(place) = entry?.file_name().into_string() else {
            continue;
        };
        if let Some(number) = number(&place) {
            found.push((number, place));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, place)| place).collect())
}

fn buses(root: &Path) -> io::Result<Vec<Present>> {
    let places = places(root)?;
    Ok(places
        .into_iter()
        .filter_map(|place| bus(root, place))
        .collect())
}

/// One that vanished is as if it had never been.
fn bus(root: &Path, place: String) -> Option<Present> {
    let directory = root.join(&place);
    let most = read(&directory, "w1_master_max_slave_count")?;
    let mut props = BTreeMap::from([("bus".to_owned(), Value::Str(place.clone()))]);
    if let Some(count) = read(&directory, "w1_master_slave_count") {
        props.insert("devices".to_owned(), Value::Uint(count.into()));
    }
    let hazard = (most == OWN_MARK).then(|| Hazard {
        reason: "it stands for the bus of another machine".to_owned(),
        forcible: false,
    });
    Some(Present {
        id: format!("onewire:{place}"),
        name: place.clone(),
        place,
        hazard,
        props,
    })
}

fn read(directory: &Path, file: &str) -> Option<u32> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(root: &Path, name: &str, most: u32) {
        let directory = root.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(
            directory.join("w1_master_max_slave_count"),
            format!("{most}\n"),
        )
        .unwrap();
        fs::write(directory.join("w1_master_slave_count"), "3\n").unwrap();
    }

    #[test]
    fn buses_are_found_in_order_and_devices_are_none() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["w1_bus_master10", "w1_bus_master2", "w1_bus_master02"] {
            master(dir.path(), name, 64);
        }
        fs::create_dir(dir.path().join("28-0000055c4e1f")).unwrap();
        fs::create_dir(dir.path().join("w1_bus_master3")).unwrap();
        let found = buses(dir.path()).unwrap();
        let ids: Vec<_> = found.iter().map(|bus| &*bus.id).collect();
        assert_eq!(ids, ["onewire:w1_bus_master2", "onewire:w1_bus_master10"]);
        assert_eq!(found[0].props.get("devices"), Some(&Value::Uint(3)));
        assert!(found.iter().all(|bus| bus.hazard.is_none()));
    }

    #[test]
    fn a_bus_that_stands_for_a_remote_one_is_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        master(dir.path(), "w1_bus_master1", OWN_MARK);
        let found = buses(dir.path()).unwrap();
        assert!(found.iter().all(|bus| {
            let hazard = bus.hazard.as_ref();
            hazard.is_some_and(|hazard| !hazard.forcible)
        }));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_kernel_without_1_wire_has_no_bus() {
        let dir = tempfile::tempdir().unwrap();
        assert!(buses(&dir.path().join("w1")).unwrap().is_empty());
    }
}
