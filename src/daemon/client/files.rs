//! Which device files the kernel made for a device: read from sysfs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The most directories that are looked at below one device.
const MAX_DIRECTORIES: usize = 4096;

/// The device files of everything below a device's directory, `/dev/sdb`, `/dev/ttyUSB0`; without
/// its own usbfs node.
pub(super) fn below(device: &Path) -> Vec<String> {
    let mut files = BTreeSet::new();
    let mut waiting = vec![device.to_owned()];
    for _ in 0..MAX_DIRECTORIES {
        let Some(directory) = waiting.pop() else {
            break;
        };
        if let Some(name) = device_name(&directory) {
            files.insert(format!("/dev/{name}"));
        }
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        let children = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(children.map(|entry| entry.path()));
    }
    files.into_iter().collect()
}

fn device_name(directory: &Path) -> Option<String> {
    let uevent = fs::read_to_string(directory.join("uevent")).ok()?;
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))?;
    (!name.starts_with("bus/usb/")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_and_tty_nodes_are_found_and_the_usbfs_node_is_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, uevent: &str| {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("uevent"), uevent).unwrap();
        };
        put("", "MAJOR=189\nDEVNAME=bus/usb/003/002\n");
        put(
            "3-1:1.0/host2/target2:0:0/2:0:0:0/block/sdb",
            "DEVNAME=sdb\nDEVTYPE=disk\n",
        );
        put(
            "3-1:1.0/host2/target2:0:0/2:0:0:0/block/sdb/sdb1",
            "DEVNAME=sdb1\n",
        );
        put("3-1:1.1/ttyUSB0/tty/ttyUSB0", "DEVNAME=ttyUSB0\n");
        put("3-1:1.1/power", "");
        assert_eq!(
            below(root.path()),
            ["/dev/sdb", "/dev/sdb1", "/dev/ttyUSB0"]
        );
    }

    #[test]
    fn a_device_that_is_gone_has_no_files() {
        assert_eq!(
            below(Path::new("/nonexistent/device")),
            Vec::<String>::new()
        );
    }
}
