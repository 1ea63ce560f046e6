//! The limits of profile 18 that are the link's.

use super::*;

#[test]
fn a_hundred_unknown_operations_are_answered_and_one_more_ends_the_session() {
    let mut pair = Pair::new(Limits::DEFAULT);
    for corr in 0..MAX_UNKNOWN {
        let opcode = Opcode::Unknown(0x0300 + u16::try_from(corr).unwrap());
        pair.inject(R, Tier::T4, &raw_request(0, corr, opcode))
            .unwrap();
    }
    let last = raw_request(0, 5000, Opcode::Unknown(0xFFFF));
    let violation = pair.inject(R, Tier::T4, &last).unwrap_err();
    assert_eq!(
        (violation.status, violation.sub),
        (Status::BadRequest, sub::LIMIT)
    );
}

#[test]
fn the_limit_of_outstanding_requests_is_answered_with_limit() {
    let mut pair = Pair::new(small(|limits| limits.req = 3));
    for corr in 0..4 {
        pair.inject(R, Tier::T3, &raw_request(0, corr, Opcode::DeviceList))
            .unwrap();
    }
    assert_eq!(pair.events(R).len(), 3);
    let said = said(&mut pair, R);
    assert_eq!(said.len(), 1);
    assert_eq!(sub_of(&said[0].2), sub::LIMIT);
}

#[test]
fn the_limit_of_outstanding_bytes_counts_declared_answers() {
    let declared = LinkConfig {
        declared_reply: |_, payload| payload.first().map(|first| u32::from(*first) << 10),
        ..config(false, small(|limits| limits.rqb = 64 << 10))
    };
    let mut pair = Pair::with(config(true, Limits::DEFAULT), declared);
    for (corr, kib) in [(0, 40), (1, 20), (2, 10)] {
        let body = Body::Request {
            opcode: Opcode::DeviceList,
            corr,
        };
        pair.inject(R, Tier::T3, &record(0, body, &[kib])).unwrap();
    }
    assert_eq!(pair.events(R).len(), 2);
    assert_eq!(sub_of(&said(&mut pair, R)[0].2), sub::LIMIT);
}

#[test]
fn bulk_uses_at_most_three_quarters_of_the_peers_limits() {
    let mut pair = Pair::new(small(|limits| limits.req = 8));
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let bulk = request(Target::On(stream), Opcode::UsbBulkTransfer).with_reply_len(16384);
    assert_eq!(bulk.class, Class::Bulk);
    for _ in 0..10 {
        pair.links[I].request(now, bulk.clone()).unwrap();
    }
    for _ in 0..3 {
        let get = request(Target::On(stream), Opcode::UsbGetDescriptor);
        pair.links[I].request(now, get).unwrap();
    }
    let mut opcodes: Vec<_> = said(&mut pair, I)
        .iter()
        .map(|(_, head, _)| match head.body {
            Body::Request { opcode, .. } => opcode,
            other => panic!("{other:?}"),
        })
        .collect();
    opcodes.sort();
    assert_eq!(opcodes[..6], [Opcode::UsbBulkTransfer; 6]);
    assert_eq!(opcodes[6..], [Opcode::UsbGetDescriptor; 2]);
}

#[test]
fn a_waiting_request_leaves_when_an_answer_makes_room() {
    let mut pair = Pair::new(small(|limits| limits.req = 1));
    let now = pair.now;
    let (stream, first) = pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    let (_, second) = pair.links[I]
        .request(now, control(Opcode::DeviceInfo))
        .unwrap();
    pair.settle();
    assert_eq!(the_request(&mut pair, R), (stream, first));
    answer(&mut pair, R, stream, first);
    pair.settle();
    assert_eq!(the_request(&mut pair, R), (stream, second));
}

#[test]
fn a_request_heavier_than_the_peers_limit_is_refused_here() {
    let mut pair = Pair::new(small(|limits| limits.rqb = 128 << 10));
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let heavy = request(Target::On(stream), Opcode::UsbBulkTransfer).with_reply_len(100 << 10);
    assert_eq!(pair.links[I].request(now, heavy), Err(LinkError::TooLarge));
}

#[test]
fn frames_for_a_stream_that_never_was_are_answered_by_reset_a_hundred_times() {
    let mut pair = Pair::new(Limits::DEFAULT);
    for _ in 0..MAX_UNKNOWN {
        pair.inject(R, Tier::T3, &record(9, Body::Data { fin: false }, b"x"))
            .unwrap();
    }
    let said = said(&mut pair, R);
    assert_eq!(said.len(), 100);
    assert_eq!(
        said[0].1,
        FrameHead::new(
            9,
            Body::Reset {
                status: Status::NotFound
            }
        )
    );
    assert_eq!(sub_of(&said[0].2), sub::STREAM);
    let one_more = record(9, Body::Cancel { corr: 3 }, &[]);
    assert_eq!(pair.inject(R, Tier::T3, &one_more), Ok(()));
    let one_more = record(9, Body::Credit { limit: 3 }, &[]);
    assert_eq!(
        pair.inject(R, Tier::T3, &one_more).unwrap_err().sub,
        sub::LIMIT
    );
}

#[test]
fn a_thousand_frames_without_effect_are_borne_each_second() {
    let idle: [(&str, Vec<u8>); 4] = [
        ("CREDIT", record(0, Body::Credit { limit: 1 }, &[])),
        ("CANCEL", record(0, Body::Cancel { corr: 1 }, &[])),
        ("PAD", record(0, Body::Pad, &[0; 8])),
        ("RESET", record(1, Body::Reset { status: Status::Ok }, &[])),
    ];
    for (name, frame) in idle {
        let mut pair = Pair::new(Limits::DEFAULT);
        let stream = open(&mut pair, Opcode::SerialPortOpen);
        let now = pair.now;
        pair.links[R]
            .reset(now, stream, Status::NotFound, None)
            .unwrap();
        pair.advance(Duration::from_micros(1_000_000 - pair.now.0 % 1_000_000));
        for _ in 0..MAX_IDLE_FRAMES_PER_SECOND {
            assert_eq!(pair.inject(R, Tier::T3, &frame), Ok(()), "{name}");
        }
        let violation = pair.inject(R, Tier::T3, &frame).unwrap_err();
        assert_eq!(violation.sub, sub::LIMIT, "{name}");
    }
}

#[test]
fn a_pad_that_fills_up_a_record_has_an_effect() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let mut padded = record(0, Body::Ignored { kind: 8 }, &[]);
    padded.extend(record(0, Body::Pad, &[0; 200]));
    for _ in 0..2 * MAX_IDLE_FRAMES_PER_SECOND {
        pair.inject(R, Tier::T3, &padded).unwrap();
    }
}

#[test]
fn reserved_kinds_8_to_11_are_ignored_and_the_others_end_the_session() {
    for kind in 8..16u8 {
        let mut pair = Pair::new(Limits::DEFAULT);
        let result = pair.inject(R, Tier::T3, &[4, 0, kind << 4, 0xFF, 0xFF]);
        assert_eq!(result.is_ok(), kind < 12, "kind {kind}");
        assert_eq!(pair.events(R), []);
    }
}

#[test]
fn more_frames_in_a_record_than_allowed_end_the_session() {
    let (most, _) = FRAMES_PER_RECORD;
    let ignored = record(0, Body::Ignored { kind: 9 }, &[]);
    let mut pair = Pair::new(Limits::DEFAULT);
    assert_eq!(pair.inject(R, Tier::T3, &ignored.repeat(most)), Ok(()));
    let violation = pair
        .inject(R, Tier::T3, &ignored.repeat(most + 1))
        .unwrap_err();
    assert_eq!(violation.sub, sub::LIMIT);
}

#[test]
fn a_record_is_never_filled_with_more_frames_than_allowed() {
    let mut pair = Pair::new(small(|limits| limits.rec = 1 << 20));
    let stream = open(&mut pair, Opcode::CanInterfaceOpen);
    for _ in 0..6000 {
        pair.links[R]
            .event(stream, Opcode::CanFrameReceive, vec![0x90; 8])
            .unwrap();
    }
    let mut plaintext = Vec::new();
    pair.links[R]
        .fill_record(pair.now, 1 << 20, &mut plaintext)
        .unwrap();
    let frames = frame::frames(&plaintext, usize::MAX).count();
    assert_eq!(frames, FRAMES_PER_RECORD.0);
}

#[test]
fn the_limit_of_open_streams_holds_on_both_sides() {
    let mut pair = Pair::new(small(|limits| limits.str = 2));
    open(&mut pair, Opcode::SerialPortOpen);
    open(&mut pair, Opcode::CanInterfaceOpen);
    let now = pair.now;
    let third = pair.links[I].request(now, request(Target::New, Opcode::DeviceSubscribe));
    assert_eq!(third, Err(LinkError::StreamLimit));
    pair.inject(R, Tier::T3, &raw_request(5, 900, Opcode::DeviceSubscribe))
        .unwrap();
    assert_eq!(pair.events(R), []);
    assert_eq!(sub_of(&said(&mut pair, R)[0].2), sub::LIMIT);
}

#[test]
fn sixteen_events_a_second_are_allowed_on_stream_0() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let ticket = record(
        0,
        Body::Event {
            opcode: Opcode::Ticket,
        },
        &[0x80],
    );
    for _ in 0..CONTROL_EVENTS_PER_SECOND {
        pair.inject(I, Tier::T3, &ticket).unwrap();
    }
    assert_eq!(pair.events(I).len(), 16);
    assert_eq!(
        pair.inject(I, Tier::T3, &ticket).unwrap_err().sub,
        sub::LIMIT
    );
}
