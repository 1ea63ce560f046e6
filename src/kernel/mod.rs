//! Safe calls over raw kernel interfaces, without policy and without protocol. The only folder with
//! unsafe code.

pub mod usbip_pdu;
pub mod vhci;
