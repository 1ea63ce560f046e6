//! An input device in software at the hub, used by the laptop through uinput.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "input",
        script: "input.sh",
        cases: vec![
            pass(
                "input::both_sides_see_the_same_device_and_packets",
                "packets",
            ),
            pass("input::effects_are_played_by_the_real_device", "effects"),
            pass(
                "input::after_an_overrun_the_laptop_has_the_owners_state",
                "overrun",
            ),
            pass(
                "input::a_grabbed_device_is_the_users_alone_until_it_is_unplugged",
                "unplugged",
            ),
            pass("input::a_killed_owner_leaves_no_key_down", "killed_owner"),
            pass("input::a_killed_user_leaves_no_key_down", "killed_user"),
        ],
        ..Boot::default()
    }
}
