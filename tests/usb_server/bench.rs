//! A fake device, the server half that serves it, and the peer's end of the stream.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::usb::enumerate::Location;
use myclerk::bus::usb::fake::{Fake, FakeHost};
use myclerk::bus::usb::hostuse::Roots;
use myclerk::bus::usb::op::{
    AttachRequest, BulkTransfer, ClearHalt, ControlTransfer, EndpointAddress, InterruptTransfer,
    IsoReply, IsoTransfer, Mode, SetConfiguration, SetInterface, Setup, TransferFlags,
    TransferReply,
};
use myclerk::bus::usb::server::{End, Grant, serve};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError};
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

pub(crate) const ATTACH: u32 = 1_000_000;
/// Only so that a broken test ends; nothing is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One answer of the server half.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) corr: u32,
    pub(crate) status: Status,
    pub(crate) payload: Vec<u8>,
}

/// What became of an isochronous transfer: `(actual, status)` of every packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IsoAnswer {
    pub(crate) status: i32,
    pub(crate) packets: Vec<(u32, i32)>,
    pub(crate) data: Vec<u8>,
}

#[derive(Deserialize)]
pub(crate) struct ErrorMap {
    pub(crate) sub: String,
    pub(crate) msg: String,
    #[serde(default)]
    pub(crate) detail: Option<i64>,
}

impl Answer {
    /// Status, actual and data of a transfer's reply.
    pub(crate) fn transfer(&self) -> (i32, u32, Vec<u8>) {
        assert_eq!(
            self.status,
            Status::Ok,
            "{:?}",
            String::from_utf8_lossy(&self.payload)
        );
        let reply = TransferReply::decode(&self.payload).unwrap();
        (
            reply.status,
            reply.actual,
            self.payload[reply.data].to_vec(),
        )
    }

    pub(crate) fn iso(&self) -> IsoAnswer {
        assert_eq!(
            self.status,
            Status::Ok,
            "{:?}",
            String::from_utf8_lossy(&self.payload)
        );
        let reply = IsoReply::decode(&self.payload).unwrap();
        let bad = reply.packets.iter().filter(|packet| packet.status != 0);
        assert_eq!(usize::try_from(reply.errors).unwrap(), bad.count());
        IsoAnswer {
            status: reply.status,
            packets: reply.packets.iter().map(|p| (p.actual, p.status)).collect(),
            data: self.payload[reply.data].to_vec(),
        }
    }

    pub(crate) fn error(&self) -> (Status, String) {
        let map: ErrorMap = msgpack::decode(&self.payload).unwrap();
        assert!(!map.msg.is_empty());
        (self.status, map.sub)
    }
}

/// The daemon's end of the stream.
#[derive(Default)]
pub(crate) struct Double {
    pub(crate) answers: RefCell<Vec<Answer>>,
    pub(crate) resets: RefCell<Vec<Status>>,
    pub(crate) news: Notify,
}

impl Outlet for Double {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        panic!("the server half asks for nothing: {outgoing:?}");
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.answers.borrow_mut().push(Answer {
            corr,
            status,
            payload,
        });
        self.news.notify_waiters();
    }

    fn event(&self, opcode: Opcode, _: Vec<u8>) {
        panic!("the server half sends no events: {opcode:?}");
    }

    fn data(&self, _: Vec<u8>, _: bool) {
        panic!("the server half sends no data");
    }

    fn cancel(&self, corr: u32) {
        panic!("the server half cancels nothing: {corr}");
    }

    fn reset(&self, status: Status) {
        self.resets.borrow_mut().push(status);
    }

    fn consume(&self, _: usize) {}

    fn writable(&self, _: usize) -> bool {
        true
    }

    fn queued(&self) -> usize {
        0
    }
}

/// An attached fake device and the peer's side of its stream.
pub(crate) struct Bench {
    pub(crate) device: Fake,
    pub(crate) outlet: Rc<Double>,
    pub(crate) inbound: mpsc::UnboundedSender<Inbound>,
    pub(crate) task: JoinHandle<End>,
    pub(crate) next: u32,
}

pub(crate) struct Setting {
    pub(crate) ifs: Option<Vec<u8>>,
    pub(crate) force: bool,
    pub(crate) sys: tempfile::TempDir,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            ifs: None,
            force: false,
            sys: tempfile::tempdir().unwrap(),
        }
    }
}

impl Bench {
    pub(crate) fn start(device: Fake, setting: &Setting) -> Self {
        let outlet = Rc::new(Double::default());
        let (inbound, receiver) = mpsc::unbounded_channel();
        let root = setting.sys.path();
        let grant = Grant {
            corr: ATTACH,
            request: AttachRequest {
                dev: "usb:1d6b:0104:1".to_owned(),
                mode: Mode::ReadWrite,
                lock: None,
                ifs: setting.ifs.clone(),
                hold: None,
                token: None,
            },
            location: Location {
                bus: 3,
                address: 7,
                sysfs: root.join("sys/devices/usb3/3-1"),
            },
            force: setting.force,
            quiet: false,
            roots: Roots {
                sys: root.join("sys"),
                proc: root.join("proc"),
                dev: root.join("dev"),
            },
        };
        let host = FakeHost::default().with(3, 7, device.clone());
        let stream: Rc<dyn Outlet> = Rc::clone(&outlet) as Rc<dyn Outlet>;
        let task = spawn_local(async move { serve(&host, grant, stream, receiver).await });
        Self {
            device,
            outlet,
            inbound,
            task,
            next: 0,
        }
    }

    pub(crate) async fn attach_with(device: Fake, setting: &Setting) -> Self {
        let bench = Self::start(device, setting);
        let answer = bench.answer(ATTACH).await;
        assert_eq!(answer.status, Status::Ok);
        bench
    }

    pub(crate) async fn attach() -> Self {
        Self::attach_with(Fake::new(), &Setting::default()).await
    }

    /// With the setting that has the isochronous endpoints.
    pub(crate) async fn attach_iso() -> Self {
        let mut bench = Self::attach().await;
        let set = bench.set_interface(1, 2);
        assert_eq!(bench.answer(set).await.status, Status::Ok);
        bench
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

    pub(crate) fn send(&self, message: Inbound) {
        let _ = self.inbound.send(message);
    }

    pub(crate) fn bulk(&mut self, endpoint: u8, length: u32, data: &[u8]) -> u32 {
        self.bulk_with(endpoint, TransferFlags::default(), 0, length, data)
    }

    pub(crate) fn bulk_with(
        &mut self,
        endpoint: u8,
        flags: TransferFlags,
        timeout_ms: u32,
        len: u32,
        data: &[u8],
    ) -> u32 {
        let ep = EndpointAddress::from_u8(endpoint).unwrap();
        let mut payload = Vec::new();
        let transfer = BulkTransfer {
            ep,
            flags,
            timeout_ms,
            len,
        };
        transfer.encode(&mut payload);
        payload.extend_from_slice(data);
        self.request(Opcode::UsbBulkTransfer, payload)
    }

    pub(crate) fn interrupt(
        &mut self,
        endpoint: u8,
        len: u32,
        timeout_ms: u32,
        data: &[u8],
    ) -> u32 {
        let mut payload = Vec::new();
        let transfer = InterruptTransfer {
            ep: EndpointAddress::from_u8(endpoint).unwrap(),
            flags: TransferFlags::default(),
            timeout_ms,
            len,
            interval: 4,
        };
        transfer.encode(&mut payload);
        payload.extend_from_slice(data);
        self.request(Opcode::UsbInterruptTransfer, payload)
    }

    pub(crate) fn iso(&mut self, endpoint: u8, packets: &[u32], data: &[u8]) -> u32 {
        self.iso_with(endpoint, 0, packets, data)
    }

    pub(crate) fn iso_with(
        &mut self,
        endpoint: u8,
        ttl_ms: u32,
        packets: &[u32],
        data: &[u8],
    ) -> u32 {
        let mut payload = Vec::new();
        let transfer = IsoTransfer {
            ep: EndpointAddress::from_u8(endpoint).unwrap(),
            flags: TransferFlags::default(),
            start_frame: None,
            ttl_ms,
            packets: packets.to_vec(),
        };
        transfer.encode(&mut payload);
        payload.extend_from_slice(data);
        self.request(Opcode::UsbIsochronousTransfer, payload)
    }

    pub(crate) fn control(&mut self, setup: [u8; 8], data: &[u8]) -> u32 {
        let setup = Setup::from_bytes(setup);
        let mut payload = Vec::new();
        let transfer = ControlTransfer {
            flags: TransferFlags::default(),
            timeout_ms: 0,
            setup,
            len: setup.length.into(),
        };
        transfer.encode(&mut payload);
        payload.extend_from_slice(data);
        self.request(Opcode::UsbControlTransfer, payload)
    }

    pub(crate) fn set_configuration(&mut self, configuration: u8) -> u32 {
        let mut payload = Vec::new();
        SetConfiguration { configuration }.encode(&mut payload);
        self.request(Opcode::UsbSetConfiguration, payload)
    }

    pub(crate) fn set_interface(&mut self, interface: u8, alternate: u8) -> u32 {
        let mut payload = Vec::new();
        let request = SetInterface {
            interface,
            alternate,
        };
        request.encode(&mut payload);
        self.request(Opcode::UsbSetInterface, payload)
    }

    pub(crate) fn clear_halt(&mut self, endpoint: u8) -> u32 {
        let mut payload = Vec::new();
        let ep = EndpointAddress::from_u8(endpoint).unwrap();
        ClearHalt { ep }.encode(&mut payload);
        self.request(Opcode::UsbClearHalt, payload)
    }

    pub(crate) fn cancel(&self, corr: u32) {
        self.send(Inbound::Cancel { corr });
    }

    /// Waits until something holds that only the server half or the device can bring about.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        patiently(async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) async fn answer(&self, corr: u32) -> Answer {
        patiently(async {
            loop {
                let news = self.outlet.news.notified();
                let found = self
                    .outlet
                    .answers
                    .borrow()
                    .iter()
                    .find(|a| a.corr == corr)
                    .cloned();
                if let Some(answer) = found {
                    return answer;
                }
                news.await;
            }
        })
        .await
    }

    pub(crate) async fn transfer(&self, corr: u32) -> (i32, u32, Vec<u8>) {
        self.answer(corr).await.transfer()
    }

    pub(crate) async fn iso_answer(&self, corr: u32) -> IsoAnswer {
        self.answer(corr).await.iso()
    }

    /// The numbers of the answers in their order.
    pub(crate) fn answered(&self) -> Vec<u32> {
        self.outlet
            .answers
            .borrow()
            .iter()
            .map(|answer| answer.corr)
            .collect()
    }

    pub(crate) async fn detach(&mut self) -> u32 {
        let corr = self.request(Opcode::UsbDeviceDetach, Vec::new());
        assert_eq!(self.answer(corr).await.status, Status::Ok);
        corr
    }

    /// Waits for the end and checks what holds at every end: every request was answered exactly
    /// once while the peer was there, and the kernel had nothing to complain about.
    pub(crate) async fn end(self) -> End {
        let end = patiently(self.task).await.unwrap();
        let mut answered: Vec<u32> = self
            .outlet
            .answers
            .borrow()
            .iter()
            .map(|a| a.corr)
            .collect();
        let count = answered.len();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(answered.len(), count, "a request was answered twice");
        if matches!(end, End::Detached | End::DeviceGone) {
            assert_eq!(count, 1 + usize::try_from(self.next).unwrap());
        }
        assert_eq!(self.device.complaints(), Vec::<String>::new());
        if end != End::DeviceGone {
            assert_eq!(self.device.claimed(), Vec::<u8>::new());
        }
        end
    }
}

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened for a long time")
}

/// Runs a test on one thread, as the daemon does.
pub(crate) fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(LocalSet::new().run_until(test))
}
