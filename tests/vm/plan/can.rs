//! A CAN bus over the bridge: two emulated controllers on one bus, one of them lent. Where a bus must
//! have errors, an adapter at a serial line stands for the lent one.

use super::{Boot, pass};

const DEVICES: &[&str] = &[
    "-object can-bus,id=bus",
    "-device kvaser_pci,canbus=bus",
    "-device kvaser_pci,canbus=bus",
];

pub(super) fn boot() -> Boot {
    Boot {
        name: "can",
        script: "can.sh",
        devices: DEVICES,
        cases: vec![
            pass("can::candump_and_cansend_work_at_both_ends", "tools"),
            pass("can::a_busy_bus_loses_and_reorders_nothing", "load"),
            pass("can::canfdtest_and_isotp_get_their_answers", "answers"),
            pass("can::j1939_nodes_claim_addresses_and_send_files", "j1939"),
            pass(
                "can::fd_frames_cross_whole_and_look_received_on_a_pair",
                "fd",
            ),
            pass(
                "can::two_clients_hear_each_other_until_one_is_killed",
                "clients",
            ),
            pass(
                "can::error_frames_and_bus_off_are_told_and_mended",
                "errors",
            ),
        ],
        ..Boot::default()
    }
}
