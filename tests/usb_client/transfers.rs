//! Transfers on their way between kernel and server.

use myclerk::bus::Inbound;
use myclerk::bus::usb::op::{BulkTransfer, ControlTransfer};
use myclerk::kernel::usbip_pdu::{Command, RetSubmit, Return};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::io::AsyncWriteExt;

use crate::kernel::urb;
use crate::rig::{DEVICE, Done, Rig, run};

#[test]
fn a_device_is_enumerated_through_control_transfers() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        kernel.control(1, [0x80, 6, 0, 1, 0, 0, 64, 0]).await;
        let (corr, payload) = server.request(Opcode::UsbControlTransfer).await;
        let (transfer, _) = ControlTransfer::decode(&payload).expect("a control transfer");
        assert_eq!((transfer.setup.value, transfer.len), (0x0100, 64));
        server.reply(corr, 0, DEVICE.len(), DEVICE);
        kernel.expect(1, 0, DEVICE).await;

        kernel.control(2, [0x00, 9, 1, 0, 0, 0, 0, 0]).await;
        let (corr, _) = server.request(Opcode::UsbControlTransfer).await;
        server.reply(corr, 0, 0, &[]);
        kernel.expect(2, 0, &[]).await;

        // A request that the device does not know.
        kernel.control(3, [0x80, 6, 0, 6, 0, 0, 10, 0]).await;
        let (corr, _) = server.request(Opcode::UsbControlTransfer).await;
        server.reply(corr, -libc::EPIPE, 0, &[]);
        kernel.expect(3, -libc::EPIPE, &[]).await;
    });
}

#[test]
fn many_transfers_are_in_flight_on_both_endpoints() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let sizes = [31usize, 512, 4097, 65_536, 1 << 20, 1, 0];
        let mut seqnum = 0;
        let mut expected = Vec::new();
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
            kernel.read(seqnum, 1, 4096).await;
            kernel.write(seqnum + 1, 2, &data).await;
            let (read, _) = server.request(Opcode::UsbBulkTransfer).await;
            let (write, payload) = server.request(Opcode::UsbBulkTransfer).await;
            let (_, arrived) = BulkTransfer::decode(&payload).expect("a bulk transfer");
            assert_eq!(arrived, data);
            expected.push((seqnum, read, write, size));
            seqnum += 2;
        }
        for (_, _, write, size) in &expected {
            server.reply(*write, 0, *size, &[]);
        }
        for (_, read, _, size) in &expected {
            let data = vec![9; (*size).min(4096)];
            server.reply(*read, 0, data.len(), &data);
        }
        for (seqnum, _, _, _) in &expected {
            kernel.expect(seqnum + 1, 0, &[]).await;
        }
        for (seqnum, _, _, size) in &expected {
            kernel.expect(*seqnum, 0, &vec![9; (*size).min(4096)]).await;
        }
    });
}

#[test]
fn messages_may_arrive_in_any_pieces() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let mut bytes = Vec::new();
        for seqnum in 1..=40u8 {
            let data = vec![seqnum; usize::from(seqnum) * 3];
            let length = u32::try_from(data.len()).expect("a short write");
            let submit = Command::Submit(urb(u32::from(seqnum), 2, false, length));
            bytes.extend_from_slice(&submit.to_bytes());
            bytes.extend_from_slice(&data);
        }
        for piece in bytes.chunks(7) {
            kernel.socket.write_all(piece).await.expect("a piece");
            tokio::task::yield_now().await;
        }
        for seqnum in 1..=40u8 {
            let (_, payload) = server.request(Opcode::UsbBulkTransfer).await;
            let (_, data) = BulkTransfer::decode(&payload).expect("a bulk transfer");
            assert_eq!(data, vec![seqnum; usize::from(seqnum) * 3]);
        }
    });
}

#[test]
fn an_answer_larger_than_the_socket_buffer_arrives_whole() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let data: Vec<u8> = (0..4u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
        for seqnum in 1..=3 {
            kernel.read(seqnum, 1, 4 << 20).await;
            let (corr, _) = server.request(Opcode::UsbBulkTransfer).await;
            server.reply(corr, 0, data.len(), &data);
        }
        for seqnum in 1..=3 {
            kernel.expect(seqnum, 0, &data).await;
        }
    });
}

#[test]
fn unlinks_are_answered_by_what_the_server_made_of_them() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let mut corrs = Vec::new();
        for seqnum in 1..=3 {
            kernel.read(seqnum, 1, 64).await;
            corrs.push(server.request(Opcode::UsbBulkTransfer).await.0);
        }
        // The first has completed, the second is given up, the third wins the race.
        server.reply(corrs[0], 0, 1, b"a");
        kernel.expect(1, 0, b"a").await;
        for (seqnum, target) in [(10, 1), (11, 2), (12, 2), (13, 3)] {
            kernel.unlink(seqnum, target).await;
        }
        kernel.expect_unlink(10, 0).await;
        for corr in &corrs[1..] {
            assert!(matches!(server.next().await, Done::Cancel(cancelled) if cancelled == *corr));
        }
        server.reply(corrs[1], -libc::ECONNRESET, 0, &[]);
        server.reply(corrs[2], 0, 1, b"c");
        kernel.expect_unlink(11, -libc::ECONNRESET).await;
        kernel.expect_unlink(12, -libc::ECONNRESET).await;
        kernel.expect(3, 0, b"c").await;
        kernel.expect_unlink(13, 0).await;
        // A URB that was over long ago.
        kernel.unlink(14, 1).await;
        kernel.expect_unlink(14, 0).await;
    });
}

#[test]
fn a_urb_that_the_server_had_no_room_for_is_unlinked_without_it() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        kernel.read(1, 1, 64).await;
        let (first, _) = server.request(Opcode::UsbBulkTransfer).await;
        server.full.set(true);
        kernel.read(2, 1, 64).await;
        kernel.write(3, 2, b"waits").await;
        kernel.unlink(4, 2).await;
        kernel.expect_unlink(4, -libc::ECONNRESET).await;
        // Once more, of what is gone by now.
        kernel.unlink(5, 2).await;
        kernel.expect_unlink(5, 0).await;
        server.full.set(false);
        server.reply(first, 0, 1, b"a");
        kernel.expect(1, 0, b"a").await;
        let (corr, payload) = server.request(Opcode::UsbBulkTransfer).await;
        assert!(
            payload.ends_with(b"waits"),
            "the unlinked one was never sent"
        );
        server.reply(corr, 0, 5, &[]);
        kernel.expect(3, 0, &[]).await;
    });
}

#[test]
fn an_unlink_that_crosses_the_completion_finds_it_there() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        for seqnum in [1, 3, 5] {
            kernel.read(seqnum, 1, 64).await;
            let (corr, _) = server.request(Opcode::UsbBulkTransfer).await;
            // The answer is on its way to the kernel when the kernel gives up.
            server.reply(corr, -libc::EPIPE, 0, &[]);
            kernel.unlink(seqnum + 1, seqnum).await;
            kernel.expect(seqnum, -libc::EPIPE, &[]).await;
            kernel.expect_unlink(seqnum + 1, 0).await;
        }
    });
}

#[test]
fn a_request_of_the_server_is_refused() {
    run(async {
        let mut rig = Rig::new();
        rig.server.send(Inbound::Request {
            corr: 7,
            opcode: Opcode::UsbDeviceAttach,
            payload: vec![],
            age_secs: 0,
        });
        assert!(matches!(
            rig.server.next().await,
            Done::Response(7, Status::BadRequest)
        ));
    });
}

#[test]
fn a_refused_urb_leaves_the_next_one_readable() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        kernel
            .write(1, 9, b"for an endpoint that does not exist")
            .await;
        kernel.expect(1, -libc::ESHUTDOWN, &[]).await;
        kernel.write(2, 2, b"data").await;
        let (corr, payload) = server.request(Opcode::UsbBulkTransfer).await;
        assert!(payload.ends_with(b"data"));
        server.reply(corr, 0, 4, &[]);
        let (answer, _) = kernel.answer().await;
        assert_eq!(
            answer,
            Return::Submit(RetSubmit {
                seqnum: 2,
                status: 0,
                actual_length: 4,
                start_frame: 0,
                packets: 0,
                error_count: 0,
            })
        );
    });
}
