//! How an attachment ends, whoever ends it.

use myclerk::bus::Inbound;
use myclerk::bus::usb::client::{Ended, KernelFault, Violation};
use myclerk::kernel::usbip_pdu::{Command, PduError};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kernel::urb;
use crate::rig::{Done, Rig, Server, run};

/// Breaks the protocol in the answer to the given request.
type HostileAnswer = fn(&Server, u32);

#[test]
fn detaching_frees_the_port_and_gives_the_device_back() {
    run(async {
        let mut rig = Rig::new();
        rig.kernel.read(1, 1, 64).await;
        rig.server.request(Opcode::UsbBulkTransfer).await;
        rig.attachment.handle().detach();
        rig.server.farewell().await;
        assert!(matches!(rig.attachment.ended().await, Ended::Detached));
        assert_eq!(rig.sysfs.written("detach"), "3");
        let mut rest = Vec::new();
        rig.kernel
            .socket
            .read_to_end(&mut rest)
            .await
            .expect("the end of the stream");
        assert!(rest.is_empty());
    });
}

#[test]
fn a_port_that_the_kernel_frees_gives_the_device_back() {
    run(async {
        let mut rig = Rig::new();
        rig.kernel.socket.shutdown().await.expect("a shutdown");
        rig.server.farewell().await;
        assert!(matches!(rig.attachment.ended().await, Ended::Kernel));
    });
}

#[test]
fn a_stream_cut_inside_a_message_is_an_end_like_another() {
    run(async {
        let mut rig = Rig::new();
        let header = Command::Submit(urb(1, 2, false, 100)).to_bytes();
        for cut in [&header[..20], &header[20..], b"abc"] {
            rig.kernel.socket.write_all(cut).await.expect("a piece");
        }
        rig.kernel.socket.shutdown().await.expect("a shutdown");
        rig.server.farewell().await;
        assert!(matches!(rig.attachment.ended().await, Ended::Kernel));
    });
}

#[test]
fn garbage_from_the_kernel_ends_the_attachment() {
    run(async {
        let mut rig = Rig::new();
        let mut header = Command::Submit(urb(1, 2, false, 4)).to_bytes();
        header[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        rig.kernel
            .socket
            .write_all(&header)
            .await
            .expect("a written header");
        rig.server.farewell().await;
        assert!(matches!(
            rig.attachment.ended().await,
            Ended::KernelFault(KernelFault::Pdu(PduError::Buffer(u32::MAX)))
        ));
    });
}

#[test]
fn a_server_that_breaks_the_protocol_loses_the_device() {
    let hostile: [(&str, HostileAnswer); 4] = [
        ("too long", |server, corr| {
            server.reply(corr, 0, 65, &[1; 65]);
        }),
        ("data that is not there", |server, corr| {
            server.reply(corr, 0, 5, &[]);
        }),
        ("unknown request", |server, corr| {
            server.reply(corr + 1, 0, 0, &[]);
        }),
        ("garbage", |server, corr| {
            server.respond(corr, Status::Ok, vec![0xC1; 30]);
        }),
    ];
    for (what, answer) in hostile {
        run(async move {
            let mut rig = Rig::new();
            rig.kernel.read(1, 1, 64).await;
            let (corr, _) = rig.server.request(Opcode::UsbBulkTransfer).await;
            answer(&rig.server, corr);
            let Done::Reset(status) = rig.server.next().await else {
                panic!("{what}: no reset");
            };
            assert_eq!(status, Status::BadRequest);
            let ended = rig.attachment.ended().await;
            assert!(matches!(ended, Ended::Violation(_)), "{what}: {ended:?}");
            let mut rest = Vec::new();
            rig.kernel
                .socket
                .read_to_end(&mut rest)
                .await
                .expect("the end of the stream");
            assert!(rest.is_empty(), "{what}: the kernel was told something");
            assert_eq!(rig.sysfs.written("detach"), "3");
        });
    }
}

#[test]
fn a_violation_names_its_cause() {
    run(async {
        let mut rig = Rig::new();
        rig.kernel.read(1, 1, 4).await;
        let (corr, _) = rig.server.request(Opcode::UsbBulkTransfer).await;
        rig.server.reply(corr, 0, 5, b"12345");
        let ended = rig.attachment.ended().await;
        assert!(matches!(
            ended,
            Ended::Violation(Violation::TooLong {
                asked: 4,
                actual: 5
            })
        ));
    });
}

#[test]
fn the_end_of_the_session_frees_the_port() {
    for end in [
        Inbound::Closed,
        Inbound::Reset {
            status: Status::Forbidden,
        },
    ] {
        run(async move {
            let mut rig = Rig::new();
            rig.server.send(end.clone());
            let ended = rig.attachment.ended().await;
            match end {
                Inbound::Reset { status } => {
                    assert!(matches!(ended, Ended::Reset(found) if found == status));
                }
                _ => assert!(matches!(ended, Ended::SessionClosed)),
            }
            assert_eq!(rig.sysfs.written("detach"), "3");
            assert!(
                rig.server.done.recv().await.is_none(),
                "there is nobody left to talk to"
            );
        });
    }
}

#[test]
fn an_unplugged_device_is_unplugged_here_too() {
    run(async {
        let mut rig = Rig::new();
        rig.kernel.read(1, 1, 4).await;
        let (corr, _) = rig.server.request(Opcode::UsbBulkTransfer).await;
        rig.server.respond(
            corr,
            Status::ServiceUnavailable,
            b"\x81\xA3sub\xABdevice-gone".to_vec(),
        );
        rig.server.farewell().await;
        assert!(matches!(rig.attachment.ended().await, Ended::DeviceGone));
    });
}
