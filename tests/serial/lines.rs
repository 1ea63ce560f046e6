//! Modem lines, errors, breaks.

use myclerk::bus::fake::WINDOW;
use myclerk::bus::serial::fake::{Act, Fake, QUEUE};
use myclerk::bus::serial::op::{Break, ControlSet, Edges, Errors, Lines};
use myclerk::bus::{Inbound, MAX_AGE_SECS};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;

use crate::bench::{Peer, pattern, run, until};

fn set(dtr: Option<bool>, rts: Option<bool>) -> Vec<u8> {
    ControlSet {
        dtr,
        rts,
        seq: Vec::new(),
    }
    .encode()
    .unwrap()
}

fn ringing() -> Lines {
    Lines {
        ri: true,
        dcd: true,
        ..Lines::default()
    }
}

#[test]
fn both_outputs_change_in_one_call() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        let answer = peer.ask(Opcode::SerialControlSet, set(Some(false), Some(true)));
        let lines = Lines::decode(&answer.await.unwrap()).unwrap();
        assert_eq!((lines.dtr, lines.rts), (false, true));
        assert_eq!(
            fake.acts().last(),
            Some(&Act::Lines(Some(false), Some(true)))
        );
        let answer = peer.ask(Opcode::SerialControlSet, set(None, Some(false)));
        let lines = Lines::decode(&answer.await.unwrap()).unwrap();
        assert_eq!((lines.dtr, lines.rts), (false, false));
    });
}

#[test]
fn the_lines_are_told_when_asked_for() {
    run(async || {
        let fake = Fake::new();
        fake.set_inputs(ringing());
        let mut peer = Peer::new(&fake).await;
        let answer = peer.ask(Opcode::SerialControlGet, Vec::new()).await;
        let expected = Lines {
            dtr: true,
            rts: true,
            ..ringing()
        };
        assert_eq!(Lines::decode(&answer.unwrap()), Ok(expected));
    });
}

#[test]
fn a_change_of_an_input_is_told() {
    for waits in [true, false] {
        run(async || {
            let fake = Fake::new();
            if !waits {
                fake.forget_to_wait();
            }
            let mut peer = Peer::new(&fake).await;
            fake.set_inputs(ringing());
            let event = peer.event().await;
            assert!(event.lines.ri && event.lines.dcd && !event.lines.cts);
            assert_eq!(event.change.edges.unwrap().dcd, 1);
            assert_eq!(event.change.lost, 0);
            fake.set_inputs(Lines::default());
            let later = peer.event().await;
            assert!(!later.lines.ri && later.change.us >= event.change.us);
            let edges = Edges {
                ri: 1,
                dcd: 2,
                ..Edges::default()
            };
            assert_eq!(later.change.edges, Some(edges));
        });
    }
}

#[test]
fn a_change_that_was_over_before_anybody_looked_is_counted() {
    run(async || {
        let fake = Fake::new();
        fake.forget_to_wait();
        let mut peer = Peer::new(&fake).await;
        let blink = Lines {
            cts: true,
            ..Lines::default()
        };
        fake.set_inputs(blink);
        fake.set_inputs(Lines::default());
        let event = peer.event().await;
        assert!(!event.lines.cts);
        assert_eq!(event.change.edges.unwrap().cts, 2);
    });
}

#[test]
fn errors_on_the_line_are_told() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        let errors = Errors {
            parity: 1,
            framing: 2,
            overrun: 3,
            brk: 4,
        };
        fake.count(errors);
        assert_eq!(peer.event().await.change.err, Some(errors));
    });
}

#[test]
fn an_event_says_how_many_before_it_were_not_sent() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        peer.hoards = true;
        let mut taken = 0;
        while taken < WINDOW {
            taken += fake.receive(&pattern(QUEUE));
            until(|| fake.unread() == 0 || taken > WINDOW).await;
        }
        assert_eq!(peer.bytes(WINDOW).await.len(), WINDOW);
        fake.set_inputs(ringing());
        let seen = fake.clone();
        // The event was dropped when another look at the lines has passed.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        peer.stream.outlet.consume(WINDOW);
        seen.set_inputs(Lines::default());
        let event = peer.event().await;
        assert_eq!(event.change.lost, 1);
        assert!(!event.lines.ri);
    });
}

#[test]
fn a_port_without_lines_says_so_and_carries_data() {
    run(async || {
        let fake = Fake::new();
        fake.remove_lines();
        fake.loop_back();
        let mut peer = Peer::new(&fake).await;
        let unsupported = (Status::BadRequest, sub::UNSUPPORTED.to_owned());
        for (opcode, payload) in [
            (Opcode::SerialControlGet, Vec::new()),
            (Opcode::SerialControlSet, set(Some(true), None)),
        ] {
            assert_eq!(peer.refusal(opcode, payload).await, unsupported);
        }
        peer.write(b"data").await;
        assert_eq!(peer.bytes(4).await, b"data");
    });
}

#[test]
fn a_break_is_answered_when_it_is_over() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        let request = Break { ms: 1 }.encode().unwrap();
        assert!(peer.ask(Opcode::SerialBreak, request).await.is_ok());
        let acts = fake.acts();
        assert_eq!(acts[2..], [Act::Break(true), Act::Break(false)]);
        let longer = b"\x81\xa2ms\xcd\x27\x11".to_vec();
        let refusal = peer.refusal(Opcode::SerialBreak, longer).await;
        assert_eq!(refusal, (Status::BadRequest, sub::BAD_PAYLOAD.to_owned()));
    });
}

#[test]
fn what_moves_lines_is_not_done_late() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        let before = fake.acts();
        for (corr, opcode, payload) in [
            (1000, Opcode::SerialControlSet, set(Some(false), None)),
            (1001, Opcode::SerialBreak, Break { ms: 1 }.encode().unwrap()),
        ] {
            let request = |age_secs| Inbound::Request {
                corr: corr + age_secs,
                opcode,
                payload: payload.clone(),
                age_secs,
            };
            peer.inject.send(request(MAX_AGE_SECS + 1)).unwrap();
            let late = peer.answer(corr + MAX_AGE_SECS + 1).await;
            let (status, error) = late.expect_err("it is too old");
            assert_eq!(
                (status, error.sub.as_ref()),
                (Status::Forbidden, sub::TOO_OLD)
            );
            assert_eq!(fake.acts(), before);
        }
        let request = Inbound::Request {
            corr: 2000,
            opcode: Opcode::SerialControlSet,
            payload: set(Some(false), None),
            age_secs: MAX_AGE_SECS,
        };
        peer.inject.send(request).unwrap();
        assert!(peer.answer(2000).await.is_ok());
    });
}

#[test]
fn what_the_driver_says_to_a_request_is_told() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        fake.fail_next(Act::Lines(Some(true), None), Errno::EIO);
        let request = set(Some(true), None);
        let (status, error) = peer
            .ask(Opcode::SerialControlSet, request.clone())
            .await
            .expect_err("it failed");
        assert_eq!(
            (status, error.sub.as_ref()),
            (Status::InternalError, sub::DEVICE_IO)
        );
        assert!(peer.ask(Opcode::SerialControlSet, request).await.is_ok());
    });
}
