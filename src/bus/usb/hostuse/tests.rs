use super::*;
use std::os::unix::fs::symlink;

const DISK: &str = "1-4:1.0/host6/target6:0:0/6:0:0:0/block/sdb";
const KEYS: &str = "120013 e080ffdf01cfffff fffffffffffffffe";

/// A path below the device.
fn at(below: &str) -> String {
    format!("sys/devices/pci0/usb1/1-4/{below}")
}

/// A machine made of files.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    /// One with a device at port 1-4 of class 0 with one vendor interface.
    fn new() -> Self {
        let machine = Self {
            root: tempfile::tempdir().unwrap(),
        };
        machine.write(&at("bDeviceClass"), "00\n");
        machine.write(&at("1-4:1.0/bInterfaceNumber"), "00\n");
        machine.write(&at("1-4:1.0/bInterfaceClass"), "ff\n");
        machine.write(
            "proc/self/mountinfo",
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        );
        machine.write(
            "proc/swaps",
            "Filename\t\tType\n/dev/sda2 partition 1 0 -2\n",
        );
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.root.path().join(target), path).unwrap();
    }

    /// Adds a disk `sdb` (8:16) with a partition `sdb1` (8:17).
    fn add_disk(&self) {
        self.write(&at(&format!("{DISK}/dev")), "8:16\n");
        self.write(&at(&format!("{DISK}/sdb1/dev")), "8:17\n");
        self.write(&at(&format!("{DISK}/sdb1/partition")), "1\n");
    }

    /// Builds `dm-0` (253:0), called `secret`, on the partition.
    fn add_mapping(&self) {
        self.write("sys/devices/virtual/block/dm-0/dev", "253:0\n");
        self.write("sys/devices/virtual/block/dm-0/dm/name", "secret\n");
        self.link("sys/devices/virtual/block/dm-0", "sys/class/block/dm-0");
        self.link(
            "sys/devices/virtual/block/dm-0",
            &at(&format!("{DISK}/sdb1/holders/dm-0")),
        );
    }

    fn add_keyboard(&self, handlers: &str, keys: &str) {
        self.write("sys/class/tty/tty0/active", "tty1\n");
        self.write(
            "proc/bus/input/devices",
            &format!(
                "I: Bus=0019\nN: Name=\"Power Button\"\nS: Sysfs=/devices/LNX/input/input0\n\
                 H: Handlers=kbd event0\nB: KEY=10000000000000 0\n\n\
                 I: Bus=0003\nN: Name=\"QEMU USB Keyboard\"\n\
                 S: Sysfs=/devices/pci0/usb1/1-4/1-4:1.0/0003:0627:0001.0001/input/input5\n\
                 H: Handlers={handlers}\nB: KEY={keys}\n\n"
            ),
        );
    }

    /// Puts a directory where a file should be, which not even root can read.
    fn make_unreadable(&self, path: &str) {
        let path = self.root.path().join(path);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path).unwrap();
    }

    fn assert_unknown(&self, file: &str) {
        let found = self.check();
        let unread = self.root.path().join(file);
        assert!(
            matches!(&found, Some(InUse::Unknown { path, cause: Errno::EISDIR })
                if fs::canonicalize(path).unwrap() == fs::canonicalize(unread).unwrap()),
            "{file}: {found:?}"
        );
    }

    fn check(&self) -> Option<InUse> {
        self.check_at("sys/devices/pci0/usb1/1-4")
    }

    fn check_at(&self, device: &str) -> Option<InUse> {
        let base = self.root.path();
        let roots = Roots {
            sys: base.join("sys"),
            proc: base.join("proc"),
            dev: base.join("dev"),
        };
        check(&roots, &base.join(device))
    }
}

fn mounted(block: &str, mount_point: &str) -> InUse {
    InUse::Mounted {
        block: block.to_owned(),
        mount_point: mount_point.to_owned(),
    }
}

#[test]
fn a_device_that_nobody_uses_is_given_away() {
    let machine = Machine::new();
    machine.add_disk();
    assert_eq!(machine.check(), None);
}

#[test]
fn a_mounted_partition_is_found_by_its_number() {
    let machine = Machine::new();
    machine.add_disk();
    machine.write(
        "proc/self/mountinfo",
        "30 22 8:17 / /media/my\\040stick rw - vfat /dev/disk/by-label/STICK rw\n",
    );
    assert_eq!(machine.check(), Some(mounted("sdb1", "/media/my stick")));
}

#[test]
fn a_mount_that_only_init_sees_counts() {
    let machine = Machine::new();
    machine.add_disk();
    machine.write(
        "proc/1/mountinfo",
        "30 22 8:16 / /mnt rw - ext4 /dev/sdb rw\n",
    );
    assert_eq!(machine.check(), Some(mounted("sdb", "/mnt")));
}

#[test]
fn a_mount_with_an_anonymous_number_is_found_by_its_source() {
    let machine = Machine::new();
    machine.add_disk();
    machine.write(
        "proc/self/mountinfo",
        "30 22 0:41 / /mnt rw - btrfs /dev/sdb1 rw\n",
    );
    assert_eq!(machine.check(), Some(mounted("sdb1", "/mnt")));
}

#[test]
fn a_second_disk_of_a_btrfs_volume_counts_as_mounted() {
    let machine = Machine::new();
    machine.add_disk();
    machine.link(
        &at(&format!("{DISK}/sdb1")),
        "sys/fs/btrfs/8a55/devices/sdb1",
    );
    assert!(matches!(machine.check(), Some(InUse::Mounted { block, .. }) if block == "sdb1"));
}

#[test]
fn a_mounted_mapping_on_a_partition_is_found() {
    let machine = Machine::new();
    machine.add_disk();
    machine.add_mapping();
    machine.write(
        "proc/self/mountinfo",
        "30 22 253:0 / /home rw - ext4 /dev/mapper/x rw\n",
    );
    assert_eq!(machine.check(), Some(mounted("dm-0", "/home")));
}

#[test]
fn an_open_mapping_without_a_mount_still_holds_the_disk() {
    let machine = Machine::new();
    machine.add_disk();
    machine.add_mapping();
    let held = machine.check();
    assert!(matches!(held, Some(InUse::Held { holder, .. }) if holder == "dm-0"));
}

#[test]
fn swap_is_found_under_every_name_of_the_disk() {
    for path in ["/dev/sdb1", "/dev/mapper/secret", "/dev/disk/by-label/SWAP"] {
        let machine = Machine::new();
        machine.add_disk();
        machine.add_mapping();
        machine.write("dev/sdb1", "");
        machine.link("dev/sdb1", "dev/disk/by-label/SWAP");
        machine.write(
            "proc/swaps",
            &format!("Filename Type\n{path} partition 1 0 -2\n"),
        );
        assert!(
            matches!(machine.check(), Some(InUse::Swap { .. })),
            "{path}"
        );
    }
}

#[test]
fn hubs_are_refused_by_device_and_by_interface_class() {
    let machine = Machine::new();
    machine.write(&at("1-4:1.0/bInterfaceClass"), "09\n");
    assert_eq!(machine.check(), Some(InUse::Hub));
    let machine = Machine::new();
    machine.write(&at("bDeviceClass"), "09\n");
    assert_eq!(machine.check(), Some(InUse::Hub));
}

#[test]
fn a_root_hub_is_refused_even_when_forced() {
    let machine = Machine::new();
    let root_hub = machine.check_at("sys/devices/pci0/usb1").unwrap();
    assert_eq!(root_hub, InUse::RootHub);
    assert!(!root_hub.is_forcible());
}

#[test]
fn an_imported_device_is_passed_on_only_when_forced() {
    let machine = Machine::new();
    let path = "sys/devices/platform/vhci_hcd.0/usb3/3-1";
    machine.write(&format!("{path}/bDeviceClass"), "00\n");
    let imported = machine.check_at(path).unwrap();
    assert_eq!(imported, InUse::Imported);
    assert!(imported.is_forcible());
    assert!(imported.to_string().contains("travel twice"));
}

#[test]
fn a_mount_on_a_device_behind_it_is_not_this_device() {
    let machine = Machine::new();
    machine.write(&at("1-4.1/bDeviceClass"), "00\n");
    machine.write(&at("1-4.1/1-4.1:1.0/host/block/sda/dev"), "8:1\n");
    assert_eq!(machine.check(), None);
}

#[test]
fn a_link_to_the_device_is_followed() {
    let machine = Machine::new();
    machine.write(&at("bDeviceClass"), "09\n");
    machine.link("sys/devices/pci0/usb1/1-4", "sys/bus/usb/devices/1-4");
    assert_eq!(
        machine.check_at("sys/bus/usb/devices/1-4"),
        Some(InUse::Hub)
    );
}

#[test]
fn a_keyboard_that_types_on_a_virtual_terminal_is_refused_unless_forced() {
    let machine = Machine::new();
    machine.add_keyboard("sysrq kbd leds event5", KEYS);
    let refusal = machine.check().unwrap();
    let name = "QEMU USB Keyboard".to_owned();
    assert_eq!(refusal, InUse::ConsoleKeyboard { name });
    assert!(refusal.is_forcible());
    assert!(refusal.to_string().contains("--force"));
}

#[test]
fn keys_that_nobody_types_with_do_not_make_a_keyboard() {
    let machine = Machine::new();
    machine.add_keyboard("kbd event5", "10000 0 0");
    assert_eq!(machine.check(), None);
    machine.add_keyboard("event5 js0", KEYS);
    assert_eq!(machine.check(), None);
}

#[test]
fn without_a_virtual_terminal_no_keyboard_is_the_console() {
    let machine = Machine::new();
    machine.add_keyboard("sysrq kbd leds event5", KEYS);
    fs::remove_file(machine.root.path().join("sys/class/tty/tty0/active")).unwrap();
    assert_eq!(machine.check(), None);
}

#[test]
fn the_interface_of_the_default_route_is_refused_while_it_is_up() {
    let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
              eth1\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    let v6 = format!("{0} 00 {0} 00 fe80 400 1 0 3 eth1\n", "0".repeat(32));
    for (file, table) in [("proc/net/route", v4), ("proc/net/ipv6_route", v6.as_str())] {
        let machine = Machine::new();
        machine.write(&at("1-4:1.0/net/eth1/address"), "02:00:00:00:00:01\n");
        machine.write("sys/class/net/eth1/operstate", "up\n");
        assert_eq!(machine.check(), None);
        machine.write(file, table);
        let interface = "eth1".to_owned();
        assert_eq!(machine.check(), Some(InUse::DefaultRoute { interface }));
        machine.write("sys/class/net/eth1/operstate", "down\n");
        assert_eq!(machine.check(), None);
    }
}

#[test]
fn what_cannot_be_read_may_be_in_use() {
    let (holder, net) = ("sys/devices/virtual/block/dm-0", "1-4:1.0/net/eth1/address");
    for file in [
        at("bDeviceClass"),
        at("1-4:1.0/bInterfaceClass"),
        at(&format!("{DISK}/dev")),
        at(&format!("{DISK}/sdb1/dev")),
        format!("{holder}/dev"),
        format!("{holder}/dm/name"),
        "proc/self/mountinfo".to_owned(),
        "proc/1/mountinfo".to_owned(),
        "proc/swaps".to_owned(),
    ] {
        let machine = Machine::new();
        machine.add_disk();
        machine.add_mapping();
        machine.make_unreadable(&file);
        machine.assert_unknown(&file);
    }
    for file in [
        "sys/class/tty/tty0/active",
        "proc/bus/input/devices",
        "proc/net/route",
        "proc/net/ipv6_route",
    ] {
        let machine = Machine::new();
        machine.write(&at(net), "02:00:00:00:00:01\n");
        machine.add_keyboard("event5", KEYS);
        machine.make_unreadable(file);
        machine.assert_unknown(file);
    }
}

#[test]
fn a_tree_too_large_to_be_looked_through_may_be_in_use() {
    let machine = Machine::new();
    let deep = (0..40).map(|_| "d/").collect::<String>();
    machine.write(&at(&format!("1-4:1.0/{deep}block/sdb/dev")), "8:16\n");
    assert!(matches!(machine.check(), Some(InUse::Unknown { .. })));
}

#[test]
fn a_name_that_is_no_text_hides_no_mount() {
    let machine = Machine::new();
    machine.add_disk();
    let table = b"30 22 0:9 / /\xff rw - tmpfs \xfe rw\n31 22 8:16 / /mnt rw - ext4 /dev/sdb rw\n";
    fs::write(machine.root.path().join("proc/self/mountinfo"), table).unwrap();
    assert_eq!(machine.check(), Some(mounted("sdb", "/mnt")));
}

#[test]
fn a_lack_of_file_descriptors_is_explained() {
    let path = PathBuf::from("/proc/self/mountinfo");
    let cause = Errno::EMFILE;
    let refusal = InUse::Unknown { path, cause };
    assert!(refusal.is_forcible());
    let text = refusal.to_string();
    for part in ["/proc/self/mountinfo", "LimitNOFILE=", "--force"] {
        assert!(text.contains(part), "{text}");
    }
}
