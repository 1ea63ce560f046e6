//! A low-speed mouse with the reports of the boot protocol (HID 1.11, appendix B.2). It goes to the
//! right by one point, then by two, and so on up to a hundred, and again. A move that nobody has
//! fetched waits.

use std::time::Duration;

use myclerk::kernel::vhci::Speed;

use super::{Function, Identity};

const LONGEST: u8 = 100;

const GET_DESCRIPTOR: u8 = 0x06;
const SET_IDLE: u8 = 0x0a;
const SET_PROTOCOL: u8 = 0x0b;
const REPORT: u8 = 0x22;

/// HID 1.11, appendix E.10: three buttons, x and y.
const REPORT_DESCRIPTOR: &[u8] = &[
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00, 0x05, 0x09, 0x19, 0x01, 0x29, 0x03,
    0x15, 0x00, 0x25, 0x01, 0x95, 0x03, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x05, 0x81, 0x01,
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x15, 0x81, 0x25, 0x7f, 0x75, 0x08, 0x95, 0x02, 0x81, 0x06,
    0xc0, 0xc0,
];
const REPORT_DESCRIPTOR_BYTES: u8 = 50;

const INTERFACES: &[&[u8]] = &[
    &[9, 4, 0, 0, 1, 3, 1, 2, 0],
    &[
        9,
        0x21,
        0x11,
        0x01,
        0,
        1,
        REPORT,
        REPORT_DESCRIPTOR_BYTES,
        0,
    ],
    // endpoint 0x81, interrupt, 8 bytes every 100 frames
    &[7, 5, 0x81, 0x03, 8, 0, 100],
];

#[derive(Default)]
pub(crate) struct Mouse {
    /// How far it went last.
    last: u8,
}

impl Function for Mouse {
    fn identity(&self) -> Identity {
        Identity {
            speed: Speed::Low,
            class: [0, 0, 0],
            product: 3,
            strings: ["Lab", "Counting mouse", "LABMOUSE1"],
        }
    }

    fn interfaces(&self) -> (u8, Vec<u8>) {
        (1, INTERFACES.concat())
    }

    fn request(&mut self, setup: [u8; 8], _data: &[u8]) -> Option<Vec<u8>> {
        match setup {
            [0x81, GET_DESCRIPTOR, 0, REPORT, ..] => Some(REPORT_DESCRIPTOR.to_vec()),
            [0x21, SET_IDLE | SET_PROTOCOL, ..] => Some(vec![]),
            _ => None,
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn report(&mut self, _endpoint: u8) -> Option<Vec<u8>> {
        self.last = self.last % LONGEST + 1;
        Some(vec![0, self.last, 0])
    }
}
