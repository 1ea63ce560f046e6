//! Writing frames.

use super::{Body, Frame, FrameHead, MAX_ID, mark};
use crate::wire::flags::{Flags, Tier};
use crate::wire::varint;

/// Bytes of the length that [`FrameHead::begin`] reserves.
const RESERVED: usize = 4;

impl Frame<'_> {
    /// Appends the frame.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.head.emit(self.payload, out);
    }
}

impl FrameHead {
    /// The frame's flags byte, without F.
    pub const fn flags(&self) -> Flags {
        Flags {
            tier: Tier::T0,
            compressed: self.compressed,
            fragment: false,
            encrypted: self.relay,
        }
    }

    /// Bytes of Kind … before the payload.
    pub const fn unit_head_len(&self) -> usize {
        let fields = match self.body {
            Body::Data { .. } | Body::Pad | Body::Ignored { .. } => 0,
            Body::Request { corr, .. } => 2 + id_len(corr),
            Body::Response { corr, .. } => id_len(corr) + 1,
            Body::Event { .. } => 2,
            Body::Credit { limit } => varint::len(limit),
            Body::Cancel { corr } => id_len(corr),
            Body::Reset { .. } => 1,
        };
        let sseq = match self.sseq {
            Some(sseq) => varint::len(sseq),
            None => 0,
        };
        1 + id_len(self.stream) + sseq + fields
    }

    /// Bytes that [`Self::emit`] appends for a payload of the given length.
    pub const fn emitted_len(&self, payload: usize) -> usize {
        let frame = 1 + self.unit_head_len() + payload;
        // A usize is at most 64 bits wide.
        varint::len(frame as u64) + frame
    }

    /// Appends a whole frame.
    pub fn emit(&self, payload: &[u8], out: &mut Vec<u8>) {
        let length = 1 + self.unit_head_len() + payload.len();
        varint::write(out, u64::try_from(length).unwrap_or(varint::MAX));
        out.push(self.flags().to_u8());
        self.emit_unit_head(out);
        out.extend_from_slice(payload);
    }

    /// Appends Kind … before the payload, the start of the unit that fragmentation cuts.
    ///
    /// Ids above [`MAX_ID`] are capped to it.
    pub fn emit_unit_head(&self, out: &mut Vec<u8>) {
        let marks = match self.body {
            Body::Data { fin: true } => mark::FIN,
            Body::Response { more: true, .. } => mark::MORE,
            Body::Data { .. }
            | Body::Request { .. }
            | Body::Response { .. }
            | Body::Event { .. }
            | Body::Credit { .. }
            | Body::Cancel { .. }
            | Body::Reset { .. }
            | Body::Pad
            | Body::Ignored { .. } => 0,
        };
        let marks = marks | if self.sseq.is_some() { mark::SSEQ } else { 0 };
        out.push((self.body.kind().to_nibble() << 4) | marks);
        write_id(out, self.stream);
        if let Some(sseq) = self.sseq {
            varint::write(out, sseq);
        }
        match self.body {
            Body::Data { .. } | Body::Pad | Body::Ignored { .. } => {}
            Body::Request { opcode, corr } => {
                out.extend_from_slice(&opcode.to_u16().to_be_bytes());
                write_id(out, corr);
            }
            Body::Response { corr, status, .. } => {
                write_id(out, corr);
                out.push(status.to_u8());
            }
            Body::Event { opcode } => out.extend_from_slice(&opcode.to_u16().to_be_bytes()),
            Body::Credit { limit } => varint::write(out, limit),
            Body::Cancel { corr } => write_id(out, corr),
            Body::Reset { status } => out.push(status.to_u8()),
        }
    }

    /// Starts a frame whose payload the caller then appends to [`OpenFrame::payload`], so that a
    /// payload of unknown length is written only once. Costs up to three bytes more than
    /// [`Self::emit`]: the length is written in four bytes, which profile 9.2 allows.
    pub fn begin<'a>(&self, out: &'a mut Vec<u8>) -> OpenFrame<'a> {
        let start = out.len();
        out.extend_from_slice(&[0; RESERVED]);
        out.push(self.flags().to_u8());
        self.emit_unit_head(out);
        OpenFrame {
            payload_at: out.len(),
            start,
            out,
        }
    }
}

/// A frame whose length is not known yet; [`Self::finish`] or [`Self::abandon`] it.
#[derive(Debug)]
#[must_use = "a frame without its length makes the record unreadable"]
pub struct OpenFrame<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    payload_at: usize,
}

impl OpenFrame<'_> {
    /// Where the payload is appended. Nothing before [`Self::payload_len`] from its end may change.
    pub const fn payload(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Payload bytes appended so far.
    pub const fn payload_len(&self) -> usize {
        self.out.len().saturating_sub(self.payload_at)
    }

    /// Writes the length. Frames end at 2^30 - 1 bytes, far beyond any record (profile 18).
    pub fn finish(self) {
        let at = self.start + RESERVED;
        let length = u32::try_from(self.out.len().saturating_sub(at)).unwrap_or(MAX_ID);
        let bytes = (length.min(MAX_ID) | 0x8000_0000).to_be_bytes();
        if let Some(reserved) = self.out.get_mut(self.start..at) {
            reserved.copy_from_slice(&bytes);
        }
    }

    /// Takes the frame back.
    pub fn abandon(self) {
        self.out.truncate(self.start);
    }
}

const fn id_len(id: u32) -> usize {
    // Widening; `u64::from` is not const.
    varint::len(if id < MAX_ID { id } else { MAX_ID } as u64)
}

fn write_id(out: &mut Vec<u8>, id: u32) {
    varint::write(out, u64::from(id.min(MAX_ID)));
}
