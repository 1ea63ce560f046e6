//! The shortest and the longest transfers, and the flags that change where they end.

use myclerk::bus::usb::op::{
    BulkTransfer, ControlTransfer, InterruptTransfer, MAX_TRANSFER, TransferFlags,
};
use myclerk::kernel::usbip_pdu::{Command, Return, SHORT_NOT_OK, Submit, ZERO_PACKET};
use myclerk::wire::opcode::Opcode;

use crate::kernel::urb;
use crate::rig::{Rig, run};

/// Endpoint and operation of the bulk and of the interrupt pipe: read from, written to.
const PIPES: [(u8, u8, Opcode); 2] = [
    (1, 2, Opcode::UsbBulkTransfer),
    (3, 3, Opcode::UsbInterruptTransfer),
];

/// Length and flags of a bulk or interrupt transfer.
fn transfer(opcode: Opcode, payload: &[u8]) -> (u32, TransferFlags, usize) {
    if opcode == Opcode::UsbBulkTransfer {
        let (transfer, data) = BulkTransfer::decode(payload).expect("a bulk transfer");
        (transfer.len, transfer.flags, data.len())
    } else {
        let (transfer, data) = InterruptTransfer::decode(payload).expect("an interrupt transfer");
        (transfer.len, transfer.flags, data.len())
    }
}

#[test]
fn empty_transfers_reach_the_device_like_others() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        for (input, output, opcode) in PIPES {
            kernel.read(1, input, 0).await;
            let (corr, payload) = server.request(opcode).await;
            assert_eq!(transfer(opcode, &payload).0, 0);
            server.reply(corr, 0, 0, &[]);
            kernel.expect(1, 0, &[]).await;
            kernel.write(2, output, &[]).await;
            let (corr, payload) = server.request(opcode).await;
            assert_eq!(transfer(opcode, &payload).0, 0);
            server.reply(corr, 0, 0, &[]);
            kernel.expect(2, 0, &[]).await;
            // A read may bring nothing although there was room.
            kernel.read(3, input, 64).await;
            let (corr, _) = server.request(opcode).await;
            server.reply(corr, 0, 0, &[]);
            kernel.expect(3, 0, &[]).await;
        }
    });
}

#[test]
fn short_reads_and_closing_packets_are_asked_for_where_they_have_a_meaning() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        let both = SHORT_NOT_OK | ZERO_PACKET;
        for (input, output, opcode) in PIPES {
            for (ep, from_device) in [(input, true), (output, false)] {
                let submit = Submit {
                    transfer_flags: both,
                    ..urb(1, ep, from_device, 64)
                };
                let data = vec![0; submit.data_len() as usize];
                kernel.send(Command::Submit(submit), &data).await;
                let (corr, payload) = server.request(opcode).await;
                let expected = TransferFlags {
                    short_not_ok: from_device,
                    zero_packet: !from_device,
                };
                assert_eq!(transfer(opcode, &payload).1, expected);
                if from_device {
                    // What arrived before the error belongs to the driver.
                    server.reply(corr, -libc::EREMOTEIO, 3, b"abc");
                    kernel.expect(1, -libc::EREMOTEIO, b"abc").await;
                } else {
                    server.reply(corr, 0, 64, &[]);
                    kernel.expect(1, 0, &[]).await;
                }
                kernel.reads.clear();
            }
        }
    });
}

#[test]
fn control_transfers_have_any_length() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        for length in [0, 1, 63, 64, 4096, 4097, u16::MAX] {
            let [low, high] = length.to_le_bytes();
            let data: Vec<u8> = (0..length).map(|at| at.to_be_bytes()[1]).collect();
            kernel.control(1, [0xC0, 1, 0, 0, 0, 0, low, high]).await;
            let (corr, payload) = server.request(Opcode::UsbControlTransfer).await;
            let (transfer, none) = ControlTransfer::decode(&payload).expect("a transfer");
            assert_eq!((transfer.len, none.len()), (u32::from(length), 0));
            server.reply(corr, 0, data.len(), &data);
            kernel.expect(1, 0, &data).await;
            kernel.reads.clear();

            let submit = Submit {
                setup: [0x40, 1, 0, 0, 0, 0, low, high],
                ..urb(2, 0, false, u32::from(length))
            };
            kernel.send(Command::Submit(submit), &data).await;
            let (corr, payload) = server.request(Opcode::UsbControlTransfer).await;
            let (_, written) = ControlTransfer::decode(&payload).expect("a transfer");
            assert_eq!(written, data);
            server.reply(corr, 0, data.len(), &[]);
            kernel.expect(2, 0, &[]).await;
        }
    });
}

/// Disks end at 120 KiB, at super speed at 1 MiB, tapes at 2 MiB: 32 segments of 64 KiB. A buffer
/// from `kmalloc`, such as usbfs has, ends at 4 MiB. Only the scatter lists of `usbtest` can be made
/// longer.
#[test]
fn the_longest_transfers_pass_whole() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        for length in [65_536, 120 << 10, 2 << 20, 4 << 20, MAX_TRANSFER] {
            let data: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[2] ^ 0x5A).collect();
            kernel.write(1, 2, &data).await;
            let (corr, payload) = server.request(Opcode::UsbBulkTransfer).await;
            assert!(payload.ends_with(&data));
            server.reply(corr, 0, data.len(), &[]);
            kernel.expect(1, 0, &[]).await;
            kernel.read(2, 1, length).await;
            let (corr, _) = server.request(Opcode::UsbBulkTransfer).await;
            server.reply(corr, 0, data.len(), &data);
            kernel.expect(2, 0, &data).await;
            kernel.reads.clear();
        }
    });
}

#[test]
fn a_transfer_longer_than_any_other_fails_alone() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        kernel.read(1, 1, MAX_TRANSFER + 1).await;
        kernel.expect(1, -libc::EMSGSIZE, &[]).await;
        kernel
            .write(2, 2, &vec![0; MAX_TRANSFER as usize + 1])
            .await;
        kernel.expect(2, -libc::EMSGSIZE, &[]).await;
        kernel.write(3, 2, b"next").await;
        let (corr, payload) = server.request(Opcode::UsbBulkTransfer).await;
        assert!(payload.ends_with(b"next"));
        server.reply(corr, 0, 4, &[]);
        kernel.expect(3, 0, &[]).await;
    });
}

/// USB/IP knows a limit, but the sending kernel does not look at it.
#[test]
fn a_transfer_of_too_many_packets_fails_alone() {
    run(async {
        let Rig {
            mut kernel,
            mut server,
            ..
        } = Rig::new();
        for (seqnum, input, count) in [(1, true, 1025), (2, false, 1025), (3, true, 100_000)] {
            let data: &[u8] = if input { &[] } else { b"data" };
            let places = vec![(0, 4); count];
            kernel.iso_on(seqnum, 4, input, data, &places).await;
            let (answer, _) = kernel.answer().await;
            let Return::Submit(ret) = answer else {
                panic!("{answer:?}");
            };
            let found = (ret.seqnum, ret.status, ret.actual_length, ret.packets);
            assert_eq!(found, (seqnum, -libc::EMSGSIZE, 0, 0));
        }
        kernel.write(4, 2, b"next").await;
        let (corr, payload) = server.request(Opcode::UsbBulkTransfer).await;
        assert!(payload.ends_with(b"next"));
        server.reply(corr, 0, 4, &[]);
        kernel.expect(4, 0, &[]).await;
    });
}
