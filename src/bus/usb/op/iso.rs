//! Isochronous transfers.

use core::ops::Range;

use super::{EndpointAddress, MAX_ISO_PACKETS, MAX_TRANSFER, OpError, TransferFlags, check_data};
use crate::wire::msgpack::{Reader, Writer};

/// `USB_ISOCHRONOUS_TRANSFER` `[ep, flags, start-frame or -1, ttl-ms, [*len], data bin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoTransfer {
    /// Any endpoint but 0; its direction is the transfer's.
    pub ep: EndpointAddress,
    /// Short-not-ok, zero-packet.
    pub flags: TransferFlags,
    /// The frame to start in, `None` (-1 on the wire) for as soon as possible.
    pub start_frame: Option<u32>,
    /// Milliseconds after which the transfer is no longer worth sending.
    pub ttl_ms: u32,
    /// Bytes of each packet, at most [`MAX_ISO_PACKETS`] packets and [`MAX_TRANSFER`] bytes
    /// together.
    pub packets: Vec<u32>,
}

impl IsoTransfer {
    /// Appends the request up to its data; [`Self::data_len`] bytes must follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(6);
        writer.uint(self.ep.to_u8());
        self.flags.write(&mut writer);
        writer.int(self.start_frame.map_or(-1, i64::from));
        writer.uint(self.ttl_ms);
        writer.array(count(&self.packets));
        for len in &self.packets {
            writer.uint(*len);
        }
        writer.bin_header(self.data_len());
    }

    /// Bytes of all packets together.
    pub fn total(&self) -> u32 {
        self.packets
            .iter()
            .fold(0, |sum, len| sum.saturating_add(*len))
    }

    /// Bytes of data that belong to the request: all of them for a write, none for a read.
    pub fn data_len(&self) -> u32 {
        if self.ep.is_in() { 0 } else { self.total() }
    }

    /// Reads a request and returns it with its data.
    ///
    /// # Errors
    /// [`OpError`] for endpoint 0 or an impossible one, unknown flags, a start frame below -1 or
    /// above 2^31 - 1, no or too many packets, too many bytes, and data of another length than the
    /// packets have together.
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(6)?;
        let ep = EndpointAddress::read_data(&mut reader)?;
        let flags = TransferFlags::read(&mut reader)?;
        let start_frame = match reader.i32()? {
            -1 => None,
            frame => Some(u32::try_from(frame).map_err(|_| OpError::Field("start-frame"))?),
        };
        let ttl_ms = reader.u32()?;
        let packets = (0..packet_count(&mut reader)?)
            .map(|_| reader.u32())
            .collect::<Result<Vec<_>, _>>()?;
        let data = reader.bin()?;
        reader.finish_fixed(extra)?;
        let transfer = Self {
            ep,
            flags,
            start_frame,
            ttl_ms,
            packets,
        };
        let total = transfer.total();
        if total > MAX_TRANSFER {
            return Err(OpError::Field("len"));
        }
        check_data(ep.is_in(), total, data)?;
        Ok((transfer, data))
    }
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsoPacket {
    /// Bytes that were moved.
    pub actual: u32,
    /// 0 or a negative Linux errno, as the peer sent it.
    pub status: i32,
}

/// `[status, start-frame, errors, [*[actual, status]], data bin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoReply {
    /// 0 or a negative Linux errno, as the peer sent it.
    pub status: i32,
    /// The frame the transfer started in.
    pub start_frame: u32,
    /// Packets whose status is not 0.
    pub errors: u32,
    /// One entry for each packet of the request; not yet compared with it.
    pub packets: Vec<IsoPacket>,
    /// Where the data stands in the payload: the packets of a read without gaps, none of a write.
    pub data: Range<usize>,
}

impl IsoReply {
    /// Appends a reply up to its data; `data_len` bytes must follow. The field `data` is not used.
    pub fn encode(&self, data_len: u32, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        writer.array(5);
        writer.int(self.status);
        writer.uint(self.start_frame);
        writer.uint(self.errors);
        writer.array(count(&self.packets));
        for packet in &self.packets {
            writer.array(2);
            writer.uint(packet.actual);
            writer.int(packet.status);
        }
        writer.bin_header(data_len);
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, too many packets, or data that is neither empty nor
    /// as long as all packets together.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(5)?;
        let status = reader.i32()?;
        let start_frame = reader.u32()?;
        let errors = reader.u32()?;
        let packets = (0..packet_count(&mut reader)?)
            .map(|_| packet(&mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        let data = reader.bin()?.len();
        let end = payload.len() - reader.rest().len();
        reader.finish_fixed(extra)?;
        let total = packets
            .iter()
            .fold(0, |sum: u64, packet| sum + u64::from(packet.actual));
        if data != 0 && u64::try_from(data) != Ok(total) {
            return Err(OpError::Length);
        }
        Ok(Self {
            status,
            start_frame,
            errors,
            packets,
            data: end - data..end,
        })
    }
}

fn packet(reader: &mut Reader<'_>) -> Result<IsoPacket, OpError> {
    let extra = reader.fixed_array(2)?;
    let actual = reader.u32()?;
    let status = reader.i32()?;
    reader.skip_values(extra)?;
    Ok(IsoPacket { actual, status })
}

fn packet_count(reader: &mut Reader<'_>) -> Result<usize, OpError> {
    match reader.array_header()? {
        count @ 1..=MAX_ISO_PACKETS => Ok(count),
        _ => Err(OpError::Field("packets")),
    }
}

fn count<T>(packets: &[T]) -> u32 {
    u32::try_from(packets.len()).unwrap_or(u32::MAX)
}
