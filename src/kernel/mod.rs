//! Safe calls over raw kernel interfaces, without policy and without protocol. The only folder with
//! unsafe code.

pub mod clock;
pub mod privileges;
pub mod random;
pub mod sockopt;
pub mod termios;
pub mod uevent;
pub mod usbfs;
pub mod usbip_pdu;
pub mod vhci;
