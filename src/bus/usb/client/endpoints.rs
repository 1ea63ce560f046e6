//! Which kind of transfer each endpoint takes right now: the descriptors read through the current
//! configuration and alternate settings.

use core::fmt;

use crate::bus::usb::descriptor::{Descriptors, NoDevice};
use crate::bus::usb::op::{EndpointAddress, Setup, Speed};
use crate::kernel::usbfs::TransferType;

const SET_CONFIGURATION: (u8, u8) = (0x00, 9);
const SET_INTERFACE: (u8, u8) = (0x01, 11);

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

/// The endpoints of a device.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    descriptors: Descriptors,
    speed: Speed,
    configuration: u8,
    /// Interfaces that are not at alternate setting 0.
    alternates: Vec<(u8, u8)>,
    kinds: [Option<TransferType>; 32],
}

impl Endpoints {
    /// Reads the descriptors of an attach response, all interfaces at alternate setting 0.
    pub(super) fn parse(
        descriptors: &[u8],
        configuration: u8,
        speed: Speed,
    ) -> Result<Self, NoDevice> {
        let mut endpoints = Self {
            descriptors: Descriptors::parse(descriptors)?,
            speed,
            configuration,
            alternates: Vec::new(),
            kinds: [None; 32],
        };
        endpoints.select();
        Ok(endpoints)
    }

    /// The kind of transfer an endpoint takes, `None` when it does not exist in the current
    /// settings.
    pub(super) fn kind(&self, endpoint: EndpointAddress) -> Option<TransferType> {
        if endpoint.number() == 0 {
            return Some(TransferType::Control);
        }
        self.kinds.get(endpoint.index()).copied().flatten()
    }

    /// The unit of a URB's interval in microseconds: frames, or microframes from high speed on.
    pub(super) const fn interval_unit(&self) -> u32 {
        match self.speed {
            Speed::Low | Speed::Full | Speed::Unknown(_) => 1000,
            Speed::High | Speed::Super | Speed::SuperPlus | Speed::SuperPlusBy2 => 125,
        }
    }

    /// What the log calls the device.
    pub(super) const fn product(&self) -> Product {
        Product(self.descriptors.vendor, self.descriptors.product)
    }

    /// The configuration, and the alternate settings other than 0 by interface.
    pub(super) fn settings(&self) -> (u8, Vec<(u8, u8)>) {
        (self.configuration, self.alternates.clone())
    }

    /// Follows a reset: the configuration stays, every interface is back at setting 0.
    pub(super) fn reset(&mut self) {
        self.apply(Effect::Configuration(self.configuration));
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
        let Some(configuration) = self.descriptors.configuration(self.configuration) else {
            return;
        };
        let current = configuration.settings.iter().filter(|setting| {
            let alternate = self
                .alternates
                .iter()
                .find(|(interface, _)| *interface == setting.interface)
                .map_or(0, |(_, alternate)| *alternate);
            setting.alternate == alternate
        });
        for endpoint in current.flat_map(|setting| &setting.endpoints) {
            let address = EndpointAddress::from_u8(endpoint.address);
            if let Some(kind) = address.and_then(|address| self.kinds.get_mut(address.index())) {
                *kind = Some(endpoint.kind);
            }
        }
    }
}

/// idVendor and idProduct, written as `lsusb` does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product(u16, u16);

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two configurations; interface 0 of the first has an alternate setting with other endpoints.
    fn descriptors() -> Vec<u8> {
        let mut bytes = vec![18, 1, 0, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        let first: &[&[u8]] = &[
            &[9, 4, 0, 0, 1, 8, 6, 80, 0],
            &[7, 5, 0x81, 2, 0, 2, 0],
            &[9, 4, 0, 1, 1, 8, 6, 98, 0],
            &[7, 5, 0x81, 3, 8, 0, 4],
            &[7, 5, 0x02, 1, 8, 0, 4],
            &[9, 4, 1, 0, 1, 3, 0, 0, 0],
            &[9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0],
            &[7, 5, 0x83, 3, 8, 0, 10],
        ];
        let second: &[&[u8]] = &[&[9, 4, 0, 0, 1, 8, 6, 80, 0], &[7, 5, 0x04, 2, 0, 2, 0]];
        for (value, parts) in [(1, first), (2, second)] {
            let body = parts.concat();
            let total = u16::try_from(9 + body.len()).expect("short descriptors");
            let [low, high] = total.to_le_bytes();
            bytes.extend_from_slice(&[9, 2, low, high, 2, value, 0, 0x80, 50]);
            bytes.extend_from_slice(&body);
        }
        bytes.extend_from_slice(&[5, 15, 5, 0, 0]);
        bytes
    }

    fn kinds(endpoints: &Endpoints) -> Vec<(u8, TransferType)> {
        (0..=u8::MAX)
            .filter_map(EndpointAddress::from_u8)
            .filter(|endpoint| endpoint.number() != 0)
            .filter_map(|endpoint| Some((endpoint.to_u8(), endpoints.kind(endpoint)?)))
            .collect()
    }

    #[test]
    fn endpoints_follow_the_configuration_and_the_alternate_settings() {
        use TransferType::{Bulk, Interrupt, Isochronous};
        let mut endpoints = Endpoints::parse(&descriptors(), 1, Speed::High).expect("a device");
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
            Some(TransferType::Control)
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
}
