//! Isochronous URBs on their way between kernel and server.

use myclerk::bus::usb::client::{Ended, Violation};
use myclerk::bus::usb::op::{IsoPacket, IsoReply, IsoTransfer};
use myclerk::kernel::usbip_pdu::{Command, IsoDescriptor, RetSubmit, Return};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kernel::{Kernel, iso_urb};
use crate::rig::{Done, Rig, Server, run};

pub(crate) fn packet(offset: u32, length: u32, actual_length: u32, status: i32) -> IsoDescriptor {
    IsoDescriptor {
        offset,
        length,
        actual_length,
        status,
    }
}

/// Packets as a driver leaves them before a URB's next use.
fn packets(places: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (offset, length) in places {
        packet(*offset, *length, 0, -libc::EXDEV).write(&mut bytes);
    }
    bytes
}

impl Kernel {
    async fn iso(&mut self, seqnum: u32, input: bool, data: &[u8], places: &[(u32, u32)]) {
        self.iso_on(seqnum, 4, input, data, places).await;
    }

    /// A URB whose buffer ends with its last packet.
    pub(crate) async fn iso_on(
        &mut self,
        seqnum: u32,
        ep: u8,
        input: bool,
        data: &[u8],
        places: &[(u32, u32)],
    ) {
        let end = places.iter().map(|(offset, length)| offset + length).max();
        let count = u32::try_from(places.len()).expect("few packets");
        let submit = iso_urb(seqnum, ep, input, end.unwrap_or(0), count);
        let body = [data, &packets(places)].concat();
        self.send(Command::Submit(submit), &body).await;
    }
}

impl Server {
    async fn iso(&mut self) -> (u32, IsoTransfer, Vec<u8>) {
        let (corr, payload) = self.request(Opcode::UsbIsochronousTransfer).await;
        let (transfer, data) = IsoTransfer::decode(&payload).expect("an isochronous transfer");
        (corr, transfer, data.to_vec())
    }

    fn iso_reply(&self, corr: u32, status: i32, results: &[(u32, i32)], data: &[u8]) {
        let result = |(actual, status): &(u32, i32)| IsoPacket {
            actual: *actual,
            status: *status,
        };
        let reply = IsoReply {
            status,
            start_frame: 9,
            errors: 0,
            packets: results.iter().map(result).collect(),
            data: 0..0,
        };
        let mut payload = Vec::new();
        reply.encode(u32::try_from(data.len()).expect("short data"), &mut payload);
        payload.extend_from_slice(data);
        self.respond(corr, Status::Ok, payload);
    }
}

const fn ended(seqnum: u32, actual_length: u32, packets: u32, error_count: u32) -> Return {
    Return::Submit(RetSubmit {
        seqnum,
        status: 0,
        actual_length,
        start_frame: 9,
        packets,
        error_count,
    })
}

#[test]
fn samples_stream_in_both_directions_with_several_transfers_in_flight() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let mut corrs = Vec::new();
        for round in 0..8u8 {
            let seqnum = u32::from(round) * 2;
            // The driver leaves room between the packets; only their own bytes travel.
            let buffer = [&[round; 4][..], b"....", &[round + 100; 4]].concat();
            kernel.iso(seqnum, false, &buffer, &[(0, 4), (8, 4)]).await;
            kernel.iso(seqnum + 1, true, &[], &[(0, 6), (6, 6)]).await;
            let (write, transfer, data) = server.iso().await;
            assert_eq!(transfer.packets, [4, 4]);
            assert_eq!(data, [[round; 4], [round + 100; 4]].concat());
            let (read, transfer, data) = server.iso().await;
            assert_eq!((transfer.packets, data), (vec![6, 6], vec![]));
            corrs.push((seqnum, write, read));
        }
        // Answers that overtake each other are put back into order.
        for (_, write, read) in corrs.iter().rev() {
            server.iso_reply(*write, 0, &[(4, 0), (4, 0)], &[]);
            server.iso_reply(*read, 0, &[(2, 0), (1, -libc::EOVERFLOW)], b"abc");
        }
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let (answer, data) = kernel.answer().await;
            let packets = kernel.descriptors(2, 12).await;
            let Return::Submit(ret) = answer else {
                panic!("{answer:?}");
            };
            if ret.seqnum % 2 == 0 {
                assert_eq!(answer, ended(ret.seqnum, 8, 2, 0));
                assert_eq!(packets, [packet(0, 4, 4, 0), packet(8, 4, 4, 0)]);
                writes.push(ret.seqnum);
            } else {
                assert_eq!(answer, ended(ret.seqnum, 3, 2, 1));
                assert_eq!(data, b"abc");
                let babbled = packet(6, 6, 1, -libc::EOVERFLOW);
                assert_eq!(packets, [packet(0, 6, 2, 0), babbled]);
                reads.push(ret.seqnum);
            }
        }
        assert!(writes.is_sorted() && reads.is_sorted());
    });
}

#[test]
fn packets_behind_data_may_arrive_in_any_pieces() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let mut bytes = Vec::new();
        for seqnum in 1..=20u8 {
            let submit = iso_urb(u32::from(seqnum), 4, false, 30, 3);
            bytes.extend_from_slice(&Command::Submit(submit).to_bytes());
            bytes.extend_from_slice(&[seqnum; 30]);
            bytes.extend_from_slice(&packets(&[(0, 10), (10, 10), (20, 10)]));
        }
        for piece in bytes.chunks(11) {
            kernel.socket.write_all(piece).await.expect("a piece");
            tokio::task::yield_now().await;
        }
        for seqnum in 1..=20u8 {
            let (_, transfer, data) = server.iso().await;
            assert_eq!((transfer.packets, data), (vec![10; 3], vec![seqnum; 30]));
        }
    });
}

#[test]
fn the_most_packets_of_a_transfer_come_back_all() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let places: Vec<_> = (0..1024).map(|packet| (packet * 3072, 3072)).collect();
        kernel.iso(1, true, &[], &places).await;
        let (corr, transfer, _) = server.iso().await;
        assert_eq!(transfer.packets.len(), 1024);
        let data = vec![7; 1024 * 3072];
        server.iso_reply(corr, 0, &[(3072, 0); 1024], &data);
        let (answer, found) = kernel.answer().await;
        assert_eq!(answer, ended(1, 1024 * 3072, 1024, 0));
        assert_eq!(found, data);
        let back = kernel.descriptors(1024, 1024 * 3072).await;
        assert_eq!(back.last(), Some(&packet(1023 * 3072, 3072, 3072, 0)));
    });
}

#[test]
fn an_unlinked_transfer_ends_as_the_server_says() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let mut corrs = Vec::new();
        for seqnum in 1..=3 {
            kernel.iso(seqnum, true, &[], &[(0, 4), (4, 4)]).await;
            corrs.push(server.iso().await.0);
        }
        for (seqnum, target) in [(10, 1), (11, 2), (12, 3)] {
            kernel.unlink(seqnum, target).await;
        }
        for corr in &corrs {
            assert!(matches!(server.next().await, Done::Cancel(cancelled) if cancelled == *corr));
        }
        // Given up before it began, in the middle, and not at all.
        server.iso_reply(corrs[0], -libc::ECONNRESET, &[(0, -libc::EXDEV); 2], &[]);
        kernel.expect_unlink(10, -libc::ECONNRESET).await;
        let half = [(2, 0), (0, -libc::EXDEV)];
        server.iso_reply(corrs[1], -libc::ECONNRESET, &half, b"ab");
        kernel.expect(2, -libc::ECONNRESET, b"ab").await;
        let back = kernel.descriptors(2, 8).await;
        assert_eq!(back, [packet(0, 4, 2, 0), packet(4, 4, 0, -libc::EXDEV)]);
        kernel.expect_unlink(11, 0).await;
        server.iso_reply(corrs[2], 0, &[(1, 0), (1, 0)], b"cd");
        kernel.expect(3, 0, b"cd").await;
        kernel.descriptors(2, 8).await;
        kernel.expect_unlink(12, 0).await;
    });
}

#[test]
fn a_refused_transfer_keeps_the_stream_of_messages_in_step() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        // A packet outside of the buffer, then the server's refusal, then a good one.
        let submit = iso_urb(1, 4, false, 8, 2);
        let body = [&b"12345678"[..], &packets(&[(0, 4), (6, 4)])].concat();
        kernel.send(Command::Submit(submit), &body).await;
        kernel.expect(1, -libc::ESHUTDOWN, &[]).await;
        let back = kernel.descriptors(2, 10).await;
        assert_eq!(back[1], packet(6, 4, 0, -libc::ESHUTDOWN));
        kernel.iso(2, true, &[], &[(0, 4)]).await;
        let (corr, ..) = server.iso().await;
        server.respond(corr, Status::BadRequest, vec![]);
        kernel.expect(2, -libc::ESHUTDOWN, &[]).await;
        assert_eq!(
            kernel.descriptors(1, 4).await,
            [packet(0, 4, 0, -libc::ESHUTDOWN)]
        );
        kernel.iso(3, true, &[], &[(0, 4)]).await;
        let (corr, ..) = server.iso().await;
        server.iso_reply(corr, 0, &[(4, 0)], b"good");
        kernel.expect(3, 0, b"good").await;
    });
}

#[test]
fn a_server_that_invents_packets_or_samples_loses_the_device() {
    type Results = &'static [(u32, i32)];
    let hostile: [(&str, Results, &[u8]); 5] = [
        ("a packet too many", &[(1, 0), (1, 0), (0, 0)], b"ab"),
        ("a packet too few", &[(2, 0)], b"ab"),
        ("a packet too long", &[(5, 0), (0, 0)], b"abcde"),
        ("samples that are not there", &[(4, 0), (4, 0)], b""),
        ("no packets", &[], b""),
    ];
    for (what, results, data) in hostile {
        run(async move {
            let mut rig = Rig::new();
            rig.kernel.iso(1, true, &[], &[(0, 4), (4, 4)]).await;
            let (corr, ..) = rig.server.iso().await;
            rig.server.iso_reply(corr, 0, results, data);
            assert!(matches!(
                rig.server.next().await,
                Done::Reset(Status::BadRequest)
            ));
            let ended = rig.attachment.ended().await;
            assert!(
                matches!(
                    ended,
                    Ended::Violation(
                        Violation::Packets { .. }
                            | Violation::TooLong { .. }
                            | Violation::Data { .. }
                            | Violation::Payload(_)
                    )
                ),
                "{what}: {ended:?}"
            );
            let mut rest = Vec::new();
            let read = rig.kernel.socket.read_to_end(&mut rest).await;
            read.expect("the end of the stream");
            assert!(rest.is_empty(), "{what}: the kernel was told something");
        });
    }
}
