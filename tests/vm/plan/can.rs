//! A CAN bus over the bridge: two emulated controllers on one bus, one of them lent.

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
        cases: vec![pass("can::candump_and_cansend_work_at_both_ends", "tools")],
        ..Boot::default()
    }
}
