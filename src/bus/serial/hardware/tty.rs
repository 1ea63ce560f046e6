//! Real ports, through termios.

mod modes;

use core::task::{Context, Poll};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::{Opening, PortControl, SerialHost, SerialPort, Snapshot};
use crate::bus::serial::op::{Edges, Errors, Flush, Lines, Rs485, Settings};
use crate::kernel::termios::{
    self, CAR, CTS, ChangeWait, Counters, DSR, DTR, Events, Queue, RNG, RTS, Termios, Tty,
};

/// The serial ports of this machine.
#[derive(Clone, Debug)]
pub struct TtyHost {
    dev: PathBuf,
}

impl TtyHost {
    /// Ports below that directory, normally `/dev`.
    pub fn new(dev: impl Into<PathBuf>) -> Self {
        Self { dev: dev.into() }
    }
}

impl Default for TtyHost {
    fn default() -> Self {
        Self::new("/dev")
    }
}

impl SerialHost for TtyHost {
    fn open<'a>(&'a self, place: &str) -> Opening<'a> {
        let path = self.dev.join(place);
        Box::pin(async move {
            let (tty, before) = tokio::task::spawn_blocking(move || {
                let tty = Tty::open(&path)?;
                let before = tty.settings()?;
                tty.set_exclusive(true)?;
                io::Result::Ok((tty, before))
            })
            .await
            .map_err(io::Error::other)??;
            let control = Arc::new(TtyControl::new(tty.clone(), before));
            let events = Events::new(tty)?;
            let port: Box<dyn SerialPort> = Box::new(TtyPort { events, control });
            Ok(port)
        })
    }
}

struct TtyPort {
    events: Events,
    control: Arc<TtyControl>,
}

impl SerialPort for TtyPort {
    fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Errno>> {
        self.events
            .poll_read(context, buffer)
            .map(|read| match read {
                // One byte at least was asked for, so that this is what a hang-up reads.
                Ok(0) => Err(Errno::ENODEV),
                Ok(count) => Ok(count),
                Err(errno) => Err(gone_or(&self.control.tty, errno)),
            })
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Errno>> {
        self.events
            .poll_write(context, data)
            .map_err(|errno| gone_or(&self.control.tty, errno))
    }

    fn control(&self) -> Arc<dyn PortControl> {
        Arc::clone(&self.control) as Arc<dyn PortControl>
    }
}

struct TtyControl {
    tty: Tty,
    /// How it was before it was opened.
    before: Termios,
    rs485_before: Option<termios::Rs485>,
    /// What the driver had counted then.
    counted: Option<Counters>,
    wait: ChangeWait,
    released: AtomicBool,
}

impl TtyControl {
    fn new(tty: Tty, before: Termios) -> Self {
        Self {
            rs485_before: tty.rs485().ok(),
            counted: tty.counters().ok(),
            tty,
            before,
            wait: ChangeWait::default(),
            released: AtomicBool::new(false),
        }
    }

    fn or_gone<T>(&self, result: Result<T, Errno>) -> Result<T, Errno> {
        result.map_err(|errno| gone_or(&self.tty, errno))
    }

    fn set_rs485(&self, wanted: Option<Rs485>) -> Result<(), Errno> {
        let Some(wanted) = wanted else { return Ok(()) };
        match self.tty.set_rs485(modes::rs485_out(&wanted)) {
            // A port that cannot is switched off already.
            Err(Errno::ENOTTY) if !wanted.on => Ok(()),
            result => result,
        }
    }
}

impl PortControl for TtyControl {
    fn configure(&self, settings: &Settings) -> Result<Settings, Errno> {
        self.or_gone(self.set_rs485(settings.rs485))?;
        self.or_gone(self.tty.set_settings(&modes::termios(settings)))?;
        let actual = self.or_gone(self.tty.settings())?;
        // Drivers switch the interrupts of the modem lines off when they are set up; the next wait
        // switches them on again.
        self.wait.interrupt();
        Ok(Settings {
            rs485: self.tty.rs485().ok().map(|rs485| modes::rs485_in(&rs485)),
            push: settings.push,
            gap_us: settings.gap_us,
            ..modes::settings(&actual)
        })
    }

    fn lines(&self) -> Result<Lines, Errno> {
        let on = self.or_gone(self.tty.lines().map_err(cannot))?;
        Ok(lines(on))
    }

    fn set_lines(&self, dtr: Option<bool>, rts: Option<bool>) -> Result<(), Errno> {
        let mask = |state| {
            let of = |line: Option<bool>, bit| if line == Some(state) { bit } else { 0 };
            of(dtr, DTR) | of(rts, RTS)
        };
        let result = match (mask(true), mask(false)) {
            (0, 0) => Ok(()),
            (on, 0) => self.tty.raise(on),
            (0, off) => self.tty.lower(off),
            (on, off) => self
                .tty
                .lines()
                .and_then(|now| self.tty.set_lines(now & !off | on)),
        };
        self.or_gone(result.map_err(cannot))
    }

    fn set_break(&self, on: bool) -> Result<(), Errno> {
        self.or_gone(self.tty.set_break(on).map_err(cannot))
    }

    fn snapshot(&self) -> Result<Snapshot, Errno> {
        // Of a port without lines this is what tells that it is still there.
        self.or_gone(self.tty.settings())?;
        let counted = self
            .counted
            .zip(self.tty.counters().ok())
            .map(|(then, now)| (errors(&then, &now), edges(&then, &now)));
        let lines = match self.lines() {
            Ok(lines) => Some(lines),
            Err(Errno::ENODEV) => return Err(Errno::ENODEV),
            Err(_) => None,
        };
        Ok(Snapshot {
            lines,
            errors: counted.map(|(errors, _)| errors),
            edges: counted.map(|(_, edges)| edges),
        })
    }

    fn wait_change(&self) -> Result<(), Errno> {
        let inputs = CTS | DSR | RNG | CAR;
        self.or_gone(self.tty.wait_change(inputs, &self.wait))
    }

    fn stop_waiting(&self) {
        self.wait.stop();
    }

    fn drain(&self) -> Result<(), Errno> {
        self.or_gone(self.tty.drain())
    }

    fn flush(&self, which: Flush) -> Result<(), Errno> {
        self.or_gone(self.tty.flush(match which {
            Flush::Input => Queue::Input,
            Flush::Output => Queue::Output,
            Flush::Both => Queue::Both,
        }))
    }

    fn release(&self) {
        if self.released.swap(true, Ordering::Relaxed) {
            return;
        }
        self.wait.stop();
        // Each of these is worth trying although another failed; a port that is gone refuses all.
        let _ = self.tty.set_break(false);
        // Otherwise closing waits for the transmission, up to 30 s where the other end holds it.
        let _ = self.tty.flush(Queue::Both);
        if let Some(rs485) = self.rs485_before {
            let _ = self.tty.set_rs485(rs485);
        }
        let _ = self.tty.set_settings(&self.before);
        let _ = self.tty.lower(DTR | RTS);
        let _ = self.tty.set_exclusive(false);
    }
}

impl Drop for TtyControl {
    fn drop(&mut self) {
        self.release();
    }
}

/// `EIO` comes from a port that is gone and from a transfer on the way to it that failed; only of the
/// former the settings cannot be read.
fn gone_or(tty: &Tty, errno: Errno) -> Errno {
    match errno {
        Errno::EIO | Errno::ENXIO if tty.settings().is_err() => Errno::ENODEV,
        Errno::EPIPE | Errno::ESHUTDOWN => Errno::ENODEV,
        other => other,
    }
}

/// Drivers without modem lines say one or the other.
fn cannot(errno: Errno) -> Errno {
    match errno {
        Errno::EINVAL | Errno::EOPNOTSUPP => Errno::ENOTTY,
        other => other,
    }
}

fn lines(on: u32) -> Lines {
    let has = |line| on & line != 0;
    Lines {
        dtr: has(DTR),
        rts: has(RTS),
        cts: has(CTS),
        dsr: has(DSR),
        ri: has(RNG),
        dcd: has(CAR),
    }
}

fn errors(then: &Counters, now: &Counters) -> Errors {
    let overruns = |of: &Counters| of.overrun.wrapping_add(of.buf_overrun);
    Errors {
        parity: now.parity.wrapping_sub(then.parity),
        framing: now.frame.wrapping_sub(then.frame),
        overrun: overruns(now).wrapping_sub(overruns(then)),
        brk: now.brk.wrapping_sub(then.brk),
    }
}

fn edges(then: &Counters, now: &Counters) -> Edges {
    Edges {
        cts: now.cts.wrapping_sub(then.cts),
        dsr: now.dsr.wrapping_sub(then.dsr),
        ri: now.rng.wrapping_sub(then.rng),
        dcd: now.dcd.wrapping_sub(then.dcd),
    }
}

#[cfg(test)]
mod tests;
