//! Credit and backpressure (profile 11.2).

use super::*;

#[test]
fn an_unknown_event_is_ignored_and_its_credit_given_back() {
    let limits = small(|limits| limits.cr = 64 << 10);
    let mut pair = Pair::new(limits);
    let stream = open(&mut pair, Opcode::DeviceSubscribe);
    for _ in 0..200 {
        let event = Body::Event {
            opcode: Opcode::Unknown(0x02FF),
        };
        pair.inject(R, Tier::T3, &record(stream.0, event, &[0; 1000]))
            .unwrap();
        said(&mut pair, R);
    }
    assert_eq!(pair.events(R), []);
}

#[test]
fn a_byte_beyond_the_streams_credit_ends_the_session() {
    let mut pair = Pair::new(small(|limits| limits.cr = 100));
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    // The credit that R announced beyond its initial limit did not reach the forger.
    let granted = 64 << 10;
    pair.links[R].consume_manually(stream);
    let most = record(stream.0, Body::Data { fin: false }, &vec![0; granted]);
    pair.inject(R, Tier::T3, &most).unwrap();
    let more = record(stream.0, Body::Data { fin: false }, &[0]);
    assert_eq!(
        pair.inject(R, Tier::T3, &more).unwrap_err().sub,
        sub::FLOW_CONTROL
    );
}

#[test]
fn a_byte_beyond_the_sessions_credit_ends_the_session_but_class_1_does_not_count() {
    let limits = small(|limits| {
        limits.scr = 64 << 10;
        limits.cr = 60 << 10;
    });
    let mut pair = Pair::new(limits);
    let can = open(&mut pair, Opcode::CanInterfaceOpen);
    let ports = [Opcode::SerialPortOpen; 2].map(|opener| open(&mut pair, opener));
    for stream in [can, ports[0], ports[1]] {
        pair.links[R].consume_manually(stream);
    }
    let event = Body::Event {
        opcode: Opcode::CanFrameSend,
    };
    pair.inject(R, Tier::T3, &record(can.0, event, &vec![0; 60 << 10]))
        .unwrap();
    let data =
        |stream: StreamId, bytes| record(stream.0, Body::Data { fin: false }, &vec![0; bytes]);
    pair.inject(R, Tier::T3, &data(ports[0], 60 << 10)).unwrap();
    pair.inject(R, Tier::T3, &data(ports[1], 4 << 10)).unwrap();
    let violation = pair.inject(R, Tier::T3, &data(ports[1], 1)).unwrap_err();
    assert_eq!(violation.sub, sub::FLOW_CONTROL);
}

#[test]
fn a_slow_consumer_stops_the_sender_and_going_on_starts_it_again() {
    let limits = small(|limits| limits.cr = 64 << 10);
    let mut pair = Pair::new(limits);
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    pair.links[I].consume_manually(stream);
    pair.links[R]
        .data(stream, vec![7; 200 << 10], false)
        .unwrap();
    pair.settle();
    let received = |pair: &mut Pair| -> usize {
        pair.events(I)
            .iter()
            .map(|event| match event {
                LinkEvent::Data { payload, .. } => payload.len(),
                other => panic!("{other:?}"),
            })
            .sum()
    };
    assert_eq!(received(&mut pair), 64 << 10);
    pair.links[I].consume(stream, 40 << 10);
    pair.settle();
    assert_eq!(received(&mut pair), 40 << 10);
}

#[test]
fn a_producer_is_told_to_wait_and_when_to_go_on() {
    let limits = small(|limits| limits.cr = 64 << 10);
    let mut pair = Pair::new(limits);
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    pair.links[R].consume_manually(stream);
    let kib = 100 << 10;
    let accepted = (0..20)
        .take_while(|_| pair.links[I].data(stream, vec![1; kib], false).is_ok())
        .count();
    assert_eq!(accepted, (1 << 20) / kib);
    assert_eq!(
        pair.links[I].data(stream, vec![1; kib], false),
        Err(LinkError::WouldBlock)
    );
    assert!(!pair.links[I].writable(stream, kib));
    pair.settle();
    assert_eq!(pair.events(I), []);
    for _ in 0..20 {
        pair.links[R].consume(stream, usize::MAX);
        pair.settle();
    }
    assert_eq!(pair.events(I), [LinkEvent::Writable { stream }]);
    assert!(pair.links[I].writable(stream, kib));
}

#[test]
fn a_class_1_source_without_credit_drops_the_oldest_and_counts() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::CanInterfaceOpen);
    pair.links[I].consume_manually(stream);
    for number in 0..200u32 {
        let mut payload = vec![0; 1024];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        pair.links[R]
            .event(stream, Opcode::CanFrameReceive, payload)
            .unwrap();
        pair.settle();
    }
    let dropped: u32 = pair
        .events(R)
        .iter()
        .map(|event| match event {
            LinkEvent::Dropped { count, .. } => *count,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(dropped, 200 - 64 - 64);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        for event in pair.events(I) {
            let LinkEvent::Event { payload, .. } = event else {
                panic!("{event:?}");
            };
            numbers.push(u32::from_be_bytes(*payload.first_chunk().unwrap()));
        }
        pair.links[I].consume(stream, usize::MAX);
        pair.settle();
    }
    let expected: Vec<_> = (0..64).chain(136..200).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn media_past_its_deadline_is_discarded_before_it_is_sealed() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open_with(&mut pair, Opcode::StreamStart, b"\x81\xa4type\x01".to_vec());
    let soon = pair.now.after(Duration::from_millis(10));
    let later = pair.now.after(Duration::from_millis(50));
    pair.links[R]
        .data_until(stream, vec![1; 100], false, Some(soon))
        .unwrap();
    pair.links[R]
        .data_until(stream, vec![2; 100], false, Some(later))
        .unwrap();
    pair.advance(Duration::from_millis(20));
    pair.settle();
    let events = pair.events(I);
    assert!(
        matches!(&events[..], [LinkEvent::Data { payload, .. }] if payload[0] == 2),
        "{events:?}"
    );
    assert_eq!(pair.events(R), [LinkEvent::Dropped { stream, count: 1 }]);
}

#[test]
fn fragments_that_exceed_the_credit_end_the_session_before_the_unit_is_complete() {
    let mut pair = Pair::new(small(|limits| limits.cr = 64 << 10));
    let stream = open(&mut pair, Opcode::DeviceSubscribe);
    pair.links[R].consume_manually(stream);
    let data = record(
        stream.0,
        Body::Event {
            opcode: Opcode::DeviceSubscribe,
        },
        &vec![0; 64 << 10],
    );
    pair.inject(R, Tier::T3, &data).unwrap();
    let mut out = vec![0x40, 16 + 4, 0x02];
    Header {
        message_id: 0,
        index: 0,
        count: 2,
        total: 500,
    }
    .emit(&mut out);
    FrameHead::new(
        stream.0,
        Body::Event {
            opcode: Opcode::DeviceSubscribe,
        },
    )
    .emit_unit_head(&mut out);
    out.extend([1; 3]);
    assert_eq!(
        pair.inject(R, Tier::T3, &out).unwrap_err().sub,
        sub::FLOW_CONTROL
    );
}
