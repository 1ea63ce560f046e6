//! On two real UARTs that are joined by a line, which few machines have:
//! `MYCLERK_UARTS=ttyS4,ttyS5 cargo test --test serial -- --ignored`. Their input lines need not be
//! connected.

use std::env;

use myclerk::bus::End;
use myclerk::bus::fake::OPENING;
use myclerk::bus::serial::hardware::tty::TtyHost;
use myclerk::bus::serial::op::{Break, ControlSet, DataWrite, Lines, Mode, Settings, Step};
use myclerk::wire::opcode::Opcode;

use crate::bench::{Peer, open_request, pattern, run};

/// Their names.
fn uarts() -> (String, String) {
    let names = env::var("MYCLERK_UARTS").expect("MYCLERK_UARTS names two UARTs");
    let (one, other) = names.split_once(',').expect("two UARTs");
    (one.to_owned(), other.to_owned())
}

async fn open(place: &str, baud: u32) -> (Peer, Settings) {
    let settings = Settings {
        baud,
        ..Settings::default()
    };
    let request = open_request(Mode::ReadWrite, settings).encode().unwrap();
    let opening = (Opcode::SerialPortOpen, request);
    let mut peer = Peer::asks(TtyHost::default(), place, opening, true);
    let answer = peer.answer(OPENING).await.expect("it opens");
    (peer, Settings::decode(&answer).unwrap())
}

#[test]
#[ignore = "needs two UARTs that are joined: MYCLERK_UARTS=ttyS4,ttyS5"]
fn what_one_uart_sends_the_other_receives() {
    run(async || {
        let (one, other) = uarts();
        let (mut one, settings) = open(&one, 115_200).await;
        assert_eq!(settings.baud, 115_200);
        let (mut other, _) = open(&other, 115_200).await;
        let bytes = pattern(4096);
        one.write(&bytes).await;
        assert!(other.bytes(bytes.len()).await == bytes);
        let drain = DataWrite {
            data: b"drained",
            drain: true,
        };
        let answer = other.ask(Opcode::SerialDataWrite, drain.encode()).await;
        assert!(answer.is_ok());
        assert_eq!(one.bytes(7).await, b"drained");
        for mut peer in [one, other] {
            assert!(peer.close().await.is_ok());
            assert_eq!(peer.serving.await.unwrap(), End::Detached);
        }
    });
}

#[test]
#[ignore = "needs two UARTs that are joined: MYCLERK_UARTS=ttyS4,ttyS5"]
fn the_lines_of_a_uart_are_set_and_dropped() {
    run(async || {
        let (place, _) = uarts();
        let (mut peer, _) = open(&place, 9600).await;
        let get = |answer: Vec<u8>| Lines::decode(&answer).unwrap();
        let opened = get(peer
            .ask(Opcode::SerialControlGet, Vec::new())
            .await
            .unwrap());
        assert!(opened.dtr && opened.rts, "{opened:?}");
        let steps = [(Some(false), Some(true)), (Some(true), Some(false))];
        let request = ControlSet {
            seq: steps
                .map(|(dtr, rts)| Step {
                    dtr,
                    rts,
                    brk: None,
                    delay_us: 1000,
                })
                .to_vec(),
            ..ControlSet::default()
        };
        let after = peer.ask(Opcode::SerialControlSet, request.encode().unwrap());
        let after = get(after.await.unwrap());
        assert_eq!((after.dtr, after.rts), (true, false));
        let request = Break { ms: 1 }.encode().unwrap();
        assert!(peer.ask(Opcode::SerialBreak, request).await.is_ok());
        // A thread waits in the kernel for a change that never comes, and is got out of there.
        assert_eq!(peer.cut().await, End::PeerLeft);
        let (_again, _) = open(&place, 9600).await;
    });
}
