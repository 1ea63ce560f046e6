//! The client half between a played kernel and a played server.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::usb::client::{self, Attachment, Ended};
use myclerk::bus::usb::op::{AttachResponse, Speed};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError, declared_reply};
use myclerk::kernel::vhci::{PortId, Vhci};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, yield_now};

use super::kernel::Kernel;

/// Only a hang takes this long.
pub const HANG: Duration = Duration::from_secs(60);

/// One configuration with every kind of endpoint, the isochronous ones in alternate setting 1 too.
#[rustfmt::skip]
pub const DESCRIPTORS: &[u8] = &[
    18, 1, 0, 2, 0, 0, 0, 64, 0x81, 0x07, 0x67, 0x55, 0, 1, 1, 2, 3, 1,
    9, 2, 92, 0, 2, 1, 0, 0x80, 50,
        9, 4, 0, 0, 6, 0xff, 0, 0, 0,
            7, 5, 0x81, 2, 0, 2, 0,   7, 5, 0x02, 2, 0, 2, 0,
            7, 5, 0x83, 3, 8, 0, 4,   7, 5, 0x04, 3, 8, 0, 4,
            7, 5, 0x85, 1, 0, 1, 1,   7, 5, 0x06, 1, 0, 1, 1,
        9, 4, 1, 0, 0, 1, 2, 0, 0,
        9, 4, 1, 1, 2, 1, 2, 0, 0,
            7, 5, 0x87, 1, 0, 1, 1,   7, 5, 0x81, 3, 8, 0, 4,
];

/// Runs something on one thread, as the daemon does.
///
/// # Panics
/// When it hangs.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| {
        let work = async { tokio::time::timeout(HANG, work).await.expect("a hang") };
        runtime.block_on(LocalSet::new().run_until(work))
    })
}

/// A request that the client half has sent.
#[derive(Clone)]
pub struct Asked {
    /// Its number.
    pub corr: u32,
    /// The operation.
    pub opcode: Opcode,
    /// Its parameters.
    pub payload: Vec<u8>,
}

/// The server, seen from the client half.
pub struct Server {
    next: Cell<u32>,
    /// Requests that still fit.
    pub room: Cell<u32>,
    /// No request is small enough.
    pub tiny: Cell<bool>,
    /// Every request without a final answer.
    pub asked: RefCell<Vec<Asked>>,
    /// How the client half ended the stream.
    pub reset: Cell<Option<Status>>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            next: Cell::new(1),
            room: Cell::new(u32::MAX),
            tiny: Cell::new(false),
            asked: RefCell::default(),
            reset: Cell::new(None),
        }
    }
}

impl Outlet for Server {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        check_request(&outgoing);
        if self.tiny.get() {
            return Err(OutletError::TooLarge);
        }
        let Some(room) = self.room.get().checked_sub(1) else {
            return Err(OutletError::WouldBlock(outgoing));
        };
        self.room.set(room);
        let corr = self.next.get();
        self.next.set(corr + 1);
        let (opcode, payload) = (outgoing.opcode, outgoing.payload);
        self.asked.borrow_mut().push(Asked {
            corr,
            opcode,
            payload,
        });
        Ok(corr)
    }

    fn respond(&self, _: u32, status: Status, _: Vec<u8>) {
        assert!(!status.is_success(), "the client half serves nothing");
    }

    fn event(&self, opcode: Opcode, _: Vec<u8>) {
        panic!("the client half has no event {opcode}");
    }

    fn data(&self, _: Vec<u8>, _: bool) {
        panic!("the client half has no data");
    }

    fn cancel(&self, corr: u32) {
        assert!(corr < self.next.get(), "request {corr} was never sent");
    }

    fn reset(&self, status: Status) {
        self.reset.set(Some(status));
    }

    fn consume(&self, _: usize) {}

    fn writable(&self, _: usize) -> bool {
        true
    }

    fn queued(&self) -> usize {
        0
    }
}

/// What is sent can be read, and declares no longer answer than room is kept for.
fn check_request(outgoing: &Outgoing) {
    if outgoing.opcode == Opcode::UsbDeviceDetach {
        return;
    }
    let declared = declared_reply(outgoing.opcode, &outgoing.payload);
    let declared = declared.unwrap_or_else(|| panic!("{} is malformed", outgoing.opcode));
    assert!(
        declared <= outgoing.reply_len,
        "{} has no room",
        outgoing.opcode
    );
}

/// One attached device.
pub struct Rig {
    /// What the kernel knows.
    pub kernel: Kernel,
    /// The server.
    pub server: Rc<Server>,
    inbound: mpsc::UnboundedSender<Inbound>,
    attachment: Attachment,
    socket: UnixStream,
    to_write: Vec<u8>,
}

impl Rig {
    /// A device with these descriptors, or none when they are unusable.
    ///
    /// # Panics
    /// When there are no sockets.
    pub fn new(desc: &[u8], kernel: Kernel) -> Option<Self> {
        let (ours, socket) = UnixStream::pair().expect("a socket pair");
        socket.set_nonblocking(true).expect("a socket option");
        let server = Rc::new(Server::default());
        let (inbound, receiver) = mpsc::unbounded_channel();
        let device = AttachResponse {
            desc: desc.to_vec(),
            spd: Speed::High,
            cfg: 1,
            devno: 0x0001_0002,
            kept: None,
        };
        // There is no port to be freed; closing the socket has to do.
        let vhci = Rc::new(Vhci::at(Path::new("/nonexistent")));
        let outlet = Rc::clone(&server) as Rc<dyn Outlet>;
        let attachment = client::serve(ours, &vhci, PortId(0), &device, (outlet, receiver)).ok()?;
        Some(Self {
            kernel,
            server,
            inbound,
            attachment,
            socket,
            to_write: Vec::new(),
        })
    }

    /// The kernel says something.
    pub fn say(&mut self, bytes: &[u8]) {
        self.to_write.extend_from_slice(bytes);
        self.flush();
    }

    /// Bytes of what the kernel said that are not taken yet.
    pub const fn unwritten(&self) -> usize {
        self.to_write.len()
    }

    /// The server says something.
    pub fn send(&self, inbound: Inbound) {
        // The client half may have ended.
        let _ = self.inbound.send(inbound);
    }

    /// Lets the client half work and looks at what it tells the kernel.
    pub async fn settle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.flush();
            yield_now().await;
            self.listen();
        }
    }

    fn flush(&mut self) {
        while !self.to_write.is_empty() {
            match self.socket.write(&self.to_write) {
                Ok(written) => {
                    self.to_write.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client half has closed its end.
                Err(_) => self.to_write.clear(),
            }
        }
    }

    /// True at the end of the stream.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(read) => self.kernel.hear(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }

    /// The kernel closes its end and the session ends; returns why the client half thinks it did.
    pub async fn end(mut self) -> Ended {
        self.settle(8).await;
        // It may be shut down already.
        let _ = self.socket.shutdown(Shutdown::Write);
        self.settle(4).await;
        drop(self.inbound);
        let ended = self.attachment.ended().await;
        let mut last = Vec::new();
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = self.socket.read(&mut buffer) {
            last.extend_from_slice(&buffer[..read]);
        }
        self.kernel.hear(&last);
        ended
    }
}
