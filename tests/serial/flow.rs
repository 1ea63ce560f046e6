//! A slow side holds the other one, and nothing is lost.

use myclerk::bus::fake::WINDOW;
use myclerk::bus::serial::fake::{Fake, QUEUE};

use crate::bench::{Peer, pattern, run, until};

#[test]
fn a_slow_port_holds_the_peer() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        let bytes = pattern(3 * WINDOW);
        let mut sent = 0;
        // What the port took is given back as credit, and no more.
        while sent < WINDOW + QUEUE {
            sent += peer.write_all_that_goes(&bytes[sent..]);
            tokio::task::yield_now().await;
        }
        until(|| fake.unsent() == QUEUE).await;
        assert_eq!(peer.write_all_that_goes(&bytes[sent..]), 0);
        assert_eq!(sent, WINDOW + QUEUE);
        fake.let_go();
        peer.write(&bytes[sent..]).await;
        let mut arrived = Vec::new();
        while arrived.len() < bytes.len() {
            arrived.extend(fake.sent());
            tokio::task::yield_now().await;
        }
        assert!(arrived == bytes);
    });
}

#[test]
fn a_slow_peer_holds_the_far_end_of_the_line() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        peer.hoards = true;
        let bytes = pattern(3 * WINDOW);
        let mut taken = 0;
        while taken < WINDOW + QUEUE {
            taken += fake.receive(&bytes[taken..]);
            tokio::task::yield_now().await;
        }
        // The window is full and so is the port: the far end is held by RTS.
        assert_eq!(fake.receive(&bytes[taken..]), 0);
        assert_eq!(taken, WINDOW + QUEUE);
        let mut arrived = peer.bytes(WINDOW).await;
        assert_eq!(fake.unread(), QUEUE);
        peer.stream.outlet.consume(WINDOW);
        peer.hoards = false;
        while arrived.len() < bytes.len() {
            taken += fake.receive(&bytes[taken..]);
            arrived.extend(peer.data().await);
        }
        assert!(arrived == bytes);
    });
}

#[test]
fn a_port_that_is_held_both_ways_still_answers() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        peer.hoards = true;
        let mut sent = 0;
        while sent < WINDOW + QUEUE {
            sent += peer.write_all_that_goes(&pattern(WINDOW));
            fake.receive(&pattern(QUEUE));
            tokio::task::yield_now().await;
        }
        let lines = peer.ask(myclerk::wire::opcode::Opcode::SerialControlGet, Vec::new());
        assert!(lines.await.is_ok());
    });
}
