//! I2C buses of the hub: an emulated adapter with chips behind it, the kernel's stub, and the SMBus of
//! QEMU's chip set with its EEPROMs.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "i2c",
        script: "i2c.sh",
        devices: &["-machine smbus=on"],
        cases: vec![
            pass("i2c::tools_say_the_same_as_at_the_owner", "tools"),
            pass("i2c::a_character_device_is_as_i2c_devs", "cuse"),
            pass("i2c::transactions_of_several_clients_never_mix", "clients"),
            pass("i2c::a_lost_owner_is_waited_for", "outage"),
            pass("i2c::drivers_of_the_kernel_bind_to_remote_chips", "drivers"),
        ],
        ..Boot::default()
    }
}
