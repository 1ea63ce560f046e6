//! Character devices served by this program, without the daemons.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "cuse",
        script: "cuse.sh",
        cases: vec![
            pass("cuse::bytes_come_back_and_wake_who_waits", "bytes"),
            pass("cuse::a_waiting_reader_can_be_interrupted", "signals"),
            pass("cuse::ioctls_reach_the_callers_memory", "ioctls"),
            pass("cuse::a_device_ends_with_its_server", "ending"),
        ],
        ..Boot::default()
    }
}
