//! What is done to a port on a thread that may wait: one after the other, in the order of the requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::stop::Stop;
use crate::bus::serial::hardware::PortControl;
use crate::bus::serial::op::{Change, ControlSet, Flush, Lines, Settings, Step};

/// What a request asks of the port.
#[derive(Debug)]
pub(super) enum Job {
    /// `SERIAL_PORT_CONFIGURE`, `STREAM_CONFIGURE`.
    Configure(Change),
    /// `SERIAL_CONTROL_SET`.
    Set(ControlSet),
    /// `SERIAL_CONTROL_GET`.
    Get,
    /// `SERIAL_BREAK`.
    Break(Duration),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// The settings now; `flushed` says that what was received was thrown away.
    Configured {
        /// As they really are.
        settings: Settings,
        /// What was received before was thrown away.
        flushed: bool,
    },
    /// The lines now.
    Lines(Lines),
    /// A break is over.
    BreakOver,
    /// The port is being closed.
    Stopped,
}

/// What came of the job of a request.
pub(super) struct Finished {
    pub(super) corr: u32,
    pub(super) what: &'static str,
    pub(super) result: Result<Done, Errno>,
}

/// The jobs of one port.
pub(super) struct Jobs {
    control: Arc<dyn PortControl>,
    stop: Arc<Stop>,
    queue: VecDeque<(u32, Job)>,
    running: Option<Running>,
}

struct Running {
    corr: u32,
    what: &'static str,
    job: JoinHandle<Result<Done, Errno>>,
}

impl Jobs {
    pub(super) fn new(control: Arc<dyn PortControl>, stop: Arc<Stop>) -> Self {
        Self {
            control,
            stop,
            queue: VecDeque::new(),
            running: None,
        }
    }

    pub(super) fn push(&mut self, corr: u32, job: Job) {
        self.queue.push_back((corr, job));
    }

    /// Takes a job back that has not begun; false when there is none.
    pub(super) fn cancel(&mut self, corr: u32) -> bool {
        let before = self.queue.len();
        self.queue.retain(|(queued, _)| *queued != corr);
        self.queue.len() < before
    }

    /// The requests that wait or run; nothing is left.
    pub(super) fn take_all(&mut self) -> Vec<u32> {
        let running = self.running.as_ref().map(|running| running.corr);
        let queued = self.queue.drain(..).map(|(corr, _)| corr);
        running.into_iter().chain(queued).collect()
    }

    /// Begins the next job if none runs and tells which it is.
    pub(super) fn start(&mut self, settings: &Settings) -> Option<Change> {
        if self.running.is_some() {
            return None;
        }
        let (corr, job) = self.queue.pop_front()?;
        let (control, stop) = (Arc::clone(&self.control), Arc::clone(&self.stop));
        let what = name(&job);
        let change = match &job {
            Job::Configure(change) => Some(change.clone()),
            Job::Set(_) | Job::Get | Job::Break(_) => None,
        };
        let settings = settings.clone();
        let job = spawn_blocking(move || run(&*control, &stop, &settings, job));
        self.running = Some(Running { corr, what, job });
        change
    }

    /// Waits for the job that runs; for ever when none does. Nothing is lost when this is dropped.
    pub(super) async fn finished(&mut self) -> Result<Finished, JoinError> {
        let Some(running) = &mut self.running else {
            return core::future::pending().await;
        };
        let result = (&mut running.job).await;
        let (corr, what) = (running.corr, running.what);
        self.running = None;
        Ok(Finished {
            corr,
            what,
            result: result?,
        })
    }

    /// Waits until no job runs.
    pub(super) async fn settle(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.job.await;
        }
    }
}

fn name(job: &Job) -> &'static str {
    match job {
        Job::Configure(_) => "cannot change the settings",
        Job::Set(_) => "cannot set the lines",
        Job::Get => "cannot read the lines",
        Job::Break(_) => "cannot send a break",
    }
}

fn run(
    control: &dyn PortControl,
    stop: &Stop,
    settings: &Settings,
    job: Job,
) -> Result<Done, Errno> {
    match job {
        Job::Configure(change) => {
            if let Some(which) = change.flush {
                control.flush(which)?;
            }
            Ok(Done::Configured {
                settings: control.configure(&settings.with(&change))?,
                flushed: change.flush.is_some_and(Flush::input),
            })
        }
        Job::Set(request) => {
            if !set(control, stop, &request)? {
                return Ok(Done::Stopped);
            }
            match control.lines() {
                // A sequence of breaks alone needs no lines.
                Err(Errno::ENOTTY) => Ok(Done::Lines(Lines::default())),
                lines => lines.map(Done::Lines),
            }
        }
        Job::Get => control.lines().map(Done::Lines),
        Job::Break(length) => {
            control.set_break(true)?;
            let slept = stop.sleep_until(Instant::now() + length);
            control.set_break(false)?;
            Ok(if slept {
                Done::BreakOver
            } else {
                Done::Stopped
            })
        }
    }
}

/// False when the port is being closed.
fn set(control: &dyn PortControl, stop: &Stop, request: &ControlSet) -> Result<bool, Errno> {
    if request.dtr.is_some() || request.rts.is_some() {
        control.set_lines(request.dtr, request.rts)?;
    }
    for step in request.seq.iter().copied() {
        if stop.is_stopped() {
            return Ok(false);
        }
        perform(control, step)?;
        // From when the lines have changed, however long the driver took: a board counts from there.
        let then = Instant::now() + Duration::from_micros(step.delay_us.into());
        if !stop.sleep_until(then) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn perform(control: &dyn PortControl, step: Step) -> Result<(), Errno> {
    if step.dtr.is_some() || step.rts.is_some() {
        control.set_lines(step.dtr, step.rts)?;
    }
    step.brk.map_or(Ok(()), |on| control.set_break(on))
}
