//! Safe calls over raw kernel ABI, without policy and without protocol. The only folder that may
//! hold `unsafe`.

pub mod usbfs;
pub mod usbip_pdu;
pub mod vhci;
