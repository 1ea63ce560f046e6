//! SPI devices of the hub: the kernel's controller core and its spidev are real, the controller and the
//! chips behind it are not.

use super::{Boot, pass};

pub(super) fn boot() -> Boot {
    Boot {
        name: "spi",
        script: "spi.sh",
        cases: vec![
            pass("spi::every_call_ends_as_on_the_kernels_own_device", "calls"),
            pass("spi::spidev_test_python_and_flashrom_work_over_it", "tools"),
            pass("spi::an_outage_is_outlived_and_an_end_is_told", "endings"),
        ],
        ..Boot::default()
    }
}
