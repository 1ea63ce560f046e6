//! Two links driven by random operations over a path with random delays, compared with a plain
//! model: each request has one final answer, bytes arrive in order and complete, nobody sends more
//! than was granted.

mod link_pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use link_pipe::{I, Pair, R, Sealed, config};
use myclerk::link::{
    Corr, DataForm, LinkConfig, LinkError, LinkEvent, Request, StreamId, StreamKind, Target,
};
use myclerk::wire::{
    error::ErrorMap,
    frame::{self, Body, RawFrame},
    limits::Limits,
    opcode::Opcode,
    status::{Status, sub},
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Open {
        end: usize,
        opener: u8,
    },
    Ask {
        end: usize,
        stream: u8,
        size: u32,
        reply: u32,
    },
    Answer {
        end: usize,
        which: u8,
        size: u32,
        more: bool,
        fail: bool,
    },
    Cancel {
        end: usize,
        which: u8,
    },
    Data {
        end: usize,
        stream: u8,
        size: u32,
        fin: bool,
    },
    Event {
        end: usize,
        stream: u8,
        size: u32,
    },
    Close {
        end: usize,
        stream: u8,
    },
    Reset {
        end: usize,
        stream: u8,
    },
    Consume {
        end: usize,
        stream: u8,
        bytes: u32,
    },
    Send {
        end: usize,
        records: u8,
    },
    Pass {
        millis: u16,
    },
    Delay {
        millis: u8,
    },
}

/// Openers, an operation of their streams, the event, and the operation that closes them.
const KINDS: [(Opcode, &[u8], Opcode, Opcode, Opcode); 5] = [
    (
        Opcode::UsbDeviceAttach,
        b"\x80",
        Opcode::UsbBulkTransfer,
        Opcode::UsbReset,
        Opcode::UsbDeviceDetach,
    ),
    (
        Opcode::SerialPortOpen,
        b"\x80",
        Opcode::SerialPortConfigure,
        Opcode::SerialControlGet,
        Opcode::SerialPortClose,
    ),
    (
        Opcode::CanInterfaceOpen,
        b"\x80",
        Opcode::CanFilterSet,
        Opcode::CanFrameReceive,
        Opcode::CanInterfaceClose,
    ),
    (
        Opcode::StreamStart,
        b"\x81\xa4type\x01",
        Opcode::StreamQuality,
        Opcode::StreamData,
        Opcode::StreamStop,
    ),
    (
        Opcode::DeviceSubscribe,
        b"\x80",
        Opcode::DeviceInfo,
        Opcode::DeviceSubscribe,
        Opcode::DeviceUnsubscribe,
    ),
];

fn kind_of(opener: Opcode) -> &'static (Opcode, &'static [u8], Opcode, Opcode, Opcode) {
    KINDS.iter().find(|kind| kind.0 == opener).unwrap()
}

/// What a source gave to a stream in one direction, and what came out.
#[derive(Default)]
struct Direction {
    given: Vec<Vec<u8>>,
    taken: Vec<Vec<u8>>,
    fin_given: bool,
    fin_taken: bool,
    dropped: u32,
}

#[derive(Default)]
struct Asked {
    payload: Vec<u8>,
    stream: u32,
    answers: Vec<(Status, Vec<u8>)>,
    arrived: bool,
    received: usize,
    finals: u32,
}

struct World {
    pair: Pair,
    /// Own requests of each end.
    asked: [BTreeMap<u32, Asked>; 2],
    /// Requests of the peer that an end still has to answer.
    owed: [Vec<(StreamId, Corr)>; 2],
    /// Streams in the order in which they were asked for, with their openers.
    streams: Vec<(StreamId, Opcode)>,
    /// Bytes of DATA towards an end.
    data: [BTreeMap<u32, Direction>; 2],
    events: [BTreeMap<u32, Direction>; 2],
    /// Limits that have reached an end, and what it has sent.
    granted: [BTreeMap<u32, u64>; 2],
    sent: [BTreeMap<u32, u64>; 2],
    /// Fragmented DATA and EVENT: stream and whether the session counts it.
    units: [BTreeMap<u32, Option<(u32, bool)>>; 2],
    reset: BTreeSet<u32>,
    limits: Limits,
    counter: u32,
}

impl World {
    fn new(limits: Limits) -> Self {
        let declaring = |initiator| LinkConfig {
            declared_reply: |_, payload| payload.get(4..8)?.try_into().ok().map(u32::from_be_bytes),
            ..config(initiator, limits)
        };
        Self {
            pair: Pair::with(declaring(true), declaring(false)),
            asked: Default::default(),
            owed: Default::default(),
            streams: Vec::new(),
            data: Default::default(),
            events: Default::default(),
            granted: Default::default(),
            sent: Default::default(),
            units: Default::default(),
            reset: BTreeSet::new(),
            limits,
            counter: 0,
        }
    }

    /// Bytes that no other payload has; a request declares the length of its answer in them.
    fn payload(&mut self, size: u32, reply: u32) -> Vec<u8> {
        self.counter += 1;
        let mut payload = [self.counter.to_be_bytes(), reply.to_be_bytes()].concat();
        let size = usize::try_from(size).unwrap();
        payload.extend((8..size).map(|n| (n % 251).to_le_bytes()[0]));
        payload
    }

    fn pick(&self, stream: u8) -> Option<(StreamId, Opcode)> {
        let count = self.streams.len();
        (count > 0).then(|| self.streams[usize::from(stream) % count])
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open { end, opener } => {
                let (opener, payload, ..) = KINDS[usize::from(opener) % KINDS.len()];
                let request = Request::new(Target::New, opener, payload.to_vec());
                if let Some(stream) = self.ask(end, request) {
                    self.streams.push((stream, opener));
                    for end in [I, R] {
                        self.pair.links[end].consume_manually(stream);
                    }
                }
            }
            Step::Ask {
                end,
                stream,
                size,
                reply,
            } => {
                let (target, opcode) = match self.pick(stream) {
                    Some((stream, opener)) => (stream, kind_of(opener).2),
                    None => (StreamId::CONTROL, Opcode::DeviceInfo),
                };
                let payload = self.payload(size, reply);
                let request = Request::new(Target::On(target), opcode, payload);
                self.ask(end, request.with_reply_len(reply));
            }
            Step::Answer {
                end,
                which,
                size,
                more,
                fail,
            } => self.answer(end, which, size, more, fail),
            Step::Cancel { end, which } => {
                let count = self.asked[end].len();
                if count > 0 {
                    let (corr, asked) = self.asked[end]
                        .iter()
                        .nth(usize::from(which) % count)
                        .unwrap();
                    let (corr, stream) = (Corr(*corr), StreamId(asked.stream));
                    let _ = self.pair.links[end].cancel(self.pair.now, stream, corr);
                }
            }
            Step::Data {
                end,
                stream,
                size,
                fin,
            } => self.give_data(end, stream, size, fin),
            Step::Event { end, stream, size } => self.give_event(end, stream, size),
            Step::Close { end, stream } => {
                if let Some((stream, opener)) = self.pick(stream) {
                    let target = Target::On(stream);
                    self.ask(end, Request::new(target, kind_of(opener).4, vec![0x80]));
                }
            }
            Step::Reset { end, stream } => {
                if let Some((stream, _)) = self.pick(stream) {
                    let now = self.pair.now;
                    if self.pair.links[end]
                        .reset(now, stream, Status::NotFound, None)
                        .is_ok()
                    {
                        self.reset.insert(stream.0);
                    }
                }
            }
            Step::Consume { end, stream, bytes } => {
                if let Some((stream, _)) = self.pick(stream) {
                    let bytes = usize::try_from(bytes).unwrap();
                    self.pair.links[end].consume(stream, bytes);
                }
            }
            Step::Send { end, records } => {
                for _ in 0..records {
                    self.send(end);
                }
            }
            Step::Pass { millis } => self.pass(Duration::from_millis(millis.into())),
            Step::Delay { millis } => self.pair.delay = Duration::from_millis(millis.into()),
        }
        self.take_events();
    }

    fn ask(&mut self, end: usize, request: Request) -> Option<StreamId> {
        let payload = request.payload.clone();
        let now = self.pair.now;
        match self.pair.links[end].request(now, request) {
            Ok((stream, corr)) => {
                let asked = Asked {
                    payload,
                    stream: stream.0,
                    ..Asked::default()
                };
                let before = self.asked[end].insert(corr.0, asked);
                assert!(before.is_none(), "{corr} was used before");
                Some(stream)
            }
            Err(
                LinkError::StreamState
                | LinkError::UnknownStream
                | LinkError::StreamLimit
                | LinkError::TooLarge,
            ) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn answer(&mut self, end: usize, which: u8, size: u32, more: bool, fail: bool) {
        let count = self.owed[end].len();
        if count == 0 {
            return;
        }
        let index = usize::from(which) % count;
        let (stream, corr) = self.owed[end][index];
        let payload = self.payload(size, 0);
        let status = if fail { Status::NotFound } else { Status::Ok };
        let result = self.pair.links[end].respond(stream, corr, status, payload.clone(), more);
        let asked = self.asked[1 - end].get_mut(&corr.0).unwrap();
        match result {
            Ok(()) => asked.answers.push((status, payload)),
            // Its stream was reset or closed.
            Err(LinkError::UnknownRequest) => {}
            Err(other) => panic!("{other}"),
        }
        if !more || result.is_err() {
            self.owed[end].remove(index);
        }
    }

    fn give_data(&mut self, end: usize, stream: u8, size: u32, fin: bool) {
        let Some((stream, opener)) = self.pick(stream) else {
            return;
        };
        let payload = self.payload(size, 0);
        match self.pair.links[end].data(stream, payload.clone(), fin) {
            Ok(()) => {
                let direction = self.data[1 - end].entry(stream.0).or_default();
                direction.given.push(payload);
                direction.fin_given |= fin;
            }
            Err(LinkError::StreamState | LinkError::UnknownStream | LinkError::WouldBlock) => {}
            Err(other) => panic!("{other} on {opener}"),
        }
    }

    fn give_event(&mut self, end: usize, stream: u8, size: u32) {
        let Some((stream, opener)) = self.pick(stream) else {
            return;
        };
        let payload = self.payload(size, 0);
        match self.pair.links[end].event(stream, kind_of(opener).3, payload.clone()) {
            Ok(()) => {
                let direction = self.events[1 - end].entry(stream.0).or_default();
                direction.given.push(payload);
            }
            Err(LinkError::StreamState | LinkError::UnknownStream | LinkError::WouldBlock) => {}
            Err(other) => panic!("{other} on {opener}"),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.pair.advance(time);
        for end in [I, R] {
            let delivered = self.pair.deliver(end).expect("a well-behaved peer");
            for sealed in &delivered {
                self.note_credit(end, sealed);
            }
        }
    }

    fn send(&mut self, end: usize) -> bool {
        let Some(sealed) = self.pair.send(end) else {
            return false;
        };
        let rec = usize::try_from(self.limits.rec).unwrap();
        assert!(sealed.plaintext.len() <= rec, "a record beyond rec");
        self.check_credit(end, &sealed);
        true
    }

    /// A CREDIT reached `end`.
    fn note_credit(&mut self, end: usize, sealed: &Sealed) {
        for raw in frame::frames(&sealed.plaintext, usize::MAX) {
            if let RawFrame::Whole(frame) = raw.unwrap() {
                if let Body::Credit { limit } = frame.head.body {
                    let granted = self.granted[end].entry(frame.head.stream).or_default();
                    *granted = limit.max(*granted);
                }
            }
        }
    }

    /// Counts every DATA and EVENT byte that leaves `end` against what it knows to be allowed.
    fn check_credit(&mut self, end: usize, sealed: &Sealed) {
        for raw in frame::frames(&sealed.plaintext, usize::MAX) {
            let (counted, bytes) = match raw.unwrap() {
                RawFrame::Whole(frame) => (
                    self.counted(&frame.head.body, frame.head.stream),
                    frame.payload.len(),
                ),
                RawFrame::Fragment {
                    flags,
                    header,
                    piece,
                } => {
                    if header.index == 0 {
                        let whole = myclerk::wire::flags::Flags {
                            fragment: false,
                            ..flags
                        };
                        let first =
                            frame::parse_unit(whole, piece).expect("the head is in piece 0");
                        let counted = self.counted(&first.head.body, first.head.stream);
                        self.units[end].insert(header.message_id, counted);
                        (counted, first.payload.len())
                    } else {
                        (self.units[end][&header.message_id], piece.len())
                    }
                }
            };
            let Some((stream, session)) = counted else {
                continue;
            };
            let bytes = u64::try_from(bytes).unwrap();
            // What follows of a unit begun before its stream was reset is nobody's stream.
            if !self.reset.contains(&stream) {
                self.spend(end, stream, bytes);
            }
            if session {
                self.spend(end, 0, bytes);
            }
        }
    }

    fn counted(&self, body: &Body, stream: u32) -> Option<(u32, bool)> {
        let opener = self.streams.iter().find(|(id, _)| id.0 == stream)?.1;
        let kind = StreamKind::of(opener, kind_of(opener).1);
        let class = match body {
            Body::Data { .. } => kind.class,
            Body::Event { opcode } => myclerk::link::Class::of_event(*opcode, kind.class),
            _ => return None,
        };
        Some((stream, class.uses_session_credit()))
    }

    fn spend(&mut self, end: usize, stream: u32, bytes: u64) {
        let initial = match stream {
            0 => self.limits.scr,
            _ => self.limits.cr,
        };
        let granted = self.granted[end].get(&stream).copied().unwrap_or_default();
        let sent = self.sent[end].entry(stream).or_default();
        *sent += bytes;
        let limit = granted.max(initial.into());
        assert!(
            *sent <= limit,
            "{sent} bytes on stream {stream}, {limit} granted"
        );
    }

    fn take_events(&mut self) {
        for end in [I, R] {
            for event in self.pair.events(end) {
                self.take(end, event);
            }
        }
    }

    fn take(&mut self, end: usize, event: LinkEvent) {
        match event {
            LinkEvent::Request {
                stream,
                corr,
                payload,
                ..
            } => {
                self.pair.links[end].consume_manually(stream);
                let asked = self.asked[1 - end]
                    .get_mut(&corr.0)
                    .expect("a request of the peer");
                assert!(
                    !core::mem::replace(&mut asked.arrived, true),
                    "{corr} arrived twice"
                );
                assert_eq!((&asked.payload, asked.stream), (&payload, stream.0));
                self.owed[end].push((stream, corr));
            }
            LinkEvent::Cancel { stream, corr } => {
                let asked = &self.asked[1 - end][&corr.0];
                assert!(asked.arrived && asked.stream == stream.0);
            }
            LinkEvent::Response {
                stream,
                corr,
                status,
                payload,
                more,
            } => self.take_response(end, stream, corr, (status, payload), more),
            LinkEvent::Data {
                stream,
                payload,
                fin,
            } => {
                let direction = self.data[end]
                    .get_mut(&stream.0)
                    .expect("DATA from nowhere");
                assert!(!direction.fin_taken, "DATA after FIN");
                direction.fin_taken = fin;
                direction.taken.push(payload);
            }
            LinkEvent::Event {
                stream, payload, ..
            } => {
                let direction = self.events[end]
                    .get_mut(&stream.0)
                    .expect("an EVENT from nowhere");
                direction.taken.push(payload);
            }
            LinkEvent::Reset { stream, .. } => {
                self.reset.insert(stream.0);
            }
            LinkEvent::Dropped { stream, count } => {
                // Which of both sources lost them is not told; the model only needs the sum.
                let direction = self.events[1 - end].entry(stream.0).or_default();
                direction.dropped += count;
            }
            LinkEvent::Writable { .. } => {}
            LinkEvent::Missing { .. } => panic!("an ordered path loses nothing"),
        }
    }

    fn take_response(
        &mut self,
        end: usize,
        stream: StreamId,
        corr: Corr,
        answer: (Status, Vec<u8>),
        more: bool,
    ) {
        let asked = self.asked[end].get_mut(&corr.0).expect("an own request");
        assert_eq!(asked.finals, 0, "{corr} is answered after its final answer");
        assert_eq!(asked.stream, stream.0);
        asked.finals += u32::from(!more);
        if asked.answers.get(asked.received) == Some(&answer) {
            asked.received += 1;
            return;
        }
        let error = ErrorMap::decode(&answer.1).unwrap_or_default();
        assert!(
            !more && !answer.0.is_success(),
            "{corr}: {answer:?} was never given"
        );
        let by_the_link = [sub::CANCELLED, sub::TIMEOUT, sub::STREAM_STATE, ""];
        assert!(by_the_link.contains(&&*error.sub), "{corr}: {error:?}");
    }

    /// Answers and consumes everything until nothing moves.
    fn finish(&mut self) {
        for round in 0..10_000 {
            for end in [I, R] {
                while !self.owed[end].is_empty() {
                    self.answer(end, 0, 10, false, false);
                }
                for (stream, _) in self.streams.clone() {
                    self.pair.links[end].consume(stream, usize::MAX);
                }
            }
            let moved = [I, R].map(|end| (0..20).take_while(|_| self.send(end)).count());
            let waiting = self.pair.towards.iter().any(|towards| !towards.is_empty());
            let owed = self.owed.iter().any(|owed| !owed.is_empty());
            if moved == [0, 0] && !waiting && !owed {
                return;
            }
            assert!(round < 9_999, "the links never come to rest");
            self.pass(self.pair.delay + Duration::from_millis(1));
            self.take_events();
        }
    }

    fn check_outcome(&self) {
        for (end, asked) in self.asked.iter().enumerate() {
            for (corr, asked) in asked {
                assert_eq!(
                    asked.finals, 1,
                    "request {corr} of end {end}: {:#?}",
                    self.pair.links[end]
                );
            }
        }
        for end in [I, R] {
            for (stream, opener) in &self.streams {
                let alive = [I, R].iter().all(|end| self.is_open(*end, *stream));
                let kind = StreamKind::of(*opener, kind_of(*opener).1);
                if let Some(direction) = self.data[end].get(&stream.0) {
                    check_data(direction, kind.data, alive);
                }
                if let Some(direction) = self.events[end].get(&stream.0) {
                    check_subsequence(&direction.taken, &direction.given);
                }
                self.check_drops(end, *stream, alive);
            }
        }
    }

    /// Every unit of a stream that lives was taken or is reported as dropped.
    fn check_drops(&self, end: usize, stream: StreamId, alive: bool) {
        let count = |directions: &[BTreeMap<u32, Direction>; 2]| {
            let direction = directions[end].get(&stream.0);
            direction.map_or((0, 0, 0), |direction| {
                (
                    direction.given.len(),
                    direction.taken.len(),
                    direction.dropped,
                )
            })
        };
        let opener = self.streams.iter().find(|(id, _)| *id == stream).unwrap().1;
        if !alive || opener == Opcode::SerialPortOpen {
            return;
        }
        let (events_given, events_taken, dropped) = count(&self.events);
        let (data_given, data_taken, _) = count(&self.data);
        let lost = events_given + data_given - events_taken - data_taken;
        assert_eq!(lost, usize::try_from(dropped).unwrap(), "{stream}");
    }

    fn is_open(&self, end: usize, stream: StreamId) -> bool {
        !self.reset.contains(&stream.0) && self.pair.links[end].is_open(stream)
    }
}

fn check_data(direction: &Direction, form: DataForm, alive: bool) {
    match form {
        DataForm::Bytes => {
            let (given, taken) = (direction.given.concat(), direction.taken.concat());
            assert!(given.starts_with(&taken), "bytes out of order");
            assert!(
                !alive || given == taken,
                "{} of {} bytes",
                taken.len(),
                given.len()
            );
            assert!(
                !direction.fin_taken || given == taken,
                "FIN before the last byte"
            );
        }
        DataForm::Units => check_subsequence(&direction.taken, &direction.given),
    }
    assert!(!alive || direction.fin_given == direction.fin_taken);
}

fn check_subsequence(taken: &[Vec<u8>], given: &[Vec<u8>]) {
    let mut rest = given.iter();
    for unit in taken {
        assert!(rest.any(|given| given == unit), "a unit out of order");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let end = 0..2usize;
    let stream = any::<u8>();
    let size = prop_oneof![4 => 4..200u32, 2 => 200..6000u32, 1 => 6000..60_000u32];
    let small = prop_oneof![4 => 4..300u32, 1 => 300..20_000u32];
    prop_oneof![
        3 => (end.clone(), any::<u8>()).prop_map(|(end, opener)| Step::Open { end, opener }),
        6 => (end.clone(), stream.clone(), size.clone(), 0..50_000u32)
            .prop_map(|(end, stream, size, reply)| Step::Ask { end, stream, size, reply }),
        9 => (end.clone(), any::<u8>(), size, any::<u8>(), any::<u8>()).prop_map(
            |(end, which, size, more, fail)| Step::Answer {
                end, which, size, more: more < 40, fail: fail < 20,
            }
        ),
        2 => (end.clone(), any::<u8>()).prop_map(|(end, which)| Step::Cancel { end, which }),
        6 => (end.clone(), stream.clone(), small.clone(), any::<u8>()).prop_map(
            |(end, stream, size, fin)| Step::Data { end, stream, size, fin: fin < 10 }
        ),
        4 => (end.clone(), stream.clone(), small.clone())
            .prop_map(|(end, stream, size)| Step::Event { end, stream, size }),
        1 => (end.clone(), stream.clone()).prop_map(|(end, stream)| Step::Close { end, stream }),
        1 => (end.clone(), stream.clone()).prop_map(|(end, stream)| Step::Reset { end, stream }),
        4 => (end.clone(), stream, small)
            .prop_map(|(end, stream, bytes)| Step::Consume { end, stream, bytes }),
        12 => (end, 1..6u8).prop_map(|(end, records)| Step::Send { end, records }),
        9 => (0..40u16).prop_map(|millis| Step::Pass { millis }),
        1 => (5_000..40_000u16).prop_map(|millis| Step::Pass { millis }),
        1 => (0..60u8).prop_map(|millis| Step::Delay { millis }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        prop_oneof![Just(4096u32), Just(5000), Just(65536)],
        1..12u32,
        prop_oneof![Just(0u32), Just(700), Just(20_000), Just(262_144)],
        prop_oneof![Just(0u32), Just(10_000), Just(4 << 20)],
        1..8u32,
    )
        .prop_map(|(rec, req, cr, scr, str)| {
            Limits {
                rec,
                req,
                cr,
                scr,
                str,
                rqb: 256 << 10,
                msg: 128 << 10,
            }
            .clamped()
        })
}

/// What becomes of a record on a path that keeps no promise.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Late(u16),
    Twice(u16),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Lost),
        5 => (0..4000u16).prop_map(Fate::Late),
        2 => (0..4000u16).prop_map(Fate::Twice),
    ]
}

/// Sends what is ready, each record to its fate.
fn scatter(pair: &mut Pair, end: usize, fates: &mut impl Iterator<Item = Fate>) {
    while pair.send(end).is_some() {
        let path = &mut pair.towards[1 - end];
        let Some(mut sealed) = path.pop_back() else {
            return;
        };
        let copies = match fates.next() {
            None => vec![0],
            Some(Fate::Lost) => vec![],
            Some(Fate::Late(millis)) => vec![millis],
            Some(Fate::Twice(millis)) => vec![0, millis],
        };
        for millis in copies {
            sealed.arrives = pair.now.after(Duration::from_millis(millis.into()));
            path.push_back(sealed.clone());
        }
        path.make_contiguous().sort_by_key(|sealed| sealed.arrives);
    }
}

proptest! {
    #[test]
    fn an_unordered_path_executes_each_request_at_most_once_and_answers_it_once(
        fates in proptest::collection::vec(fate(), 0..200),
        pauses in proptest::collection::vec(0..3000u64, 1..20),
    ) {
        let unordered = |initiator| LinkConfig {
            ordered: false,
            ..config(initiator, Limits::DEFAULT)
        };
        let mut pair = Pair::with(unordered(true), unordered(false));
        let mut fates = fates.into_iter();
        let (mut executed, mut answered) = (BTreeMap::new(), BTreeMap::new());
        let count = pauses.len();
        for pause in pauses.into_iter().chain(vec![500; 100]) {
            if answered.len() < count {
                let now = pair.now;
                let size = if pause % 3 == 0 { 100_000 } else { 10 };
                let target = Target::On(StreamId::CONTROL);
                let request = Request::new(target, Opcode::DeviceInfo, vec![1; size]);
                let (_, corr) = pair.links[I].request(now, request).unwrap();
                answered.entry(corr).or_insert(0);
            }
            scatter(&mut pair, I, &mut fates);
            pair.advance(Duration::from_millis(pause));
            pair.deliver(R).unwrap();
            for event in pair.events(R) {
                if let LinkEvent::Request { stream, corr, payload, .. } = event {
                    *executed.entry(corr).or_insert(0) += 1;
                    let _ = pair.links[R].respond(stream, corr, Status::Ok, payload, false);
                }
            }
            scatter(&mut pair, R, &mut fates);
            pair.deliver(I).unwrap();
            for event in pair.events(I) {
                if let LinkEvent::Response { corr, more: false, .. } = event {
                    *answered.get_mut(&corr).unwrap() += 1;
                }
            }
        }
        prop_assert!(executed.values().all(|times| *times == 1), "{executed:?}");
        prop_assert!(answered.values().all(|times| *times == 1), "{answered:?}");
    }

    #[test]
    fn two_links_keep_every_promise(
        limits in limits(),
        steps in proptest::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(limits);
        for step in steps {
            world.step(step);
        }
        world.finish();
        world.check_outcome();
    }

    #[test]
    fn a_cut_path_leaves_no_request_without_its_answer(
        limits in limits(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(limits);
        for step in steps {
            world.step(step);
        }
        for end in [I, R] {
            let now = world.pair.now;
            world.pair.links[end].abort(now);
        }
        world.take_events();
        for asked in &world.asked {
            prop_assert!(asked.values().all(|asked| asked.finals == 1));
        }
    }
}
