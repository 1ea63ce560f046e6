//! Bytes both ways, pushed and asked for.

use std::time::Duration;

use myclerk::bus::serial::fake::{Act, Fake};
use myclerk::bus::serial::op::{
    Change, DataRead, DataWrite, Flush, Mode, Settings, Written, decode_read,
};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;

use crate::bench::{Peer, pattern, run, until};

fn write(data: &[u8], drain: bool) -> Vec<u8> {
    DataWrite { data, drain }.encode()
}

fn read(max: u32, timeout_ms: u32) -> Vec<u8> {
    DataRead { max, timeout_ms }.encode()
}

fn pulled() -> Settings {
    Settings {
        push: false,
        ..Settings::default()
    }
}

fn change(flush: Option<Flush>, push: Option<bool>) -> Vec<u8> {
    Change {
        flush,
        push,
        ..Change::default()
    }
    .encode()
    .unwrap()
}

#[test]
fn bytes_go_out_and_come_back() {
    run(async || {
        let fake = Fake::new();
        fake.loop_back();
        let mut peer = Peer::new(&fake).await;
        let bytes = pattern(1000);
        peer.write(&bytes).await;
        assert_eq!(peer.bytes(1000).await, bytes);
    });
}

#[test]
fn what_is_received_is_gathered_for_a_while_if_the_peer_wants_that() {
    run(async || {
        let fake = Fake::new();
        let settings = Settings {
            gap_us: 1_000_000,
            ..Settings::default()
        };
        let mut peer = Peer::with(&fake, Mode::Read, settings).await;
        for part in pattern(4096).chunks(1024) {
            fake.receive(part);
            until(|| fake.unread() == 0).await;
        }
        // As much as one frame takes goes at once, and it was four parts.
        assert_eq!(peer.data().await, pattern(4096));
        fake.receive(b"rest");
        assert_eq!(peer.data().await, b"rest");
    });
}

#[test]
fn a_request_writes_behind_what_was_sent_before() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        peer.write(b"first ").await;
        let answer = peer.ask(Opcode::SerialDataWrite, write(b"second", false));
        let written = Written::decode(&answer.await.unwrap()).unwrap();
        assert_eq!(written.count, 6);
        assert_eq!(fake.sent(), b"first second");
    });
}

#[test]
fn a_request_that_drains_is_answered_when_the_last_byte_is_out() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        let taken = peer
            .ask(Opcode::SerialDataWrite, write(b"one", false))
            .await;
        assert!(taken.is_ok());
        let drained = peer.send(Opcode::SerialDataWrite, write(b"two", true));
        peer.write(b"three").await;
        until(|| fake.acts().contains(&Act::Drain)).await;
        // What comes later would have to go out too, so it waits.
        assert_eq!(fake.unsent(), 6);
        fake.take(6);
        let written = peer.answer(drained).await.unwrap();
        assert_eq!(Written::decode(&written).unwrap().count, 3);
        assert_eq!(fake.sent(), b"onetwo");
        until(|| fake.unsent() == 5).await;
    });
}

#[test]
fn nobody_has_to_wait_for_a_port_that_does_not_transmit() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        let drained = peer.send(Opcode::SerialDataWrite, write(b"two", true));
        until(|| fake.acts().contains(&Act::Drain)).await;
        peer.stream.outlet.cancel(drained);
        let (status, error) = peer.answer(drained).await.expect_err("it was given up");
        assert_eq!(
            (status, error.sub.as_ref()),
            (Status::Timeout, sub::CANCELLED)
        );
        fake.let_go();
        let next = peer.ask(Opcode::SerialDataWrite, write(b"three", true));
        assert!(next.await.is_ok());
        assert_eq!(fake.sent(), b"twothree");
    });
}

#[test]
fn an_empty_request_that_drains_waits_for_the_data_before_it() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        peer.write(&pattern(9000)).await;
        let answer = peer.ask(Opcode::SerialDataWrite, write(b"", true)).await;
        assert_eq!(Written::decode(&answer.unwrap()).unwrap().count, 0);
        assert_eq!(fake.sent(), pattern(9000));
    });
}

#[test]
fn a_drain_that_fails_is_told() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        fake.fail_next(Act::Drain, Errno::EIO);
        let refusal = peer.refusal(Opcode::SerialDataWrite, write(b"x", true));
        let expected = (Status::InternalError, sub::DEVICE_IO.to_owned());
        assert_eq!(refusal.await, expected);
        assert!(
            peer.ask(Opcode::SerialDataWrite, write(b"x", true))
                .await
                .is_ok()
        );
    });
}

#[test]
fn a_write_is_given_up_before_it_began_and_not_after() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        let begun = peer.send(Opcode::SerialDataWrite, write(&pattern(6000), false));
        let waits = peer.send(Opcode::SerialDataWrite, write(b"never", false));
        until(|| fake.unsent() == 4096).await;
        peer.stream.outlet.cancel(begun);
        peer.stream.outlet.cancel(waits);
        let (status, error) = peer.answer(waits).await.expect_err("it was given up");
        assert_eq!(
            (status, error.sub.as_ref()),
            (Status::Timeout, sub::CANCELLED)
        );
        fake.let_go();
        assert!(peer.answer(begun).await.is_ok());
        assert_eq!(fake.sent(), pattern(6000));
    });
}

#[test]
fn a_port_that_does_not_push_is_asked() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::with(&fake, Mode::Read, pulled()).await;
        fake.receive(b"abcdef");
        let some = peer.ask(Opcode::SerialDataRead, read(4, 0)).await.unwrap();
        assert_eq!(decode_read(&some, 4), Ok(&b"abcd"[..]));
        let rest = peer.ask(Opcode::SerialDataRead, read(4, 0)).await.unwrap();
        assert_eq!(decode_read(&rest, 4), Ok(&b"ef"[..]));
        let none = peer.ask(Opcode::SerialDataRead, read(4, 5)).await.unwrap();
        assert_eq!(decode_read(&none, 4), Ok(&b""[..]));
    });
}

#[test]
fn who_asks_first_is_answered_first() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::with(&fake, Mode::Read, pulled()).await;
        let first = peer.send(Opcode::SerialDataRead, read(1, 60_000));
        let given_up = peer.send(Opcode::SerialDataRead, read(1, 60_000));
        let second = peer.send(Opcode::SerialDataRead, read(1, u32::MAX));
        peer.stream.outlet.cancel(given_up);
        let (status, _) = peer.answer(given_up).await.expect_err("it was given up");
        assert_eq!(status, Status::Timeout);
        fake.receive(b"12");
        let answer = peer.answer(first).await.unwrap();
        assert_eq!(decode_read(&answer, 1), Ok(&b"1"[..]));
        let answer = peer.answer(second).await.unwrap();
        assert_eq!(decode_read(&answer, 1), Ok(&b"2"[..]));
    });
}

#[test]
fn a_port_that_pushes_is_not_asked() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        let refusal = peer.refusal(Opcode::SerialDataRead, read(1, 0)).await;
        assert_eq!(refusal, (Status::BadRequest, sub::BAD_PAYLOAD.to_owned()));
    });
}

#[test]
fn a_port_changes_between_pushing_and_being_asked() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::with(&fake, Mode::ReadWrite, pulled()).await;
        let waits = peer.send(Opcode::SerialDataRead, read(1, 60_000));
        let push = peer.ask(Opcode::SerialPortConfigure, change(None, Some(true)));
        assert!(push.await.is_ok());
        let none = peer.answer(waits).await.unwrap();
        assert_eq!(decode_read(&none, 1), Ok(&b""[..]));
        fake.receive(b"pushed");
        assert_eq!(peer.data().await, b"pushed");
        let pull = peer.ask(Opcode::SerialPortConfigure, change(None, Some(false)));
        assert!(pull.await.is_ok());
        fake.receive(b"asked");
        let asked = peer.ask(Opcode::SerialDataRead, read(9, 0)).await.unwrap();
        assert_eq!(decode_read(&asked, 9), Ok(&b"asked"[..]));
    });
}

#[test]
fn flushing_throws_away_what_was_not_transmitted() {
    run(async || {
        let fake = Fake::new();
        fake.hold();
        let mut peer = Peer::new(&fake).await;
        peer.write(&pattern(8000)).await;
        let waits = peer.send(Opcode::SerialDataWrite, write(b"waits", true));
        until(|| fake.unsent() == 4096).await;
        let flush = change(Some(Flush::Output), None);
        assert!(peer.ask(Opcode::SerialPortConfigure, flush).await.is_ok());
        let written = peer.answer(waits).await.unwrap();
        assert_eq!(Written::decode(&written).unwrap().count, 5);
        fake.let_go();
        peer.write(b"later").await;
        let sent = || fake.unsent() == 0;
        until(sent).await;
        let drained = peer.ask(Opcode::SerialDataWrite, write(b"", true)).await;
        assert!(drained.is_ok());
        assert_eq!(fake.sent(), b"later");
    });
}

#[test]
fn flushing_throws_away_what_was_received() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::with(&fake, Mode::ReadWrite, pulled()).await;
        fake.receive(b"old");
        let flush = change(Some(Flush::Input), None);
        assert!(peer.ask(Opcode::SerialPortConfigure, flush).await.is_ok());
        fake.receive(b"new");
        let bytes = peer.ask(Opcode::SerialDataRead, read(9, 0)).await.unwrap();
        assert_eq!(decode_read(&bytes, 9), Ok(&b"new"[..]));
    });
}

#[test]
fn who_only_reads_changes_nothing() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::with(&fake, Mode::Read, Settings::default()).await;
        let before = fake.acts();
        let forbidden = (Status::Forbidden, sub::ACL.to_owned());
        for (opcode, payload) in [
            (Opcode::SerialDataWrite, write(b"x", false)),
            (Opcode::SerialPortConfigure, change(None, Some(true))),
            (Opcode::SerialControlSet, b"\x81\xa3dtr\xc3".to_vec()),
            (Opcode::SerialBreak, b"\x81\xa2ms\x01".to_vec()),
        ] {
            assert_eq!(peer.refusal(opcode, payload).await, forbidden, "{opcode}");
        }
        assert!(peer.ask(Opcode::SerialControlGet, Vec::new()).await.is_ok());
        fake.receive(b"seen");
        assert_eq!(peer.data().await, b"seen");
        assert_eq!(fake.acts(), before);
        peer.stream.outlet.data(b"x".to_vec(), false);
        assert_eq!(peer.reset().await, Status::Forbidden);
        assert_eq!(fake.sent(), b"");
    });
}

#[test]
fn who_only_writes_is_sent_nothing_and_holds_nobody() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::with(&fake, Mode::Write, Settings::default()).await;
        for _ in 0..4 {
            assert_eq!(fake.receive(&pattern(4096)), 4096);
            until(|| fake.unread() == 0).await;
        }
        peer.write(b"out").await;
        assert!(
            peer.ask(Opcode::SerialDataWrite, write(b"", true))
                .await
                .is_ok()
        );
        assert_eq!(fake.sent(), b"out");
        let none = tokio::time::timeout(Duration::from_millis(1), peer.data()).await;
        assert!(none.is_err(), "{none:?}");
    });
}
