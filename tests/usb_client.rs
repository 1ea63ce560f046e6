//! The USB client half as a whole: this test plays the kernel at the other end of the socket and
//! the server behind the outlet.
#![cfg(test)]

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::usb::client::{self, Attachment, Ended, KernelFault, Violation};
use myclerk::bus::usb::op::{
    AttachResponse, BulkTransfer, ControlTransfer, Setup, Speed, TransferReply,
};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError};
use myclerk::kernel::usbip_pdu::{
    Command, HEADER, PduError, RetSubmit, RetUnlink, Return, Submit, Unlink,
};
use myclerk::kernel::vhci::{PortId, Vhci};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Only a hang takes this long.
const HANG: Duration = Duration::from_secs(20);

const DEVICE: &[u8] = &[
    18, 1, 0, 2, 0, 0, 0, 64, 0x81, 0x07, 0x67, 0x55, 0, 1, 1, 2, 3, 1,
];
const CONFIGURATION: &[u8] = &[
    9, 2, 32, 0, 1, 1, 0, 0x80, 50, // configuration 1
    9, 4, 0, 0, 2, 8, 6, 80, 0, // interface 0
    7, 5, 0x81, 2, 0, 2, 0, // bulk
    7, 5, 0x02, 2, 0, 2, 0, // bulk
];

/// What the client half did to its stream.
#[derive(Debug)]
enum Done {
    Request(u32, Outgoing),
    Response(u32, Status),
    Cancel(u32),
    Reset(Status),
}

/// An outlet that reports everything to the test.
struct Script {
    next: Cell<u32>,
    done: mpsc::UnboundedSender<Done>,
}

impl Script {
    fn tell(&self, done: Done) {
        // A test that is over no longer listens.
        let _ = self.done.send(done);
    }
}

impl Outlet for Script {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        let corr = self.next.get();
        self.next.set(corr + 1);
        self.tell(Done::Request(corr, outgoing));
        Ok(corr)
    }

    fn respond(&self, corr: u32, status: Status, _: Vec<u8>) {
        self.tell(Done::Response(corr, status));
    }

    fn cancel(&self, corr: u32) {
        self.tell(Done::Cancel(corr));
    }

    fn reset(&self, status: Status) {
        self.tell(Done::Reset(status));
    }

    fn event(&self, _: Opcode, _: Vec<u8>) {
        panic!("the client has no events");
    }

    fn data(&self, _: Vec<u8>, _: bool) {
        panic!("the client has no data");
    }
}

/// The kernel's end of the socket.
struct Kernel {
    socket: UnixStream,
    reads: HashSet<u32>,
}

impl Kernel {
    async fn send(&mut self, command: Command, data: &[u8]) {
        if let Command::Submit(submit) = command
            && submit.input
        {
            self.reads.insert(submit.seqnum);
        }
        let mut bytes = command.to_bytes().to_vec();
        bytes.extend_from_slice(data);
        self.socket.write_all(&bytes).await.expect("a written URB");
    }

    async fn read(&mut self, seqnum: u32, ep: u8, length: u32) {
        let submit = urb(seqnum, ep, true, length);
        self.send(Command::Submit(submit), &[]).await;
    }

    async fn write(&mut self, seqnum: u32, ep: u8, data: &[u8]) {
        let length = u32::try_from(data.len()).expect("a short write");
        let submit = urb(seqnum, ep, false, length);
        self.send(Command::Submit(submit), data).await;
    }

    async fn control(&mut self, seqnum: u32, setup: [u8; 8]) {
        let packet = Setup::from_bytes(setup);
        let length = u32::from(packet.length);
        let submit = Submit {
            setup,
            ..urb(seqnum, 0, packet.is_in(), length)
        };
        self.send(Command::Submit(submit), &[]).await;
    }

    async fn unlink(&mut self, seqnum: u32, target: u32) {
        self.send(Command::Unlink(Unlink { seqnum, target }), &[])
            .await;
    }

    async fn answer(&mut self) -> (Return, Vec<u8>) {
        let mut header = [0; HEADER];
        self.socket
            .read_exact(&mut header)
            .await
            .expect("an answer's header");
        let answer = Return::parse(&header).expect("an answer");
        let mut data = Vec::new();
        if let Return::Submit(ret) = answer
            && self.reads.contains(&ret.seqnum)
        {
            data.resize(ret.actual_length as usize, 0);
            self.socket
                .read_exact(&mut data)
                .await
                .expect("an answer's data");
        }
        (answer, data)
    }

    async fn expect(&mut self, seqnum: u32, status: i32, data: &[u8]) {
        let (answer, found) = self.answer().await;
        let Return::Submit(ret) = answer else {
            panic!("{answer:?} is no RET_SUBMIT");
        };
        assert_eq!((ret.seqnum, ret.status), (seqnum, status));
        assert_eq!(found, data);
    }

    async fn expect_unlink(&mut self, seqnum: u32, status: i32) {
        let (answer, _) = self.answer().await;
        assert_eq!(answer, Return::Unlink(RetUnlink { seqnum, status }));
    }
}

const fn urb(seqnum: u32, ep: u8, input: bool, length: u32) -> Submit {
    Submit {
        seqnum,
        devid: 0x0001_0002,
        input,
        ep,
        transfer_flags: 0,
        length,
        start_frame: 0,
        packets: u32::MAX,
        interval: 0,
        setup: [0; 8],
    }
}

/// The server's end of the stream.
struct Server {
    inbound: mpsc::UnboundedSender<Inbound>,
    done: mpsc::UnboundedReceiver<Done>,
}

impl Server {
    async fn next(&mut self) -> Done {
        self.done.recv().await.expect("the client is there")
    }

    async fn request(&mut self, opcode: Opcode) -> (u32, Vec<u8>) {
        match self.next().await {
            Done::Request(corr, outgoing) if outgoing.opcode == opcode => (corr, outgoing.payload),
            other => panic!("{other:?} instead of {opcode}"),
        }
    }

    fn send(&self, inbound: Inbound) {
        self.inbound.send(inbound).expect("the client is there");
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.send(Inbound::Response {
            corr,
            status,
            payload,
            more: false,
        });
    }

    fn reply(&self, corr: u32, status: i32, actual: usize, data: &[u8]) {
        let length = |length| u32::try_from(length).expect("a short reply");
        let mut payload = Vec::new();
        TransferReply::encode(status, length(actual), length(data.len()), &mut payload);
        payload.extend_from_slice(data);
        self.respond(corr, Status::Ok, payload);
    }

    /// Lets the client give the device back.
    async fn farewell(&mut self) {
        loop {
            match self.next().await {
                Done::Request(corr, outgoing) => {
                    assert_eq!(outgoing.opcode, Opcode::UsbDeviceDetach);
                    self.respond(corr, Status::Ok, vec![0x80]);
                    return;
                }
                Done::Cancel(_) => {}
                other => panic!("{other:?} instead of the farewell"),
            }
        }
    }
}

/// One attached device with both of its ends.
struct Rig {
    kernel: Kernel,
    server: Server,
    attachment: Attachment,
    sysfs: Sysfs,
}

/// A vhci-hcd whose port 3 can be freed.
struct Sysfs {
    root: TempDir,
}

impl Sysfs {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("vhci_hcd.0");
        fs::create_dir(&directory).expect("a directory");
        let status = "hub port sta spd dev      sockfd local_busid\n\
                      hs  0000 004 000 00000000 000000 0-0\n\
                      ss  0001 004 000 00000000 000000 0-0\n";
        for (name, text) in [
            ("nports", "2\n"),
            ("status", status),
            ("attach", ""),
            ("detach", ""),
        ] {
            fs::write(directory.join(name), text).expect("a file");
        }
        Self { root }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.path().join("vhci_hcd.0").join(name)).expect("a written file")
    }

    /// Frees the port as the kernel does: whoever writes to `detach` finds the socket shut down.
    fn shut_on_detach(&self, socket: StdUnixStream) {
        let path = self.path().join("vhci_hcd.0/detach");
        fs::remove_file(&path).expect("a replaced file");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::thread::spawn(move || {
            // A test that ends without a detach takes the pipe away.
            let Ok(port) = fs::read_to_string(&path) else {
                return;
            };
            fs::remove_file(&path).expect("a pipe to remove");
            fs::write(&path, port).expect("a file that keeps the port's number");
            socket
                .shutdown(std::net::Shutdown::Both)
                .expect("a socket to shut down");
        });
    }
}

fn device() -> AttachResponse {
    AttachResponse {
        desc: [DEVICE, CONFIGURATION].concat(),
        spd: Speed::High,
        cfg: 1,
        devno: 0x0001_0002,
    }
}

fn stream() -> (Rc<dyn Outlet>, mpsc::UnboundedReceiver<Inbound>, Server) {
    let (report, done) = mpsc::unbounded_channel();
    let (send, inbound) = mpsc::unbounded_channel();
    let outlet = Rc::new(Script {
        next: Cell::new(100),
        done: report,
    });
    let server = Server {
        inbound: send,
        done,
    };
    (outlet, inbound, server)
}

impl Rig {
    fn new() -> Self {
        let sysfs = Sysfs::new();
        let (ours, kernels) = StdUnixStream::pair().expect("a socket pair");
        let twin = kernels.try_clone().expect("a second handle");
        sysfs.shut_on_detach(twin);
        kernels.set_nonblocking(true).expect("a socket option");
        let socket = UnixStream::from_std(kernels).expect("a registered socket");
        let (outlet, inbound, server) = stream();
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        let attachment = client::serve(ours, &vhci, PortId(3), &device(), outlet, inbound)
            .expect("a served device");
        let kernel = Kernel {
            socket,
            reads: HashSet::new(),
        };
        Self {
            kernel,
            server,
            attachment,
            sysfs,
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        tokio::time::timeout(HANG, test)
            .await
            .expect("the test hangs");
    }));
}

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
fn detaching_frees_the_port_and_gives_the_device_back() {
    run(async {
        let mut rig = Rig::new();
        rig.kernel.read(1, 1, 64).await;
        rig.server.request(Opcode::UsbBulkTransfer).await;
        rig.attachment.detacher().detach();
        rig.server.farewell().await;
        assert!(matches!(rig.attachment.ended().await, Ended::Detached));
        assert_eq!(rig.sysfs.written("detach"), "3");
        let mut rest = Vec::new();
        rig.kernel
            .socket
            .read_to_end(&mut rest)
            .await
            .expect("the end of the stream");
        assert_eq!(rest, []);
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
    let hostile: [(&str, fn(&Server, u32)); 4] = [
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
            assert_eq!(rest, [], "{what}: the kernel was told something");
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
fn attaching_takes_a_port_by_speed_and_follows_the_kernels_end() {
    run(async {
        let sysfs = Sysfs::new();
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        let (outlet, inbound, mut server) = stream();
        let device = AttachResponse {
            spd: Speed::Super,
            ..device()
        };
        let attachment =
            client::attach(&vhci, &device, outlet, inbound).expect("an attached device");
        assert_eq!(attachment.port(), PortId(1));
        let written = sysfs.written("attach");
        let fields: Vec<_> = written.split(' ').collect();
        let ["1", _, "65538", "5"] = fields.as_slice() else {
            panic!("{written:?} was written");
        };
        // Nobody has taken a reference to the kernel's end, so it is closed by now.
        server.farewell().await;
        assert!(matches!(attachment.ended().await, Ended::Kernel));
        assert_eq!(sysfs.written("detach"), "", "the port is free already");
    });
}

#[test]
fn a_device_without_descriptors_or_speed_takes_no_port() {
    run(async {
        let sysfs = Sysfs::new();
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        for device in [
            AttachResponse {
                desc: vec![9; 18],
                ..device()
            },
            AttachResponse {
                spd: Speed::Unknown(9),
                ..device()
            },
        ] {
            let (outlet, inbound, _server) = stream();
            let error = client::attach(&vhci, &device, outlet, inbound);
            assert!(error.is_err());
        }
        assert_eq!(sysfs.written("attach"), "");
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
