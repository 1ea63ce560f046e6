//! The task of a character device: brings it what programs and the owner say, until both have left.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::attach::{Outage, Reopened};
use super::lent::Lent;
use super::node::Node;
use crate::bus::chardev::Device;
use crate::bus::outage::{Returning, returned};
use crate::bus::{Ended, Handle, Inbound};
use crate::kernel::cuse::Request;
use crate::wire::status::Status;

/// Before a request is sent again for which there was no room.
const PAUSE: Duration = Duration::from_millis(5);

/// Steers a device.
pub struct Steering {
    file: String,
    live: Rc<Cell<bool>>,
    stop: Rc<Notify>,
}

impl Handle for Steering {
    fn files(&self) -> Vec<String> {
        vec![self.file.clone()]
    }

    fn detach(&self) {
        self.stop.notify_one();
    }

    fn is_live(&self) -> bool {
        self.live.get()
    }
}

/// A character device and what it lives on.
pub struct Pump {
    device: Rc<dyn Device>,
    stream: Lent,
    node: Node,
    stop: Rc<Notify>,
    live: Rc<Cell<bool>>,
    outage: Outage,
    /// While there is no session.
    returning: Option<Returning<Reopened>>,
    /// When a request is sent again for which there was no room.
    retry: Option<Instant>,
}

/// What happened next.
enum Happened {
    Call(io::Result<Request>),
    Inbound(Option<Inbound>),
    Returned(Result<Reopened, Ended>),
    Room,
    Stop,
}

impl Pump {
    /// The device `file`, whose owner's is as `opened` says; and what steers it.
    pub fn new(
        device: Rc<dyn Device>,
        (opened, stream): Reopened,
        outage: Outage,
        file: String,
    ) -> (Self, Steering) {
        let stop = Rc::new(Notify::new());
        let live = Rc::new(Cell::new(true));
        let steering = Steering {
            file,
            live: Rc::clone(&live),
            stop: Rc::clone(&stop),
        };
        let node = Node::new(Rc::clone(&device), Rc::clone(stream.outlet()), opened);
        let pump = Self {
            device,
            stream,
            node,
            stop,
            live,
            outage,
            returning: None,
            retry: None,
        };
        (pump, steering)
    }

    /// Serves until the device is gone or given back; `left` is called then. Calls of programs that
    /// still have it open fail afterwards; done when the last of them has closed it.
    pub async fn run(mut self, left: impl FnOnce()) -> Ended {
        let ended = loop {
            match self.happens(false).await {
                Happened::Call(Ok(request)) => self.node.request(request),
                Happened::Call(Err(error)) => {
                    self.farewell().await;
                    return Ended::Failed(format!("the kernel ended the device: {error}"));
                }
                Happened::Inbound(None | Some(Inbound::Closed)) => {
                    if let Err(ended) = self.lose() {
                        break ended;
                    }
                }
                Happened::Inbound(Some(Inbound::Reset { status })) => break Ended::Owner(status),
                Happened::Inbound(Some(inbound)) => self.node.inbound(inbound),
                Happened::Returned(Ok(reopened)) => self.resume(reopened),
                Happened::Returned(Err(ended)) => break ended,
                Happened::Room => {
                    self.retry = None;
                    self.node.go_on();
                }
                Happened::Stop => break Ended::Detached,
            }
        };
        // Nobody wants the device back any more.
        self.returning = None;
        self.node.end(last_word(&ended));
        left();
        if ended == Ended::Detached {
            self.farewell().await;
        }
        self.live.set(false);
        while !self.node.is_finished() {
            match self.happens(true).await {
                Happened::Call(Ok(request)) => self.node.request(request),
                Happened::Call(Err(_)) => break,
                Happened::Inbound(_) | Happened::Returned(_) | Happened::Room | Happened::Stop => {}
            }
        }
        ended
    }

    fn lose(&mut self) -> Result<(), Ended> {
        self.returning = Some(self.outage.begin(self.node.settings())?);
        self.live.set(false);
        self.node.lose();
        Ok(())
    }

    fn resume(&mut self, (opened, stream): Reopened) {
        self.returning = None;
        self.stream = stream;
        self.live.set(true);
        tracing::info!("the owner of the SPI device is back");
        self.node.resume(Rc::clone(self.stream.outlet()), opened);
    }

    /// What happens next; once it is `over`, only calls.
    async fn happens(&mut self, over: bool) -> Happened {
        let blocked = self.node.is_blocked();
        // Whatever else happens does not put it off.
        self.retry = blocked.then(|| self.retry.unwrap_or_else(|| Instant::now() + PAUSE));
        let retry = self.retry;
        let room = async {
            match retry {
                Some(at) => sleep_until(at).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            call = self.device.next() => Happened::Call(call),
            inbound = self.stream.recv(), if !over && self.returning.is_none() => {
                Happened::Inbound(inbound)
            }
            returned = returned(&mut self.returning), if !over => Happened::Returned(returned),
            () = room, if !over => Happened::Room,
            () = self.stop.notified(), if !over => Happened::Stop,
        }
    }

    /// Gives the device back.
    async fn farewell(&mut self) {
        if self.live.get() {
            self.stream.close().await;
        }
    }
}

/// What a program is told that uses a device which ended so. The kernel's spidev says `ESHUTDOWN` when
/// the hardware left it.
const fn last_word(ended: &Ended) -> Errno {
    match ended {
        Ended::Owner(Status::ServiceUnavailable) => Errno::ESHUTDOWN,
        Ended::Owner(_) | Ended::Detached | Ended::Session | Ended::Failed(_) => Errno::ENODEV,
    }
}
