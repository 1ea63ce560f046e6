//! What a link does in each situation of profile 9–13 and 18 that is the link's own.

mod link_pipe;

use std::time::Duration;

use link_pipe::{I, Pair, R, config};
use myclerk::link::{
    CLOSED_MEMORY, CONTROL_EVENTS_PER_SECOND, Class, Corr, KEPT_FOR, Link, LinkConfig, LinkError,
    LinkEvent, Request, StreamId, Target, TierPolicy, Violation,
};
use myclerk::wire::{
    compress::Algorithm,
    error::ErrorMap,
    flags::{Flags, Tier},
    fragment::Header,
    frame::{self, Body, Frame, FrameHead, RawFrame},
    limits::{FRAMES_PER_RECORD, Limits, MAX_IDLE_FRAMES_PER_SECOND, MAX_UNKNOWN, REASSEMBLIES},
    opcode::Opcode,
    status::{Status, sub},
    time::Mono,
};

fn request(target: Target, opcode: Opcode) -> Request {
    Request::new(target, opcode, vec![0x80])
}

fn control(opcode: Opcode) -> Request {
    request(Target::On(StreamId::CONTROL), opcode)
}

/// Opens a stream from I to R and answers with success.
fn open(pair: &mut Pair, opener: Opcode) -> StreamId {
    open_with(pair, opener, vec![0x80])
}

fn open_with(pair: &mut Pair, opener: Opcode, payload: Vec<u8>) -> StreamId {
    let now = pair.now;
    let (stream, _) = pair.links[I]
        .request(now, Request::new(Target::New, opener, payload))
        .unwrap();
    pair.settle();
    let (_, corr) = the_request(pair, R);
    answer(pair, R, stream, corr);
    pair.settle();
    let events = pair.events(I);
    assert!(
        matches!(&events[..], [LinkEvent::Response { status, .. }] if status.is_success()),
        "{events:?}"
    );
    stream
}

fn answer(pair: &mut Pair, end: usize, stream: StreamId, corr: Corr) {
    pair.links[end]
        .respond(stream, corr, Status::Ok, vec![0x80], false)
        .unwrap();
}

fn the_request(pair: &mut Pair, end: usize) -> (StreamId, Corr) {
    let events = pair.events(end);
    match &events[..] {
        [LinkEvent::Request { stream, corr, .. }] => (*stream, *corr),
        other => panic!("{other:?} is not one request"),
    }
}

fn the_response(pair: &mut Pair, end: usize) -> (Status, ErrorMap) {
    let events = pair.events(end);
    match &events[..] {
        [
            LinkEvent::Response {
                status,
                payload,
                more: false,
                ..
            },
        ] => (*status, ErrorMap::decode(payload).unwrap_or_default()),
        other => panic!("{other:?} is not one final response"),
    }
}

/// One frame as a record.
fn record(stream: u32, body: Body, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHead::new(stream, body).emit(payload, &mut out);
    out
}

fn raw_request(stream: u32, corr: u32, opcode: Opcode) -> Vec<u8> {
    record(stream, Body::Request { opcode, corr }, &[0x80])
}

/// All whole frames that an end has to say now, with the tiers of their records.
fn said(pair: &mut Pair, end: usize) -> Vec<(Tier, FrameHead, Vec<u8>)> {
    let mut said = Vec::new();
    while let Some(sealed) = pair.send(end) {
        for frame in frame::frames(&sealed.plaintext, usize::MAX) {
            if let RawFrame::Whole(Frame { head, payload }) = frame.unwrap() {
                said.push((sealed.tier, head, payload.to_vec()));
            }
        }
    }
    pair.towards[1 - end].clear();
    said
}

fn sub_of(payload: &[u8]) -> String {
    ErrorMap::decode(payload).unwrap().sub.into_owned()
}

fn small(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::DEFAULT;
    change(&mut limits);
    limits
}

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
fn a_request_in_a_record_of_too_low_a_tier_is_refused_with_the_required_one() {
    let mut pair = Pair::new(Limits::DEFAULT);
    pair.inject(R, Tier::T3, &raw_request(0, 5, Opcode::AclGrant))
        .unwrap();
    assert_eq!(pair.events(R), []);
    let said = said(&mut pair, R);
    let [(tier, head, payload)] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(*tier, Tier::T3);
    let status = Status::Forbidden;
    assert_eq!(
        head.body,
        Body::Response {
            corr: 5,
            status,
            more: false
        }
    );
    let error = ErrorMap::decode(payload).unwrap();
    assert_eq!((&*error.sub, error.required_tier), (sub::TIER, Some(4)));
}

#[test]
fn an_administrative_request_travels_in_a_tier_4_record_of_its_own() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let now = pair.now;
    pair.links[I]
        .request(now, control(Opcode::AclGrant))
        .unwrap();
    pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    let tiers: Vec<_> = said(&mut pair, I).iter().map(|(tier, ..)| *tier).collect();
    assert_eq!(tiers, [Tier::T4, Tier::T3]);
}

#[test]
fn a_request_refused_for_its_tier_is_repeated_once_at_the_required_one() {
    let strict = LinkConfig {
        policy: TierPolicy::new(true),
        ..config(false, Limits::DEFAULT)
    };
    let mut pair = Pair::with(config(true, Limits::DEFAULT), strict);
    let now = pair.now;
    let (stream, corr) = pair.links[I]
        .request(now, request(Target::New, Opcode::UsbDeviceAttach))
        .unwrap();
    pair.settle();
    let events = pair.events(R);
    assert!(
        matches!(&events[..], [LinkEvent::Request { tier: Tier::T4, .. }]),
        "{events:?}"
    );
    answer(&mut pair, R, stream, corr);
    pair.settle();
    assert_eq!(the_response(&mut pair, I).0, Status::Ok);
}

#[test]
fn a_tier_above_the_sessions_ceiling_is_the_callers_business() {
    let low = LinkConfig {
        max_tier: Tier::T3,
        ..config(true, Limits::DEFAULT)
    };
    let strict = LinkConfig {
        policy: TierPolicy::new(true),
        ..config(false, Limits::DEFAULT)
    };
    let mut pair = Pair::with(low, strict);
    let now = pair.now;
    let refused = pair.links[I].request(now, control(Opcode::AclGrant));
    assert_eq!(refused, Err(LinkError::Tier(Tier::T4)));
    pair.links[I]
        .request(now, request(Target::New, Opcode::UsbDeviceAttach))
        .unwrap();
    pair.settle();
    assert_eq!(pair.events(R), []);
    let (status, error) = the_response(&mut pair, I);
    assert_eq!((status, &*error.sub), (Status::Forbidden, sub::TIER));
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
    pair.advance(CLOSED_MEMORY - Duration::from_millis(10));
    pair.inject(R, Tier::T3, &late).unwrap();
    assert_eq!((said(&mut pair, R), pair.events(R)), (vec![], vec![]));
    pair.advance(Duration::from_millis(10));
    pair.inject(R, Tier::T3, &late).unwrap();
    assert_eq!(said(&mut pair, R).len(), 1);
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
    for corr in 0..250 {
        let mut padded = raw_request(0, corr, Opcode::DeviceList);
        padded.extend(record(0, Body::Pad, &[0; 200]));
        for _ in 0..8 {
            // The same corr would be a violation, so a stray event stands for real traffic.
            let mut more = record(0, Body::Ignored { kind: 8 }, &[]);
            more.extend(record(0, Body::Pad, &[0; 200]));
            pair.inject(R, Tier::T3, &more).unwrap();
        }
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

#[test]
fn a_family_update_below_tier_4_is_ignored() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let update = record(
        0,
        Body::Event {
            opcode: Opcode::FamilyUpdate,
        },
        &[0x80],
    );
    pair.inject(I, Tier::T3, &update).unwrap();
    assert_eq!(pair.events(I), []);
    pair.links[R]
        .event(StreamId::CONTROL, Opcode::FamilyUpdate, vec![0x80])
        .unwrap();
    pair.settle();
    assert_eq!(pair.events(I).len(), 1);
}

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
fn sized_transfers_of_one_stream_never_overtake_each_other() {
    let mut pair = Pair::new(small(|limits| limits.rec = 4096));
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    for (number, size) in [(0, 100), (1, 30_000), (2, 50), (3, 9_000), (4, 10)] {
        let mut payload = vec![number];
        payload.resize(size, 0);
        let transfer = Request::new(Target::On(stream), Opcode::UsbBulkTransfer, payload);
        pair.links[I].request(now, transfer).unwrap();
    }
    pair.settle();
    let order: Vec<_> = pair
        .events(R)
        .iter()
        .map(|event| match event {
            LinkEvent::Request { payload, .. } => payload[0],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
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

/// A path of a fixed rate in front of which the transport keeps at most `unsent_limit` bytes.
struct Saturated {
    pair: Pair,
    /// Sealed bytes in front of the path, with the time at which each record has left.
    leaving: std::collections::VecDeque<(Mono, u64)>,
    free_at: Mono,
    rate: u64,
}

impl Saturated {
    fn unsent(&self) -> u64 {
        self.leaving.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Hands records to the transport while it takes them; R sends, I receives.
    fn pump(&mut self) {
        loop {
            let now = self.pair.now;
            while let Some((left, bytes)) = self.leaving.front().copied() {
                if left > now {
                    break;
                }
                self.leaving.pop_front();
                self.pair.links[R].delivered(left, bytes);
            }
            let limit = u64::try_from(self.pair.links[R].unsent_limit()).unwrap();
            if self.unsent() >= limit {
                return;
            }
            let Some(sealed) = self.pair.send(R) else {
                return;
            };
            let bytes = u64::try_from(sealed.plaintext.len() + 36).unwrap();
            self.pair.links[R].written(now, bytes);
            self.free_at = Mono(self.free_at.0.max(now.0) + bytes * 1_000_000 / self.rate);
            self.leaving.push_back((self.free_at, bytes));
            let queue = &mut self.pair.towards[I];
            queue.back_mut().unwrap().arrives = self.free_at;
        }
    }
}

#[test]
fn a_key_press_waits_less_than_five_milliseconds_while_bulk_saturates_100_mbit() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let disk = open(&mut pair, Opcode::UsbDeviceAttach);
    let keys = open_with(&mut pair, Opcode::StreamStart, b"\x81\xa4type\x03".to_vec());
    let mut path = Saturated {
        free_at: pair.now,
        pair,
        leaving: std::collections::VecDeque::new(),
        rate: 12_500_000,
    };
    let (mut bulk, mut reading, mut worst, mut pressed) = (0usize, 0, Duration::ZERO, 0);
    let start = path.pair.now;
    let mut pressed_at = None;
    for step in 0..20_000 {
        path.pair.advance(Duration::from_micros(100));
        let now = path.pair.now;
        let target = Target::On(disk);
        let read = Request::new(target, Opcode::UsbBulkTransfer, vec![0x95]).with_reply_len(65536);
        while reading < 16 {
            path.pair.links[I].request(now, read.clone()).unwrap();
            reading += 1;
        }
        while path.pair.send(I).is_some() {}
        path.pair.deliver(R).unwrap();
        for event in path.pair.events(R) {
            if let LinkEvent::Request { stream, corr, .. } = event {
                let data = vec![0xD1; 65536];
                path.pair.links[R]
                    .respond(stream, corr, Status::Ok, data, false)
                    .unwrap();
            }
        }
        if step % 77 == 0 && pressed_at.is_none() {
            path.pair.links[R].data(keys, vec![1; 32], false).unwrap();
            pressed_at = Some(now);
        }
        path.pump();
        path.pair.deliver(I).unwrap();
        for event in path.pair.events(I) {
            match event {
                LinkEvent::Response { payload, .. } => {
                    bulk += payload.len();
                    reading -= 1;
                }
                LinkEvent::Data { .. } => {
                    worst = worst.max(now.since(pressed_at.take().unwrap()));
                    pressed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let seconds = path.pair.now.since(start).as_secs_f64();
    let share = bulk as f64 / seconds / 12_500_000.0;
    assert!(share > 0.9, "bulk got {share} of the path");
    assert!(pressed > 200, "{pressed}");
    assert!(worst < Duration::from_millis(5), "{worst:?}");
}

#[test]
fn class_1_waits_for_one_record_at_most_whatever_else_is_ready() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let disk = open(&mut pair, Opcode::UsbDeviceAttach);
    let can = open(&mut pair, Opcode::CanInterfaceOpen);
    let now = pair.now;
    for _ in 0..20 {
        let write = Request::new(Target::On(disk), Opcode::UsbBulkTransfer, vec![1; 65536]);
        pair.links[I].request(now, write).unwrap();
    }
    pair.send(I).unwrap();
    pair.links[I]
        .event(can, Opcode::CanFrameSend, vec![9; 16])
        .unwrap();
    let next = pair.send(I).unwrap();
    let first = frame::frames(&next.plaintext, usize::MAX)
        .next()
        .unwrap()
        .unwrap();
    let RawFrame::Whole(first) = first else {
        panic!("{first:?}");
    };
    assert_eq!(first.head.stream, can.0);
}

#[test]
fn class_1_beyond_its_bucket_leaves_room_for_the_others() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let can = open(&mut pair, Opcode::CanInterfaceOpen);
    let now = pair.now;
    pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    let (mut records, mut answered) = (0, false);
    while !answered {
        while pair.links[I].queued(can) < 60_000 {
            pair.links[I]
                .event(can, Opcode::CanFrameSend, vec![9; 1000])
                .unwrap();
        }
        let sealed = pair.send(I).unwrap();
        records += 1;
        assert!(records < 50, "class 1 starves class 3");
        answered = frame::frames(&sealed.plaintext, usize::MAX).any(|frame| {
            matches!(frame, Ok(RawFrame::Whole(frame)) if matches!(frame.head.body, Body::Request { .. }))
        });
        pair.advance(pair.delay);
        pair.deliver(R).unwrap();
        pair.events(R);
        pair.send(R);
        pair.advance(pair.delay);
        pair.deliver(I).unwrap();
    }
}

#[test]
fn records_are_small_while_something_urgent_is_open_and_large_otherwise() {
    let mut pair = Pair::new(Limits::DEFAULT);
    assert_eq!(pair.links[I].record_budget(), 65536);
    assert_eq!(pair.links[I].unsent_limit(), 256 << 10);
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let keys = request(Target::On(stream), Opcode::UsbInterruptTransfer);
    pair.links[I].request(now, keys).unwrap();
    assert_eq!(pair.links[I].record_budget(), 12_500);
    assert_eq!(pair.links[I].unsent_limit(), 25_000);
    pair.settle();
    assert_eq!(pair.links[R].record_budget(), 12_500);
    let (_, corr) = the_request(&mut pair, R);
    answer(&mut pair, R, stream, corr);
    pair.settle();
    for end in [I, R] {
        assert_eq!(pair.links[end].record_budget(), 65536);
    }
}

fn arbitrary(link: &mut Link, bytes: &[u8]) -> Result<(), Violation> {
    let tier = Tier::T4;
    link.handle_record(Mono::from_secs(5), tier, 0, bytes)?;
    let flags = Flags::sealed(tier);
    link.handle_direct(
        Mono::from_secs(5),
        tier,
        0,
        Opcode::DeviceList,
        flags,
        bytes,
    )
}

proptest::proptest! {
    #[test]
    fn no_plaintext_makes_a_link_panic(
        records in proptest::collection::vec(
            proptest::collection::vec(proptest::num::u8::ANY, 0..120),
            1..20,
        ),
        ordered in proptest::bool::ANY,
    ) {
        let mut link = Link::new(Mono::ZERO, LinkConfig {
            ordered,
            selected: Some(Algorithm::Zstd),
            ..config(false, Limits::DEFAULT)
        });
        for bytes in records {
            let _ = arbitrary(&mut link, &bytes);
            while link.poll_event().is_some() {}
            let mut out = Vec::new();
            while link.fill_record(Mono::from_secs(6), 4096, &mut out).is_some() {}
        }
    }

    #[test]
    fn no_sequence_of_well_formed_frames_makes_a_link_panic(
        frames in proptest::collection::vec(
            (0u32..6, 0u8..8, 0u16..40, 0u32..4, 0usize..40),
            1..60,
        ),
        ordered in proptest::bool::ANY,
    ) {
        let mut link = Link::new(Mono::ZERO, LinkConfig {
            ordered,
            ..config(false, Limits::DEFAULT)
        });
        for (stream, kind, op, corr, length) in frames {
            let opcode = Opcode::ALL[usize::from(op) * 3 % Opcode::ALL.len()];
            let status = Status::from_u8(u8::try_from(op).unwrap());
            let body = match kind {
                0 => Body::Data { fin: op % 3 == 0 },
                1 => Body::Request { opcode, corr },
                2 => Body::Response { corr, status, more: op % 2 == 0 },
                3 => Body::Event { opcode },
                4 => Body::Credit { limit: u64::from(op) << 20 },
                5 => Body::Cancel { corr },
                6 => Body::Reset { status },
                _ => Body::Pad,
            };
            let _ = arbitrary(&mut link, &record(stream, body, &vec![0x80; length]));
            while let Some(event) = link.poll_event() {
                if let LinkEvent::Request { stream, corr, .. } = event {
                    let _ = link.respond(stream, corr, status, vec![0x80], op % 4 == 1);
                    let _ = link.data(stream, vec![1; length], false);
                }
            }
            let mut out = Vec::new();
            while link.fill_record(Mono::from_secs(6), 4096, &mut out).is_some() {}
        }
    }
}
