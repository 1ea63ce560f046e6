//! Resets of the port that this kernel has made, read from what it says afterwards.
//!
//! A reset of an imported device stays in vhci: no message tells the other end of it (kernel
//! `drivers/usb/usbip/vhci_hcd.c`, `USB_PORT_FEAT_RESET`). What can be seen is how the USB core
//! makes sure that the device is the same as before (`drivers/usb/core/hub.c`,
//! `usb_reset_and_verify_device()`), on endpoint 0 while nothing else is outstanding:
//!
//! 1. the device descriptor with a length of 64, or of 8 where the address is given first (super
//!    speed, and old devices); to `SET_ADDRESS` vhci itself says yes;
//! 2. the whole device descriptor, 18 bytes; then BOS, configurations, serial number;
//! 3. `SET_CONFIGURATION` of the configuration that was active, then `SET_INTERFACE` for settings
//!    other than 0.
//!
//! The server's device is reset before step 3, and already when step 1 is repeated because the
//! device did not answer: the reset may be meant to help just that. Drivers never read the device
//! descriptor this way, so `usb_reset_configuration()` and programs that set a configuration do not
//! count. Neither does the first enumeration: the server hands out devices that were just reset or
//! claimed. A device without a configuration is never reset, because step 3 is missing.

use crate::kernel::usbip_pdu::Submit;

/// `GET_DESCRIPTOR` of the device descriptor, but for its length.
const DEVICE_DESCRIPTOR: [u8; 6] = [0x80, 6, 0, 1, 0, 0];
const WHOLE: u16 = 18;
/// `bMaxPacketSize0` is the last of these 8 bytes.
const FIRST: [u16; 2] = [64, 8];
const SET_CONFIGURATION: (u8, u8) = (0x00, 9);
/// Standard requests that read descriptors or states, or that the core makes while it verifies a
/// device: `SET_SEL`, `SET_ISOCH_DELAY`, and features of the device.
const PASSING: [(u8, u8); 6] = [
    (0x80, 6),
    (0x80, 0),
    (0x00, 3),
    (0x00, 1),
    (0x00, 0x30),
    (0x00, 0x31),
];

/// How far the verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// None is going on.
    Idle,
    /// The first descriptor was asked for by that URB, and not given yet.
    Asked(u32),
    /// It was given.
    Answered,
    /// The whole descriptor was asked for.
    Verifying,
}

/// Watches for resets of one port.
#[derive(Debug)]
pub(in crate::bus::usb::client) struct ResetWatch {
    /// The device was configured on this port before.
    configured: bool,
    step: Step,
    /// The server was told of the reset that is being verified.
    told: bool,
}

impl ResetWatch {
    pub(in crate::bus::usb::client) const fn new() -> Self {
        Self {
            configured: false,
            step: Step::Idle,
            told: false,
        }
    }

    /// Whether the server's device must be reset before it is given this. `quiet`: the kernel waits
    /// for nothing else. `announced`: a reset of this port is known to be going on.
    pub(in crate::bus::usb::client) fn see(
        &mut self,
        submit: &Submit,
        quiet: bool,
        announced: bool,
    ) -> bool {
        if submit.ep != 0 {
            // The core lets nobody else near the device.
            self.stop();
            return false;
        }
        let [s0, s1, s2, s3, s4, s5, s6, s7] = submit.setup;
        let length = u16::from_le_bytes([s6, s7]);
        if [s0, s1, s2, s3, s4, s5] == DEVICE_DESCRIPTOR {
            return self.see_device_descriptor(submit.seqnum, length, quiet, announced);
        }
        if (s0, s1) == SET_CONFIGURATION {
            let reset = self.configured && !self.told && self.step == Step::Verifying;
            self.configured |= s2 != 0;
            self.stop();
            return reset;
        }
        if !PASSING.contains(&(s0, s1)) {
            self.stop();
        }
        false
    }

    fn see_device_descriptor(
        &mut self,
        seqnum: u32,
        length: u16,
        quiet: bool,
        announced: bool,
    ) -> bool {
        let again = matches!(self.step, Step::Asked(_));
        if quiet && FIRST.contains(&length) {
            let reset = !self.told && (announced || (again && self.configured));
            self.told |= reset;
            self.step = Step::Asked(seqnum);
            return reset;
        }
        match self.step {
            Step::Answered | Step::Verifying if length == WHOLE => self.step = Step::Verifying,
            Step::Idle | Step::Asked(_) | Step::Answered | Step::Verifying => self.stop(),
        }
        false
    }

    /// The URB whose end this waits for.
    pub(in crate::bus::usb::client) const fn awaited(&self) -> Option<u32> {
        match self.step {
            Step::Asked(seqnum) => Some(seqnum),
            Step::Idle | Step::Answered | Step::Verifying => None,
        }
    }

    /// That URB ended well.
    pub(in crate::bus::usb::client) const fn answered(&mut self) {
        self.step = Step::Answered;
    }

    const fn stop(&mut self) {
        self.step = Step::Idle;
        self.told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_64: [u8; 8] = [0x80, 6, 0, 1, 0, 0, 64, 0];
    const FIRST_8: [u8; 8] = [0x80, 6, 0, 1, 0, 0, 8, 0];
    const ALL_18: [u8; 8] = [0x80, 6, 0, 1, 0, 0, 18, 0];
    const BOS: [u8; 8] = [0x80, 6, 0, 15, 0, 0, 5, 0];
    const CONFIGURATION: [u8; 8] = [0x80, 6, 0, 2, 0, 0, 32, 0];
    const SERIAL: [u8; 8] = [0x80, 6, 3, 3, 9, 4, 255, 0];
    const ISOCH_DELAY: [u8; 8] = [0x00, 0x31, 40, 0, 0, 0, 0, 0];
    const CONFIGURE: [u8; 8] = [0x00, 9, 1, 0, 0, 0, 0, 0];
    const CLASS: [u8; 8] = [0xa1, 1, 0, 0, 0, 0, 7, 0];

    struct Bench {
        watch: ResetWatch,
        seqnum: u32,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                watch: ResetWatch::new(),
                seqnum: 0,
            }
        }

        fn submit(&mut self, ep: u8, setup: [u8; 8], quiet: bool, announced: bool) -> bool {
            self.seqnum += 1;
            let submit = Submit {
                seqnum: self.seqnum,
                devid: 0,
                input: setup[0] & 0x80 != 0,
                ep,
                transfer_flags: 0,
                length: u32::from(u16::from_le_bytes([setup[6], setup[7]])),
                start_frame: 0,
                packets: 0,
                interval: 0,
                setup,
            };
            self.watch.see(&submit, quiet, announced)
        }

        /// Everything is answered well; the places at which the device is to be reset.
        fn play(&mut self, setups: &[[u8; 8]]) -> Vec<usize> {
            let mut resets = Vec::new();
            for (at, setup) in setups.iter().enumerate() {
                if self.submit(0, *setup, true, false) {
                    resets.push(at);
                }
                if self.watch.awaited() == Some(self.seqnum) {
                    self.watch.answered();
                }
            }
            resets
        }
    }

    const NEW_SCHEME: [[u8; 8]; 6] = [FIRST_64, ALL_18, BOS, CONFIGURATION, SERIAL, CONFIGURE];
    const OLD_SCHEME: [[u8; 8]; 6] = [FIRST_8, ISOCH_DELAY, ALL_18, BOS, CONFIGURATION, CONFIGURE];

    #[test]
    fn the_first_enumeration_is_no_reset_and_every_later_one_is() {
        let mut bench = Bench::new();
        assert_eq!(bench.play(&NEW_SCHEME), [0; 0]);
        bench.play(&[CLASS]);
        assert_eq!(bench.play(&NEW_SCHEME), [5]);
        assert_eq!(bench.play(&OLD_SCHEME), [5]);
    }

    #[test]
    fn setting_the_configuration_by_itself_is_no_reset() {
        let mut bench = Bench::new();
        bench.play(&NEW_SCHEME);
        for setups in [
            &[CONFIGURE][..],
            // What a program may do that looks at a device.
            &[ALL_18, CONFIGURATION, CONFIGURE],
            &[FIRST_64, CONFIGURATION, CONFIGURE],
            &[FIRST_64, ALL_18, CLASS, CONFIGURE],
            &[ALL_18, FIRST_64, CONFIGURE],
        ] {
            assert_eq!(bench.play(setups), [0; 0], "{setups:?}");
        }
    }

    #[test]
    fn a_transfer_on_another_endpoint_or_another_in_flight_is_no_verification() {
        let mut bench = Bench::new();
        bench.play(&NEW_SCHEME);
        bench.play(&[FIRST_64, ALL_18]);
        bench.submit(1, [0; 8], true, false);
        assert_eq!(bench.play(&[CONFIGURE]), [0; 0]);
        bench.submit(0, FIRST_64, false, false);
        assert_eq!(bench.watch.awaited(), None);
        assert_eq!(bench.play(&[ALL_18, CONFIGURE]), [0; 0]);
    }

    #[test]
    fn a_device_that_does_not_answer_is_reset_once_before_it_is_asked_again() {
        let mut bench = Bench::new();
        bench.play(&NEW_SCHEME);
        let resets = [(); 4].map(|()| bench.submit(0, FIRST_64, true, false));
        assert_eq!(resets, [false, true, false, false]);
        bench.watch.answered();
        assert_eq!(bench.play(&[ALL_18, CONFIGURE]), [0; 0]);
        assert_eq!(bench.play(&NEW_SCHEME), [5]);
    }

    #[test]
    fn a_device_that_does_not_answer_at_its_first_enumeration_is_not_reset() {
        let mut bench = Bench::new();
        let resets = [(); 3].map(|()| bench.submit(0, FIRST_64, true, false));
        assert_eq!(resets, [false; 3]);
    }

    #[test]
    fn an_announced_reset_needs_no_proof() {
        let mut bench = Bench::new();
        bench.play(&NEW_SCHEME);
        assert!(bench.submit(0, FIRST_8, true, true));
        bench.watch.answered();
        assert_eq!(bench.play(&[ALL_18, CONFIGURE]), [0; 0]);
    }
}
