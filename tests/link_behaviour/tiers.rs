//! Minimum tiers: refusal, repetition, records of their own (profile 10.3, 17.1).

use super::*;

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
