use proptest::prelude::*;

use super::*;
use crate::kernel::can::{Frame, MAX_FILTERS};

fn frame(id: u32, flags: u8, data: &[u8]) -> Frame {
    Frame::new(id, flags, data).expect("a frame")
}

#[test]
fn a_frame_to_send_has_its_bytes() {
    for (wanted, bytes) in [
        (
            frame(0x123, 0, &[1, 2]),
            &b"\x93\xCD\x01\x23\x00\xC4\x02\x01\x02"[..],
        ),
        (frame(0x7F, 0, &[]), b"\x93\x7F\x00\xC4\x00"),
        (
            frame(0x123 | Frame::REMOTE, 0, &[0; 2]),
            b"\x93\xCE\x40\x00\x01\x23\x00\xC4\x02\x00\x00",
        ),
        (
            frame(0x1ABC_DEF0 | Frame::EXTENDED, 0, &[]),
            b"\x93\xCE\x9A\xBC\xDE\xF0\x00\xC4\x00",
        ),
        (
            frame(1, Frame::FD | Frame::BRS, &[9]),
            b"\x93\x01\x05\xC4\x01\x09",
        ),
    ] {
        assert_eq!(encode_send(&wanted), bytes);
        assert_eq!(decode_send(bytes), Ok(wanted));
    }
}

#[test]
fn no_error_frame_is_sent() {
    let payload = encode_send(&frame(Frame::ERROR | 4, 0, &[0; 8]));
    assert_eq!(decode_send(&payload), Err(OpError::Field("id")));
}

#[test]
fn a_frame_that_cannot_be_is_refused() {
    for payload in [
        &b"\x93\xCD\x08\x00\x00\xC4\x00"[..],
        b"\x93\x01\x01\xC4\x00",
        b"\x93\x01\x00\xC4\x09123456789",
        b"\x93\x01\x08\xC4\x00",
    ] {
        assert!(
            matches!(decode_send(payload), Err(OpError::Frame(_))),
            "{payload:x?}"
        );
    }
    for payload in [
        &b""[..],
        b"\x92\x01\x00",
        b"\x93\x01\x00\xA0",
        b"\x93\x01\x00\xC4\x00\x00",
    ] {
        assert!(
            matches!(decode_send(payload), Err(OpError::Decode(_))),
            "{payload:x?}"
        );
    }
}

#[test]
fn a_received_frame_has_its_bytes() {
    let event = FrameEvent {
        frame: frame(0x123, 0, &[0xAA]),
        time_us: 1_700_000_000_000_500,
        lost: 3,
    };
    let bytes = b"\x95\xCD\x01\x23\x00\xC4\x01\xAA\xCF\x00\x06\x0A\x24\x18\x1E\x41\xF4\x03";
    assert_eq!(event.encode(), bytes);
    assert_eq!(FrameEvent::decode(bytes), Ok(event));
    assert!(bytes.len() <= event.encoded_len());
}

#[test]
fn elements_of_a_later_version_are_passed_over() {
    let send = b"\x94\x01\x00\xC4\x00\xA3new";
    assert_eq!(decode_send(send), Ok(frame(1, 0, &[])));
    let event = FrameEvent::decode(b"\x96\x01\x00\xC4\x00\x07\x00\xA3new").unwrap();
    assert_eq!(event.time_us, 7);
}

#[test]
fn frames_are_pulled_many_at_once() {
    let pull = Pull {
        max: 2,
        timeout_ms: 300,
    };
    assert_eq!(pull.encode(), b"\x92\x02\xCD\x01\x2C");
    assert_eq!(Pull::decode(b"\x92\x02\xCD\x01\x2C"), Ok(pull));
    assert_eq!(Pull::decode(b"\x92\x00\x00"), Err(OpError::Field("max")));
    let most = Pull::decode(b"\x92\xCE\xFF\xFF\xFF\xFF\xCE\xFF\xFF\xFF\xFF").unwrap();
    assert_eq!((most.max, most.timeout_ms), (MAX_PULL, MAX_PULL_MS));
    let event = |id| FrameEvent {
        frame: frame(id, 0, &[]),
        time_us: 5,
        lost: 0,
    };
    let bytes = b"\x91\x92\x95\x01\x00\xC4\x00\x05\x00\x95\x02\x00\xC4\x00\x05\x00";
    assert_eq!(encode_pulled(&[event(1), event(2)]), bytes);
    assert_eq!(decode_pulled(bytes, 2), Ok(vec![event(1), event(2)]));
    assert_eq!(decode_pulled(bytes, 1), Err(OpError::Field("frames")));
}

#[test]
fn the_longest_pulled_answer_fits_an_undeclared_one() {
    let longest = FrameEvent {
        frame: frame(Frame::EXTENDED | 0x1FFF_FFFF, Frame::FD, &[0xFF; 64]),
        time_us: u64::MAX,
        lost: u32::MAX,
    };
    assert_eq!(longest.encode().len(), longest.encoded_len());
    let answer = encode_pulled(&vec![longest; 600]);
    assert!(answer.len() <= crate::wire::limits::UNDECLARED_REPLY as usize);
    assert_eq!(
        decode_pulled(&answer, MAX_PULL).map(|all| all.len()),
        Ok(512)
    );
}

#[test]
fn opening_an_interface_has_its_bytes() {
    let plain = Open {
        dev: "can:can0".to_owned(),
        mode: CanMode::Read,
        fd: false,
        own: false,
        filters: None,
        errors: false,
    };
    let least = b"\x82\xA3dev\xA8can:can0\xA4mode\x01";
    assert_eq!(Open::decode(least), Ok(plain.clone()));
    let full = Open {
        mode: CanMode::ReadWrite,
        fd: true,
        filters: Some(vec![[0x123, 0x7FF]]),
        ..plain
    };
    let bytes = b"\x86\xA2fd\xC3\xA3dev\xA8can:can0\xA3own\xC2\xA4mode\x03\xA6errors\xC2\
        \xA7filters\x91\x92\xCD\x01\x23\xCD\x07\xFF";
    assert_eq!(full.encode().unwrap(), bytes);
    assert_eq!(Open::decode(bytes), Ok(full));
}

#[test]
fn opening_takes_no_field_outside_its_range() {
    assert_eq!(
        Open::decode(b"\x82\xA3dev\xA0\xA4mode\x01"),
        Err(OpError::Field("dev"))
    );
    assert!(Open::decode(b"\x82\xA3dev\xA1x\xA4mode\x05").is_err());
    let open = Open {
        dev: "x".to_owned(),
        mode: CanMode::Read,
        fd: false,
        own: false,
        filters: Some(vec![[0, 0]; MAX_FILTERS + 1]),
        errors: false,
    };
    let payload = open.encode().unwrap();
    assert_eq!(Open::decode(&payload), Err(OpError::Field("filters")));
}

#[test]
fn the_answer_to_opening_has_its_bytes() {
    let opened = Opened {
        bitrate: 500_000,
        dbitrate: 0,
    };
    let bytes = b"\x82\xA7bitrate\xCE\x00\x07\xA1\x20\xA8dbitrate\x00";
    assert_eq!(opened.encode().unwrap(), bytes);
    assert_eq!(Opened::decode(bytes), Ok(opened));
}

#[test]
fn a_configuration_has_its_bytes() {
    let configure = Configure {
        bitrate: 250_000,
        sample: Some(875),
        dbitrate: None,
        mode: Some(Modes {
            listen_only: true,
            ..Modes::default()
        }),
    };
    let bytes = b"\x83\xA4mode\x02\xA6sample\xCD\x03\x6B\xA7bitrate\xCE\x00\x03\xD0\x90";
    assert_eq!(configure.encode().unwrap(), bytes);
    assert_eq!(Configure::decode(bytes), Ok(configure));
    let field = |payload: &[u8]| Configure::decode(payload).unwrap_err();
    assert_eq!(field(b"\x81\xA7bitrate\x00"), OpError::Field("bitrate"));
    assert_eq!(
        field(b"\x82\xA7bitrate\x01\xA8dbitrate\x00"),
        OpError::Field("dbitrate")
    );
    assert_eq!(
        field(b"\x82\xA7bitrate\x01\xA6sample\xCD\x03\xE9"),
        OpError::Field("sample")
    );
    assert!(Configure::decode(b"\x82\xA7bitrate\x01\xA4mode\x08").is_err());
}

#[test]
fn every_combination_of_modes_survives() {
    for bits in 0..8 {
        assert_eq!(Modes::try_from(bits).map(u8::from), Ok(bits));
    }
}

#[test]
fn an_error_status_has_its_bytes() {
    let status = ErrorStatus {
        state: ErrorState::Passive,
        tx: 136,
        rx: 0,
        restarts: 1,
        busoff: 2,
    };
    let bytes = b"\x85\xA2rx\x00\xA2tx\xCC\x88\xA5state\x02\xA6busoff\x02\xA8restarts\x01";
    assert_eq!(status.encode().unwrap(), bytes);
    assert_eq!(ErrorStatus::decode(bytes), Ok(status));
}

#[test]
fn filters_have_their_bytes_and_none_is_a_list_too() {
    let bytes = b"\x91\x91\x92\xCD\x01\x23\xCD\x07\xFF";
    assert_eq!(encode_filters(&[[0x123, 0x7FF]]), bytes);
    assert_eq!(decode_filters(bytes), Ok(vec![[0x123, 0x7FF]]));
    assert_eq!(decode_filters(b"\x91\x90"), Ok(vec![]));
    let many = encode_filters(&[[0, 0]; MAX_FILTERS + 1]);
    assert_eq!(decode_filters(&many), Err(OpError::Field("filters")));
}

#[test]
fn a_list_has_its_bytes() {
    let list = InterfaceList {
        ifs: vec![InterfaceEntry {
            dev: "can:can0".to_owned(),
            name: "can0".to_owned(),
            fd: true,
            state: 1,
            bitrate: 0,
        }],
    };
    let bytes = b"\x81\xA3ifs\x91\x85\xA2fd\xC3\xA3dev\xA8can:can0\xA4name\xA4can0\xA5state\x01\
        \xA7bitrate\x00";
    assert_eq!(list.encode().unwrap(), bytes);
    assert_eq!(InterfaceList::decode(bytes), Ok(list));
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let data = || proptest::collection::vec(any::<u8>(), 0..=8);
    let long = proptest::collection::vec(any::<u8>(), 0..=64);
    prop_oneof![
        (0u32..0x800, data()).prop_map(|(id, data)| frame(id, 0, &data)),
        (0u32..1 << 29, data()).prop_map(|(id, data)| frame(id | Frame::EXTENDED, 0, &data)),
        (0u32..0x800, data()).prop_map(|(id, data)| frame(id | Frame::REMOTE, 0, &data)),
        (0u32..0x800, 0u8..4, long).prop_map(|(id, flags, data)| frame(
            id,
            flags | Frame::FD,
            &data
        )),
    ]
}

proptest! {
    #[test]
    fn every_frame_survives(frame in any_frame(), time_us: u64, lost: u32) {
        prop_assert_eq!(decode_send(&encode_send(&frame)), Ok(frame));
        let event = FrameEvent { frame, time_us, lost };
        let encoded = event.encode();
        prop_assert!(encoded.len() <= event.encoded_len());
        prop_assert_eq!(FrameEvent::decode(&encoded), Ok(event));
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused(frame in any_frame(), cut in any::<prop::sample::Index>()) {
        let encoded = encode_send(&frame);
        prop_assert!(decode_send(&encoded[..cut.index(encoded.len())]).is_err());
    }

    #[test]
    fn no_bytes_of_a_peer_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        let _ = decode_send(&bytes);
        let _ = FrameEvent::decode(&bytes);
        let _ = Pull::decode(&bytes);
        let _ = decode_pulled(&bytes, MAX_PULL);
        let _ = decode_filters(&bytes);
        let _ = Open::decode(&bytes);
        let _ = Opened::decode(&bytes);
        let _ = Configure::decode(&bytes);
        let _ = Configured::decode(&bytes);
        let _ = ErrorStatus::decode(&bytes);
        let _ = InterfaceList::decode(&bytes);
        let _ = decode_empty(&bytes);
    }
}
