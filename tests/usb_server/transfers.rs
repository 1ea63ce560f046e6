//! Transfers on every kind of endpoint, their order, and giving them up.

use myclerk::bus::usb::fake::{Act, DESCRIPTORS};
use myclerk::bus::usb::op::{GetDescriptor, TransferFlags};
use myclerk::bus::usb::server::End;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::bench::{Bench, local};

#[test]
fn what_is_written_can_be_read_back() {
    local(async {
        let mut bench = Bench::attach().await;
        let read = bench.bulk(0x81, 512, &[]);
        let write = bench.bulk(0x01, 5, b"hello");
        assert_eq!(bench.transfer(write).await, (0, 5, vec![]));
        assert_eq!(bench.transfer(read).await, (0, 5, b"hello".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn control_transfers_carry_data_both_ways_and_stalls_are_successful_answers() {
    local(async {
        let mut bench = Bench::attach().await;
        let store = bench.control([0x40, 1, 0, 0, 0, 0, 3, 0], b"abc");
        let load = bench.control([0xc0, 1, 0, 0, 0, 0, 64, 0], &[]);
        let stall = bench.control([0xc0, 99, 0, 0, 0, 0, 64, 0], &[]);
        assert_eq!(bench.transfer(store).await, (0, 3, vec![]));
        assert_eq!(bench.transfer(load).await, (0, 3, b"abc".to_vec()));
        assert_eq!(bench.transfer(stall).await, (-32, 0, vec![]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn many_transfers_are_in_flight_on_every_endpoint_and_end_in_order_on_each() {
    local(async {
        let mut bench = Bench::attach().await;
        for endpoint in [0x01, 0x02, 0x82] {
            bench.device.pause(endpoint);
        }
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        let mut reads = Vec::new();
        let mut writes = Vec::new();
        for number in 0..64_u8 {
            reads.push(bench.bulk(0x82, 3, &[]));
            writes.push(bench.bulk(0x02, 2, &[number, number]));
        }
        bench.until(|bench| bench.device.in_flight() == 129).await;
        // Endpoint 0 and the interrupt endpoint go on while the others stand.
        let setup = bench.control([0x80, 0, 0, 0, 0, 0, 2, 0], &[]);
        assert_eq!(bench.transfer(setup).await, (0, 2, vec![0, 0]));
        bench.device.interrupt(b"key");
        assert_eq!(bench.transfer(waiting).await, (0, 3, b"key".to_vec()));
        bench.device.resume(0x02);
        bench.transfer(writes[63]).await;
        bench.device.resume(0x82);
        bench.transfer(reads[63]).await;
        let order = bench.answered();
        let of = |list: &[u32]| -> Vec<u32> {
            order
                .iter()
                .copied()
                .filter(|corr| list.contains(corr))
                .collect()
        };
        assert_eq!(of(&reads), reads);
        assert_eq!(of(&writes), writes);
        let mut data = Vec::new();
        for read in &reads {
            data.extend(bench.transfer(*read).await.2);
        }
        assert_eq!(data, (0..192).collect::<Vec<u8>>());
        let pairs: Vec<u8> = (0..64).flat_map(|number| [number, number]).collect();
        assert_eq!(bench.device.written(0x02), pairs);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_cancelled_transfer_is_answered_once_as_cancelled() {
    local(async {
        let mut bench = Bench::attach().await;
        let first = bench.bulk(0x81, 64, &[]);
        let second = bench.bulk(0x81, 64, &[]);
        bench.cancel(first);
        bench.cancel(first);
        assert_eq!(bench.transfer(first).await, (-104, 0, vec![]));
        bench.cancel(first);
        bench.cancel(77);
        let write = bench.bulk(0x01, 2, b"ok");
        assert_eq!(bench.transfer(second).await, (0, 2, b"ok".to_vec()));
        bench.transfer(write).await;
        bench.detach().await;
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        let halt = bench.clear_halt(0x01);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        // Ends in the device while nobody can take it back.
        bench.device.let_calls_go();
        bench.answer(halt).await;
        let read = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.interrupt(b"now");
        bench.cancel(read);
        assert_eq!(bench.transfer(read).await, (0, 3, b"now".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_request_that_was_cancelled_before_its_start_is_never_started() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        let halt = bench.clear_halt(0x01);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        let write = bench.bulk(0x02, 4, b"nope");
        let reset = bench.request(Opcode::UsbReset, Vec::new());
        bench.cancel(write);
        bench.cancel(reset);
        assert_eq!(bench.transfer(write).await, (-2, 0, vec![]));
        let cancelled = (Status::Timeout, "cancelled".to_owned());
        assert_eq!(bench.answer(reset).await.error(), cancelled);
        bench.device.let_calls_go();
        bench.answer(halt).await;
        assert_eq!(bench.device.written(0x02), b"");
        assert!(!bench.device.acts().contains(&Act::Reset));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_transfer_without_an_end_ends_with_its_time() {
    local(async {
        let mut bench = Bench::attach().await;
        let patient = bench.interrupt(0x83, 8, 0, &[]);
        let hasty = bench.interrupt(0x83, 8, 5, &[]);
        assert_eq!(bench.transfer(hasty).await, (-110, 0, vec![]));
        bench.device.interrupt(b"late");
        assert_eq!(bench.transfer(patient).await, (0, 4, b"late".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn flags_reach_the_device() {
    local(async {
        let mut bench = Bench::attach().await;
        let flags = TransferFlags {
            short_not_ok: true,
            zero_packet: false,
        };
        let read = bench.bulk_with(0x81, flags, 0, 64, &[]);
        bench.bulk(0x01, 5, b"short");
        assert_eq!(bench.transfer(read).await, (-121, 5, b"short".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn descriptors_are_given_and_a_missing_one_is_an_error_of_the_device() {
    local(async {
        let mut bench = Bench::attach().await;
        let mut ask = |kind, len| {
            let mut payload = Vec::new();
            let request = GetDescriptor {
                kind,
                index: 0,
                lang: 0,
                len,
            };
            request.encode(&mut payload);
            bench.request(Opcode::UsbGetDescriptor, payload)
        };
        let (device, missing) = (ask(1, 8), ask(3, 255));
        let answer = bench.answer(device).await;
        assert_eq!(
            answer.payload,
            [&[0x91, 0xc4, 8], &DESCRIPTORS[..8]].concat()
        );
        let answer = bench.answer(missing).await;
        assert_eq!(
            answer.error(),
            (Status::InternalError, "device-io".to_owned())
        );
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn transfers_wait_in_their_order_while_usbfs_has_no_memory() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.starve(3);
        let writes = [bench.bulk(0x02, 1, b"a"), bench.bulk(0x02, 1, b"b")];
        let late = bench.bulk(0x02, 1, b"c");
        bench.cancel(late);
        assert_eq!(bench.transfer(late).await, (-2, 0, vec![]));
        for write in writes {
            assert_eq!(bench.transfer(write).await, (0, 1, vec![]));
        }
        assert_eq!(bench.device.written(0x02), b"ab");
        bench.detach().await;
        bench.end().await;
    });
}
