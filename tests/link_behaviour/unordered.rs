//! Paths that lose and reorder (profile 10.4, 15.4).

use super::*;

#[test]
fn an_unordered_path_repeats_requests_and_executes_them_once() {
    let unordered = |initiator| LinkConfig {
        ordered: false,
        ..config(initiator, Limits::DEFAULT)
    };
    let mut pair = Pair::with(unordered(true), unordered(false));
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, control(Opcode::GpioChipList))
        .unwrap();
    pair.send(I).unwrap();
    pair.towards[R].clear();
    pair.advance(Duration::from_secs(1));
    pair.settle();
    assert_eq!(the_request(&mut pair, R), (stream, corr));
    answer(&mut pair, R, stream, corr);
    pair.send(R).unwrap();
    pair.towards[I].clear();
    pair.advance(Duration::from_secs(2));
    pair.settle();
    assert_eq!(pair.events(R), []);
    assert_eq!(the_response(&mut pair, I).0, Status::Ok);

    let again = raw_request(0, corr.0, Opcode::GpioChipList);
    pair.inject(R, Tier::T3, &again).unwrap();
    assert_eq!((said(&mut pair, R).len(), pair.events(R).len()), (1, 0));
    pair.advance(KEPT_FOR);
    pair.inject(R, Tier::T3, &again).unwrap();
    assert_eq!(pair.events(R).len(), 1);
}

#[test]
fn operations_that_need_order_are_refused_on_an_unordered_path() {
    let unordered = |initiator| LinkConfig {
        ordered: false,
        ..config(initiator, Limits::DEFAULT)
    };
    let mut pair = Pair::with(unordered(true), unordered(false));
    let attach = request(Target::New, Opcode::UsbDeviceAttach);
    let refused = pair.links[I].request(Mono::ZERO, attach);
    assert_eq!(refused, Err(LinkError::OrderedPath));
    pair.inject(R, Tier::T3, &raw_request(1, 4, Opcode::UsbDeviceAttach))
        .unwrap();
    assert_eq!(sub_of(&said(&mut pair, R)[0].2), sub::UNSUPPORTED);
}

#[test]
fn an_unordered_path_numbers_flow_frames_and_reports_gaps() {
    let unordered = |initiator| LinkConfig {
        ordered: false,
        ..config(initiator, Limits::DEFAULT)
    };
    let mut pair = Pair::with(unordered(true), unordered(false));
    let stream = open(&mut pair, Opcode::GpioLineRequest);
    for number in 0..4 {
        pair.links[R]
            .event(stream, Opcode::GpioEvent, vec![number])
            .unwrap();
        pair.send(R).unwrap();
    }
    pair.towards[I].swap(2, 3);
    pair.towards[I].remove(1);
    pair.advance(pair.delay);
    pair.deliver(I).unwrap();
    let events = pair.events(I);
    assert!(
        matches!(
            &events[..],
            [
                LinkEvent::Event { .. },
                LinkEvent::Missing { count: 2, .. },
                LinkEvent::Event { payload, .. },
            ] if payload[..] == [3]
        ),
        "{events:?}"
    );
}
