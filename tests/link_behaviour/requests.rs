//! Requests, answers, CANCEL and timeouts (profile 10).

use super::*;

#[test]
fn a_request_is_answered_once() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    assert_eq!(stream, StreamId::CONTROL);
    pair.settle();
    assert_eq!(the_request(&mut pair, R), (stream, corr));
    answer(&mut pair, R, stream, corr);
    let again = pair.links[R].respond(stream, corr, Status::Ok, vec![], false);
    assert_eq!(again, Err(LinkError::UnknownRequest));
    pair.settle();
    assert_eq!(the_response(&mut pair, I).0, Status::Ok);
}

#[test]
fn answers_with_more_come_before_the_final_one_and_prolong_the_timeout() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, request(Target::New, Opcode::GpuRequest))
        .unwrap();
    pair.settle();
    the_request(&mut pair, R);
    for part in 0..3 {
        pair.advance(Duration::from_secs(20));
        pair.links[R]
            .respond(stream, corr, Status::Ok, vec![part], true)
            .unwrap();
        pair.settle();
    }
    answer(&mut pair, R, stream, corr);
    pair.settle();
    let more: Vec<_> = pair
        .events(I)
        .iter()
        .map(|event| match event {
            LinkEvent::Response { more, .. } => *more,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(more, [true, true, true, false]);
}

#[test]
fn an_unknown_opcode_reaches_the_application_to_be_answered() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let opcode = Opcode::Unknown(0x0777);
    let (stream, corr) = pair.links[I].request(now, control(opcode)).unwrap();
    pair.settle();
    the_request(&mut pair, R);
    let error = ErrorMap::new(sub::UNKNOWN_OP);
    pair.links[R]
        .refuse(stream, corr, Status::BadRequest, &error)
        .unwrap();
    pair.settle();
    let (status, error) = the_response(&mut pair, I);
    assert_eq!((status, &*error.sub), (Status::BadRequest, sub::UNKNOWN_OP));
}

#[test]
fn core_opcodes_and_records_never_travel_as_frames() {
    for opcode in [Opcode::SessionClose, Opcode::Nop, Opcode::Record] {
        let mut pair = Pair::new(Limits::DEFAULT);
        assert_eq!(
            pair.links[I].request(Mono::ZERO, control(opcode)),
            Err(LinkError::NotAnOperation)
        );
        assert!(
            pair.inject(R, Tier::T4, &raw_request(0, 1, opcode))
                .is_err()
        );
    }
}

#[test]
fn a_cancelled_request_gets_exactly_one_final_answer() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, control(Opcode::I2cTransfer))
        .unwrap();
    pair.settle();
    the_request(&mut pair, R);
    pair.links[I].cancel(now, stream, corr).unwrap();
    pair.links[I].cancel(now, stream, corr).unwrap();
    pair.settle();
    assert_eq!(pair.events(R), [LinkEvent::Cancel { stream, corr }]);
    let error = ErrorMap::new(sub::CANCELLED);
    pair.links[R]
        .refuse(stream, corr, Status::Timeout, &error)
        .unwrap();
    pair.settle();
    let (status, error) = the_response(&mut pair, I);
    assert_eq!((status, &*error.sub), (Status::Timeout, sub::CANCELLED));
    assert_eq!(
        pair.links[I].cancel(now, stream, corr),
        Err(LinkError::UnknownRequest)
    );
    pair.advance(Duration::from_secs(60));
    pair.settle();
    assert_eq!(pair.events(I), []);
}

#[test]
fn a_cancel_that_crosses_the_answer_has_no_effect() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, control(Opcode::I2cTransfer))
        .unwrap();
    pair.settle();
    the_request(&mut pair, R);
    answer(&mut pair, R, stream, corr);
    pair.links[I].cancel(now, stream, corr).unwrap();
    pair.settle();
    assert_eq!(pair.events(R), []);
    assert_eq!(the_response(&mut pair, I).0, Status::Ok);
}

#[test]
fn a_request_cancelled_before_it_was_sent_never_leaves() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, request(Target::New, Opcode::CanInterfaceOpen))
        .unwrap();
    pair.links[I].cancel(now, stream, corr).unwrap();
    assert_eq!(the_response(&mut pair, I).0, Status::Timeout);
    assert_eq!(said(&mut pair, I), []);
}

#[test]
fn silence_is_cancelled_and_five_seconds_later_the_stream_is_reset() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::SerialPortOpen);
    let now = pair.now;
    let (_, corr) = pair.links[I]
        .request(now, request(Target::On(stream), Opcode::SerialBreak))
        .unwrap();
    pair.settle();
    the_request(&mut pair, R);
    pair.advance(Duration::from_secs(29));
    assert_eq!(said(&mut pair, I), []);
    pair.advance(Duration::from_secs(1));
    let cancel = FrameHead::new(stream.0, Body::Cancel { corr: corr.0 });
    assert_eq!(said(&mut pair, I)[0].1, cancel);
    pair.advance(Duration::from_secs(5));
    let reset = FrameHead::new(
        stream.0,
        Body::Reset {
            status: Status::Timeout,
        },
    );
    assert_eq!(said(&mut pair, I)[0].1, reset);
    let events = pair.events(I);
    assert!(
        matches!(
            &events[..],
            [
                LinkEvent::Response {
                    status: Status::Timeout,
                    more: false,
                    ..
                },
                LinkEvent::Reset { .. }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn stream_0_survives_a_request_that_is_never_answered() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    pair.settle();
    the_request(&mut pair, R);
    pair.advance(Duration::from_secs(30));
    pair.advance(Duration::from_secs(5));
    assert_eq!(the_response(&mut pair, I).0, Status::Timeout);
    pair.settle();
    answer(&mut pair, R, stream, corr);
    pair.settle();
    assert_eq!(pair.events(I), []);
    let now = pair.now;
    pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
}

#[test]
fn a_request_without_a_timeout_waits_for_ever() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let interrupt = request(Target::On(stream), Opcode::UsbInterruptTransfer).with_timeout(None);
    pair.links[I].request(now, interrupt).unwrap();
    pair.settle();
    pair.advance(Duration::from_secs(1_000_000));
    assert_eq!(said(&mut pair, I), []);
    assert_eq!(pair.events(I), []);
}

#[test]
fn a_correlation_id_in_use_ends_the_session() {
    let mut pair = Pair::new(Limits::DEFAULT);
    pair.inject(R, Tier::T3, &raw_request(0, 7, Opcode::DeviceList))
        .unwrap();
    let again = raw_request(0, 7, Opcode::DeviceInfo);
    assert_eq!(
        pair.inject(R, Tier::T3, &again).unwrap_err().sub,
        sub::DUPLICATE
    );
}

#[test]
fn an_isochronous_request_past_its_deadline_is_answered_here() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let mut late = request(Target::On(stream), Opcode::UsbIsochronousTransfer);
    late.deadline = Some(now.after(Duration::from_millis(1)));
    pair.links[I].request(now, late).unwrap();
    pair.advance(Duration::from_millis(2));
    assert_eq!(said(&mut pair, I), []);
    assert_eq!(the_response(&mut pair, I).0, Status::Timeout);
}
