//! The life of a stream (profile 11.1).

use super::*;

#[test]
fn a_reset_is_never_answered_by_a_reset() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let reset = record(
        9,
        Body::Reset {
            status: Status::NotFound,
        },
        &[],
    );
    pair.inject(R, Tier::T3, &reset).unwrap();
    assert_eq!(said(&mut pair, R), []);
}

#[test]
fn late_frames_of_a_closed_stream_are_ignored_for_ten_seconds() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    let now = pair.now;
    pair.links[R]
        .reset(now, stream, Status::NotFound, None)
        .unwrap();
    pair.settle();
    pair.events(I);
    let late = record(stream.0, Body::Data { fin: false }, b"late");
    pair.advance(Duration::from_millis(9_990));
    pair.inject(R, Tier::T3, &late).unwrap();
    assert_eq!((said(&mut pair, R), pair.events(R)), (vec![], vec![]));
    pair.advance(Duration::from_millis(10));
    assert!(pair.now.since(now) >= CLOSED_MEMORY);
    pair.inject(R, Tier::T3, &late).unwrap();
    assert_eq!(said(&mut pair, R).len(), 1);
}

#[test]
fn a_stream_is_usable_when_its_opening_succeeded_and_not_before() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, _) = pair.links[I]
        .request(now, request(Target::New, Opcode::SerialPortOpen))
        .unwrap();
    assert_eq!(
        pair.links[I].data(stream, vec![1], false),
        Err(LinkError::StreamState)
    );
    pair.settle();
    assert_eq!(
        pair.links[R].data(stream, vec![1], false),
        Err(LinkError::StreamState)
    );
    let early = record(stream.0, Body::Data { fin: false }, &[1]);
    let violation = pair.inject(R, Tier::T3, &early).unwrap_err();
    assert_eq!(violation.sub, sub::STREAM_STATE);
}

#[test]
fn events_never_overtake_the_answer_that_opens_their_stream() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, _) = pair.links[I]
        .request(now, request(Target::New, Opcode::GpioLineRequest))
        .unwrap();
    pair.settle();
    let (_, corr) = the_request(&mut pair, R);
    answer(&mut pair, R, stream, corr);
    pair.links[R]
        .event(stream, Opcode::GpioEvent, vec![0x90])
        .unwrap();
    pair.settle();
    let events = pair.events(I);
    assert!(
        matches!(
            &events[..],
            [LinkEvent::Response { .. }, LinkEvent::Event { .. }]
        ),
        "{events:?}"
    );
}

#[test]
fn a_failed_opening_closes_its_stream() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, _) = pair.links[I]
        .request(now, request(Target::New, Opcode::SerialPortOpen))
        .unwrap();
    pair.settle();
    let (_, corr) = the_request(&mut pair, R);
    let error = ErrorMap::new(sub::DEVICE);
    pair.links[R]
        .refuse(stream, corr, Status::NotFound, &error)
        .unwrap();
    pair.settle();
    assert_eq!(the_response(&mut pair, I).0, Status::NotFound);
    for end in [I, R] {
        assert_eq!(
            pair.links[end].data(stream, vec![1], false),
            Err(LinkError::UnknownStream)
        );
    }
}

#[test]
fn an_operation_on_the_wrong_stream_is_refused() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let serial = open(&mut pair, Opcode::SerialPortOpen);
    let wrong = [
        (0, Opcode::UsbBulkTransfer),
        (serial.0, Opcode::UsbBulkTransfer),
        (serial.0, Opcode::CanInterfaceOpen),
        (0, Opcode::CanInterfaceOpen),
    ];
    for (corr, (stream, opcode)) in (100..).zip(wrong) {
        pair.inject(R, Tier::T3, &raw_request(stream, corr, opcode))
            .unwrap();
        let said = said(&mut pair, R);
        assert_eq!(sub_of(&said[0].2), sub::STREAM_STATE, "{opcode}");
        let target = Target::On(StreamId(stream));
        let own = pair.links[I].request(Mono::ZERO, request(target, opcode));
        assert_eq!(own, Err(LinkError::StreamState), "{opcode}");
    }
    assert_eq!(pair.events(R), []);
}

#[test]
fn a_closing_operation_answers_what_is_outstanding_and_is_itself_answered_last() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let target = Target::On(stream);
    let (_, bulk) = pair.links[I]
        .request(
            now,
            request(target, Opcode::UsbBulkTransfer).with_reply_len(9000),
        )
        .unwrap();
    let (_, control) = pair.links[I]
        .request(now, request(target, Opcode::UsbControlTransfer))
        .unwrap();
    let (_, detach) = pair.links[I]
        .request(now, request(target, Opcode::UsbDeviceDetach))
        .unwrap();
    pair.settle();
    assert_eq!(pair.events(R).len(), 3);
    answer(&mut pair, R, stream, bulk);
    answer(&mut pair, R, stream, detach);
    pair.settle();
    let answers: Vec<_> = pair
        .events(I)
        .iter()
        .map(|event| match event {
            LinkEvent::Response { corr, status, .. } => (*corr, *status),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers.last(), Some(&(detach, Status::Ok)));
    assert!(answers.contains(&(bulk, Status::Ok)));
    assert!(answers.contains(&(control, Status::Timeout)));
    for end in [I, R] {
        assert_eq!(
            pair.links[end].cancel(now, stream, detach),
            Err(LinkError::UnknownRequest)
        );
        assert_eq!(
            pair.links[end].data(stream, vec![1], false),
            Err(LinkError::UnknownStream)
        );
    }
}

#[test]
fn fin_in_both_directions_closes_the_stream() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::RelayOpen);
    pair.links[I].data(stream, b"last".to_vec(), true).unwrap();
    assert_eq!(
        pair.links[I].data(stream, vec![1], false),
        Err(LinkError::StreamState)
    );
    pair.settle();
    pair.links[R]
        .data(stream, b"answer".to_vec(), false)
        .unwrap();
    pair.links[R].data(stream, vec![], true).unwrap();
    pair.settle();
    for end in [I, R] {
        assert_eq!(
            pair.links[end].data(stream, vec![1], false),
            Err(LinkError::UnknownStream)
        );
    }
    let data: Vec<_> = pair
        .events(I)
        .into_iter()
        .map(|event| match event {
            LinkEvent::Data { payload, fin, .. } => (payload, fin),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(data, [(b"answer".to_vec(), false), (vec![], true)]);
}

#[test]
fn a_reset_answers_the_requests_of_its_stream_and_frees_the_peer_of_its_own() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    let now = pair.now;
    let (_, corr) = pair.links[I]
        .request(now, request(Target::On(stream), Opcode::SerialBreak))
        .unwrap();
    pair.settle();
    the_request(&mut pair, R);
    let gone = ErrorMap::new(sub::DEVICE_GONE);
    pair.links[R]
        .reset(now, stream, Status::ServiceUnavailable, Some(&gone))
        .unwrap();
    assert_eq!(
        pair.links[R].respond(stream, corr, Status::Ok, vec![], false),
        Err(LinkError::UnknownRequest)
    );
    pair.settle();
    let events = pair.events(I);
    let [
        LinkEvent::Response { payload, .. },
        LinkEvent::Reset { status, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(sub_of(payload), sub::DEVICE_GONE);
    assert_eq!(*status, Status::ServiceUnavailable);
}

#[test]
fn the_end_of_the_session_answers_everything_with_0x21() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    let now = pair.now;
    pair.links[I]
        .request(now, request(Target::On(stream), Opcode::SerialBreak))
        .unwrap();
    pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    pair.links[I].abort(now);
    let events = pair.events(I);
    let unavailable = Status::ServiceUnavailable;
    assert!(
        matches!(
            &events[..],
            [
                LinkEvent::Response { status: a, .. },
                LinkEvent::Reset { status: b, .. },
                LinkEvent::Response { status: c, .. },
            ] if [*a, *b, *c] == [unavailable; 3]
        ),
        "{events:?}"
    );
}
