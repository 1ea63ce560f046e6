//! From a wish to a tty.

use std::rc::Rc;
use std::time::Duration;

use super::name::{self, PREFIX};
use super::outage::Outage;
use super::pulse;
use super::pump::{self, Pump, Steering, outgoing};
use super::settings;
use super::termios::Termios;
use crate::bus::chardev::make::{self, Made};
use crate::bus::names::NameFile;
use crate::bus::serial::op::{Lines, Mode, OpenRequest, Settings};
use crate::bus::{
    AskError, AttachError, Attaching, BusStream, Inbound, Local, Opener, OperateError, Operating,
    Parameters, Presenter, Wish,
};
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;

/// How long the owner has to open its port.
const OPENING: Duration = Duration::from_secs(10);
/// How many names are tried.
const NUMBERS: u32 = 256;

/// Serial ports become ttys.
pub const PRESENTER: Presenter = Presenter {
    class: "serial",
    ways: &["cuse"],
    named: true,
    options: &[],
    check: make::check,
    attach: |opener, wish, _| -> Attaching { Box::pin(attach(opener, wish)) },
    operate: Some(
        |opener, wish, operation, parameters| -> Operating<'static> {
            Box::pin(operate(opener, wish, operation, parameters))
        },
    ),
};

async fn attach(opener: Rc<dyn Opener>, wish: Wish) -> Result<Local, AttachError> {
    if let Some(complaint) = wish.name.as_deref().and_then(name::complaint) {
        return Err(AttachError::Wish(complaint));
    }
    make::check()?;
    let (settings, mut stream) = open(opener.as_ref(), &wish.device, &Termios::FIRST).await?;
    let names = (0..NUMBERS).map(|number| format!("{PREFIX}{number}"));
    match make::make(&wish, names) {
        Ok(Made { device, name, file }) => {
            let (pump, steering) = Pump::new(Rc::new(device), stream, settings, node(&name));
            let pump = pump.outliving(Outage {
                opener,
                device: wish.device,
                grace: wish.grace,
            });
            Ok(start(pump, steering, node(&name), file))
        }
        Err(error) => {
            // The error is what a person wants to know.
            let _ = tokio::time::timeout(OPENING, pump::close(&mut stream)).await;
            Err(error)
        }
    }
}

/// Opens the owner's port as a tty with these settings is.
pub(super) async fn open(
    opener: &dyn Opener,
    device: &str,
    termios: &Termios,
) -> Result<(Settings, BusStream), AttachError> {
    let request = OpenRequest {
        dev: device.to_owned(),
        mode: Mode::ReadWrite,
        settings: Settings::default().with(&settings::wanted(termios)),
    };
    let payload = request
        .encode()
        .map_err(|error| AttachError::Answer(error.to_string()))?;
    let (answer, mut stream) = opener
        .open(Opcode::SerialPortOpen, payload, OPENING)
        .await?;
    match Settings::decode(&answer) {
        Ok(settings) => Ok((settings, stream)),
        Err(error) => {
            // What it did answer is what a person wants to know.
            let _ = tokio::time::timeout(OPENING, pump::close(&mut stream)).await;
            Err(AttachError::Answer(error.to_string()))
        }
    }
}

fn node(name: &str) -> String {
    format!("/dev/{name}")
}

fn start(pump: Pump, steering: Steering, node: String, file: Option<NameFile>) -> Local {
    tracing::info!(%node, "serial port attached");
    let task = tokio::task::spawn_local(async move {
        let ended = pump.run(move || drop(file)).await;
        tracing::info!(%node, %ended, "serial port detached");
        ended
    });
    Local {
        handle: Rc::new(steering),
        ended: Box::pin(async move {
            task.await
                .unwrap_or_else(|error| crate::bus::Ended::Failed(error.to_string()))
        }),
    }
}

/// An operation on a port that is not local.
async fn operate(
    opener: Rc<dyn Opener>,
    wish: Wish,
    operation: String,
    parameters: Parameters,
) -> Result<serde_json::Value, OperateError> {
    let set = pulse::sequence(&operation, &parameters)?;
    let payload = set
        .encode()
        .map_err(|error| OperateError::Failed(error.to_string()))?;
    let (_, mut stream) = open(opener.as_ref(), &wish.device, &Termios::FIRST)
        .await
        .map_err(|error| match error {
            AttachError::Ask(error) => OperateError::Ask(error),
            other => OperateError::Failed(other.to_string()),
        })?;
    let request = outgoing(Opcode::SerialControlSet, payload);
    let lines = match stream.outlet.request(request) {
        Ok(corr) => lines_after(&mut stream, corr).await,
        Err(error) => Err(AskError::NotSent(error.to_string()).into()),
    };
    // It has happened, or not, whatever the owner says now.
    let _ = tokio::time::timeout(OPENING, pump::close(&mut stream)).await;
    Ok(pulse::report(&lines?))
}

async fn lines_after(stream: &mut BusStream, corr: u32) -> Result<Lines, OperateError> {
    while let Some(inbound) = stream.inbound.recv().await {
        match inbound {
            Inbound::Response {
                corr: of,
                status,
                payload,
                ..
            } if of == corr => {
                if !status.is_success() {
                    let error = ErrorMap::decode(&payload).unwrap_or_default();
                    return Err(AskError::Refused { status, error }.into());
                }
                return Lines::decode(&payload)
                    .map_err(|error| OperateError::Failed(error.to_string()));
            }
            Inbound::Data { payload, .. } | Inbound::Event { payload, .. } => {
                stream.outlet.consume(payload.len());
            }
            Inbound::Closed | Inbound::Reset { .. } => break,
            _ => {}
        }
    }
    Err(AskError::Ended("the owner ended the stream".into()).into())
}
