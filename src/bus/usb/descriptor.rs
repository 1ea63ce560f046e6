//! A bounded reader of device and configuration descriptors (USB 2.0, 9.6): which endpoints the
//! device really has. Everything a peer asks for is checked against this.

use std::collections::BTreeSet;

use crate::kernel::usbfs::TransferType;

/// Most configurations of a device (kernel `USB_MAXCONFIG`, drivers/usb/core/config.c). What is
/// beyond this and the other three is left out, as the kernel leaves it out.
pub const MAX_CONFIGURATIONS: usize = 8;
/// Most interfaces of a configuration (kernel `USB_MAXINTERFACES`).
pub const MAX_INTERFACES: usize = 32;
/// Most alternate settings of an interface (kernel `USB_MAXALTSETTING`).
pub const MAX_SETTINGS: usize = 128;
/// Most endpoints of an alternate setting: 15 in each direction (kernel `USB_MAXENDPOINTS`).
pub const MAX_ENDPOINTS: usize = 30;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;

/// Interface class of hubs.
pub const CLASS_HUB: u8 = 0x09;
/// Interface class of printers.
pub const CLASS_PRINTER: u8 = 0x07;

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// bcdUSB: the version of USB it follows.
    pub usb: u16,
    /// bDeviceClass, bDeviceSubClass, bDeviceProtocol.
    pub class: [u8; 3],
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// bcdDevice: the device's own version.
    pub release: u16,
    /// In the order of the device.
    pub configurations: Vec<Configuration>,
}

/// One configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// bConfigurationValue.
    pub value: u8,
    /// Every alternate setting of every interface, in the order of the device.
    pub settings: Vec<Setting>,
}

/// One alternate setting of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// bInterfaceNumber.
    pub interface: u8,
    /// bAlternateSetting.
    pub alternate: u8,
    /// bInterfaceClass, bInterfaceSubClass, bInterfaceProtocol.
    pub class: [u8; 3],
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// bEndpointAddress: the number, with 0x80 for IN.
    pub address: u8,
    /// The transfer type of bmAttributes.
    pub kind: TransferType,
    /// wMaxPacketSize as it stands, with the multiplier bits of high-speed endpoints.
    pub max_packet: u16,
    /// bInterval.
    pub interval: u8,
}

/// The bytes do not start with a device descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device descriptor")]
pub struct NoDevice;

impl Descriptors {
    /// Reads a device descriptor followed by configuration descriptors, as usbfs gives them.
    ///
    /// What is damaged or cut off behind the device descriptor is left out, as the kernel leaves
    /// it out: an endpoint that is not found cannot be used. Of two alternate settings with the same
    /// numbers the first counts. Takes time and memory in proportion to the bytes.
    ///
    /// # Errors
    /// [`NoDevice`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoDevice> {
        let Some((
            [
                _,
                DEVICE,
                usb0,
                usb1,
                class @ ..,
                _,
                vendor0,
                vendor1,
                product0,
                product1,
                release0,
                release1,
                _,
                _,
                _,
                count,
            ],
            mut rest,
        )) = bytes.split_first_chunk::<18>()
        else {
            return Err(NoDevice);
        };
        // usbfs gives 18 bytes whatever bLength says.
        let mut configurations = Vec::new();
        while configurations.len() < usize::from(*count).min(MAX_CONFIGURATIONS) {
            let Some((configuration, behind)) = Configuration::split(rest) else {
                break;
            };
            configurations.push(configuration);
            rest = behind;
        }
        Ok(Self {
            usb: u16::from_le_bytes([*usb0, *usb1]),
            class: *class,
            vendor: u16::from_le_bytes([*vendor0, *vendor1]),
            product: u16::from_le_bytes([*product0, *product1]),
            release: u16::from_le_bytes([*release0, *release1]),
            configurations,
        })
    }

    /// The configuration of that value.
    pub fn configuration(&self, value: u8) -> Option<&Configuration> {
        self.configurations
            .iter()
            .find(|configuration| configuration.value == value)
    }
}

impl Configuration {
    /// The configuration at the start of the bytes and what stands behind it.
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, _) = bytes.split_first_chunk::<9>()?;
        let [_, CONFIGURATION, total0, total1, _, value, ..] = *header else {
            return None;
        };
        let total = usize::from(u16::from_le_bytes([total0, total1])).max(header.len());
        let (body, behind) = bytes.split_at_checked(total).unwrap_or((bytes, &[]));
        Some((Self::read(value, body), behind))
    }

    fn read(value: u8, body: &[u8]) -> Self {
        let mut settings = Settings::default();
        for descriptor in walk(body) {
            match *descriptor {
                [
                    _,
                    INTERFACE,
                    interface,
                    alternate,
                    _,
                    class,
                    subclass,
                    protocol,
                    ..,
                ] => settings.begin(Setting {
                    interface,
                    alternate,
                    class: [class, subclass, protocol],
                    endpoints: Vec::new(),
                }),
                [
                    _,
                    ENDPOINT,
                    address,
                    attributes,
                    packet0,
                    packet1,
                    interval,
                    ..,
                ] => settings.add(Endpoint {
                    address,
                    kind: kind_of(attributes),
                    max_packet: u16::from_le_bytes([packet0, packet1]),
                    interval,
                }),
                _ => {}
            }
        }
        Self {
            value,
            settings: settings.found,
        }
    }

    /// The numbers of the interfaces, ascending.
    pub fn interfaces(&self) -> Vec<u8> {
        let mut numbers: Vec<u8> = self.settings.iter().map(|s| s.interface).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// One alternate setting.
    pub fn setting(&self, interface: u8, alternate: u8) -> Option<&Setting> {
        self.settings
            .iter()
            .find(|s| s.interface == interface && s.alternate == alternate)
    }
}

impl Setting {
    /// The endpoint of that address.
    pub fn endpoint(&self, address: u8) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.address == address)
    }
}

/// The settings of a configuration while they are read.
#[derive(Default)]
struct Settings {
    found: Vec<Setting>,
    names: BTreeSet<(u8, u8)>,
    interfaces: BTreeSet<u8>,
    /// The last one counts, and its endpoints with it.
    open: bool,
}

impl Settings {
    fn begin(&mut self, setting: Setting) {
        let interface = setting.interface;
        let known = self.interfaces.contains(&interface);
        let room = known || self.interfaces.len() < MAX_INTERFACES;
        let settings = self.names.range((interface, 0)..=(interface, u8::MAX));
        let name = (interface, setting.alternate);
        self.open = room && settings.count() < MAX_SETTINGS && self.names.insert(name);
        if self.open {
            self.interfaces.insert(interface);
            self.found.push(setting);
        }
    }

    fn add(&mut self, endpoint: Endpoint) {
        let address = endpoint.address;
        let exists = address & 0x70 == 0 && address & 0x0f != 0;
        let Some(setting) = self.found.last_mut().filter(|_| self.open && exists) else {
            return;
        };
        if setting.endpoints.len() < MAX_ENDPOINTS && setting.endpoint(address).is_none() {
            setting.endpoints.push(endpoint);
        }
    }
}

const fn kind_of(attributes: u8) -> TransferType {
    match attributes & 0x03 {
        0 => TransferType::Control,
        1 => TransferType::Isochronous,
        2 => TransferType::Bulk,
        _ => TransferType::Interrupt,
    }
}

/// The descriptors of a configuration one by one, until one is cut off or shorter than its header.
fn walk(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let length = usize::from(*bytes.first()?);
        if length < 2 {
            return None;
        }
        let (descriptor, behind) = bytes.split_at_checked(length)?;
        bytes = behind;
        Some(descriptor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A full-speed FTDI adapter: one vendor interface, a bulk pair.
    const FTDI: [u8; 50] = [
        18, 1, 0x00, 0x02, 0, 0, 0, 8, 0x03, 0x04, 0x01, 0x60, 0x00, 0x04, 1, 2, 3,
        1, // device
        9, 2, 32, 0, 1, 1, 0, 0xa0, 45, // configuration
        9, 4, 0, 0, 2, 0xff, 0xff, 0xff, 2, // interface
        7, 5, 0x81, 2, 64, 0, 0, 7, 5, 0x02, 2, 64, 0, 0, // endpoints
    ];

    #[test]
    fn a_serial_adapter_is_read_whole() {
        let device = Descriptors::parse(&FTDI).unwrap();
        assert_eq!((device.vendor, device.product), (0x0403, 0x6001));
        assert_eq!((device.usb, device.release), (0x0200, 0x0400));
        let configuration = device.configuration(1).unwrap();
        assert_eq!(configuration.interfaces(), [0]);
        let setting = configuration.setting(0, 0).unwrap();
        assert_eq!(setting.class, [0xff; 3]);
        let endpoint = setting.endpoint(0x81).unwrap();
        assert_eq!(
            (endpoint.kind, endpoint.max_packet),
            (TransferType::Bulk, 64)
        );
        assert!(setting.endpoint(0x01).is_none());
        assert!(device.configuration(0).is_none());
    }

    #[test]
    fn every_cut_of_the_bytes_leaves_only_what_is_whole() {
        for cut in 0..FTDI.len() {
            match Descriptors::parse(&FTDI[..cut]) {
                Err(NoDevice) => assert!(cut < 18),
                Ok(device) => {
                    let endpoints = device
                        .configurations
                        .iter()
                        .flat_map(|c| &c.settings)
                        .map(|s| s.endpoints.len())
                        .sum::<usize>();
                    assert!(endpoints < 2, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn an_endpoint_zero_a_reserved_address_and_a_repetition_are_left_out() {
        let mut bytes = FTDI;
        bytes[38] = 0x80;
        bytes[45] = 0x32;
        let device = Descriptors::parse(&bytes).unwrap();
        assert_eq!(device.configurations[0].settings[0].endpoints, []);
        bytes[38] = 0x81;
        bytes[45] = 0x81;
        let device = Descriptors::parse(&bytes).unwrap();
        assert_eq!(device.configurations[0].settings[0].endpoints.len(), 1);
    }

    #[test]
    fn a_descriptor_of_length_zero_ends_the_walk() {
        let mut bytes = FTDI;
        bytes[27] = 0;
        let device = Descriptors::parse(&bytes).unwrap();
        assert_eq!(device.configurations[0].settings, []);
    }

    /// The device descriptor with a configuration of these descriptors.
    fn device_with(body: &[u8]) -> Vec<u8> {
        let [low, high] = u16::try_from(9 + body.len()).unwrap().to_le_bytes();
        let header = [9, 2, low, high, 1, 1, 0, 0x80, 50];
        [&FTDI[..18], &header, body].concat()
    }

    #[test]
    fn no_more_is_read_than_the_kernel_reads() {
        let mut body = Vec::new();
        for interface in 0..40 {
            for alternate in 0..150 {
                body.extend([9, 4, interface, alternate, 1, 0xff, 0, 0, 0]);
            }
        }
        for address in 0..=u8::MAX {
            body.extend([7, 5, address, 2, 64, 0, 0]);
        }
        let device = Descriptors::parse(&device_with(&body)).unwrap();
        let settings = &device.configurations[0].settings;
        assert_eq!(settings.len(), MAX_INTERFACES * MAX_SETTINGS);
        assert!(settings.iter().all(|setting| setting.endpoints.is_empty()));
        let body = body.split_off(39 * 150 * 9 + 149 * 9);
        let device = Descriptors::parse(&device_with(&body)).unwrap();
        let setting = device.configurations[0].setting(39, 149).unwrap();
        assert_eq!(setting.endpoints.len(), MAX_ENDPOINTS);
    }

    #[test]
    fn of_two_settings_with_the_same_numbers_the_first_counts() {
        let body = [
            9, 4, 0, 0, 1, 0xff, 0, 0, 0, 7, 5, 0x81, 2, 64, 0, 0, // the first
            9, 4, 0, 0, 1, 3, 0, 0, 0, 7, 5, 0x82, 2, 64, 0, 0, // again
            9, 4, 0, 1, 0, 3, 0, 0, 0,
        ];
        let device = Descriptors::parse(&device_with(&body)).unwrap();
        let settings = &device.configurations[0].settings;
        assert_eq!(settings.len(), 2);
        assert_eq!(settings[0].class, [0xff, 0, 0]);
        assert!(settings[0].endpoint(0x82).is_none());
    }

    #[test]
    fn a_device_descriptor_has_18_bytes_whatever_it_says() {
        for length in [0, 1, 17, 255] {
            let mut bytes = FTDI;
            bytes[0] = length;
            let device = Descriptors::parse(&bytes).unwrap();
            assert_eq!(device.configurations.len(), 1);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Descriptors::parse(&bytes);
        }

        #[test]
        fn arbitrary_bytes_behind_a_device_descriptor_never_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut bytes = FTDI[..18].to_vec();
            bytes[17] = 255;
            bytes.extend(tail);
            let device = Descriptors::parse(&bytes).unwrap();
            prop_assert!(device.configurations.len() <= MAX_CONFIGURATIONS);
        }

        #[test]
        fn damaged_descriptors_never_panic(at in 0usize..50, value in any::<u8>()) {
            let mut bytes = FTDI;
            bytes[at] = value;
            let _ = Descriptors::parse(&bytes);
        }
    }
}
