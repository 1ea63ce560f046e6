//! Fragments, compression and the direct form (profile 9.1, 13).

use super::*;

#[test]
fn a_large_unit_goes_in_fragments_and_arrives_whole() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let payload: Vec<u8> = (0..900_000u32).map(|n| n.to_be_bytes()[3]).collect();
    let large = Request::new(
        Target::On(StreamId::CONTROL),
        Opcode::I2cTransfer,
        payload.clone(),
    );
    pair.links[I].request(now, large).unwrap();
    pair.settle();
    let events = pair.events(R);
    assert!(
        matches!(&events[..], [LinkEvent::Request { payload: received, .. }] if *received == payload)
    );
}

#[test]
fn a_ninth_unfinished_unit_ends_the_session() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let piece = |message_id: u32| {
        let mut out = vec![0x0f, 0x02];
        Header {
            message_id,
            index: 0,
            count: 2,
            total: 50,
        }
        .emit(&mut out);
        out.extend([0x10, 0x00]);
        out
    };
    for id in 0..u32::try_from(REASSEMBLIES).unwrap() {
        pair.inject(R, Tier::T3, &piece(id)).unwrap();
    }
    assert_eq!(
        pair.inject(R, Tier::T3, &piece(99)).unwrap_err().sub,
        sub::FRAGMENT
    );
}

#[test]
fn never_more_than_eight_units_are_fragmented_at_once() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let streams: Vec<_> = (0..12)
        .map(|_| open(&mut pair, Opcode::UsbDeviceAttach))
        .collect();
    let now = pair.now;
    for stream in &streams {
        let target = Target::On(*stream);
        for opcode in [Opcode::UsbBulkTransfer, Opcode::UsbControlTransfer] {
            let large = Request::new(target, opcode, vec![3; 200_000]);
            pair.links[I].request(now, large).unwrap();
        }
    }
    pair.settle();
    assert_eq!(pair.events(R).len(), 24);
}

#[test]
fn a_compressed_bomb_is_refused_and_costs_nothing() {
    let able = |initiator| LinkConfig {
        selected: Some(Algorithm::Lz4),
        ..config(initiator, Limits::DEFAULT)
    };
    let mut pair = Pair::with(able(true), able(false));
    let mut bomb = vec![0];
    bomb.extend((1u32 << 20).to_be_bytes());
    bomb.extend([0x1f; 100]);
    let head = FrameHead {
        compressed: true,
        ..FrameHead::new(
            0,
            Body::Request {
                opcode: Opcode::DeviceList,
                corr: 1,
            },
        )
    };
    let mut out = Vec::new();
    head.emit(&bomb, &mut out);
    pair.inject(R, Tier::T3, &out).unwrap();
    assert_eq!(pair.events(R), []);
    let said = said(&mut pair, R);
    assert_eq!(sub_of(&said[0].2), sub::DECOMPRESS);
}

#[test]
fn only_lists_are_compressed_and_only_when_that_is_on() {
    for (compress, opcode, expected) in [
        (true, Opcode::DeviceList, true),
        (false, Opcode::DeviceList, false),
        (true, Opcode::I2cTransfer, false),
    ] {
        let able = |initiator| LinkConfig {
            selected: Some(Algorithm::Zstd),
            compress,
            ..config(initiator, Limits::DEFAULT)
        };
        let mut pair = Pair::with(able(true), able(false));
        let now = pair.now;
        let (stream, corr) = pair.links[I].request(now, control(opcode)).unwrap();
        pair.settle();
        pair.events(R);
        let payload = b"usb:0403:6001 ".repeat(100);
        pair.links[R]
            .respond(stream, corr, Status::Ok, payload.clone(), false)
            .unwrap();
        let sealed = pair.send(R).unwrap();
        assert_eq!(sealed.plaintext.len() < 1000, expected, "{opcode}");
        pair.settle();
        let events = pair.events(I);
        assert!(
            matches!(&events[..], [LinkEvent::Response { payload: read, .. }] if *read == payload)
        );
    }
}

#[test]
fn the_direct_form_means_the_same_as_a_frame() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let plaintext = b"\x95\x01\x01\x07\x00\x81\xa3dev\xa3usb";
    let now = pair.now;
    let link = &mut pair.links[R];
    let flags = Flags::sealed(Tier::T3);
    link.handle_direct(now, Tier::T3, 3, Opcode::SerialPortOpen, flags, plaintext)
        .unwrap();
    assert_eq!(
        pair.events(R),
        [LinkEvent::Request {
            stream: StreamId(1),
            corr: Corr(7),
            opcode: Opcode::SerialPortOpen,
            payload: b"\x81\xa3dev\xa3usb".to_vec(),
            tier: Tier::T3,
            age_secs: 3,
        }]
    );
}
