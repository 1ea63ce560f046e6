//! From a `CMD_SUBMIT` to the request it becomes.

use super::endpoints::{Effect, Endpoints};
use super::iso::{Packets, ttl_ms};
use crate::bus::Outgoing;
use crate::bus::usb::op::{
    BulkTransfer, ControlTransfer, EndpointAddress, InterruptTransfer, MAX_TRANSFER,
    REPLY_OVERHEAD, Setup, TransferFlags,
};
use crate::kernel::usbfs::TransferType;
use crate::kernel::usbip_pdu::{MAX_ISO_PACKETS, SHORT_NOT_OK, Submit, ZERO_PACKET};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;

/// Bulk transfers up to this length count as interactive (profile 11.3).
const INTERACTIVE: u32 = 4096;

/// Room for an encoded request without its data.
pub(super) const HEAD: usize = 32;
/// Bytes of data that room is made for before they are there.
const RESERVED: u32 = 1 << 20;

/// A URB whose data and packets are still to be read.
#[derive(Debug)]
pub(super) struct Arriving {
    submit: Submit,
    plan: Plan,
    /// Where the data goes. The encoded request stands before it, unless the packets, which come
    /// last, are a part of that.
    pub(super) buffer: Vec<u8>,
    /// Where the isochronous descriptors go.
    pub(super) descriptors: Vec<u8>,
}

/// A URB with what is to be done about it.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) submit: Submit,
    pub(super) action: Action,
    /// Of an isochronous URB.
    pub(super) packets: Option<Packets>,
}

/// What is to be done about a URB.
#[derive(Debug)]
pub(super) enum Action {
    Request {
        outgoing: Outgoing,
        effect: Effect,
    },
    /// It fails here, with this errno.
    Refuse(i32),
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    Request {
        opcode: Opcode,
        class: Class,
        effect: Effect,
    },
    Isochronous {
        ep: EndpointAddress,
        ttl_ms: u32,
    },
    Refuse(i32),
}

impl Arriving {
    /// Decides, and encodes the request up to the URB's data.
    ///
    /// Nothing here has a timeout: drivers unlink when they lose patience.
    pub(super) fn begin(submit: Submit, endpoints: &Endpoints) -> Self {
        let data = usize::try_from(submit.data_len().min(RESERVED)).unwrap_or(0);
        let head = if submit.packets == 0 { HEAD } else { 0 };
        let mut buffer = Vec::with_capacity(head + data);
        let plan = plan(&submit, endpoints, &mut buffer);
        Self {
            submit,
            plan,
            buffer,
            descriptors: Vec::new(),
        }
    }

    /// False when the data that follows may be thrown away.
    pub(super) const fn wants_data(&self) -> bool {
        !matches!(self.plan, Plan::Refuse(_))
    }

    /// False when there are more descriptors than are kept; the URB is refused then, and given back
    /// without packets, so that a driver that submits it again as it is gets nowhere.
    pub(super) const fn wants_packets(&self) -> bool {
        self.submit.packets <= MAX_ISO_PACKETS
    }

    /// Data and descriptors are there.
    pub(super) fn finish(self) -> Incoming {
        let Self {
            submit,
            plan,
            buffer,
            descriptors,
        } = self;
        let packets = (!descriptors.is_empty()).then(|| Packets::new(descriptors));
        let action = match plan {
            Plan::Refuse(errno) => Action::Refuse(errno),
            Plan::Request {
                opcode,
                class,
                effect,
            } => Action::Request {
                outgoing: Outgoing {
                    opcode,
                    class,
                    payload: buffer,
                    reply_len: REPLY_OVERHEAD + if submit.input { submit.length } else { 0 },
                    timeout_ms: 0,
                    deadline_ms: 0,
                },
                effect,
            },
            Plan::Isochronous { ep, ttl_ms } => packets
                .as_ref()
                .and_then(|packets| isochronous(&submit, ep, ttl_ms, packets, &buffer))
                .unwrap_or(Action::Refuse(libc::ESHUTDOWN)),
        };
        Incoming {
            submit,
            action,
            packets,
        }
    }
}

fn isochronous(
    submit: &Submit,
    ep: EndpointAddress,
    ttl_ms: u32,
    packets: &Packets,
    buffer: &[u8],
) -> Option<Action> {
    Some(Action::Request {
        outgoing: Outgoing {
            opcode: Opcode::UsbIsochronousTransfer,
            class: Class::Media,
            payload: packets.encode(submit, ep, ttl_ms, buffer)?,
            reply_len: packets.reply_len(submit),
            timeout_ms: 0,
            deadline_ms: ttl_ms,
        },
        effect: Effect::Nothing,
    })
}

fn plan(submit: &Submit, endpoints: &Endpoints, payload: &mut Vec<u8>) -> Plan {
    let Some(ep) = EndpointAddress::new(submit.ep, submit.input) else {
        return Plan::Refuse(libc::ESHUTDOWN);
    };
    if submit.length > MAX_TRANSFER || submit.packets > MAX_ISO_PACKETS {
        return Plan::Refuse(libc::EMSGSIZE);
    }
    let (timeout_ms, len) = (0, submit.length);
    let flags = TransferFlags {
        short_not_ok: submit.input && submit.transfer_flags & SHORT_NOT_OK != 0,
        zero_packet: !submit.input && submit.transfer_flags & ZERO_PACKET != 0,
    };
    match endpoints.kind(ep) {
        // Not enabled.
        None => Plan::Refuse(libc::ESHUTDOWN),
        Some(TransferType::Isochronous) => Plan::Isochronous {
            ep,
            ttl_ms: ttl_ms(submit, endpoints.interval_unit()),
        },
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
