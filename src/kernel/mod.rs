//! Safe calls over raw kernel interfaces, without policy and without protocol. The only folder with
//! unsafe code.

pub mod can;
pub mod clock;
pub mod cuse;
pub mod evdev;
pub mod gpio_cdev;
mod gpio_mark;
pub mod gpio_sim;
pub mod gpio_watch;
pub mod i2c_dev;
pub mod privileges;
pub mod pwm;
pub mod random;
pub mod sockopt;
pub mod spidev;
pub mod termios;
pub mod tracefs;
pub mod uevent;
pub mod uinput;
pub mod usbfs;
pub mod usbip_pdu;
pub mod vhci;
pub mod w1;
