//! What the events say, and what must be true when everything has come to rest.

use std::collections::BTreeMap;

use crate::kinds::kind_of;
use crate::link_pipe::{I, R};
use crate::world::{Direction, World};
use myclerk::link::{Corr, DataForm, LinkEvent, StreamId, StreamKind};
use myclerk::wire::{
    error::ErrorMap,
    opcode::Opcode,
    status::{Status, sub},
};

impl World {
    pub(crate) fn take_events(&mut self) {
        for end in [I, R] {
            for event in self.pair.events(end) {
                self.take(end, event);
            }
        }
    }

    pub(crate) fn take(&mut self, end: usize, event: LinkEvent) {
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
            } => self.take_response(end, stream, corr, &(status, payload), more),
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

    pub(crate) fn take_response(
        &mut self,
        end: usize,
        stream: StreamId,
        corr: Corr,
        answer: &(Status, Vec<u8>),
        more: bool,
    ) {
        let asked = self.asked[end].get_mut(&corr.0).expect("an own request");
        assert_eq!(asked.finals, 0, "{corr} is answered after its final answer");
        assert_eq!(asked.stream, stream.0);
        asked.finals += u32::from(!more);
        if asked.answers.get(asked.received) == Some(answer) {
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

    pub(crate) fn check_outcome(&self) {
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
    pub(crate) fn check_drops(&self, end: usize, stream: StreamId, alive: bool) {
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

    pub(crate) fn is_open(&self, end: usize, stream: StreamId) -> bool {
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
