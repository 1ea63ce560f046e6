//! Peers that send what they like.

use myclerk::bus::serial::fake::{Act, Fake};
use myclerk::bus::{End, Inbound};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use proptest::prelude::*;

use crate::bench::{Peer, run};

fn opcode() -> impl Strategy<Value = Opcode> {
    prop_oneof![
        Just(Opcode::SerialPortOpen),
        Just(Opcode::SerialPortConfigure),
        Just(Opcode::SerialDataWrite),
        Just(Opcode::SerialDataRead),
        Just(Opcode::SerialControlSet),
        Just(Opcode::SerialControlGet),
        Just(Opcode::SerialBreak),
        Just(Opcode::StreamConfigure),
        Just(Opcode::UsbReset),
    ]
}

/// What no decoder takes, and a few of what they do.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..24),
        Just(b"\x80".to_vec()),
        Just(b"\x92\xc4\x01x\xc3".to_vec()),
        Just(b"\x92\xc6\xff\xff\xff\xff\xc3".to_vec()),
        Just(b"\x81\xa4baud\x00".to_vec()),
        Just(b"\x81\xa4baud\xce\xff\xff\xff\xff".to_vec()),
        Just(b"\x81\xa3seq\xdd\xff\xff\xff\xff".to_vec()),
        Just(b"\x81\xa3seq\x91\x94\xc3\xc3\xc3\x00".to_vec()),
        Just(b"\x81\xa2ms\x01".to_vec()),
        Just(b"\x81\xa2ms\xcf\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_request_is_answered_once_and_the_port_ends_safe(
        requests in proptest::collection::vec((opcode(), payload()), 1..24),
    ) {
        run(async || {
            let fake = Fake::new();
            let mut peer = Peer::new(&fake).await;
            let sent: Vec<u32> = requests
                .into_iter()
                .map(|(opcode, payload)| peer.send(opcode, payload))
                .collect();
            for corr in sent {
                let _ = peer.answer(corr).await;
            }
            assert!(peer.close().await.is_ok());
            while let Ok(message) = peer.stream.inbound.try_recv() {
                assert!(!matches!(message, Inbound::Response { .. }), "{message:?}");
            }
            assert_eq!(peer.serving.await.unwrap(), End::Detached);
            assert_eq!(fake.acts().last(), Some(&Act::Release));
        });
    }
}

#[test]
fn what_no_serial_stream_carries_is_passed_over() {
    run(async || {
        let fake = Fake::new();
        let mut peer = Peer::new(&fake).await;
        for message in [
            Inbound::Response {
                corr: 7,
                status: Status::Ok,
                payload: Vec::new(),
                more: false,
            },
            Inbound::Event {
                opcode: Opcode::SerialControlGet,
                payload: vec![1, 2, 3],
                age_secs: 0,
            },
            Inbound::Cancel { corr: 4711 },
            Inbound::Writable,
            Inbound::Data {
                payload: Vec::new(),
                fin: true,
            },
        ] {
            peer.inject.send(message).unwrap();
        }
        assert!(peer.ask(Opcode::SerialControlGet, Vec::new()).await.is_ok());
    });
}
