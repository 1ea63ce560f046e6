//! The server half of USB against a fake device: what a peer asks on its stream, what the device
//! is asked to do, what the peer is told.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::usb::enumerate::Location;
use myclerk::bus::usb::fake::{Act, DESCRIPTORS, Fake, FakeHost};
use myclerk::bus::usb::hostuse::Roots;
use myclerk::bus::usb::op::{
    AttachRequest, AttachResponse, BulkTransfer, ClearHalt, ControlTransfer, EndpointAddress,
    GetDescriptor, InterruptTransfer, Mode, SetConfiguration, SetInterface, Setup, Speed,
    TransferFlags, TransferReply,
};
use myclerk::bus::usb::server::{End, Grant, serve};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError};
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;
use proptest::prelude::*;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

const ATTACH: u32 = 1_000_000;
/// Only so that a broken test ends; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);

/// One answer of the server half.
#[derive(Clone, Debug)]
struct Answer {
    corr: u32,
    status: Status,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct ErrorMap {
    sub: String,
    msg: String,
    #[serde(default)]
    detail: Option<i64>,
}

impl Answer {
    /// Status, actual and data of a transfer's reply.
    fn transfer(&self) -> (i32, u32, Vec<u8>) {
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

    fn error(&self) -> (Status, String) {
        let map: ErrorMap = msgpack::decode(&self.payload).unwrap();
        assert!(!map.msg.is_empty());
        (self.status, map.sub)
    }
}

/// The daemon's end of the stream.
#[derive(Default)]
struct Double {
    answers: RefCell<Vec<Answer>>,
    resets: RefCell<Vec<Status>>,
    news: Notify,
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
}

/// An attached fake device and the peer's side of its stream.
struct Bench {
    device: Fake,
    outlet: Rc<Double>,
    inbound: mpsc::UnboundedSender<Inbound>,
    task: JoinHandle<End>,
    next: u32,
}

struct Setting {
    ifs: Option<Vec<u8>>,
    force: bool,
    sys: tempfile::TempDir,
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
    fn start(device: Fake, setting: &Setting) -> Self {
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
            },
            location: Location {
                bus: 3,
                address: 7,
                sysfs: root.join("sys/devices/usb3/3-1"),
            },
            force: setting.force,
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

    async fn attach_with(device: Fake, setting: &Setting) -> Self {
        let bench = Self::start(device, setting);
        let answer = bench.answer(ATTACH).await;
        assert_eq!(answer.status, Status::Ok);
        bench
    }

    async fn attach() -> Self {
        Self::attach_with(Fake::new(), &Setting::default()).await
    }

    fn request(&mut self, opcode: Opcode, payload: Vec<u8>) -> u32 {
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

    fn send(&self, message: Inbound) {
        let _ = self.inbound.send(message);
    }

    fn bulk(&mut self, endpoint: u8, length: u32, data: &[u8]) -> u32 {
        self.bulk_with(endpoint, TransferFlags::default(), 0, length, data)
    }

    fn bulk_with(
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

    fn interrupt(&mut self, endpoint: u8, len: u32, timeout_ms: u32, data: &[u8]) -> u32 {
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

    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> u32 {
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

    fn set_configuration(&mut self, configuration: u8) -> u32 {
        let mut payload = Vec::new();
        SetConfiguration { configuration }.encode(&mut payload);
        self.request(Opcode::UsbSetConfiguration, payload)
    }

    fn set_interface(&mut self, interface: u8, alternate: u8) -> u32 {
        let mut payload = Vec::new();
        let request = SetInterface {
            interface,
            alternate,
        };
        request.encode(&mut payload);
        self.request(Opcode::UsbSetInterface, payload)
    }

    fn clear_halt(&mut self, endpoint: u8) -> u32 {
        let mut payload = Vec::new();
        let ep = EndpointAddress::from_u8(endpoint).unwrap();
        ClearHalt { ep }.encode(&mut payload);
        self.request(Opcode::UsbClearHalt, payload)
    }

    fn cancel(&self, corr: u32) {
        self.send(Inbound::Cancel { corr });
    }

    /// Waits until something holds that only the server half or the device can bring about.
    async fn until(&self, mut holds: impl FnMut(&Self) -> bool) {
        patiently(async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn answer(&self, corr: u32) -> Answer {
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

    async fn transfer(&self, corr: u32) -> (i32, u32, Vec<u8>) {
        self.answer(corr).await.transfer()
    }

    /// The numbers of the answers in their order.
    fn answered(&self) -> Vec<u32> {
        self.outlet
            .answers
            .borrow()
            .iter()
            .map(|answer| answer.corr)
            .collect()
    }

    async fn detach(&mut self) -> u32 {
        let corr = self.request(Opcode::UsbDeviceDetach, Vec::new());
        assert_eq!(self.answer(corr).await.status, Status::Ok);
        corr
    }

    /// Waits for the end and checks what holds at every end: every request was answered exactly
    /// once while the peer was there, and the kernel had nothing to complain about.
    async fn end(self) -> End {
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

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing happened for a long time")
}

/// Runs a test on one thread, as the daemon does.
fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(LocalSet::new().run_until(test))
}

#[test]
fn attaching_claims_every_interface_and_tells_the_descriptors() {
    local(async {
        let mut bench = Bench::attach().await;
        let response = AttachResponse::decode(&bench.answer(ATTACH).await.payload).unwrap();
        assert_eq!(response.desc, DESCRIPTORS);
        assert_eq!((response.spd, response.cfg), (Speed::High, 1));
        assert_eq!(response.devno, 3 << 16 | 7);
        assert_eq!(bench.device.claimed(), [0, 1]);
        assert_eq!(bench.device.driven(), Vec::<u8>::new());
        bench.detach().await;
        assert_eq!(bench.device.driven(), [0, 1]);
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_device_that_the_machine_uses_is_refused_unless_forced() {
    local(async {
        let mut setting = Setting::default();
        let class = setting.sys.path().join("sys/devices/usb3/3-1/bDeviceClass");
        std::fs::create_dir_all(class.parent().unwrap()).unwrap();
        std::fs::write(class, "09\n").unwrap();
        let bench = Bench::start(Fake::new(), &setting);
        let answer = bench.answer(ATTACH).await;
        assert_eq!(
            answer.error(),
            (Status::ServiceUnavailable, "busy".to_owned())
        );
        assert_eq!(bench.device.acts(), []);
        assert!(matches!(bench.end().await, End::Refused(_)));
        setting.force = true;
        Bench::attach_with(Fake::new(), &setting).await;
    });
}

#[test]
fn an_interface_of_another_program_refuses_the_whole_device_and_disturbs_nobody() {
    local(async {
        let device = Fake::new();
        device.give_to_program(1);
        let bench = Bench::start(device.clone(), &Setting::default());
        let answer = bench.answer(ATTACH).await;
        assert_eq!(
            answer.error(),
            (Status::ServiceUnavailable, "busy".to_owned())
        );
        assert!(matches!(bench.end().await, End::Refused(_)));
        assert!(!device.acts().contains(&Act::Reset));
        assert_eq!(device.driven(), [0, 1]);
    });
}

#[test]
fn a_device_that_is_not_there_any_more_is_refused_as_gone() {
    local(async {
        let device = Fake::new();
        device.unplug();
        let bench = Bench::start(device, &Setting::default());
        let answer = bench.answer(ATTACH).await;
        assert_eq!(
            answer.error(),
            (Status::ServiceUnavailable, "device-gone".to_owned())
        );
    });
}

#[test]
fn interfaces_that_do_not_exist_cannot_be_asked_for() {
    local(async {
        for ifs in [vec![], vec![2], vec![0, 255]] {
            let setting = Setting {
                ifs: Some(ifs),
                ..Setting::default()
            };
            let bench = Bench::start(Fake::new(), &setting);
            let answer = bench.answer(ATTACH).await;
            assert_eq!(
                answer.error(),
                (Status::BadRequest, "bad-payload".to_owned())
            );
            assert_eq!(bench.device.driven(), [0, 1]);
        }
    });
}

#[test]
fn a_part_of_a_device_can_be_attached_and_the_rest_is_left_alone() {
    local(async {
        let setting = Setting {
            ifs: Some(vec![1]),
            ..Setting::default()
        };
        let mut bench = Bench::attach_with(Fake::new(), &setting).await;
        assert_eq!(
            (bench.device.claimed(), bench.device.driven()),
            (vec![1], vec![0])
        );
        let refused = [
            bench.request(Opcode::UsbReset, Vec::new()),
            bench.set_configuration(2),
            bench.set_interface(0, 0),
            bench.bulk(0x82, 4, &[]),
            bench.clear_halt(0x82),
            bench.control([0x82, 0, 0, 0, 0x82, 0, 2, 0], &[]),
            bench.control([0xc1, 1, 0, 0, 0, 0, 1, 0], &[]),
        ];
        for corr in refused {
            assert_eq!(
                bench.answer(corr).await.status,
                Status::BadRequest,
                "{corr}"
            );
        }
        let same = bench.control([0x00, 9, 1, 0, 0, 0, 0, 0], &[]);
        assert_eq!(bench.transfer(same).await, (0, 0, vec![]));
        bench.detach().await;
        assert!(!bench.device.acts().contains(&Act::Reset));
        assert_eq!(bench.device.driven(), [0, 1]);
        bench.end().await;
    });
}

#[test]
fn what_is_written_can_be_read_back() {
    local(async {
        let mut bench = Bench::attach().await;
        let read = bench.bulk(0x81, 512, &[]);
        let write = bench.bulk(0x01, 5, b"hello");
        assert_eq!(bench.transfer(write).await, (0, 5, vec![]));
        assert_eq!(bench.transfer(read).await, (0, 5, b"hello".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn control_transfers_carry_data_both_ways_and_stalls_are_successful_answers() {
    local(async {
        let mut bench = Bench::attach().await;
        let store = bench.control([0x40, 1, 0, 0, 0, 0, 3, 0], b"abc");
        let load = bench.control([0xc0, 1, 0, 0, 0, 0, 64, 0], &[]);
        let stall = bench.control([0xc0, 99, 0, 0, 0, 0, 64, 0], &[]);
        assert_eq!(bench.transfer(store).await, (0, 3, vec![]));
        assert_eq!(bench.transfer(load).await, (0, 3, b"abc".to_vec()));
        assert_eq!(bench.transfer(stall).await, (-32, 0, vec![]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn many_transfers_are_in_flight_on_every_endpoint_and_end_in_order_on_each() {
    local(async {
        let mut bench = Bench::attach().await;
        for endpoint in [0x01, 0x02, 0x82] {
            bench.device.pause(endpoint);
        }
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        let mut reads = Vec::new();
        let mut writes = Vec::new();
        for number in 0..64_u8 {
            reads.push(bench.bulk(0x82, 3, &[]));
            writes.push(bench.bulk(0x02, 2, &[number, number]));
        }
        bench.until(|bench| bench.device.in_flight() == 129).await;
        // Endpoint 0 and the interrupt endpoint go on while the others stand.
        let setup = bench.control([0x80, 0, 0, 0, 0, 0, 2, 0], &[]);
        assert_eq!(bench.transfer(setup).await, (0, 2, vec![0, 0]));
        bench.device.interrupt(b"key");
        assert_eq!(bench.transfer(waiting).await, (0, 3, b"key".to_vec()));
        bench.device.resume(0x02);
        bench.transfer(writes[63]).await;
        bench.device.resume(0x82);
        bench.transfer(reads[63]).await;
        let order = bench.answered();
        let of = |list: &[u32]| -> Vec<u32> {
            order
                .iter()
                .copied()
                .filter(|corr| list.contains(corr))
                .collect()
        };
        assert_eq!(of(&reads), reads);
        assert_eq!(of(&writes), writes);
        let mut data = Vec::new();
        for read in &reads {
            data.extend(bench.transfer(*read).await.2);
        }
        assert_eq!(data, (0..192).collect::<Vec<u8>>());
        let pairs: Vec<u8> = (0..64).flat_map(|number| [number, number]).collect();
        assert_eq!(bench.device.written(0x02), pairs);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_cancelled_transfer_is_answered_once_as_cancelled() {
    local(async {
        let mut bench = Bench::attach().await;
        let first = bench.bulk(0x81, 64, &[]);
        let second = bench.bulk(0x81, 64, &[]);
        bench.cancel(first);
        bench.cancel(first);
        assert_eq!(bench.transfer(first).await, (-104, 0, vec![]));
        bench.cancel(first);
        bench.cancel(77);
        let write = bench.bulk(0x01, 2, b"ok");
        assert_eq!(bench.transfer(second).await, (0, 2, b"ok".to_vec()));
        bench.transfer(write).await;
        bench.detach().await;
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        let halt = bench.clear_halt(0x01);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        // Ends in the device while nobody can take it back.
        bench.device.let_calls_go();
        bench.answer(halt).await;
        let read = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.interrupt(b"now");
        bench.cancel(read);
        assert_eq!(bench.transfer(read).await, (0, 3, b"now".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_request_that_was_cancelled_before_its_start_is_never_started() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        let halt = bench.clear_halt(0x01);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        let write = bench.bulk(0x02, 4, b"nope");
        let reset = bench.request(Opcode::UsbReset, Vec::new());
        bench.cancel(write);
        bench.cancel(reset);
        assert_eq!(bench.transfer(write).await, (-2, 0, vec![]));
        let cancelled = (Status::Timeout, "cancelled".to_owned());
        assert_eq!(bench.answer(reset).await.error(), cancelled);
        bench.device.let_calls_go();
        bench.answer(halt).await;
        assert_eq!(bench.device.written(0x02), b"");
        assert!(!bench.device.acts().contains(&Act::Reset));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn requests_wait_their_turn_while_the_device_is_being_changed() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        let change = bench.set_interface(1, 1);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        let read = bench.bulk(0x84, 2, &[]);
        let back = bench.set_interface(1, 0);
        let late = bench.bulk(0x84, 2, &[]);
        bench.device.let_calls_go();
        assert_eq!(bench.transfer(read).await, (0, 2, vec![0, 1]));
        assert_eq!(bench.answer(change).await.status, Status::Ok);
        assert_eq!(bench.answer(back).await.status, Status::Ok);
        assert_eq!(bench.answer(late).await.status, Status::BadRequest);
        assert_eq!(bench.answered(), [ATTACH, change, read, back, late]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_transfer_without_an_end_ends_with_its_time() {
    local(async {
        let mut bench = Bench::attach().await;
        let patient = bench.interrupt(0x83, 8, 0, &[]);
        let hasty = bench.interrupt(0x83, 8, 5, &[]);
        assert_eq!(bench.transfer(hasty).await, (-110, 0, vec![]));
        bench.device.interrupt(b"late");
        assert_eq!(bench.transfer(patient).await, (0, 4, b"late".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn flags_reach_the_device() {
    local(async {
        let mut bench = Bench::attach().await;
        let flags = TransferFlags {
            short_not_ok: true,
            zero_packet: false,
        };
        let read = bench.bulk_with(0x81, flags, 0, 64, &[]);
        bench.bulk(0x01, 5, b"short");
        assert_eq!(bench.transfer(read).await, (-121, 5, b"short".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_halted_endpoint_stalls_until_the_halt_is_cleared_either_way() {
    local(async {
        let mut bench = Bench::attach().await;
        for by_control in [false, true] {
            bench.device.halt(0x82);
            let stalled = bench.bulk(0x82, 1, &[]);
            assert_eq!(bench.transfer(stalled).await.0, -32);
            if by_control {
                let clear = bench.control([0x02, 1, 0, 0, 0x82, 0, 0, 0], &[]);
                assert_eq!(bench.transfer(clear).await, (0, 0, vec![]));
            } else {
                let clear = bench.clear_halt(0x82);
                assert_eq!(bench.answer(clear).await.payload, [0x80]);
            }
            let read = bench.bulk(0x82, 1, &[]);
            assert_eq!(bench.transfer(read).await.0, 0);
        }
        let cleared = bench.device.acts();
        assert_eq!(
            cleared
                .iter()
                .filter(|act| **act == Act::ClearHalt(0x82))
                .count(),
            2
        );
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn setting_the_same_configuration_is_done_once_and_then_only_when_it_would_change_something() {
    local(async {
        let mut bench = Bench::attach().await;
        let same = [0x00, 9, 1, 0, 0, 0, 0, 0];
        for _ in 0..3 {
            let set = bench.control(same, &[]);
            assert_eq!(bench.transfer(set).await, (0, 0, vec![]));
        }
        let count = |bench: &Bench| {
            let acts = bench.device.acts();
            acts.iter()
                .filter(|act| **act == Act::SetConfiguration(1))
                .count()
        };
        assert_eq!(count(&bench), 1);
        assert_eq!(bench.device.claimed(), [0, 1]);
        let alternate = bench.set_interface(1, 1);
        bench.answer(alternate).await;
        let set = bench.control(same, &[]);
        bench.transfer(set).await;
        assert_eq!(count(&bench), 2);
        // The settings are back at 0 with it.
        let read = bench.bulk(0x84, 2, &[]);
        assert_eq!(bench.answer(read).await.status, Status::BadRequest);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn another_configuration_brings_its_endpoints_and_goes_back_at_the_end() {
    local(async {
        let mut bench = Bench::attach().await;
        let set = bench.set_configuration(2);
        assert_eq!(bench.answer(set).await.status, Status::Ok);
        assert_eq!(bench.device.claimed(), [0]);
        let write = bench.bulk(0x05, 1, b"x");
        assert_eq!(bench.transfer(write).await, (0, 1, vec![]));
        let old = bench.bulk(0x82, 1, &[]);
        assert_eq!(bench.answer(old).await.status, Status::BadRequest);
        bench.detach().await;
        assert_eq!(bench.device.configuration(), 1);
        assert_eq!(bench.device.driven(), [0, 1]);
        bench.end().await;
    });
}

#[test]
fn a_reset_lets_the_interfaces_go_before_and_takes_them_again_after() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        let reset = bench.request(Opcode::UsbReset, Vec::new());
        assert_eq!(bench.answer(reset).await.status, Status::Ok);
        assert_eq!(bench.transfer(waiting).await, (-2, 0, vec![]));
        assert_eq!(bench.device.claimed(), [0, 1]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_change_that_fails_is_answered_in_the_form_of_its_request() {
    local(async {
        let mut bench = Bench::attach().await;
        let halt = Act::ClearHalt(0x82);
        bench.device.fail_next(halt, Errno::EPIPE);
        let clear = bench.control([0x02, 1, 0, 0, 0x82, 0, 0, 0], &[]);
        assert_eq!(bench.transfer(clear).await, (-32, 0, vec![]));
        bench.device.fail_next(halt, Errno::EPIPE);
        let clear = bench.clear_halt(0x82);
        let answer = bench.answer(clear).await;
        assert_eq!(
            answer.error(),
            (Status::InternalError, "device-io".to_owned())
        );
        let map: ErrorMap = msgpack::decode(&answer.payload).unwrap();
        assert_eq!(map.detail, Some(32));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn descriptors_are_given_and_a_missing_one_is_an_error_of_the_device() {
    local(async {
        let mut bench = Bench::attach().await;
        let mut ask = |kind, len| {
            let mut payload = Vec::new();
            let request = GetDescriptor {
                kind,
                index: 0,
                lang: 0,
                len,
            };
            request.encode(&mut payload);
            bench.request(Opcode::UsbGetDescriptor, payload)
        };
        let (device, missing) = (ask(1, 8), ask(3, 255));
        let answer = bench.answer(device).await;
        assert_eq!(
            answer.payload,
            [&[0x91, 0xc4, 8], &DESCRIPTORS[..8]].concat()
        );
        let answer = bench.answer(missing).await;
        assert_eq!(
            answer.error(),
            (Status::InternalError, "device-io".to_owned())
        );
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn hostile_requests_are_refused_before_they_reach_the_device() {
    local(async {
        let mut bench = Bench::attach().await;
        let acts = bench.device.acts();
        let bad = [
            // No such endpoint, only in another setting, another direction, another type.
            bench.bulk(0x8f, 4, &[]),
            bench.bulk(0x84, 4, &[]),
            bench.bulk(0x83, 4, &[]),
            bench.bulk(0x05, 1, b"x"),
            bench.interrupt(0x82, 4, 0, &[]),
            bench.clear_halt(0x8f),
            bench.set_interface(0, 1),
            bench.set_interface(9, 0),
            bench.set_configuration(3),
            // A recipient that does not exist.
            bench.control([0x81, 6, 0, 0x22, 9, 0, 4, 0], &[]),
            bench.control([0x82, 0, 0, 0, 0x8f, 0, 2, 0], &[]),
            bench.control([0xa1, 0, 0, 0, 0, 9, 4, 0], &[]),
            // Data where none belongs.
            bench.control([0x00, 9, 1, 0, 0, 0, 1, 0], b"x"),
            bench.bulk(0x02, 4, b"xyz"),
            bench.bulk(0x82, 1, b"x"),
            bench.request(Opcode::UsbBulkTransfer, vec![0xc1]),
        ];
        for corr in bad {
            let error = (Status::BadRequest, "bad-payload".to_owned());
            assert_eq!(bench.answer(corr).await.error(), error, "{corr}");
        }
        let unsupported = [
            bench.control([0x00, 5, 9, 0, 0, 0, 0, 0], &[]),
            bench.control([0x00, 3, 2, 0, 0, 1, 0, 0], &[]),
            bench.request(Opcode::UsbIsochronousTransfer, Vec::new()),
            bench.request(Opcode::CanFrameSend, Vec::new()),
        ];
        for corr in unsupported {
            let error = (Status::BadRequest, "unsupported".to_owned());
            assert_eq!(bench.answer(corr).await.error(), error, "{corr}");
        }
        let unknown = bench.request(Opcode::Unknown(0x06ff), Vec::new());
        assert_eq!(bench.answer(unknown).await.error().1, "unknown-op");
        let again = bench.request(Opcode::UsbDeviceAttach, Vec::new());
        assert_eq!(bench.answer(again).await.error().1, "stream-state");
        assert_eq!(bench.device.acts(), acts);
        assert_eq!(bench.device.in_flight(), 0);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_printer_is_asked_for_its_id_by_the_interface_in_the_high_byte() {
    local(async {
        let mut bench = Bench::attach().await;
        let ask = bench.control([0xa1, 0, 0, 0, 0, 1, 64, 0], &[]);
        assert_eq!(bench.transfer(ask).await, (0, 1, vec![7]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_number_that_is_in_use_is_not_taken_twice() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.next -= 1;
        bench.interrupt(0x83, 8, 0, &[]);
        assert_eq!(bench.answer(waiting).await.status, Status::BadRequest);
        assert_eq!(bench.device.in_flight(), 1);
    });
}

#[test]
fn pulling_the_plug_answers_everything_and_resets_the_stream() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.hold_calls();
        let change = bench.clear_halt(0x82);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        let queued = bench.bulk(0x82, 1, &[]);
        let detach = bench.request(Opcode::UsbDeviceDetach, Vec::new());
        bench.device.unplug();
        assert_eq!(bench.transfer(waiting).await, (-108, 0, vec![]));
        let gone = (Status::ServiceUnavailable, "device-gone".to_owned());
        assert_eq!(bench.answer(change).await.error(), gone);
        assert_eq!(bench.transfer(queued).await, (-19, 0, vec![]));
        assert_eq!(bench.answer(detach).await.error(), gone);
        let outlet = Rc::clone(&bench.outlet);
        assert_eq!(bench.end().await, End::DeviceGone);
        assert_eq!(*outlet.resets.borrow(), [Status::ServiceUnavailable]);
    });
}

#[test]
fn an_idle_device_that_is_unplugged_ends_its_stream() {
    local(async {
        let bench = Bench::attach().await;
        bench.device.unplug();
        assert_eq!(bench.end().await, End::DeviceGone);
    });
}

#[test]
fn detaching_ends_what_is_under_way_and_resets_the_device_before_its_drivers_come_back() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = [bench.interrupt(0x83, 8, 0, &[]), bench.bulk(0x81, 8, &[])];
        let detach = bench.detach().await;
        for corr in waiting {
            assert!(matches!(bench.transfer(corr).await.0, -2 | -108));
        }
        assert_eq!(bench.answered().last(), Some(&detach));
        let acts = bench.device.acts();
        let at = |act| acts.iter().rposition(|other| *other == act).unwrap();
        assert!(at(Act::Release(1)) < at(Act::Reset));
        assert!(at(Act::Reset) < at(Act::Connect(0)));
        assert_eq!(bench.device.driven(), [0, 1]);
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_peer_that_vanishes_leaves_the_device_as_it_was_found() {
    local(async {
        for message in [
            Some(Inbound::Closed),
            Some(Inbound::Reset {
                status: Status::ServiceUnavailable,
            }),
            None,
        ] {
            let mut bench = Bench::attach().await;
            bench.interrupt(0x83, 8, 0, &[]);
            bench.until(|bench| bench.device.in_flight() == 1).await;
            match message {
                Some(message) => bench.send(message),
                None => bench.inbound = mpsc::unbounded_channel().0,
            }
            let device = bench.device.clone();
            assert_eq!(bench.end().await, End::PeerLeft);
            assert!(device.acts().contains(&Act::Reset));
            assert_eq!((device.driven(), device.in_flight()), (vec![0, 1], 0));
        }
    });
}

#[test]
fn a_peer_that_vanishes_during_a_change_still_gives_the_device_back() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        bench.set_configuration(2);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        bench.send(Inbound::Closed);
        tokio::task::yield_now().await;
        bench.device.let_calls_go();
        let device = bench.device.clone();
        assert_eq!(bench.end().await, End::PeerLeft);
        assert_eq!((device.configuration(), device.driven()), (1, vec![0, 1]));
    });
}

#[test]
fn a_task_that_is_dropped_gives_the_device_back_all_the_same() {
    local(async {
        let bench = Bench::attach().await;
        bench.task.abort();
        assert!(bench.task.await.unwrap_err().is_cancelled());
        assert_eq!(bench.device.driven(), [0, 1]);
        assert_eq!(bench.device.complaints(), Vec::<String>::new());
    });
}

/// A request that a peer might send, well-formed or not.
fn any_request() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let garbage = (
        0x0602_u16..0x060d,
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    let control = any::<[u8; 6]>().prop_map(|[kind, request, v0, v1, i0, i1]| {
        let mut payload = Vec::new();
        let setup = [
            kind % 0xc4,
            request % 12,
            v0 % 4,
            v1 % 4,
            i0 % 3,
            i1 % 3,
            0,
            0,
        ];
        let transfer = ControlTransfer {
            flags: TransferFlags::default(),
            timeout_ms: 0,
            setup: Setup::from_bytes(setup),
            len: 0,
        };
        transfer.encode(&mut payload);
        (Opcode::UsbControlTransfer.to_u16(), payload)
    });
    let bulk = (any::<u8>(), 0_u32..64).prop_map(|(endpoint, len)| {
        let mut payload = Vec::new();
        let ep = EndpointAddress::from_u8(endpoint & 0x87).unwrap();
        let transfer = BulkTransfer {
            ep,
            flags: TransferFlags::default(),
            timeout_ms: 1,
            len,
        };
        transfer.encode(&mut payload);
        payload.resize(payload.len() + transfer.data_len() as usize, 0);
        (Opcode::UsbBulkTransfer.to_u16(), payload)
    });
    prop_oneof![garbage, control, bulk]
        .prop_filter("detaching ends the stream", |(opcode, _)| *opcode != 0x0602)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_peer_sends_is_answered_exactly_once_and_upsets_no_kernel(
        requests in proptest::collection::vec((any_request(), any::<bool>()), 1..40),
    ) {
        let end = local(async {
            let mut bench = Bench::attach().await;
            for ((opcode, payload), cancelled) in requests {
                let corr = bench.request(Opcode::from_u16(opcode), payload);
                if cancelled {
                    bench.cancel(corr);
                }
            }
            bench.detach().await;
            bench.end().await
        });
        prop_assert_eq!(end, End::Detached);
    }
}
