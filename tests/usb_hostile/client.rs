//! A client that breaks the rules, against the server half.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use myclerk::bus::usb::enumerate::Location;
use myclerk::bus::usb::fake::{Fake, FakeHost};
use myclerk::bus::usb::hardware::UsbHost;
use myclerk::bus::usb::hostuse::Roots;
use myclerk::bus::usb::op::{
    AttachRequest, BulkTransfer, ControlTransfer, EndpointAddress, Mode, Setup, TransferFlags,
    TransferReply,
};
use myclerk::bus::usb::server::{End, Grant, serve};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local, yield_now};

use crate::fuzz::rig::run;
use crate::memory::Peak;

const ATTACH: u32 = 1_000_000;

type Answers = Rc<RefCell<Vec<(u32, Status, Vec<u8>)>>>;

/// The client's end of the stream.
struct Ear(Answers);

impl Outlet for Ear {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        panic!("the server half asks for nothing: {outgoing:?}");
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.0.borrow_mut().push((corr, status, payload));
    }

    fn event(&self, opcode: Opcode, _: Vec<u8>) {
        panic!("the server half has no event {opcode}");
    }

    fn data(&self, _: Vec<u8>, _: bool) {
        panic!("the server half has no data");
    }

    fn cancel(&self, corr: u32) {
        panic!("the server half cancels nothing: {corr}");
    }

    fn reset(&self, _: Status) {}

    fn consume(&self, _: usize) {}

    fn writable(&self, _: usize) -> bool {
        true
    }

    fn queued(&self) -> usize {
        0
    }
}

/// An attached device and a client without manners.
pub(crate) struct Bench {
    pub(crate) device: Fake,
    answers: Answers,
    inbound: mpsc::UnboundedSender<Inbound>,
    task: JoinHandle<End>,
    next: u32,
}

impl Bench {
    pub(crate) fn start<H>(host: &H, device: Fake, ifs: Option<Vec<u8>>) -> Self
    where
        H: UsbHost + Clone + 'static,
    {
        let answers = Answers::default();
        let (inbound, receiver) = mpsc::unbounded_channel();
        let nowhere = Path::new("/nonexistent");
        let grant = Grant {
            corr: ATTACH,
            request: AttachRequest {
                dev: "usb:1d6b:0104:1".to_owned(),
                mode: Mode::ReadWrite,
                lock: None,
                ifs,
                hold: None,
                token: None,
            },
            location: Location {
                bus: 3,
                address: 7,
                sysfs: nowhere.join("usb3/3-1"),
            },
            force: false,
            quiet: false,
            roots: Roots {
                sys: nowhere.into(),
                proc: nowhere.into(),
                dev: nowhere.into(),
            },
        };
        let outlet: Rc<dyn Outlet> = Rc::new(Ear(Rc::clone(&answers)));
        let host = host.clone();
        let task = spawn_local(async move { serve(&host, grant, outlet, receiver).await });
        Self {
            device,
            answers,
            inbound,
            task,
            next: 0,
        }
    }

    fn fake(ifs: Option<Vec<u8>>) -> Self {
        let device = Fake::new();
        let host = FakeHost::default().with(3, 7, device.clone());
        Self::start(&host, device, ifs)
    }

    fn send(&self, inbound: Inbound) {
        // The server half may have ended.
        let _ = self.inbound.send(inbound);
    }

    pub(crate) fn request(&mut self, opcode: Opcode, payload: Vec<u8>) -> u32 {
        self.next += 1;
        let corr = self.next;
        self.send(Inbound::Request {
            corr,
            opcode,
            payload,
            age_secs: 0,
        });
        corr
    }

    fn control(&mut self, setup: [u8; 8]) -> u32 {
        let mut payload = Vec::new();
        let setup = Setup::from_bytes(setup);
        let transfer = ControlTransfer {
            flags: TransferFlags::default(),
            timeout_ms: 0,
            setup,
            len: setup.length.into(),
        };
        transfer.encode(&mut payload);
        payload.resize(payload.len() + transfer.data_len() as usize, 0);
        self.request(Opcode::UsbControlTransfer, payload)
    }

    async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            yield_now().await;
        }
    }

    fn answered(&self, corr: u32) -> Option<(Status, Vec<u8>)> {
        let answers = self.answers.borrow();
        let (_, status, payload) = answers.iter().find(|answer| answer.0 == corr)?;
        Some((*status, payload.clone()))
    }

    async fn answer(&self, corr: u32) -> (Status, Vec<u8>) {
        loop {
            if let Some(answer) = self.answered(corr) {
                return answer;
            }
            yield_now().await;
        }
    }

    pub(crate) async fn attached(&mut self) -> (Status, Vec<u8>) {
        self.answer(ATTACH).await
    }

    pub(crate) async fn ended(self) -> End {
        self.task.await.expect("a task's end")
    }

    /// Gives the device back and checks that everything was answered, once.
    pub(crate) async fn detach(mut self) -> End {
        self.request(Opcode::UsbDeviceDetach, Vec::new());
        let end = self.task.await.expect("a task's end");
        let mut corrs: Vec<u32> = self
            .answers
            .borrow()
            .iter()
            .map(|answer| answer.0)
            .collect();
        corrs.sort_unstable();
        let all: Vec<u32> = (1..=self.next).chain([ATTACH]).collect();
        assert_eq!(corrs, all, "one answer for each request");
        assert_eq!(self.device.complaints(), Vec::<String>::new());
        end
    }
}

/// A bulk transfer with the data it announces.
pub(crate) fn bulk(address: u8, len: u32) -> Vec<u8> {
    let transfer = BulkTransfer {
        ep: EndpointAddress::from_u8(address).expect("an endpoint's address"),
        flags: TransferFlags::default(),
        timeout_ms: 0,
        len,
    };
    let mut payload = Vec::new();
    transfer.encode(&mut payload);
    payload.resize(payload.len() + transfer.data_len() as usize, 0x3c);
    payload
}

#[test]
fn who_has_one_interface_reaches_nothing_of_the_others() {
    run(async {
        let mut bench = Bench::fake(Some(vec![0]));
        assert_eq!(bench.attached().await.0, Status::Ok);
        let acts = bench.device.acts();
        let foreign = [
            bench.request(Opcode::UsbBulkTransfer, bulk(0x84, 4)),
            bench.request(Opcode::UsbSetInterface, vec![0x92, 1, 1]),
            bench.request(Opcode::UsbSetConfiguration, vec![0x91, 2]),
            bench.request(Opcode::UsbReset, Vec::new()),
            bench.request(Opcode::UsbClearHalt, vec![0x91, 0xcc, 0x84]),
            bench.control([0x01, 11, 1, 0, 1, 0, 0, 0]),
            bench.control([0x00, 9, 2, 0, 0, 0, 0, 0]),
            bench.control([0x02, 1, 0, 0, 0x84, 0, 0, 0]),
            bench.control([0x21, 9, 0, 0, 1, 0, 0, 0]),
            bench.control([0xa1, 1, 0, 0, 1, 0, 4, 0]),
            bench.control([0x22, 1, 0, 0, 0x84, 0, 0, 0]),
        ];
        for corr in foreign {
            assert_eq!(bench.answer(corr).await.0, Status::BadRequest, "{corr}");
        }
        assert_eq!(bench.device.acts(), acts);
        assert_eq!(bench.device.claimed(), [0]);
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn interfaces_that_do_not_exist_and_repetitions_are_no_way_in() {
    for ifs in [vec![], vec![2], vec![255], vec![0, 9], vec![7; 100_000]] {
        run(async {
            let mut bench = Bench::fake(Some(ifs));
            assert_eq!(bench.attached().await.0, Status::BadRequest);
            assert_eq!(bench.device.claimed(), Vec::<u8>::new());
            assert!(matches!(bench.ended().await, End::Refused(_)));
        });
    }
    run(async {
        let mut bench = Bench::fake(Some(vec![1; 100_000]));
        assert_eq!(bench.attached().await.0, Status::Ok);
        assert_eq!(bench.device.claimed(), [1]);
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn lengths_that_no_transfer_has_reach_no_device() {
    run(async {
        let mut bench = Bench::fake(None);
        bench.attached().await;
        let header = |len: &[u8], data: &[u8]| {
            let parts: [&[u8]; 4] = [&[0x95, 0xcc, 0x82, 0, 0], len, &[0xc4], data];
            parts.concat()
        };
        let bad = [
            header(&[0xce, 0x01, 0, 0, 1], &[0]),
            header(&[0xce, 0xff, 0xff, 0xff, 0xff], &[0]),
            header(&[0xcf, 0, 0, 0, 1, 0, 0, 0, 0], &[0]),
            header(&[0xff], &[0]),
            header(&[0xcb, 0, 0, 0, 0, 0, 0, 0, 0], &[0]),
        ];
        for payload in bad {
            let corr = bench.request(Opcode::UsbBulkTransfer, payload);
            assert_eq!(bench.answer(corr).await.0, Status::BadRequest);
        }
        // The longest that there is.
        let corr = bench.request(Opcode::UsbBulkTransfer, header(&[0xce, 1, 0, 0, 0], &[0]));
        let (status, payload) = bench.answer(corr).await;
        assert_eq!(status, Status::Ok);
        let reply = TransferReply::decode(&payload).expect("a reply");
        assert_eq!((reply.actual, reply.data.len()), (16 << 20, 16 << 20));
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn thousands_of_transfers_cost_no_more_than_their_requests() {
    const COUNT: u32 = 4096;
    run(async {
        let mut bench = Bench::fake(None);
        bench.attached().await;
        bench.device.pause(0x82);
        let peak = Peak::begin();
        for _ in 0..COUNT {
            // Buffers are the kernel's business, which has a limit of its own for them.
            bench.request(Opcode::UsbBulkTransfer, bulk(0x82, 4096));
        }
        bench
            .until(|bench| bench.device.in_flight() == COUNT as usize)
            .await;
        let each = peak.bytes() / i64::from(COUNT);
        assert!(each < 1024, "{each} bytes for each");
        for corr in 1..=COUNT {
            bench.send(Inbound::Cancel { corr });
        }
        bench.until(|bench| bench.device.in_flight() == 0).await;
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn a_flood_of_cancels_for_unknown_requests_does_and_keeps_nothing() {
    run(async {
        let mut bench = Bench::fake(None);
        bench.attached().await;
        let idle = bench.request(Opcode::UsbBulkTransfer, bulk(0x81, 8));
        bench.until(|bench| bench.device.in_flight() == 1).await;
        let acts = bench.device.acts();
        let peak = Peak::begin();
        for round in 0..200_u32 {
            for corr in 0..500 {
                let corr = 10_000 + round * 500 + corr;
                bench.send(Inbound::Cancel { corr });
            }
            let seen = bench.request(Opcode::UsbGetDescriptor, vec![0x94, 1, 0, 0, 18]);
            bench.answer(seen).await;
        }
        assert!(peak.left() < 256 << 10, "{} bytes are left", peak.left());
        assert_eq!(bench.device.acts(), acts);
        assert_eq!(bench.device.in_flight(), 1);
        bench.send(Inbound::Cancel { corr: idle });
        bench.send(Inbound::Cancel { corr: idle });
        bench.answer(idle).await;
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn what_is_asked_before_the_device_is_attached_waits_for_it() {
    run(async {
        let device = Fake::new();
        device.hold_calls();
        let host = FakeHost::default().with(3, 7, device.clone());
        let mut bench = Bench::start(&host, device, None);
        let write = bench.request(Opcode::UsbBulkTransfer, bulk(0x02, 4));
        let read = bench.request(Opcode::UsbBulkTransfer, bulk(0x81, 4));
        bench.send(Inbound::Cancel { corr: read });
        bench.until(|bench| bench.device.waiting_calls() > 0).await;
        assert_eq!(bench.answers.borrow().len(), 0);
        assert_eq!(bench.device.in_flight(), 0);
        bench.device.let_calls_go();
        assert_eq!(bench.attached().await.0, Status::Ok);
        bench.answer(write).await;
        assert_eq!(bench.answers.borrow()[0].0, ATTACH);
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn attaching_again_on_the_same_stream_changes_nothing() {
    run(async {
        let mut bench = Bench::fake(None);
        bench.attached().await;
        let acts = bench.device.acts();
        let again = AttachRequest {
            dev: "usb:1d6b:0104:1".to_owned(),
            mode: Mode::Exclusive,
            lock: None,
            ifs: None,
            hold: None,
            token: None,
        };
        for _ in 0..100 {
            let payload = again.encode().expect("an encoded request");
            let corr = bench.request(Opcode::UsbDeviceAttach, payload);
            assert_eq!(bench.answer(corr).await.0, Status::BadRequest);
        }
        assert_eq!(bench.device.acts(), acts);
        assert_eq!(bench.detach().await, End::Detached);
    });
}

#[test]
fn what_comes_behind_the_detach_is_not_done() {
    run(async {
        let mut bench = Bench::fake(None);
        bench.attached().await;
        bench.device.hold_calls();
        bench.request(Opcode::UsbDeviceDetach, Vec::new());
        let late = bench.request(Opcode::UsbBulkTransfer, bulk(0x02, 4));
        bench.until(|bench| bench.device.waiting_calls() > 0).await;
        bench.device.let_calls_go();
        let device = bench.device.clone();
        let (_, payload) = bench.answer(late).await;
        let reply = TransferReply::decode(&payload).expect("a reply");
        assert_eq!((reply.status, reply.actual), (-libc::ESHUTDOWN, 0));
        assert_eq!(device.written(0x02), Vec::<u8>::new());
        assert_eq!(bench.ended().await, End::Detached);
        assert_eq!(device.complaints(), Vec::<String>::new());
    });
}
