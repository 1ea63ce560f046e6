//! The session is lost and comes back: the device keeps its port, nothing is sent twice.

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::fake::{FakeSession, Opened};
use myclerk::bus::usb::client::{self, Attachment, Ended, Line, Way};
use myclerk::bus::usb::fake::{Act, Fake, FakeHost};
use myclerk::bus::usb::op::{AttachRequest, AttachResponse, TOKEN};
use myclerk::bus::usb::server::{self, End, Lease, Return, Session};
use myclerk::bus::{BusStream, Opener, Outgoing, Outlet, OutletError, Refused};
use myclerk::kernel::vhci::{PortId, Vhci};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{spawn_local, yield_now};

use crate::kernel::{Kernel, Sysfs};
use crate::pair::grant;
use crate::rig::run;

const HOLD: Duration = Duration::from_secs(5);
const TOKEN_HERE: [u8; TOKEN] = [7; TOKEN];
const EPROTO: i32 = -71;
const ECONNRESET: i32 = -104;

/// What passes of what the owner answers; the rest is lost on the way.
#[derive(Clone)]
struct Leak(Rc<Cell<usize>>);

struct Lossy {
    left: Leak,
    inner: Rc<dyn Outlet>,
}

impl Outlet for Lossy {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        self.inner.request(outgoing)
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        if let Some(left) = self.left.0.get().checked_sub(1) {
            self.left.0.set(left);
            self.inner.respond(corr, status, payload);
        }
    }

    fn event(&self, opcode: Opcode, payload: Vec<u8>) {
        self.inner.event(opcode, payload);
    }

    fn data(&self, payload: Vec<u8>, fin: bool) {
        self.inner.data(payload, fin);
    }

    fn cancel(&self, corr: u32) {
        self.inner.cancel(corr);
    }

    fn reset(&self, status: Status) {
        self.inner.reset(status);
    }

    fn consume(&self, bytes: usize) {
        self.inner.consume(bytes);
    }

    fn writable(&self, bytes: usize) -> bool {
        self.inner.writable(bytes)
    }

    fn queued(&self) -> usize {
        self.inner.queued()
    }
}

/// The owner's side: a device, and whoever has it.
struct Owner {
    device: Fake,
    leak: Leak,
    back: RefCell<Option<mpsc::UnboundedSender<Return>>>,
    ended: RefCell<Option<oneshot::Sender<End>>>,
    sysfs: Rc<Sysfs>,
    /// How long the device is kept.
    keep: Cell<Duration>,
}

impl Owner {
    fn serve(self: &Rc<Self>, opened: Opened) {
        let request = AttachRequest::decode(&opened.payload).expect("an attach request");
        let BusStream { outlet, inbound } = opened.stream;
        let (left, owner) = (self.leak.clone(), Rc::clone(self));
        let session = Session {
            outlet: Rc::new(Lossy {
                left,
                inner: outlet,
            }),
            inbound,
            keep: Box::new(move || owner.keep.get()),
        };
        let corr = myclerk::bus::fake::OPENING;
        if request.token.is_some() {
            assert_eq!(request.token, Some(TOKEN_HERE));
            let back = self.back.borrow();
            let refused = match back.as_ref() {
                Some(back) => back.send(Return { corr, session }).err().map(|e| e.0),
                None => Some(Return { corr, session }),
            };
            if let Some(Return { session, .. }) = refused {
                let refused = Refused::new(Status::Forbidden, sub::LOCK_LOST, "not kept");
                let (status, payload) = (refused.status, refused.payload());
                session.outlet.respond(corr, status, payload);
            }
            return;
        }
        let (back, returns) = mpsc::unbounded_channel();
        *self.back.borrow_mut() = Some(back);
        let lease = Lease {
            token: TOKEN_HERE,
            hold: HOLD,
            returns,
        };
        let host = FakeHost::default().with(3, 7, self.device.clone());
        let grant = server::Grant {
            corr,
            ..grant(&self.sysfs)
        };
        let ended = self.ended.borrow_mut().take().expect("one attach only");
        spawn_local(async move {
            let end = server::serve_leased(&host, grant, session, Some(lease)).await;
            let _ = ended.send(end);
        });
    }
}

struct Bench {
    session: Rc<FakeSession>,
    owner: Rc<Owner>,
    kernel: Kernel,
    attachment: Attachment,
    served: oneshot::Receiver<End>,
}

impl Bench {
    async fn new() -> Self {
        let sysfs = Rc::new(Sysfs::new());
        let (ended, served) = oneshot::channel();
        let owner = Rc::new(Owner {
            device: Fake::new(),
            leak: Leak(Rc::new(Cell::new(usize::MAX))),
            back: RefCell::default(),
            ended: RefCell::new(Some(ended)),
            sysfs: Rc::clone(&sysfs),
            keep: Cell::new(HOLD),
        });
        let serving = Rc::clone(&owner);
        let session = FakeSession::new(
            move |opened| serving.serve(opened),
            |_, _| Err(Refused::bad("not asked")),
        );
        let request = AttachRequest {
            hold: Some(5000),
            ..AttachRequest::whole("usb:1d6b:0104:1")
        };
        let payload = request.encode().expect("an attach request");
        let opener: Rc<dyn Opener> = Rc::<FakeSession>::clone(&session);
        let (answer, stream) = opener
            .open(Opcode::UsbDeviceAttach, payload, HOLD)
            .await
            .expect("an open stream");
        let response = AttachResponse::decode(&answer).expect("an attach response");
        let (ours, kernels) = StdUnixStream::pair().expect("a socket pair");
        sysfs.shut_on_detach(kernels.try_clone().expect("a second handle"));
        let vhci = Rc::new(Vhci::at(sysfs.path()));
        let way = Way::of(opener, request, &response);
        assert!(way.is_some(), "the owner keeps the device");
        let line = Line {
            session: (stream.outlet, stream.inbound),
            way,
        };
        let attachment =
            client::serve(ours, &vhci, PortId(3), &response, line).expect("a served device");
        Self {
            session,
            owner,
            kernel: Kernel::new(kernels),
            attachment,
            served,
        }
    }

    fn device(&self) -> &Fake {
        &self.owner.device
    }

    /// Waits until both halves have done what they can.
    async fn until(&self, what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn lost(&self) {
        let handle = self.attachment.handle();
        self.until(|| !handle.is_live()).await;
    }

    /// The session is lost while URB 1 waits for the device.
    async fn cut_in_a_read(&mut self) {
        self.device().pause(0x81);
        self.kernel.read(1, 1, 64).await;
        let device = self.device().clone();
        self.until(|| device.in_flight() == 1).await;
        self.session.cut();
        self.lost().await;
    }

    async fn live(&self) {
        let handle = self.attachment.handle();
        self.until(|| handle.is_live()).await;
    }
}

#[test]
fn what_comes_in_an_outage_waits_and_what_was_under_way_fails() {
    run(async {
        let mut bench = Bench::new().await;
        bench.cut_in_a_read().await;
        bench.kernel.write(2, 2, b"later").await;
        let device = bench.device().clone();
        bench.until(|| device.in_flight() == 0).await;
        assert_eq!(bench.device().written(2), b"");
        bench.session.mend();
        bench.kernel.expect(1, EPROTO, &[]).await;
        bench.kernel.expect(2, 0, &[]).await;
        assert_eq!(bench.device().written(2), b"later");
        bench.live().await;
        // It is the same device as before: nobody reset it, nobody else had it.
        assert!(!bench.device().acts().contains(&Act::Reset));
        assert_eq!(bench.device().complaints(), Vec::<String>::new());
    });
}

#[test]
fn no_write_is_made_twice_wherever_the_link_breaks() {
    for lost_after in 0..24 {
        run(async move {
            let mut bench = Bench::new().await;
            let mut acknowledged = Vec::new();
            bench.owner.leak.0.set(lost_after);
            for number in 0..16u8 {
                bench.kernel.write(u32::from(number), 2, &[number]).await;
            }
            for _ in 0..lost_after.min(16) {
                let (answer, _) = bench.kernel.answer().await;
                acknowledged.push(answer);
            }
            let device = bench.device().clone();
            if lost_after >= 8 {
                bench.until(|| device.written(2).len() == 16).await;
            }
            bench.session.cut();
            bench.lost().await;
            for number in 16..20u8 {
                bench.kernel.write(u32::from(number), 2, &[number]).await;
            }
            bench.owner.leak.0.set(usize::MAX);
            bench.session.mend();
            for _ in lost_after.min(16)..20 {
                let (answer, _) = bench.kernel.answer().await;
                acknowledged.push(answer);
            }
            let written = bench.device().written(2);
            for (number, answer) in (0..20u8).zip(&acknowledged) {
                let times = written.split(|byte| *byte == number).count() - 1;
                let myclerk::kernel::usbip_pdu::Return::Submit(ret) = answer else {
                    panic!("{answer:?}");
                };
                assert_eq!(ret.seqnum, u32::from(number), "URBs end in order");
                match ret.status {
                    0 => assert_eq!(times, 1, "{number} of {written:?}"),
                    EPROTO => assert!(times <= 1, "{number} of {written:?}"),
                    other => panic!("status {other}"),
                }
            }
            assert!(written.is_sorted(), "{written:?}");
        });
    }
}

#[test]
fn a_transfer_given_up_in_an_outage_is_given_up_at_once() {
    run(async {
        let mut bench = Bench::new().await;
        bench.cut_in_a_read().await;
        bench.kernel.write(2, 2, b"never").await;
        bench.kernel.unlink(3, 1).await;
        bench.kernel.expect_unlink(3, ECONNRESET).await;
        bench.kernel.unlink(4, 2).await;
        bench.kernel.expect_unlink(4, ECONNRESET).await;
        bench.session.mend();
        bench.live().await;
        bench.kernel.write(5, 2, b"now").await;
        bench.kernel.expect(5, 0, &[]).await;
        assert_eq!(bench.device().written(2), b"now");
    });
}

#[test]
fn a_device_that_is_not_kept_long_enough_is_gone() {
    run(async {
        let mut bench = Bench::new().await;
        bench.owner.keep.set(Duration::from_millis(20));
        bench.session.cut();
        bench.lost().await;
        assert_eq!((&mut bench.served).await, Ok(End::PeerLeft));
        assert_eq!(bench.device().driven(), [0, 1]);
        bench.session.mend();
        let end = bench.attachment.ended().await;
        assert!(matches!(end, Ended::NotBack(_)), "{end:?}");
    });
}

#[test]
fn a_session_that_was_ended_in_order_keeps_nothing() {
    run(async {
        let mut bench = Bench::new().await;
        bench.owner.keep.set(Duration::ZERO);
        bench.session.cut();
        assert_eq!((&mut bench.served).await, Ok(End::PeerLeft));
        assert_eq!(bench.device().claimed(), Vec::<u8>::new());
    });
}

#[test]
fn a_device_unplugged_in_an_outage_does_not_come_back() {
    run(async {
        let mut bench = Bench::new().await;
        bench.session.cut();
        bench.lost().await;
        bench.device().unplug();
        assert_eq!((&mut bench.served).await, Ok(End::DeviceGone));
        bench.session.mend();
        let end = bench.attachment.ended().await;
        assert!(matches!(end, Ended::NotBack(_)), "{end:?}");
    });
}

#[test]
fn a_device_detached_in_an_outage_goes_home_when_its_owner_is_heard_of() {
    run(async {
        let mut bench = Bench::new().await;
        bench.session.cut();
        bench.lost().await;
        bench.attachment.handle().detach();
        assert!(matches!(bench.attachment.ended().await, Ended::Detached));
        assert_eq!(bench.owner.sysfs.written("detach"), "3");
        bench.session.mend();
        assert_eq!((&mut bench.served).await, Ok(End::Detached));
        assert_eq!(bench.owner.device.driven(), [0, 1]);
    });
}

#[test]
fn a_setting_that_nobody_knows_of_is_made_what_its_driver_believes() {
    run(async {
        let mut bench = Bench::new().await;
        // The owner makes it, and its answer is lost.
        bench.owner.leak.0.set(0);
        bench.kernel.control(1, [1, 11, 1, 0, 1, 0, 0, 0]).await;
        let device = bench.device().clone();
        let made = Act::SetInterface(1, 1);
        bench.until(|| device.acts().contains(&made)).await;
        bench.session.cut();
        bench.lost().await;
        bench.owner.leak.0.set(usize::MAX);
        bench.session.mend();
        bench.kernel.expect(1, EPROTO, &[]).await;
        assert_eq!(bench.device().acts().last(), Some(&Act::SetInterface(1, 0)));
        // Setting 0 has no endpoint 4.
        bench.kernel.read(2, 4, 8).await;
        bench.kernel.expect(2, -108, &[]).await;
    });
}

#[test]
fn a_reset_in_an_outage_is_made_when_the_owner_is_back() {
    run(async {
        let mut bench = Bench::new().await;
        bench.session.cut();
        bench.lost().await;
        let notice = bench.attachment.handle().announce_reset();
        bench.kernel.control(1, [0x80, 6, 0, 1, 0, 0, 64, 0]).await;
        for _ in 0..20 {
            yield_now().await;
        }
        bench.session.mend();
        let (answer, _) = bench.kernel.answer().await;
        assert!(
            matches!(answer, myclerk::kernel::usbip_pdu::Return::Submit(ret) if ret.status == 0)
        );
        drop(notice);
        assert!(bench.device().acts().contains(&Act::Reset));
    });
}

#[test]
fn links_that_break_again_and_again_leave_nothing_behind() {
    run(async {
        let mut bench = Bench::new().await;
        for round in 0..50u32 {
            bench.kernel.write(2 * round, 2, &[1]).await;
            if round % 3 == 0 {
                yield_now().await;
            }
            bench.session.cut();
            bench.lost().await;
            bench.session.mend();
            let (answer, _) = bench.kernel.answer().await;
            let myclerk::kernel::usbip_pdu::Return::Submit(ret) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(ret.seqnum, 2 * round);
            bench.live().await;
        }
        bench.kernel.read(1000, 2, 4).await;
        let (answer, data) = bench.kernel.answer().await;
        assert_eq!(data, [0, 1, 2, 3], "{answer:?}");
        assert!(bench.device().written(2).len() <= 50);
        assert_eq!(bench.device().in_flight(), 0);
        assert_eq!(bench.device().complaints(), Vec::<String>::new());
    });
}
