//! Which kind of transfer each endpoint takes right now: the descriptors read through the current
//! configuration and alternate settings.

use crate::bus::usb::op::{EndpointAddress, Setup};

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;

const SET_CONFIGURATION: (u8, u8) = (0x00, 9);
const SET_INTERFACE: (u8, u8) = (0x01, 11);

/// `bmAttributes` bits 0–1 of an endpoint (USB 2.0 table 9-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferKind {
    Control,
    Isochronous,
    Bulk,
    Interrupt,
}

impl TransferKind {
    const fn from_attributes(attributes: u8) -> Self {
        match attributes & 3 {
            0 => Self::Control,
            1 => Self::Isochronous,
            2 => Self::Bulk,
            3.. => Self::Interrupt,
        }
    }
}

/// What a control request changes here once the device has accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Configuration(u8),
    Alternate { interface: u8, alternate: u8 },
}

impl Effect {
    /// The effect of a request on the default control endpoint (USB 2.0 section 9.4).
    pub(super) const fn of(setup: Setup) -> Self {
        let [value, _] = setup.value.to_le_bytes();
        let [interface, _] = setup.index.to_le_bytes();
        match (setup.request_type, setup.request) {
            SET_CONFIGURATION => Self::Configuration(value),
            SET_INTERFACE => Self::Alternate {
                interface,
                alternate: value,
            },
            _ => Self::Nothing,
        }
    }
}

/// One alternate setting of one interface of one configuration.
#[derive(Clone, Debug)]
struct Setting {
    configuration: u8,
    interface: u8,
    alternate: u8,
    endpoints: Vec<(EndpointAddress, TransferKind)>,
}

/// The endpoints of a device.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    settings: Vec<Setting>,
    configuration: u8,
    /// Interfaces that are not at alternate setting 0.
    alternates: Vec<(u8, u8)>,
    kinds: [Option<TransferKind>; 32],
}

impl Endpoints {
    /// Reads the descriptors of an attach response, all interfaces at alternate setting 0. `None`
    /// when they do not begin with a device descriptor; whatever is malformed behind it has no
    /// endpoints.
    pub(super) fn parse(descriptors: &[u8], configuration: u8) -> Option<Self> {
        let (device, mut rest) = take_descriptor(descriptors)?;
        if device.len() < 18 || device.get(1) != Some(&DEVICE) {
            return None;
        }
        let mut settings = Vec::new();
        while let Some((descriptor, behind)) = take_descriptor(rest) {
            rest = match descriptor {
                [_, CONFIGURATION, low, high, _, value, ..] => {
                    let total = usize::from(u16::from_le_bytes([*low, *high]));
                    let total = total.clamp(descriptor.len(), rest.len());
                    let (body, next) = rest.split_at(total);
                    read_configuration(*value, body, &mut settings);
                    next
                }
                _ => behind,
            };
        }
        let mut endpoints = Self {
            settings,
            configuration,
            alternates: Vec::new(),
            kinds: [None; 32],
        };
        endpoints.select();
        Some(endpoints)
    }

    /// The kind of transfer an endpoint takes, `None` when it does not exist in the current
    /// settings.
    pub(super) fn kind(&self, endpoint: EndpointAddress) -> Option<TransferKind> {
        if endpoint.number() == 0 {
            return Some(TransferKind::Control);
        }
        self.kinds.get(endpoint.index()).copied().flatten()
    }

    /// Follows a control request that the device accepted.
    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => return,
            Effect::Configuration(value) => {
                self.configuration = value;
                self.alternates.clear();
            }
            Effect::Alternate {
                interface,
                alternate,
            } => {
                self.alternates.retain(|(known, _)| *known != interface);
                if alternate != 0 {
                    self.alternates.push((interface, alternate));
                }
            }
        }
        self.select();
    }

    fn select(&mut self) {
        self.kinds = [None; 32];
        for setting in &self.settings {
            let alternate = self
                .alternates
                .iter()
                .find(|(interface, _)| *interface == setting.interface)
                .map_or(0, |(_, alternate)| *alternate);
            if setting.configuration != self.configuration || setting.alternate != alternate {
                continue;
            }
            for (endpoint, kind) in &setting.endpoints {
                if let Some(slot) = self.kinds.get_mut(endpoint.index()) {
                    *slot = Some(*kind);
                }
            }
        }
    }
}

fn read_configuration(value: u8, mut rest: &[u8], settings: &mut Vec<Setting>) {
    let first = settings.len();
    while let Some((descriptor, behind)) = take_descriptor(rest) {
        rest = behind;
        match descriptor {
            [_, INTERFACE, interface, alternate, ..] => settings.push(Setting {
                configuration: value,
                interface: *interface,
                alternate: *alternate,
                endpoints: Vec::new(),
            }),
            [_, ENDPOINT, address, attributes, ..] => {
                let endpoint = EndpointAddress::from_u8(*address);
                let kind = TransferKind::from_attributes(*attributes);
                // An endpoint before the first interface of its configuration belongs to none.
                let setting = settings.get_mut(first..).and_then(<[_]>::last_mut);
                if let (Some(endpoint), Some(setting)) = (endpoint, setting) {
                    setting.endpoints.push((endpoint, kind));
                }
            }
            _ => {}
        }
    }
}

/// The descriptor at the front and what follows it; `None` at the end and at a length that leads
/// nowhere.
fn take_descriptor(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match usize::from(*bytes.first()?) {
        0 | 1 => None,
        length => bytes.split_at_checked(length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two configurations; interface 0 of the first has an alternate setting with other endpoints.
    fn descriptors() -> Vec<u8> {
        let mut bytes = vec![18, DEVICE];
        bytes.resize(18, 0);
        let first: &[&[u8]] = &[
            &[9, INTERFACE, 0, 0, 1, 8, 6, 80, 0],
            &[7, ENDPOINT, 0x81, 2, 0, 2, 0],
            &[9, INTERFACE, 0, 1, 1, 8, 6, 98, 0],
            &[7, ENDPOINT, 0x81, 3, 8, 0, 4],
            &[7, ENDPOINT, 0x02, 1, 8, 0, 4],
            &[9, INTERFACE, 1, 0, 1, 3, 0, 0, 0],
            &[9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0],
            &[7, ENDPOINT, 0x83, 3, 8, 0, 10],
        ];
        let second: &[&[u8]] = &[
            &[9, INTERFACE, 0, 0, 1, 8, 6, 80, 0],
            &[7, ENDPOINT, 0x04, 2, 0, 2, 0],
        ];
        for (value, parts) in [(1, first), (2, second)] {
            let body = parts.concat();
            let total = u16::try_from(9 + body.len()).expect("short descriptors");
            let [low, high] = total.to_le_bytes();
            bytes.extend_from_slice(&[9, CONFIGURATION, low, high, 2, value, 0, 0x80, 50]);
            bytes.extend_from_slice(&body);
        }
        bytes.extend_from_slice(&[5, 15, 5, 0, 0]);
        bytes
    }

    fn kinds(endpoints: &Endpoints) -> Vec<(u8, TransferKind)> {
        (0..=u8::MAX)
            .filter_map(EndpointAddress::from_u8)
            .filter(|endpoint| endpoint.number() != 0)
            .filter_map(|endpoint| Some((endpoint.to_u8(), endpoints.kind(endpoint)?)))
            .collect()
    }

    #[test]
    fn endpoints_follow_the_configuration_and_the_alternate_settings() {
        use TransferKind::{Bulk, Interrupt, Isochronous};
        let mut endpoints = Endpoints::parse(&descriptors(), 1).expect("a device");
        assert_eq!(kinds(&endpoints), [(0x81, Bulk), (0x83, Interrupt)]);
        endpoints.apply(Effect::Alternate {
            interface: 0,
            alternate: 1,
        });
        assert_eq!(
            kinds(&endpoints),
            [(0x02, Isochronous), (0x81, Interrupt), (0x83, Interrupt)]
        );
        endpoints.apply(Effect::Configuration(1));
        assert_eq!(kinds(&endpoints), [(0x81, Bulk), (0x83, Interrupt)]);
        endpoints.apply(Effect::Configuration(2));
        assert_eq!(kinds(&endpoints), [(0x04, Bulk)]);
        endpoints.apply(Effect::Configuration(0));
        assert_eq!(kinds(&endpoints), []);
        assert_eq!(
            endpoints.kind(EndpointAddress::CONTROL),
            Some(TransferKind::Control)
        );
    }

    #[test]
    fn only_the_two_standard_requests_have_an_effect() {
        let effect = |bytes| Effect::of(Setup::from_bytes(bytes));
        assert_eq!(
            effect([0x00, 9, 2, 0, 0, 0, 0, 0]),
            Effect::Configuration(2)
        );
        assert_eq!(
            effect([0x01, 11, 1, 0, 3, 0, 0, 0]),
            Effect::Alternate {
                interface: 3,
                alternate: 1
            }
        );
        for other in [[0x21, 9, 2, 0, 0, 0, 0, 0], [0x02, 1, 0, 0, 0x81, 0, 0, 0]] {
            assert_eq!(effect(other), Effect::Nothing);
        }
    }

    #[test]
    fn without_a_device_descriptor_there_is_no_device() {
        assert!(Endpoints::parse(&[], 1).is_none());
        assert!(Endpoints::parse(&[18, 1, 0], 1).is_none());
        assert!(Endpoints::parse(&[9; 18], 1).is_none());
    }

    #[test]
    fn a_broken_configuration_loses_only_its_own_endpoints() {
        let mut bytes = descriptors();
        // The first interface descriptor claims no length.
        bytes[27] = 0;
        let mut endpoints = Endpoints::parse(&bytes, 1).expect("a device");
        assert_eq!(kinds(&endpoints), []);
        endpoints.apply(Effect::Configuration(2));
        assert_eq!(kinds(&endpoints), [(0x04, TransferKind::Bulk)]);
    }

    proptest! {
        #[test]
        fn any_descriptors_are_read_to_an_end(
            tail in proptest::collection::vec(0u8..12, 0..200),
            configuration in any::<u8>(),
        ) {
            let mut bytes = vec![18, DEVICE];
            bytes.resize(18, 0);
            bytes.extend_from_slice(&tail);
            prop_assert!(Endpoints::parse(&bytes, configuration).is_some());
        }
    }
}
