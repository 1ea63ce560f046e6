use super::*;
use crate::kernel::evdev::codes::{EV_KEY, EV_REL, EV_SYN, SYN_MT_REPORT};
use crate::kernel::evdev::effect::tests::one_of_each;
use crate::kernel::evdev::{Axis, Codes, Ids};
use crate::wire::msgpack::Value;

fn text(key: &str) -> Value {
    Value::from(key)
}

fn device() -> Description {
    let codes = |codes: &[u16]| codes.iter().copied().collect::<Codes>();
    Description {
        ids: Ids {
            bus: 3,
            vendor: 0x046D,
            product: 0xC21D,
            version: 0x4014,
        },
        name: "Gamepad F310".to_owned(),
        uniq: "8A2".to_owned(),
        props: codes(&[0, 31]),
        keys: codes(&[1, 30, 0x130, 0x2FF]),
        rel: codes(&[0, 1, 8]),
        abs: vec![
            (
                0,
                Axis {
                    value: -7,
                    minimum: -32768,
                    maximum: 32767,
                    fuzz: 16,
                    flat: 128,
                    resolution: 12,
                },
            ),
            (0x2F, Axis::default()),
        ],
        msc: codes(&[4]),
        switches: codes(&[0]),
        leds: codes(&[0, 1, 2]),
        sounds: codes(&[1]),
        ff: codes(&[0x50, 0x60]),
        effects: 16,
        repeat: Some([250, 33]),
    }
}

#[test]
fn the_opening_request_is_the_map_of_the_profile() {
    let start = Start {
        dev: "hid:046d:c21d:8A2".to_owned(),
        par: StartPar {
            back: true,
            grab: false,
        },
    };
    let payload = start.encode().unwrap();
    assert_eq!(
        payload,
        b"\x84\xa3dev\xb1hid:046d:c21d:8A2\xa3dir\x01\xa3par\x82\xa4back\xc3\xa4grab\xc2\xa4type\x03"
    );
    assert_eq!(Start::decode(&payload), Ok(start));
}

#[test]
fn a_device_is_taken_and_its_back_channel_opened_unless_that_is_declined() {
    let start = Start::decode(b"\x83\xa3dev\xa5hid:1\xa3dir\x01\xa4type\x03").unwrap();
    assert_eq!(
        start.par,
        StartPar {
            back: true,
            grab: true
        }
    );
    assert!(start.par.writes());
    let watching = StartPar {
        back: false,
        grab: false,
    };
    assert!(!watching.writes());
}

#[test]
fn streams_of_other_types_and_directions_are_refused() {
    let payload = |kind: u8, dir: u8| {
        let head = b"\x83\xa3dev\xa5hid:1\xa3dir".as_slice();
        [head, &[dir], b"\xa4type", &[kind]].concat()
    };
    assert_eq!(Start::decode(&payload(4, 1)), Err(OpError::Field("type")));
    assert_eq!(Start::decode(&payload(3, 2)), Err(OpError::Field("dir")));
    let nameless = b"\x83\xa3dev\xa0\xa3dir\x01\xa4type\x03";
    assert_eq!(Start::decode(nameless), Err(OpError::Field("dev")));
}

#[test]
fn a_whole_description_survives() {
    let started = Started {
        par: StartPar {
            back: true,
            grab: false,
        },
        device: device(),
    };
    assert_eq!(Started::decode(&started.encode().unwrap()), Ok(started));
}

#[test]
fn an_empty_description_survives() {
    let started = Started {
        par: StartPar::default(),
        device: Description::default(),
    };
    assert_eq!(Started::decode(&started.encode().unwrap()), Ok(started));
}

fn with(key: &str, value: Value) -> Result<Started, OpError> {
    let mut desc: Vec<(Value, Value)> = ["bus", "product", "vendor", "version"]
        .map(|key| (text(key), Value::from(1u64)))
        .into();
    desc.push((text("name"), text("x")));
    desc.retain(|(name, _)| *name != text(key));
    desc.push((text(key), value));
    let par = Value::Map(vec![
        (text("back"), Value::from(true)),
        (text("desc"), Value::Map(desc)),
        (text("grab"), Value::from(true)),
    ]);
    let payload = msgpack::encode(&Value::Map(vec![(text("par"), par)])).unwrap();
    Started::decode(&payload)
}

#[test]
fn codes_that_no_device_has_are_refused() {
    assert!(with("key", Value::Bin(vec![0xFF; 96])).is_ok());
    assert_eq!(
        with("key", Value::Bin(vec![0; 97])),
        Err(OpError::Field("key"))
    );
    assert_eq!(
        with("led", Value::Bin(vec![0; 3])),
        Err(OpError::Field("led"))
    );
    let axes = |codes: &[u64]| {
        let axis = |code: &u64| {
            let mut numbers = vec![Value::Uint(*code)];
            numbers.resize(7, Value::Uint(0));
            Value::Array(numbers)
        };
        with("abs", Value::Array(codes.iter().map(axis).collect()))
    };
    assert_eq!(axes(&[0, 0x3F]).unwrap().device.abs.len(), 2);
    for wrong in [&[0x40][..], &[1, 1], &[1, 0]] {
        assert_eq!(axes(wrong), Err(OpError::Field("abs")));
    }
    assert_eq!(
        with("name", Value::Str("x".repeat(257))),
        Err(OpError::Field("name"))
    );
}

#[test]
fn no_device_holds_more_effects_than_the_kernel_counts() {
    let started = with("effects", Value::Uint(0xFFFF_FFFF)).unwrap();
    assert_eq!(started.device.effects, 96);
}

#[test]
fn every_kind_of_effect_survives() {
    for effect in one_of_each() {
        let upload = Configure::Upload(effect);
        assert_eq!(Configure::decode(&upload.encode().unwrap()), Ok(upload));
    }
    for other in [Configure::Grab(true), Configure::Erase(15)] {
        assert_eq!(Configure::decode(&other.encode().unwrap()), Ok(other));
    }
    for effect in [None, Some(3)] {
        let answer = Configured { effect };
        assert_eq!(Configured::decode(&answer.encode().unwrap()), Ok(answer));
    }
}

fn upload(kind: u64, values: &[i64]) -> Result<Configure, OpError> {
    let pair = || Value::Array(vec![Value::Uint(1), Value::Uint(2)]);
    let effect = Value::Map(vec![
        (text("dir"), Value::Uint(0)),
        (text("id"), Value::Int(-1)),
        (text("replay"), pair()),
        (text("type"), Value::Uint(kind)),
        (
            text("v"),
            Value::Array(values.iter().copied().map(Value::from).collect()),
        ),
    ]);
    let par = Value::Map(vec![(text("ff-upload"), effect)]);
    let payload = msgpack::encode(&Value::Map(vec![(text("par"), par)])).unwrap();
    Configure::decode(&payload)
}

#[test]
fn an_effect_that_cannot_be_is_refused() {
    assert!(upload(0x50, &[1, 65535]).is_ok());
    assert!(upload(0x53, &[0; 12]).is_ok());
    for (kind, values) in [
        (0x50, &[1][..]),
        (0x50, &[1, 65536]),
        (0x50, &[1, -1]),
        (0x52, &[32768]),
        (0x53, &[0; 5]),
        (0x53, &[0; 11]),
        (0x53, &[0; 13]),
        // A custom wave, and numbers that are no effect.
        (0x51, &[0x5D, 1, 1, 1, 1]),
        (0x58, &[0; 12]),
        (0xFFFF, &[]),
    ] {
        assert!(upload(kind, values).is_err(), "{kind:#x} {values:?}");
    }
}

#[test]
fn a_request_changes_one_thing() {
    assert!(Configure::decode(b"\x81\xa3par\x80").is_err());
    let two = b"\x81\xa3par\x82\xa4grab\xc3\xa8ff-erase\x01";
    assert_eq!(Configure::decode(two), Err(OpError::Field("par")));
}

#[test]
fn an_event_is_16_bytes_in_network_order() {
    let events = [
        Event {
            time: 0x0102_0304_0506_0708,
            ..Event::new(EV_REL, 8, -2)
        },
        Event::REPORT,
    ];
    let unit = encode_events(&events);
    assert_eq!(
        unit[..16],
        [1, 2, 3, 4, 5, 6, 7, 8, 0, 2, 0, 8, 0xFF, 0xFF, 0xFF, 0xFE]
    );
    assert_eq!(decode_events(&unit).unwrap(), events);
}

#[test]
fn a_unit_is_whole_packets_and_bounded() {
    let key = Event::new(EV_KEY, 30, 1);
    assert_eq!(decode_events(&[]), Err(OpError::Packet));
    assert_eq!(decode_events(&encode_events(&[key])), Err(OpError::Packet));
    let mark = Event::new(EV_SYN, SYN_MT_REPORT, 0);
    assert_eq!(decode_events(&encode_events(&[mark])), Err(OpError::Packet));
    let mut cut = encode_events(&[key, Event::REPORT]);
    cut.pop();
    assert_eq!(decode_events(&cut), Err(OpError::Packet));
    let mut most = vec![key; MAX_EVENTS - 1];
    most.push(Event::REPORT);
    assert!(decode_events(&encode_events(&most)).is_ok());
    most.push(Event::REPORT);
    assert_eq!(decode_events(&encode_events(&most)), Err(OpError::Packet));
}
