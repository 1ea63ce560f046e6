//! The direct form: one operation as the whole plaintext of a sealed message (profile 9.1).
//!
//! The message's header carries the opcode; the plaintext is the MessagePack array
//! `[kind, stream, corr, status, body, ? kind-flags, ? sseq]`. It means the same as a frame and is
//! read into one.

use super::frame::{Body, Frame, FrameHead, Kind, MAX_ID, mark};
use super::msgpack::{DecodeError, Reader, Writer};
use super::opcode::Opcode;
use super::status::Status;

/// Why a plaintext is not a direct form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectError {
    /// It is not the array.
    #[error("the direct form is malformed")]
    Malformed(#[from] DecodeError),
    /// CREDIT, PAD and reserved kinds have no direct form.
    #[error("kind {0} has no direct form")]
    Kind(u64),
    /// Kind flag 0x8, or the sequence flag without a sequence.
    #[error("kind flags {0:#x} in direct form")]
    KindFlags(u8),
    /// A stream of 2^30 or more.
    #[error("stream {0} is out of range")]
    Stream(u64),
    /// A correlation id of 2^30 or more.
    #[error("correlation id {0} is out of range")]
    Corr(u64),
}

/// Reads the plaintext of a direct message, reassembled and decompressed, whose header carries
/// `opcode`.
///
/// The payload of DATA is the content of its bin; every other payload is the encoded object, empty
/// for nil. It is a slice of the plaintext.
///
/// # Errors
/// [`DirectError`]; the rules of profile 4.2 hold for the whole array.
pub fn parse(opcode: Opcode, plaintext: &[u8]) -> Result<Frame<'_>, DirectError> {
    let mut reader = Reader::new(plaintext);
    let optional = reader.fixed_array(5)?;
    let number = reader.uint()?;
    let stream = id(reader.uint()?, DirectError::Stream)?;
    let corr = id(reader.uint()?, DirectError::Corr)?;
    let status = Status::from_u8(reader.u8()?);
    let payload = match number {
        _ if reader.take_nil() => &[],
        0 => reader.bin()?,
        _ => reader.skip_value()?,
    };
    let (marks, sseq) = marks(&mut reader, optional)?;
    reader.finish_fixed(optional.saturating_sub(2))?;
    let kind = u8::try_from(number).ok().filter(|number| *number < 16);
    let body = match kind.map(Kind::from_nibble) {
        Some(Kind::Data) => Body::Data {
            fin: marks & mark::FIN != 0,
        },
        Some(Kind::Request) => Body::Request { opcode, corr },
        Some(Kind::Response) => Body::Response {
            corr,
            status,
            more: marks & mark::MORE != 0,
        },
        Some(Kind::Event) => Body::Event { opcode },
        Some(Kind::Cancel) => Body::Cancel { corr },
        Some(Kind::Reset) => Body::Reset { status },
        Some(Kind::Credit | Kind::Pad | Kind::Reserved(_)) | None => {
            return Err(DirectError::Kind(number));
        }
    };
    let head = FrameHead {
        sseq,
        ..FrameHead::new(stream, body)
    };
    Ok(Frame { head, payload })
}

/// Appends the plaintext of a direct message; its header must carry the opcode of the frame or, for
/// kinds without one, that of the request (profile 10.2).
///
/// `payload` is raw bytes for DATA and one encoded object, or nothing, for every other kind.
///
/// # Errors
/// `Kind` for CREDIT, PAD and reserved kinds; nothing is appended then.
pub fn emit(head: &FrameHead, payload: &[u8], out: &mut Vec<u8>) -> Result<(), DirectError> {
    let number = head.body.kind().to_nibble();
    let (corr, status, marks) = match head.body {
        Body::Data { fin } => (0, 0, if fin { mark::FIN } else { 0 }),
        Body::Request { corr, .. } | Body::Cancel { corr } => (corr, 0, 0),
        Body::Response { corr, status, more } => {
            (corr, status.to_u8(), if more { mark::MORE } else { 0 })
        }
        Body::Event { .. } => (0, 0, 0),
        Body::Reset { status } => (0, status.to_u8(), 0),
        Body::Credit { .. } | Body::Pad | Body::Ignored { .. } => {
            return Err(DirectError::Kind(u64::from(number)));
        }
    };
    let marks = marks | if head.sseq.is_some() { mark::SSEQ } else { 0 };
    let mut writer = Writer::new(out);
    writer.array(match (head.sseq, marks) {
        (Some(_), _) => 7,
        (None, 0) => 5,
        (None, _) => 6,
    });
    writer.uint(number);
    writer.uint(head.stream);
    writer.uint(corr);
    writer.uint(status);
    if payload.is_empty() {
        writer.nil();
    } else if matches!(head.body, Body::Data { .. }) {
        writer.bin(payload);
    } else {
        writer.raw(payload);
    }
    if marks != 0 {
        writer.uint(marks);
    }
    if let Some(sseq) = head.sseq {
        writer.uint(sseq);
    }
    Ok(())
}

/// Kind flags and `SSeq`, of which `optional` elements are there.
fn marks(reader: &mut Reader<'_>, optional: usize) -> Result<(u8, Option<u64>), DirectError> {
    let marks = if optional > 0 { reader.u8()? } else { 0 };
    let sseq = match optional {
        0 | 1 => None,
        _ if reader.take_nil() => None,
        _ => Some(reader.uint()?),
    };
    if marks & mark::ZERO != 0 || (marks & mark::SSEQ != 0 && sseq.is_none()) {
        return Err(DirectError::KindFlags(marks));
    }
    Ok((marks, sseq))
}

fn id(value: u64, error: fn(u64) -> DirectError) -> Result<u32, DirectError> {
    match u32::try_from(value) {
        Ok(id) if id <= MAX_ID => Ok(id),
        _ => Err(error(value)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn optional_elements_carry_marks_and_sequence() {
        let frame = parse(
            Opcode::StreamData,
            &[0x97, 0, 5, 0, 0, 0xC4, 1, 9, 0x06, 0xCD, 1, 0],
        );
        let frame = frame.unwrap();
        assert_eq!(frame.head.body, Body::Data { fin: true });
        assert_eq!((frame.head.sseq, frame.payload), (Some(256), &[9][..]));
    }

    #[test]
    fn elements_of_later_versions_are_ignored() {
        let frame = parse(
            Opcode::DeviceList,
            &[0x99, 1, 0, 1, 0, 0xC0, 0, 0xC0, 0x80, 0x90],
        );
        assert_eq!(
            frame.unwrap().head,
            FrameHead::new(
                0,
                Body::Request {
                    opcode: Opcode::DeviceList,
                    corr: 1
                }
            )
        );
    }

    #[test]
    fn nil_is_an_empty_payload() {
        let frame = parse(Opcode::DeviceList, &[0x95, 5, 1, 7, 0, 0xC0]).unwrap();
        assert_eq!(frame.head.body, Body::Cancel { corr: 7 });
        assert!(frame.payload.is_empty());
    }

    #[test]
    fn credit_pad_and_reserved_kinds_have_no_direct_form() {
        for kind in [4, 7, 8, 12, 15, 16, 0x7F] {
            assert_eq!(
                parse(Opcode::Nop, &[0x95, kind, 0, 0, 0, 0xC0]),
                Err(DirectError::Kind(u64::from(kind)))
            );
        }
        let credit = FrameHead::new(1, Body::Credit { limit: 9 });
        let mut out = Vec::new();
        assert_eq!(emit(&credit, &[], &mut out), Err(DirectError::Kind(4)));
        assert!(out.is_empty());
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        fn parse(bytes: &[u8]) -> Result<Frame<'_>, DirectError> {
            super::parse(Opcode::DeviceList, bytes)
        }
        assert_eq!(
            parse(b"\x95\x01\xce\x40\x00\x00\x00\x00\x00\xc0"),
            Err(DirectError::Stream(1 << 30))
        );
        assert_eq!(
            parse(b"\x95\x01\x00\xce\x40\x00\x00\x00\x00\xc0"),
            Err(DirectError::Corr(1 << 30))
        );
        assert_eq!(
            parse(b"\x95\x01\x00\x00\xcd\x01\x00\xc0"),
            Err(DirectError::Malformed(DecodeError::Range))
        );
        assert_eq!(
            parse(b"\x96\x00\x01\x00\x00\xc0\x08"),
            Err(DirectError::KindFlags(8))
        );
        assert_eq!(
            parse(b"\x96\x00\x01\x00\x00\xc0\x04"),
            Err(DirectError::KindFlags(4))
        );
        assert!(parse(b"\x94\x01\x00\x00\x00").is_err());
        assert!(parse(b"\x95\x01\x00\x00\x00\xc0\x00").is_err());
        assert!(parse(b"\x95\x00\x00\x00\x00\xa1a").is_err());
    }

    #[test]
    fn depth_8_is_the_limit_of_the_whole_array() {
        let nested = |depth: usize| {
            let mut bytes = vec![0x95, 1, 0, 0, 0];
            bytes.resize(5 + depth, 0x91);
            bytes.push(0xC0);
            bytes
        };
        assert!(parse(Opcode::Nop, &nested(7)).is_ok());
        assert_eq!(
            parse(Opcode::Nop, &nested(8)),
            Err(DirectError::Malformed(DecodeError::Depth(8)))
        );
    }

    fn body() -> impl Strategy<Value = Body> {
        let corr = 0..=MAX_ID;
        let status = any::<u8>().prop_map(Status::from_u8);
        let opcode = Opcode::GpioEvent;
        prop_oneof![
            any::<bool>().prop_map(|fin| Body::Data { fin }),
            corr.clone()
                .prop_map(move |corr| Body::Request { opcode, corr }),
            (corr.clone(), status.clone(), any::<bool>())
                .prop_map(|(corr, status, more)| Body::Response { corr, status, more }),
            Just(Body::Event { opcode }),
            corr.prop_map(|corr| Body::Cancel { corr }),
            status.prop_map(|status| Body::Reset { status }),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_plaintext_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Opcode::Nop, &bytes);
        }

        #[test]
        fn any_frame_survives(
            body in body(),
            stream in 0..=MAX_ID,
            sseq in proptest::option::of(any::<u64>()),
            payload in prop_oneof![Just(vec![]), Just(vec![0x91, 5])],
        ) {
            let head = FrameHead { sseq, ..FrameHead::new(stream, body) };
            let mut out = Vec::new();
            emit(&head, &payload, &mut out).unwrap();
            let frame = parse(Opcode::GpioEvent, &out).unwrap();
            prop_assert_eq!(frame, Frame { head, payload: &payload });
        }
    }
}
