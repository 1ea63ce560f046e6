//! A device on a port whose hub has used up its sequence numbers.

use std::rc::Rc;

use myclerk::bus::Inbound;
use myclerk::bus::usb::client::{self, Attachment, Ended};
use myclerk::kernel::vhci::{PortId, SEQNUM_LIMIT};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::rig::{DEVICE, Done, Server, device, run, stream};

const LIMIT: u32 = 100;

struct Bench {
    machine: Machine,
    kernel: Kernel,
    server: Server,
    attachment: Attachment,
}

impl Bench {
    async fn new(controllers: usize, limit: u32) -> Self {
        let mut machine = Machine::new(controllers, limit);
        let (outlet, inbound, server) = stream();
        let attachment =
            client::attach(&machine.vhci, &device(), outlet, inbound).expect("an attached device");
        let (port, kernel) = machine.plugged().await;
        assert_eq!(port, attachment.port());
        Self {
            machine,
            kernel,
            server,
            attachment,
        }
    }

    /// The kernel reads the device descriptor, and the server gives it.
    async fn enumerate(&mut self, seqnum: u32) {
        self.kernel
            .control(seqnum, [0x80, 6, 0, 1, 0, 0, 18, 0])
            .await;
        let (corr, _) = self.server.request(Opcode::UsbControlTransfer).await;
        self.server.reply(corr, 0, DEVICE.len(), DEVICE);
        self.kernel.expect(seqnum, 0, DEVICE).await;
    }

    /// The client resets the device and plugs it in elsewhere.
    async fn moved(&mut self) -> PortId {
        let (corr, _) = self.server.request(Opcode::UsbReset).await;
        assert!(
            self.machine.is_quiet(),
            "a port before the device was reset"
        );
        self.server.respond(corr, Status::Ok, vec![0x80]);
        let (port, kernel) = self.machine.plugged().await;
        self.kernel = kernel;
        port
    }
}

#[test]
fn a_worn_hub_is_left_for_another_one_while_the_servers_stream_stays() {
    run(async {
        let mut bench = Bench::new(2, LIMIT).await;
        assert_eq!(bench.attachment.port(), PortId(0));
        bench.enumerate(LIMIT - 1).await;
        bench.kernel.read(LIMIT, 1, 64).await;
        assert_eq!(bench.moved().await, PortId(2));
        assert_eq!(bench.machine.used(), [2]);
        bench.enumerate(1).await;
        assert_eq!(bench.attachment.handle().port(), PortId(2));
        bench.attachment.handle().detach();
        bench.server.farewell().await;
        assert!(matches!(bench.attachment.ended().await, Ended::Detached));
        assert_eq!(bench.machine.used(), [0; 0]);
    });
}

#[test]
fn what_is_in_flight_is_given_up_and_awaited_before_the_device_is_reset() {
    run(async {
        let mut bench = Bench::new(2, LIMIT).await;
        let mut corrs = Vec::new();
        for seqnum in 1..=3 {
            bench.kernel.read(seqnum, 1, 64).await;
            corrs.push(bench.server.request(Opcode::UsbBulkTransfer).await.0);
        }
        bench.kernel.unlink(LIMIT, 2).await;
        let mut cancelled = Vec::new();
        for _ in &corrs {
            let Done::Cancel(corr) = bench.server.next().await else {
                panic!("something else than a cancel");
            };
            cancelled.push(corr);
        }
        cancelled.sort_unstable();
        assert_eq!(cancelled, corrs);
        // One of them comes too late to be cancelled, which hurts nobody.
        bench.server.reply(corrs[1], 0, 3, b"abc");
        bench.server.reply(corrs[0], -libc::ECONNRESET, 0, &[]);
        tokio::task::yield_now().await;
        assert!(
            bench.server.done.try_recv().is_err(),
            "asked for more too early"
        );
        bench.server.reply(corrs[2], -libc::ECONNRESET, 0, &[]);
        bench.moved().await;
        bench.enumerate(1).await;
        let mut old = Vec::new();
        for seqnum in 2..=3 {
            bench.kernel.read(seqnum, 1, 64).await;
            old.push(bench.server.request(Opcode::UsbBulkTransfer).await.0);
        }
        for (seqnum, corr) in (2..=3).zip(old) {
            bench.server.reply(corr, 0, 1, b"x");
            bench.kernel.expect(seqnum, 0, b"x").await;
        }
    });
}

#[test]
fn several_moves_in_a_row_take_every_hub_once_and_then_the_device_stays() {
    run(async {
        let mut bench = Bench::new(4, LIMIT).await;
        let mut ports = vec![bench.attachment.port()];
        for _ in 1..4 {
            bench.enumerate(1).await;
            bench
                .kernel
                .control(LIMIT, [0x80, 6, 0, 1, 0, 0, 18, 0])
                .await;
            ports.push(bench.moved().await);
        }
        ports.sort_unstable();
        assert_eq!(ports, [0, 2, 4, 6].map(PortId));
        // The kernel can still count, so the device is of use.
        for seqnum in LIMIT..LIMIT + 5 {
            bench.enumerate(seqnum).await;
        }
        bench.kernel.read(1 << 31, 1, 4).await;
        bench.server.farewell().await;
        let ended = bench.attachment.ended().await;
        let Ended::NoPort(_) = &ended else {
            panic!("{ended:?}");
        };
        let text = ended.to_string();
        assert!(text.contains("4 of 4 high-speed hubs"), "{text}");
        let remedy = "modprobe -r vhci_hcd && modprobe vhci_hcd";
        assert!(text.ends_with(remedy), "{text}");
    });
}

#[test]
fn a_hub_that_was_worn_before_the_first_urb_is_left_at_once() {
    for seqnum in [SEQNUM_LIMIT, 1 << 31, u32::MAX] {
        run(async move {
            let mut bench = Bench::new(2, SEQNUM_LIMIT).await;
            bench
                .kernel
                .control(seqnum, [0x80, 6, 0, 1, 0, 0, 64, 0])
                .await;
            assert_eq!(bench.moved().await, PortId(2));
            bench.enumerate(1).await;
            // The next device does not even try the old one.
            let (outlet, inbound, _server) = stream();
            let second = client::attach(&bench.machine.vhci, &device(), outlet, inbound);
            assert!(second.is_err(), "a worn hub was taken");
        });
    }
}

#[test]
fn devices_of_one_hub_leave_it_one_by_one() {
    run(async {
        let mut bench = Bench::new(2, LIMIT).await;
        let vhci = Rc::clone(&bench.machine.vhci);
        let (outlet, inbound, mut server) = stream();
        let other = client::attach(&vhci, &device(), outlet, inbound).expect("an attached device");
        let (port, mut kernel) = bench.machine.plugged().await;
        assert_eq!((port, other.port()), (PortId(2), PortId(2)));
        // No room elsewhere: the first stays until the second is gone.
        bench.enumerate(LIMIT).await;
        kernel.read(1, 1, 4).await;
        server.request(Opcode::UsbBulkTransfer).await;
        other.handle().detach();
        server.farewell().await;
        other.ended().await;
        bench.kernel.read((1 << 31) - 5000, 1, 4).await;
        assert_eq!(bench.moved().await, PortId(2));
    });
}

#[test]
fn a_device_that_is_lost_while_it_moves_is_given_back() {
    run(async {
        let mut bench = Bench::new(2, LIMIT).await;
        bench.kernel.read(LIMIT, 1, 64).await;
        let (corr, _) = bench.server.request(Opcode::UsbReset).await;
        let gone = b"\x81\xA3sub\xABdevice-gone".to_vec();
        bench.server.respond(corr, Status::ServiceUnavailable, gone);
        bench.server.farewell().await;
        assert!(matches!(bench.attachment.ended().await, Ended::DeviceGone));
        assert_eq!(bench.machine.used(), [0; 0]);
    });
    run(async {
        let mut bench = Bench::new(2, LIMIT).await;
        bench.kernel.read(1, 1, 64).await;
        bench.server.request(Opcode::UsbBulkTransfer).await;
        bench.kernel.read(LIMIT, 1, 64).await;
        assert!(matches!(bench.server.next().await, Done::Cancel(_)));
        bench.server.send(Inbound::Closed);
        assert!(matches!(
            bench.attachment.ended().await,
            Ended::SessionClosed
        ));
        assert_eq!(bench.machine.used(), [0; 0]);
    });
}

#[test]
fn a_server_that_cannot_reset_the_device_does_not_stop_the_move() {
    run(async {
        let mut bench = Bench::new(2, LIMIT).await;
        bench.kernel.read(LIMIT, 1, 64).await;
        let (corr, _) = bench.server.request(Opcode::UsbReset).await;
        let unsupported = b"\x81\xA3sub\xABunsupported".to_vec();
        bench.server.respond(corr, Status::BadRequest, unsupported);
        let (port, kernel) = bench.machine.plugged().await;
        bench.kernel = kernel;
        assert_eq!(port, PortId(2));
        bench.enumerate(1).await;
    });
}
