//! Serial ports as ttys: two UARTs of the guest, joined by a cable; one is the hub's, the other is what
//! the hub's is plugged into.

use super::{Boot, pass};

const UARTS: &[&str] = &[
    "-chardev socket,id=near,path={dir}/cable,server=on,wait=off",
    "-chardev socket,id=far,path={dir}/cable",
    "-device pci-serial,chardev=near,addr=0x10,baudbase=3000000",
    "-device pci-serial,chardev=far,addr=0x11,baudbase=3000000",
];

pub(super) fn boot() -> Boot {
    Boot {
        name: "serial_tty",
        script: "serial_tty.sh",
        devices: UARTS,
        cases: vec![
            pass("tty::settings_and_calls_are_those_of_a_uart", "calls"),
            pass("tty::zmodem_and_streams_lose_nothing", "transfers"),
            pass("tty::lines_and_breaks_are_the_owners", "lines"),
            pass("tty::picocom_minicom_and_screen_talk_over_it", "terminals"),
            pass("tty::hangs_up_when_the_port_goes", "hang_up"),
        ],
        ..Boot::default()
    }
}
