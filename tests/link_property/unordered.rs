//! A path that loses, delays and doubles records.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::link_pipe::{I, Pair, R, config};
use myclerk::link::{LinkConfig, LinkEvent, Request, StreamId, Target};
use myclerk::wire::{limits::Limits, opcode::Opcode, status::Status};
use proptest::prelude::*;

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
}
