//! The life of one set of requested lines.

use core::mem;

use nix::errno::Errno;
use tracing::{debug, warn};

use super::held::Held;
use super::{bad, waiting};
use crate::bus::gpio::hardware::LineEvent;
use crate::bus::gpio::op::{
    Direction, EdgeEvent, GetLines, LineValues, SetLines, Watch, decode_empty, encode_empty,
};
use crate::bus::{BusStream, End, Inbound, MAX_AGE_SECS, Outlet, Refused};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// Events on their way to the peer.
#[derive(Default)]
struct Events {
    /// The kernel's number of the last one.
    kernel_seqno: u32,
    /// Ours of the last one.
    seq: u32,
    /// Lost since the last one that was sent.
    lost: u32,
}

/// What is to be done for a request.
enum Work {
    Set(SetLines),
    Get(GetLines),
    Watch(Watch),
    Release,
}

/// Serves the peer until the peer, the chip or the wish to use it is gone.
pub(super) async fn run(mut held: Held, mut stream: BusStream) -> End {
    let mut events = Events::default();
    let mut released = None;
    let end = loop {
        let message = tokio::select! {
            told = held.events() => match told {
                Ok(told) => {
                    events.tell(&held, &*stream.outlet, &told);
                    continue;
                }
                Err(Errno::ENODEV) => break End::DeviceGone,
                Err(errno) => {
                    warn!(%errno, "cannot read the events of GPIO lines");
                    break End::Failed;
                }
            },
            message = stream.inbound.recv() => message,
        };
        match message {
            Some(Inbound::Request {
                corr,
                opcode,
                payload,
                age_secs,
            }) => {
                let work = work(&held, opcode, &payload, age_secs);
                if matches!(work, Ok(Work::Release)) {
                    released = Some(corr);
                    break End::Detached;
                }
                let Ok((back, answer)) = waiting(move || perform(held, work)).await else {
                    // The lines went with the thread, into their safe state.
                    stream.outlet.reset(Status::InternalError);
                    return End::Failed;
                };
                held = back;
                answer_with(&*stream.outlet, corr, answer);
            }
            Some(Inbound::Dropped { count }) => events.lost = events.lost.saturating_add(count),
            Some(Inbound::Reset { .. } | Inbound::Closed) | None => break End::PeerLeft,
            // Requests are answered one by one, before the next message is looked at.
            Some(Inbound::Cancel { .. }) => {}
            Some(
                Inbound::Response { .. }
                | Inbound::Event { .. }
                | Inbound::Data { .. }
                | Inbound::Writable,
            ) => debug!("the peer sent what no GPIO stream carries"),
        }
    };
    finish(held, &stream, &end, released).await;
    end
}

/// Brings the lines into their safe state and tells the peer what it does not know.
async fn finish(mut held: Held, stream: &BusStream, end: &End, released: Option<u32>) {
    if *end == End::DeviceGone {
        held.forget();
    }
    if waiting(move || drop(held)).await.is_err() {
        warn!("the thread that gives GPIO lines back failed");
    }
    match (end, released) {
        (End::Detached, Some(corr)) => stream.outlet.respond(corr, Status::Ok, encode_empty()),
        (End::DeviceGone, _) => stream.outlet.reset(Status::ServiceUnavailable),
        (End::Failed, _) => stream.outlet.reset(Status::InternalError),
        (End::Detached | End::PeerLeft | End::Refused(_), _) => {}
    }
}

fn answer_with(outlet: &dyn Outlet, corr: u32, answer: Result<Vec<u8>, Refused>) {
    match answer {
        Ok(payload) => outlet.respond(corr, Status::Ok, payload),
        Err(refused) => outlet.respond(corr, refused.status, refused.payload()),
    }
}

fn work(held: &Held, opcode: Opcode, payload: &[u8], age_secs: u32) -> Result<Work, Refused> {
    let lines = held.lines().len();
    match opcode {
        Opcode::GpioLineSet if held.dir() == Direction::Input => {
            Err(Refused::unsupported("these lines are inputs"))
        }
        Opcode::GpioLineSet if age_secs > MAX_AGE_SECS => Err(Refused::new(
            Status::Forbidden,
            sub::TOO_OLD,
            format!("lines are not set {age_secs} s late"),
        )),
        Opcode::GpioLineSet => SetLines::decode(payload, lines)
            .map(Work::Set)
            .map_err(|error| bad(&error)),
        Opcode::GpioLineGet => GetLines::decode(payload, lines)
            .map(Work::Get)
            .map_err(|error| bad(&error)),
        Opcode::GpioLineWatch if held.dir() == Direction::Output => {
            Err(Refused::unsupported("these lines are outputs"))
        }
        Opcode::GpioLineWatch => Watch::decode(payload, lines)
            .map(Work::Watch)
            .map_err(|error| bad(&error)),
        Opcode::GpioLineRelease => decode_empty(payload)
            .map(|()| Work::Release)
            .map_err(|error| bad(&error)),
        other => Err(Refused::unsupported(format!(
            "{other} does not run on GPIO lines"
        ))),
    }
}

/// May wait.
fn perform(mut held: Held, work: Result<Work, Refused>) -> (Held, Result<Vec<u8>, Refused>) {
    let values = |bits: u64| {
        let mut answer = Vec::new();
        LineValues { bits }.encode(&mut answer);
        answer
    };
    let answer = work.and_then(|work| match work {
        Work::Set(SetLines { mask, bits }) => held
            .set(mask, bits)
            .map(values)
            .map_err(|errno| Refused::io("cannot set the lines", errno)),
        Work::Get(GetLines { mask }) => held
            .get(mask)
            .map(values)
            .map_err(|errno| Refused::io("cannot read the lines", errno)),
        Work::Watch(watch) => match held.watch(watch) {
            Ok(()) => Ok(encode_empty()),
            Err(Errno::ENXIO) => Err(Refused::unsupported(
                "the chip cannot tell of changes on these lines",
            )),
            Err(errno) => Err(Refused::io("cannot watch the lines", errno)),
        },
        Work::Release => Ok(encode_empty()),
    });
    (held, answer)
}

impl Events {
    fn tell(&mut self, held: &Held, outlet: &dyn Outlet, told: &[LineEvent]) {
        for event in told {
            let gap = event.seqno.wrapping_sub(self.kernel_seqno).wrapping_sub(1);
            self.kernel_seqno = event.seqno;
            self.seq = self.seq.wrapping_add(gap);
            self.lost = self.lost.saturating_add(gap);
            if !held.is_watched(event) {
                continue;
            }
            self.seq = self.seq.wrapping_add(1);
            let told = EdgeEvent {
                index: event.index,
                rising: event.rising,
                time_ns: event.time_ns,
                seq: self.seq,
                lost: mem::take(&mut self.lost),
            };
            let mut payload = Vec::new();
            told.encode(&mut payload);
            outlet.event(Opcode::GpioEvent, payload);
        }
    }
}
