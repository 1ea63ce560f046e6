//! A client that asks for whatever it likes, against the server half with a fake device: the device
//! is asked for nothing that its kernel would complain about, and every request is answered once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use myclerk::bus::usb::enumerate::Location;
use myclerk::bus::usb::fake::{Act, Fake, FakeHost};
use myclerk::bus::usb::hostuse::Roots;
use myclerk::bus::usb::op::{
    AttachRequest, BulkTransfer, ClearHalt, ControlTransfer, EndpointAddress, GetDescriptor,
    InterruptTransfer, IsoReply, IsoTransfer, Mode, SetConfiguration, SetInterface, Setup,
    TransferFlags, TransferReply,
};
use myclerk::bus::usb::server::{End, Grant, serve};
use myclerk::bus::{Inbound, Outgoing, Outlet, OutletError, declared_reply};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local, yield_now};

use super::bytes::Bytes;
use super::rig::run;

const ATTACH: u32 = 1_000_000;
/// Most acts of one script.
const MAX_ACTS: usize = 100;
/// Endpoints that the fake device has in some setting, and others.
const ENDPOINTS: &[u8] = &[
    0x01, 0x81, 0x02, 0x82, 0x03, 0x83, 0x84, 0x05, 0x85, 0x06, 0x86, 0x8f, 0x0f,
];
const FAILURES: &[(Act, Errno)] = &[
    (Act::Discard, Errno::EINVAL),
    (Act::Claim(0), Errno::EBUSY),
    (Act::SetConfiguration(2), Errno::EPIPE),
    (Act::SetInterface(1, 1), Errno::EPIPE),
    (Act::ClearHalt(0x82), Errno::ETIMEDOUT),
    (Act::Reset, Errno::ENODEV),
];

/// A script of acts of client and device. The first byte chooses the interfaces.
///
/// # Panics
/// When the fake device has something to complain about, a request has no or two answers, or an
/// answer is not one that was asked for.
pub fn hostile_client(data: &[u8]) {
    run(async {
        let mut bytes = Bytes::new(data);
        let mut play = Play::new(bytes.u8());
        for _ in 0..MAX_ACTS {
            if bytes.is_empty() {
                break;
            }
            play.act(&mut bytes).await;
        }
        play.end(&mut bytes).await;
    });
}

/// What was asked and what was answered.
#[derive(Default)]
struct Client {
    asked: RefCell<HashMap<u32, (Opcode, Vec<u8>)>>,
    /// Numbers that were used twice while the first was unanswered: all bets are off.
    doubled: RefCell<Vec<u32>>,
    answers: RefCell<HashMap<u32, usize>>,
}

impl Outlet for Client {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        panic!("the server half asks for nothing: {outgoing:?}");
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        *self.answers.borrow_mut().entry(corr).or_default() += 1;
        if corr == ATTACH || self.doubled.borrow().contains(&corr) {
            return;
        }
        let asked = self.asked.borrow();
        let (opcode, request) = asked.get(&corr).expect("a request of that number");
        if status.is_success() {
            check_reply(*opcode, request, &payload);
        }
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

/// The answer fits what was asked for and what was declared.
fn check_reply(opcode: Opcode, request: &[u8], payload: &[u8]) {
    let declared = declared_reply(opcode, request);
    match opcode {
        Opcode::UsbControlTransfer | Opcode::UsbBulkTransfer | Opcode::UsbInterruptTransfer => {
            let reply = TransferReply::decode(payload).expect("a transfer's reply");
            // What was cancelled before anybody read it may be malformed.
            assert!(declared.is_some() || reply.status < 0);
            let declared = declared.unwrap_or(0) as usize;
            assert!(reply.data.len() <= declared, "{opcode}: too long");
            assert!(reply.status <= 0 && reply.status > -4096);
        }
        Opcode::UsbIsochronousTransfer => {
            let Ok((transfer, _)) = IsoTransfer::decode(request) else {
                return;
            };
            let reply = IsoReply::decode(payload).expect("a transfer's reply");
            assert_eq!(reply.packets.len(), transfer.packets.len());
            for (packet, len) in reply.packets.iter().zip(&transfer.packets) {
                assert!(
                    packet.actual <= *len,
                    "{packet:?} has more than {len} bytes"
                );
            }
            let errors = reply.packets.iter().filter(|packet| packet.status != 0);
            assert_eq!(reply.errors as usize, errors.count());
        }
        _ => assert!(payload.len() <= 1 << 16, "{opcode}: too long"),
    }
}

struct Play {
    device: Fake,
    client: Rc<Client>,
    inbound: mpsc::UnboundedSender<Inbound>,
    task: JoinHandle<End>,
    next: u32,
    unplugged: bool,
    /// Another program has an interface: a configuration cannot be set, and is tried all the same.
    shared: bool,
}

impl Play {
    fn new(choice: u8) -> Self {
        let device = Fake::new();
        let client = Rc::new(Client::default());
        let (inbound, receiver) = mpsc::unbounded_channel();
        let nowhere = Path::new("/nonexistent");
        let grant = Grant {
            corr: ATTACH,
            request: AttachRequest {
                dev: "usb:1d6b:0104:1".to_owned(),
                mode: Mode::ReadWrite,
                lock: None,
                ifs: match choice % 8 {
                    0 => Some(vec![choice >> 3]),
                    1 => Some(vec![0, 1]),
                    2 => Some(vec![1, 1, 1]),
                    _ => None,
                },
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
        let host = FakeHost::default().with(3, 7, device.clone());
        let outlet = Rc::clone(&client) as Rc<dyn Outlet>;
        let task = spawn_local(async move { serve(&host, grant, outlet, receiver).await });
        Self {
            device,
            client,
            inbound,
            task,
            next: 0,
            unplugged: false,
            shared: false,
        }
    }

    async fn act(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.u8() % 16 {
            0..=2 => self.transfer(bytes),
            3 | 4 => self.control(bytes),
            5 => self.change(bytes),
            6 => self.isochronous(bytes),
            7 => self.garbage(bytes),
            8 | 9 => self.cancel(bytes),
            10 => self.twice(bytes),
            11 => self.nonsense(bytes),
            12 | 13 => self.device(bytes),
            _ => self.settle(bytes.u8()).await,
        }
    }

    fn send(&self, inbound: Inbound) {
        // The server half may have ended.
        let _ = self.inbound.send(inbound);
    }

    fn request(&mut self, opcode: Opcode, payload: Vec<u8>) {
        self.next += 1;
        let corr = self.next;
        let asked = (opcode, payload.clone());
        self.client.asked.borrow_mut().insert(corr, asked);
        self.send(Inbound::Request {
            corr,
            opcode,
            payload,
            age_secs: 0,
        });
    }

    fn transfer(&mut self, bytes: &mut Bytes<'_>) {
        let ep = endpoint(bytes);
        let flags = flags(bytes);
        let (timeout_ms, len) = (u32::from(bytes.u8() == 0xff), bytes.length());
        let mut payload = Vec::new();
        let opcode = if bytes.flag() {
            let transfer = BulkTransfer {
                ep,
                flags,
                timeout_ms,
                len,
            };
            transfer.encode(&mut payload);
            Opcode::UsbBulkTransfer
        } else {
            let transfer = InterruptTransfer {
                ep,
                flags,
                timeout_ms,
                len,
                interval: bytes.u8().into(),
            };
            transfer.encode(&mut payload);
            Opcode::UsbInterruptTransfer
        };
        if !ep.is_in() {
            // A header may announce more than is there.
            payload.resize(payload.len() + len.min(1 << 16) as usize, 0x3c);
        }
        self.request(opcode, payload);
    }

    fn control(&mut self, bytes: &mut Bytes<'_>) {
        let [kind, request, value, high, index, top, length] = [(); 7].map(|()| bytes.u8());
        let setup = Setup::from_bytes([kind, request, value, high, index, top, length, 0]);
        let transfer = ControlTransfer {
            flags: flags(bytes),
            timeout_ms: 0,
            setup,
            len: setup.length.into(),
        };
        let mut payload = Vec::new();
        transfer.encode(&mut payload);
        payload.resize(payload.len() + transfer.data_len() as usize, 0x3c);
        self.request(Opcode::UsbControlTransfer, payload);
    }

    fn change(&mut self, bytes: &mut Bytes<'_>) {
        let mut payload = Vec::new();
        let opcode = match bytes.u8() % 6 {
            0 => {
                let configuration = bytes.u8() % 4;
                SetConfiguration { configuration }.encode(&mut payload);
                Opcode::UsbSetConfiguration
            }
            1 | 2 => {
                let (interface, alternate) = (bytes.u8() % 3, bytes.u8() % 4);
                SetInterface {
                    interface,
                    alternate,
                }
                .encode(&mut payload);
                Opcode::UsbSetInterface
            }
            3 => {
                let ep = endpoint(bytes);
                ClearHalt { ep }.encode(&mut payload);
                Opcode::UsbClearHalt
            }
            4 => {
                GetDescriptor {
                    kind: bytes.u8() % 5,
                    index: bytes.u8() % 3,
                    lang: 0,
                    len: bytes.u16(),
                }
                .encode(&mut payload);
                Opcode::UsbGetDescriptor
            }
            _ => Opcode::UsbReset,
        };
        self.request(opcode, payload);
    }

    fn isochronous(&mut self, bytes: &mut Bytes<'_>) {
        let kind = bytes.u8();
        let ep = match kind & 3 {
            0 => endpoint(bytes),
            1 => endpoint_of(0x06),
            _ => endpoint_of(0x86),
        };
        let count = (usize::from(bytes.u8()) * if kind & 4 == 0 { 1 } else { 5 }).max(1);
        let packets = if kind & 8 == 0 {
            vec![bytes.length(); count]
        } else {
            (0..count).map(|_| bytes.length()).collect()
        };
        let transfer = IsoTransfer {
            ep,
            flags: flags(bytes),
            start_frame: None,
            ttl_ms: if kind & 16 == 0 { 0 } else { bytes.length() },
            packets,
        };
        let mut payload = Vec::new();
        transfer.encode(&mut payload);
        let data = transfer.data_len().min(1 << 20) as usize;
        payload.resize(payload.len() + data, 0x3c);
        self.request(Opcode::UsbIsochronousTransfer, payload);
    }

    fn garbage(&mut self, bytes: &mut Bytes<'_>) {
        let opcode = Opcode::from_u16(0x0600 | u16::from(bytes.u8() % 14));
        let length = usize::from(bytes.u8() % 48);
        let payload = bytes.take(length).to_vec();
        if opcode != Opcode::UsbDeviceDetach {
            self.request(opcode, payload);
        }
    }

    fn cancel(&self, bytes: &mut Bytes<'_>) {
        let corr = u32::from(bytes.u8());
        let corr = match corr {
            0xf0.. => bytes.u32(),
            known => self.next.saturating_sub(known % 16),
        };
        for _ in 0..=bytes.u8() % 4 {
            self.send(Inbound::Cancel { corr });
        }
    }

    /// A number that is in use, which the link lets nobody send.
    fn twice(&mut self, bytes: &mut Bytes<'_>) {
        let corr = self.next.saturating_sub(u32::from(bytes.u8() % 4));
        if corr == 0 {
            return;
        }
        self.client.doubled.borrow_mut().push(corr);
        let mut payload = Vec::new();
        let ep = endpoint(bytes);
        let len = if ep.is_in() { 8 } else { 0 };
        let flags = TransferFlags::default();
        let transfer = BulkTransfer {
            ep,
            flags,
            timeout_ms: 0,
            len,
        };
        transfer.encode(&mut payload);
        self.send(Inbound::Request {
            corr,
            opcode: Opcode::UsbBulkTransfer,
            payload,
            age_secs: 0,
        });
    }

    /// What a USB stream does not have.
    fn nonsense(&self, bytes: &mut Bytes<'_>) {
        let payload = vec![bytes.u8(); 9];
        let opcode = Opcode::UsbBulkTransfer;
        self.send(match bytes.u8() % 3 {
            0 => Inbound::Event {
                opcode,
                payload,
                age_secs: 0,
            },
            1 => Inbound::Data {
                payload,
                fin: bytes.flag(),
            },
            _ => Inbound::Response {
                corr: bytes.u8().into(),
                status: Status::Ok,
                payload,
                more: bytes.flag(),
            },
        });
    }

    /// What becomes of the device meanwhile.
    fn device(&mut self, bytes: &mut Bytes<'_>) {
        let endpoint = bytes.pick(ENDPOINTS).copied().unwrap_or_default();
        match bytes.u8() % 23 {
            16 => self.device.end_next(endpoint, -71, bytes.u8().into()),
            17 | 18 => {
                let (actual, status) = (bytes.u16().into(), -i32::from(bytes.u8()));
                self.device.plan_packet(0x86 & endpoint, actual, status);
            }
            19 => self.device.pace(endpoint),
            20 | 21 => {
                self.device.tick(endpoint, bytes.u8().into());
            }
            22 => self
                .device
                .refuse_submission(bytes.u8().into(), Errno::ENOSPC),
            0..=2 => self.device.interrupt(&[endpoint; 5]),
            3 | 4 => self.device.halt(endpoint),
            5 | 6 => self.device.pause(endpoint),
            7 | 8 => self.device.resume(endpoint),
            9 => self.device.starve(1),
            10 => self.device.hold_calls(),
            11 => self.device.let_calls_go(),
            12 | 13 => {
                let (act, errno) = FAILURES[usize::from(bytes.u8()) % FAILURES.len()];
                self.device.fail_next(act, errno);
            }
            14 => {
                self.shared = true;
                self.device.give_to_program(bytes.u8() % 2);
            }
            _ => {
                self.unplugged = true;
                self.device.unplug();
            }
        }
    }

    async fn settle(&self, turns: u8) {
        for _ in 0..turns % 16 {
            yield_now().await;
        }
        let asked = self.client.asked.borrow().len() + self.client.doubled.borrow().len();
        // One transfer for each packet's part at most.
        assert!(
            self.device.in_flight() <= asked * 8,
            "more than was asked for"
        );
    }

    async fn end(mut self, bytes: &mut Bytes<'_>) {
        match bytes.u8() % 4 {
            0 => self.send(Inbound::Closed),
            1 => self.send(Inbound::Reset {
                status: Status::Forbidden,
            }),
            _ => self.request(Opcode::UsbDeviceDetach, Vec::new()),
        }
        self.device.let_calls_go();
        drop(self.inbound);
        let end = self.task.await.expect("a task's end");
        let mut complaints = self.device.complaints();
        complaints.retain(|text| !self.shared || !text.starts_with("a configuration is set"));
        assert_eq!(complaints, Vec::<String>::new());
        let gone = self.unplugged || end == End::DeviceGone;
        assert!(gone || self.device.claimed().is_empty());
        let doubled = self.client.doubled.borrow();
        let answers = self.client.answers.borrow();
        let attach = answers.get(&ATTACH).copied();
        assert_eq!(attach, Some(1), "the attach request has one answer");
        for corr in 1..=self.next {
            let count = answers.get(&corr).copied().unwrap_or_default();
            if doubled.contains(&corr) {
                continue;
            }
            assert!(count <= 1, "request {corr} was answered {count} times");
            let due = end == End::Detached;
            assert!(!due || count == 1, "request {corr} was not answered");
        }
    }
}

fn endpoint(bytes: &mut Bytes<'_>) -> EndpointAddress {
    endpoint_of(bytes.pick(ENDPOINTS).copied().unwrap_or_default())
}

fn endpoint_of(address: u8) -> EndpointAddress {
    EndpointAddress::from_u8(address).expect("an endpoint's address")
}

fn flags(bytes: &mut Bytes<'_>) -> TransferFlags {
    let flags = bytes.u8();
    TransferFlags {
        short_not_ok: flags & 1 != 0,
        zero_packet: flags & 2 != 0,
    }
}
