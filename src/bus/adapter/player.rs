//! Plays a device at the owner's end of a stream: requests of profile 19.4 in, answers out. Each endpoint
//! is a lane of its own, on which transfers wait for one another.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, spawn_local};

use super::standard::{Answered, Standard};
use super::{Adapter, Fault, Setup, Transfer};
use crate::bus::usb::op::{
    BulkTransfer, ControlTransfer, EndpointAddress, InterruptTransfer, OpError, TransferReply,
    encode_empty,
};
use crate::bus::{BusStream, Inbound, Outlet, Refused};
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

const STALLED: i32 = -libc::EPIPE;
const SILENT: i32 = -libc::EPROTO;
const CANCELLED: i32 = -libc::ECONNRESET;
const TOO_MUCH: i32 = -libc::EOVERFLOW;
const TOO_SHORT: i32 = -libc::EREMOTEIO;

/// What is to be moved.
#[derive(Debug)]
enum What {
    Control { setup: Setup, data: Vec<u8> },
    Read { length: usize },
    Write { data: Vec<u8> },
}

impl What {
    /// Bytes that may be read; `None` of a write.
    fn room(&self) -> Option<usize> {
        match self {
            Self::Control { setup, .. } if setup.is_in() => Some(usize::from(setup.length)),
            Self::Read { length } => Some(*length),
            Self::Control { .. } | Self::Write { .. } => None,
        }
    }

    fn written(&self) -> usize {
        match self {
            Self::Control { data, .. } | Self::Write { data } => data.len(),
            Self::Read { .. } => 0,
        }
    }
}

#[derive(Debug)]
struct Urb {
    corr: u32,
    endpoint: u8,
    short_not_ok: bool,
    what: What,
}

/// A transfer that the adapter works on.
struct Running {
    corr: u32,
    room: Option<usize>,
    written: usize,
    short_not_ok: bool,
    task: AbortHandle,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Urb>,
    running: Option<Running>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

/// What became of a transfer: its endpoint, its number, its bytes.
type Done = (u8, u32, Result<Vec<u8>, Fault>);

struct Player {
    adapter: Rc<dyn Adapter>,
    outlet: Rc<dyn Outlet>,
    standard: Standard,
    lanes: BTreeMap<u8, Lane>,
    report: UnboundedSender<Done>,
}

/// Plays the device until the stream ends.
pub(super) async fn play(adapter: Rc<dyn Adapter>, stream: BusStream) {
    let BusStream {
        outlet,
        mut inbound,
    } = stream;
    let (report, mut done): (_, UnboundedReceiver<Done>) = unbounded_channel();
    let mut player = Player {
        adapter,
        outlet,
        standard: Standard::default(),
        lanes: BTreeMap::new(),
        report,
    };
    loop {
        // What is done counts before it is given up.
        tokio::select! {
            biased;
            Some((endpoint, corr, result)) = done.recv() => player.done(endpoint, corr, result),
            inbound = inbound.recv() => match inbound {
                Some(Inbound::Request { corr, opcode, payload, .. }) => {
                    if player.request(corr, opcode, &payload) == Flow::End {
                        return;
                    }
                }
                Some(Inbound::Cancel { corr }) => player.cancel(corr),
                None | Some(Inbound::Closed | Inbound::Reset { .. }) => return,
                Some(
                    Inbound::Response { .. }
                    | Inbound::Event { .. }
                    | Inbound::Data { .. }
                    | Inbound::Writable
                    | Inbound::Dropped { .. },
                ) => {}
            },
        }
    }
}

#[derive(PartialEq, Eq)]
enum Flow {
    On,
    End,
}

impl Player {
    fn request(&mut self, corr: u32, opcode: Opcode, payload: &[u8]) -> Flow {
        let mut flow = Flow::On;
        let urb = match opcode {
            Opcode::UsbControlTransfer => control(corr, payload),
            Opcode::UsbBulkTransfer => bulk(corr, payload),
            Opcode::UsbInterruptTransfer => interrupt(corr, payload),
            Opcode::UsbReset | Opcode::UsbDeviceDetach => {
                self.begin_anew();
                let mut empty = Vec::new();
                encode_empty(&mut empty);
                self.outlet.respond(corr, Status::Ok, empty);
                if opcode == Opcode::UsbDeviceDetach {
                    flow = Flow::End;
                }
                return flow;
            }
            other => {
                self.refuse(corr, &Refused::unsupported(format!("{other}")));
                return flow;
            }
        };
        match urb {
            Ok(urb) => {
                let endpoint = urb.endpoint;
                let lane = self.lanes.entry(endpoint).or_default();
                lane.waiting.push_back(urb);
                self.advance(endpoint);
            }
            Err(error) => self.refuse(corr, &Refused::bad(error.to_string())),
        }
        flow
    }

    /// Starts what waits, if nothing runs.
    fn advance(&mut self, endpoint: u8) {
        loop {
            let lane = self.lanes.entry(endpoint).or_default();
            if lane.running.is_some() {
                return;
            }
            let Some(urb) = lane.waiting.pop_front() else {
                return;
            };
            if self.standard.is_halted(endpoint) {
                self.tell(urb.corr, STALLED, 0, &[]);
            } else if let What::Control { setup, .. } = urb.what
                && Standard::is_for(setup)
            {
                self.standard(&urb, setup);
            } else {
                self.start(urb);
            }
        }
    }

    fn start(&mut self, urb: Urb) {
        let (corr, endpoint) = (urb.corr, urb.endpoint);
        let (room, written) = (urb.what.room(), urb.what.written());
        let adapter = Rc::clone(&self.adapter);
        let transfer: Transfer = match urb.what {
            What::Control { setup, data } => adapter.control(setup, data),
            What::Read { length } => adapter.read(endpoint, length),
            What::Write { data } => adapter.write(endpoint, data),
        };
        let report = self.report.clone();
        let task = spawn_local(async move {
            // Nobody listens when the device is gone.
            let _ = report.send((endpoint, corr, transfer.await));
        });
        let lane = self.lanes.entry(endpoint).or_default();
        lane.running = Some(Running {
            corr,
            room,
            written,
            short_not_ok: urb.short_not_ok,
            task: task.abort_handle(),
        });
    }

    /// Answers a request that every device answers.
    fn standard(&mut self, urb: &Urb, setup: Setup) {
        match self.standard.answer(self.adapter.description(), setup) {
            Ok(Answered::Data(data)) => {
                let length = data.len().min(setup.length.into());
                let data = data.get(..length).unwrap_or_default();
                self.tell(urb.corr, 0, data.len(), data);
            }
            Ok(Answered::Anew) => {
                self.end_transfers();
                self.adapter.reset();
                self.tell(urb.corr, 0, 0, &[]);
            }
            Err(_) => self.tell(urb.corr, STALLED, 0, &[]),
        }
    }

    fn done(&mut self, endpoint: u8, corr: u32, result: Result<Vec<u8>, Fault>) {
        let lane = self.lanes.entry(endpoint).or_default();
        let is_running = |running: &mut Running| running.corr == corr;
        // Of one that was given up, nobody wants to know.
        let Some(running) = lane.running.take_if(is_running) else {
            return;
        };
        match (result, running.room) {
            (Ok(data), Some(room)) => {
                let status = match data.len() {
                    length if length > room => TOO_MUCH,
                    length if length < room && running.short_not_ok => TOO_SHORT,
                    _ => 0,
                };
                let data = data.get(..room).unwrap_or(&data);
                self.tell(corr, status, data.len(), data);
            }
            (Ok(_), None) => self.tell(corr, 0, running.written, &[]),
            (Err(Fault::Silent), _) => self.tell(corr, SILENT, 0, &[]),
            (Err(Fault::Stall), _) => {
                if EndpointAddress::from_u8(endpoint) != Some(EndpointAddress::CONTROL) {
                    self.standard.halt(endpoint);
                }
                self.tell(corr, STALLED, 0, &[]);
            }
        }
        self.advance(endpoint);
    }

    fn cancel(&mut self, corr: u32) {
        let has = |lane: &Lane| {
            let running = lane.running.iter().map(|running| running.corr);
            let waiting = lane.waiting.iter().map(|urb| urb.corr);
            running.chain(waiting).any(|known| known == corr)
        };
        // One that is unknown was answered.
        let Some((&endpoint, lane)) = self.lanes.iter_mut().find(|(_, lane)| has(lane)) else {
            return;
        };
        lane.waiting.retain(|urb| urb.corr != corr);
        let is_running = |running: &mut Running| running.corr == corr;
        if let Some(running) = lane.running.take_if(is_running) {
            running.task.abort();
        }
        self.tell(corr, CANCELLED, 0, &[]);
        self.advance(endpoint);
    }

    fn begin_anew(&mut self) {
        self.end_transfers();
        self.standard.reset();
        self.adapter.reset();
    }

    /// Ends what is under way on all endpoints but the first.
    fn end_transfers(&mut self) {
        let mut ended = Vec::new();
        self.lanes.retain(|&endpoint, lane| {
            if endpoint != 0 {
                ended.extend(lane.running.iter().map(|running| running.corr));
                ended.extend(lane.waiting.iter().map(|urb| urb.corr));
            }
            endpoint == 0
        });
        for corr in ended {
            self.tell(corr, CANCELLED, 0, &[]);
        }
    }

    fn tell(&self, corr: u32, status: i32, actual: usize, data: &[u8]) {
        let reply = TransferReply::whole(status, actual, data);
        self.outlet.respond(corr, Status::Ok, reply);
    }

    fn refuse(&self, corr: u32, refused: &Refused) {
        self.outlet.respond(corr, refused.status, refused.payload());
    }
}

fn control(corr: u32, payload: &[u8]) -> Result<Urb, OpError> {
    let (transfer, data) = ControlTransfer::decode(payload)?;
    let (setup, data) = (transfer.setup, data.to_vec());
    Ok(Urb {
        corr,
        endpoint: EndpointAddress::CONTROL.to_u8(),
        short_not_ok: transfer.flags.short_not_ok,
        what: What::Control { setup, data },
    })
}

fn bulk(corr: u32, payload: &[u8]) -> Result<Urb, OpError> {
    let (transfer, data) = BulkTransfer::decode(payload)?;
    let BulkTransfer { ep, flags, len, .. } = transfer;
    Ok(moved(corr, ep, flags.short_not_ok, len, data))
}

fn interrupt(corr: u32, payload: &[u8]) -> Result<Urb, OpError> {
    let (transfer, data) = InterruptTransfer::decode(payload)?;
    let InterruptTransfer { ep, flags, len, .. } = transfer;
    Ok(moved(corr, ep, flags.short_not_ok, len, data))
}

fn moved(corr: u32, ep: EndpointAddress, short_not_ok: bool, length: u32, data: &[u8]) -> Urb {
    let what = if ep.is_in() {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        What::Read { length }
    } else {
        let data = data.to_vec();
        What::Write { data }
    };
    Urb {
        corr,
        endpoint: ep.to_u8(),
        short_not_ok,
        what,
    }
}
