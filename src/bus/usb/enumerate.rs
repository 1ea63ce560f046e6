//! The USB devices of this machine and their stable ids.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use nusb::MaybeFuture;

use super::descriptor::Descriptors;
use super::hostuse::is_imported;

/// Longest device id in bytes (profile 19).
const MAX_ID: usize = 64;

/// Most alternate settings that are listed of one device. Far more than real devices have, and few
/// enough that no device makes the list too long for the others.
pub const MAX_LISTED: usize = 256;

/// Where a device is plugged in. The address changes with every plugging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Number of the bus.
    pub bus: u8,
    /// Address on the bus, as in `/dev/bus/usb/BBB/DDD`.
    pub address: u8,
    /// The device's directory in sysfs.
    pub sysfs: PathBuf,
}

/// A device that is plugged in; root hubs are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbDeviceInfo {
    /// Stable text id: survives replug and reboot, and with a serial number another port too.
    pub id: String,
    /// Where it is now.
    pub location: Location,
    /// Ports on the way from the root hub, `1.4`.
    pub ports: String,
    /// The name of its socket's other port: a USB 3 socket is one for high speed and one for super
    /// speed, at different buses.
    pub peer: Option<String>,
    /// It was imported from another machine, by vhci-hcd.
    pub imported: bool,
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// bcdDevice.
    pub release: u16,
    /// Device class, subclass, protocol.
    pub class: [u8; 3],
    /// `spd` of profile 19.4: 1 low, 2 full, 3 high, 4 super, 5 super+; `None` when the kernel does
    /// not say.
    pub speed: Option<u8>,
    /// Every alternate setting of the active configuration: interface, alternate, class, subclass,
    /// protocol.
    pub interfaces: Vec<[u8; 5]>,
    /// Manufacturer string.
    pub manufacturer: Option<String>,
    /// Product string.
    pub product_name: Option<String>,
    /// Serial number string as the device tells it.
    pub serial: Option<String>,
}

impl UsbDeviceInfo {
    /// The name of the port that it is plugged into, `usb@1-1.4`.
    pub fn port_name(&self) -> String {
        format!("usb@{}-{}", self.location.bus, self.ports)
    }

    /// What people call it: the product string, with the maker before it where that adds something.
    pub fn name(&self) -> String {
        match (&self.manufacturer, &self.product_name) {
            (Some(maker), Some(product)) if !product.starts_with(maker.as_str()) => {
                format!("{maker} {product}")
            }
            (_, Some(product)) => product.clone(),
            (Some(maker), None) => format!("{maker} device"),
            (None, None) => format!("USB device {:04x}:{:04x}", self.vendor, self.product),
        }
    }
}

/// What is plugged in now, sorted by id, without root hubs. Reads many small files: call it where
/// waiting is allowed.
///
/// # Errors
/// sysfs cannot be read, or the kernel has no USB (`NotFound`).
pub fn list() -> io::Result<Vec<UsbDeviceInfo>> {
    // nusb would not say which of the two it is.
    fs::metadata("/sys/bus/usb")?;
    let mut devices: Vec<UsbDeviceInfo> = nusb::list_devices()
        .wait()
        .map_err(io::Error::other)?
        .map(|info| describe(&info))
        .collect();
    assign_ids(&mut devices);
    devices.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(devices)
}

fn describe(info: &nusb::DeviceInfo) -> UsbDeviceInfo {
    let sysfs = info.sysfs_path().to_owned();
    let ports: Vec<String> = info.port_chain().iter().map(u8::to_string).collect();
    let speed = info.speed().and_then(|speed| match speed {
        nusb::Speed::Low => Some(1),
        nusb::Speed::Full => Some(2),
        nusb::Speed::High => Some(3),
        nusb::Speed::Super => Some(4),
        nusb::Speed::SuperPlus => Some(5),
        _ => None,
    });
    let interfaces = active_settings(&sysfs).unwrap_or_else(|| {
        info.interfaces()
            .map(|i| {
                [
                    i.interface_number(),
                    0,
                    i.class(),
                    i.subclass(),
                    i.protocol(),
                ]
            })
            .collect()
    });
    let peer = fs::canonicalize(sysfs.join("port/peer")).ok();
    let peer = peer.and_then(|port| port_name(port.file_name()?.to_str()?));
    let imported = fs::canonicalize(&sysfs).is_ok_and(|device| is_imported(&device));
    UsbDeviceInfo {
        id: String::new(),
        location: Location {
            bus: info.busnum(),
            address: info.device_address(),
            sysfs,
        },
        ports: ports.join("."),
        peer,
        imported,
        vendor: info.vendor_id(),
        product: info.product_id(),
        release: info.device_version(),
        class: [info.class(), info.subclass(), info.protocol()],
        speed,
        interfaces,
        manufacturer: info.manufacturer_string().map(str::to_owned),
        product_name: info.product_string().map(str::to_owned),
        serial: info.serial_number().map(str::to_owned),
    }
}

/// What the kernel calls `usb2-port4` (at a root hub) or `2-1-port4` (at another hub).
fn port_name(port: &str) -> Option<String> {
    let (hub, number) = port.rsplit_once("-port")?;
    Some(match hub.strip_prefix("usb") {
        Some(bus) => format!("usb@{bus}-{number}"),
        None => format!("usb@{hub}.{number}"),
    })
}

/// nusb shows the current alternate settings only, the kernel's copy of the descriptors has all.
fn active_settings(sysfs: &std::path::Path) -> Option<Vec<[u8; 5]>> {
    let bytes = fs::read(sysfs.join("descriptors")).ok()?;
    let active = fs::read_to_string(sysfs.join("bConfigurationValue")).ok()?;
    let active: u8 = active.trim().parse().ok()?;
    settings(&bytes, active)
}

/// `[interface, alternate, class, subclass, protocol]` of every alternate setting of one
/// configuration, [`MAX_LISTED`] at most; `None` when the descriptors have no such configuration.
pub fn settings(descriptors: &[u8], configuration: u8) -> Option<Vec<[u8; 5]>> {
    let device = Descriptors::parse(descriptors).ok()?;
    let settings = &device.configuration(configuration)?.settings;
    Some(
        settings
            .iter()
            .take(MAX_LISTED)
            .map(|s| {
                let [class, subclass, protocol] = s.class;
                [s.interface, s.alternate, class, subclass, protocol]
            })
            .collect(),
    )
}

/// Gives every device its id: `usb:VID:PID:SERIAL`, or `usb:VID:PID@BUS-PORTS` where there is no
/// serial number or several devices claim the same one. An imported device always goes by its port:
/// where both halves run on one kernel it has the serial number of its original.
fn assign_ids(devices: &mut [UsbDeviceInfo]) {
    let mut claims: HashMap<String, usize> = HashMap::new();
    for device in &*devices {
        if let Some(id) = serial_id(device) {
            *claims.entry(id).or_default() += 1;
        }
    }
    for device in devices {
        device.id = serial_id(device)
            .filter(|id| claims.get(id) == Some(&1))
            .unwrap_or_else(|| port_id(device));
    }
}

/// The id by serial number; `None` without a usable one, or when it would be too long to be told
/// from its neighbours'.
fn serial_id(device: &UsbDeviceInfo) -> Option<String> {
    if device.imported {
        return None;
    }
    let serial: String = device
        .serial
        .as_deref()?
        .trim()
        .chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    let telling = serial.chars().any(|c| c.is_ascii_alphanumeric());
    let id = format!("usb:{:04x}:{:04x}:{serial}", device.vendor, device.product);
    (telling && id.len() <= MAX_ID).then_some(id)
}

fn port_id(device: &UsbDeviceInfo) -> String {
    let (vendor, product) = (device.vendor, device.product);
    let (bus, ports) = (device.location.bus, &device.ports);
    format!("usb:{vendor:04x}:{product:04x}@{bus}-{ports}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ports: &str, serial: Option<&str>) -> UsbDeviceInfo {
        UsbDeviceInfo {
            id: String::new(),
            location: Location {
                bus: 1,
                address: 9,
                sysfs: PathBuf::new(),
            },
            ports: ports.to_owned(),
            peer: None,
            imported: false,
            vendor: 0x0403,
            product: 0x6001,
            release: 0x0600,
            class: [0; 3],
            speed: Some(2),
            interfaces: Vec::new(),
            manufacturer: None,
            product_name: None,
            serial: serial.map(str::to_owned),
        }
    }

    fn ids(mut devices: Vec<UsbDeviceInfo>) -> Vec<String> {
        assign_ids(&mut devices);
        devices.into_iter().map(|device| device.id).collect()
    }

    #[test]
    fn a_serial_number_makes_an_id_that_no_port_changes() {
        assert_eq!(
            ids(vec![device("4", Some("A50285BI"))]),
            ["usb:0403:6001:A50285BI"]
        );
    }

    #[test]
    fn without_a_usable_serial_number_the_port_path_stands() {
        for serial in [None, Some(""), Some("  "), Some("???")] {
            assert_eq!(ids(vec![device("1.4", serial)]), ["usb:0403:6001@1-1.4"]);
        }
    }

    #[test]
    fn foreign_characters_are_replaced_so_that_an_id_is_always_plain() {
        assert_eq!(
            ids(vec![device("4", Some(" Ab:1*é\u{0}2 "))]),
            ["usb:0403:6001:Ab_1___2"]
        );
    }

    #[test]
    fn two_devices_with_one_serial_number_both_go_by_their_port() {
        assert_eq!(
            ids(vec![
                device("1", Some("0001")),
                device("2", Some("0001")),
                device("3", Some("0002")),
            ]),
            [
                "usb:0403:6001@1-1",
                "usb:0403:6001@1-2",
                "usb:0403:6001:0002"
            ]
        );
    }

    #[test]
    fn an_imported_device_does_not_compete_with_its_original() {
        let copy = UsbDeviceInfo {
            imported: true,
            ..device("2", Some("0001"))
        };
        assert_eq!(copy.port_name(), "usb@1-2");
        assert_eq!(
            ids(vec![device("1", Some("0001")), copy]),
            ["usb:0403:6001:0001", "usb:0403:6001@1-2"]
        );
    }

    #[test]
    fn the_kernels_names_of_ports_are_understood() {
        assert_eq!(port_name("usb2-port14").unwrap(), "usb@2-14");
        assert_eq!(port_name("2-1-port3").unwrap(), "usb@2-1.3");
        assert_eq!(port_name("2-1.4-port3").unwrap(), "usb@2-1.4.3");
        assert_eq!(port_name("2-1:1.0"), None);
    }

    #[test]
    fn serial_numbers_that_only_look_alike_after_cleaning_do_not_collide() {
        assert_eq!(
            ids(vec![device("1", Some("a b")), device("2", Some("a:b"))]),
            ["usb:0403:6001@1-1", "usb:0403:6001@1-2"]
        );
    }

    #[test]
    fn a_serial_number_too_long_for_an_id_is_not_cut_but_left_out() {
        let longest = "x".repeat(MAX_ID - "usb:0403:6001:".len());
        let id = ids(vec![device("1", Some(&longest))]).remove(0);
        assert_eq!(id.len(), MAX_ID);
        let longer = format!("{longest}x");
        assert_eq!(ids(vec![device("1", Some(&longer))]), ["usb:0403:6001@1-1"]);
    }

    #[test]
    fn the_longest_port_path_still_makes_an_id() {
        let mut far = device("255.255.255.255.255.255.255", None);
        far.location.bus = 255;
        assert!(ids(vec![far])[0].len() <= MAX_ID);
    }

    #[test]
    fn a_name_does_not_say_the_maker_twice() {
        let mut named = device("1", None);
        assert_eq!(named.name(), "USB device 0403:6001");
        named.manufacturer = Some("FTDI".to_owned());
        named.product_name = Some("FT232R".to_owned());
        assert_eq!(named.name(), "FTDI FT232R");
        named.product_name = Some("FTDI Cable".to_owned());
        assert_eq!(named.name(), "FTDI Cable");
    }
}
