//! An isochronous transfer that a slow path holds up, from the kernel's end to the link and back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus;
use myclerk::bus::usb::op::BulkTransfer;
use myclerk::daemon::peer::{self, Incoming, Peer, Service};
use myclerk::kernel::clock;
use myclerk::kernel::usbip_pdu::{Command, IsoDescriptor, RetSubmit, Return};
use myclerk::link::connection::Connection;
use myclerk::session::Session;
use myclerk::transport::{Framed, LocalFuture, MessageWriter, Path, Sent, TransportError, memory};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::{Notify, watch};

use crate::kernel::iso_urb;
use crate::rig::{Port, run};
use crate::session_support::{Run, client, hub};

/// How long an isochronous URB of one packet is worth sending.
const TTL: Duration = Duration::from_millis(200);

/// Holds every message back while it is shut.
struct Gate {
    open: watch::Sender<bool>,
    waiting: Notify,
}

struct Gated {
    writer: Box<dyn MessageWriter>,
    gate: Rc<Gate>,
}

impl MessageWriter for Gated {
    fn send(&mut self, framed: Framed) -> LocalFuture<'_, Sent> {
        Box::pin(async move {
            let mut open = self.gate.open.subscribe();
            if !*open.borrow() {
                self.gate.waiting.notify_one();
            }
            open.wait_for(|open| *open).await.expect("the gate exists");
            self.writer.send(framed).await
        })
    }

    fn close(&mut self) -> LocalFuture<'_, Result<(), TransportError>> {
        self.writer.close()
    }
}

/// Grants every device and remembers what it is asked.
#[derive(Default)]
struct Owner {
    asked: RefCell<Vec<(Opcode, Vec<u8>)>>,
    heard: Notify,
}

struct Serving(Rc<Owner>);

impl Service for Serving {
    fn request(&self, peer: &Peer, request: Incoming) {
        if request.opcode == Opcode::UsbDeviceAttach {
            peer.respond(request.stream, request.corr, Status::Ok, vec![0x80]);
            return;
        }
        let asked = (request.opcode, request.payload);
        self.0.asked.borrow_mut().push(asked);
        self.0.heard.notify_one();
    }

    fn event(&self, _: &Peer, _: Opcode, _: &[u8]) {}
}

/// Two nodes in session; the first one's messages pass the gate.
fn peers(gate: &Rc<Gate>, owner: &Rc<Owner>) -> (Peer, Peer) {
    let (client, hub) = (client(), hub());
    let handshake = Run {
        now: clock::mono(),
        ..Run::new(&client, &hub)
    };
    let (ours, theirs) = handshake.sessions();
    let connect = |session: Session| {
        Connection::new(clock::mono(), session, true, false, bus::declared_reply)
    };
    let (near, far) = memory::pair(1 << 20);
    let near = Path {
        writer: Box::new(Gated {
            writer: near.writer,
            gate: Rc::clone(gate),
        }),
        ..near
    };
    let serving = || Rc::new(Serving(Rc::clone(owner)));
    (
        peer::start(connect(ours), near, serving()),
        peer::start(connect(theirs), far, serving()),
    )
}

#[test]
fn a_transfer_that_the_path_held_up_for_too_long_is_never_sent() {
    run(async {
        let gate = Rc::new(Gate {
            open: watch::Sender::new(true),
            waiting: Notify::new(),
        });
        let owner = Rc::new(Owner::default());
        let (near, _far) = peers(&gate, &owner);
        let attached = near.open(Opcode::UsbDeviceAttach, vec![0x80], Duration::from_secs(5));
        let (_, stream) = attached.await.expect("an open stream");
        let mut port = Port::new(stream.outlet, stream.inbound);
        let kernel = &mut port.kernel;

        gate.open.send_replace(false);
        kernel.write(1, 2, b"sealed already").await;
        gate.waiting.notified().await;
        let samples = Command::Submit(iso_urb(2, 4, false, 8, 2));
        let packets = [(0, 4), (4, 4)].map(|(offset, length)| IsoDescriptor {
            offset,
            length,
            actual_length: 0,
            status: -libc::EXDEV,
        });
        let mut body = b"aaaabbbb".to_vec();
        for packet in &packets {
            packet.write(&mut body);
        }
        kernel.send(samples, &body).await;
        // What names no URB is answered at once: all before it has reached the link by then.
        kernel.unlink(3, 0).await;
        kernel.expect_unlink(3, 0).await;
        let due = clock::mono().after(TTL);
        kernel.write(4, 2, b"in time").await;
        while clock::mono() <= due {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.open.send_replace(true);

        let (answer, _) = kernel.answer().await;
        let late = RetSubmit {
            seqnum: 2,
            status: 0,
            actual_length: 0,
            start_frame: 0,
            packets: 2,
            error_count: 2,
        };
        assert_eq!(answer, Return::Submit(late));
        assert_eq!(kernel.descriptors(2, 8).await, packets);
        while owner.asked.borrow().len() < 2 {
            owner.heard.notified().await;
        }
        let asked = owner.asked.borrow();
        let written: Vec<_> = asked
            .iter()
            .map(|(_, payload)| BulkTransfer::decode(payload).expect("a bulk transfer").1)
            .collect();
        assert_eq!(written, [&b"sealed already"[..], b"in time"]);
    });
}
