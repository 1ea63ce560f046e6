//! A serial port without hardware, for tests: a UART with a queue on either side of it and somebody at
//! the far end of the line, who is played by the test.

use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::hardware::{Opening, PortControl, SerialHost, SerialPort, Snapshot};
use super::op::{Edges, Errors, Flush, Lines, Settings};

/// Bytes that wait in the port on each side, as in a tty.
pub const QUEUE: usize = 4096;

/// What was done to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It was opened.
    Open,
    /// It was set up.
    Configure(Settings),
    /// DTR and RTS were changed in one call.
    Lines(Option<bool>, Option<bool>),
    /// A break began or ended.
    Break(bool),
    /// It was waited until everything was transmitted.
    Drain,
    /// A queue was thrown away.
    Flush(Flush),
    /// It was made safe and what it was before.
    Release,
}

/// A fake port. Clones are the same port.
#[derive(Clone, Default)]
pub struct Fake {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct State {
    received: VecDeque<u8>,
    to_send: VecDeque<u8>,
    sent: Vec<u8>,
    held: bool,
    looped: bool,
    gone: bool,
    open: bool,
    lines: Lines,
    without_lines: bool,
    cannot_wait: bool,
    counts: (Errors, Edges),
    /// Changes so far, for those who wait for one.
    changes: u64,
    stopped: bool,
    hold_calls: bool,
    waiting_calls: usize,
    failures: Vec<(Act, Errno)>,
    acts: Vec<Act>,
    readers: Option<Waker>,
    writers: Option<Waker>,
}

impl Fake {
    /// A port whose far end takes everything.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// The far end sends; returns how many bytes it could before the port dropped RTS.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let mut state = self.state();
        let room = QUEUE - state.received.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        state.received.extend(taken);
        state.wake();
        taken.len()
    }

    /// What the far end received since this was last asked.
    pub fn sent(&self) -> Vec<u8> {
        core::mem::take(&mut self.state().sent)
    }

    /// The far end takes nothing any more.
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// The far end takes so many bytes, and then nothing any more.
    pub fn take(&self, bytes: usize) {
        let mut state = self.state();
        let count = bytes.min(state.to_send.len());
        let taken: Vec<u8> = state.to_send.drain(..count).collect();
        state.sent.extend(taken);
        state.wake();
        self.shared.changed.notify_all();
    }

    /// The far end takes everything again.
    pub fn let_go(&self) {
        self.state().held = false;
        self.take(usize::MAX);
    }

    /// Connects the port's output with its input.
    pub fn loop_back(&self) {
        self.state().looped = true;
    }

    /// The far end changes its lines; those that the port drives itself stay.
    pub fn set_inputs(&self, inputs: Lines) {
        let mut state = self.state();
        let (before, edges) = (state.lines, &mut state.counts.1);
        edges.cts += u32::from(before.cts != inputs.cts);
        edges.dsr += u32::from(before.dsr != inputs.dsr);
        edges.ri += u32::from(before.ri && !inputs.ri);
        edges.dcd += u32::from(before.dcd != inputs.dcd);
        state.lines = Lines {
            dtr: before.dtr,
            rts: before.rts,
            ..inputs
        };
        state.changes += 1;
        self.shared.changed.notify_all();
    }

    /// The port counts these errors from now on.
    pub fn count(&self, errors: Errors) {
        self.state().counts.0 = errors;
    }

    /// It is a port without modem lines.
    pub fn remove_lines(&self) {
        self.state().without_lines = true;
    }

    /// The driver cannot wait for a change of the lines.
    pub fn forget_to_wait(&self) {
        self.state().cannot_wait = true;
    }

    /// Pulls the plug.
    pub fn unplug(&self) {
        let mut state = self.state();
        state.gone = true;
        state.wake();
        self.shared.changed.notify_all();
    }

    /// Makes every call that may wait do so, until [`Fake::let_calls_go`].
    pub fn hold_calls(&self) {
        self.state().hold_calls = true;
    }

    /// The opposite of [`Fake::hold_calls`].
    pub fn let_calls_go(&self) {
        self.state().hold_calls = false;
        self.shared.changed.notify_all();
    }

    /// Calls that are waiting because of [`Fake::hold_calls`].
    pub fn waiting_calls(&self) -> usize {
        self.state().waiting_calls
    }

    /// Makes the next call that does this fail.
    pub fn fail_next(&self, act: Act, errno: Errno) {
        self.state().failures.push((act, errno));
    }

    /// What was done to the port, in order.
    pub fn acts(&self) -> Vec<Act> {
        self.state().acts.clone()
    }

    /// The lines now.
    pub fn lines(&self) -> Lines {
        self.state().lines
    }

    /// Bytes that wait to be read.
    pub fn unread(&self) -> usize {
        self.state().received.len()
    }

    /// Bytes that wait to be transmitted.
    pub fn unsent(&self) -> usize {
        self.state().to_send.len()
    }

    /// Somebody has it open.
    pub fn is_open(&self) -> bool {
        self.state().open
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a call that does `act`.
    fn act(&self, act: Act) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.state();
        state.waiting_calls += 1;
        while state.hold_calls && !state.gone {
            state = self.wait(state);
        }
        state.waiting_calls -= 1;
        if state.gone {
            return Err(Errno::ENODEV);
        }
        if let Some(at) = state.failures.iter().position(|(fails, _)| *fails == act) {
            return Err(state.failures.remove(at).1);
        }
        state.acts.push(act);
        Ok(state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        for waker in [self.readers.take(), self.writers.take()] {
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn transmit(&mut self) {
        if self.held {
            return;
        }
        let room = if self.looped {
            QUEUE.saturating_sub(self.received.len())
        } else {
            usize::MAX
        };
        let count = room.min(self.to_send.len());
        let bytes: Vec<u8> = self.to_send.drain(..count).collect();
        if self.looped {
            self.received.extend(bytes);
            self.wake();
        } else {
            self.sent.extend(bytes);
        }
    }

    fn lines(&self) -> Result<Lines, Errno> {
        if self.gone {
            return Err(Errno::ENODEV);
        }
        if self.without_lines {
            return Err(Errno::ENOTTY);
        }
        Ok(self.lines)
    }
}

impl SerialHost for Fake {
    fn open<'a>(&'a self, _place: &str) -> Opening<'a> {
        Box::pin(async move {
            let mut state = self
                .shared
                .act(Act::Open)
                .map_err(|errno| io::Error::from_raw_os_error(errno as i32))?;
            state.open = true;
            state.lines.dtr = true;
            state.lines.rts = true;
            let port: Box<dyn SerialPort> = Box::new(Face(Arc::clone(&self.shared)));
            Ok(port)
        })
    }
}

/// Both faces of an open port.
struct Face(Arc<Shared>);

impl SerialPort for Face {
    fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Errno>> {
        let mut state = self.0.state();
        if state.gone {
            return Poll::Ready(Err(Errno::ENODEV));
        }
        if state.received.is_empty() {
            state.readers = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(state.received.len());
        for (to, from) in buffer.iter_mut().zip(state.received.drain(..count)) {
            *to = from;
        }
        state.transmit();
        Poll::Ready(Ok(count))
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Errno>> {
        let mut state = self.0.state();
        if state.gone {
            return Poll::Ready(Err(Errno::ENODEV));
        }
        let room = QUEUE.saturating_sub(state.to_send.len());
        let taken = data.get(..room).unwrap_or(data);
        if taken.is_empty() {
            state.writers = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.to_send.extend(taken);
        state.transmit();
        Poll::Ready(Ok(taken.len()))
    }

    fn control(&self) -> Arc<dyn PortControl> {
        Arc::new(Self(Arc::clone(&self.0)))
    }
}

impl PortControl for Face {
    fn configure(&self, settings: &Settings) -> Result<Settings, Errno> {
        if settings.rs485.is_some_and(|rs485| rs485.on) {
            return Err(Errno::ENOTTY);
        }
        drop(self.0.act(Act::Configure(settings.clone()))?);
        Ok(Settings {
            rs485: None,
            ..settings.clone()
        })
    }

    fn lines(&self) -> Result<Lines, Errno> {
        self.0.state().lines()
    }

    fn set_lines(&self, dtr: Option<bool>, rts: Option<bool>) -> Result<(), Errno> {
        let mut state = self.0.act(Act::Lines(dtr, rts))?;
        state.lines()?;
        state.lines.dtr = dtr.unwrap_or(state.lines.dtr);
        state.lines.rts = rts.unwrap_or(state.lines.rts);
        Ok(())
    }

    fn set_break(&self, on: bool) -> Result<(), Errno> {
        self.0.act(Act::Break(on)).map(drop)
    }

    fn snapshot(&self) -> Result<Snapshot, Errno> {
        let state = self.0.state();
        match state.lines() {
            Err(Errno::ENODEV) => Err(Errno::ENODEV),
            Err(_) => Ok(Snapshot::default()),
            Ok(lines) => Ok(Snapshot {
                lines: Some(lines),
                errors: Some(state.counts.0),
                edges: Some(state.counts.1),
            }),
        }
    }

    fn wait_change(&self) -> Result<(), Errno> {
        let mut state = self.0.state();
        let before = state.changes;
        loop {
            if state.cannot_wait {
                return Err(Errno::ENOTTY);
            }
            if state.stopped {
                return Err(Errno::EINTR);
            }
            if state.changes != before {
                return Ok(());
            }
            state = self.0.wait(state);
        }
    }

    fn stop_waiting(&self) {
        self.0.state().stopped = true;
        self.0.changed.notify_all();
    }

    fn drain(&self) -> Result<(), Errno> {
        let mut state = self.0.act(Act::Drain)?;
        while !state.to_send.is_empty() && !state.gone {
            state = self.0.wait(state);
        }
        if state.gone {
            return Err(Errno::ENODEV);
        }
        Ok(())
    }

    fn flush(&self, which: Flush) -> Result<(), Errno> {
        let mut state = self.0.act(Act::Flush(which))?;
        if which.input() {
            state.received.clear();
        }
        if which.output() {
            state.to_send.clear();
        }
        state.wake();
        self.0.changed.notify_all();
        Ok(())
    }

    fn release(&self) {
        let mut state = self.0.state();
        if !state.open {
            return;
        }
        state.open = false;
        state.stopped = true;
        state.acts.push(Act::Release);
        state.lines.dtr = false;
        state.lines.rts = false;
        state.to_send.clear();
        self.0.changed.notify_all();
    }
}
