//! What the peer writes: held until the port has taken it, so that a slow port holds the peer.

use core::future::pending;
use std::collections::VecDeque;
use std::sync::Arc;

use nix::errno::Errno;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::bus::Outlet;
use crate::bus::serial::hardware::PortControl;
use crate::bus::serial::op::{DataWrite, Written};
use crate::bus::serial::server::failed;
use crate::wire::status::Status;

/// The writing side of one port.
pub(super) struct Writes {
    control: Arc<dyn PortControl>,
    queue: VecDeque<Chunk>,
    draining: Draining,
}

struct Chunk {
    bytes: Vec<u8>,
    taken: usize,
    origin: Origin,
}

#[derive(Clone, Copy)]
enum Origin {
    /// DATA, which counts against the peer's credit.
    Data,
    /// `SERIAL_DATA_WRITE` with that number, answered once the port has taken it.
    Write(u32),
    /// The same, answered once it is transmitted.
    Drain(u32),
    /// The end: everything before is to be transmitted.
    Close,
}

impl Writes {
    pub(super) fn new(control: Arc<dyn PortControl>) -> Self {
        Self {
            control,
            queue: VecDeque::new(),
            draining: Draining::default(),
        }
    }

    /// DATA arrived.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        self.add(bytes, Origin::Data);
    }

    /// `SERIAL_DATA_WRITE` arrived.
    pub(super) fn request(&mut self, corr: u32, write: DataWrite<'_>) {
        let origin = if write.drain {
            Origin::Drain(corr)
        } else {
            Origin::Write(corr)
        };
        self.add(write.data.to_vec(), origin);
    }

    /// Nothing follows; [`Writes::drained`] tells when everything is transmitted.
    pub(super) fn close(&mut self) {
        self.add(Vec::new(), Origin::Close);
    }

    fn add(&mut self, bytes: Vec<u8>, origin: Origin) {
        self.queue.push_back(Chunk {
            bytes,
            taken: 0,
            origin,
        });
    }

    /// What is to be written next, and what is to be waited for. While the port drains, nothing is
    /// written: what came later would have to be transmitted too.
    pub(super) fn next(&mut self) -> (Option<&[u8]>, &mut Draining) {
        let front = self.queue.front().filter(|_| self.draining.0.is_none());
        let left = front.and_then(|chunk| chunk.bytes.get(chunk.taken..));
        (left.filter(|left| !left.is_empty()), &mut self.draining)
    }

    /// The port took so many bytes of that.
    pub(super) fn took(&mut self, outlet: &dyn Outlet, count: usize) {
        if let Some(chunk) = self.queue.front_mut() {
            chunk.taken += count;
            if matches!(chunk.origin, Origin::Data) {
                outlet.consume(count);
            }
        }
    }

    /// Answers requests whose bytes were taken, and begins to drain for those that want it.
    pub(super) fn settle(&mut self, outlet: &dyn Outlet) {
        while self.draining.0.is_none()
            && self.queue.front().is_some_and(Chunk::is_taken)
            && let Some(chunk) = self.queue.pop_front()
        {
            match chunk.origin {
                Origin::Data => {}
                Origin::Write(corr) => written(outlet, corr, &chunk),
                Origin::Drain(_) | Origin::Close => {
                    let control = Arc::clone(&self.control);
                    let job = spawn_blocking(move || control.drain());
                    self.draining.0 = Some((chunk, job));
                }
            }
        }
    }

    /// The port has drained, or could not; true when that was the end.
    pub(super) fn drained(&mut self, outlet: &dyn Outlet, result: Result<(), Errno>) -> bool {
        let Some((chunk, _)) = self.draining.0.take() else {
            return false;
        };
        match (chunk.origin, result) {
            (Origin::Close, _) => return true,
            (Origin::Drain(corr) | Origin::Write(corr), Ok(())) => written(outlet, corr, &chunk),
            (Origin::Drain(corr) | Origin::Write(corr), Err(errno)) => {
                let refused = failed("cannot wait for the transmission", errno);
                outlet.respond(corr, refused.status, refused.payload());
            }
            (Origin::Data, _) => {}
        }
        false
    }

    /// The peer gives a request up; true when it is not answered otherwise: nothing of it was written, so
    /// that it is not performed, or only its transmission was still waited for.
    pub(super) fn cancel(&mut self, corr: u32) -> bool {
        if let Some((chunk, _)) = &mut self.draining.0
            && let Origin::Drain(draining) = chunk.origin
            && draining == corr
        {
            // The port goes on; nobody waits for it.
            chunk.origin = Origin::Data;
            return true;
        }
        let before = self.queue.len();
        self.queue
            .retain(|chunk| chunk.taken > 0 || chunk.origin.corr() != Some(corr));
        self.queue.len() < before
    }

    /// Throws away what the port has not taken; that counts as written.
    pub(super) fn discard(&mut self, outlet: &dyn Outlet) {
        for chunk in &mut self.queue {
            if matches!(chunk.origin, Origin::Data) {
                outlet.consume(chunk.left());
            }
            chunk.taken = chunk.bytes.len();
        }
    }

    /// The requests that wait; nothing is left to be written.
    pub(super) fn take_all(&mut self, outlet: &dyn Outlet) -> Vec<u32> {
        let draining = self.draining.0.iter().map(|(chunk, _)| chunk.origin);
        let mut requests: Vec<u32> = draining.filter_map(Origin::corr).collect();
        for chunk in self.queue.drain(..) {
            if matches!(chunk.origin, Origin::Data) {
                outlet.consume(chunk.left());
            }
            requests.extend(chunk.origin.corr());
        }
        requests
    }

    /// Waits until the port does not drain any more.
    pub(super) async fn end(&mut self) {
        if let Some((_, job)) = self.draining.0.take() {
            let _ = job.await;
        }
    }
}

/// For whom the port drains, on a thread that may wait.
#[derive(Default)]
pub(super) struct Draining(Option<(Chunk, JoinHandle<Result<(), Errno>>)>);

impl Draining {
    /// Waits until the port has drained; for ever when it does not. [`Writes::drained`] is to be told.
    pub(super) async fn ended(&mut self) -> Result<Result<(), Errno>, JoinError> {
        match &mut self.0 {
            Some((_, job)) => job.await,
            None => pending().await,
        }
    }
}

impl Chunk {
    fn left(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn is_taken(&self) -> bool {
        self.left() == 0
    }
}

impl Origin {
    fn corr(self) -> Option<u32> {
        match self {
            Self::Write(corr) | Self::Drain(corr) => Some(corr),
            Self::Data | Self::Close => None,
        }
    }
}

fn written(outlet: &dyn Outlet, corr: u32, chunk: &Chunk) {
    let count = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
    outlet.respond(corr, Status::Ok, Written { count }.encode());
}
