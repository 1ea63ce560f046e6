//! Isochronous URBs: what the server is asked, what the kernel is told, and what of an answer is
//! not believed.

mod any;
mod ending;

use super::*;
use crate::bus::usb::op::{IsoPacket, IsoReply, IsoTransfer};
use crate::kernel::usbip_pdu::{ISO_ASAP, ISO_DESCRIPTOR, IsoDescriptor};
use crate::wire::limits::UNDECLARED_REPLY;

const IN: u8 = 4;
const OUT: u8 = 5;

/// Descriptors as a driver leaves them: the results are those of the URB's last use.
fn descriptors(packets: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (offset, length) in packets {
        IsoDescriptor {
            offset: *offset,
            length: *length,
            actual_length: 99,
            status: -115,
        }
        .write(&mut bytes);
    }
    bytes
}

/// Packets of 192 bytes, one behind the other.
fn row(count: u32) -> Vec<(u32, u32)> {
    (0..count).map(|packet| (packet * 192, 192)).collect()
}

fn iso_submit(seqnum: u32, ep: u8, length: u32, packets: &[(u32, u32)]) -> Submit {
    Submit {
        packets: u32::try_from(packets.len()).expect("few packets"),
        transfer_flags: ISO_ASAP,
        interval: 1,
        ..submit(seqnum, ep, ep == IN, length)
    }
}

fn iso_reply(status: i32, packets: &[(u32, i32)], data: &[u8]) -> Vec<u8> {
    let reply = IsoReply {
        status,
        start_frame: 1234,
        errors: 77,
        packets: packets
            .iter()
            .map(|(actual, status)| IsoPacket {
                actual: *actual,
                status: *status,
            })
            .collect(),
        data: 0..0,
    };
    let mut payload = Vec::new();
    reply.encode(u32::try_from(data.len()).expect("short data"), &mut payload);
    payload.extend_from_slice(data);
    payload
}

/// One `RET_SUBMIT` with all that follows its header.
#[derive(Debug, PartialEq, Eq)]
struct Ret {
    head: RetSubmit,
    data: Vec<u8>,
    /// Offset, length, actual length, status.
    packets: Vec<(u32, u32, u32, i32)>,
}

impl Ret {
    /// The fields that the kernel looks at: status, actual length, packets, errors.
    fn summary(&self) -> (i32, u32, u32, u32) {
        let head = self.head;
        (
            head.status,
            head.actual_length,
            head.packets,
            head.error_count,
        )
    }
}

impl Bench {
    fn try_iso(&mut self, seqnum: u32, ep: u8, packets: &[(u32, u32)]) -> Result<(), Fatal> {
        let end = packets.iter().map(|(offset, length)| offset + length).max();
        let submit = iso_submit(seqnum, ep, end.unwrap_or(0), packets);
        let data: Vec<u8> = (0..submit.data_len())
            .map(|at| at.to_le_bytes()[0])
            .collect();
        self.try_submit(submit, &data, &descriptors(packets))
    }

    pub(super) fn iso(&mut self, seqnum: u32, ep: u8, packets: &[(u32, u32)]) {
        self.try_iso(seqnum, ep, packets).expect("an accepted URB");
    }

    pub(super) fn iso_answer(
        &mut self,
        corr: u32,
        status: i32,
        packets: &[(u32, i32)],
        data: &[u8],
    ) {
        self.respond(corr, Status::Ok, iso_reply(status, packets, data))
            .expect("an accepted reply");
    }

    fn requested(&self, at: usize) -> (IsoTransfer, Vec<u8>, Outgoing) {
        let sent = self.server.sent.borrow();
        let outgoing = sent.get(at).expect("a request").clone();
        let (transfer, data) = IsoTransfer::decode(&outgoing.payload).expect("a transfer");
        (transfer, data.to_vec(), outgoing.clone())
    }

    /// The next thing that the kernel was told, which must be the end of a URB.
    fn ret(&mut self) -> Ret {
        let messages: Vec<_> = self.urbs.messages().collect();
        let [message] = messages.as_slice() else {
            panic!("{messages:?} instead of one answer");
        };
        let (Return::Submit(head), data, descriptors) = message.parts() else {
            panic!("a URB is answered with RET_SUBMIT");
        };
        let fields = |packet: &[u8; ISO_DESCRIPTOR]| {
            let packet = IsoDescriptor::from_bytes(packet);
            (
                packet.offset,
                packet.length,
                packet.actual_length,
                packet.status,
            )
        };
        let (packets, []) = descriptors.as_chunks() else {
            panic!("half a descriptor");
        };
        Ret {
            head,
            data: data.to_vec(),
            packets: packets.iter().map(fields).collect(),
        }
    }
}

#[test]
fn a_read_becomes_one_timed_request() {
    let mut bench = Bench::new(9);
    bench.iso(1, IN, &row(8));
    let (transfer, data, outgoing) = bench.requested(0);
    assert_eq!(
        (outgoing.opcode, outgoing.class),
        (Opcode::UsbIsochronousTransfer, Class::Media)
    );
    assert_eq!((outgoing.timeout_ms, outgoing.deadline_ms), (0, 200));
    assert_eq!(transfer.ep.to_u8(), 0x84);
    assert_eq!((transfer.packets, data), (vec![192; 8], vec![]));
    assert_eq!((transfer.start_frame, transfer.ttl_ms), (None, 200));
}

#[test]
fn the_packets_of_a_write_are_gathered_by_their_offsets() {
    let mut bench = Bench::new(9);
    bench.iso(1, OUT, &[(10, 3), (0, 2), (20, 0), (30, 1)]);
    let (transfer, data, _) = bench.requested(0);
    assert_eq!(transfer.packets, [3, 2, 0, 1]);
    assert_eq!(data, [10, 11, 12, 0, 1, 30]);
}

#[test]
fn a_start_frame_counts_only_without_as_soon_as_possible() {
    for (transfer_flags, start_frame, expected) in [
        (ISO_ASAP, 77, None),
        (0, 77, Some(77)),
        (0, u32::MAX, Some(0x7FFF_FFFF)),
    ] {
        let mut bench = Bench::new(9);
        let packets = row(1);
        let submit = Submit {
            transfer_flags,
            start_frame,
            ..iso_submit(1, IN, 192, &packets)
        };
        bench
            .try_submit(submit, &[], &descriptors(&packets))
            .expect("an accepted URB");
        assert_eq!(bench.requested(0).0.start_frame, expected);
    }
}

#[test]
fn a_transfer_is_worth_sending_for_as_long_as_it_lasts() {
    for (speed, interval, expected) in [
        (Speed::Full, 1, 200),
        (Speed::Full, 8, 512),
        (Speed::High, 8, 200),
        (Speed::High, 64, 512),
        (Speed::Super, 1 << 15, 262_144),
        (Speed::Full, u32::MAX, u32::MAX),
    ] {
        let mut bench = Bench::at(speed, 9);
        let packets = row(64);
        let submit = Submit {
            interval,
            ..iso_submit(1, IN, 64 * 192, &packets)
        };
        bench
            .try_submit(submit, &[], &descriptors(&packets))
            .expect("an accepted URB");
        let (transfer, _, outgoing) = bench.requested(0);
        assert_eq!(
            (transfer.ttl_ms, outgoing.deadline_ms),
            (expected, expected),
            "{speed}, {interval}"
        );
    }
}

#[test]
fn an_answer_of_any_length_has_been_announced() {
    let mut bench = Bench::new(9);
    bench.iso(1, IN, &row(8));
    assert_eq!(bench.requested(0).2.reply_len, UNDECLARED_REPLY);
    let large: Vec<_> = (0..1024).map(|packet| (packet * 3072, 3072)).collect();
    bench.iso(2, IN, &large);
    let longest = iso_reply(i32::MIN, &[(u32::MAX, i32::MIN); 1024], &[]).len() + 1024 * 3072 + 4;
    let announced = bench.requested(1).2.reply_len;
    assert!(longest <= announced as usize, "{longest} > {announced}");
}

#[test]
fn the_kernel_gets_its_own_descriptors_back() {
    let mut bench = Bench::new(9);
    bench.iso(7, IN, &[(0, 4), (8, 4), (16, 4), (24, 4)]);
    bench.iso_answer(1, 0, &[(4, 0), (0, -71), (1, -75), (2, 0)], b"aaaabcc");
    assert_eq!(
        bench.ret(),
        Ret {
            head: RetSubmit {
                seqnum: 7,
                status: 0,
                actual_length: 7,
                start_frame: 1234,
                packets: 4,
                error_count: 2,
            },
            data: b"aaaabcc".to_vec(),
            packets: vec![(0, 4, 4, 0), (8, 4, 0, -71), (16, 4, 1, -75), (24, 4, 2, 0)],
        }
    );
}

#[test]
fn a_write_is_answered_with_its_packets_and_no_data() {
    let mut bench = Bench::new(9);
    bench.iso(7, OUT, &row(2));
    bench.iso_answer(1, 0, &[(192, 0), (0, -18)], &[]);
    let ret = bench.ret();
    assert_eq!(ret.summary(), (0, 192, 2, 1));
    assert!(ret.data.is_empty());
    assert_eq!(ret.packets, [(0, 192, 192, 0), (192, 192, 0, -18)]);
}

#[test]
fn several_transfers_are_in_flight_and_end_in_order() {
    let mut bench = Bench::new(9);
    for seqnum in 1..=5 {
        bench.iso(seqnum, IN, &row(1));
    }
    assert_eq!(bench.requests().len(), 5);
    for corr in [2, 4, 3] {
        bench.iso_answer(
            corr,
            0,
            &[(1, 0)],
            &[b'0' + u8::try_from(corr).expect("few")],
        );
    }
    assert_eq!(bench.told(), []);
    bench.iso_answer(1, 0, &[(1, 0)], b"1");
    bench.iso_answer(5, 0, &[(1, 0)], b"5");
    let expected: Vec<_> = (1..=5u8)
        .map(|urb| Told::Submit(u32::from(urb), 0, vec![b'0' + urb]))
        .collect();
    assert_eq!(bench.told(), expected);
}

#[test]
fn statuses_are_those_of_host_controllers() {
    for (urb, expected) in [
        (0, 0),
        (-18, 0),
        (-108, -108),
        (-19, -19),
        (-104, -71),
        (-32, -71),
        (5, -71),
        (i32::MIN, -71),
    ] {
        let mut bench = Bench::new(9);
        bench.iso(1, IN, &row(1));
        bench.iso_answer(1, urb, &[(0, -18)], &[]);
        assert_eq!(bench.ret().head.status, expected, "URB status {urb}");
    }
    for (packet, expected) in [
        (0, 0),
        (-18, -18),
        (-63, -63),
        (-84, -84),
        (-104, -71),
        (-1, -71),
        (-4095, -71),
        (1, -71),
        (i32::MIN, -71),
        (i32::MAX, -71),
    ] {
        let mut bench = Bench::new(9);
        bench.iso(1, IN, &row(1));
        bench.iso_answer(1, 0, &[(0, packet)], &[]);
        assert_eq!(bench.ret().packets[0].3, expected, "packet status {packet}");
    }
}

#[test]
fn an_answer_that_does_not_fit_its_request_ends_the_attachment() {
    let fatal = |ep, packets: &[(u32, i32)], data: &[u8]| {
        let mut bench = Bench::new(9);
        bench.iso(1, ep, &[(0, 4), (4, 4)]);
        let result = bench.respond(1, Status::Ok, iso_reply(0, packets, data));
        assert_eq!(bench.told(), [], "the kernel is told nothing of it");
        match result {
            Err(Fatal::Violation(violation)) => violation,
            other => panic!("{other:?} is no violation"),
        }
    };
    for packets in [&[(4, 0)][..], &[(4, 0), (0, 0), (0, 0)]] {
        assert!(matches!(
            fatal(IN, packets, b"aaaa"),
            Violation::Packets { asked: 2, .. }
        ));
    }
    assert!(matches!(
        fatal(IN, &[(5, 0), (0, 0)], b"aaaaa"),
        Violation::TooLong {
            asked: 4,
            actual: 5
        }
    ));
    assert!(matches!(
        fatal(OUT, &[(4, 0), (5, 0)], b""),
        Violation::TooLong { .. }
    ));
    assert!(matches!(
        fatal(IN, &[(4, 0), (1, 0)], b""),
        Violation::Data {
            expected: 5,
            found: 0
        }
    ));
    assert!(matches!(
        fatal(IN, &[(4, 0), (1, 0)], b"aaaa"),
        Violation::Payload(OpError::Length)
    ));
    assert!(matches!(
        fatal(OUT, &[(4, 0), (1, 0)], b"aaaaa"),
        Violation::Data { expected: 0, .. }
    ));
}
