//! From a `CMD_SUBMIT` to the request it becomes.

use super::endpoints::{Effect, Endpoints};
use crate::bus::usb::op::{
    BulkTransfer, ControlTransfer, EndpointAddress, InterruptTransfer, Setup, TransferFlags,
};
use crate::kernel::usbfs::TransferType;
use crate::kernel::usbip_pdu::{SHORT_NOT_OK, Submit, ZERO_PACKET};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;

/// Bulk transfers up to this length count as interactive (profile 11.3).
const INTERACTIVE: u32 = 4096;

/// Room for an encoded request without its data.
const HEAD: usize = 32;
/// Bytes of data that room is made for before they are there.
const RESERVED: u32 = 1 << 20;

/// A URB with what is to be done about it.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) submit: Submit,
    pub(super) plan: Plan,
    /// The encoded request; the URB's data stands at its end, read straight from the socket.
    pub(super) payload: Vec<u8>,
    /// The isochronous descriptors.
    pub(super) iso: Vec<u8>,
}

/// What is to be done about a URB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Request {
        opcode: Opcode,
        class: Class,
        effect: Effect,
    },
    /// It fails here, with this errno.
    Refuse(i32),
}

impl Incoming {
    /// Decides and encodes the request up to the URB's data, which the caller appends.
    ///
    /// Nothing here has a timeout: drivers unlink when they lose patience.
    pub(super) fn begin(submit: Submit, endpoints: &Endpoints) -> Self {
        let data = usize::try_from(submit.data_len().min(RESERVED)).unwrap_or(0);
        let mut payload = Vec::with_capacity(HEAD + data);
        let plan = plan(&submit, endpoints, &mut payload);
        Self {
            submit,
            plan,
            payload,
            iso: Vec::new(),
        }
    }
}

fn plan(submit: &Submit, endpoints: &Endpoints, payload: &mut Vec<u8>) -> Plan {
    let Some(ep) = EndpointAddress::new(submit.ep, submit.input) else {
        return Plan::Refuse(libc::ESHUTDOWN);
    };
    let (timeout_ms, len) = (0, submit.length);
    let flags = TransferFlags {
        short_not_ok: submit.input && submit.transfer_flags & SHORT_NOT_OK != 0,
        zero_packet: !submit.input && submit.transfer_flags & ZERO_PACKET != 0,
    };
    match endpoints.kind(ep) {
        // Not enabled, or isochronous, which is not served yet. Sound drivers submit again at once
        // after any other error.
        None | Some(TransferType::Isochronous) => Plan::Refuse(libc::ESHUTDOWN),
        Some(_) if submit.packets > 0 => Plan::Refuse(libc::EPROTO),
        Some(TransferType::Control) => control(submit, ep, payload),
        Some(TransferType::Bulk) => {
            BulkTransfer {
                ep,
                flags,
                timeout_ms,
                len,
            }
            .encode(payload);
            Plan::Request {
                opcode: Opcode::UsbBulkTransfer,
                class: if len > INTERACTIVE {
                    Class::Bulk
                } else {
                    Class::Interactive
                },
                effect: Effect::Nothing,
            }
        }
        Some(TransferType::Interrupt) => {
            InterruptTransfer {
                ep,
                flags,
                timeout_ms,
                len,
                interval: submit.interval,
            }
            .encode(payload);
            Plan::Request {
                opcode: Opcode::UsbInterruptTransfer,
                class: Class::Interrupt,
                effect: Effect::Nothing,
            }
        }
    }
}

fn control(submit: &Submit, ep: EndpointAddress, payload: &mut Vec<u8>) -> Plan {
    let setup = Setup::from_bytes(submit.setup);
    // The profile has no control transfers on other endpoints, and no device has them. A data stage
    // whose length or direction is not that of the SETUP packet is no transfer at all.
    let agrees = u32::from(setup.length) == submit.length
        && (submit.length == 0 || setup.is_in() == submit.input);
    if ep.number() != 0 || !agrees {
        return Plan::Refuse(libc::EPROTO);
    }
    ControlTransfer {
        flags: TransferFlags {
            short_not_ok: submit.input && submit.transfer_flags & SHORT_NOT_OK != 0,
            zero_packet: false,
        },
        timeout_ms: 0,
        setup,
        len: submit.length,
    }
    .encode(payload);
    Plan::Request {
        opcode: Opcode::UsbControlTransfer,
        class: Class::Interactive,
        effect: Effect::of(setup),
    }
}
