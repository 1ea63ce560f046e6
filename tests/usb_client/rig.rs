//! One served device with the test at both of its ends.

use std::cell::Cell;
use std::future::Future;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::usb::client::{self, Attachment};
use myclerk::bus::usb::op::{AttachResponse, Speed, TransferReply};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError};
use myclerk::kernel::vhci::{PortId, Vhci};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::kernel::{Kernel, Sysfs};

/// Only a hang takes this long.
const HANG: Duration = Duration::from_secs(20);

pub(crate) const DEVICE: &[u8] = &[
    18, 1, 0, 2, 0, 0, 0, 64, 0x81, 0x07, 0x67, 0x55, 0, 1, 1, 2, 3, 1,
];
pub(crate) const CONFIGURATION: &[u8] = &[
    9, 2, 60, 0, 1, 1, 0, 0x80, 50, // configuration 1
    9, 4, 0, 0, 6, 8, 6, 80, 0, // interface 0
    7, 5, 0x81, 2, 0, 2, 0, // bulk
    7, 5, 0x02, 2, 0, 2, 0, // bulk
    7, 5, 0x83, 3, 64, 0, 4, // interrupt
    7, 5, 0x03, 3, 64, 0, 4, // interrupt
    7, 5, 0x84, 1, 0, 4, 1, // isochronous
    7, 5, 0x04, 1, 0, 4, 1, // isochronous
];

/// What the client half did to its stream.
#[derive(Debug)]
pub(crate) enum Done {
    Request(u32, Outgoing),
    Response(u32, Status),
    Cancel(u32),
    Reset(Status),
}

/// An outlet that reports everything to the test.
pub(crate) struct Script {
    next: Cell<u32>,
    full: Rc<Cell<bool>>,
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
        if self.full.get() {
            return Err(OutletError::WouldBlock(outgoing));
        }
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

    fn consume(&self, _: usize) {}

    fn writable(&self, _: usize) -> bool {
        true
    }

    fn queued(&self) -> usize {
        0
    }
}

/// The server's end of the stream.
pub(crate) struct Server {
    pub(crate) inbound: mpsc::UnboundedSender<Inbound>,
    pub(crate) done: mpsc::UnboundedReceiver<Done>,
    /// The server takes no further request.
    pub(crate) full: Rc<Cell<bool>>,
}

impl Server {
    pub(crate) async fn next(&mut self) -> Done {
        self.done.recv().await.expect("the client is there")
    }

    pub(crate) async fn request(&mut self, opcode: Opcode) -> (u32, Vec<u8>) {
        match self.next().await {
            Done::Request(corr, outgoing) if outgoing.opcode == opcode => (corr, outgoing.payload),
            other => panic!("{other:?} instead of {opcode}"),
        }
    }

    pub(crate) fn send(&self, inbound: Inbound) {
        self.inbound.send(inbound).expect("the client is there");
    }

    pub(crate) fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.send(Inbound::Response {
            corr,
            status,
            payload,
            more: false,
        });
    }

    pub(crate) fn reply(&self, corr: u32, status: i32, actual: usize, data: &[u8]) {
        let length = |length| u32::try_from(length).expect("a short reply");
        let mut payload = Vec::new();
        TransferReply::encode(status, length(actual), length(data.len()), &mut payload);
        payload.extend_from_slice(data);
        self.respond(corr, Status::Ok, payload);
    }

    /// Lets the client give the device back.
    pub(crate) async fn farewell(&mut self) {
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
pub(crate) struct Rig {
    pub(crate) kernel: Kernel,
    pub(crate) server: Server,
    pub(crate) attachment: Attachment,
    pub(crate) sysfs: Sysfs,
}

pub(crate) fn device() -> AttachResponse {
    AttachResponse {
        desc: [DEVICE, CONFIGURATION].concat(),
        spd: Speed::High,
        cfg: 1,
        devno: 0x0001_0002,
        kept: None,
    }
}

pub(crate) fn stream() -> (Rc<dyn Outlet>, mpsc::UnboundedReceiver<Inbound>, Server) {
    let (report, done) = mpsc::unbounded_channel();
    let (send, inbound) = mpsc::unbounded_channel();
    let full = Rc::new(Cell::new(false));
    let outlet = Rc::new(Script {
        next: Cell::new(100),
        full: Rc::clone(&full),
        done: report,
    });
    let server = Server {
        inbound: send,
        done,
        full,
    };
    (outlet, inbound, server)
}

impl Rig {
    pub(crate) fn new() -> Self {
        let (outlet, inbound, server) = stream();
        let Port {
            kernel,
            attachment,
            sysfs,
        } = Port::new(outlet, inbound);
        Self {
            kernel,
            server,
            attachment,
            sysfs,
        }
    }
}

/// One attached device with the kernel's end of it.
pub(crate) struct Port {
    pub(crate) kernel: Kernel,
    pub(crate) attachment: Attachment,
    pub(crate) sysfs: Sysfs,
}

impl Port {
    pub(crate) fn new(outlet: Rc<dyn Outlet>, inbound: mpsc::UnboundedReceiver<Inbound>) -> Self {
        let sysfs = Sysfs::new();
        let (ours, kernels) = StdUnixStream::pair().expect("a socket pair");
        let twin = kernels.try_clone().expect("a second handle");
        sysfs.shut_on_detach(twin);
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        let attachment = client::serve(ours, &vhci, PortId(3), &device(), (outlet, inbound))
            .expect("a served device");
        Self {
            kernel: Kernel::new(kernels),
            attachment,
            sysfs,
        }
    }
}

pub(crate) fn run(test: impl Future<Output = ()>) {
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
