//! Two guests: the names of 1-Wire devices are unique in a kernel, and the owner's kernel names them too.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "onewire",
        script: "onewire_hub.sh",
        partner: Some("onewire_laptop.sh"),
        cases: vec![
            pass(
                "onewire::ten_thermometers_are_read_and_followed",
                "thermometers",
            ),
            pass(
                "onewire::alarms_are_found_and_a_removed_device_disappears",
                "changes",
            ),
            pass("onewire::owserver_reads_a_remote_thermometer", "owserver"),
            pass(
                "onewire::a_bus_outlives_a_killed_owner_and_ends_with_its_adapter",
                "outage",
            ),
        ],
        ..Boot::default()
    }
}
