//! A full-speed USB video device, class 1.0: a camera of 64 x 64 points whose pictures are the ramp
//! of [`crate::ramp`], 32 packets each. A packet's content follows from the time, as in
//! [`super::microphone`].

use std::time::Duration;

use myclerk::kernel::vhci::Speed;

use super::{Function, Identity};
use crate::ramp;

const PACKETS_IN_PICTURE: u64 = 32;
const FRAMES_IN_PACKET: u8 = 64;

/// Every payload begins with two bytes: their number, and these bits (class 1.0, 2.4.3.3).
const HEADER_BYTES: u8 = 2;
const FRAME_ID: u8 = 1;
const END_OF_FRAME: u8 = 2;
const END_OF_HEADER: u8 = 0x80;

const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;
const SET_CUR: u8 = 0x01;

const INTERFACES: &[&[u8]] = &[
    &[8, 11, 0, 2, 0x0e, 3, 0, 0],
    // video control: camera 1 goes to USB stream 2
    &[9, 4, 0, 0, 0, 0x0e, 1, 0, 0],
    &[13, 0x24, 1, 0x00, 0x01, 39, 0, 0x40, 0x42, 0x0f, 0x00, 1, 1],
    &[17, 0x24, 2, 1, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
    &[9, 0x24, 3, 2, 0x01, 0x01, 0, 1, 0],
    // video stream: off; one format (YUY2, 16 bits a point) with one size and 32 ms a picture
    &[9, 4, 1, 0, 0, 0x0e, 2, 0, 0],
    &[14, 0x24, 1, 1, 71, 0, 0x81, 0, 2, 0, 0, 0, 1, 0],
    &[
        27, 0x24, 4, 1, 1, b'Y', b'U', b'Y', b'2', 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b,
        0x71, 16, 1, 0, 0, 0, 0,
    ],
    &[
        30, 0x24, 5, 1, 0, 64, 0, 64, 0, 0, 0, 0x1f, 0, 0, 0, 0x1f, 0, 0x00, 0x20, 0, 0, 0x00,
        0xe2, 0x04, 0, 1, 0x00, 0xe2, 0x04, 0,
    ],
    // on: endpoint 0x81, isochronous, asynchronous, 258 bytes every frame
    &[9, 4, 1, 1, 1, 0x0e, 2, 0, 0],
    &[7, 5, 0x81, 0x05, 0x02, 0x01, 1],
];

/// All that can be negotiated (class 1.0, 4.3.1.1): format 1, size 1, 32 ms, pictures of 8192 bytes,
/// payloads of 258.
const PROBE: [u8; 26] = [
    1, 0, 1, 1, 0x00, 0xe2, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x20, 0, 0, 0x02, 0x01, 0,
    0,
];

pub(crate) struct Camera;

impl Function for Camera {
    fn identity(&self) -> Identity {
        Identity {
            speed: Speed::Full,
            class: [0xef, 2, 1],
            product: 2,
            strings: ["Lab", "Ramp camera", "LABCAM1"],
        }
    }

    fn interfaces(&self) -> (u8, Vec<u8>) {
        (2, INTERFACES.concat())
    }

    /// Probe and commit of the stream; there is nothing else to control.
    fn request(&mut self, setup: [u8; 8], _data: &[u8]) -> Option<Vec<u8>> {
        let [0x21 | 0xa1, request, _, 1..=2, 1, ..] = setup else {
            return None;
        };
        match request {
            SET_CUR => Some(vec![]),
            GET_LEN => Some(vec![26, 0]),
            GET_INFO => Some(vec![3]),
            _ => Some(PROBE.to_vec()),
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn packet(&mut self, _endpoint: u8, number: u64) -> Vec<u8> {
        let (picture, part) = (number / PACKETS_IN_PICTURE, number % PACKETS_IN_PICTURE);
        let mut bits = END_OF_HEADER;
        if picture % 2 == 1 {
            bits |= FRAME_ID;
        }
        if part == PACKETS_IN_PICTURE - 1 {
            bits |= END_OF_FRAME;
        }
        let first = number * u64::from(FRAMES_IN_PACKET) + 1;
        let frames = ramp::frames(first, FRAMES_IN_PACKET.into());
        [&[HEADER_BYTES, bits][..], &frames].concat()
    }
}
