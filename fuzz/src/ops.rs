//! The payloads of the USB operations.

use core::fmt::Debug;

use myclerk::bus::usb::op::{
    AttachRequest, AttachResponse, BulkTransfer, ClearHalt, ControlTransfer, DescriptorReply,
    DeviceList, GetDescriptor, InterruptTransfer, IsoReply, IsoTransfer, MAX_ISO_PACKETS,
    MAX_TRANSFER, OpError, SetConfiguration, SetInterface, TransferReply, declared_reply,
    decode_empty,
};
use myclerk::wire::opcode::Opcode;

use super::bytes::Bytes;

/// One payload of the kind that the first byte names.
///
/// # Panics
/// When a payload that was understood is another one after it was written and read again.
pub fn ops(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.u8();
    let payload = bytes.take(usize::MAX);
    match kind % 14 {
        0 => control(payload),
        1 => bulk(payload),
        2 => interrupt(payload),
        3 => isochronous(payload),
        4 => transfer_reply(payload),
        5 => iso_reply(payload),
        6 => stable(payload, GetDescriptor::decode, GetDescriptor::encode),
        7 => descriptor_reply(payload),
        8 => stable(payload, SetConfiguration::decode, SetConfiguration::encode),
        9 => stable(payload, SetInterface::decode, SetInterface::encode),
        10 => stable(payload, ClearHalt::decode, ClearHalt::encode),
        11 => stable(payload, DeviceList::decode, |list, out| {
            *out = list.encode().expect("an encoded list");
        }),
        12 => stable(payload, AttachRequest::decode, |request, out| {
            *out = request.encode().expect("an encoded request");
        }),
        _ => {
            stable(payload, AttachResponse::decode, |response, out| {
                *out = response.encode().expect("an encoded response");
            });
            let _ = decode_empty(payload);
        }
    }
}

/// Decoding, encoding and decoding again comes back to the same.
fn stable<T: PartialEq + Debug>(
    payload: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, OpError>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    let Ok(value) = decode(payload) else {
        return;
    };
    let mut written = Vec::new();
    encode(&value, &mut written);
    assert_eq!(decode(&written).as_ref(), Ok(&value));
}

/// As [`stable`], with the data that follows and the answer that it declares.
fn transfer<T: PartialEq + Debug>(
    payload: &[u8],
    opcode: Opcode,
    decode: impl Fn(&[u8]) -> Result<(T, &[u8]), OpError>,
    encode: impl Fn(&T, &mut Vec<u8>),
) -> Option<T> {
    let (value, data) = decode(payload).ok()?;
    let mut written = Vec::new();
    encode(&value, &mut written);
    written.extend_from_slice(data);
    let (again, same) = decode(&written).expect("what was read once");
    assert_eq!((&again, same), (&value, data));
    assert_eq!(
        declared_reply(opcode, payload),
        declared_reply(opcode, &written)
    );
    Some(value)
}

fn control(payload: &[u8]) {
    let opcode = Opcode::UsbControlTransfer;
    let value = transfer(
        payload,
        opcode,
        ControlTransfer::decode,
        ControlTransfer::encode,
    );
    let Some(value) = value else { return };
    assert!(u16::try_from(value.len).is_ok() && value.data_len() <= value.len);
}

fn bulk(payload: &[u8]) {
    let opcode = Opcode::UsbBulkTransfer;
    let value = transfer(payload, opcode, BulkTransfer::decode, BulkTransfer::encode);
    let Some(value) = value else { return };
    assert!(value.len <= MAX_TRANSFER && value.ep.number() != 0);
    let declared = declared_reply(opcode, payload).expect("a bulk transfer");
    assert_eq!(declared + value.data_len(), value.len);
}

fn interrupt(payload: &[u8]) {
    let opcode = Opcode::UsbInterruptTransfer;
    let value = transfer(
        payload,
        opcode,
        InterruptTransfer::decode,
        InterruptTransfer::encode,
    );
    let Some(value) = value else { return };
    assert!(value.len <= MAX_TRANSFER && value.ep.number() != 0);
}

fn isochronous(payload: &[u8]) {
    let opcode = Opcode::UsbIsochronousTransfer;
    let value = transfer(payload, opcode, IsoTransfer::decode, IsoTransfer::encode);
    let Some(value) = value else { return };
    assert!(value.total() <= MAX_TRANSFER && value.ep.number() != 0);
    assert!((1..=MAX_ISO_PACKETS).contains(&value.packets.len()));
}

fn transfer_reply(payload: &[u8]) {
    let Ok(reply) = TransferReply::decode(payload) else {
        return;
    };
    let data = payload
        .get(reply.data.clone())
        .expect("data in the payload");
    let length = u32::try_from(data.len()).expect("a short payload");
    assert!(length == 0 || length == reply.actual);
    let mut written = Vec::new();
    TransferReply::encode(reply.status, reply.actual, length, &mut written);
    written.extend_from_slice(data);
    let again = TransferReply::decode(&written).expect("what was read once");
    assert_eq!((again.status, again.actual), (reply.status, reply.actual));
    assert_eq!(written.get(again.data), Some(data));
}

fn iso_reply(payload: &[u8]) {
    let Ok(reply) = IsoReply::decode(payload) else {
        return;
    };
    let data = payload
        .get(reply.data.clone())
        .expect("data in the payload");
    let mut written = Vec::new();
    let length = u32::try_from(data.len()).expect("a short payload");
    reply.encode(length, &mut written);
    written.extend_from_slice(data);
    let again = IsoReply::decode(&written).expect("what was read once");
    assert_eq!(written.get(again.data.clone()), Some(data));
    let at = |reply: IsoReply| IsoReply {
        data: 0..0,
        ..reply
    };
    assert_eq!(at(again), at(reply));
}

/// The first two bytes are what was asked for.
fn descriptor_reply(payload: &[u8]) {
    let mut bytes = Bytes::new(payload);
    let len = bytes.u16();
    let payload = bytes.take(usize::MAX);
    let Ok(reply) = DescriptorReply::decode(payload, len) else {
        return;
    };
    assert!(reply.descriptor.len() <= usize::from(len));
    let mut written = Vec::new();
    reply.encode(&mut written);
    assert_eq!(DescriptorReply::decode(&written, len), Ok(reply));
}
