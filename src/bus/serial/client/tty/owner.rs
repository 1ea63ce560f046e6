//! What the owner says.

use nix::errno::Errno;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::outage::cut;
use super::{Answer, Ask, Purpose, Tty};
use crate::bus::serial::client::structs;
use crate::bus::serial::op::{ControlSet, LineEvent, Lines, OpError, Settings};
use crate::bus::{AskError, Inbound};
use crate::wire::error::ErrorMap;
use crate::wire::msgpack::Value;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

impl Tty {
    /// Something arrived on the stream. Its end is the caller's to see.
    pub fn inbound(&mut self, now: Instant, inbound: Inbound) {
        match inbound {
            Inbound::Data { payload, .. } => self.receive(payload),
            Inbound::Event {
                opcode, payload, ..
            } => self.event(opcode, &payload),
            Inbound::Response {
                corr,
                status,
                payload,
                more: false,
            } => self.response(corr, status, &payload),
            // An owner asks for nothing here.
            Inbound::Request { corr, .. } => {
                let error = ErrorMap::new(sub::UNSUPPORTED).encode();
                let outlet = self.asks.outlet();
                outlet.respond(corr, Status::BadRequest, error.unwrap_or_default());
            }
            Inbound::Response { more: true, .. }
            | Inbound::Cancel { .. }
            | Inbound::Writable
            | Inbound::Dropped { .. }
            | Inbound::Reset { .. }
            | Inbound::Closed => {}
        }
        self.settle(now);
    }

    /// Lets the owner run a sequence; `done` gets the lines after it.
    pub fn run(&mut self, set: &ControlSet, done: oneshot::Sender<Result<Lines, AskError>>) {
        if self.asks.is_paused() {
            // Who asked may have left.
            let _ = done.send(Err(cut()));
            return;
        }
        self.send_lines();
        self.ask_control(set, Ask::of(None, Purpose::Operate(done)));
    }

    fn event(&mut self, opcode: Opcode, payload: &[u8]) {
        self.asks.outlet().consume(payload.len());
        if opcode != Opcode::SerialControlGet {
            return;
        }
        match LineEvent::decode(payload) {
            Ok(event) => self.lines_changed(&event),
            Err(error) => tracing::debug!(%error, "event of the owner's port"),
        }
    }

    fn response(&mut self, corr: u32, status: Status, payload: &[u8]) {
        for ask in self.asks.go_on() {
            self.unanswered(ask);
        }
        let Some(Ask { call, purpose }) = self.asks.answered(corr) else {
            return;
        };
        let failed = (!status.is_success()).then(|| errno(status, payload));
        match purpose {
            Purpose::Configure(wanted) => {
                self.configured(call, wanted, told(failed, payload, Settings::decode));
            }
            Purpose::Rs485 => self.rs485_set(call, told(failed, payload, Settings::decode)),
            Purpose::Lines => self.lines_told(call, told(failed, payload, Lines::decode)),
            Purpose::SetLines => self.lines_told(None, told(failed, payload, Lines::decode)),
            Purpose::Taken { bytes } => self.taken(bytes),
            Purpose::Drain(then) => match failed {
                Some(errno) => self.finish_with(call, errno),
                None => self.drained(call, then),
            },
            Purpose::Finish => self.finished(call, failed),
            Purpose::Flush { input } => {
                self.flushed(input);
                self.finished(call, failed);
            }
            Purpose::Close => self.closed(failed.is_none()),
            Purpose::Operate(done) => {
                // Who asked may have left.
                let _ = done.send(operated(status, payload));
            }
        }
    }

    /// A call ends as the owner says.
    fn finished(&self, call: Option<u64>, failed: Option<Errno>) {
        match failed {
            Some(errno) => self.finish_with(call, errno),
            None => self.finish(call),
        }
    }

    fn lines_told(&mut self, call: Option<u64>, lines: Result<Lines, Errno>) {
        match lines {
            Ok(lines) => {
                self.lines_are(lines);
                if let Some(id) = call {
                    let bits = structs::modem_bits(&lines).to_ne_bytes();
                    self.answer(id, &Answer::Done(bits.to_vec()));
                }
            }
            Err(errno) => self.finish_with(call, errno),
        }
    }
}

/// The answer, or what a program is told instead.
fn told<T>(
    failed: Option<Errno>,
    payload: &[u8],
    decode: fn(&[u8]) -> Result<T, OpError>,
) -> Result<T, Errno> {
    match failed {
        Some(errno) => Err(errno),
        None => decode(payload).map_err(|error| {
            tracing::debug!(%error, "answer of the owner's port");
            Errno::EIO
        }),
    }
}

fn operated(status: Status, payload: &[u8]) -> Result<Lines, AskError> {
    if !status.is_success() {
        let error = ErrorMap::decode(payload).unwrap_or_default();
        return Err(AskError::Refused { status, error });
    }
    Lines::decode(payload).map_err(|error| AskError::NotSent(error.to_string()))
}

/// What a program is told when the owner did not do it.
fn errno(status: Status, payload: &[u8]) -> Errno {
    let error = ErrorMap::decode(payload).unwrap_or_default();
    if error.sub == sub::DEVICE_IO
        && let Some(number) = error.detail.as_ref().and_then(Value::as_i64)
        && let Ok(number) = i32::try_from(number)
    {
        return Errno::from_raw(number);
    }
    if error.sub == sub::UNSUPPORTED {
        // What a driver says to what its port cannot do.
        return Errno::ENOTTY;
    }
    match status {
        Status::BadRequest => Errno::EINVAL,
        Status::Forbidden => Errno::EACCES,
        Status::Timeout => Errno::ETIMEDOUT,
        Status::Ok
        | Status::Unauthorized
        | Status::NotFound
        | Status::InvalidSession
        | Status::InternalError
        | Status::ServiceUnavailable
        | Status::Other(_) => Errno::EIO,
    }
}
