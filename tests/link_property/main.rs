//! Two links driven by random operations over a path with random delays, compared with a plain
//! model: each request has one final answer, bytes arrive in order and complete, nobody sends more
//! than was granted.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the model fails by panicking"
)]

mod kinds;
mod ledger;
#[path = "../link_pipe/mod.rs"]
mod link_pipe;
mod outcome;
mod unordered;
mod world;

use link_pipe::{I, R};
use myclerk::wire::limits::Limits;
use proptest::prelude::*;
use world::{Step, World};

fn step() -> impl Strategy<Value = Step> {
    let end = 0..2usize;
    let stream = any::<u8>();
    let size = prop_oneof![4 => 4..200u32, 2 => 200..6000u32, 1 => 6000..60_000u32];
    let small = prop_oneof![4 => 4..300u32, 1 => 300..20_000u32];
    prop_oneof![
        3 => (end.clone(), any::<u8>()).prop_map(|(end, opener)| Step::Open { end, opener }),
        6 => (end.clone(), stream, size.clone(), 0..50_000u32)
            .prop_map(|(end, stream, size, reply)| Step::Ask { end, stream, size, reply }),
        9 => (end.clone(), any::<u8>(), size, any::<u8>(), any::<u8>()).prop_map(
            |(end, which, size, more, fail)| Step::Answer {
                end, which, size, more: more < 40, fail: fail < 20,
            }
        ),
        2 => (end.clone(), any::<u8>()).prop_map(|(end, which)| Step::Cancel { end, which }),
        6 => (end.clone(), stream, small.clone(), any::<u8>()).prop_map(
            |(end, stream, size, fin)| Step::Data { end, stream, size, fin: fin < 10 }
        ),
        4 => (end.clone(), stream, small.clone())
            .prop_map(|(end, stream, size)| Step::Event { end, stream, size }),
        1 => (end.clone(), stream).prop_map(|(end, stream)| Step::Close { end, stream }),
        1 => (end.clone(), stream).prop_map(|(end, stream)| Step::Reset { end, stream }),
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

proptest! {
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
