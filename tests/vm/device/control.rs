//! Endpoint 0: the standard requests (USB 2.0, 9.4). `SET_ADDRESS` does not come, vhci keeps it.

use myclerk::kernel::vhci::Speed;

use super::{Function, Identity};

const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const SET_CONFIGURATION: u8 = 9;
const GET_INTERFACE: u8 = 10;
const SET_INTERFACE: u8 = 11;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const ENGLISH: [u8; 4] = [4, STRING, 0x09, 0x04];

const VENDOR: u16 = 0x1209;

const MAX_INTERFACES: usize = 8;

#[derive(Default)]
pub(super) struct State {
    configuration: u8,
    settings: [u8; MAX_INTERFACES],
}

impl State {
    /// The data stage, empty for a request without one; `None` is a stall.
    pub(super) fn answer(
        &mut self,
        function: &mut dyn Function,
        setup: [u8; 8],
        data: &[u8],
    ) -> Option<Vec<u8>> {
        let [kind, request, value, value_high, index, ..] = setup;
        if kind & 0x60 != 0 {
            return function.request(setup, data);
        }
        match request {
            GET_STATUS => Some(vec![0, 0]),
            CLEAR_FEATURE | SET_FEATURE => Some(vec![]),
            GET_DESCRIPTOR => {
                descriptor(function, value_high, value).or_else(|| function.request(setup, data))
            }
            GET_CONFIGURATION => Some(vec![self.configuration]),
            SET_CONFIGURATION => {
                *self = Self {
                    configuration: value,
                    ..Self::default()
                };
                Some(vec![])
            }
            GET_INTERFACE => Some(vec![*self.settings.get(usize::from(index))?]),
            SET_INTERFACE => {
                *self.settings.get_mut(usize::from(index))? = value;
                Some(vec![])
            }
            _ => None,
        }
    }
}

fn descriptor(function: &dyn Function, kind: u8, index: u8) -> Option<Vec<u8>> {
    match (kind, index) {
        (DEVICE, 0) => Some(device(&function.identity())),
        (CONFIGURATION, 0) => Some(configuration(function)),
        (STRING, 0) => Some(ENGLISH.to_vec()),
        (STRING, number) => {
            let strings = function.identity().strings;
            let text = strings.get(usize::from(number) - 1)?;
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            let mut bytes = vec![0, STRING];
            bytes.extend(units);
            *bytes.first_mut()? = u8::try_from(bytes.len()).ok()?;
            Some(bytes)
        }
        _ => None,
    }
}

/// Version 1.0 of the device, with three strings and one configuration.
fn device(identity: &Identity) -> Vec<u8> {
    let usb: u16 = if identity.speed == Speed::High {
        0x0200
    } else {
        0x0110
    };
    let [usb_low, usb_high] = usb.to_le_bytes();
    let packet = if identity.speed == Speed::Low { 8 } else { 64 };
    let [class, subclass, protocol] = identity.class;
    let (vendor, product) = (VENDOR.to_le_bytes(), identity.product.to_le_bytes());
    [
        &[
            18, DEVICE, usb_low, usb_high, class, subclass, protocol, packet,
        ][..],
        &vendor,
        &product,
        &[0x00, 0x01, 1, 2, 3, 1],
    ]
    .concat()
}

/// Bus-powered with 100 mA.
fn configuration(function: &dyn Function) -> Vec<u8> {
    let (count, descriptors) = function.interfaces();
    let length = u16::try_from(9 + descriptors.len()).unwrap_or(u16::MAX);
    let [low, high] = length.to_le_bytes();
    let own = [9, CONFIGURATION, low, high, count, 1, 0, 0x80, 50];
    [&own[..], &descriptors].concat()
}
