//! What a request of the peer comes to on this device. Nothing gets past here that the device's
//! own descriptors do not allow.

use super::held::Held;
use super::iso::{self, IsoOrder};
use crate::bus::Refused;
use crate::bus::usb::descriptor::Endpoint;
use crate::bus::usb::op::{
    BulkTransfer, ClearHalt, ControlTransfer, GetDescriptor, InterruptTransfer, IsoTransfer,
    SetConfiguration, SetInterface, Setup, TransferFlags, decode_empty,
};
use crate::kernel::usbfs::TransferType;
use crate::wire::opcode::Opcode;

const CLEAR_FEATURE: u8 = 1;
const SET_FEATURE: u8 = 3;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const SET_CONFIGURATION: u8 = 9;
const SET_INTERFACE: u8 = 11;
const ENDPOINT_HALT: u16 = 0;
const TEST_MODE: u16 = 2;
/// The type bits of a vendor's request in bmRequestType.
pub(super) const VENDOR: u8 = 0x40;
/// `GET_DEVICE_ID` of the printer class, whose wIndex has the interface in its high byte.
const PRINTER_DEVICE_ID: (u8, u8) = (0xa1, 0);

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work<'a> {
    /// Hand this to the hardware.
    Submit(Order<'a>),
    /// The same, as many parts.
    SubmitIso(IsoOrder<'a>),
    /// Do this where waiting is allowed, then answer in that form.
    Job(Change, Form),
    /// Nothing is left to do: answer success in that form.
    Done(Form),
    /// End the stream.
    Detach,
}

/// A transfer to be submitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order<'a> {
    pub(super) endpoint: u8,
    pub(super) kind: TransferType,
    pub(super) flags: TransferFlags,
    /// 0 for none.
    pub(super) timeout_ms: u32,
    pub(super) setup: Option<[u8; 8]>,
    /// What to send.
    pub(super) data: &'a [u8],
    /// How much to receive at most.
    pub(super) receive: usize,
    pub(super) form: Form,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `[status, actual, data]` with the received data.
    Received,
    /// `[status, actual, data]` without data.
    Sent,
    /// `[bin]`.
    Descriptor,
    /// `{}`.
    Empty,
}

/// A change to the device that may wait for the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    SetConfiguration(u8),
    SetInterface { interface: u8, alternate: u8 },
    ClearHalt(u8),
    Reset,
}

/// Decides what a request comes to.
pub(super) fn request<'a>(
    held: &Held,
    opcode: Opcode,
    payload: &'a [u8],
) -> Result<Work<'a>, Refused> {
    let malformed = |error: crate::bus::usb::op::OpError| Refused::bad(error.to_string());
    match opcode {
        Opcode::UsbControlTransfer => {
            let (transfer, data) = ControlTransfer::decode(payload).map_err(malformed)?;
            control(held, &transfer, data)
        }
        Opcode::UsbBulkTransfer => {
            let (transfer, data) = BulkTransfer::decode(payload).map_err(malformed)?;
            bulk(held, &transfer, data)
        }
        Opcode::UsbInterruptTransfer => {
            let (transfer, data) = InterruptTransfer::decode(payload).map_err(malformed)?;
            interrupt(held, &transfer, data)
        }
        Opcode::UsbIsochronousTransfer => {
            let (transfer, data) = IsoTransfer::decode(payload).map_err(malformed)?;
            isochronous(held, transfer, data)
        }
        Opcode::UsbGetDescriptor => Ok(descriptor(
            GetDescriptor::decode(payload).map_err(malformed)?,
        )),
        Opcode::UsbSetConfiguration => {
            let request = SetConfiguration::decode(payload).map_err(malformed)?;
            set_configuration(held, request.configuration, Form::Empty)
        }
        Opcode::UsbSetInterface => {
            let request = SetInterface::decode(payload).map_err(malformed)?;
            set_interface(held, request.interface, request.alternate, Form::Empty)
        }
        Opcode::UsbClearHalt => {
            let request = ClearHalt::decode(payload).map_err(malformed)?;
            clear_halt(held, request.ep.to_u8(), Form::Empty)
        }
        Opcode::UsbReset => {
            decode_empty(payload).map_err(malformed)?;
            whole(held, "reset")?;
            Ok(Work::Job(Change::Reset, Form::Empty))
        }
        Opcode::UsbDeviceDetach => {
            decode_empty(payload).map_err(malformed)?;
            Ok(Work::Detach)
        }
        other => Err(foreign(other)),
    }
}

fn foreign(opcode: Opcode) -> Refused {
    use crate::wire::status::{Status, sub};
    match opcode {
        Opcode::UsbDeviceAttach => Refused::new(
            Status::BadRequest,
            sub::STREAM_STATE,
            "this stream has a device already",
        ),
        Opcode::Unknown(_) => Refused::new(Status::BadRequest, sub::UNKNOWN_OP, opcode.to_string()),
        other => Refused::unsupported(format!("{other} is no operation of an attached device")),
    }
}

fn bulk<'a>(held: &Held, op: &BulkTransfer, data: &'a [u8]) -> Result<Work<'a>, Refused> {
    let order = Order {
        endpoint: op.ep.to_u8(),
        kind: TransferType::Bulk,
        flags: op.flags,
        timeout_ms: op.timeout_ms,
        setup: None,
        data,
        receive: op.len as usize,
        form: data_form(op.ep.is_in()),
    };
    on_endpoint(held, order)
}

fn interrupt<'a>(held: &Held, op: &InterruptTransfer, data: &'a [u8]) -> Result<Work<'a>, Refused> {
    let order = Order {
        endpoint: op.ep.to_u8(),
        kind: TransferType::Interrupt,
        flags: op.flags,
        timeout_ms: op.timeout_ms,
        setup: None,
        data,
        receive: op.len as usize,
        form: data_form(op.ep.is_in()),
    };
    on_endpoint(held, order)
}

const fn data_form(incoming: bool) -> Form {
    if incoming { Form::Received } else { Form::Sent }
}

fn isochronous<'a>(
    held: &Held,
    transfer: IsoTransfer,
    data: &'a [u8],
) -> Result<Work<'a>, Refused> {
    let address = transfer.ep.to_u8();
    let endpoint = of_kind(held, address, TransferType::Isochronous)?;
    let longest = iso::longest_packet(*endpoint, held.speed());
    if let Some(length) = transfer.packets.iter().find(|length| **length > longest) {
        return Err(Refused::bad(format!(
            "a packet of {length} bytes: endpoint 0x{address:02x} has at most {longest}"
        )));
    }
    Ok(Work::SubmitIso(IsoOrder { transfer, data }))
}

fn on_endpoint<'a>(held: &Held, order: Order<'a>) -> Result<Work<'a>, Refused> {
    of_kind(held, order.endpoint, order.kind)?;
    Ok(Work::Submit(order))
}

fn of_kind(held: &Held, address: u8, kind: TransferType) -> Result<&Endpoint, Refused> {
    let Some(endpoint) = held.endpoint(address) else {
        return Err(Refused::bad(format!(
            "there is no endpoint 0x{address:02x} in the current settings"
        )));
    };
    if endpoint.kind != kind {
        return Err(Refused::bad(format!(
            "endpoint 0x{address:02x} is of type {:?}",
            endpoint.kind
        )));
    }
    Ok(endpoint)
}

fn control<'a>(held: &Held, op: &ControlTransfer, data: &'a [u8]) -> Result<Work<'a>, Refused> {
    let setup = op.setup;
    if u32::from(setup.length) != op.len {
        return Err(Refused::bad("len differs from wLength"));
    }
    if let Some(work) = intercept(held, setup)? {
        return Ok(work);
    }
    recipient(held, setup)?;
    Ok(Work::Submit(Order {
        endpoint: 0,
        kind: TransferType::Control,
        flags: op.flags,
        timeout_ms: op.timeout_ms,
        setup: Some(setup.to_bytes()),
        data,
        receive: op.len as usize,
        form: data_form(setup.is_in()),
    }))
}

/// Requests that change what the kernel must know of: it keeps toggles, settings and halts of its
/// own, so these go through it instead of past it.
fn intercept(held: &Held, setup: Setup) -> Result<Option<Work<'static>>, Refused> {
    let [value, _] = setup.value.to_le_bytes();
    let [index, _] = setup.index.to_le_bytes();
    let work = match (setup.request_type, setup.request) {
        (0x00, SET_ADDRESS) => {
            return Err(Refused::unsupported(
                "the owner's host controller gives the address",
            ));
        }
        (0x00, SET_FEATURE) if setup.value == TEST_MODE => {
            return Err(Refused::unsupported("a test mode would disable the device"));
        }
        (0x00, SET_CONFIGURATION) => set_configuration(held, value, Form::Sent)?,
        (0x01, SET_INTERFACE) => set_interface(held, index, value, Form::Sent)?,
        (0x02, CLEAR_FEATURE) if setup.value == ENDPOINT_HALT && !is_control(index) => {
            clear_halt(held, index, Form::Sent)?
        }
        _ => return Ok(None),
    };
    if setup.length != 0 {
        return Err(Refused::bad("this request has no data stage"));
    }
    Ok(Some(work))
}

/// Checks that a control request speaks to something the peer has, by the rules of
/// `check_ctrlrecip()` in drivers/usb/core/devio.c, and stricter where only a part was attached.
fn recipient(held: &Held, setup: Setup) -> Result<(), Refused> {
    let [low, high] = setup.index.to_le_bytes();
    let vendor = setup.request_type & 0x60 == VENDOR;
    if vendor && held.is_whole() {
        return Ok(());
    }
    let printer =
        (setup.request_type, setup.request) == PRINTER_DEVICE_ID && held.has_printer(high);
    match setup.request_type & 0x1f {
        1 if printer || held.has_interface(low) => Ok(()),
        1 => Err(Refused::bad(format!("interface {low} is not attached"))),
        2 if is_control(low) || held.has_endpoint_number(low) => Ok(()),
        2 => Err(Refused::bad(format!(
            "endpoint 0x{low:02x} is not attached"
        ))),
        _ => Ok(()),
    }
}

/// Endpoint 0 in either direction.
const fn is_control(endpoint: u8) -> bool {
    matches!(endpoint, 0x00 | 0x80)
}

fn descriptor(op: GetDescriptor) -> Work<'static> {
    let setup = Setup {
        request_type: 0x80,
        request: GET_DESCRIPTOR,
        value: u16::from_be_bytes([op.kind, op.index]),
        index: op.lang,
        length: op.len,
    };
    Work::Submit(Order {
        endpoint: 0,
        kind: TransferType::Control,
        flags: TransferFlags::default(),
        timeout_ms: 0,
        setup: Some(setup.to_bytes()),
        data: &[],
        receive: usize::from(op.len),
        form: Form::Descriptor,
    })
}

fn whole(held: &Held, what: &str) -> Result<(), Refused> {
    if held.is_whole() {
        return Ok(());
    }
    Err(Refused::unsupported(format!(
        "only some interfaces are attached: a {what} would disturb the others"
    )))
}

fn set_configuration(held: &Held, value: u8, form: Form) -> Result<Work<'static>, Refused> {
    if value == held.configuration() && (held.is_pristine() || !held.is_whole()) {
        return Ok(Work::Done(form));
    }
    whole(held, "change of configuration")?;
    if value != 0 && !held.has_configuration(value) {
        return Err(Refused::bad(format!("there is no configuration {value}")));
    }
    Ok(Work::Job(Change::SetConfiguration(value), form))
}

fn set_interface(
    held: &Held,
    interface: u8,
    alternate: u8,
    form: Form,
) -> Result<Work<'static>, Refused> {
    if !held.has_setting(interface, alternate) {
        return Err(Refused::bad(format!(
            "there is no interface {interface} with an alternate setting {alternate}"
        )));
    }
    let change = Change::SetInterface {
        interface,
        alternate,
    };
    Ok(Work::Job(change, form))
}

fn clear_halt(held: &Held, endpoint: u8, form: Form) -> Result<Work<'static>, Refused> {
    if held.endpoint(endpoint).is_none() {
        return Err(Refused::bad(format!(
            "there is no endpoint 0x{endpoint:02x}"
        )));
    }
    Ok(Work::Job(Change::ClearHalt(endpoint), form))
}
