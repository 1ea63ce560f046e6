//! What may wait for the hardware, one after the other and beside the task that reads events.

use std::sync::Arc;

use nix::errno::Errno;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::grab;
use crate::bus::hid::hardware::InputPort;
use crate::bus::hid::state::State;
use crate::kernel::evdev::{Description, Effect, Event};

/// Something that may wait.
pub(super) enum Job {
    /// Hand these to the device; so many bytes of DATA are used up then.
    Write(Vec<Event>, usize),
    /// Give the device an effect, for that request.
    Upload(u32, Effect),
    /// Take one back.
    Erase(u32, i16),
    /// Take the device away from its owner's machine, or no more.
    Grab(u32, bool),
    /// Say what state the device is in.
    Look,
}

/// What came of it.
pub(super) enum Done {
    /// So many bytes are used up.
    Wrote(Result<(), Errno>, usize),
    /// The new effect's id.
    Uploaded(u32, Result<i16, Errno>),
    /// The effect is gone.
    Erased(u32, i16, Result<(), Errno>),
    /// The device is, or is no longer, the user's alone.
    Grabbed(u32, bool, Result<(), Errno>),
    /// The state.
    Looked(Result<State, Errno>),
}

/// Where jobs are done.
pub(super) struct Jobs {
    todo: UnboundedSender<Job>,
    done: UnboundedReceiver<Done>,
}

impl Jobs {
    pub(super) fn start(port: Arc<dyn InputPort>, description: Arc<Description>) -> Self {
        let (todo, mut jobs) = mpsc::unbounded_channel::<Job>();
        let (results, done) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            while let Some(job) = jobs.recv().await {
                let (port, description) = (port.clone(), description.clone());
                let work = move || job.perform(&*port, &description);
                // It fails only when the runtime ends.
                let Ok(result) = tokio::task::spawn_blocking(work).await else {
                    return;
                };
                if results.send(result).is_err() {
                    return;
                }
            }
        });
        Self { todo, done }
    }

    pub(super) fn add(&self, job: Job) {
        // The other end goes only with the runtime.
        let _ = self.todo.send(job);
    }

    /// The next job that is done; never, when no more can come.
    pub(super) async fn next(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => done,
            None => core::future::pending().await,
        }
    }

    /// Does what is left and ends.
    pub(super) async fn finish(mut self) {
        drop(self.todo);
        while self.done.recv().await.is_some() {}
    }
}

impl Job {
    fn perform(self, port: &dyn InputPort, description: &Description) -> Done {
        let look = || Ok(State::of(&port.snapshot(description)?, description));
        match self {
            Self::Write(events, bytes) => Done::Wrote(port.write(&events), bytes),
            Self::Upload(corr, effect) => Done::Uploaded(corr, port.upload(effect)),
            Self::Erase(corr, id) => Done::Erased(corr, id, port.erase(id)),
            Self::Grab(corr, true) => {
                Done::Grabbed(corr, true, look().and_then(|state| grab(port, &state)))
            }
            Self::Grab(corr, false) => Done::Grabbed(corr, false, port.grab(false)),
            Self::Look => Done::Looked(look()),
        }
    }
}
