//! The half that has the device: one task for each attached device, from the request that opened
//! the stream until the device is its owner's again.

mod jobs;
mod stream;

use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use tracing::info;

use super::enumerate;
use super::hardware::real::EvdevHost;
use super::hardware::{InputDevice, InputHost, InputPort};
use super::op::{Start, StartPar, Started};
use super::state::State;
use crate::bus::{
    Answer, BusStream, Caller, End, Grant, Outlet, Owned, Present, Refused, Serving, Wanted,
};
use crate::kernel::evdev::codes::EV_KEY;
use crate::kernel::evdev::{Description, Event};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

use stream::Stream;

/// Input devices as the owner's daemon knows them.
pub const OWNED: Owned = Owned {
    class: "hid",
    shared: false,
    openers: &[Opcode::StreamStart],
    calls: &[],
    list: None,
    look: enumerate::list,
    wanted,
    serve: |grant, stream| -> Serving {
        Box::pin(async move { serve(&EvdevHost, grant, stream).await })
    },
    call,
};

fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    if opcode != Opcode::StreamStart {
        return Err(Refused::unsupported(
            "input devices are used by STREAM_START",
        ));
    }
    let start = Start::decode(payload).map_err(|error| Refused::bad(error.to_string()))?;
    Ok(Wanted {
        device: start.dev,
        write: start.par.writes(),
    })
}

fn call(_: &Present, _: &Caller, _: Opcode, _: &[u8]) -> Answer {
    Err(Refused::unsupported("input devices are used by a stream"))
}

/// A device that was opened for a peer.
struct Opened {
    device: Box<dyn InputDevice>,
    port: Arc<dyn InputPort>,
    description: Description,
    /// As it was found.
    found: State,
    par: StartPar,
}

/// Answers the opening request and, if the device can be had, serves it until the stream ends.
pub async fn serve(host: &dyn InputHost, grant: Grant, stream: BusStream) -> End {
    let (corr, id, told) = (grant.corr, grant.present.id.clone(), !grant.quiet);
    let answered = match open(host, &grant).await {
        Ok(opened) => match answer(&opened) {
            Ok(payload) => Ok((opened, payload)),
            Err(refused) => Err(refused),
        },
        Err(refused) => Err(refused),
    };
    match answered {
        Ok((opened, payload)) => {
            if told {
                info!(device = id, grab = opened.par.grab, "input device attached");
            }
            stream.outlet.respond(corr, Status::Ok, payload);
            let end = Stream::new(opened, stream.outlet).run(stream.inbound).await;
            if told {
                info!(device = id, ?end, "input device detached");
            }
            end
        }
        Err(refused) => {
            if told {
                info!(device = id, reason = refused.msg, "input device refused");
            }
            refuse(&*stream.outlet, corr, refused)
        }
    }
}

fn refuse(outlet: &dyn Outlet, corr: u32, refused: Refused) -> End {
    outlet.respond(corr, refused.status, refused.payload());
    End::Refused(refused)
}

fn answer(opened: &Opened) -> Result<Vec<u8>, Refused> {
    let started = Started {
        par: opened.par,
        device: opened.description.clone(),
    };
    started.encode().map_err(|error| internal(&error))
}

async fn open(host: &dyn InputHost, grant: &Grant) -> Result<Opened, Refused> {
    let start = Start::decode(&grant.payload).map_err(|error| Refused::bad(error.to_string()))?;
    if start.par.writes() && !grant.write {
        return Err(Refused::new(
            Status::Forbidden,
            sub::ACL,
            "only the right to watch is granted",
        ));
    }
    let device = host
        .open(&grant.present.place)
        .await
        .map_err(|error| cannot_open(&error))?;
    let port = device.port();
    let (asked, par) = (port.clone(), start.par);
    let looked = waiting(move || look(&*asked, par)).await?;
    let (description, found) = looked?;
    Ok(Opened {
        device,
        port,
        description,
        found,
        par: start.par,
    })
}

fn look(port: &dyn InputPort, par: StartPar) -> Result<(Description, State), Refused> {
    let failed = |errno| Refused::io("cannot ask the device what it is", errno);
    let description = port.description().map_err(failed)?;
    let found = State::of(&port.snapshot(&description).map_err(failed)?, &description);
    if par.grab {
        grab(port, &found).map_err(|errno| match errno {
            Errno::EBUSY => taken(&port.programs()),
            errno => Refused::io("cannot take the device for its user", errno),
        })?;
    }
    Ok((description, found))
}

/// The kernel does not say which of the programs that have it open has taken it.
fn taken(programs: &[String]) -> Refused {
    let who = match programs {
        [] => "another program of its owner".to_owned(),
        [only] => format!("{only} at its owner"),
        several => format!("one of {} at its owner", several.join(", ")),
    };
    let text =
        format!("{who} has taken the device for itself; it can be watched with -o grab=false");
    Refused::new(Status::ServiceUnavailable, sub::BUSY, text)
}

/// Takes a device away from its owner's machine, which sees every key released before: it would
/// wait for the release for ever.
fn grab(port: &dyn InputPort, state: &State) -> Result<(), Errno> {
    let down = state.keys().iter();
    let mut release: Vec<Event> = down.map(|code| Event::new(EV_KEY, code, 0)).collect();
    if !release.is_empty() {
        release.push(Event::REPORT);
        port.write(&release)?;
    }
    port.grab(true)
}

fn cannot_open(error: &io::Error) -> Refused {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => Refused::gone(),
        Some(errno) => Refused::io("cannot open the device", errno),
        None => internal(error),
    }
}

fn internal(error: &dyn std::error::Error) -> Refused {
    Refused::new(Status::InternalError, sub::INTERNAL, error.to_string())
}

/// Runs what may wait on a thread that may.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| internal(&error))
}
