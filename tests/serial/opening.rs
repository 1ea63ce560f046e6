//! From the request that opens a port to its answer.

use std::collections::BTreeMap;

use myclerk::bus::fake::OPENING;
use myclerk::bus::serial::fake::{Act, Fake};
use myclerk::bus::serial::op::{Change, Direction};
use myclerk::bus::serial::op::{
    DataBits, Flow, Mode, Parity, PortList, Rs485, Settings, StopBits, StreamStart,
};
use myclerk::bus::serial::server::OWNED;
use myclerk::bus::{End, Present};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;

use crate::bench::{Peer, open_request, run};

fn opening(mode: Mode, settings: Settings) -> (Opcode, Vec<u8>) {
    let payload = open_request(mode, settings).encode().unwrap();
    (Opcode::SerialPortOpen, payload)
}

/// With what the port is refused.
async fn refused(fake: &Fake, opening: (Opcode, Vec<u8>), write: bool) -> (Status, String) {
    let mut peer = Peer::asks(fake.clone(), "fake", opening, write);
    let (status, error) = peer.answer(OPENING).await.expect_err("is refused");
    assert!(matches!(peer.serving.await.unwrap(), End::Refused(_)));
    assert!(!fake.is_open());
    (status, error.sub.into_owned())
}

#[test]
fn a_port_is_set_up_as_asked_and_says_how_it_is() {
    run(async || {
        let fake = Fake::new();
        let wanted = Settings {
            baud: 250_000,
            bits: DataBits::Seven,
            parity: Parity::Even,
            stop: StopBits::Two,
            flow: Flow::RtsCts,
            rs485: None,
            push: true,
            gap_us: 300,
        };
        let ask = opening(Mode::ReadWrite, wanted.clone());
        let mut peer = Peer::asks(fake.clone(), "fake", ask, true);
        let answer = peer.answer(OPENING).await.expect("it opens");
        assert_eq!(Settings::decode(&answer), Ok(wanted.clone()));
        assert_eq!(fake.acts(), [Act::Open, Act::Configure(wanted)]);
        assert_eq!(peer.cut().await, End::PeerLeft);
    });
}

#[test]
fn who_may_only_read_does_not_open_a_port_for_writing() {
    run(async || {
        let fake = Fake::new();
        for mode in [Mode::Write, Mode::ReadWrite, Mode::Exclusive] {
            let ask = opening(mode, Settings::default());
            let expected = (Status::Forbidden, sub::ACL.to_owned());
            assert_eq!(refused(&fake, ask, false).await, expected);
        }
        assert_eq!(fake.acts(), []);
        let ask = opening(Mode::Read, Settings::default());
        let mut peer = Peer::asks(fake.clone(), "fake", ask, false);
        assert!(peer.answer(OPENING).await.is_ok());
    });
}

#[test]
fn what_the_kernel_says_to_opening_is_told() {
    run(async || {
        for (errno, status, sub) in [
            (Errno::ENOENT, Status::ServiceUnavailable, sub::DEVICE_GONE),
            (Errno::EIO, Status::ServiceUnavailable, sub::DEVICE_GONE),
            (Errno::EBUSY, Status::ServiceUnavailable, sub::BUSY),
            (Errno::EACCES, Status::InternalError, sub::DEVICE_IO),
            (Errno::EMFILE, Status::InternalError, sub::DEVICE_IO),
        ] {
            let fake = Fake::new();
            fake.fail_next(Act::Open, errno);
            let ask = opening(Mode::Read, Settings::default());
            let expected = (status, sub.to_owned());
            assert_eq!(refused(&fake, ask, true).await, expected, "{errno}");
        }
    });
}

#[test]
fn a_port_that_cannot_be_set_up_is_given_back() {
    run(async || {
        let fake = Fake::new();
        let wanted = Settings::default();
        fake.fail_next(Act::Configure(wanted.clone()), Errno::EIO);
        let ask = opening(Mode::Read, wanted);
        let expected = (Status::InternalError, sub::DEVICE_IO.to_owned());
        assert_eq!(refused(&fake, ask, true).await, expected);
        assert_eq!(fake.acts().last(), Some(&Act::Release));

        let rs485 = Settings {
            rs485: Some(Rs485::default()),
            ..Settings::default()
        };
        let expected = (Status::BadRequest, sub::UNSUPPORTED.to_owned());
        let ask = opening(Mode::Read, rs485);
        assert_eq!(refused(&fake, ask, true).await, expected);
    });
}

#[test]
fn a_request_that_is_none_opens_nothing() {
    run(async || {
        let fake = Fake::new();
        let expected = (Status::BadRequest, sub::BAD_PAYLOAD.to_owned());
        for payload in [&b"\x80"[..], b"", b"\xc1"] {
            for opcode in [Opcode::SerialPortOpen, Opcode::StreamStart] {
                let ask = (opcode, payload.to_vec());
                assert_eq!(refused(&fake, ask, true).await, expected);
            }
        }
        assert_eq!(fake.acts(), []);
    });
}

#[test]
fn the_daemon_is_told_what_is_asked_for() {
    let wanted = |(opcode, payload): (Opcode, Vec<u8>)| (OWNED.wanted)(opcode, &payload);
    for (mode, write) in [
        (Mode::Read, false),
        (Mode::Write, true),
        (Mode::ReadWrite, true),
        (Mode::Exclusive, true),
    ] {
        let wanted = wanted(opening(mode, Settings::default())).unwrap();
        assert_eq!(
            (wanted.device.as_str(), wanted.write),
            ("serial:fake", write)
        );
    }
    for (direction, write) in [(Direction::FromDevice, false), (Direction::ToDevice, true)] {
        let start = StreamStart::new("serial:x".to_owned(), direction, Change::default());
        let ask = (Opcode::StreamStart, start.encode().unwrap());
        assert_eq!(wanted(ask).unwrap().write, write);
    }
    assert!(wanted((Opcode::SerialPortOpen, Vec::new())).is_err());
}

#[test]
fn the_list_is_what_the_daemon_found() {
    let present = Present {
        id: "serial:ttyS0".to_owned(),
        name: "a port".to_owned(),
        place: "ttyS0".to_owned(),
        hazard: None,
        props: BTreeMap::new(),
    };
    let (opcode, listing) = OWNED.list.unwrap();
    assert_eq!(opcode, Opcode::SerialPortList);
    let list = PortList::decode(&listing(&[(present, 2)])).unwrap();
    assert_eq!(list.ports.len(), 1);
    assert_eq!(
        (list.ports[0].dev.as_str(), list.ports[0].state),
        ("serial:ttyS0", 2)
    );
}
