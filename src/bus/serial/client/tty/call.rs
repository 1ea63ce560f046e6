//! The ioctls.

use nix::errno::Errno;
use tokio::time::Instant;

use super::reading::count;
use super::{Answer, Tty};
use crate::bus::serial::client::asks::Then;
use crate::bus::serial::client::ioctl::{Entry, Known, Operation, Own, entry_of};
use crate::bus::serial::client::structs;
use crate::bus::serial::client::termios::flag::{self, Control};
use crate::kernel::cuse::Ioctl;

/// How long the break of `TCSBRK` is, in milliseconds.
const BREAK_MS: u32 = 250;
/// What `TCSBRKP` counts, in milliseconds.
const BREAK_UNIT_MS: u32 = 100;

/// What became of an ioctl at once.
enum Outcome {
    /// It is over.
    Done(Vec<u8>),
    /// It is answered later.
    Later,
}

type Result<T> = core::result::Result<T, Errno>;

impl Tty {
    pub(super) fn ioctl(&mut self, now: Instant, id: u64, ioctl: &Ioctl) {
        if !self.is_usable(ioctl.fh) {
            return self.fail(id, Errno::EIO);
        }
        let Some(entry) = entry_of(ioctl.cmd, ioctl.compat) else {
            return self.fail(id, Errno::ENOTTY);
        };
        let input = match ioctl.argument(count(entry.input), count(entry.output)) {
            Ok(input) => input,
            Err(pause) => return self.answer(id, &Answer::Pause(pause)),
        };
        if !merges(entry.operation) {
            self.send_lines();
        }
        match self.perform(now, id, entry, ioctl, input) {
            Ok(Outcome::Done(output)) => self.answer(id, &Answer::Done(output)),
            Ok(Outcome::Later) => {}
            Err(errno) => self.fail(id, errno),
        }
    }

    fn perform(
        &mut self,
        now: Instant,
        id: u64,
        entry: Entry,
        ioctl: &Ioctl,
        input: &[u8],
    ) -> Result<Outcome> {
        use Operation as Op;
        match entry.operation {
            Op::Get(what) => return self.get(what, ioctl.compat).map(Outcome::Done),
            Op::Set(what) => self.set(what, input)?,
            Op::SetLines(change) => self.change_lines(now, change, Self::int(input)?),
            Op::Flow => self.flow(ioctl.arg)?,
            Op::Flush => {
                self.flush(id, ioctl.arg)?;
                return Ok(Outcome::Later);
            }
            Op::Configure(layout, when) => {
                self.configure(id, layout, when, input)?;
                return Ok(Outcome::Later);
            }
            Op::Lines => {
                self.ask_lines(Some(id));
                return Ok(Outcome::Later);
            }
            Op::AwaitLines => {
                self.await_lines(id, ioctl.arg);
                return Ok(Outcome::Later);
            }
            Op::Break => {
                let then = if ioctl.arg == 0 {
                    Then::Break(BREAK_MS)
                } else {
                    Then::Finish
                };
                self.drain(id, then);
                return Ok(Outcome::Later);
            }
            Op::BreakFor => {
                self.drain(id, Then::Break(break_length(ioctl.arg)));
                return Ok(Outcome::Later);
            }
            Op::SetBreak(on) => {
                self.hold_break(id, on);
                return Ok(Outcome::Later);
            }
            Op::SetRs485 => {
                self.set_rs485(id, input)?;
                return Ok(Outcome::Later);
            }
        }
        Ok(Outcome::Done(Vec::new()))
    }

    /// What is known here.
    fn get(&self, what: Known, compat: bool) -> Result<Vec<u8>> {
        let int = |value: u32| value.to_ne_bytes().to_vec();
        Ok(match what {
            Known::Settings(layout) => self.encoded(layout),
            Known::Counters => self.lines.counters.encode(),
            Known::Serial => self.serial.encode(compat),
            Known::Exclusive => int(self.exclusive.into()),
            Known::Readable => int(count(self.discipline.count(&self.termios))),
            Known::Unsent => {
                let echo = self.discipline.echo().len();
                int(count(self.ahead.bytes() + echo))
            }
            Known::Rs485 => {
                let rs485 = self.actual.rs485.as_ref().ok_or(Errno::ENOTTY)?;
                structs::encode_rs485(rs485)
            }
            Known::Window => self.window.to_vec(),
            Known::IgnoresCarrier => int(self.termios.line_has(flag::CLOCAL).into()),
            // N_TTY
            Known::Discipline => int(0),
        })
    }

    /// What concerns nobody but this tty.
    fn set(&mut self, what: Own, input: &[u8]) -> Result<()> {
        match what {
            Own::Serial => self.serial = self.serial.set(input).ok_or(Errno::EFAULT)?,
            Own::Exclusive(on) => self.exclusive = on,
            Own::Window => self.window = *input.first_chunk().ok_or(Errno::EFAULT)?,
            Own::IgnoreCarrier => {
                self.termios.cflag &= !flag::CLOCAL;
                if Self::int(input)? != 0 {
                    self.termios.cflag |= flag::CLOCAL;
                }
            }
            Own::Discipline if Self::int(input)? != 0 => return Err(Errno::EINVAL),
            Own::Discipline => {}
        }
        Ok(())
    }

    /// `TCXONC`.
    fn flow(&mut self, action: u64) -> Result<()> {
        let key = match action {
            0 => {
                self.held = true;
                return Ok(());
            }
            1 => {
                self.held = false;
                self.discipline.start();
                return Ok(());
            }
            2 => Control::Stop,
            3 => Control::Start,
            _ => return Err(Errno::EINVAL),
        };
        if let Some(key) = self.termios.control(key)
            && self.asks.outlet().writable(1)
        {
            self.send(vec![key]);
        }
        Ok(())
    }
}

/// A change of one line may wait for one of the other only while nothing else is asked for.
const fn merges(operation: Operation) -> bool {
    matches!(operation, Operation::SetLines(_))
}

/// The argument of `TCSBRKP` in milliseconds.
fn break_length(arg: u64) -> u32 {
    match u32::try_from(arg) {
        Ok(0) => BREAK_MS,
        arg => arg.unwrap_or(u32::MAX).saturating_mul(BREAK_UNIT_MS),
    }
}
