//! The chip that gpio-sim makes, and what the kernel tells of it.

use core::future::Future;
use core::pin::Pin;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};

use super::local::{LineChange, Sim};
use super::merge::{Numbers, later, merge};
use crate::kernel::gpio_sim::{self, Plan, SimChip};
use crate::kernel::gpio_watch::Watch;
use crate::kernel::tracefs::{self, Instance, Pipe};

/// Batches of changes read ahead of what is being dealt with. What waits longer stays with the
/// kernel, which says so when it has no room any more.
const READ_AHEAD: usize = 16;
/// Changes in one batch, about.
const BATCH: usize = 16 << 10;

struct Kernel {
    files: Vec<String>,
    chip: RefCell<Option<SimChip>>,
    instance: RefCell<Option<Instance>>,
    reader: RefCell<Option<JoinHandle<()>>>,
}

/// Makes a chip by the first of `labels` that no other chip has.
///
/// # Errors
/// What the kernel says; nothing is left then.
pub(super) async fn make(
    mut plan: Plan,
    labels: Vec<String>,
) -> io::Result<(Rc<dyn Sim>, Receiver<Vec<LineChange>>)> {
    let taken = plan.taken.clone();
    let made = spawn_blocking(move || {
        gpio_sim::sweep();
        tracefs::sweep();
        let free = labels
            .into_iter()
            .find(|label| !gpio_sim::is_label_taken(label));
        plan.label = free.unwrap_or(plan.label);
        let chip = SimChip::create(&plan)?;
        let lines = chip.base()..=chip.base() + chip.lines() - 1;
        let instance = Instance::create(chip.name(), &lines)?;
        io::Result::Ok((chip, instance, plan.label))
    });
    let (chip, instance, label) = made.await.map_err(io::Error::other)??;
    let numbers = Numbers {
        base: chip.base(),
        lines: chip.lines(),
    };
    let pipe = instance.pipe()?;
    let mut used = Vec::new();
    let watch = Watch::new(chip.node(), chip.lines(), &mut used)?;
    used.retain(|change| !taken.contains_key(&change.line));
    let (out, changes) = mpsc::channel(READ_AHEAD);
    if !used.is_empty() {
        // There is room: nothing was sent yet.
        let _ = out.try_send(merge(Vec::new(), used, numbers));
    }
    let reader = spawn_local(async move {
        if let Err(error) = read(pipe, watch, numbers, out).await {
            tracing::warn!(%error, "the kernel tells no more of a simulated chip");
        }
    });
    let kernel = Kernel {
        files: vec![chip.node().display().to_string(), label],
        chip: RefCell::new(Some(chip)),
        instance: RefCell::new(Some(instance)),
        reader: RefCell::new(Some(reader)),
    };
    Ok((Rc::new(kernel), changes))
}

/// Passes on what the kernel tells, in the order in which it happened.
async fn read(
    mut pipe: Pipe,
    watch: Watch,
    numbers: Numbers,
    out: Sender<Vec<LineChange>>,
) -> io::Result<()> {
    let mut held_back = Vec::new();
    loop {
        tokio::select! {
            ready = pipe.readable() => ready?,
            () = watch.readable() => {}
        }
        loop {
            // A use of a line is told as soon as it is there. So of what is traced by now every
            // earlier use is in `watched`; and of these every earlier trace is there after a second
            // look.
            let mut traces = core::mem::take(&mut held_back);
            let mut rest = !pipe.drain(&mut traces, BATCH)?;
            let mut watched = Vec::new();
            watch.drain(&mut watched)?;
            if !watched.is_empty() {
                let mut since = Vec::new();
                rest |= !pipe.drain(&mut since, BATCH)?;
                held_back = later(&mut since, &watched);
                traces.append(&mut since);
            }
            let done = watched.is_empty() && held_back.is_empty() && !rest;
            let changes = merge(traces, watched, numbers);
            if !changes.is_empty() && out.send(changes).await.is_err() {
                return Ok(());
            }
            if done {
                break;
            }
        }
    }
}

impl Kernel {
    fn with_chip<T>(&self, act: impl FnOnce(&SimChip) -> io::Result<T>) -> io::Result<T> {
        match &*self.chip.borrow() {
            Some(chip) => act(chip),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Sim for Kernel {
    fn files(&self) -> Vec<String> {
        self.files.clone()
    }

    fn set_pull(&self, line: u32, high: bool) -> io::Result<()> {
        self.with_chip(|chip| chip.set_pull(line, high))
    }

    fn value(&self, line: u32) -> io::Result<bool> {
        self.with_chip(|chip| chip.value(line))
    }

    fn remove(&self) -> Pin<Box<dyn Future<Output = io::Result<()>>>> {
        let chip = self.chip.take();
        let instance = self.instance.take();
        let reader = self.reader.take();
        Box::pin(async move {
            if let Some(reader) = reader {
                reader.abort();
                // Its pipe is closed then, without which the instance could not be removed.
                let _ = reader.await;
            }
            let removed = spawn_blocking(move || {
                drop(instance);
                chip.map_or(Ok(()), SimChip::remove)
            });
            removed.await.map_err(io::Error::other)?
        })
    }
}
