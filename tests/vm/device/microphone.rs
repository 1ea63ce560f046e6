//! A full-speed USB audio device, class 1.0: a stereo microphone at 48 kHz that hears the ramp of
//! [`crate::ramp`]. A frame's number follows from the time, so a frame that nobody fetched is missing.

use std::time::Duration;

use myclerk::kernel::vhci::Speed;

use super::{Function, Identity};
use crate::ramp;

const FRAMES_IN_PACKET: u8 = 48;
/// Bytes of a packet, one a millisecond.
const PACKET: u8 = FRAMES_IN_PACKET * 4;

const INTERFACES: &[&[u8]] = &[
    // audio control: microphone 1 goes to USB stream 2
    &[9, 4, 0, 0, 0, 1, 1, 0, 0],
    &[9, 0x24, 1, 0x00, 0x01, 30, 0, 1, 1],
    &[12, 0x24, 2, 1, 0x01, 0x02, 0, 2, 3, 0, 0, 0],
    &[9, 0x24, 3, 2, 0x01, 0x01, 0, 1, 0],
    // audio stream: off, and on with PCM of 2 x 16 bits at 48000 Hz
    &[9, 4, 1, 0, 0, 1, 2, 0, 0],
    &[9, 4, 1, 1, 1, 1, 2, 0, 0],
    &[7, 0x24, 1, 2, 1, 0x01, 0x00],
    &[11, 0x24, 2, 1, 2, 2, 16, 1, 0x80, 0xbb, 0x00],
    // endpoint 0x81, isochronous, asynchronous, every frame
    &[9, 5, 0x81, 0x05, PACKET, 0, 1, 0, 0],
    &[7, 0x25, 1, 0, 0, 0, 0],
];

pub(crate) struct Microphone;

impl Function for Microphone {
    fn identity(&self) -> Identity {
        Identity {
            speed: Speed::Full,
            class: [0, 0, 0],
            product: 1,
            strings: ["Lab", "Ramp microphone", "LABMIC1"],
        }
    }

    fn interfaces(&self) -> (u8, Vec<u8>) {
        (2, INTERFACES.concat())
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn packet(&mut self, _endpoint: u8, number: u64) -> Vec<u8> {
        let first = number * u64::from(FRAMES_IN_PACKET) + 1;
        ramp::frames(first, FRAMES_IN_PACKET.into())
    }
}
