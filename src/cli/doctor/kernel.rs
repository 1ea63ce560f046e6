//! What the kernel must offer.

use nix::unistd::{AccessFlags, Uid, access};

use super::Check;
use super::machine::Machine;
use crate::daemon::control::Side;
use crate::daemon::system::try_io_uring;

/// Both daemons are built on io_uring; distributions and container runtimes switch it off.
pub(super) fn io_uring(machine: &Machine) -> Check {
    const NAME: &str = "io_uring";
    let disabled = machine.read("/proc/sys/kernel/io_uring_disabled");
    match (try_io_uring(), disabled.as_deref()) {
        (Ok(()), Some("1")) => Check::ok(NAME, "available to this user (restricted to some)"),
        (Ok(()), _) => Check::ok(NAME, "available"),
        (Err(_), Some(level @ ("1" | "2"))) => Check::fail(
            NAME,
            format!("switched off by kernel.io_uring_disabled = {level}"),
        )
        .mend("sudo sysctl kernel.io_uring_disabled=0"),
        (Err(error), _) => Check::fail(NAME, format!("the kernel refuses it: {error}"))
            .mend("run outside of the container, or allow io_uring in its seccomp profile"),
    }
}

/// The virtual host controller that remote devices appear on.
pub(super) fn vhci(machine: &Machine) -> Check {
    const NAME: &str = "vhci-hcd";
    let release = machine
        .read("/proc/sys/kernel/osrelease")
        .unwrap_or_default();
    let modules = format!("/lib/modules/{release}");
    let listed = |index: &str| machine.mentions(&format!("{modules}/{index}"), "vhci-hcd.ko");
    let check = if let Some(ports) = machine.read("/sys/devices/platform/vhci_hcd.0/nports") {
        Check::ok(NAME, format!("loaded, {ports} ports"))
    } else if machine.exists("/sys/devices/platform/vhci_hcd.0") {
        Check::ok(NAME, "loaded")
    } else if listed("modules.dep") || listed("modules.builtin") {
        Check::fail(NAME, "not loaded").mend(
            "sudo modprobe vhci-hcd   # and at every start: \
                   echo vhci-hcd | sudo tee /etc/modules-load.d/myclerk.conf",
        )
    } else {
        Check::fail(NAME, format!("kernel {release} comes without it"))
            .mend(install_vhci(machine, &release))
    };
    check.only(Side::Client)
}

/// The package with the module, by distribution (os-release(5)).
fn install_vhci(machine: &Machine, release: &str) -> String {
    let described = machine.read("/etc/os-release").unwrap_or_default();
    let id = described.lines().find_map(|line| line.strip_prefix("ID="));
    match id.map(|id| id.trim_matches('"')) {
        Some("debian" | "raspbian") => {
            "sudo apt install linux-image-$(dpkg --print-architecture) && sudo reboot".to_owned()
        }
        Some("ubuntu") => format!("sudo apt install linux-modules-extra-{release}"),
        Some("fedora") => "sudo dnf install kernel-modules-extra && sudo reboot".to_owned(),
        Some(_) | None => "install a kernel that is built with CONFIG_USBIP_VHCI_HCD".to_owned(),
    }
}

/// The device files through which the server drives USB devices.
pub(super) fn usbfs(machine: &Machine) -> Check {
    const NAME: &str = "usbfs";
    let nodes: Vec<_> = machine
        .list("/dev/bus/usb")
        .iter()
        .flat_map(std::fs::read_dir)
        .flatten()
        .flatten()
        .collect();
    let usable =
        |path: &std::path::Path| access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok();
    let count = nodes.iter().filter(|node| usable(&node.path())).count();
    let check = match (nodes.len(), count) {
        (0, _) => Check::fail(
            NAME,
            "/dev/bus/usb is empty: no USB controller is visible here",
        )
        .mend("lsusb   # and outside of containers: give them /dev/bus/usb"),
        (all, usable) if usable == all => Check::ok(NAME, format!("{all} devices, all accessible")),
        (all, 0) => Check::fail(
            NAME,
            format!("none of {all} devices is accessible to this user"),
        )
        .mend("run with sudo, or install the udev rules"),
        (all, usable) => Check::warn(
            NAME,
            format!("{usable} of {all} devices are accessible to this user"),
        )
        .mend("run with sudo, or install the udev rules"),
    };
    check.only(Side::Server)
}

/// The memory for all transfers of all devices together; what is above it has to wait.
pub(super) fn usbfs_memory(machine: &Machine) -> Check {
    const NAME: &str = "usbfs memory";
    /// The kernel's default: enough for some disks at once, not for cameras beside them.
    const SMALL: u32 = 16;
    const ENOUGH: u32 = 256;
    const FILE: &str = "/sys/module/usbcore/parameters/usbfs_memory_mb";
    let mend = || {
        format!(
            "echo {ENOUGH} | sudo tee {FILE}   # and at every start: add \
             usbcore.usbfs_memory_mb={ENOUGH} to the kernel's command line"
        )
    };
    let check = match machine.read(FILE).and_then(|text| text.parse().ok()) {
        Some(0) => Check::ok(NAME, "not limited"),
        Some(mib) if mib <= SMALL => Check::warn(
            NAME,
            format!("{mib} MiB for all devices: little for many of them, or for audio and video"),
        )
        .mend(mend()),
        Some(mib) => Check::ok(NAME, format!("{mib} MiB for all devices")),
        None => Check::warn(
            NAME,
            "its limit cannot be read: is there USB in this kernel?",
        ),
    };
    check.only(Side::Server)
}

/// Rules that give the group its devices; root needs none.
pub(super) fn udev_rules(machine: &Machine) -> Check {
    const NAME: &str = "udev rules";
    const DIRS: [&str; 4] = [
        "/etc/udev/rules.d",
        "/run/udev/rules.d",
        "/usr/lib/udev/rules.d",
        "/lib/udev/rules.d",
    ];
    let ours = |path: &std::path::PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.contains("myclerk")
            && path
                .extension()
                .is_some_and(|extension| extension == "rules")
    };
    match DIRS.iter().flat_map(|dir| machine.list(dir)).find(ours) {
        Some(path) => Check::ok(NAME, format!("{} is installed", path.display())),
        None if Uid::effective().is_root() => Check::ok(NAME, "not installed; not needed by root"),
        None => Check::warn(NAME, "not installed, so only root can use the devices").mend(
            "sudo install -m 0644 udev/*.rules /etc/udev/rules.d/ && sudo udevadm control --reload",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::Verdict;
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (TempDir, Machine) {
        let dir = TempDir::new().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let machine = Machine::at(dir.path());
        (dir, machine)
    }

    #[test]
    fn a_loaded_a_loadable_and_an_absent_module_are_told_apart() {
        const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "6.12.1\n");
        let module = "kernel/drivers/usb/usbip/vhci-hcd.ko.xz: kernel/usbip-core.ko.xz\n";
        let (_dir, loaded) = machine(&[("sys/devices/platform/vhci_hcd.0/nports", "240\n")]);
        assert_eq!(vhci(&loaded).detail, "loaded, 240 ports");
        let (_dir, loadable) = machine(&[RELEASE, ("lib/modules/6.12.1/modules.dep", module)]);
        let check = vhci(&loadable);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.mend.unwrap().starts_with("sudo modprobe vhci-hcd"));
        let ubuntu = ("etc/os-release", "NAME=\"Ubuntu\"\nID=ubuntu\n");
        let (_dir, absent) = machine(&[RELEASE, ubuntu, ("lib/modules/6.12.1/modules.dep", "")]);
        let check = vhci(&absent);
        assert_eq!(check.verdict, Verdict::Fail);
        assert_eq!(
            check.mend.unwrap(),
            "sudo apt install linux-modules-extra-6.12.1"
        );
    }

    #[test]
    fn usbfs_needs_device_files_that_can_be_opened() {
        let (_dir, empty) = machine(&[]);
        assert_eq!(usbfs(&empty).verdict, Verdict::Fail);
        let (_dir, two) = machine(&[("dev/bus/usb/001/001", ""), ("dev/bus/usb/002/001", "")]);
        assert_eq!(usbfs(&two).detail, "2 devices, all accessible");
    }

    #[test]
    fn little_memory_for_transfers_is_told_with_the_command_for_more() {
        let file = "sys/module/usbcore/parameters/usbfs_memory_mb";
        let check = |content| usbfs_memory(&machine(&[(file, content)]).1);
        assert_eq!(check("0\n").detail, "not limited");
        assert_eq!(check("1000\n").detail, "1000 MiB for all devices");
        let little = check("16\n");
        assert_eq!(little.verdict, Verdict::Warn);
        assert!(
            little
                .mend
                .unwrap()
                .starts_with("echo 256 | sudo tee /sys/")
        );
        assert_eq!(usbfs_memory(&machine(&[]).1).verdict, Verdict::Warn);
    }

    #[test]
    fn only_our_own_rules_count() {
        let (_dir, other) = machine(&[("etc/udev/rules.d/70-other.rules", "")]);
        assert!(udev_rules(&other).detail.starts_with("not installed"));
        let (_dir, ours) = machine(&[("lib/udev/rules.d/70-myclerk-usb.rules", "")]);
        assert!(
            udev_rules(&ours)
                .detail
                .ends_with("70-myclerk-usb.rules is installed")
        );
    }
}
