//! How a device describes itself, and the descriptors of that (USB 2.0, 9.6).

pub use crate::bus::usb::descriptor::{Endpoint, Setting};
use crate::bus::usb::op::Speed;
use crate::kernel::usbfs::TransferType;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;

/// The value of the only configuration.
pub(super) const CONFIGURED: u8 = 1;
/// US English, the only language.
const LANGUAGE: u16 = 0x0409;
/// bmAttributes: the device has its own power, and cannot wake the host.
const SELF_POWERED: u8 = 0xC0;
/// Most UTF-16 units of a string descriptor.
const MAX_UNITS: usize = 126;

/// A device with one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// bcdDevice: its own version.
    pub release: u16,
    /// Low, full or high.
    pub speed: Speed,
    /// bDeviceClass, bDeviceSubClass, bDeviceProtocol.
    pub class: [u8; 3],
    /// The names of its maker and of itself, and its serial number, cut off after 126 UTF-16 units.
    pub strings: [String; 3],
    /// Alternate settings of interfaces, in order.
    pub settings: Vec<Setting>,
}

impl Description {
    /// The device descriptor with that of the configuration behind it.
    pub(super) fn descriptors(&self) -> Vec<u8> {
        let mut bytes = self.device();
        bytes.extend(self.configuration());
        bytes
    }

    /// The descriptor that `GET_DESCRIPTOR` asks for by `wValue`.
    pub(super) fn descriptor(&self, value: u16) -> Option<Vec<u8>> {
        let [index, kind] = value.to_le_bytes();
        match (kind, index) {
            (DEVICE, 0) => Some(self.device()),
            (CONFIGURATION, 0) => Some(self.configuration()),
            (STRING, 0) => Some(string(&[LANGUAGE])),
            (STRING, _) => {
                let text = self.strings.get(usize::from(index) - 1)?;
                let units: Vec<u16> = text.encode_utf16().take(MAX_UNITS).collect();
                Some(string(&units))
            }
            _ => None,
        }
    }

    fn device(&self) -> Vec<u8> {
        let mut bytes = vec![18, DEVICE];
        bytes.extend(0x0200u16.to_le_bytes());
        bytes.extend(self.class);
        // The largest packet of endpoint 0: what low speed allows, or all others.
        bytes.push(if self.speed == Speed::Low { 8 } else { 64 });
        for field in [self.vendor, self.product, self.release] {
            bytes.extend(field.to_le_bytes());
        }
        // The numbers of the strings, and of configurations.
        bytes.extend([1, 2, 3, 1]);
        bytes
    }

    fn configuration(&self) -> Vec<u8> {
        let mut settings = Vec::new();
        for setting in &self.settings {
            let endpoints = u8::try_from(setting.endpoints.len()).unwrap_or(u8::MAX);
            settings.extend([
                9,
                INTERFACE,
                setting.interface,
                setting.alternate,
                endpoints,
            ]);
            settings.extend(setting.class);
            settings.push(0);
            for endpoint in &setting.endpoints {
                settings.extend([7, ENDPOINT, endpoint.address, attributes(endpoint.kind)]);
                settings.extend(endpoint.max_packet.to_le_bytes());
                settings.push(endpoint.interval);
            }
        }
        let total = u16::try_from(9 + settings.len()).unwrap_or(u16::MAX);
        let interfaces = self
            .settings
            .iter()
            .filter(|setting| setting.alternate == 0);
        let interfaces = u8::try_from(interfaces.count()).unwrap_or(u8::MAX);
        let mut bytes = vec![9, CONFIGURATION];
        bytes.extend(total.to_le_bytes());
        bytes.extend([interfaces, CONFIGURED, 0, SELF_POWERED, 0]);
        bytes.extend(settings);
        bytes
    }

    /// Whether there is such a setting.
    pub(super) fn has(&self, interface: u8, alternate: u8) -> bool {
        self.settings
            .iter()
            .any(|setting| (setting.interface, setting.alternate) == (interface, alternate))
    }
}

const fn attributes(kind: TransferType) -> u8 {
    match kind {
        TransferType::Control => 0,
        TransferType::Isochronous => 1,
        TransferType::Bulk => 2,
        TransferType::Interrupt => 3,
    }
}

fn string(units: &[u16]) -> Vec<u8> {
    let length = 2 + units.len() * 2;
    let mut bytes = vec![u8::try_from(length).unwrap_or(u8::MAX), STRING];
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::usb::descriptor::Descriptors;

    fn description() -> Description {
        Description {
            vendor: 0x0403,
            product: 0xC631,
            release: 0x0205,
            speed: Speed::Full,
            class: [0xFF, 0, 0],
            strings: ["maker".to_owned(), "x".repeat(300), "1".to_owned()],
            settings: vec![
                Setting {
                    interface: 0,
                    alternate: 0,
                    class: [0xFF, 1, 2],
                    endpoints: Vec::new(),
                },
                Setting {
                    interface: 0,
                    alternate: 3,
                    class: [0xFF, 1, 2],
                    endpoints: vec![Endpoint {
                        address: 0x81,
                        kind: TransferType::Interrupt,
                        max_packet: 16,
                        interval: 10,
                    }],
                },
            ],
        }
    }

    #[test]
    fn descriptors_say_what_the_description_says() {
        let description = description();
        let read = Descriptors::parse(&description.descriptors()).unwrap();
        assert_eq!(
            (read.vendor, read.product, read.release, read.class),
            (0x0403, 0xC631, 0x0205, [0xFF, 0, 0])
        );
        let [configuration] = &*read.configurations else {
            panic!("one configuration");
        };
        assert_eq!(configuration.value, CONFIGURED);
        let [_, active] = &*configuration.settings else {
            panic!("two settings");
        };
        assert_eq!((active.interface, active.alternate), (0, 3));
        let endpoint = active.endpoints.first().unwrap();
        assert_eq!((endpoint.address, endpoint.max_packet), (0x81, 16));
        assert_eq!(endpoint.kind, TransferType::Interrupt);
        assert_eq!(description.configuration().get(4), Some(&1));
    }

    #[test]
    fn strings_are_utf_16_and_no_longer_than_a_descriptor() {
        let description = description();
        assert_eq!(description.descriptor(0x0300), Some(vec![4, 3, 9, 4]));
        let maker = description.descriptor(0x0301).unwrap();
        assert_eq!(maker, b"\x0C\x03m\0a\0k\0e\0r\0");
        assert_eq!(description.descriptor(0x0302).unwrap().len(), 254);
        assert_eq!(description.descriptor(0x0304), None);
        assert_eq!(description.descriptor(0x0600), None);
    }
}
