use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A machine's `/sys`, `/proc` and `/dev`.
struct Machine {
    root: TempDir,
    roots: Roots,
}

impl Machine {
    fn new() -> Self {
        let root = TempDir::new().expect("a directory");
        let at = |name: &str| root.path().join(name);
        let roots = Roots {
            sys: at("sys"),
            proc: at("proc"),
            dev: at("dev"),
        };
        fs::create_dir_all(roots.sys.join("class/tty")).expect("made");
        fs::create_dir_all(&roots.proc).expect("made");
        Self { root, roots }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        symlink(target, path).expect("linked");
    }

    /// A terminal with that device below `sys/devices`, and its driver.
    fn port(&self, place: &str, device: &str, driver: &str) {
        let path = self.roots.sys.join("devices").join(device);
        fs::create_dir_all(&path).expect("made");
        self.link(&format!("sys/class/tty/{place}/device"), &path);
        self.link(
            &format!("sys/devices/{device}/driver"),
            format!("/sys/bus/x/drivers/{driver}"),
        );
    }

    fn opens(&self, pid: u32, name: &str, file: &str) {
        self.write(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        self.link(&format!("proc/{pid}/fd/3"), self.roots.dev.join(file));
    }

    fn look(&self) -> Vec<Present> {
        look_in(&self.roots).expect("a list")
    }

    fn only(&self) -> Present {
        let found = self.look();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().expect("one")
    }
}

#[test]
fn only_terminals_with_a_port_behind_them_are_there() {
    let machine = Machine::new();
    machine.write("sys/class/tty/tty0/dev", "4:0");
    machine.write("sys/class/tty/ptmx/dev", "5:2");
    machine.port("ttyS0", "pnp0/00:04", "serial");
    machine.write("sys/class/tty/ttyS0/type", "4\n");
    machine.port("ttyS1", "platform/serial8250", "serial8250");
    machine.write("sys/class/tty/ttyS1/type", "0\n");
    let port = machine.only();
    assert_eq!(
        (port.id.as_str(), port.place.as_str()),
        ("serial:ttyS0", "ttyS0")
    );
    assert_eq!(port.name, "serial port ttyS0");
    assert_eq!(port.props["driver"], Value::Str("serial".to_owned()));
    assert_eq!(port.hazard, None);
}

#[test]
fn the_driver_of_a_port_is_the_one_of_the_hardware() {
    let machine = Machine::new();
    let base = "/sys/bus/serial-base/drivers";
    machine.port("ttyS4", "pci0/0000:00:05.0/5:0/5:0.1", "serial");
    let pci = "sys/devices/pci0/0000:00:05.0";
    fs::remove_file(machine.root.path().join(format!("{pci}/5:0/5:0.1/driver"))).expect("removed");
    machine.link(&format!("{pci}/5:0/5:0.1/driver"), format!("{base}/port"));
    machine.link(&format!("{pci}/5:0/driver"), format!("{base}/ctrl"));
    machine.link(&format!("{pci}/driver"), "/sys/bus/pci/drivers/8250_pci");
    let driver = Value::Str("8250_pci".to_owned());
    assert_eq!(machine.only().props["driver"], driver);
}

#[test]
fn a_machine_without_ports_has_an_empty_list() {
    assert_eq!(Machine::new().look(), []);
}

#[test]
fn an_adapter_is_known_by_its_serial_number_and_named_by_its_maker() {
    let machine = Machine::new();
    machine.port("ttyUSB0", "usb1/1-4/1-4:1.0/ttyUSB0", "ftdi_sio");
    machine.write("sys/devices/usb1/1-4/idVendor", "0403\n");
    machine.write("sys/devices/usb1/1-4/manufacturer", "FTDI\n");
    machine.write("sys/devices/usb1/1-4/product", "FT232R USB UART\n");
    machine.link(
        "dev/serial/by-path/pci-0-usb-0:4:1.0-port0",
        "../../ttyUSB0",
    );
    assert_eq!(machine.only().id, "serial:pci-0-usb-0:4:1.0-port0");
    machine.link(
        "dev/serial/by-id/usb-FTDI_A50285BI-if00-port0",
        "../../ttyUSB0",
    );
    let port = machine.only();
    assert_eq!(port.id, "serial:usb-FTDI_A50285BI-if00-port0");
    assert_eq!(port.name, "FTDI FT232R USB UART (ttyUSB0)");
    let by_path = Value::Str("pci-0-usb-0:4:1.0-port0".to_owned());
    assert_eq!(port.props["by-path"], by_path);
}

#[test]
fn a_name_that_makes_no_id_is_passed_over() {
    let long = format!("usb-{}", "x".repeat(60));
    let usual = "pci-1".to_owned();
    let of = |by_id: &str| id("ttyUSB0", Some(&by_id.to_owned()), Some(&usual));
    assert_eq!(of(&long), "serial:pci-1");
    assert_eq!(of("usb two words"), "serial:pci-1");
    assert_eq!(of("usb-\u{e4}"), "serial:pci-1");
    assert_eq!(id("ttyUSB0", Some(&long), None), "serial:ttyUSB0");
    assert_eq!(id("ttyUSB0", Some(&long), Some(&long)), "serial:ttyUSB0");
}

#[test]
fn of_two_links_to_one_port_the_first_by_name_counts() {
    let machine = Machine::new();
    machine.port("ttyACM0", "usb1/1-1/1-1:1.0", "cdc_acm");
    machine.link("dev/serial/by-id/usb-b", "../../ttyACM0");
    machine.link("dev/serial/by-id/usb-a", "../../ttyACM0");
    assert_eq!(machine.only().id, "serial:usb-a");
}

#[test]
fn the_console_of_the_kernel_is_given_away_by_force_only() {
    let machine = Machine::new();
    machine.port("ttyS0", "pnp0/00:04", "serial");
    machine.write(
        "proc/consoles",
        "tty0                 -WU (EC p  )    4:7\nttyS0                -W- (E  p a)    4:64\n",
    );
    let hazard = machine.only().hazard.expect("a reason");
    assert!(hazard.forcible);
    assert!(hazard.reason.contains("console"), "{}", hazard.reason);
}

#[test]
fn a_port_that_a_program_has_open_is_given_away_by_force_only() {
    let machine = Machine::new();
    machine.port("ttyS1", "pnp0/00:05", "serial");
    machine.opens(71, "agetty", "ttyS10");
    machine.opens(72, "cat", "null");
    assert_eq!(machine.only().hazard, None);
    machine.opens(73, "agetty", "ttyS1");
    let hazard = machine.only().hazard.expect("a reason");
    assert!(hazard.forcible);
    assert!(
        hazard.reason.contains("agetty (process 73)"),
        "{}",
        hazard.reason
    );
}

#[test]
fn a_port_that_this_program_serves_is_no_danger() {
    let machine = Machine::new();
    machine.port("ttyS1", "pnp0/00:05", "serial");
    machine.opens(std::process::id(), "myclerk", "ttyS1");
    assert_eq!(machine.only().hazard, None);
}

#[test]
fn a_port_of_another_machine_is_given_away_by_force_only() {
    let machine = Machine::new();
    machine.port(
        "ttyUSB0",
        "platform/vhci_hcd.0/usb3/3-1/3-1:1.0/ttyUSB0",
        "ftdi_sio",
    );
    let hazard = machine.only().hazard.expect("a reason");
    assert!(
        hazard.reason.contains("another machine"),
        "{}",
        hazard.reason
    );
}
