//! The life of one attached device: requests in, transfers out, completions back.
//!
//! While a change of the device, or a discard, waits for the hardware on another thread, the data
//! thread leaves the device alone and requests queue up, because any ioctl of it would wait too.

mod answers;
mod away;
mod claims;
mod kept;
mod submit;

use core::future::{pending, poll_fn};
use core::time::Duration;
use std::collections::VecDeque;

use nix::errno::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use self::answers::{done, unstarted};
use self::away::{Hold, Outcome, Returned, discard};
use self::claims::Claims;
use super::End;
use super::check::{self, Order, Work};
use super::held::Held;
use super::lease::{Lease, Session};
use super::outstanding::{GONE, Outstanding, SHUT_DOWN, UNLINKED};
use super::reply;
use super::spare::Spare;
use crate::bus::Refused;
use crate::bus::usb::hardware::UsbDevice;
use crate::bus::usb::op::AttachResponse;
use crate::bus::{Inbound, Outlet};
use crate::kernel::usbfs::TransferType;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// usbfs has one budget of memory for all devices (`usbcore.usbfs_memory_mb`). A transfer that does
/// not fit waits for others to finish: how often it is tried again, and for how long.
const STARVED: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));

/// One attached device.
pub(super) struct Stream {
    device: Box<dyn UsbDevice>,
    hold: Hold,
    outstanding: Outstanding,
    /// Requests that wait until the device is at hand again, in their order.
    backlog: VecDeque<Request>,
    /// Transfers to be discarded as soon as the device is at hand.
    discards: Vec<u64>,
    spare: Spare,
    /// Since when the first request of the backlog waits for usbfs to have memory.
    starved: Option<Instant>,
    claims: Claims,
    /// It was said already that usbfs has too little memory.
    told_memory: bool,
    /// The request that gave the device back; it is answered last.
    detached: Option<u32>,
    /// The stream went with its session.
    lost: bool,
}

struct Request {
    corr: u32,
    opcode: Opcode,
    payload: Vec<u8>,
    arrived: Instant,
}

/// What the stream wakes up for.
enum Wake<T> {
    /// What it waits for from outside.
    Heard(T),
    Completed,
    Returned(Option<Returned>),
    Deadline,
}

impl Stream {
    pub(super) fn new(device: Box<dyn UsbDevice>, held: Held) -> Self {
        Self {
            device,
            hold: Hold::Here(held),
            outstanding: Outstanding::default(),
            backlog: VecDeque::new(),
            discards: Vec::new(),
            spare: Spare::default(),
            starved: None,
            claims: Claims::default(),
            told_memory: false,
            detached: None,
            lost: false,
        }
    }

    /// Serves the peer until one of the three is gone: the peer, the device, the wish to use it. A peer
    /// that lost its session may come back by its lease; `answer` is what it is told then.
    pub(super) async fn run(
        mut self,
        mut session: Session,
        mut lease: Option<Lease>,
        answer: AttachResponse,
    ) -> End {
        loop {
            let mut end = self.serve(&mut session).await;
            if self.lost
                && let Some(lease) = &mut lease
            {
                match self.keep(&session, lease).await {
                    Ok(back) => {
                        session = back.session;
                        self.lost = false;
                        let response = AttachResponse {
                            cfg: self.configuration(),
                            kept: Some(lease.kept(true)),
                            ..answer.clone()
                        };
                        // It was encoded before, and only numbers are different.
                        let payload = response.encode().unwrap_or_default();
                        session.outlet.respond(back.corr, Status::Ok, payload);
                        continue;
                    }
                    Err(other) => end = other,
                }
            }
            self.finish(&*session.outlet, &mut session.inbound, &end)
                .await;
            return end;
        }
    }

    async fn serve(&mut self, session: &mut Session) -> End {
        let outlet = &*session.outlet;
        loop {
            let end = match self.wake(session.inbound.recv()).await {
                Wake::Heard(message) => self.on_inbound(outlet, message),
                Wake::Completed => self.reap(outlet),
                Wake::Returned(Some(returned)) => self.on_returned(outlet, returned),
                Wake::Returned(None) => Some(self.lose_device()),
                Wake::Deadline => self.on_deadline(),
            };
            if let Some(end) = end.or_else(|| self.proceed(outlet)) {
                return end;
            }
        }
    }

    fn on_deadline(&mut self) -> Option<End> {
        let late = self.outstanding.expire(Instant::now());
        self.discards.extend(late);
        None
    }

    /// The thread that had the device has failed.
    fn lose_device(&mut self) -> End {
        self.hold = Hold::Lost;
        End::Failed
    }

    /// The peer is not there any more to hear of what was under way.
    fn give_up_all(&mut self) {
        self.backlog.clear();
        self.starved = None;
        self.discards = self.outstanding.shut_down();
    }

    /// Nothing is under way.
    fn is_at_rest(&self) -> bool {
        matches!(self.hold, Hold::Here(_)) && self.outstanding.keys().is_empty()
    }

    fn configuration(&self) -> u8 {
        match &self.hold {
            Hold::Here(held) => held.configuration(),
            Hold::Away(_) | Hold::Lost => 0,
        }
    }

    /// Waits for one thing to happen; `heard` loses nothing when another one is first.
    async fn wake<T>(&mut self, heard: impl Future<Output = T>) -> Wake<T> {
        let again = self.starved.map(|_| Instant::now() + STARVED.0);
        let deadline = self
            .outstanding
            .next_deadline()
            .into_iter()
            .chain(again)
            .min();
        let (device, hold) = (&self.device, &mut self.hold);
        let at_hand = matches!(hold, Hold::Here(_));
        let returned = async {
            match hold {
                Hold::Away(job) => job.await.ok(),
                Hold::Here(_) | Hold::Lost => pending().await,
            }
        };
        // What ended comes before what is to begin: it tells when the device is no longer ours.
        tokio::select! {
            biased;
            () = poll_fn(|context| device.poll_completed(context)), if at_hand => Wake::Completed,
            returned = returned => Wake::Returned(returned),
            heard = heard => Wake::Heard(heard),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Wake::Deadline
            }
        }
    }

    fn on_inbound(&mut self, outlet: &dyn Outlet, message: Option<Inbound>) -> Option<End> {
        match message {
            Some(Inbound::Request {
                corr,
                opcode,
                payload,
                ..
            }) => self.backlog.push_back(Request {
                corr,
                opcode,
                payload,
                arrived: Instant::now(),
            }),
            Some(Inbound::Cancel { corr }) => self.on_cancel(outlet, corr),
            Some(Inbound::Reset { .. }) => return Some(End::PeerLeft),
            Some(Inbound::Closed) | None => {
                self.lost = true;
                return Some(End::PeerLeft);
            }
            // This half never asks the peer for anything, and no operation of USB uses the others.
            Some(
                Inbound::Response { .. }
                | Inbound::Event { .. }
                | Inbound::Data { .. }
                | Inbound::Writable
                | Inbound::Dropped { .. },
            ) => {
                debug!("the peer sent what no USB stream carries");
            }
        }
        None
    }

    /// A request that was not started is answered at once, one that was when it has ended. One
    /// that is unknown was answered already, and its answer crossed the cancel.
    fn on_cancel(&mut self, outlet: &dyn Outlet, corr: u32) {
        if let Some(at) = self.backlog.iter().position(|request| request.corr == corr) {
            if let Some(request) = self.backlog.remove(at) {
                unstarted(outlet, &request, UNLINKED, &Refused::cancelled());
            }
        } else {
            self.discards.extend(self.outstanding.cancel(corr));
        }
    }

    /// Does what can be done while the device is at hand: requests in their order, then discards.
    fn proceed(&mut self, outlet: &dyn Outlet) -> Option<End> {
        while matches!(self.hold, Hold::Here(_)) {
            let Some(request) = self.backlog.pop_front() else {
                break;
            };
            match self.start(outlet, &request) {
                Ok(()) => self.starved = None,
                Err(Errno::ENOMEM) => {
                    self.starved.get_or_insert_with(Instant::now);
                    self.backlog.push_front(request);
                    break;
                }
                Err(Errno::EBUSY) => {
                    self.backlog.push_front(request);
                    break;
                }
                Err(_) => {
                    self.backlog.push_front(request);
                    return Some(End::DeviceGone);
                }
            }
        }
        self.recover_claims();
        if !self.discards.is_empty() && matches!(self.hold, Hold::Here(_)) {
            let mut keys = core::mem::take(&mut self.discards);
            keys.sort_unstable();
            self.send_away(move |held| {
                discard(held, &keys);
                Outcome::Discarded
            });
        }
        None
    }

    /// Starts one request.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone, `ENOMEM` when it is worth trying again, `EBUSY` when the
    /// interfaces must be taken again first; the request is not answered then.
    fn start(&mut self, outlet: &dyn Outlet, request: &Request) -> Result<(), Errno> {
        let Hold::Here(held) = &mut self.hold else {
            return Ok(());
        };
        let corr = request.corr;
        let work = if self.outstanding.contains(corr) {
            Err(Refused::bad("this number is in use"))
        } else {
            check::request(held, request.opcode, &request.payload)
        };
        match work {
            Ok(Work::Submit(order)) => {
                if !is_reading(&order) {
                    held.touch();
                }
                let interface = claims::target(held, &order);
                return self.submit(outlet, corr, interface, &order);
            }
            Ok(Work::SubmitIso(order)) if order.is_late(request.arrived.elapsed()) => {
                if self.starved.is_some() {
                    self.tell_memory();
                }
                outlet.respond(corr, Status::Ok, order.unmoved(0));
            }
            Ok(Work::SubmitIso(order)) => {
                held.touch();
                let interface = held.interface_of(order.transfer.ep.to_u8());
                return self.submit_iso(outlet, corr, interface, &order);
            }
            Ok(Work::Done(form)) => outlet.respond(corr, Status::Ok, done(form)),
            Ok(Work::Job(change, form)) => self.change(corr, change, form),
            Ok(Work::Detach) => {
                let keys = self.outstanding.shut_down();
                self.send_away(move |held| {
                    held.give_back(&keys);
                    Outcome::GivenBack { corr }
                });
            }
            Err(refused) => outlet.respond(corr, refused.status, refused.payload()),
        }
        Ok(())
    }

    /// Gets the device back from wherever it is and gives it to its owner.
    async fn finish(
        mut self,
        outlet: &dyn Outlet,
        inbound: &mut UnboundedReceiver<Inbound>,
        end: &End,
    ) {
        while let Ok(message) = inbound.try_recv() {
            let _ = self.on_inbound(outlet, Some(message));
        }
        if *end == End::DeviceGone {
            self.answer_rest(outlet, GONE, &Refused::gone());
            outlet.reset(Status::ServiceUnavailable);
        }
        if let Some(corr) = self.detached {
            self.answer_rest(outlet, SHUT_DOWN, &Refused::cancelled());
            outlet.respond(corr, Status::Ok, reply::empty());
        }
        let held = match self.hold {
            Hold::Here(held) => Some(held),
            Hold::Away(job) => job.await.ok().map(|returned| returned.held),
            Hold::Lost => None,
        };
        let Some(mut held) = held else {
            let refused = Refused::new(Status::InternalError, sub::INTERNAL, "a thread failed");
            warn!(msg = refused.msg, "USB stream ends");
            outlet.reset(refused.status);
            return;
        };
        if *end == End::DeviceGone {
            held.forget();
            return;
        }
        let keys = self.outstanding.keys();
        if spawn_blocking(move || held.give_back(&keys)).await.is_err() {
            warn!("the thread that gives a USB device back failed");
        }
    }
}

/// Reading standard descriptors and states changes nothing in the device.
fn is_reading(order: &Order<'_>) -> bool {
    order.kind == TransferType::Control
        && order
            .setup
            .is_some_and(|[request_type, ..]| request_type & 0xe0 == 0x80)
}
