//! The half that has the port: one task for each open port, from the request that opens the stream until
//! the port is safe and what it was before.

mod jobs;
mod stop;
mod stream;

use std::io;

use nix::errno::Errno;
use tracing::info;

use super::enumerate;
use super::hardware::tty::TtyHost;
use super::hardware::{PortControl, SerialHost};
use super::op::{self, OpenRequest, PortEntry, PortList, Settings, StreamSettings};
use crate::bus::{Answer, BusStream, Caller, End, Grant, Owned, Present, Refused, Serving, Wanted};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

use stream::{Setup, Stream};

/// Serial ports in [`crate::bus::OWNED`].
pub const OWNED: Owned = Owned {
    class: "serial",
    shared: false,
    openers: &[Opcode::SerialPortOpen, Opcode::StreamStart],
    calls: &[],
    list: Some((Opcode::SerialPortList, listing)),
    look: enumerate::look,
    wanted,
    serve: serve_tty,
    call,
};

fn listing(ports: &[(Present, u8)]) -> Vec<u8> {
    let list = PortList {
        ports: ports
            .iter()
            .map(|(port, state)| PortEntry {
                dev: port.id.clone(),
                name: port.name.clone(),
                rs485: None,
                state: *state,
            })
            .collect(),
    };
    list.encode().unwrap_or_default()
}

fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    let (_, request) = opening(opcode, payload)?;
    Ok(Wanted {
        device: request.dev,
        write: request.mode.writes(),
    })
}

fn call(_: &Present, _: &Caller, _: Opcode, _: &[u8]) -> Answer {
    Err(Refused::unsupported(
        "no operation of serial ports is without a stream",
    ))
}

fn serve_tty(grant: Grant, stream: BusStream) -> Serving {
    Box::pin(async move { serve(&TtyHost::default(), grant, stream).await })
}

/// Which operations a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// Those of profile 19.5.
    Serial,
    /// Those of profile 19.3: bytes without modem lines.
    Stream,
}

impl Dialect {
    /// The answer that tells the settings.
    fn settings(self, settings: Settings) -> Result<Vec<u8>, Refused> {
        match self {
            Self::Serial => settings.encode(),
            Self::Stream => StreamSettings { par: settings }.encode(),
        }
        .map_err(|error| internal(&error))
    }
}

/// What a request that opens a port asks for.
fn opening(opcode: Opcode, payload: &[u8]) -> Result<(Dialect, OpenRequest), Refused> {
    if opcode == Opcode::StreamStart {
        let start = op::StreamStart::decode(payload).map_err(|error| bad(&error))?;
        return Ok((Dialect::Stream, start.into()));
    }
    let request = OpenRequest::decode(payload).map_err(|error| bad(&error))?;
    Ok((Dialect::Serial, request))
}

/// Answers the request that opens a port and, if the port can be had, serves it until the stream ends.
/// The port is safe and what it was before when this returns.
///
/// Do not drop the future half-way when it can be helped: the port is given back all the same, but on
/// the spot, and that can wait for the hardware.
pub async fn serve(host: &dyn SerialHost, grant: Grant, stream: BusStream) -> End {
    let (corr, told) = (grant.corr, !grant.quiet);
    let BusStream { outlet, inbound } = stream;
    let id = grant.present.id.clone();
    match open(host, &grant).await {
        Ok((stream, payload)) => {
            if told {
                info!(device = id, "serial port opened");
            }
            outlet.respond(corr, Status::Ok, payload);
            let end = stream.run(outlet, inbound).await;
            if told {
                info!(device = id, ?end, "serial port closed");
            }
            end
        }
        Err(refused) => {
            if told {
                info!(device = id, reason = refused.msg, "serial port refused");
            }
            outlet.respond(corr, refused.status, refused.payload());
            End::Refused(refused)
        }
    }
}

async fn open(host: &dyn SerialHost, grant: &Grant) -> Result<(Stream, Vec<u8>), Refused> {
    let (dialect, request) = opening(grant.opcode, &grant.payload)?;
    if request.mode.writes() && !grant.write {
        return Err(read_only());
    }
    let port = host
        .open(&grant.present.place)
        .await
        .map_err(|error| cannot_open(&error))?;
    let control = Held(port.control());
    let (settings, first) = {
        let control = port.control();
        let wanted = request.settings;
        waiting(move || {
            let settings = control.configure(&wanted)?;
            Ok((settings, control.snapshot()?))
        })
        .await?
        .map_err(|errno| failed("cannot set the port up", errno))?
    };
    let payload = dialect.settings(settings.clone())?;
    let setup = Setup {
        dialect,
        mode: request.mode,
        settings,
        first,
    };
    Ok((Stream::new(port, control, setup), payload))
}

/// The face of a port that waits; the port is released when this is dropped.
struct Held(std::sync::Arc<dyn PortControl>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn cannot_open(error: &io::Error) -> Refused {
    let what = "cannot open the port";
    match error.raw_os_error().map(Errno::from_raw) {
        // A port without hardware, or hung up, says EIO.
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO | Errno::EIO) => Refused::gone(),
        Some(Errno::EBUSY) => Refused::new(
            Status::ServiceUnavailable,
            sub::BUSY,
            "another program has the port for itself",
        ),
        Some(errno @ (Errno::EMFILE | Errno::ENFILE)) => Refused::io(
            "cannot open the port: the owner has too many open files; raise LimitNOFILE= of its \
             service or ulimit -n",
            errno,
        ),
        Some(errno) => Refused::io(what, errno),
        None => Refused::new(
            Status::InternalError,
            sub::INTERNAL,
            format!("{what}: {error}"),
        ),
    }
}

/// What the port said to `what`.
fn failed(what: &str, errno: Errno) -> Refused {
    match errno {
        Errno::ENOTTY | Errno::EOPNOTSUPP => {
            Refused::unsupported(format!("{what}: this port has no such thing"))
        }
        other => Refused::io(what, other),
    }
}

fn bad(error: &op::OpError) -> Refused {
    Refused::bad(error.to_string())
}

fn internal(error: &impl ToString) -> Refused {
    Refused::new(Status::InternalError, sub::INTERNAL, error.to_string())
}

fn read_only() -> Refused {
    Refused::new(
        Status::Forbidden,
        sub::ACL,
        "the port is open for reading only",
    )
}

/// Runs what may wait on a thread that may.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| internal(&error))
}
