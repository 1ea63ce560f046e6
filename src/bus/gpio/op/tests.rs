use proptest::prelude::*;

use super::*;

fn outputs() -> LineRequest {
    LineRequest {
        dev: "gpio:c".to_owned(),
        lines: vec![3, 200],
        dir: Direction::Output,
        val: 2,
        bias: Bias::PullUp,
        drive: Drive::OpenDrain,
        low: true,
        safe: vec![Some(false), None],
        ..LineRequest::default()
    }
}

fn inputs() -> LineRequest {
    LineRequest {
        dev: "gpio:c".to_owned(),
        lines: vec![0],
        edge: Edge::Both,
        debounce_us: 5000,
        ..LineRequest::default()
    }
}

#[test]
fn a_request_for_outputs_has_its_bytes() {
    let bytes = b"\x88\xa3dev\xa6gpio:c\xa3dir\x01\xa3low\xc3\xa3val\x02\xa4bias\x02\
        \xa4safe\x92\x00\xc0\xa5drive\x01\xa5lines\x92\x03\xcc\xc8";
    assert_eq!(outputs().encode().unwrap(), bytes);
    assert_eq!(LineRequest::decode(bytes), Ok(outputs()));
}

#[test]
fn a_request_for_inputs_leaves_out_what_it_does_not_need() {
    let bytes =
        b"\x85\xa3dev\xa6gpio:c\xa3dir\x00\xa4edge\x03\xa5lines\x91\x00\xabdebounce-us\xcd\x13\x88";
    assert_eq!(inputs().encode().unwrap(), bytes);
    assert_eq!(LineRequest::decode(bytes), Ok(inputs()));
    assert_eq!(
        LineRequested { val: 1 }.encode().unwrap(),
        b"\x81\xa3val\x01"
    );
}

#[test]
fn the_hot_operations_have_their_bytes() {
    let written = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    let set = SetLines { mask: 3, bits: 2 };
    assert_eq!(written(&|out| set.encode(out)), b"\x92\x03\x02");
    assert_eq!(SetLines::decode(b"\x92\x03\x02", 2), Ok(set));
    let get = GetLines { mask: u64::MAX };
    let bytes = b"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(written(&|out| get.encode(out)), bytes);
    assert_eq!(GetLines::decode(bytes, 64), Ok(get));
    let values = LineValues { bits: 5 };
    assert_eq!(written(&|out| values.encode(out)), b"\x91\x05");
    assert_eq!(LineValues::decode(b"\x91\x05", 7), Ok(values));
    let event = EdgeEvent {
        index: 2,
        rising: false,
        time_ns: 1_000_000_000_000,
        seq: 7,
        lost: 0,
    };
    let bytes = b"\x95\x02\x02\xcf\x00\x00\x00\xe8\xd4\xa5\x10\x00\x07\x00";
    assert_eq!(written(&|out| event.encode(out)), bytes);
    assert_eq!(EdgeEvent::decode(bytes, 3), Ok(event));
}

#[test]
fn lists_infos_and_watches_have_their_bytes() {
    let list = ChipList {
        chips: vec![ChipEntry {
            dev: "gpio:c".to_owned(),
            label: "c".to_owned(),
            lines: 54,
        }],
    };
    let bytes = b"\x81\xa5chips\x91\x83\xa3dev\xa6gpio:c\xa5label\xa1c\xa5lines\x36";
    assert_eq!(list.encode().unwrap(), bytes);
    assert_eq!(ChipList::decode(bytes), Ok(list));
    let asked = LineInfoRequest {
        dev: "gpio:c".to_owned(),
        line: 5,
    };
    let bytes = b"\x82\xa3dev\xa6gpio:c\xa4line\x05";
    assert_eq!(asked.encode().unwrap(), bytes);
    assert_eq!(LineInfoRequest::decode(bytes), Ok(asked));
    let info = LineInfo {
        name: "LED".to_owned(),
        used: true,
        dir: Direction::Output,
        low: true,
        ..LineInfo::default()
    };
    let bytes = b"\x86\xa3dir\x01\xa3low\xc3\xa4bias\x00\xa4name\xa3LED\xa4used\xc3\xa5drive\x00";
    assert_eq!(info.encode().unwrap(), bytes);
    assert_eq!(LineInfo::decode(bytes), Ok(info));
    let watch = Watch {
        mask: 1,
        edge: Edge::Rising,
        debounce_us: Some(0),
    };
    let bytes = b"\x83\xa4edge\x01\xa4mask\x01\xabdebounce-us\x00";
    assert_eq!(watch.encode().unwrap(), bytes);
    assert_eq!(Watch::decode(bytes, 1), Ok(watch));
}

type Change = fn(&mut LineRequest);

fn refused_for(field: &'static str, mut request: LineRequest, change: Change) {
    change(&mut request);
    let bytes = request.encode().unwrap();
    assert_eq!(LineRequest::decode(&bytes), Err(OpError::Field(field)));
}

#[test]
fn fields_of_a_request_outside_their_range_are_named() {
    let bad: [(&str, Change); 6] = [
        ("dev", |request| request.dev.clear()),
        ("dev", |request| request.dev = "g".repeat(65)),
        ("lines", |request| request.lines.clear()),
        ("lines", |request| request.lines = (0..65).collect()),
        ("lines", |request| request.lines = vec![1, 1]),
        ("lines", |request| request.lines = vec![MAX_CHIP_LINES]),
    ];
    for (field, change) in bad {
        refused_for(field, inputs(), change);
    }
    let all = LineRequest {
        lines: (0..64).collect(),
        ..inputs()
    };
    assert_eq!(LineRequest::decode(&all.encode().unwrap()), Ok(all));
}

#[test]
fn fields_of_a_request_that_contradict_its_direction_are_named() {
    let of_inputs: [(&str, Change); 3] = [
        ("val", |request| request.val = 1),
        ("drive", |request| request.drive = Drive::OpenSource),
        ("safe", |request| request.safe = vec![None]),
    ];
    for (field, change) in of_inputs {
        refused_for(field, inputs(), change);
    }
    let of_outputs: [(&str, Change); 4] = [
        ("val", |request| request.val = 4),
        ("edge", |request| request.edge = Edge::Rising),
        ("debounce-us", |request| request.debounce_us = 1),
        ("safe", |request| request.safe = vec![None]),
    ];
    for (field, change) in of_outputs {
        refused_for(field, outputs(), change);
    }
}

#[test]
fn numbers_without_a_meaning_are_refused() {
    for bytes in [
        &b"\x83\xa3dev\xa1c\xa3dir\x02\xa5lines\x91\x00"[..],
        b"\x84\xa3dev\xa1c\xa3dir\x00\xa5lines\x91\x00\xa4bias\x04",
        b"\x84\xa3dev\xa1c\xa3dir\x01\xa5lines\x91\x00\xa4safe\x91\x02",
        b"\x84\xa3dev\xa1c\xa3dir\x00\xa5lines\x91\x00\xabdebounce-us\xcf\0\0\0\x01\0\0\0\0",
    ] {
        assert!(matches!(
            LineRequest::decode(bytes),
            Err(OpError::Decode(_))
        ));
    }
    assert_eq!(
        Watch::decode(b"\x82\xa4mask\x01\xa4edge\x00", 1),
        Err(OpError::Field("edge"))
    );
    let event = b"\x95\x00\x03\x00\x00\x00";
    assert_eq!(EdgeEvent::decode(event, 1), Err(OpError::Field("edge")));
}

#[test]
fn lines_that_were_not_requested_are_refused() {
    let mask = Err(OpError::Field("mask"));
    assert_eq!(SetLines::decode(b"\x92\x04\x00", 2), mask);
    assert_eq!(SetLines::decode(b"\x92\x00\x00", 2), mask);
    assert_eq!(
        GetLines::decode(b"\x91\x02", 1).map(|_| ()),
        mask.map(|_| ())
    );
    assert_eq!(
        Watch::decode(b"\x82\xa4mask\x02\xa4edge\x01", 1),
        Err(OpError::Field("mask"))
    );
    assert_eq!(
        LineValues::decode(b"\x91\x04", 3),
        Err(OpError::Field("bits"))
    );
    let event = b"\x95\x01\x01\x00\x00\x00";
    assert_eq!(
        EdgeEvent::decode(event, 1),
        Err(OpError::Field("line index"))
    );
    assert_eq!(
        LineRequested::decode(b"\x81\xa3val\x02", 1),
        Err(OpError::Field("val"))
    );
}

#[test]
fn names_that_would_break_configfs_are_refused() {
    let info = |name: &str| LineInfo {
        name: name.to_owned(),
        ..LineInfo::default()
    };
    let read = |name: &str| LineInfo::decode(&info(name).encode().unwrap());
    assert_eq!(read("a\nb"), Err(OpError::Field("name")));
    assert_eq!(read(&"a".repeat(32)), Err(OpError::Field("name")));
    assert_eq!(read(&"a".repeat(31)), Ok(info(&"a".repeat(31))));
    let list = b"\x81\xa5chips\x91\x83\xa3dev\xa1c\xa5label\xa1\x7f\xa5lines\x01";
    assert_eq!(ChipList::decode(list), Err(OpError::Field("label")));
    let list = b"\x81\xa5chips\x91\x83\xa3dev\xa1c\xa5label\xa1c\xa5lines\xcd\x10\x01";
    assert_eq!(ChipList::decode(list), Err(OpError::Field("lines")));
}

#[test]
fn nothing_and_an_empty_map_are_no_parameters() {
    assert_eq!(decode_empty(&[]), Ok(()));
    assert_eq!(decode_empty(&encode_empty()), Ok(()));
    assert!(decode_empty(&[0x90]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_within_the_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
        lines in 1usize..=64,
    ) {
        if let Ok(request) = SetLines::decode(&bytes, lines) {
            prop_assert!(request.mask & !all_lines(lines) == 0);
        }
        if let Ok(request) = GetLines::decode(&bytes, lines) {
            prop_assert!(request.mask & !all_lines(lines) == 0);
        }
        if let Ok(event) = EdgeEvent::decode(&bytes, lines) {
            prop_assert!(usize::from(event.index) < lines);
        }
        let _ = LineValues::decode(&bytes, 0xFF);
        let _ = Watch::decode(&bytes, lines);
        let _ = LineRequest::decode(&bytes);
        let _ = LineRequested::decode(&bytes, lines);
        let _ = LineInfo::decode(&bytes);
        let _ = LineInfoRequest::decode(&bytes);
        let _ = ChipList::decode(&bytes);
        let _ = decode_empty(&bytes);
    }

    #[test]
    fn a_request_with_any_one_byte_changed_stays_within_its_bounds(at in 0usize..58, to in any::<u8>()) {
        let mut bytes = outputs().encode().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        if let Ok(request) = LineRequest::decode(&bytes) {
            prop_assert_eq!(request.check(), Ok(()));
        }
    }

    #[test]
    fn any_event_survives(
        index in 0u8..64,
        rising in any::<bool>(),
        time_ns in any::<u64>(),
        seq in any::<u32>(),
        lost in any::<u32>(),
    ) {
        let event = EdgeEvent { index, rising, time_ns, seq, lost };
        let mut out = Vec::new();
        event.encode(&mut out);
        prop_assert_eq!(EdgeEvent::decode(&out, 64), Ok(event));
    }

    #[test]
    fn any_request_for_outputs_survives(
        lines in proptest::collection::btree_set(0..MAX_CHIP_LINES, 1..=64),
        val in any::<u64>(),
        safe in any::<(Option<bool>, bool)>(),
    ) {
        let lines: Vec<u32> = lines.into_iter().collect();
        let request = LineRequest {
            safe: vec![safe.0; lines.len()],
            val: val & all_lines(lines.len()),
            low: safe.1,
            lines,
            ..outputs()
        };
        prop_assert_eq!(LineRequest::decode(&request.encode().unwrap()), Ok(request));
    }
}
