//! What a link does in each situation of profile 9–13 and 18 that is the link's own.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod arbitrary;
mod credit;
mod latency;
mod limits;
#[path = "../link_pipe/mod.rs"]
mod link_pipe;
mod requests;
mod streams;
mod tiers;
mod units;
mod unordered;

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

pub(crate) fn request(target: Target, opcode: Opcode) -> Request {
    Request::new(target, opcode, vec![0x80])
}

pub(crate) fn control(opcode: Opcode) -> Request {
    request(Target::On(StreamId::CONTROL), opcode)
}

/// Opens a stream from I to R and answers with success.
pub(crate) fn open(pair: &mut Pair, opener: Opcode) -> StreamId {
    open_with(pair, opener, vec![0x80])
}

pub(crate) fn open_with(pair: &mut Pair, opener: Opcode, payload: Vec<u8>) -> StreamId {
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

pub(crate) fn answer(pair: &mut Pair, end: usize, stream: StreamId, corr: Corr) {
    pair.links[end]
        .respond(stream, corr, Status::Ok, vec![0x80], false)
        .unwrap();
}

pub(crate) fn the_request(pair: &mut Pair, end: usize) -> (StreamId, Corr) {
    let events = pair.events(end);
    match &events[..] {
        [LinkEvent::Request { stream, corr, .. }] => (*stream, *corr),
        other => panic!("{other:?} is not one request"),
    }
}

pub(crate) fn the_response(pair: &mut Pair, end: usize) -> (Status, ErrorMap) {
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
pub(crate) fn record(stream: u32, body: Body, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHead::new(stream, body).emit(payload, &mut out);
    out
}

pub(crate) fn raw_request(stream: u32, corr: u32, opcode: Opcode) -> Vec<u8> {
    record(stream, Body::Request { opcode, corr }, &[0x80])
}

/// All whole frames that an end has to say now, with the tiers of their records.
pub(crate) fn said(pair: &mut Pair, end: usize) -> Vec<(Tier, FrameHead, Vec<u8>)> {
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

pub(crate) fn sub_of(payload: &[u8]) -> String {
    ErrorMap::decode(payload).unwrap().sub.into_owned()
}

pub(crate) fn small(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::DEFAULT;
    change(&mut limits);
    limits
}
