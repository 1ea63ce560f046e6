//! Both ends, what was asked of them, and the model that their events are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kinds::{KINDS, kind_of};
use crate::link_pipe::{I, Pair, R, config};
use myclerk::link::{Corr, LinkConfig, LinkError, Request, StreamId, Target};
use myclerk::wire::{limits::Limits, opcode::Opcode, status::Status};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
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

/// What a source gave to a stream in one direction, and what came out.
#[derive(Default)]
pub(crate) struct Direction {
    pub(crate) given: Vec<Vec<u8>>,
    pub(crate) taken: Vec<Vec<u8>>,
    pub(crate) fin_given: bool,
    pub(crate) fin_taken: bool,
    pub(crate) dropped: u32,
}

#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) payload: Vec<u8>,
    pub(crate) stream: u32,
    pub(crate) answers: Vec<(Status, Vec<u8>)>,
    pub(crate) arrived: bool,
    pub(crate) received: usize,
    pub(crate) finals: u32,
}

pub(crate) struct World {
    pub(crate) pair: Pair,
    /// Own requests of each end.
    pub(crate) asked: [BTreeMap<u32, Asked>; 2],
    /// Requests of the peer that an end still has to answer.
    pub(crate) owed: [Vec<(StreamId, Corr)>; 2],
    /// Streams in the order in which they were asked for, with their openers.
    pub(crate) streams: Vec<(StreamId, Opcode)>,
    /// Bytes of DATA towards an end.
    pub(crate) data: [BTreeMap<u32, Direction>; 2],
    pub(crate) events: [BTreeMap<u32, Direction>; 2],
    /// Limits that have reached an end, and what it has sent.
    pub(crate) granted: [BTreeMap<u32, u64>; 2],
    pub(crate) sent: [BTreeMap<u32, u64>; 2],
    /// Fragmented DATA and EVENT: stream and whether the session counts it.
    pub(crate) units: [BTreeMap<u32, Option<(u32, bool)>>; 2],
    pub(crate) reset: BTreeSet<u32>,
    pub(crate) limits: Limits,
    pub(crate) counter: u32,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
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
    pub(crate) fn payload(&mut self, size: u32, reply: u32) -> Vec<u8> {
        self.counter += 1;
        let mut payload = [self.counter.to_be_bytes(), reply.to_be_bytes()].concat();
        let size = usize::try_from(size).unwrap();
        payload.extend((8..size).map(|n| (n % 251).to_le_bytes()[0]));
        payload
    }

    pub(crate) fn pick(&self, stream: u8) -> Option<(StreamId, Opcode)> {
        let count = self.streams.len();
        (count > 0).then(|| self.streams[usize::from(stream) % count])
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Open { end, opener } => self.open(end, opener),
            Step::Ask {
                end,
                stream,
                size,
                reply,
            } => self.ask_something(end, stream, size, reply),
            Step::Answer {
                end,
                which,
                size,
                more,
                fail,
            } => self.answer(end, which, size, more, fail),
            Step::Cancel { end, which } => self.cancel(end, which),
            Step::Data {
                end,
                stream,
                size,
                fin,
            } => self.give_data(end, stream, size, fin),
            Step::Event { end, stream, size } => self.give_event(end, stream, size),
            Step::Close { end, stream } => self.close(end, stream),
            Step::Reset { end, stream } => self.reset(end, stream),
            Step::Consume { end, stream, bytes } => self.consume(end, stream, bytes),
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

    fn open(&mut self, end: usize, opener: u8) {
        let (opener, payload, ..) = KINDS[usize::from(opener) % KINDS.len()];
        let request = Request::new(Target::New, opener, payload.to_vec());
        let Some(stream) = self.ask(end, request) else {
            return;
        };
        self.streams.push((stream, opener));
        for end in [I, R] {
            self.pair.links[end].consume_manually(stream);
        }
    }

    fn ask_something(&mut self, end: usize, stream: u8, size: u32, reply: u32) {
        let (target, opcode) = match self.pick(stream) {
            Some((stream, opener)) => (stream, kind_of(opener).2),
            None => (StreamId::CONTROL, Opcode::DeviceInfo),
        };
        let payload = self.payload(size, reply);
        let request = Request::new(Target::On(target), opcode, payload);
        self.ask(end, request.with_reply_len(reply));
    }

    fn cancel(&mut self, end: usize, which: u8) {
        let mut asked = self.asked[end].iter().cycle().skip(which.into());
        if let Some((corr, asked)) = asked.next() {
            let (corr, stream) = (Corr(*corr), StreamId(asked.stream));
            let _ = self.pair.links[end].cancel(self.pair.now, stream, corr);
        }
    }

    fn close(&mut self, end: usize, stream: u8) {
        if let Some((stream, opener)) = self.pick(stream) {
            let target = Target::On(stream);
            self.ask(end, Request::new(target, kind_of(opener).4, vec![0x80]));
        }
    }

    fn reset(&mut self, end: usize, stream: u8) {
        let now = self.pair.now;
        let Some((stream, _)) = self.pick(stream) else {
            return;
        };
        let done = self.pair.links[end].reset(now, stream, Status::NotFound, None);
        if done.is_ok() {
            self.reset.insert(stream.0);
        }
    }

    fn consume(&mut self, end: usize, stream: u8, bytes: u32) {
        if let Some((stream, _)) = self.pick(stream) {
            let bytes = usize::try_from(bytes).unwrap();
            self.pair.links[end].consume(stream, bytes);
        }
    }

    pub(crate) fn ask(&mut self, end: usize, request: Request) -> Option<StreamId> {
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

    pub(crate) fn answer(&mut self, end: usize, which: u8, size: u32, more: bool, fail: bool) {
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

    pub(crate) fn give_data(&mut self, end: usize, stream: u8, size: u32, fin: bool) {
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

    pub(crate) fn give_event(&mut self, end: usize, stream: u8, size: u32) {
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

    pub(crate) fn pass(&mut self, time: Duration) {
        self.pair.advance(time);
        for end in [I, R] {
            let delivered = self.pair.deliver(end).expect("a well-behaved peer");
            for sealed in &delivered {
                self.note_credit(end, sealed);
            }
        }
    }

    pub(crate) fn send(&mut self, end: usize) -> bool {
        let Some(sealed) = self.pair.send(end) else {
            return false;
        };
        let rec = usize::try_from(self.limits.rec).unwrap();
        assert!(sealed.plaintext.len() <= rec, "a record beyond rec");
        self.check_credit(end, &sealed);
        true
    }

    /// Answers and consumes everything until nothing moves.
    pub(crate) fn finish(&mut self) {
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
}
