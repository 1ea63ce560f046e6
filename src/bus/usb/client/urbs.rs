//! Every URB between the kernel's SUBMIT and the answer the kernel gets, without any I/O of its own.
//!
//! Invariants: a URB is answered exactly once, by `RET_SUBMIT` or by `RET_UNLINK` with `-ECONNRESET`;
//! URBs of one endpoint are answered in the order in which they were submitted, unless unlinked;
//! nothing is answered before the server's answer, except what was never sent; an isochronous URB
//! gets back as many packets as it had, unless it was unlinked or had too many.

mod adrift;
mod lane;
mod late;
mod waiting;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::adrift::Adrift;
use self::lane::Lane;
use self::late::Late;
use self::waiting::{Request, Waiting};
use super::KernelFault;
use super::answer::{Outcome, Violation, judge};
use super::endpoints::{Effect, Endpoints};
use super::iso::Packets;
use super::request::{Action, Incoming};
use super::socket::{FromKernel, Message};
use crate::bus::{Outlet, OutletError};
use crate::kernel::usbip_pdu::{RetSubmit, RetUnlink, Return, Submit, Unlink};
use crate::wire::class::Class;
use crate::wire::status::Status;

/// How long an unlink waits for the server: one second more than the link gives a cancelled request
/// before it resets the stream (profile 10.4).
pub(super) const UNLINK_PATIENCE: Duration = Duration::from_secs(6);
/// When a request that did not fit is tried again although nothing of ours was answered: other
/// streams of the session share the limit.
const RETRY: Duration = Duration::from_millis(10);
/// Unlinks that came before their URB.
const MAX_EARLY: usize = 1024;

/// Why no further URB can be served.
#[derive(Debug)]
pub(super) enum Fatal {
    /// The kernel contradicts itself.
    Kernel(KernelFault),
    /// The server's answers cannot be believed.
    Violation(Violation),
    /// The stream is closed.
    Closed,
    /// The server has lost the device.
    DeviceGone,
}

/// A URB that the kernel waits for.
#[derive(Debug)]
struct Urb {
    lane: usize,
    input: bool,
    length: u32,
    effect: Effect,
    /// Of an isochronous URB, until it is answered.
    packets: Option<Packets>,
    /// The request it became, `None` while it waits for the server's limits.
    corr: Option<u32>,
    /// The unlink commands that name it.
    unlinks: Vec<u32>,
    /// Its answer, while an earlier URB of its endpoint has none.
    held: Option<Message>,
}

#[derive(Clone, Copy, Debug)]
enum Guarded {
    /// An unlink waits for the server.
    Urb(u32),
    /// An unlink waits for its URB.
    Early(u32),
}

/// The URBs of one attached device.
pub(super) struct Urbs {
    outlet: Rc<dyn Outlet>,
    endpoints: Rc<RefCell<Endpoints>>,
    live: HashMap<u32, Urb>,
    /// Outstanding requests; `None` when the kernel no longer waits for the URB.
    requests: HashMap<u32, Option<u32>>,
    lanes: [Lane; 32],
    waiting: Waiting,
    /// Unlink commands by the URB they name, which is still to come.
    early: HashMap<u32, u32>,
    newest: Option<u32>,
    guards: VecDeque<(Instant, Guarded)>,
    messages: Vec<Message>,
    late: Late,
    adrift: Adrift,
}

impl Urbs {
    pub(super) fn new(outlet: Rc<dyn Outlet>, endpoints: Rc<RefCell<Endpoints>>) -> Self {
        Self {
            outlet,
            endpoints,
            live: HashMap::new(),
            requests: HashMap::new(),
            lanes: std::array::from_fn(|_| Lane::new()),
            waiting: Waiting::default(),
            early: HashMap::new(),
            newest: None,
            guards: VecDeque::new(),
            messages: Vec::new(),
            late: Late::default(),
            adrift: Adrift::default(),
        }
    }

    /// False while too much waits for the server's limits.
    pub(super) const fn wants_more(&self) -> bool {
        self.waiting.has_room()
    }

    /// Takes out what the kernel is to be told, in order.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = Message> {
        self.messages.drain(..)
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let guard = self.guards.front().map(|(at, _)| *at);
        let tries = if self.adrift.away {
            self.waiting.has(Class::Media)
        } else {
            !self.waiting.is_empty()
        };
        let retry = tries.then(|| now + RETRY);
        [guard, retry].into_iter().flatten().min()
    }

    pub(super) fn hear(&mut self, now: Instant, message: FromKernel) -> Result<(), Fatal> {
        match message {
            FromKernel::Submit(incoming) => self.submit(now, incoming),
            FromKernel::Unlink(unlink) => {
                self.unlink(now, unlink);
                Ok(())
            }
        }
    }

    /// The server's answer to request `corr`.
    pub(super) fn response(
        &mut self,
        now: Instant,
        corr: u32,
        status: Status,
        payload: Vec<u8>,
        more: bool,
    ) -> Result<(), Fatal> {
        if more {
            return Err(Fatal::Violation(Violation::Pieces));
        }
        let Some(target) = self.requests.remove(&corr) else {
            return Err(Fatal::Violation(Violation::UnknownCorrelation(corr)));
        };
        if let Some(seqnum) = target {
            self.complete(now, seqnum, status, payload)?;
        }
        self.send_waiting(now)
    }

    /// Lets go of what has waited too long and tries again what did not fit.
    pub(super) fn expire(&mut self, now: Instant) -> Result<(), Fatal> {
        while let Some((at, guarded)) = self.guards.front().copied()
            && at <= now
        {
            self.guards.pop_front();
            match guarded {
                Guarded::Urb(seqnum) => self.abandon(seqnum),
                Guarded::Early(target) => {
                    if let Some(unlink) = self.early.remove(&target) {
                        self.unlinked(unlink, 0);
                    }
                }
            }
        }
        self.send_waiting(now)
    }

    /// True when the kernel waits for nothing.
    pub(super) fn is_quiet(&self) -> bool {
        self.live.is_empty()
    }

    /// True when the server owes nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Asks the server to give up everything outstanding.
    pub(super) fn cancel_all(&mut self) {
        self.waiting.clear();
        self.late.conclude(self.endpoints.borrow().product());
        for corr in self.requests.keys() {
            self.outlet.cancel(*corr);
        }
    }

    fn submit(&mut self, now: Instant, incoming: Incoming) -> Result<(), Fatal> {
        let Incoming {
            submit,
            action,
            packets,
        } = incoming;
        let seqnum = submit.seqnum;
        if self.live.contains_key(&seqnum) {
            return Err(Fatal::Kernel(KernelFault::DuplicateSeqnum(seqnum)));
        }
        self.newest = Some(seqnum);
        if let Some(unlink) = self.early.remove(&seqnum) {
            self.unlinked(unlink, -libc::ECONNRESET);
            return Ok(());
        }
        match action {
            Action::Refuse(errno) => {
                self.enter(&submit, packets, Class::Interactive, Effect::Nothing);
                self.refuse(now, seqnum, errno)
            }
            Action::Request {
                mut outgoing,
                effect,
            } => {
                outgoing.class = self.enter(&submit, packets, outgoing.class, effect);
                self.send_or_wait(now, Request::new(now, seqnum, outgoing))
            }
        }
    }

    fn complete(
        &mut self,
        now: Instant,
        seqnum: u32,
        status: Status,
        payload: Vec<u8>,
    ) -> Result<(), Fatal> {
        let Some(urb) = self.live.get_mut(&seqnum) else {
            return Ok(());
        };
        let unlinked = !urb.unlinks.is_empty();
        let outcome = match &mut urb.packets {
            Some(packets) => packets.judge(status, &payload, urb.input, unlinked),
            None => judge(status, &payload, urb.input, urb.length, unlinked),
        };
        self.end(now, seqnum, outcome.map_err(Fatal::Violation)?, payload)
    }

    /// Ends a URB; `payload` is where the outcome's data stands.
    fn end(
        &mut self,
        now: Instant,
        seqnum: u32,
        outcome: Outcome,
        payload: Vec<u8>,
    ) -> Result<(), Fatal> {
        let (status, actual, data) = match outcome {
            Outcome::DeviceGone => return Err(Fatal::DeviceGone),
            Outcome::Cancelled => {
                self.give_up(seqnum);
                return Ok(());
            }
            Outcome::Ended {
                status,
                actual,
                data,
            } => (status, actual, data),
        };
        let Some(urb) = self.live.get_mut(&seqnum) else {
            return Ok(());
        };
        if status == 0 {
            self.endpoints.borrow_mut().apply(urb.effect);
        }
        let answer = match urb.packets.take() {
            Some(packets) => {
                // A stream that is stopped misses nothing.
                if urb.unlinks.is_empty() {
                    let product = self.endpoints.borrow().product();
                    self.late.count(now, product, packets.missed());
                }
                let (ret, descriptors) = packets.into_return(seqnum, status, actual);
                Message::with_data(ret, payload, data).with_descriptors(descriptors)
            }
            None => Message::with_data(submit_return(seqnum, status, actual), payload, data),
        };
        self.answer(seqnum, answer);
        Ok(())
    }

    /// Ends a URB that cannot be sent.
    fn refuse(&mut self, now: Instant, seqnum: u32, errno: i32) -> Result<(), Fatal> {
        let Some(urb) = self.live.get_mut(&seqnum) else {
            return Ok(());
        };
        let outcome = match &mut urb.packets {
            Some(packets) => packets.refused(),
            None => Outcome::Ended {
                status: -errno,
                actual: 0,
                data: 0..0,
            },
        };
        self.end(now, seqnum, outcome, Vec::new())
    }

    /// Takes a URB into its endpoint's lane and returns the class it must go in.
    fn enter(
        &mut self,
        submit: &Submit,
        packets: Option<Packets>,
        class: Class,
        effect: Effect,
    ) -> Class {
        let lane = Lane::of(submit);
        self.live.insert(
            submit.seqnum,
            Urb {
                lane,
                input: submit.input,
                length: submit.length,
                effect,
                packets,
                corr: None,
                unlinks: Vec::new(),
                held: None,
            },
        );
        let lane = self.lanes.get_mut(lane);
        lane.map_or(class, |lane| lane.enter(submit.seqnum, class))
    }

    fn send_or_wait(&mut self, now: Instant, request: Request) -> Result<(), Fatal> {
        let refused = if self.adrift.away || self.waiting.has(request.outgoing.class) {
            Some(request)
        } else {
            self.send(now, request)?
        };
        if let Some(request) = refused {
            self.waiting.push(request);
        }
        Ok(())
    }

    /// Sends a request, or hands it back when it does not fit now.
    fn send(&mut self, now: Instant, request: Request) -> Result<Option<Request>, Fatal> {
        let Request {
            seqnum, outgoing, ..
        } = request;
        match self.outlet.request(outgoing) {
            Ok(corr) => {
                self.requests.insert(corr, Some(seqnum));
                if let Some(urb) = self.live.get_mut(&seqnum) {
                    urb.corr = Some(corr);
                }
                Ok(None)
            }
            Err(OutletError::WouldBlock(outgoing)) => Ok(Some(Request {
                outgoing,
                ..request
            })),
            Err(OutletError::TooLarge) => {
                self.refuse(now, seqnum, libc::EMSGSIZE)?;
                Ok(None)
            }
            Err(OutletError::Closed) => Err(Fatal::Closed),
        }
    }

    fn send_waiting(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.adrift.away {
            return self.drop_late(now);
        }
        for class in Class::ALL {
            while let Some(mut request) = self.waiting.pop(class) {
                if request.is_late(now) {
                    self.miss(now, request.seqnum)?;
                } else if let Some(request) = self.send(now, request)? {
                    self.waiting.put_back(request);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends an isochronous URB whose time has passed before it was sent.
    fn miss(&mut self, now: Instant, seqnum: u32) -> Result<(), Fatal> {
        let packets = self
            .live
            .get_mut(&seqnum)
            .and_then(|urb| urb.packets.as_mut());
        match packets.map(Packets::late) {
            Some(outcome) => self.end(now, seqnum, outcome, Vec::new()),
            None => Ok(()),
        }
    }

    fn unlink(&mut self, now: Instant, unlink: Unlink) {
        let Unlink { seqnum, target } = unlink;
        let Some(urb) = self.live.get_mut(&target) else {
            self.unlink_unknown(now, unlink);
            return;
        };
        urb.unlinks.push(seqnum);
        if let Some(answer) = urb.held.take() {
            self.answer(target, answer);
        } else if let Some(corr) = urb.corr {
            if urb.unlinks.len() == 1 {
                self.outlet.cancel(corr);
                self.guards
                    .push_back((now + UNLINK_PATIENCE, Guarded::Urb(target)));
            }
        } else {
            self.waiting.remove(target);
            self.give_up(target);
        }
    }

    /// The kernel's sender writes all new URBs and then all new unlinks, so an unlink can overtake a
    /// URB that was queued in between. It is answered when that URB arrives: earlier, the kernel
    /// would not connect the two and the URB would stay for ever.
    fn unlink_unknown(&mut self, now: Instant, unlink: Unlink) {
        let Unlink { seqnum, target } = unlink;
        let to_come = self
            .newest
            .is_none_or(|newest| target.wrapping_sub(newest).cast_signed() > 0);
        if to_come && self.early.len() < MAX_EARLY && !self.early.contains_key(&target) {
            self.early.insert(target, seqnum);
            self.guards
                .push_back((now + UNLINK_PATIENCE, Guarded::Early(target)));
        } else {
            self.unlinked(seqnum, 0);
        }
    }

    /// The server did not answer a cancelled request in time: the kernel need not wait for it.
    fn abandon(&mut self, seqnum: u32) {
        let waits = |urb: &&Urb| !urb.unlinks.is_empty();
        let Some(corr) = self
            .live
            .get(&seqnum)
            .filter(waits)
            .and_then(|urb| urb.corr)
        else {
            return;
        };
        tracing::warn!(seqnum, "the server did not answer a cancelled transfer");
        self.requests.insert(corr, None);
        self.give_up(seqnum);
    }

    /// Ends a URB that moved nothing, after its unlink.
    fn give_up(&mut self, seqnum: u32) {
        let Some(urb) = self.live.remove(&seqnum) else {
            return;
        };
        for unlink in urb.unlinks {
            self.unlinked(unlink, -libc::ECONNRESET);
        }
        self.leave(urb.lane, seqnum);
    }

    /// Ends a URB with a `RET_SUBMIT`: at once when it is its endpoint's first or was unlinked,
    /// otherwise after those before it.
    fn answer(&mut self, seqnum: u32, answer: Message) {
        let Some(urb) = self.live.get_mut(&seqnum) else {
            return;
        };
        let lane = urb.lane;
        let first = self.lanes.get(lane).and_then(Lane::first);
        if urb.unlinks.is_empty() && first != Some(seqnum) {
            urb.held = Some(answer);
            return;
        }
        let unlinks = std::mem::take(&mut urb.unlinks);
        self.live.remove(&seqnum);
        self.messages.push(answer);
        for unlink in unlinks {
            self.unlinked(unlink, 0);
        }
        self.leave(lane, seqnum);
    }

    /// Takes a URB out of its lane and lets the held answers behind it go.
    fn leave(&mut self, lane: usize, seqnum: u32) {
        let Some(lane) = self.lanes.get_mut(lane) else {
            return;
        };
        lane.leave(seqnum);
        while let Some(first) = lane.first() {
            let Some(answer) = self.live.get_mut(&first).and_then(|urb| urb.held.take()) else {
                break;
            };
            self.messages.push(answer);
            self.live.remove(&first);
            lane.leave(first);
        }
    }

    fn unlinked(&mut self, seqnum: u32, status: i32) {
        let ret = Return::Unlink(RetUnlink { seqnum, status });
        self.messages.push(Message::bare(ret));
    }
}

fn submit_return(seqnum: u32, status: i32, actual_length: u32) -> Return {
    Return::Submit(RetSubmit {
        seqnum,
        status,
        actual_length,
        start_frame: 0,
        packets: 0,
        error_count: 0,
    })
}

#[cfg(test)]
mod tests;
