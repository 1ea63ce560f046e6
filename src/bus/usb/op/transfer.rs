//! Control, bulk and interrupt transfers and their common reply.

use core::ops::Range;

use super::{EndpointAddress, IsoTransfer, OpError, check_data, read_len};
use crate::wire::limits::UNDECLARED_REPLY;
use crate::wire::msgpack::{Reader, Writer};
use crate::wire::opcode::Opcode;

/// `flags` of a transfer: 1 short-not-ok, 2 zero-packet (profile 19.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferFlags {
    /// A short read is an error (-121) that stops the endpoint's queue.
    pub short_not_ok: bool,
    /// A write that fills its last packet is followed by an empty one.
    pub zero_packet: bool,
}

impl TransferFlags {
    const SHORT_NOT_OK: u8 = 1;
    const ZERO_PACKET: u8 = 2;

    fn to_u8(self) -> u8 {
        u8::from(self.short_not_ok) * Self::SHORT_NOT_OK
            + u8::from(self.zero_packet) * Self::ZERO_PACKET
    }

    /// An unknown flag would change what the transfer does, so it is refused.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, OpError> {
        let flags = reader.u8()?;
        if flags & !(Self::SHORT_NOT_OK | Self::ZERO_PACKET) != 0 {
            return Err(OpError::Field("flags"));
        }
        Ok(Self {
            short_not_ok: flags & Self::SHORT_NOT_OK != 0,
            zero_packet: flags & Self::ZERO_PACKET != 0,
        })
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) {
        writer.uint(self.to_u8());
    }
}

/// The eight bytes of a SETUP packet (USB 2.0 table 9-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// `bmRequestType`.
    pub request_type: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
    /// `wLength`: bytes of the data stage.
    pub length: u16,
}

impl Setup {
    /// From the packet's bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [request_type, request, v0, v1, i0, i1, l0, l1] = bytes;
        Self {
            request_type,
            request,
            value: u16::from_le_bytes([v0, v1]),
            index: u16::from_le_bytes([i0, i1]),
            length: u16::from_le_bytes([l0, l1]),
        }
    }

    /// The packet's bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.request_type, self.request, v0, v1, i0, i1, l0, l1]
    }

    /// True when the device sends the data stage.
    pub const fn is_in(self) -> bool {
        self.request_type & 0x80 != 0
    }
}

/// `USB_CONTROL_TRANSFER` `[0, flags, timeout-ms, setup bin8, len, data bin]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlTransfer {
    /// Short-not-ok, zero-packet.
    pub flags: TransferFlags,
    /// Milliseconds, 0 for none.
    pub timeout_ms: u32,
    /// The SETUP packet; its direction is the transfer's.
    pub setup: Setup,
    /// Bytes of the data stage, 0–65535; not more than `setup.length` of them are moved.
    pub len: u32,
}

impl ControlTransfer {
    /// Appends the request up to its data; [`Self::data_len`] bytes must follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(6);
        writer.uint(EndpointAddress::CONTROL.to_u8());
        self.flags.write(&mut writer);
        writer.uint(self.timeout_ms);
        writer.bin(&self.setup.to_bytes());
        writer.uint(self.len);
        writer.bin_header(self.data_len());
    }

    /// Bytes of data that belong to the request: all of them for a write, none for a read.
    pub const fn data_len(&self) -> u32 {
        if self.setup.is_in() { 0 } else { self.len }
    }

    /// Reads a request and returns it with its data.
    ///
    /// # Errors
    /// [`OpError`] for another endpoint than 0, unknown flags, `len` above 65535 or different from
    /// `wLength` in a write, and data of another length than announced.
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(6)?;
        if reader.u8()? != EndpointAddress::CONTROL.to_u8() {
            return Err(OpError::Field("ep"));
        }
        let flags = TransferFlags::read(&mut reader)?;
        let timeout_ms = reader.u32()?;
        let setup = reader.bin()?;
        let setup = <[u8; 8]>::try_from(setup).map_err(|_| OpError::Field("setup"))?;
        let setup = Setup::from_bytes(setup);
        let len = reader.u32()?;
        let data = reader.bin()?;
        reader.finish_fixed(extra)?;
        if len > u32::from(u16::MAX) || (!setup.is_in() && len != u32::from(setup.length)) {
            return Err(OpError::Field("len"));
        }
        check_data(setup.is_in(), len, data)?;
        let transfer = Self {
            flags,
            timeout_ms,
            setup,
            len,
        };
        Ok((transfer, data))
    }
}

/// `USB_BULK_TRANSFER` `[ep, flags, timeout-ms, len, data bin]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkTransfer {
    /// Any endpoint but 0; its direction is the transfer's.
    pub ep: EndpointAddress,
    /// Short-not-ok, zero-packet.
    pub flags: TransferFlags,
    /// Milliseconds, 0 for none.
    pub timeout_ms: u32,
    /// Bytes to write, or to read at most; up to [`super::MAX_TRANSFER`].
    pub len: u32,
}

impl BulkTransfer {
    /// Appends the request up to its data; [`Self::data_len`] bytes must follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(5);
        writer.uint(self.ep.to_u8());
        self.flags.write(&mut writer);
        writer.uint(self.timeout_ms);
        writer.uint(self.len);
        writer.bin_header(self.data_len());
    }

    /// Bytes of data that belong to the request: all of them for a write, none for a read.
    pub const fn data_len(&self) -> u32 {
        if self.ep.is_in() { 0 } else { self.len }
    }

    /// Reads a request and returns it with its data.
    ///
    /// # Errors
    /// [`OpError`] for endpoint 0 or an impossible one, unknown flags, a length above the bound, and
    /// data of another length than announced.
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(5)?;
        let transfer = Self {
            ep: EndpointAddress::read_data(&mut reader)?,
            flags: TransferFlags::read(&mut reader)?,
            timeout_ms: reader.u32()?,
            len: read_len(&mut reader)?,
        };
        let data = reader.bin()?;
        reader.finish_fixed(extra)?;
        check_data(transfer.ep.is_in(), transfer.len, data)?;
        Ok((transfer, data))
    }
}

/// `USB_INTERRUPT_TRANSFER` `[ep, flags, timeout-ms, len, interval, data bin]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptTransfer {
    /// Any endpoint but 0; its direction is the transfer's.
    pub ep: EndpointAddress,
    /// Short-not-ok, zero-packet.
    pub flags: TransferFlags,
    /// Milliseconds, 0 for none.
    pub timeout_ms: u32,
    /// Bytes to write, or to read at most; up to [`super::MAX_TRANSFER`].
    pub len: u32,
    /// Polling interval in frames, or in microframes at high speed and above; a hint, because the
    /// owner polls as the endpoint's descriptor says.
    pub interval: u32,
}

impl InterruptTransfer {
    /// Appends the request up to its data; [`Self::data_len`] bytes must follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(6);
        writer.uint(self.ep.to_u8());
        self.flags.write(&mut writer);
        writer.uint(self.timeout_ms);
        writer.uint(self.len);
        writer.uint(self.interval);
        writer.bin_header(self.data_len());
    }

    /// Bytes of data that belong to the request: all of them for a write, none for a read.
    pub const fn data_len(&self) -> u32 {
        if self.ep.is_in() { 0 } else { self.len }
    }

    /// Reads a request and returns it with its data.
    ///
    /// # Errors
    /// As [`BulkTransfer::decode`].
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(6)?;
        let transfer = Self {
            ep: EndpointAddress::read_data(&mut reader)?,
            flags: TransferFlags::read(&mut reader)?,
            timeout_ms: reader.u32()?,
            len: read_len(&mut reader)?,
            interval: reader.u32()?,
        };
        let data = reader.bin()?;
        reader.finish_fixed(extra)?;
        check_data(transfer.ep.is_in(), transfer.len, data)?;
        Ok((transfer, data))
    }
}

/// The `len` of an IN transfer, 0 of an OUT transfer, `None` for any other operation and for what
/// cannot be read: what the operation declares as the length of its answer (profile 11.2). The
/// packets of an isochronous one declare what they may bring, and no less than an operation that
/// declares nothing.
pub fn declared_reply(opcode: Opcode, payload: &[u8]) -> Option<u32> {
    let (input, len) = match opcode {
        Opcode::UsbControlTransfer => {
            let (transfer, _) = ControlTransfer::decode(payload).ok()?;
            (transfer.setup.is_in(), transfer.len)
        }
        Opcode::UsbBulkTransfer => {
            let (transfer, _) = BulkTransfer::decode(payload).ok()?;
            (transfer.ep.is_in(), transfer.len)
        }
        Opcode::UsbInterruptTransfer => {
            let (transfer, _) = InterruptTransfer::decode(payload).ok()?;
            (transfer.ep.is_in(), transfer.len)
        }
        Opcode::UsbIsochronousTransfer => {
            let (transfer, _) = IsoTransfer::decode(payload).ok()?;
            let received = if transfer.ep.is_in() {
                transfer.total()
            } else {
                0
            };
            return Some(received.max(UNDECLARED_REPLY));
        }
        _ => return None,
    };
    Some(if input { len } else { 0 })
}

/// `[status int, actual, data bin]`: what became of a control, bulk or interrupt transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferReply {
    /// 0 or a negative Linux errno, as the peer sent it: not yet known to be a plausible one.
    pub status: i32,
    /// Bytes that were moved; not yet compared with what was asked for.
    pub actual: u32,
    /// Where the data stands in the payload: `actual` bytes of a read, none of a write.
    pub data: Range<usize>,
}

impl TransferReply {
    /// Appends a reply up to its data; `data_len` bytes must follow.
    pub fn encode(status: i32, actual: u32, data_len: u32, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(3);
        writer.int(status);
        writer.uint(actual);
        writer.bin_header(data_len);
    }

    /// A whole reply; `data` is empty for what was sent to the device.
    pub fn whole(status: i32, actual: usize, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + super::REPLY_OVERHEAD as usize);
        // INVARIANT: no transfer is longer than MAX_TRANSFER, which fits.
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self::encode(status, length(actual), length(data.len()), &mut out);
        out.extend_from_slice(data);
        out
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or data of another length than `actual`.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(3)?;
        let status = reader.i32()?;
        let actual = reader.u32()?;
        let data = reader.bin()?.len();
        let end = payload.len() - reader.rest().len();
        reader.finish_fixed(extra)?;
        if data != 0 && u32::try_from(data) != Ok(actual) {
            return Err(OpError::Length);
        }
        Ok(Self {
            status,
            actual,
            data: end - data..end,
        })
    }
}
