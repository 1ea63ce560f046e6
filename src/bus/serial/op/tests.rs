use proptest::prelude::*;

use super::*;
use crate::wire::msgpack::encode;
use crate::wire::opcode::Opcode;

fn settings() -> Settings {
    Settings {
        baud: 921_600,
        bits: DataBits::Seven,
        parity: Parity::Even,
        stop: StopBits::Two,
        flow: Flow::RtsCts,
        rs485: None,
        push: true,
        gap_us: 500,
    }
}

fn map(entries: &[(&str, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.map(u32::try_from(entries.len()).expect("few"));
    for (key, value) in entries {
        writer.str(key);
        writer.uint(*value);
    }
    out
}

#[test]
fn an_open_request_has_its_bytes() {
    let request = OpenRequest {
        dev: "serial:x".to_owned(),
        mode: Mode::ReadWrite,
        settings: settings(),
    };
    let bytes = request.encode().expect("encodes");
    assert_eq!(
        bytes,
        b"\x89\xa3dev\xa8serial:x\xa3par\x02\xa4baud\xce\x00\x0e\x10\x00\xa4bits\x07\xa4flow\x01\
          \xa4mode\x03\xa4push\xc3\xa4stop\x02\xa6gap-us\xcd\x01\xf4"
    );
    assert_eq!(OpenRequest::decode(&bytes), Ok(request));
}

#[test]
fn an_open_request_pushes_at_once_unless_it_says_otherwise() {
    let bytes = b"\x87\xa3dev\xa1x\xa4mode\x01\xa4baud\xcd\x25\x80\xa4bits\x08\xa3par\x00\
                  \xa4stop\x01\xa4flow\x00";
    let request = OpenRequest::decode(bytes).expect("a request");
    assert_eq!((request.mode, request.settings.baud), (Mode::Read, 9600));
    assert_eq!((request.settings.push, request.settings.gap_us), (true, 0));
    assert_eq!(request.settings.rs485, None);
}

#[test]
fn an_open_request_out_of_range_is_refused() {
    let whole = [
        ("baud", 9600),
        ("bits", 8),
        ("flow", 0),
        ("mode", 3),
        ("par", 0),
        ("stop", 1),
    ];
    let with = |name: &str, value: u64| {
        let mut bytes = vec![0x80 | 7, 0xa3, b'd', b'e', b'v', 0xa1, b'x'];
        for (key, usual) in whole {
            let value = if key == name { value } else { usual };
            bytes.extend_from_slice(&map(&[(key, value)])[1..]);
        }
        OpenRequest::decode(&bytes)
    };
    assert!(with("baud", 1).is_ok());
    assert_eq!(with("baud", 0), Err(OpError::Field("baud")));
    assert_eq!(with("baud", 100_000_001), Err(OpError::Field("baud")));
    for (name, value) in [
        ("baud", 1 << 32),
        ("bits", 4),
        ("bits", 9),
        ("flow", 3),
        ("mode", 0),
        ("mode", 5),
        ("par", 5),
        ("stop", 0),
        ("stop", 4),
    ] {
        assert!(with(name, value).is_err(), "{name} {value}");
    }
    let long = OpenRequest {
        dev: "x".repeat(65),
        mode: Mode::Read,
        settings: settings(),
    };
    let bytes = long.encode().expect("encodes");
    assert_eq!(OpenRequest::decode(&bytes), Err(OpError::Field("dev")));
}

#[test]
fn an_empty_rs485_map_switches_it_on() {
    let change = Change::decode(b"\x81\xa5rs485\x80").expect("a change");
    assert_eq!(change.rs485, Some(Rs485::default()));
    let late = b"\x81\xa5rs485\x81\xa8after-ms\x65";
    assert_eq!(Change::decode(late), Err(OpError::Field("after-ms")));
    let full = Rs485 {
        on: true,
        rts_send: false,
        rts_after: true,
        rx: true,
        term: true,
        before_ms: 1,
        after_ms: 100,
    };
    let bytes = Change {
        rs485: Some(full),
        ..Change::default()
    }
    .encode()
    .expect("encodes");
    assert_eq!(
        Change::decode(&bytes).map(|change| change.rs485),
        Ok(Some(full))
    );
}

#[test]
fn a_change_leaves_alone_what_it_does_not_name() {
    let bytes = b"\x82\xa4baud\xcd\x25\x80\xa5flush\x03";
    let change = Change::decode(bytes).expect("a change");
    assert_eq!(change.encode().expect("encodes"), bytes);
    let after = settings().with(&change);
    assert_eq!(
        after,
        Settings {
            baud: 9600,
            ..settings()
        }
    );
    assert!(change.flush.is_some_and(|f| f.input() && f.output()));
    assert_eq!(
        Change::decode(&map(&[("baud", 0)])),
        Err(OpError::Field("baud"))
    );
    assert_eq!(
        Change::decode(&map(&[("gap-us", 1_000_001)])),
        Err(OpError::Field("gap-us"))
    );
}

#[test]
fn a_stream_start_opens_a_port_with_what_its_parameters_name() {
    let start = b"\x84\xa3dev\xa1x\xa3dir\x02\xa3par\x81\xa4baud\xcd\x25\x80\xa4type\x04";
    let start = StreamStart::decode(start).expect("a stream");
    assert_eq!(
        OpenRequest::from(start),
        OpenRequest {
            dev: "x".to_owned(),
            mode: Mode::ReadWrite,
            settings: Settings {
                baud: 9600,
                ..Settings::default()
            },
        }
    );
    let looks = StreamStart::decode(b"\x83\xa3dev\xa1x\xa3dir\x01\xa4type\x04").expect("a stream");
    assert_eq!(OpenRequest::from(looks).mode, Mode::Read);
    let video = b"\x83\xa3dev\xa1x\xa3dir\x01\xa4type\x01";
    assert_eq!(StreamStart::decode(video), Err(OpError::Field("type")));
}

#[test]
fn the_settings_of_a_stream_stand_in_its_parameters() {
    let answer = StreamSettings { par: settings() };
    let bytes = answer.encode().expect("encodes");
    assert_eq!(StreamSettings::decode(&bytes), Ok(answer));
    let asked = StreamParameters {
        par: Change {
            push: Some(false),
            ..Change::default()
        },
    };
    let bytes = asked.encode().expect("encodes");
    assert_eq!(bytes, b"\x81\xa3par\x81\xa4push\xc2");
    assert_eq!(StreamParameters::decode(&bytes), Ok(asked));
    let wrong = b"\x81\xa3par\x81\xa4baud\x00";
    assert_eq!(StreamParameters::decode(wrong), Err(OpError::Field("baud")));
}

#[test]
fn a_sequence_has_its_bytes() {
    let request = ControlSet {
        dtr: Some(false),
        rts: Some(true),
        seq: vec![
            Step {
                dtr: Some(true),
                rts: Some(false),
                brk: None,
                delay_us: 50_000,
            },
            Step {
                brk: Some(true),
                ..Step::default()
            },
        ],
    };
    let bytes = request.encode().expect("encodes");
    assert_eq!(
        bytes,
        b"\x83\xa3dtr\xc2\xa3rts\xc3\xa3seq\x92\x94\xc3\xc2\xc0\xcd\xc3\x50\x94\xc0\xc0\xc3\x00"
    );
    assert_eq!(ControlSet::decode(&bytes), Ok(request));
    assert_eq!(ControlSet::decode(&[]), Ok(ControlSet::default()));
}

#[test]
fn a_sequence_beyond_its_bounds_is_refused() {
    let of = |count: usize, delay_us: u32| {
        let step = Step {
            delay_us,
            ..Step::default()
        };
        let request = ControlSet {
            seq: vec![step; count],
            ..ControlSet::default()
        };
        ControlSet::decode(&request.encode().expect("encodes")).map(|_| ())
    };
    assert_eq!(of(MAX_STEPS, 0), Ok(()));
    assert_eq!(of(MAX_STEPS + 1, 0), Err(OpError::Field("seq")));
    assert_eq!(of(1, MAX_STEP_US), Ok(()));
    assert_eq!(of(1, MAX_STEP_US + 1), Err(OpError::Field("delay-us")));
    assert_eq!(of(2, MAX_STEP_US), Ok(()));
    assert_eq!(of(3, MAX_STEP_US), Err(OpError::Field("seq")));
    assert!(of(MAX_STEPS, u32::MAX).is_err());
}

#[test]
fn a_step_of_a_later_version_may_be_longer() {
    let bytes = b"\x81\xa3seq\x91\x95\xc0\xc3\xc0\x05\xa1x";
    let request = ControlSet::decode(bytes).expect("a sequence");
    assert_eq!(
        request.seq,
        [Step {
            rts: Some(true),
            delay_us: 5,
            ..Step::default()
        }]
    );
}

#[test]
fn the_lines_have_their_bytes() {
    let lines = Lines {
        dtr: true,
        cts: true,
        dcd: true,
        ..Lines::default()
    };
    let bytes = lines.encode().expect("encodes");
    assert_eq!(
        bytes,
        b"\x86\xa2ri\xc2\xa3cts\xc3\xa3dcd\xc3\xa3dsr\xc2\xa3dtr\xc3\xa3rts\xc2"
    );
    assert_eq!(Lines::decode(&bytes), Ok(lines));
}

#[test]
fn an_event_has_its_bytes() {
    let event = LineEvent {
        lines: Lines {
            ri: true,
            ..Lines::default()
        },
        change: LineChange {
            us: 70_000,
            err: Some(Errors {
                parity: 1,
                brk: 2,
                ..Errors::default()
            }),
            edges: Some(Edges {
                dcd: 3,
                ..Edges::default()
            }),
            lost: 4,
        },
    };
    let bytes = event.encode().expect("encodes");
    assert_eq!(
        bytes,
        b"\x8a\xa2ri\xc3\xa2us\xce\x00\x01\x11\x70\xa3cts\xc2\xa3dcd\xc2\xa3dsr\xc2\xa3dtr\xc2\
          \xa3err\x82\xa5break\x02\xa6parity\x01\xa3rts\xc2\xa4lost\x04\xa5edges\x81\xa3dcd\x03"
    );
    assert_eq!(LineEvent::decode(&bytes), Ok(event));
}

#[test]
fn data_requests_have_their_bytes() {
    let write = DataWrite {
        data: b"abc",
        drain: true,
    };
    assert_eq!(write.encode(), b"\x92\xc4\x03abc\xc3");
    assert_eq!(DataWrite::decode(&write.encode()), Ok(write));
    assert_eq!(Written { count: 3 }.encode(), b"\x91\x03");
    assert_eq!(Written::decode(b"\x91\x03"), Ok(Written { count: 3 }));
    let read = DataRead {
        max: 512,
        timeout_ms: 1000,
    };
    assert_eq!(read.encode(), b"\x92\xcd\x02\x00\xcd\x03\xe8");
    assert_eq!(DataRead::decode(&read.encode()), Ok(read));
    assert_eq!(encode_read(b"ab"), b"\x91\xc4\x02ab");
    assert_eq!(decode_read(b"\x91\xc4\x02ab", 2), Ok(&b"ab"[..]));
}

#[test]
fn more_data_than_allowed_is_refused() {
    let data = vec![0; MAX_DATA as usize + 1];
    let write = DataWrite {
        data: &data,
        drain: false,
    };
    assert_eq!(
        DataWrite::decode(&write.encode()),
        Err(OpError::Field("bin"))
    );
    for max in [0, MAX_DATA + 1] {
        let read = DataRead { max, timeout_ms: 0 };
        assert_eq!(DataRead::decode(&read.encode()), Err(OpError::Field("max")));
    }
    assert_eq!(
        decode_read(b"\x91\xc4\x02ab", 1),
        Err(OpError::Field("bin"))
    );
}

#[test]
fn a_read_declares_the_length_of_its_answer() {
    let read = DataRead {
        max: MAX_DATA,
        timeout_ms: 0,
    };
    let declared = declared_reply(Opcode::SerialDataRead, &read.encode()).expect("declared");
    let longest = encode_read(&vec![0; MAX_DATA as usize]);
    assert!(longest.len() <= declared as usize);
    assert_eq!(
        declared_reply(Opcode::SerialDataWrite, &read.encode()),
        None
    );
    assert_eq!(declared_reply(Opcode::SerialDataRead, b"\x90"), None);
}

#[test]
fn a_break_has_a_length() {
    let bytes = Break { ms: 250 }.encode().expect("encodes");
    assert_eq!(bytes, b"\x81\xa2ms\xcc\xfa");
    assert_eq!(Break::decode(&bytes), Ok(Break { ms: 250 }));
    for ms in [0, u64::from(MAX_BREAK_MS) + 1] {
        let bytes = map(&[("ms", ms)]);
        assert_eq!(Break::decode(&bytes), Err(OpError::Field("ms")));
    }
    assert!(Break::decode(&[]).is_err());
}

#[test]
fn the_list_keeps_to_its_bounds() {
    let list = PortList {
        ports: vec![PortEntry {
            dev: "serial:ttyS0".to_owned(),
            name: "16550A".to_owned(),
            rs485: None,
            state: 1,
        }],
    };
    let bytes = list.encode().expect("encodes");
    assert_eq!(
        bytes,
        b"\x81\xa5ports\x91\x83\xa3dev\xacserial:ttyS0\xa4name\xa616550A\xa5state\x01"
    );
    assert_eq!(PortList::decode(&bytes), Ok(list));
    let state = b"\x81\xa5ports\x91\x83\xa3dev\xa1x\xa4name\xa0\xa5state\x04";
    assert_eq!(PortList::decode(state), Err(OpError::Field("state")));
    let nameless = b"\x81\xa5ports\x91\x83\xa3dev\xa0\xa4name\xa0\xa5state\x00";
    assert_eq!(PortList::decode(nameless), Err(OpError::Field("dev")));
}

#[test]
fn nothing_is_an_empty_map_or_no_bytes() {
    assert_eq!(decode_empty(&encode_empty()), Ok(()));
    assert_eq!(decode_empty(&[]), Ok(()));
    assert_eq!(decode_empty(&map(&[("later", 1)])), Ok(()));
    assert!(decode_empty(b"\x90").is_err());
    assert!(decode_empty(b"\x80\x80").is_err());
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let shape = (5..=8u8, 0..=4u8, 1..=3u8, 0..=2u8);
    let rs485 = (any::<[bool; 5]>(), 0..=MAX_RS485_DELAY_MS).prop_map(
        |([on, rts_send, rts_after, rx, term], delay)| Rs485 {
            on,
            rts_send,
            rts_after,
            rx,
            term,
            before_ms: delay,
            after_ms: MAX_RS485_DELAY_MS - delay,
        },
    );
    let rest = (any::<bool>(), 0..=MAX_GAP_US);
    (1..=MAX_BAUD, shape, proptest::option::of(rs485), rest).prop_map(
        |(baud, (bits, parity, stop, flow), rs485, (push, gap_us))| Settings {
            baud,
            bits: DataBits::try_from(bits).expect("in range"),
            parity: Parity::try_from(parity).expect("in range"),
            stop: StopBits::try_from(stop).expect("in range"),
            flow: Flow::try_from(flow).expect("in range"),
            rs485,
            push,
            gap_us,
        },
    )
}

/// Mostly a map with the names of this bus, so that the fields are reached and not only the check of
/// MessagePack as such.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&str; 18] = [
        "dev", "mode", "baud", "bits", "par", "stop", "flow", "rs485", "push", "gap-us", "flush",
        "dtr", "rts", "seq", "ms", "us", "err", "ports",
    ];
    let value = prop_oneof![
        any::<u64>().prop_map(|n| encode(&n).expect("encodes")),
        (0..10u8).prop_map(|n| vec![n]),
        any::<bool>().prop_map(|b| vec![0xc2 | u8::from(b)]),
        Just(vec![0xc0]),
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec((any::<Option<bool>>(), any::<u32>()), 0..40).prop_map(|steps| {
            let steps: Vec<_> = steps
                .into_iter()
                .map(|(line, delay)| (line, line, line, delay))
                .collect();
            encode(&steps).expect("encodes")
        }),
    ];
    let entries = proptest::collection::vec((0..NAMES.len(), value), 0..12);
    (entries, any::<bool>()).prop_map(|(entries, honest)| {
        let count = entries.len() + usize::from(!honest);
        let mut out = vec![0x80 | u8::try_from(count).expect("few")];
        for (name, value) in entries {
            Writer::new(&mut out).str(NAMES[name]);
            out.extend_from_slice(&value);
        }
        out
    })
}

fn decode_all(bytes: &[u8]) {
    if let Ok(request) = OpenRequest::decode(bytes) {
        let again = request.encode().expect("encodes");
        assert_eq!(OpenRequest::decode(&again), Ok(request));
    }
    if let Ok(change) = Change::decode(bytes) {
        let again = change.encode().expect("encodes");
        assert_eq!(Change::decode(&again), Ok(change));
    }
    if let Ok(request) = ControlSet::decode(bytes) {
        assert!(request.check().is_ok());
        let again = request.encode().expect("encodes");
        assert_eq!(ControlSet::decode(&again), Ok(request));
    }
    if let Ok(event) = LineEvent::decode(bytes) {
        let again = event.encode().expect("encodes");
        assert_eq!(LineEvent::decode(&again), Ok(event));
    }
    let _ = (StreamStart::decode(bytes), StreamParameters::decode(bytes));
    let _ = (StreamSettings::decode(bytes), PortList::decode(bytes));
    let _ = (DataWrite::decode(bytes), DataRead::decode(bytes));
    let _ = (Written::decode(bytes), decode_read(bytes, 10));
    let _ = (Lines::decode(bytes), Break::decode(bytes));
    let _ = (decode_empty(bytes), Settings::decode(bytes));
    let _ = declared_reply(Opcode::SerialDataRead, bytes);
}

proptest! {
    #[test]
    fn settings_survive_the_wire(settings in any_settings()) {
        let bytes = settings.encode().expect("encodes");
        prop_assert_eq!(Settings::decode(&bytes), Ok(settings.clone()));
        let all = Change::from(settings.clone());
        prop_assert_eq!(Settings::default().with(&all), settings);
    }

    #[test]
    fn data_survives_the_wire(data: Vec<u8>, drain: bool) {
        let write = DataWrite { data: &data, drain };
        let bytes = write.encode();
        prop_assert_eq!(DataWrite::decode(&bytes), Ok(write));
        let read = encode_read(&data);
        let length = u32::try_from(data.len()).expect("short");
        prop_assert_eq!(decode_read(&read, length), Ok(&data[..]));
    }

    #[test]
    fn no_bytes_make_a_decoder_fail_otherwise_than_by_an_error(bytes: Vec<u8>) {
        decode_all(&bytes);
    }

    #[test]
    fn no_fields_make_a_decoder_fail_otherwise_than_by_an_error(bytes in nearly()) {
        decode_all(&bytes);
    }
}
