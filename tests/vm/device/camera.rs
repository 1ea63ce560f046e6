//! A USB video device, class 1.0: a camera whose pictures are the ramp of [`crate::ramp`], one every
//! 32 ms. A packet's content follows from the time, as in [`super::microphone`].
//!
//! At full speed it sends a packet in every frame, at high speed in every eighth microframe: in the
//! others it has nothing to say.

use std::time::Duration;

use myclerk::kernel::vhci::Speed;

use super::{Function, Identity};
use crate::ramp;

const PACKETS_IN_PICTURE: u16 = 32;
const MS_IN_PICTURE: u32 = 32;

/// Every payload begins with two bytes: their number, and these bits (class 1.0, 2.4.3.3).
const HEADER_BYTES: u8 = 2;
const FRAME_ID: u8 = 1;
const END_OF_FRAME: u8 = 2;
const END_OF_HEADER: u8 = 0x80;

const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;
const SET_CUR: u8 = 0x01;

/// Up to the stream's only format, YUY2 of 16 bits a point.
const CONTROL: &[&[u8]] = &[
    &[8, 11, 0, 2, 0x0e, 3, 0, 0],
    // video control: camera 1 goes to USB stream 2
    &[9, 4, 0, 0, 0, 0x0e, 1, 0, 0],
    &[13, 0x24, 1, 0x00, 0x01, 39, 0, 0x40, 0x42, 0x0f, 0x00, 1, 1],
    &[17, 0x24, 2, 1, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
    &[9, 0x24, 3, 2, 0x01, 0x01, 0, 1, 0],
    // video stream: off
    &[9, 4, 1, 0, 0, 0x0e, 2, 0, 0],
    &[14, 0x24, 1, 1, 71, 0, 0x81, 0, 2, 0, 0, 0, 1, 0],
    &[
        27, 0x24, 4, 1, 1, b'Y', b'U', b'Y', b'2', 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b,
        0x71, 16, 1, 0, 0, 0, 0,
    ],
];

/// What its speed decides.
pub(crate) struct Camera {
    speed: Speed,
    serial: &'static str,
    /// Points of two bytes.
    width: u16,
    height: u16,
    /// Of the ramp, in one packet: `PACKETS_IN_PICTURE` times as many are a picture.
    frames_in_packet: u16,
    max_packet: u16,
    interval: Duration,
    /// From one packet to the next; those between are empty.
    intervals: u16,
}

impl Camera {
    pub(crate) const FULL_SPEED: Self = Self {
        speed: Speed::Full,
        serial: "LABCAM1",
        width: 64,
        height: 64,
        frames_in_packet: 64,
        max_packet: 258,
        interval: Duration::from_millis(1),
        intervals: 1,
    };

    pub(crate) const HIGH_SPEED: Self = Self {
        speed: Speed::High,
        serial: "LABCAM2",
        width: 160,
        height: 102,
        frames_in_packet: 255,
        max_packet: 1024,
        interval: Duration::from_micros(125),
        intervals: 8,
    };

    /// Bytes.
    fn picture(&self) -> u32 {
        u32::from(self.width) * u32::from(self.height) * 2
    }

    /// Bytes of the longest packet.
    fn payload(&self) -> u32 {
        u32::from(HEADER_BYTES) + u32::from(self.frames_in_packet) * 4
    }

    /// In units of 100 ns.
    fn frame_interval() -> [u8; 4] {
        (MS_IN_PICTURE * 10_000).to_le_bytes()
    }

    fn size_descriptor(&self) -> Vec<u8> {
        let bits_per_second = (self.picture() * 8 / MS_IN_PICTURE * 1000).to_le_bytes();
        [
            &[30, 0x24, 5, 1, 0][..],
            &self.width.to_le_bytes(),
            &self.height.to_le_bytes(),
            &bits_per_second,
            &bits_per_second,
            &self.picture().to_le_bytes(),
            &Self::frame_interval(),
            &[1],
            &Self::frame_interval(),
        ]
        .concat()
    }

    /// The stream's second setting: endpoint 0x81, isochronous, asynchronous, in every interval.
    fn stream_setting(&self) -> Vec<u8> {
        let [low, high] = self.max_packet.to_le_bytes();
        [
            &[9, 4, 1, 1, 1, 0x0e, 2, 0, 0][..],
            &[7, 5, 0x81, 0x05, low, high, 1],
        ]
        .concat()
    }

    /// All that can be negotiated (class 1.0, 4.3.1.1).
    fn probe(&self) -> Vec<u8> {
        [
            &[1, 0, 1, 1][..],
            &Self::frame_interval(),
            &[0; 10],
            &self.picture().to_le_bytes(),
            &self.payload().to_le_bytes(),
        ]
        .concat()
    }
}

impl Function for Camera {
    fn identity(&self) -> Identity {
        Identity {
            speed: self.speed,
            class: [0xef, 2, 1],
            product: 2,
            strings: ["Lab", "Ramp camera", self.serial],
        }
    }

    fn interfaces(&self) -> (u8, Vec<u8>) {
        let descriptors = [
            CONTROL.concat(),
            self.size_descriptor(),
            self.stream_setting(),
        ];
        (2, descriptors.concat())
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
            _ => Some(self.probe()),
        }
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn packet(&mut self, _endpoint: u8, number: u64) -> Vec<u8> {
        let intervals = u64::from(self.intervals);
        if !number.is_multiple_of(intervals) {
            return vec![];
        }
        let parts = u64::from(PACKETS_IN_PICTURE);
        let packet = number / intervals;
        let (picture, part) = (packet / parts, packet % parts);
        let mut bits = END_OF_HEADER;
        if picture % 2 == 1 {
            bits |= FRAME_ID;
        }
        if part == parts - 1 {
            bits |= END_OF_FRAME;
        }
        let first = packet * u64::from(self.frames_in_packet) + 1;
        let frames = ramp::frames(first, self.frames_in_packet.into());
        [&[HEADER_BYTES, bits][..], &frames].concat()
    }
}
