//! Isochronous URBs that are late, refused or unlinked.

use super::*;

const MISSED: i32 = -libc::EXDEV;
const TIMEOUT: &[u8] = b"\x81\xA3sub\xA7timeout";
const CANCELLED: &[u8] = b"\x81\xA3sub\xA9cancelled";

/// Offset and length of each packet.
type Places = &'static [(u32, u32)];

#[test]
fn a_late_transfer_is_reported_packet_by_packet_and_in_order() {
    let mut bench = Bench::new(9);
    bench.iso(1, OUT, &row(2));
    bench.iso(2, OUT, &row(3));
    bench
        .respond(2, Status::Timeout, TIMEOUT.to_vec())
        .expect("an answer");
    assert_eq!(bench.told(), []);
    bench.iso_answer(1, 0, &[(192, 0), (192, 0)], &[]);
    let messages: Vec<_> = bench.urbs.messages().collect();
    let (Return::Submit(ret), _, descriptors) = messages[1].parts() else {
        panic!("a URB is answered with RET_SUBMIT");
    };
    assert_eq!(
        (ret.seqnum, ret.status, ret.packets, ret.error_count),
        (2, 0, 3, 3)
    );
    let packets = IsoDescriptor::parse_all(descriptors, 576).expect("descriptors");
    assert_eq!(
        packets[2],
        IsoDescriptor {
            offset: 384,
            length: 192,
            actual_length: 0,
            status: MISSED,
        }
    );
}

#[test]
fn what_waits_for_the_servers_limits_too_long_is_late_and_never_sent() {
    let mut bench = Bench::new(0);
    bench.iso(1, OUT, &row(1));
    bench.start += Duration::from_millis(150);
    bench.expire(Duration::ZERO);
    assert_eq!(bench.told(), []);
    bench.iso(2, OUT, &row(1));
    bench.server.room.set(2);
    bench.expire(Duration::from_millis(50));
    let ret = bench.ret();
    assert_eq!(ret.head.seqnum, 1);
    assert_eq!(ret.summary(), (0, 0, 1, 1));
    assert_eq!(ret.packets, [(0, 192, 0, MISSED)]);
    assert_eq!(bench.requests().len(), 1, "the second has time left");
    assert_eq!(bench.requested(0).2.deadline_ms, 150);
}

#[test]
fn what_the_server_refuses_ends_the_stream_with_all_its_packets() {
    let errno = libc::ESHUTDOWN;
    for (status, payload) in [
        (Status::BadRequest, &b""[..]),
        (Status::Forbidden, b""),
        (Status::Other(0x99), b"garbage"),
        (
            Status::InternalError,
            b"\x82\xA6detail\xE4\xA3sub\xA9device-io",
        ),
    ] {
        let mut bench = Bench::new(9);
        bench.iso(1, IN, &row(2));
        bench
            .respond(1, status, payload.to_vec())
            .expect("an answer");
        let ret = bench.ret();
        assert_eq!(ret.summary(), (-errno, 0, 2, 2), "{status}");
        assert_eq!(
            ret.packets,
            [(0, 192, 0, -errno), (192, 192, 0, -errno)],
            "{status}"
        );
    }
    let mut bench = Bench::new(9);
    bench.iso(1, IN, &row(2));
    assert!(matches!(
        bench.respond(1, Status::ServiceUnavailable, GONE.to_vec()),
        Err(Fatal::DeviceGone)
    ));
}

#[test]
fn an_unlinked_transfer_that_moved_nothing_is_only_unlinked() {
    let cancelled = iso_reply(-104, &[(0, -18), (0, -18)], &[]);
    for (status, payload) in [
        (Status::Ok, cancelled),
        (Status::Timeout, CANCELLED.to_vec()),
        (Status::Timeout, TIMEOUT.to_vec()),
    ] {
        let mut bench = Bench::new(9);
        bench.iso(1, IN, &row(2));
        bench.unlink(2, 1);
        assert_eq!(bench.cancelled(), [1]);
        bench.respond(1, status, payload).expect("an answer");
        assert_eq!(bench.told(), [Told::Unlink(2, -104)]);
    }
}

#[test]
fn the_packets_of_a_half_done_unlinked_transfer_are_kept() {
    let mut bench = Bench::new(9);
    bench.iso(1, IN, &row(2));
    bench.unlink(2, 1);
    bench.iso_answer(1, -104, &[(2, 0), (0, -18)], b"ha");
    assert_eq!(
        bench.told(),
        [Told::Submit(1, -104, b"ha".to_vec()), Told::Unlink(2, 0)]
    );
}

#[test]
fn a_stream_that_is_stopped_has_no_late_packets() {
    let mut bench = Bench::new(9);
    bench.iso(1, IN, &row(2));
    bench.iso(2, IN, &row(2));
    bench.unlink(3, 1);
    bench.iso_answer(1, -104, &[(2, 0), (0, -18)], b"ha");
    assert_eq!(bench.urbs.late.total(), 0);
    bench.iso_answer(2, 0, &[(2, 0), (0, -18)], b"ha");
    assert_eq!(bench.urbs.late.total(), 1);
}

#[test]
fn a_transfer_that_was_never_sent_is_unlinked_at_once() {
    let mut bench = Bench::new(0);
    bench.iso(1, OUT, &row(1));
    bench.iso(2, OUT, &row(1));
    bench.unlink(3, 1);
    assert_eq!(bench.told(), [Told::Unlink(3, -104)]);
    bench.expire(Duration::from_millis(200));
    assert_eq!(
        bench.ret().head.seqnum,
        2,
        "nobody hears of the first again"
    );
}

#[test]
fn packets_outside_their_buffer_are_sent_nowhere() {
    let outside: [(u8, u32, Places); 5] = [
        (IN, 384, &[(0, 192), (193, 192)]),
        (OUT, 384, &[(0, 192), (193, 192)]),
        (IN, 384, &[(u32::MAX, 2), (0, 192)]),
        // What they may bring together would not fit.
        (IN, 384, &[(0, 200), (0, 200)]),
        (OUT, 16 << 20, &[(0, 16 << 20), (0, 1)]),
    ];
    for (ep, length, packets) in outside {
        let mut bench = Bench::new(9);
        let submit = iso_submit(1, ep, length, packets);
        let data = vec![0; submit.data_len() as usize];
        bench
            .try_submit(submit, &data, &descriptors(packets))
            .expect("a refused URB");
        let ret = bench.ret();
        assert_eq!(ret.summary(), (-libc::ESHUTDOWN, 0, 2, 2), "{packets:?}");
        let own: Vec<_> = packets
            .iter()
            .map(|(offset, length)| (*offset, *length, 0, -libc::ESHUTDOWN))
            .collect();
        assert_eq!(ret.packets, own);
        assert_eq!(bench.requests(), []);
    }
}

#[test]
fn packets_where_none_belong_come_back_all_the_same() {
    let mut bench = Bench::new(9);
    let packets = row(2);
    for (seqnum, ep) in [(1, 1), (2, 9)] {
        let submit = Submit {
            input: true,
            ..iso_submit(seqnum, ep, 384, &packets)
        };
        bench
            .try_submit(submit, &[], &descriptors(&packets))
            .expect("a refused URB");
        assert_eq!(bench.ret().summary(), (-libc::ESHUTDOWN, 0, 2, 2));
    }
    let none = iso_submit(3, IN, 384, &[]);
    bench.try_submit(none, &[], &[]).expect("a refused URB");
    assert_eq!(bench.ret().summary(), (-libc::ESHUTDOWN, 0, 0, 0));
    assert_eq!(bench.requests(), []);
}

#[test]
fn a_request_beyond_the_servers_limits_fails_with_its_packets() {
    let mut bench = Bench::new(9);
    bench.iso(1, OUT, &[(0, 100_000), (100_000, 100_000)]);
    assert_eq!(bench.ret().summary(), (-libc::ESHUTDOWN, 0, 2, 2));
}
