//! A chip that is local: what its lines are told, and how it ends.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::desk::{Desk, Line};
use super::inbox::Order;
use super::intake::Intake;
use super::line::Worker;
use super::local::{Change, LineChange};
use super::names;
use crate::bus::outage::{Returning, again, returned};
use crate::bus::{AskError, Ended};
use crate::wire::status::Status;

/// How often the owner is asked whether it is still there, while no stream would tell.
const PRESENCE: Duration = Duration::from_secs(5);
/// How long the lines may take to be given back.
const FAREWELL: Duration = Duration::from_secs(8);

/// A chip and its lines.
pub(super) struct Board {
    pub(super) desk: Rc<Desk>,
    /// Lines that are used at the owner, which nobody here can request.
    pub(super) lines: Vec<(Rc<Line>, Intake)>,
    pub(super) changes: Receiver<Vec<LineChange>>,
    pub(super) ends: UnboundedReceiver<Ended>,
    pub(super) stop: Rc<Notify>,
    /// What the owner calls the lines, by which it is seen whether a chip is this one.
    pub(super) names: Vec<String>,
}

impl Board {
    /// Serves the chip until it ends, and takes it away.
    pub(super) async fn run(mut self) -> Ended {
        let mut workers = JoinSet::new();
        for (line, _) in &self.lines {
            let worker = Worker::new(Rc::clone(line), Rc::clone(&self.desk));
            workers.spawn_local(worker.run());
        }
        let ended = self.serve().await;
        for (line, _) in &self.lines {
            line.order(|inbox| inbox.push(Order::Finish));
        }
        // After the end of the session there is nobody to give anything back to.
        if ended != Ended::Session && timeout(FAREWELL, all(&mut workers)).await.is_err() {
            tracing::warn!("the owner did not take back all lines in time");
        }
        workers.shutdown().await;
        if let Err(error) = self.desk.sim.remove().await {
            tracing::warn!(%error, "the simulated chip is not gone");
        }
        ended
    }

    async fn serve(&mut self) -> Ended {
        let mut check = Instant::now() + PRESENCE;
        let mut returning = None;
        loop {
            tokio::select! {
                () = self.stop.notified() => return Ended::Detached,
                ended = self.ends.recv() => match ended {
                    Some(Ended::Session) if !self.desk.grace.is_zero() => {
                        returning = Some(self.again());
                    }
                    ended => return ended.unwrap_or(Ended::Session),
                },
                names = returned(&mut returning) => {
                    returning = None;
                    if let Some(ended) = self.found(names) {
                        return ended;
                    }
                }
                changes = self.changes.recv() => match changes {
                    Some(changes) => self.pass_on(&changes),
                    None => return Ended::Failed("the simulated chip is gone".to_owned()),
                },
                () = sleep_until(check) => {
                    if self.desk.live.get()
                        && self.desk.open.get() == 0
                        && let Some(ended) = self.absent().await
                    {
                        return ended;
                    }
                    check = Instant::now() + PRESENCE;
                }
            }
        }
    }

    /// Waits for another session and asks what chip is there. Meanwhile the workers only remember
    /// what becomes of their lines.
    fn again(&self) -> Returning<Vec<String>> {
        let (opener, device) = (Rc::clone(&self.desk.opener), self.desk.device.clone());
        again(opener, self.desk.grace, move |opener| {
            names(opener, device.clone())
        })
    }

    /// Lets every line be requested again, if this is the same chip.
    fn found(&self, names: Result<Vec<String>, Ended>) -> Option<Ended> {
        match names {
            Ok(names) if names == self.names => {
                self.desk.found();
                for (line, _) in &self.lines {
                    line.order(|inbox| inbox.push(Order::Resume));
                }
                None
            }
            Ok(_) => {
                let text = "the owner has another chip by that name now";
                Some(Ended::Failed(text.to_owned()))
            }
            Err(ended) => Some(ended),
        }
    }

    fn pass_on(&mut self, changes: &[LineChange]) {
        for (number, change) in changes {
            let at = usize::try_from(*number).unwrap_or(usize::MAX);
            let Some((line, intake)) = self.lines.get_mut(at) else {
                continue;
            };
            if *change == Change::Read {
                line.was_read();
                continue;
            }
            let sim = &self.desk.sim;
            line.order(|inbox| {
                // A chip that is gone is noticed elsewhere.
                intake.take(*change, || sim.value(*number).unwrap_or(false), inbox);
            });
        }
    }

    /// Why the owner is not there.
    async fn absent(&self) -> Option<Ended> {
        let session = self.desk.session.get();
        match self.desk.info(0).await {
            Ok(_) | Err(AskError::NotSent(_)) => None,
            // One that does not answer, or has not found its chips again, is waited for.
            Err(
                AskError::Ended(_)
                | AskError::Refused {
                    status: Status::Timeout | Status::NotFound | Status::ServiceUnavailable,
                    ..
                },
            ) => {
                self.desk.lost(session);
                None
            }
            Err(AskError::Refused { status, .. }) => Some(Ended::Owner(status)),
        }
    }
}

async fn all(workers: &mut JoinSet<()>) {
    while workers.join_next().await.is_some() {}
}
