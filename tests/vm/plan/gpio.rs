//! GPIO chips over the bridge: the owner's chip and the local one are both simulated by the kernel.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "gpio",
        script: "gpio.sh",
        cases: vec![
            pass("gpio::tools_see_and_drive_the_owners_lines", "tools"),
            pass("gpio::a_thousand_edges_arrive_in_order", "edges"),
            pass("gpio::outputs_are_safe_after_a_cut", "cut"),
        ],
        ..Boot::default()
    }
}
