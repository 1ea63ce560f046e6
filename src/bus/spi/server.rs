//! The half that has the SPI device: one task for each device in use, from the request that opened the
//! stream until the device is spoken to as it was before.

mod jobs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::enumerate;
use super::hardware::SpiHost;
use super::hardware::real::RealSpi;
use super::op::{DeviceEntry, DeviceList, OpError, OpenRequest, decode_empty, encode_empty};
use crate::bus::waiting;
use crate::bus::{
    Answer, BusStream, Caller, End, Grant, Inbound, Outlet, Owned, Present, Refused, Serving,
    Wanted,
};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

use jobs::{InUse, Job};

/// How often a device that nobody asks for anything is looked at: the kernel tells nobody who has it open
/// that it left.
const LOOK: Duration = Duration::from_secs(2);

/// SPI devices as the owner's daemon sees them.
pub const OWNED: Owned = Owned {
    class: "spi",
    shared: false,
    openers: &[Opcode::SpiDeviceOpen],
    calls: &[],
    list: Some((Opcode::SpiBusList, listing)),
    look: enumerate::look,
    wanted,
    serve: |grant, stream| -> Serving {
        Box::pin(serve(Arc::new(RealSpi::default()), grant, stream))
    },
    call,
};

fn listing(devices: &[(Present, u8)]) -> Vec<u8> {
    let entry = |(device, state): &(Present, u8)| DeviceEntry {
        dev: device.id.clone(),
        name: device.name.clone(),
        state: *state,
    };
    let list = DeviceList {
        devs: devices.iter().map(entry).collect(),
    };
    list.encode().unwrap_or_default()
}

fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    if opcode != Opcode::SpiDeviceOpen {
        return Err(Refused::unsupported(format!(
            "{opcode} opens no SPI device"
        )));
    }
    let request = OpenRequest::decode(payload).map_err(|error| bad(&error))?;
    Ok(Wanted {
        device: request.dev,
        // Whoever clocks a chip has sent it something.
        write: true,
    })
}

fn call(_: &Present, _: &Caller, opcode: Opcode, _: &[u8]) -> Answer {
    Err(Refused::unsupported(format!("{opcode} is no SPI call")))
}

/// Answers the opening request and, if the device can be had, serves it until the stream ends.
///
/// Do not drop the future half-way when it can be helped: the device's settings are put back all the
/// same, but on the spot, and that waits for the bus.
pub async fn serve(host: Arc<dyn SpiHost>, grant: Grant, mut stream: BusStream) -> End {
    let (corr, told) = (grant.corr, !grant.quiet);
    let id = grant.present.id.clone();
    match waiting(move || InUse::open(&*host, &grant)).await {
        Ok(Ok((device, answer))) => {
            if told {
                info!(device = id, "SPI device opened");
            }
            stream.outlet.respond(corr, Status::Ok, answer);
            let end = run(device, &mut stream).await;
            if told {
                info!(device = id, ?end, "SPI device closed");
            }
            end
        }
        Ok(Err(refused)) | Err(refused) => {
            if told {
                info!(device = id, reason = refused.msg, "SPI device refused");
            }
            let payload = refused.payload();
            stream.outlet.respond(corr, refused.status, payload);
            End::Refused(refused)
        }
    }
}

/// A request that waits for its turn.
struct Waiting {
    corr: u32,
    opcode: Opcode,
    payload: Vec<u8>,
}

/// What is being done for a request; it goes on whatever becomes of the stream.
struct Running {
    /// `None` where nobody waits for it, or once it was answered as cancelled.
    corr: Option<u32>,
    job: JoinHandle<(InUse, Answer)>,
}

/// The requests of a stream. One is performed at a time, in the order in which they came.
struct Requests {
    queue: VecDeque<Waiting>,
    running: Option<Running>,
    /// The device, while nothing is being done with it.
    device: Option<InUse>,
}

/// Serves the stream, then gives the device back.
async fn run(device: InUse, stream: &mut BusStream) -> End {
    let mut requests = Requests {
        queue: VecDeque::new(),
        running: None,
        device: Some(device),
    };
    let (end, closed) = requests.serve(stream).await;
    // What is on the bus is finished first.
    if let Some(running) = requests.running.take() {
        requests.device = running.job.await.ok().map(|(device, _)| device);
    }
    let device = requests.device.take();
    if waiting(move || drop(device)).await.is_err() {
        warn!("the thread that gives an SPI device back failed");
    }
    match (&end, closed) {
        (End::Detached, Some(corr)) => stream.outlet.respond(corr, Status::Ok, encode_empty()),
        (End::DeviceGone, _) => stream.outlet.reset(Status::ServiceUnavailable),
        (End::Failed, _) => stream.outlet.reset(Status::InternalError),
        (End::Detached | End::PeerLeft | End::Refused(_), _) => {}
    }
    end
}

impl Requests {
    /// Until the stream ends: how, and the request that is answered when the device is given back.
    async fn serve(&mut self, stream: &mut BusStream) -> (End, Option<u32>) {
        loop {
            let outlet = &*stream.outlet;
            if let Some(closed) = self.start(outlet) {
                return (End::Detached, Some(closed));
            }
            tokio::select! {
                done = finished(&mut self.running) => {
                    let corr = self.running.take().and_then(|running| running.corr);
                    let Ok((device, answer)) = done else {
                        return (End::Failed, None);
                    };
                    self.device = Some(device);
                    let gone = is_gone(&answer);
                    if let Some(corr) = corr {
                        answer_with(outlet, corr, answer);
                    }
                    if gone {
                        return (End::DeviceGone, None);
                    }
                }
                () = sleep(LOOK), if self.device.is_some() => self.perform(None, Job::Look),
                inbound = stream.inbound.recv() => match inbound {
                    Some(Inbound::Request { corr, opcode, payload, .. }) => {
                        self.queue.push_back(Waiting { corr, opcode, payload });
                    }
                    Some(Inbound::Cancel { corr }) => self.cancel(outlet, corr),
                    Some(Inbound::Reset { .. } | Inbound::Closed) | None => {
                        return (End::PeerLeft, None);
                    }
                    Some(
                        Inbound::Response { .. }
                        | Inbound::Event { .. }
                        | Inbound::Data { .. }
                        | Inbound::Writable
                        | Inbound::Dropped { .. },
                    ) => debug!("the peer sent what no SPI stream carries"),
                },
            }
        }
    }

    /// Starts the next request if nothing is being done; the request that closes the stream comes back
    /// when it is its turn.
    fn start(&mut self, outlet: &dyn Outlet) -> Option<u32> {
        while self.device.is_some() {
            let Waiting {
                corr,
                opcode,
                payload,
            } = self.queue.pop_front()?;
            if opcode == Opcode::SpiDeviceClose && decode_empty(&payload).is_ok() {
                return Some(corr);
            }
            match Job::decode(opcode, &payload) {
                Ok(job) => self.perform(Some(corr), job),
                Err(refused) => answer_with(outlet, corr, Err(refused)),
            }
        }
        None
    }

    fn perform(&mut self, corr: Option<u32>, job: Job) {
        if let Some(mut device) = self.device.take() {
            let job = tokio::task::spawn_blocking(move || {
                let answer = device.perform(job);
                (device, answer)
            });
            self.running = Some(Running { corr, job });
        }
    }

    /// What has not begun does not; what is on the bus goes on, and its result is thrown away. A peer
    /// that wants to close wants nothing else any more: that is done in any case.
    fn cancel(&mut self, outlet: &dyn Outlet, corr: u32) {
        let before = self.queue.len();
        self.queue
            .retain(|waiting| waiting.corr != corr || waiting.opcode == Opcode::SpiDeviceClose);
        let mut found = self.queue.len() < before;
        if let Some(running) = &mut self.running
            && running.corr == Some(corr)
        {
            running.corr = None;
            found = true;
        }
        if found {
            answer_with(outlet, corr, Err(Refused::cancelled()));
        }
    }
}

/// What came of it; never, while nothing is being done.
async fn finished(
    running: &mut Option<Running>,
) -> Result<(InUse, Answer), tokio::task::JoinError> {
    match running {
        Some(running) => (&mut running.job).await,
        None => core::future::pending().await,
    }
}

fn is_gone(answer: &Answer) -> bool {
    answer
        .as_ref()
        .is_err_and(|refused| refused.sub == sub::DEVICE_GONE)
}

fn answer_with(outlet: &dyn Outlet, corr: u32, answer: Answer) {
    match answer {
        Ok(payload) => outlet.respond(corr, Status::Ok, payload),
        Err(refused) => outlet.respond(corr, refused.status, refused.payload()),
    }
}

/// What the kernel said to `what`.
fn io_error(what: &str, errno: Errno) -> Refused {
    match errno {
        // The kernel's spidev says so when the device left it.
        Errno::ESHUTDOWN | Errno::ENODEV => Refused::gone(),
        errno => Refused::io(what, errno),
    }
}

fn bad(error: &OpError) -> Refused {
    Refused::bad(error.to_string())
}

fn internal(error: &dyn core::error::Error) -> Refused {
    Refused::new(Status::InternalError, sub::INTERNAL, error.to_string())
}
