//! Both halves in one thread: the kernel is played here, the device is a fake one, and between them
//! runs the real code of client and server.

use std::cell::Cell;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;

use myclerk::bus::usb::client::{self, Attachment, Ended};
use myclerk::bus::usb::enumerate::Location;
use myclerk::bus::usb::fake::{Fake, FakeHost};
use myclerk::bus::usb::hostuse::Roots;
use myclerk::bus::usb::op::{AttachRequest, AttachResponse, Mode};
use myclerk::bus::usb::server::{self, End, Grant};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError};
use myclerk::kernel::usbip_pdu::{Command, Return};
use myclerk::kernel::vhci::{PortId, Vhci};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

use crate::kernel::{Kernel, Sysfs, urb};
use crate::machine::Machine;
use crate::rig::run;

const ATTACH: u32 = 1;

/// One end of a stream without a session: what goes in here arrives there at once.
struct Wire {
    next: Cell<u32>,
    peer: mpsc::UnboundedSender<Inbound>,
}

impl Wire {
    fn outlet(peer: mpsc::UnboundedSender<Inbound>) -> Rc<dyn Outlet> {
        Rc::new(Self {
            next: Cell::new(ATTACH + 1),
            peer,
        })
    }

    fn send(&self, inbound: Inbound) {
        // The peer may have left.
        let _ = self.peer.send(inbound);
    }
}

impl Outlet for Wire {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        let corr = self.next.get();
        self.next.set(corr + 1);
        let sent = self.peer.send(Inbound::Request {
            corr,
            opcode: outgoing.opcode,
            payload: outgoing.payload,
            age_secs: 0,
        });
        sent.map(|()| corr).map_err(|_| OutletError::Closed)
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.send(Inbound::Response {
            corr,
            status,
            payload,
            more: false,
        });
    }

    fn cancel(&self, corr: u32) {
        self.send(Inbound::Cancel { corr });
    }

    fn reset(&self, status: Status) {
        self.send(Inbound::Reset { status });
    }

    fn event(&self, opcode: Opcode, payload: Vec<u8>) {
        self.send(Inbound::Event {
            opcode,
            payload,
            age_secs: 0,
        });
    }

    fn data(&self, payload: Vec<u8>, fin: bool) {
        self.send(Inbound::Data { payload, fin });
    }

    fn consume(&self, _: usize) {}

    fn writable(&self, _: usize) -> bool {
        true
    }

    fn queued(&self) -> usize {
        0
    }
}

pub(crate) struct Pair {
    pub(crate) device: Fake,
    pub(crate) kernel: Kernel,
    pub(crate) attachment: Attachment,
    pub(crate) server: JoinHandle<End>,
    _sysfs: Sysfs,
}

/// The server half with a device, and the stream that it was attached on.
struct Owner {
    response: AttachResponse,
    server: JoinHandle<End>,
    to_server: mpsc::UnboundedSender<Inbound>,
    from_server: mpsc::UnboundedReceiver<Inbound>,
}

impl Owner {
    async fn of(device: &Fake, sysfs: &Sysfs) -> Self {
        let (to_server, from_client) = mpsc::unbounded_channel();
        let (to_client, mut from_server) = mpsc::unbounded_channel();
        let host = FakeHost::default().with(3, 7, device.clone());
        let outlet = Wire::outlet(to_client);
        let grant = grant(sysfs);
        let server =
            spawn_local(async move { server::serve(&host, grant, outlet, from_client).await });
        let Some(Inbound::Response {
            corr: ATTACH,
            status: Status::Ok,
            payload,
            ..
        }) = from_server.recv().await
        else {
            panic!("the device was refused");
        };
        Self {
            response: AttachResponse::decode(&payload).expect("an attach response"),
            server,
            to_server,
            from_server,
        }
    }
}

impl Pair {
    pub(crate) async fn new() -> Self {
        let sysfs = Sysfs::new();
        let device = Fake::new();
        let Owner {
            response,
            server,
            to_server,
            from_server,
        } = Owner::of(&device, &sysfs).await;
        let (ours, kernels) = StdUnixStream::pair().expect("a socket pair");
        sysfs.shut_on_detach(kernels.try_clone().expect("a second handle"));
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        let outlet = Wire::outlet(to_server);
        let attachment = client::serve(ours, &vhci, PortId(3), &response, (outlet, from_server))
            .expect("a served device");
        Self {
            device,
            kernel: Kernel::new(kernels),
            attachment,
            server,
            _sysfs: sysfs,
        }
    }
}

pub(crate) fn grant(sysfs: &Sysfs) -> Grant {
    let root = sysfs.path();
    Grant {
        corr: ATTACH,
        request: AttachRequest {
            dev: "usb:1d6b:0104:1".to_owned(),
            mode: Mode::ReadWrite,
            lock: None,
            ifs: None,
            hold: None,
            token: None,
        },
        location: Location {
            bus: 3,
            address: 7,
            sysfs: root.join("sys/devices/usb3/3-1"),
        },
        force: false,
        quiet: false,
        roots: Roots {
            sys: root.join("sys"),
            proc: root.join("proc"),
            dev: root.join("dev"),
        },
    }
}

#[test]
fn what_is_written_to_the_device_is_read_back_from_it() {
    run(async {
        let mut pair = Pair::new().await;
        let kernel = &mut pair.kernel;
        let mut seqnum = 0;
        for size in [1usize, 512, 4096, 4097, 100_000] {
            let data: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0] ^ 0x5A).collect();
            let length = u32::try_from(size).expect("a short transfer");
            kernel.write(seqnum, 1, &data).await;
            kernel.expect(seqnum, 0, &[]).await;
            kernel.read(seqnum + 1, 1, length).await;
            kernel.expect(seqnum + 1, 0, &data).await;
            seqnum += 2;
        }
        assert_eq!(pair.device.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_read_with_many_urbs_arrives_in_order() {
    run(async {
        let mut pair = Pair::new().await;
        for seqnum in 0..64 {
            let length = if seqnum % 2 == 0 { 4 } else { 5000 };
            pair.kernel.read(seqnum, 2, length).await;
        }
        let mut counted = Vec::new();
        for seqnum in 0..64 {
            let (answer, data) = pair.kernel.answer().await;
            let Return::Submit(ret) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!((ret.seqnum, ret.status), (seqnum, 0));
            counted.extend(data);
        }
        let in_order = counted
            .iter()
            .zip((0..=u8::MAX).cycle())
            .all(|(found, expected)| *found == expected);
        assert!(in_order, "the device counts without a gap");
    });
}

#[test]
fn an_idle_read_is_unlinked_on_the_device_too() {
    run(async {
        let mut pair = Pair::new().await;
        pair.kernel.read(1, 3, 8).await;
        pair.kernel.read(2, 3, 8).await;
        pair.kernel.unlink(3, 1).await;
        pair.kernel.expect_unlink(3, -libc::ECONNRESET).await;
        pair.device.interrupt(b"key");
        pair.kernel.expect(2, 0, b"key").await;
        assert_eq!(pair.device.in_flight(), 0);
    });
}

#[test]
fn a_halt_reaches_the_kernel_and_is_cleared_by_it() {
    run(async {
        let mut pair = Pair::new().await;
        pair.device.halt(0x82);
        pair.kernel.read(1, 2, 4).await;
        pair.kernel.expect(1, -libc::EPIPE, &[]).await;
        pair.kernel.control(2, [0x02, 1, 0, 0, 0x82, 0, 0, 0]).await;
        pair.kernel.expect(2, 0, &[]).await;
        pair.kernel.read(3, 2, 4).await;
        pair.kernel.expect(3, 0, &[0, 1, 2, 3]).await;
    });
}

#[test]
fn settings_change_on_both_ends_at_once() {
    run(async {
        let mut pair = Pair::new().await;
        pair.kernel.read(1, 4, 2).await;
        pair.kernel.expect(1, -libc::ESHUTDOWN, &[]).await;
        pair.kernel.control(2, [0x01, 11, 1, 0, 1, 0, 0, 0]).await;
        pair.kernel.expect(2, 0, &[]).await;
        pair.kernel.read(3, 4, 2).await;
        pair.kernel.expect(3, 0, &[0, 1]).await;
        pair.kernel.control(4, [0x00, 9, 2, 0, 0, 0, 0, 0]).await;
        pair.kernel.expect(4, 0, &[]).await;
        pair.kernel.write(5, 5, b"second").await;
        pair.kernel.expect(5, 0, &[]).await;
        assert_eq!(pair.device.written(0x05), b"second");
        assert_eq!(pair.device.configuration(), 2);
    });
}

#[test]
fn an_address_is_never_given_to_the_real_device() {
    run(async {
        let mut pair = Pair::new().await;
        let submit = urb(1, 0, false, 0);
        let set_address = Command::Submit(myclerk::kernel::usbip_pdu::Submit {
            setup: [0x00, 5, 9, 0, 0, 0, 0, 0],
            ..submit
        });
        pair.kernel.send(set_address, &[]).await;
        pair.kernel.expect(1, -libc::EPIPE, &[]).await;
    });
}

#[test]
fn detaching_gives_the_device_back_to_its_drivers() {
    run(async {
        let mut pair = Pair::new().await;
        pair.kernel.read(1, 3, 8).await;
        pair.kernel.write(2, 2, b"something").await;
        pair.kernel.expect(2, 0, &[]).await;
        assert_eq!(pair.device.claimed(), [0, 1]);
        pair.attachment.handle().detach();
        assert!(matches!(pair.attachment.ended().await, Ended::Detached));
        assert_eq!(pair.server.await.expect("a task's end"), End::Detached);
        assert_eq!(pair.device.driven(), [0, 1]);
        assert_eq!(pair.device.in_flight(), 0);
    });
}

#[test]
fn pulling_the_plug_frees_the_port() {
    run(async {
        let mut pair = Pair::new().await;
        pair.kernel.read(1, 3, 8).await;
        pair.kernel.write(2, 2, b"something").await;
        pair.kernel.expect(2, 0, &[]).await;
        pair.device.unplug();
        let ended = pair.attachment.ended().await;
        assert!(
            matches!(ended, Ended::DeviceGone | Ended::Reset(_)),
            "{ended:?}"
        );
        assert_eq!(pair.server.await.expect("a task's end"), End::DeviceGone);
    });
}

#[test]
fn a_move_to_another_port_leaves_the_device_with_the_peer_and_fit_for_enumeration() {
    run(async {
        let sysfs = Sysfs::new();
        let device = Fake::new();
        let owner = Owner::of(&device, &sysfs).await;
        let mut machine = Machine::new(4, 50);
        let outlet = Wire::outlet(owner.to_server);
        let attachment = client::attach(&machine.vhci, &owner.response, outlet, owner.from_server)
            .expect("an attached device");
        for round in 0..4 {
            let (_, mut kernel) = machine.plugged().await;
            kernel.control(1, [0x80, 6, 0, 1, 0, 0, 18, 0]).await;
            let (_, descriptor) = kernel.answer().await;
            assert_eq!(descriptor.len(), 18);
            // The last round left the interface in its other setting.
            kernel.read(2, 4, 2).await;
            kernel.expect(2, -libc::ESHUTDOWN, &[]).await;
            kernel.control(3, [0x00, 9, 1, 0, 0, 0, 0, 0]).await;
            kernel.expect(3, 0, &[]).await;
            kernel.control(4, [0x01, 11, 1, 0, 1, 0, 0, 0]).await;
            kernel.expect(4, 0, &[]).await;
            kernel.read(5, 4, 1).await;
            kernel.expect(5, 0, &[round]).await;
            for seqnum in 6..50 {
                kernel.read(seqnum, 3, 8).await;
            }
            assert_eq!(device.claimed(), [0, 1]);
            if round < 3 {
                kernel.read(50, 1, 8).await;
            }
        }
        attachment.handle().detach();
        assert!(matches!(attachment.ended().await, Ended::Detached));
        assert_eq!(owner.server.await.expect("a task's end"), End::Detached);
        assert_eq!((device.driven(), device.in_flight()), (vec![0, 1], 0));
        assert_eq!(device.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_reset_of_the_port_brings_a_device_back_that_has_hung_itself() {
    run(async {
        let mut pair = Pair::new().await;
        let kernel = &mut pair.kernel;
        let configure = [0x00, 9, 1, 0, 0, 0, 0, 0];
        kernel.control(1, configure).await;
        kernel.expect(1, 0, &[]).await;
        kernel.control(2, [0x01, 11, 1, 0, 1, 0, 0, 0]).await;
        kernel.expect(2, 0, &[]).await;
        pair.device.halt(0x82);
        kernel.read(3, 2, 4).await;
        kernel.expect(3, -libc::EPIPE, &[]).await;
        for (seqnum, length) in [(4, 64), (5, 18)] {
            kernel
                .control(seqnum, [0x80, 6, 0, 1, 0, 0, length, 0])
                .await;
            kernel.answer().await;
        }
        kernel.control(6, configure).await;
        kernel.expect(6, 0, &[]).await;
        kernel.read(7, 2, 4).await;
        kernel.expect(7, 0, &[0, 1, 2, 3]).await;
        kernel.read(8, 4, 1).await;
        kernel.expect(8, -libc::ESHUTDOWN, &[]).await;
        assert_eq!(pair.device.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_reset_on_the_owners_side_fails_what_is_in_flight_and_nothing_after_it() {
    run(async {
        let mut pair = Pair::new().await;
        pair.kernel.read(1, 3, 8).await;
        pair.kernel.write(2, 2, b"something").await;
        pair.kernel.expect(2, 0, &[]).await;
        pair.device.reset_by_other();
        pair.kernel.expect(1, -libc::EPROTO, &[]).await;
        pair.kernel.read(3, 2, 2).await;
        pair.kernel.expect(3, 0, &[0, 1]).await;
        assert_eq!(pair.device.complaints(), Vec::<String>::new());
    });
}
