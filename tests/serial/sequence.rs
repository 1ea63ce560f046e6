//! Steps that run next to the hardware.

use std::time::{Duration, Instant};

use myclerk::bus::End;
use myclerk::bus::serial::fake::{Act, Fake};
use myclerk::bus::serial::op::{ControlSet, Lines, Step};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;

use crate::bench::{Peer, run, until};

fn step(dtr: Option<bool>, rts: Option<bool>, delay_us: u32) -> Step {
    Step {
        dtr,
        rts,
        brk: None,
        delay_us,
    }
}

fn sequence(seq: Vec<Step>) -> Vec<u8> {
    let request = ControlSet {
        seq,
        ..ControlSet::default()
    };
    request.encode().unwrap()
}

#[test]
fn the_steps_run_in_order_and_are_answered_at_the_end() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        let request = ControlSet {
            dtr: Some(false),
            rts: Some(true),
            seq: vec![
                step(None, None, 2000),
                step(Some(true), Some(false), 1000),
                step(Some(false), None, 0),
                Step {
                    brk: Some(true),
                    ..Step::default()
                },
                Step {
                    brk: Some(false),
                    ..Step::default()
                },
            ],
        };
        let began = Instant::now();
        let answer = peer
            .ask(Opcode::SerialControlSet, request.encode().unwrap())
            .await
            .unwrap();
        assert!(began.elapsed() >= Duration::from_millis(3));
        let expected = Lines::default();
        assert_eq!(Lines::decode(&answer), Ok(expected));
        assert_eq!(
            fake.acts()[2..],
            [
                Act::Lines(Some(false), Some(true)),
                Act::Lines(Some(true), Some(false)),
                Act::Lines(Some(false), None),
                Act::Break(true),
                Act::Break(false),
            ]
        );
    });
}

#[test]
fn data_goes_on_while_a_sequence_runs() {
    run(async || {
        let fake = Fake::new();
        fake.loop_back();
        let mut peer = Peer::new(&fake).await;
        let long = sequence(vec![step(Some(false), None, 5_000_000)]);
        let running = peer.send(Opcode::SerialControlSet, long);
        until(|| fake.acts().contains(&Act::Lines(Some(false), None))).await;
        peer.write(b"meanwhile").await;
        assert_eq!(peer.bytes(9).await, b"meanwhile");
        // What runs is not stopped half-way, what waits is given up.
        let waits = peer.send(Opcode::SerialControlGet, Vec::new());
        peer.stream.outlet.cancel(running);
        peer.stream.outlet.cancel(waits);
        let (status, _) = peer.answer(waits).await.expect_err("it was given up");
        assert_eq!(status, Status::Timeout);
        assert_eq!(peer.cut().await, End::PeerLeft);
    });
}

#[test]
fn a_sequence_ends_with_the_session() {
    run(async || {
        let fake = Fake::new();
        let peer = Peer::new(&fake).await;
        let request = sequence(vec![
            Step {
                brk: Some(true),
                delay_us: 5_000_000,
                ..Step::default()
            },
            step(Some(true), Some(true), 0),
        ]);
        peer.send(Opcode::SerialControlSet, request);
        until(|| fake.acts().contains(&Act::Break(true))).await;
        assert_eq!(peer.cut().await, End::PeerLeft);
        let acts = fake.acts();
        assert_eq!(acts.last(), Some(&Act::Release));
        assert!(!acts.contains(&Act::Lines(Some(true), Some(true))));
        assert_eq!(fake.lines(), Lines::default());
    });
}

#[test]
fn a_break_alone_needs_no_lines() {
    run(async || {
        let fake = Fake::new();
        fake.remove_lines();
        let mut peer = Peer::new(&fake).await;
        let request = sequence(vec![Step {
            brk: Some(true),
            ..Step::default()
        }]);
        let answer = peer.ask(Opcode::SerialControlSet, request).await.unwrap();
        assert_eq!(Lines::decode(&answer), Ok(Lines::default()));
    });
}

#[test]
fn a_sequence_stops_at_the_step_that_fails() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        fake.fail_next(Act::Lines(None, Some(true)), Errno::EIO);
        let request = sequence(vec![
            step(Some(true), None, 0),
            step(None, Some(true), 0),
            step(Some(false), None, 0),
        ]);
        let refusal = peer.refusal(Opcode::SerialControlSet, request).await;
        assert_eq!(refusal, (Status::InternalError, sub::DEVICE_IO.to_owned()));
        assert_eq!(fake.acts()[2..], [Act::Lines(Some(true), None)]);
    });
}

#[test]
fn a_sequence_beyond_its_bounds_moves_nothing() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        for seq in [
            vec![step(Some(true), None, 0); 33],
            vec![step(Some(true), None, 5_000_001)],
            vec![step(Some(true), None, 5_000_000); 3],
        ] {
            let refusal = peer.refusal(Opcode::SerialControlSet, sequence(seq)).await;
            assert_eq!(refusal, (Status::BadRequest, sub::BAD_PAYLOAD.to_owned()));
        }
        assert_eq!(fake.acts().len(), 2);
    });
}
