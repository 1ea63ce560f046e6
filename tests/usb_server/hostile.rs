//! Requests that a well-behaved peer never sends.

use myclerk::bus::usb::op::{
    BulkTransfer, ControlTransfer, EndpointAddress, IsoTransfer, Setup, TransferFlags,
};
use myclerk::bus::usb::server::End;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use proptest::prelude::*;

use crate::bench::{Bench, local};

#[test]
fn hostile_requests_are_refused_before_they_reach_the_device() {
    local(async {
        let mut bench = Bench::attach().await;
        let acts = bench.device.acts();
        let bad = [
            // No such endpoint, only in another setting, another direction, another type.
            bench.bulk(0x8f, 4, &[]),
            bench.bulk(0x84, 4, &[]),
            bench.bulk(0x83, 4, &[]),
            bench.bulk(0x05, 1, b"x"),
            bench.interrupt(0x82, 4, 0, &[]),
            bench.clear_halt(0x8f),
            bench.set_interface(0, 1),
            bench.set_interface(9, 0),
            bench.set_configuration(3),
            // A recipient that does not exist.
            bench.control([0x81, 6, 0, 0x22, 9, 0, 4, 0], &[]),
            bench.control([0x82, 0, 0, 0, 0x8f, 0, 2, 0], &[]),
            bench.control([0xa1, 0, 0, 0, 9, 9, 4, 0], &[]),
            // Data where none belongs.
            bench.control([0x00, 9, 1, 0, 0, 0, 1, 0], b"x"),
            bench.bulk(0x02, 4, b"xyz"),
            bench.bulk(0x82, 1, b"x"),
            bench.request(Opcode::UsbBulkTransfer, vec![0xc1]),
        ];
        for corr in bad {
            let error = (Status::BadRequest, "bad-payload".to_owned());
            assert_eq!(bench.answer(corr).await.error(), error, "{corr}");
        }
        let unsupported = [
            bench.control([0x00, 5, 9, 0, 0, 0, 0, 0], &[]),
            bench.control([0x00, 3, 2, 0, 0, 1, 0, 0], &[]),
            bench.request(Opcode::CanFrameSend, Vec::new()),
        ];
        for corr in unsupported {
            let error = (Status::BadRequest, "unsupported".to_owned());
            assert_eq!(bench.answer(corr).await.error(), error, "{corr}");
        }
        let unknown = bench.request(Opcode::Unknown(0x06ff), Vec::new());
        assert_eq!(bench.answer(unknown).await.error().1, "unknown-op");
        let again = bench.request(Opcode::UsbDeviceAttach, Vec::new());
        assert_eq!(bench.answer(again).await.error().1, "stream-state");
        assert_eq!(bench.device.acts(), acts);
        assert_eq!(bench.device.in_flight(), 0);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn hostile_isochronous_requests_are_refused_before_they_reach_the_device() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        let bad = [
            // No packets, too many, too many bytes together or in one.
            bench.iso(0x86, &[], &[]),
            bench.iso(0x86, &[0; 1025], &[]),
            bench.iso(0x86, &[98_304; 1024], &[]),
            bench.iso(0x86, &[u32::MAX; 2], &[]),
            bench.iso(0x86, &[3072, 3073], &[]),
            bench.iso(0x06, &[193], &[0; 193]),
            // Another type, another direction, no such endpoint, the control endpoint.
            bench.iso(0x82, &[4], &[]),
            bench.bulk(0x86, 4, &[]),
            bench.interrupt(0x86, 4, 0, &[]),
            bench.iso(0x05, &[1], b"x"),
            bench.iso(0x8f, &[4], &[]),
            bench.iso(0x00, &[1], b"x"),
            // Other bytes than the packets have.
            bench.iso(0x06, &[2, 2], b"abc"),
            bench.iso(0x06, &[2, 2], b"abcde"),
            bench.iso(0x86, &[2], b"ab"),
            bench.request(Opcode::UsbIsochronousTransfer, Vec::new()),
        ];
        for corr in bad {
            let error = (Status::BadRequest, "bad-payload".to_owned());
            assert_eq!(bench.answer(corr).await.error(), error, "{corr}");
        }
        let back = bench.set_interface(1, 1);
        let elsewhere = bench.iso(0x86, &[4], &[]);
        bench.answer(back).await;
        assert_eq!(bench.answer(elsewhere).await.status, Status::BadRequest);
        assert_eq!(bench.device.in_flight(), 0);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_printer_is_asked_for_its_id_by_the_interface_in_the_high_byte() {
    local(async {
        let mut bench = Bench::attach().await;
        let ask = bench.control([0xa1, 0, 0, 0, 0, 1, 64, 0], &[]);
        assert_eq!(bench.transfer(ask).await, (0, 1, vec![7]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_number_that_is_in_use_is_not_taken_twice() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.next -= 1;
        bench.interrupt(0x83, 8, 0, &[]);
        assert_eq!(bench.answer(waiting).await.status, Status::BadRequest);
        assert_eq!(bench.device.in_flight(), 1);
    });
}

/// A request that a peer might send, well-formed or not.
fn any_request() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let garbage = (
        0x0602_u16..0x060d,
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    let control = any::<[u8; 6]>().prop_map(|[kind, request, v0, v1, i0, i1]| {
        let mut payload = Vec::new();
        let setup = [
            kind % 0xc4,
            request % 12,
            v0 % 4,
            v1 % 4,
            i0 % 3,
            i1 % 3,
            0,
            0,
        ];
        let transfer = ControlTransfer {
            flags: TransferFlags::default(),
            timeout_ms: 0,
            setup: Setup::from_bytes(setup),
            len: 0,
        };
        transfer.encode(&mut payload);
        (Opcode::UsbControlTransfer.to_u16(), payload)
    });
    let bulk = (any::<u8>(), 0_u32..64).prop_map(|(endpoint, len)| {
        let mut payload = Vec::new();
        let ep = EndpointAddress::from_u8(endpoint & 0x87).unwrap();
        let transfer = BulkTransfer {
            ep,
            flags: TransferFlags::default(),
            timeout_ms: 1,
            len,
        };
        transfer.encode(&mut payload);
        payload.resize(payload.len() + transfer.data_len() as usize, 0);
        (Opcode::UsbBulkTransfer.to_u16(), payload)
    });
    let lengths = proptest::collection::vec(0_u32..3100, 0..140);
    let iso = (any::<u8>(), 0_u32..3, lengths).prop_map(|(endpoint, ttl_ms, packets)| {
        let mut payload = Vec::new();
        let transfer = IsoTransfer {
            ep: EndpointAddress::from_u8(endpoint & 0x80 | 0x06).unwrap(),
            flags: TransferFlags::default(),
            start_frame: None,
            ttl_ms,
            packets,
        };
        transfer.encode(&mut payload);
        payload.resize(payload.len() + transfer.data_len() as usize, 0);
        (Opcode::UsbIsochronousTransfer.to_u16(), payload)
    });
    prop_oneof![garbage, control, bulk, iso]
        .prop_filter("detaching ends the stream", |(opcode, _)| *opcode != 0x0602)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_peer_sends_is_answered_exactly_once_and_upsets_no_kernel(
        requests in proptest::collection::vec((any_request(), any::<bool>()), 1..40),
    ) {
        let end = local(async {
            let mut bench = Bench::attach_iso().await;
            for ((opcode, payload), cancelled) in requests {
                let corr = bench.request(Opcode::from_u16(opcode), payload);
                if cancelled {
                    bench.cancel(corr);
                }
            }
            bench.detach().await;
            bench.end().await
        });
        prop_assert_eq!(end, End::Detached);
    }
}
