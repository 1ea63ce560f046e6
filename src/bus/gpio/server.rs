//! The half that has the chip: one task for each set of requested lines, from the request that opened
//! the stream until the lines are in their safe state.

mod held;
mod keeper;
mod stream;

use std::sync::{Arc, LazyLock};

use nix::errno::Errno;
use tracing::{debug, info};

use super::enumerate;
use super::hardware::cdev::CdevHost;
use super::hardware::{GpioChip, GpioHost};
use super::op::{ChipEntry, ChipList, Direction, LineInfo, LineInfoRequest, LineRequest, OpError};
use crate::bus::waiting;
use crate::bus::{Answer, BusStream, Caller, End, Grant, Owned, Present, Refused, Serving, Wanted};
use crate::wire::msgpack::Value;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

pub use keeper::Keeper;

use held::Held;

/// GPIO chips as the owner's daemon sees them. One chip serves many streams; the kernel gives each
/// line to one of them.
pub const OWNED: Owned = Owned {
    class: "gpio",
    shared: true,
    openers: &[Opcode::GpioLineRequest],
    calls: &[Opcode::GpioLineInfo],
    list: Some((Opcode::GpioChipList, list)),
    look: enumerate::look,
    wanted,
    serve: serve_cdev,
    call: call_cdev,
};

/// The lines that are kept in their safe state, of all sessions of this process.
static KEEPER: LazyLock<Arc<Keeper>> = LazyLock::new(Arc::default);

fn serve_cdev(grant: Grant, stream: BusStream) -> Serving {
    let host = Arc::new(CdevHost::default());
    Box::pin(serve(host, Arc::clone(&KEEPER), grant, stream))
}

fn call_cdev(present: &Present, _: &Caller, opcode: Opcode, payload: &[u8]) -> Answer {
    call(&CdevHost::default(), &KEEPER, present, opcode, payload)
}

/// The answer to `GPIO_CHIP_LIST`.
pub fn list(found: &[(Present, u8)]) -> Vec<u8> {
    let entry = |(present, _): &(Present, u8)| ChipEntry {
        dev: present.id.clone(),
        label: match present.props.get("label") {
            Some(Value::Str(label)) => label.clone(),
            Some(_) | None => String::new(),
        },
        lines: match present.props.get("lines") {
            Some(Value::Uint(lines)) => u32::try_from(*lines).unwrap_or_default(),
            Some(_) | None => 0,
        },
    };
    let chips = found.iter().map(entry).collect();
    // No list of chips fails to be written.
    ChipList { chips }.encode().unwrap_or_default()
}

/// What a request of this bus asks for. Inputs need the right to read only.
///
/// # Errors
/// The payload is not what the operation defines, or the operation is not of this bus.
pub fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    match opcode {
        Opcode::GpioLineRequest => {
            let request = LineRequest::decode(payload).map_err(|error| bad(&error))?;
            let write =
                request.dir == Direction::Output || KEEPER.holds_any(&request.dev, &request.lines);
            Ok(Wanted {
                device: request.dev,
                write,
            })
        }
        Opcode::GpioLineInfo => {
            let request = LineInfoRequest::decode(payload).map_err(|error| bad(&error))?;
            Ok(Wanted {
                device: request.dev,
                write: false,
            })
        }
        other => Err(Refused::unsupported(format!("{other} opens no GPIO lines"))),
    }
}

/// Performs `GPIO_LINE_INFO`; may wait. A line that is only kept in its safe state counts as free,
/// since the next request gets it.
///
/// # Errors
/// The line or the chip is not there.
pub fn call(
    host: &dyn GpioHost,
    keeper: &Keeper,
    present: &Present,
    opcode: Opcode,
    payload: &[u8],
) -> Answer {
    if opcode != Opcode::GpioLineInfo {
        return Err(Refused::unsupported(format!("{opcode} is no GPIO call")));
    }
    let request = LineInfoRequest::decode(payload).map_err(|error| bad(&error))?;
    let chip = open(host, present)?;
    check_lines(&*chip, &[request.line])?;
    let line = chip
        .line_info(request.line)
        .map_err(|errno| Refused::io("cannot look at the line", errno))?;
    let info = LineInfo {
        name: enumerate::clean(&line.name),
        used: line.consumer.is_some() && !keeper.holds_any(&present.id, &[request.line]),
        dir: line.dir,
        bias: line.bias,
        drive: line.drive,
        low: line.low,
    };
    info.encode().map_err(|error| internal(&error))
}

/// Answers the opening request and, if the lines can be had, serves them until the stream ends. They
/// are in their safe state when this returns.
///
/// Do not drop the future half-way when it can be helped: that state is reached all the same, but on
/// the spot, and that waits for the hardware.
pub async fn serve(
    host: Arc<dyn GpioHost>,
    keeper: Arc<Keeper>,
    grant: Grant,
    stream: BusStream,
) -> End {
    let (corr, told) = (grant.corr, !grant.quiet);
    let device = grant.present.id.clone();
    match waiting(move || Held::open(&*host, keeper, &grant)).await {
        Ok(Ok((held, answer))) => {
            if told {
                info!(device, lines = ?held.lines(), "GPIO lines requested");
            }
            stream.outlet.respond(corr, Status::Ok, answer);
            let end = stream::run(held, stream).await;
            if told {
                info!(device, ?end, "GPIO lines given back");
            }
            end
        }
        Ok(Err(refused)) | Err(refused) => {
            if told {
                info!(device, reason = refused.msg, "GPIO lines refused");
            }
            stream
                .outlet
                .respond(corr, refused.status, refused.payload());
            End::Refused(refused)
        }
    }
}

fn open(host: &dyn GpioHost, present: &Present) -> Result<Arc<dyn GpioChip>, Refused> {
    host.open(&present.place).map_err(|error| {
        debug!(place = present.place, %error, "cannot open a GPIO chip");
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => Refused::gone(),
            Some(errno) => Refused::io("cannot open the chip", errno),
            None => internal(&error),
        }
    })
}

fn check_lines(chip: &dyn GpioChip, lines: &[u32]) -> Result<(), Refused> {
    let info = chip
        .info()
        .map_err(|errno| Refused::io("cannot look at the chip", errno))?;
    match lines.iter().find(|line| **line >= info.lines) {
        Some(line) => Err(Refused::bad(format!(
            "there is no line {line}, the chip has {}",
            info.lines
        ))),
        None => Ok(()),
    }
}

fn bad(error: &OpError) -> Refused {
    Refused::bad(error.to_string())
}

fn internal(error: &dyn core::error::Error) -> Refused {
    Refused::new(Status::InternalError, sub::INTERNAL, error.to_string())
}
