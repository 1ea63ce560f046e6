//! A PWM chip of the hub: the kernel's sysfs is real, the chip behind it is not.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "pwm",
        script: "pwm.sh",
        cases: vec![
            pass("pwm::a_channel_runs_as_the_laptop_says", "channel"),
            pass("pwm::a_cut_switches_off_what_is_not_held", "cut"),
        ],
        ..Boot::default()
    }
}
