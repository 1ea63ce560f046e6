//! A port as a stream of profile 19.3.

use myclerk::bus::End;
use myclerk::bus::fake::OPENING;
use myclerk::bus::serial::fake::{Fake, QUEUE};
use myclerk::bus::serial::op::{
    Change, Direction, Lines, Settings, StreamParameters, StreamSettings, StreamStart,
};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};

use crate::bench::{Peer, run, until};

async fn started(fake: &Fake, direction: Direction) -> (Peer, Settings) {
    let par = Change {
        baud: Some(9600),
        ..Change::default()
    };
    let start = StreamStart::new("serial:fake".to_owned(), direction, par);
    let opening = (Opcode::StreamStart, start.encode().unwrap());
    let mut peer = Peer::asks(fake.clone(), "fake", opening, true);
    let answer = peer.answer(OPENING).await.expect("it opens");
    (peer, StreamSettings::decode(&answer).unwrap().par)
}

#[test]
fn a_stream_carries_bytes_both_ways_until_it_is_stopped() {
    run(async || {
        let fake = Fake::new();
        fake.loop_back();
        let (mut peer, settings) = started(&fake, Direction::ToDevice).await;
        assert_eq!(settings.baud, 9600);
        peer.write(b"bytes").await;
        assert_eq!(peer.bytes(5).await, b"bytes");
        assert!(peer.ask(Opcode::StreamStop, Vec::new()).await.is_ok());
        assert_eq!(peer.serving.await.unwrap(), End::Detached);
    });
}

#[test]
fn a_stream_is_configured_by_its_parameters() {
    run(async || {
        let fake = Fake::new();
        let (mut peer, _) = started(&fake, Direction::ToDevice).await;
        let request = StreamParameters {
            par: Change {
                baud: Some(1200),
                ..Change::default()
            },
        };
        let answer = peer.ask(Opcode::StreamConfigure, request.encode().unwrap());
        let settings = StreamSettings::decode(&answer.await.unwrap()).unwrap();
        assert_eq!(settings.par.baud, 1200);
    });
}

#[test]
fn a_stream_that_pauses_leaves_its_bytes_in_the_port() {
    run(async || {
        let fake = Fake::new();
        let (mut peer, _) = started(&fake, Direction::FromDevice).await;
        assert!(peer.ask(Opcode::StreamPause, Vec::new()).await.is_ok());
        assert_eq!(fake.receive(&[7; QUEUE]), QUEUE);
        assert_eq!(fake.receive(b"x"), 0);
        assert!(peer.ask(Opcode::StreamResume, Vec::new()).await.is_ok());
        assert_eq!(peer.bytes(QUEUE).await, [7; QUEUE]);
        until(|| fake.unread() == 0).await;
    });
}

#[test]
fn a_stream_has_no_lines() {
    run(async || {
        let fake = Fake::new();
        let (mut peer, _) = started(&fake, Direction::ToDevice).await;
        let unsupported = (Status::BadRequest, sub::UNSUPPORTED.to_owned());
        for opcode in [
            Opcode::SerialControlGet,
            Opcode::SerialControlSet,
            Opcode::SerialPortClose,
            Opcode::StreamQuality,
        ] {
            assert_eq!(peer.refusal(opcode, Vec::new()).await, unsupported);
        }
        fake.set_inputs(Lines {
            cts: true,
            ..Lines::default()
        });
        fake.receive(b"x");
        assert_eq!(peer.data().await, b"x");
    });
}

#[test]
fn a_stream_from_the_device_is_not_written_to() {
    run(async || {
        let fake = Fake::new();
        let (mut peer, _) = started(&fake, Direction::FromDevice).await;
        let request = StreamParameters::default().encode().unwrap();
        let refusal = peer.refusal(Opcode::StreamConfigure, request).await;
        assert_eq!(refusal, (Status::Forbidden, sub::ACL.to_owned()));
    });
}
