//! Frames: the Tier 0 messages inside a RECORD (profile 9.2 and 9.3).
//!
//! ```text
//! Length varint | Flags 1 | Kind 1 | Stream varint | [SSeq] | [Opcode 2] | [Corr] | [Status 1]
//!               | [Offset] | Payload
//! Length varint | Flags 1 (F set) | fragment header 12 | piece of Kind … Payload
//! ```

mod emit;

pub use emit::OpenFrame;

use super::flags::{Flags, FlagsError, Tier};
use super::fragment::{self, FragmentError};
use super::opcode::Opcode;
use super::status::{Status, sub};
use super::varint;

/// Streams and correlation ids are below 2^30 (profile 9.2).
pub const MAX_ID: u32 = (1 << 30) - 1;

/// The low nibble of a frame's Kind byte (profile 9.3).
pub mod mark {
    /// RESPONSE: another one follows.
    pub const MORE: u8 = 0x1;
    /// DATA: the last one in this direction.
    pub const FIN: u8 = 0x2;
    /// The frame's number on its stream follows.
    pub const SSEQ: u8 = 0x4;
    /// Reserved, zero.
    pub const ZERO: u8 = 0x8;
}

/// The high nibble of a frame's Kind byte (profile 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 0: bytes of an open stream.
    Data,
    /// 1: starts an operation.
    Request,
    /// 2: answers a request.
    Response,
    /// 3: unsolicited, no answer.
    Event,
    /// 4: absolute credit limit.
    Credit,
    /// 5: asks to abandon a request.
    Cancel,
    /// 6: ends a stream abruptly.
    Reset,
    /// 7: ignored.
    Pad,
    /// 8–11: ignored; 12–15: an error.
    Reserved(u8),
}

impl Kind {
    /// The kind with the given number; only the low four bits count.
    pub const fn from_nibble(nibble: u8) -> Self {
        match nibble & 0x0F {
            0 => Self::Data,
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Event,
            4 => Self::Credit,
            5 => Self::Cancel,
            6 => Self::Reset,
            7 => Self::Pad,
            other => Self::Reserved(other),
        }
    }

    /// The number, 0–15.
    pub const fn to_nibble(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Request => 1,
            Self::Response => 2,
            Self::Event => 3,
            Self::Credit => 4,
            Self::Cancel => 5,
            Self::Reset => 6,
            Self::Pad => 7,
            Self::Reserved(nibble) => nibble & 0x0F,
        }
    }
}

/// What a frame is, with the fields its kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Raw bytes of an open stream.
    Data {
        /// Last DATA in this direction.
        fin: bool,
    },
    /// Starts an operation; on a fresh stream it opens the stream.
    Request {
        /// The operation.
        opcode: Opcode,
        /// Chosen by the requester, at most [`MAX_ID`].
        corr: u32,
    },
    /// Answers the request with the same `corr`.
    Response {
        /// Of the request.
        corr: u32,
        /// Success or failure; on failure the payload is an error map.
        status: Status,
        /// Another answer follows.
        more: bool,
    },
    /// Unsolicited.
    Event {
        /// What happened.
        opcode: Opcode,
    },
    /// How many bytes the peer may have sent in total (profile 11.2); no payload.
    Credit {
        /// Absolute limit in bytes, at most 2^62 - 1.
        limit: u64,
    },
    /// Asks to abandon a request; no payload.
    Cancel {
        /// Of the request.
        corr: u32,
    },
    /// Ends a stream; the payload is empty or an error map.
    Reset {
        /// Why.
        status: Status,
    },
    /// Nothing, to hide lengths.
    Pad,
    /// A kind from 8 to 11: to be ignored whole, its other fields are not read.
    Ignored {
        /// The reserved number.
        kind: u8,
    },
}

impl Body {
    /// The kind without its fields.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Data { .. } => Kind::Data,
            Self::Request { .. } => Kind::Request,
            Self::Response { .. } => Kind::Response,
            Self::Event { .. } => Kind::Event,
            Self::Credit { .. } => Kind::Credit,
            Self::Cancel { .. } => Kind::Cancel,
            Self::Reset { .. } => Kind::Reset,
            Self::Pad => Kind::Pad,
            Self::Ignored { kind } => Kind::Reserved(*kind),
        }
    }
}

/// Everything of a frame but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Flag C: the payload is a compression container (profile 13.2).
    pub compressed: bool,
    /// Flag E: the payload is a message of an inner session (profile 9.4); DATA only.
    pub relay: bool,
    /// At most [`MAX_ID`]; 0 is the control stream.
    pub stream: u32,
    /// Number of this DATA or EVENT on its stream and direction; unordered paths only.
    pub sseq: Option<u64>,
    /// Kind and fields.
    pub body: Body,
}

impl FrameHead {
    /// A head without C, E and `SSeq`.
    pub const fn new(stream: u32, body: Body) -> Self {
        Self {
            compressed: false,
            relay: false,
            stream,
            sseq: None,
            body,
        }
    }
}

/// A frame that lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its fields.
    pub head: FrameHead,
    /// The rest; empty for CREDIT and CANCEL of a well-behaved peer, to be ignored there.
    pub payload: &'a [u8],
}

/// A frame or a piece of one, as it stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFrame<'a> {
    /// A frame that needs no reassembly.
    Whole(Frame<'a>),
    /// A piece of a unit, to be handed to [`fragment::Reassembler`]; the unit is then read with
    /// [`parse_unit`].
    Fragment {
        /// Repeated in all pieces of the unit.
        flags: Flags,
        /// Which piece of which unit.
        header: fragment::Header,
        /// The piece, never empty.
        piece: &'a [u8],
    },
}

/// Why a record's plaintext is not a sequence of frames; each of them ends the session (profile 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A RECORD without a frame.
    #[error("an empty record")]
    Empty,
    /// A length is cut, or larger than what is left of the record.
    #[error("a frame reaches beyond its record")]
    Beyond,
    /// A length below 3.
    #[error("a frame of {0} bytes")]
    Short(u64),
    /// More frames than allowed.
    #[error("more than {0} frames in a record")]
    TooMany(usize),
    /// A flags byte of another version or tier.
    #[error("wrong frame flags")]
    Flags(#[from] FlagsError),
    /// The flags byte of a header that is not Tier 0's.
    #[error("a frame with the flags of {0}")]
    Tier(Tier),
    /// Flag E together with C, F or a kind other than DATA.
    #[error("flag E where no relayed message can be")]
    Relay,
    /// Kinds 12–15.
    #[error("frame kind {0} is reserved")]
    Kind(u8),
    /// Kind flag 0x8.
    #[error("a reserved kind flag is set")]
    KindFlag,
    /// The frame ends before the fields of its kind.
    #[error("a frame ends inside its header")]
    Cut,
    /// A stream of 2^30 or more.
    #[error("stream {0} is out of range")]
    Stream(u64),
    /// A correlation id of 2^30 or more.
    #[error("correlation id {0} is out of range")]
    Corr(u64),
    /// The fragment header is wrong.
    #[error("wrong fragment")]
    Fragment(#[from] FragmentError),
}

impl FrameError {
    /// The sub-code of 0x10 `BAD_REQUEST` with which the session is closed (profile 10.3).
    pub const fn sub(&self) -> &'static str {
        match self {
            Self::Fragment(_) => sub::FRAGMENT,
            Self::TooMany(_) => sub::LIMIT,
            Self::Empty
            | Self::Beyond
            | Self::Short(_)
            | Self::Flags(_)
            | Self::Tier(_)
            | Self::Relay
            | Self::Kind(_)
            | Self::KindFlag
            | Self::Cut
            | Self::Stream(_)
            | Self::Corr(_) => sub::BAD_PAYLOAD,
        }
    }
}

/// The frames of a record's plaintext, at most `max` of them ([`super::limits::FRAMES_PER_RECORD`]).
/// After the first error the iterator ends.
pub const fn frames(plaintext: &[u8], max: usize) -> Frames<'_> {
    Frames {
        rest: plaintext,
        max,
        count: 0,
        ended: false,
    }
}

/// Iterator of [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    max: usize,
    count: usize,
    ended: bool,
}

impl<'a> Frames<'a> {
    fn step(&mut self) -> Result<RawFrame<'a>, FrameError> {
        if self.rest.is_empty() {
            return Err(FrameError::Empty);
        }
        if self.count >= self.max {
            return Err(FrameError::TooMany(self.max));
        }
        self.count += 1;
        let (length, rest) = varint::read(self.rest).ok_or(FrameError::Beyond)?;
        if length < 3 {
            return Err(FrameError::Short(length));
        }
        let length = usize::try_from(length).map_err(|_| FrameError::Beyond)?;
        let (frame, rest) = rest.split_at_checked(length).ok_or(FrameError::Beyond)?;
        self.rest = rest;
        parse_frame(frame)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<RawFrame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || (self.rest.is_empty() && self.count > 0) {
            return None;
        }
        let frame = self.step();
        self.ended = frame.is_err();
        Some(frame)
    }
}

impl core::iter::FusedIterator for Frames<'_> {}

/// One frame without its length.
fn parse_frame(frame: &[u8]) -> Result<RawFrame<'_>, FrameError> {
    let (first, rest) = frame.split_first().ok_or(FrameError::Cut)?;
    let flags = Flags::parse(*first)?;
    if flags.tier != Tier::T0 {
        return Err(FrameError::Tier(flags.tier));
    }
    if flags.encrypted && (flags.compressed || flags.fragment) {
        return Err(FrameError::Relay);
    }
    if flags.fragment {
        let (header, piece) = fragment::Header::parse(rest)?;
        return Ok(RawFrame::Fragment {
            flags,
            header,
            piece,
        });
    }
    parse_unit(flags, rest).map(RawFrame::Whole)
}

/// Reads Kind … Payload, the unit that fragmentation cuts; `flags` are those of the frame or of its
/// fragments.
///
/// The first piece of a fragmented unit can be read too, as long as it holds all fields: the payload
/// is then the part that has arrived, so that credit can be charged (profile 13.1).
///
/// # Errors
/// [`FrameError`] for the fields; the payload is not looked at.
pub fn parse_unit(flags: Flags, unit: &[u8]) -> Result<Frame<'_>, FrameError> {
    let mut fields = Fields { rest: unit };
    let [kind] = fields.bytes()?;
    let (nibble, marks) = (kind >> 4, kind & 0x0F);
    let kind = Kind::from_nibble(nibble);
    if let Kind::Reserved(reserved) = kind {
        return match reserved {
            12.. => Err(FrameError::Kind(reserved)),
            _ => Ok(Frame {
                head: FrameHead::new(0, Body::Ignored { kind: reserved }),
                payload: fields.rest,
            }),
        };
    }
    if marks & mark::ZERO != 0 {
        return Err(FrameError::KindFlag);
    }
    if flags.encrypted && kind != Kind::Data {
        return Err(FrameError::Relay);
    }
    let stream = fields.id(FrameError::Stream)?;
    let sseq = match marks & mark::SSEQ {
        0 => None,
        _ => Some(fields.varint()?),
    };
    let body = fields.body(kind, marks)?;
    Ok(Frame {
        head: FrameHead {
            compressed: flags.compressed,
            relay: flags.encrypted,
            stream,
            sseq,
            body,
        },
        payload: fields.rest,
    })
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(FrameError::Cut)?;
        self.rest = rest;
        Ok(*head)
    }

    fn varint(&mut self) -> Result<u64, FrameError> {
        let (value, rest) = varint::read(self.rest).ok_or(FrameError::Cut)?;
        self.rest = rest;
        Ok(value)
    }

    fn id(&mut self, error: fn(u64) -> FrameError) -> Result<u32, FrameError> {
        let value = self.varint()?;
        match u32::try_from(value) {
            Ok(id) if id <= MAX_ID => Ok(id),
            _ => Err(error(value)),
        }
    }

    fn opcode(&mut self) -> Result<Opcode, FrameError> {
        Ok(Opcode::from_u16(u16::from_be_bytes(self.bytes()?)))
    }

    fn corr(&mut self) -> Result<u32, FrameError> {
        self.id(FrameError::Corr)
    }

    fn status(&mut self) -> Result<Status, FrameError> {
        let [status] = self.bytes()?;
        Ok(Status::from_u8(status))
    }

    fn body(&mut self, kind: Kind, marks: u8) -> Result<Body, FrameError> {
        Ok(match kind {
            Kind::Data => Body::Data {
                fin: marks & mark::FIN != 0,
            },
            Kind::Request => Body::Request {
                opcode: self.opcode()?,
                corr: self.corr()?,
            },
            Kind::Response => Body::Response {
                corr: self.corr()?,
                status: self.status()?,
                more: marks & mark::MORE != 0,
            },
            Kind::Event => Body::Event {
                opcode: self.opcode()?,
            },
            Kind::Credit => Body::Credit {
                limit: self.varint()?,
            },
            Kind::Cancel => Body::Cancel { corr: self.corr()? },
            Kind::Reset => Body::Reset {
                status: self.status()?,
            },
            Kind::Pad => Body::Pad,
            Kind::Reserved(kind) => Body::Ignored { kind },
        })
    }
}

#[cfg(test)]
mod tests;
