//! Requests on the stream of an open port, and the answers to those that wait for the hardware.

use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::{CLOSING, Stream};
use crate::bus::serial::op::{
    self, Break, Change, ControlSet, DataRead, DataWrite, StreamParameters,
};
use crate::bus::serial::server::jobs::{Done, Finished, Job};
use crate::bus::serial::server::{Dialect, bad, failed, internal, read_only};
use crate::bus::{End, MAX_AGE_SECS, Outlet, Refused};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

impl Stream {
    /// Begins a request, or answers it.
    pub(super) fn request(
        &mut self,
        outlet: &dyn Outlet,
        corr: u32,
        (opcode, payload): (Opcode, &[u8]),
        age_secs: u32,
    ) -> Result<(), Refused> {
        if self.closing.is_some() {
            return Err(Refused::new(
                Status::BadRequest,
                sub::STREAM_STATE,
                "the port is being closed",
            ));
        }
        match (self.dialect, opcode) {
            (Dialect::Serial, Opcode::SerialPortClose) | (Dialect::Stream, Opcode::StreamStop) => {
                op::decode_empty(payload).map_err(|error| bad(&error))?;
                self.closing = Some((corr, Instant::now() + CLOSING));
                self.writes.close();
                Ok(())
            }
            (Dialect::Serial, _) => self.serial(corr, (opcode, payload), age_secs),
            (Dialect::Stream, _) => self.stream(outlet, corr, opcode, payload),
        }
    }

    fn serial(
        &mut self,
        corr: u32,
        (opcode, payload): (Opcode, &[u8]),
        age_secs: u32,
    ) -> Result<(), Refused> {
        match opcode {
            Opcode::SerialPortConfigure => {
                let change = Change::decode(payload).map_err(|error| bad(&error))?;
                self.configure(corr, change)?;
            }
            Opcode::SerialDataWrite => {
                let write = DataWrite::decode(payload).map_err(|error| bad(&error))?;
                self.may_write()?;
                self.writes.request(corr, write);
            }
            Opcode::SerialDataRead => {
                let read = DataRead::decode(payload).map_err(|error| bad(&error))?;
                self.reads.pull(corr, read, Instant::now())?;
            }
            Opcode::SerialControlSet => {
                let set = ControlSet::decode(payload).map_err(|error| bad(&error))?;
                self.may_write()?;
                fresh(age_secs)?;
                self.jobs.push(corr, Job::Set(set));
            }
            Opcode::SerialControlGet => {
                op::decode_empty(payload).map_err(|error| bad(&error))?;
                self.jobs.push(corr, Job::Get);
            }
            Opcode::SerialBreak => {
                let Break { ms } = Break::decode(payload).map_err(|error| bad(&error))?;
                self.may_write()?;
                fresh(age_secs)?;
                let length = Duration::from_millis(ms.into());
                self.jobs.push(corr, Job::Break(length));
            }
            other => return Err(no_such(other)),
        }
        Ok(())
    }

    fn stream(
        &mut self,
        outlet: &dyn Outlet,
        corr: u32,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<(), Refused> {
        match opcode {
            Opcode::StreamConfigure => {
                let StreamParameters { par } =
                    StreamParameters::decode(payload).map_err(|error| bad(&error))?;
                self.configure(corr, par)?;
            }
            Opcode::StreamPause | Opcode::StreamResume => {
                op::decode_empty(payload).map_err(|error| bad(&error))?;
                self.reads.pause(opcode == Opcode::StreamPause);
                outlet.respond(corr, Status::Ok, op::encode_empty());
            }
            other => return Err(no_such(other)),
        }
        Ok(())
    }

    fn configure(&mut self, corr: u32, change: Change) -> Result<(), Refused> {
        self.may_write()?;
        self.jobs.push(corr, Job::Configure(change));
        Ok(())
    }

    fn may_write(&self) -> Result<(), Refused> {
        if self.mode.writes() {
            Ok(())
        } else {
            Err(read_only())
        }
    }

    /// A request that has not begun is answered at once, one that has when it has ended: half a
    /// sequence would be worse than all of it. One that is unknown was answered already.
    pub(super) fn cancel(&mut self, outlet: &dyn Outlet, corr: u32) {
        if self.jobs.cancel(corr) || self.reads.cancel(corr) || self.writes.cancel(corr) {
            let refused = Refused::cancelled();
            outlet.respond(corr, refused.status, refused.payload());
        }
    }

    /// Answers a request whose job has ended.
    pub(super) fn on_finished(&mut self, outlet: &dyn Outlet, finished: Finished) -> Option<End> {
        let Finished { corr, what, result } = finished;
        let gone = matches!(result, Err(Errno::ENODEV));
        let answer = match result {
            Ok(Done::Configured { settings, flushed }) => {
                self.reads.configure(outlet, &settings, flushed);
                self.settings = settings.clone();
                self.dialect.settings(settings)
            }
            Ok(Done::Lines(lines)) => lines.encode().map_err(|error| internal(&error)),
            Ok(Done::BreakOver) => Ok(op::encode_empty()),
            Ok(Done::Stopped) => Err(Refused::cancelled()),
            Err(errno) => Err(failed(what, errno)),
        };
        match answer {
            Ok(payload) => outlet.respond(corr, Status::Ok, payload),
            Err(refused) => outlet.respond(corr, refused.status, refused.payload()),
        }
        gone.then_some(End::DeviceGone)
    }
}

/// What moves lines moves things; it is not done late (profile 16).
fn fresh(age_secs: u32) -> Result<(), Refused> {
    if age_secs > MAX_AGE_SECS {
        let text = format!("the request is {age_secs} s old");
        return Err(Refused::new(Status::Forbidden, sub::TOO_OLD, text));
    }
    Ok(())
}

fn no_such(opcode: Opcode) -> Refused {
    Refused::unsupported(format!("{opcode} is no operation of this stream"))
}
