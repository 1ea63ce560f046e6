use proptest::prelude::*;

use super::*;
use crate::wire::limits::FRAMES_PER_RECORD;

const PLAIN: Flags = Flags::plain(Tier::T0);

fn one(bytes: &[u8]) -> Result<RawFrame<'_>, FrameError> {
    frames(bytes, 1).next().unwrap()
}

fn whole(bytes: &[u8]) -> Frame<'_> {
    match one(bytes) {
        Ok(RawFrame::Whole(frame)) => frame,
        other => panic!("{other:?} is no whole frame"),
    }
}

#[test]
fn an_empty_record_is_an_error() {
    assert_eq!(one(&[]), Err(FrameError::Empty));
}

#[test]
fn frames_fill_the_record_exactly() {
    let mut two = frames(&[3, 0, 0x70, 0, 5], 9);
    assert!(two.next().unwrap().is_ok());
    assert_eq!(two.next(), Some(Err(FrameError::Beyond)));
    assert_eq!(two.next(), None);
    assert_eq!(one(&[4, 0, 0x70, 0]), Err(FrameError::Beyond));
    assert_eq!(one(&[0xC0]), Err(FrameError::Beyond));
    assert_eq!(one(&[0xFF; 8]), Err(FrameError::Beyond));
    assert_eq!(one(&[2, 0, 0x70]), Err(FrameError::Short(2)));
    assert_eq!(one(&[0]), Err(FrameError::Short(0)));
}

#[test]
fn frames_per_record_is_the_limit() {
    let (default, _) = FRAMES_PER_RECORD;
    let pads = [3, 0, 0x70, 0].repeat(default);
    assert!(frames(&pads, default).all(|frame| frame.is_ok()));
    let more = [3, 0, 0x70, 0].repeat(default + 1);
    assert_eq!(
        frames(&more, default).last(),
        Some(Err(FrameError::TooMany(default)))
    );
    assert_eq!(frames(&more, default).count(), default + 1);
}

#[test]
fn only_tier_0_flags_are_frame_flags() {
    for flags in 0..=u8::MAX {
        let result = parse_frame(core::slice::from_ref(&flags));
        match flags {
            0x00 | 0x01 | 0x04 => assert_eq!(result, Err(FrameError::Cut)),
            0x02 | 0x06 => assert_eq!(result, Err(FrameError::Fragment(FragmentError::Cut))),
            0x03 | 0x05 | 0x07 => assert_eq!(result, Err(FrameError::Relay)),
            0x08..=0x2F => assert!(matches!(result, Err(FrameError::Tier(_)))),
            0x30.. => assert!(matches!(result, Err(FrameError::Flags(_)))),
        }
    }
}

#[test]
fn flag_e_marks_relayed_data_and_nothing_else() {
    let relayed = whole(&[5, 0x01, 0x00, 9, 0x10, 0xFF]);
    assert!(relayed.head.relay);
    assert_eq!(relayed.payload, [0x10, 0xFF]);
    assert_eq!(one(&[3, 0x01, 0x70, 0]), Err(FrameError::Relay));
}

#[test]
fn kinds_8_to_11_are_ignored_and_12_to_15_are_errors() {
    for kind in 8..=11 {
        let frame = [3, 0, kind << 4 | 0xF, 0xFF];
        assert_eq!(whole(&frame).head.body, Body::Ignored { kind });
    }
    for kind in 12..=15 {
        assert_eq!(one(&[3, 0, kind << 4, 0]), Err(FrameError::Kind(kind)));
    }
}

#[test]
fn kind_flag_8_is_an_error() {
    assert_eq!(one(&[3, 0, 0x08, 1]), Err(FrameError::KindFlag));
}

#[test]
fn streams_and_correlation_ids_end_below_2_to_30() {
    assert_eq!(
        one(b"\x0a\x00\x00\xc0\x00\x00\x00\x40\x00\x00\x00"),
        Err(FrameError::Stream(1 << 30))
    );
    assert_eq!(whole(b"\x06\x00\x00\xbf\xff\xff\xff").head.stream, MAX_ID);
    assert_eq!(
        one(b"\x0b\x00\x50\x01\xff\xff\xff\xff\xff\xff\xff\xff"),
        Err(FrameError::Corr(varint::MAX))
    );
}

#[test]
fn longer_forms_of_lengths_and_ids_are_read() {
    let frame = whole(b"\x80\x00\x00\x0c\x00\x50\xc0\0\0\0\0\0\0\x05\x40\x07");
    assert_eq!(frame.head, FrameHead::new(5, Body::Cancel { corr: 7 }));
}

#[test]
fn a_frame_that_ends_inside_its_header_is_an_error() {
    for cut in [
        &[3, 0, 0x04, 1][..],
        &[3, 0, 0x10, 1],
        &[5, 0, 0x10, 1, 2, 0],
        &[4, 0, 0x20, 1, 0],
        &[4, 0, 0x30, 1, 6],
        &[3, 0, 0x40, 1],
        &[3, 0, 0x50, 1],
        &[3, 0, 0x60, 1],
        &[3, 0, 0x00, 0x40],
    ] {
        assert_eq!(one(cut), Err(FrameError::Cut), "{cut:x?}");
    }
}

#[test]
fn marks_of_other_kinds_are_ignored() {
    assert_eq!(whole(&[3, 0, 0x01, 5]).head.body, Body::Data { fin: false });
    assert_eq!(
        whole(&[4, 0, 0x53, 5, 6]).head.body,
        Body::Cancel { corr: 6 }
    );
}

#[test]
fn the_first_piece_of_a_unit_shows_its_head() {
    let head = FrameHead::new(3, Body::Data { fin: true });
    let mut unit = Vec::new();
    head.emit_unit_head(&mut unit);
    unit.extend([7; 100]);
    let first = parse_unit(PLAIN, &unit[..48]).unwrap();
    assert_eq!((first.head, first.payload.len()), (head, 46));
    assert_eq!(parse_unit(PLAIN, &unit[..1]), Err(FrameError::Cut));
}

#[test]
fn an_open_frame_gets_its_length_when_finished() {
    let head = FrameHead::new(
        7,
        Body::Response {
            corr: 300,
            status: Status::Ok,
            more: false,
        },
    );
    let mut out = vec![0xAA];
    let mut open = head.begin(&mut out);
    open.payload().extend_from_slice(b"payload");
    assert_eq!(open.payload_len(), 7);
    open.finish();
    let frame = whole(&out[1..]);
    assert_eq!((frame.head, frame.payload), (head, &b"payload"[..]));

    let mut open = head.begin(&mut out);
    open.payload().push(1);
    let before = 1 + 4 + 1 + head.unit_head_len() + 7;
    open.abandon();
    assert_eq!(out.len(), before);
}

#[test]
fn ids_above_the_range_are_capped_when_written() {
    let head = FrameHead::new(u32::MAX, Body::Cancel { corr: u32::MAX });
    let mut out = Vec::new();
    head.emit(&[], &mut out);
    assert_eq!(out.len(), head.emitted_len(0));
    let capped = FrameHead::new(MAX_ID, Body::Cancel { corr: MAX_ID });
    assert_eq!(whole(&out).head, capped);
}

fn body() -> impl Strategy<Value = Body> {
    let opcode = any::<u16>().prop_map(Opcode::from_u16);
    let status = any::<u8>().prop_map(Status::from_u8);
    let corr = 0..=MAX_ID;
    prop_oneof![
        any::<bool>().prop_map(|fin| Body::Data { fin }),
        (opcode.clone(), corr.clone()).prop_map(|(opcode, corr)| Body::Request { opcode, corr }),
        (corr.clone(), status.clone(), any::<bool>())
            .prop_map(|(corr, status, more)| Body::Response { corr, status, more }),
        opcode.prop_map(|opcode| Body::Event { opcode }),
        (0..=varint::MAX).prop_map(|limit| Body::Credit { limit }),
        corr.prop_map(|corr| Body::Cancel { corr }),
        status.prop_map(|status| Body::Reset { status }),
        Just(Body::Pad),
    ]
}

fn head() -> impl Strategy<Value = FrameHead> {
    (
        any::<bool>(),
        0..=MAX_ID,
        proptest::option::of(0..=varint::MAX),
        body(),
    )
        .prop_map(|(compressed, stream, sseq, body)| FrameHead {
            compressed,
            relay: false,
            stream,
            sseq,
            body,
        })
}

proptest! {
    #[test]
    fn arbitrary_records_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for frame in frames(&bytes, 64) {
            let _ = frame;
        }
        let _ = parse_unit(PLAIN, &bytes);
    }

    #[test]
    fn any_frames_survive(
        list in proptest::collection::vec(
            (head(), proptest::collection::vec(any::<u8>(), 0..200)),
            1..8,
        )
    ) {
        let mut out = Vec::new();
        for (head, payload) in &list {
            let before = out.len();
            Frame { head: *head, payload }.emit(&mut out);
            prop_assert_eq!(out.len() - before, head.emitted_len(payload.len()));
        }
        let read: Vec<_> = frames(&out, list.len()).collect::<Result<_, _>>().unwrap();
        let sent: Vec<_> = list
            .iter()
            .map(|(head, payload)| RawFrame::Whole(Frame { head: *head, payload }))
            .collect();
        prop_assert_eq!(read, sent);
    }
}
