//! Isochronous transfers both ways: parts, packets, giving them up, and time.

use std::time::{Duration, Instant};

use myclerk::bus::usb::server::End;
use myclerk::wire::status::Status;
use nix::errno::Errno;
use proptest::prelude::*;

use crate::bench::{ATTACH, Bench, IsoAnswer, local};

/// What a packet has that was not moved.
const NOT_MOVED: (u32, i32) = (0, -18);

fn counted(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(bytes).collect()
}

#[test]
fn packets_are_moved_both_ways_with_their_own_lengths() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        let read = bench.iso(0x86, &[3, 0, 5], &[]);
        let write = bench.iso(0x06, &[2, 4], b"abcdef");
        let read = bench.iso_answer(read).await;
        assert_eq!(read.packets, [(3, 0), (0, 0), (5, 0)]);
        assert_eq!((read.status, read.data), (0, counted(8)));
        let write = bench.iso_answer(write).await;
        assert_eq!(write.packets, [(2, 0), (4, 0)]);
        assert_eq!((write.status, write.data), (0, vec![]));
        assert_eq!(bench.device.written(0x06), b"abcdef");
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn more_packets_than_usbfs_takes_are_submitted_together_and_answered_once() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.pause(0x86);
        bench.device.pause(0x06);
        let read = bench.iso(0x86, &[8; 300], &[]);
        let most = bench.iso(0x86, &[1; 1024], &[]);
        let write = bench.iso(0x06, &[3; 129], &counted(387));
        bench
            .until(|bench| bench.device.in_flight() == 3 + 8 + 2)
            .await;
        bench.device.resume(0x06);
        let write = bench.iso_answer(write).await;
        assert_eq!(write.packets, [(3, 0); 129]);
        assert_eq!(bench.device.written(0x06), counted(387));
        bench.device.resume(0x86);
        let read = bench.iso_answer(read).await;
        assert_eq!(read.packets, [(8, 0); 300]);
        assert_eq!(read.data, counted(2400));
        assert_eq!(bench.iso_answer(most).await.packets, [(1, 0); 1024]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn bad_packets_are_told_one_by_one_and_the_bytes_of_the_others_lie_together() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        for (bytes, status) in [(2, 0), (0, -84), (4, -75), (0, -71), (1, 0)] {
            bench.device.plan_packet(0x86, bytes, status);
        }
        let read = bench.iso(0x86, &[4; 6], &[]);
        let read = bench.iso_answer(read).await;
        let packets = [(2, 0), (0, -84), (4, -75), (0, -71), (1, 0), (4, 0)];
        assert_eq!(read.packets, packets);
        // As a host controller has it: the transfer as such ended well.
        assert_eq!((read.status, read.data), (0, counted(11)));
        bench.device.plan_packet(0x06, 1, -63);
        let write = bench.iso(0x06, &[2, 2], b"abcd");
        let write = bench.iso_answer(write).await;
        assert_eq!((write.status, write.packets), (0, vec![(1, -63), (2, 0)]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_stream_with_several_transfers_in_flight_has_no_gaps() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.pace(0x86);
        bench.device.pace(0x06);
        let mut queue: Vec<(u32, u32)> = Vec::new();
        let mut received = Vec::new();
        for round in 0..100_u8 {
            while queue.len() < 4 {
                let write = bench.iso(0x06, &[16; 8], &[round; 128]);
                queue.push((bench.iso(0x86, &[40; 8], &[]), write));
            }
            bench.until(|bench| bench.device.in_flight() == 8).await;
            // Other endpoints and their stalls go on beside it.
            bench.device.halt(0x82);
            let stalled = bench.bulk(0x82, 8, &[]);
            assert_eq!(bench.device.tick(0x86, 8), 8);
            assert_eq!(bench.device.tick(0x06, 8), 8);
            let (read, write) = queue.remove(0);
            received.extend(bench.iso_answer(read).await.data);
            assert_eq!(bench.iso_answer(write).await.packets, [(16, 0); 8]);
            assert_eq!(bench.transfer(stalled).await.0, -32);
        }
        assert_eq!(received, counted(100 * 8 * 40));
        assert_eq!(bench.device.written(0x06).len(), 100 * 128);
        bench.detach().await;
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_cancelled_transfer_tells_what_its_parts_had_moved() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.pace(0x86);
        let read = bench.iso(0x86, &[2; 300], &[]);
        let next = bench.iso(0x86, &[2; 2], &[]);
        bench.until(|bench| bench.device.in_flight() == 4).await;
        assert_eq!(bench.device.tick(0x86, 130), 130);
        bench.cancel(read);
        bench.cancel(read);
        let answer = bench.iso_answer(read).await;
        assert_eq!(answer.status, -104);
        assert_eq!(answer.packets[..130], [(2, 0); 130]);
        assert_eq!(answer.packets[130..], [NOT_MOVED; 170]);
        assert_eq!(answer.data, counted(260));
        bench.cancel(read);
        assert_eq!(bench.device.in_flight(), 1);
        assert_eq!(bench.device.tick(0x86, 2), 2);
        assert_eq!(bench.iso_answer(next).await.data, [4, 5, 6, 7]);
        assert_eq!(bench.answered(), [ATTACH, 1, read, next]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_cancel_after_the_last_packet_changes_nothing() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.pause(0x86);
        let read = bench.iso(0x86, &[1; 200], &[]);
        bench.until(|bench| bench.device.in_flight() == 2).await;
        bench.device.resume(0x86);
        bench.cancel(read);
        let answer = bench.iso_answer(read).await;
        assert_eq!((answer.status, answer.data), (0, counted(200)));
        bench.detach().await;
        bench.end().await;
    });
}

/// Keeps the server half from the device until that much time went by, with a request before it
/// that waits for the hardware.
async fn hold_up(
    bench: &mut Bench,
    time: Duration,
    requests: impl FnOnce(&mut Bench) -> Vec<u32>,
) -> Vec<u32> {
    bench.device.hold_calls();
    let halt = bench.clear_halt(0x01);
    bench.until(|bench| bench.device.waiting_calls() == 1).await;
    let requests = requests(bench);
    // Answered while the device is away, so the server half has everything before it.
    let last = bench.bulk(0x02, 1, b"x");
    bench.cancel(last);
    assert_eq!(bench.transfer(last).await.0, -2);
    let start = Instant::now();
    bench.until(|_| start.elapsed() > time).await;
    bench.device.let_calls_go();
    bench.answer(halt).await;
    requests
}

#[test]
fn a_request_that_waited_beyond_its_time_is_answered_without_being_submitted() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        let requests = hold_up(&mut bench, Duration::from_millis(20), |bench| {
            vec![
                bench.iso_with(0x86, 1, &[4; 3], &[]),
                bench.iso_with(0x06, 1, &[1, 1], b"no"),
                bench.iso_with(0x86, 3_600_000, &[4], &[]),
                bench.iso_with(0x06, 0, &[3], b"yes"),
            ]
        })
        .await;
        let late = |packets: usize| IsoAnswer {
            status: 0,
            packets: vec![NOT_MOVED; packets],
            data: vec![],
        };
        assert_eq!(bench.iso_answer(requests[0]).await, late(3));
        assert_eq!(bench.iso_answer(requests[1]).await, late(2));
        assert_eq!(bench.iso_answer(requests[2]).await.data, counted(4));
        assert_eq!(bench.iso_answer(requests[3]).await.packets, [(3, 0)]);
        assert_eq!(bench.device.written(0x06), b"yes");
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_request_that_was_cancelled_before_its_start_tells_every_packet() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        let requests = hold_up(&mut bench, Duration::ZERO, |bench| {
            let requests = vec![bench.iso(0x06, &[1, 2], b"abc"), bench.iso(0x86, &[], &[])];
            bench.cancel(requests[0]);
            bench.cancel(requests[1]);
            requests
        })
        .await;
        let answer = bench.iso_answer(requests[0]).await;
        assert_eq!((answer.status, answer.packets), (-2, vec![NOT_MOVED; 2]));
        assert_eq!(bench.answer(requests[1]).await.status, Status::Timeout);
        assert_eq!(bench.device.written(0x06), b"");
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn parts_that_were_submitted_are_taken_back_when_the_next_is_not_accepted() {
    local(async {
        for (errno, status) in [
            (Errno::ENOMEM, 0),
            (Errno::ENOSPC, 0),
            (Errno::EMSGSIZE, -90),
        ] {
            let mut bench = Bench::attach_iso().await;
            bench.device.pace(0x86);
            bench.device.refuse_submission(2, errno);
            let read = bench.iso(0x86, &[1; 300], &[]);
            let next = bench.iso(0x86, &[1; 2], &[]);
            let answer = bench.iso_answer(read).await;
            assert_eq!((answer.status, answer.packets.len()), (status, 300));
            assert!(answer.packets.iter().all(|packet| *packet == NOT_MOVED));
            bench.until(|bench| bench.device.in_flight() == 1).await;
            bench.device.tick(0x86, 2);
            assert_eq!(bench.iso_answer(next).await.data, [0, 1]);
            bench.detach().await;
            bench.end().await;
        }
    });
}

#[test]
fn packets_that_were_moved_before_the_next_part_was_not_accepted_count() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.refuse_submission(1, Errno::ENOMEM);
        let read = bench.iso(0x86, &[1; 130], &[]);
        let answer = bench.iso_answer(read).await;
        assert_eq!((answer.status, answer.data), (0, counted(128)));
        assert_eq!(answer.packets[..128], [(1, 0); 128]);
        assert_eq!(answer.packets[128..], [NOT_MOVED; 2]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn another_setting_ends_what_is_in_flight_in_the_old_one() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.pace(0x86);
        let reads = [
            bench.iso(0x86, &[1; 300], &[]),
            bench.iso(0x86, &[1; 2], &[]),
        ];
        bench.until(|bench| bench.device.in_flight() == 4).await;
        bench.device.tick(0x86, 129);
        let off = bench.set_interface(1, 0);
        let unwanted = bench.iso(0x86, &[1], &[]);
        let on = bench.set_interface(1, 2);
        let wanted = bench.iso(0x86, &[1], &[]);
        let first = bench.iso_answer(reads[0]).await;
        assert_eq!((first.status, first.data), (-2, counted(129)));
        assert_eq!(
            first.packets[128..],
            [&[(1, 0)][..], &[NOT_MOVED; 171]].concat()
        );
        assert_eq!(bench.iso_answer(reads[1]).await.packets, [NOT_MOVED; 2]);
        assert_eq!(bench.answer(off).await.status, Status::Ok);
        assert_eq!(bench.answer(unwanted).await.status, Status::BadRequest);
        assert_eq!(bench.answer(on).await.status, Status::Ok);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.tick(0x86, 1);
        assert_eq!(bench.iso_answer(wanted).await.data, [129]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_stream_that_ends_answers_every_packet() {
    local(async {
        for unplugged in [false, true] {
            let mut bench = Bench::attach_iso().await;
            bench.device.pace(0x86);
            let read = bench.iso(0x86, &[1; 200], &[]);
            bench.until(|bench| bench.device.in_flight() == 2).await;
            bench.device.tick(0x86, 1);
            if unplugged {
                bench.device.unplug();
            } else {
                bench.detach().await;
            }
            let answer = bench.iso_answer(read).await;
            assert_eq!((answer.status, answer.data), (-108, vec![0]));
            assert_eq!(answer.packets[1..], [NOT_MOVED; 199]);
            let end = if unplugged {
                End::DeviceGone
            } else {
                End::Detached
            };
            assert_eq!(bench.end().await, end);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_becomes_of_the_packets_is_what_the_answer_tells(
        lengths in proptest::collection::vec(0_u32..3073, 1..400),
        plans in proptest::collection::vec((0_u32..4000, prop_oneof![Just(0), -200..0_i32]), 0..400),
        moved in 0_usize..400,
    ) {
        local(async {
            let mut bench = Bench::attach_iso().await;
            bench.device.pace(0x86);
            for (bytes, status) in &plans {
                bench.device.plan_packet(0x86, *bytes, *status);
            }
            let read = bench.iso(0x86, &lengths, &[]);
            bench.until(|bench| bench.device.in_flight() > 0).await;
            let moved = bench.device.tick(0x86, moved);
            bench.cancel(read);
            let answer = bench.iso_answer(read).await;
            let plans = plans.iter().copied().chain(core::iter::repeat((u32::MAX, 0)));
            let mut expected: Vec<(u32, i32)> = lengths
                .iter()
                .zip(plans)
                .take(moved)
                .map(|(length, (bytes, status))| (bytes.min(*length), status))
                .collect();
            expected.resize(lengths.len(), NOT_MOVED);
            let total: u32 = expected.iter().map(|(actual, _)| actual).sum();
            assert_eq!(answer.packets, expected);
            assert_eq!(answer.data, counted(total as usize));
            assert_eq!(answer.status, if moved == lengths.len() { 0 } else { -104 });
            bench.detach().await;
            bench.end().await;
        });
    }
}
