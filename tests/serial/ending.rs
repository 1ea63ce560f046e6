//! How the use of a port ends, and what is left of it.

use std::time::Duration;

use myclerk::bus::serial::fake::{Act, Fake};
use myclerk::bus::serial::op::{DataRead, DataWrite, Lines, Mode, Settings};
use myclerk::bus::{End, Inbound};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};

use crate::bench::{Peer, run, until};

fn is_safe(fake: &Fake) {
    assert_eq!(fake.acts().last(), Some(&Act::Release));
    assert_eq!(fake.lines(), Lines::default());
    assert!(!fake.is_open());
}

#[test]
fn a_port_that_is_closed_transmits_what_was_written_first() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        peer.write(b"last words").await;
        let closing = peer.send(Opcode::SerialPortClose, Vec::new());
        until(|| fake.acts().contains(&Act::Drain)).await;
        let refusal = peer.refusal(Opcode::SerialControlGet, Vec::new()).await;
        assert_eq!(refusal, (Status::BadRequest, sub::STREAM_STATE.to_owned()));
        fake.let_go();
        assert!(peer.answer(closing).await.is_ok());
        assert_eq!(peer.serving.await.unwrap(), End::Detached);
        assert_eq!(fake.sent(), b"last words");
        is_safe(&fake);
    });
}

#[test]
fn a_port_that_is_closed_does_not_transmit_for_ever() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        peer.write(b"stuck").await;
        let closing = peer.send(Opcode::SerialPortClose, Vec::new());
        until(|| fake.acts().contains(&Act::Drain)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(peer.answer(closing).await.is_ok());
        tokio::time::resume();
        assert_eq!(peer.serving.await.unwrap(), End::Detached);
        is_safe(&fake);
    });
}

#[test]
fn a_lost_session_leaves_the_port_safe() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        peer.write(b"stuck").await;
        peer.send(
            Opcode::SerialDataWrite,
            DataWrite {
                data: b"more",
                drain: true,
            }
            .encode(),
        );
        until(|| fake.acts().contains(&Act::Drain)).await;
        assert_eq!(peer.cut().await, End::PeerLeft);
        is_safe(&fake);
    });
}

#[test]
fn a_stream_that_the_peer_resets_leaves_the_port_safe() {
    run(async || {
        let fake = Fake::new();
        let peer = Peer::new(&fake).await;
        peer.stream.outlet.reset(Status::Ok);
        assert_eq!(peer.serving.await.unwrap(), End::PeerLeft);
        is_safe(&fake);
    });
}

#[test]
fn a_task_that_is_dropped_leaves_the_port_safe() {
    run(async || {
        let fake = Fake::new();
        let peer = Peer::new(&fake).await;
        peer.serving.abort();
        assert!(peer.serving.await.is_err());
        is_safe(&fake);
    });
}

#[test]
fn an_unplugged_port_answers_everything_and_ends_the_stream() {
    run(async || {
        let fake = Fake::new();
        let settings = Settings {
            push: false,
            ..Settings::default()
        };
        fake.hold();
        let mut peer = Peer::with(&fake, Mode::ReadWrite, settings).await;
        let read = DataRead {
            max: 1,
            timeout_ms: 60_000,
        };
        let write = DataWrite {
            data: b"x",
            drain: true,
        };
        let waiting = [
            peer.send(Opcode::SerialDataWrite, write.encode()),
            peer.send(Opcode::SerialDataWrite, write.encode()),
            peer.send(Opcode::SerialDataRead, read.encode()),
        ];
        until(|| fake.acts().contains(&Act::Drain)).await;
        fake.unplug();
        for corr in waiting {
            let (status, error) = peer.answer(corr).await.expect_err("it is gone");
            assert_eq!(
                (status, error.sub.as_ref()),
                (Status::ServiceUnavailable, sub::DEVICE_GONE)
            );
        }
        assert_eq!(peer.reset().await, Status::ServiceUnavailable);
        assert_eq!(peer.serving.await.unwrap(), End::DeviceGone);
        assert!(!fake.is_open());
    });
}

#[test]
fn that_a_port_is_gone_is_seen_although_nobody_reads_or_writes() {
    for lines in [true, false] {
        run(async || {
            let fake = Fake::new();
            if !lines {
                fake.remove_lines();
            }
            let settings = Settings {
                push: false,
                ..Settings::default()
            };
            let mut peer = Peer::with(&fake, Mode::Read, settings).await;
            fake.unplug();
            assert_eq!(peer.reset().await, Status::ServiceUnavailable);
        });
    }
}

#[test]
fn a_request_that_the_port_went_away_under_is_answered() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        fake.hold_calls();
        let set = peer.send(Opcode::SerialControlSet, b"\x81\xa3dtr\xc2".to_vec());
        until(|| fake.waiting_calls() == 1).await;
        fake.unplug();
        let (status, _) = peer.answer(set).await.expect_err("it is gone");
        assert_eq!(status, Status::ServiceUnavailable);
        assert_eq!(peer.serving.await.unwrap(), End::DeviceGone);
    });
}

#[test]
fn what_a_port_is_given_up_with_does_not_wait_for_the_peer() {
    run(async || {
        let fake = Fake::new();
        let peer = Peer::new(&fake).await;
        fake.hold_calls();
        peer.send(Opcode::SerialControlSet, b"\x81\xa3dtr\xc2".to_vec());
        until(|| fake.waiting_calls() == 1).await;
        peer.inject.send(Inbound::Closed).unwrap();
        tokio::task::yield_now().await;
        fake.let_calls_go();
        assert_eq!(peer.serving.await.unwrap(), End::PeerLeft);
        is_safe(&fake);
    });
}
