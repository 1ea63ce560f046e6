//! Every URB between the kernel's SUBMIT and the answer the kernel gets, without any I/O of its own.
//!
//! Invariants: a URB is answered exactly once, by `RET_SUBMIT` or by `RET_UNLINK` with `-ECONNRESET`;
//! URBs of one endpoint are answered in the order in which they were submitted, unless unlinked;
//! nothing is answered before the server's answer, except what was never sent.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::KernelFault;
use super::answer::{Outcome, Violation, judge};
use super::endpoints::{Effect, Endpoints};
use super::request::{Incoming, Plan};
use super::socket::{FromKernel, Message};
use crate::bus::usb::op::{EndpointAddress, REPLY_OVERHEAD};
use crate::bus::{Outgoing, Outlet, OutletError};
use crate::kernel::usbip_pdu::{
    ISO_DESCRIPTOR, IsoDescriptor, RetSubmit, RetUnlink, Return, Submit, Unlink,
};
use crate::wire::class::Class;
use crate::wire::status::Status;

/// How long an unlink waits for the server: one second more than the link gives a cancelled request
/// before it resets the stream (profile 10.4).
pub(super) const UNLINK_PATIENCE: Duration = Duration::from_secs(6);
/// When a request that did not fit is tried again although nothing of ours was answered: other
/// streams of the session share the limit.
const RETRY: Duration = Duration::from_millis(10);
/// Bytes and URBs that may wait for the server's limits before the socket is left alone. Generous,
/// because behind them stand the unlinks that make room.
const MAX_WAITING: (usize, usize) = (16 << 20, 4096);
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
    /// The request it became, `None` while it waits for the server's limits.
    corr: Option<u32>,
    /// The unlink commands that name it.
    unlinks: Vec<u32>,
    /// Its answer, while an earlier URB of its endpoint has none.
    held: Option<Message>,
}

/// The URBs of one endpoint, in order. While there are any, all go in the same class: two requests
/// in different classes could overtake each other on the way.
#[derive(Debug)]
struct Lane {
    order: VecDeque<u32>,
    class: Class,
}

impl Lane {
    fn new() -> Self {
        Self {
            order: VecDeque::new(),
            class: Class::Interactive,
        }
    }
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
    /// Requests that do not fit yet, by class; one queue holds all of an endpoint.
    waiting: [VecDeque<(u32, Outgoing)>; 5],
    waiting_size: (usize, usize),
    /// Unlink commands by the URB they name, which is still to come.
    early: HashMap<u32, u32>,
    newest: Option<u32>,
    guards: VecDeque<(Instant, Guarded)>,
    messages: Vec<Message>,
    warned: Warned,
}

/// What has been said once already.
#[derive(Debug, Default)]
struct Warned {
    isochronous: bool,
}

impl Urbs {
    pub(super) fn new(outlet: Rc<dyn Outlet>, endpoints: Rc<RefCell<Endpoints>>) -> Self {
        Self {
            outlet,
            endpoints,
            live: HashMap::new(),
            requests: HashMap::new(),
            lanes: std::array::from_fn(|_| Lane::new()),
            waiting: Default::default(),
            waiting_size: (0, 0),
            early: HashMap::new(),
            newest: None,
            guards: VecDeque::new(),
            messages: Vec::new(),
            warned: Warned::default(),
        }
    }

    /// False while too much waits for the server's limits.
    pub(super) fn wants_more(&self) -> bool {
        let (bytes, count) = self.waiting_size;
        bytes < MAX_WAITING.0 && count < MAX_WAITING.1
    }

    /// Takes out what the kernel is to be told, in order.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = Message> {
        self.messages.drain(..)
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let guard = self.guards.front().map(|(at, _)| *at);
        let retry = (self.waiting_size.1 > 0).then(|| now + RETRY);
        [guard, retry].into_iter().flatten().min()
    }

    pub(super) fn hear(&mut self, now: Instant, message: FromKernel) -> Result<(), Fatal> {
        match message {
            FromKernel::Submit(incoming) => self.submit(incoming),
            FromKernel::Unlink(unlink) => {
                self.unlink(now, unlink);
                Ok(())
            }
        }
    }

    /// The server's answer to request `corr`.
    pub(super) fn response(
        &mut self,
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
            self.complete(seqnum, status, payload)?;
        }
        self.send_waiting()
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
        self.send_waiting()
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
        for waiting in &mut self.waiting {
            waiting.clear();
        }
        self.waiting_size = (0, 0);
        for corr in self.requests.keys() {
            self.outlet.cancel(*corr);
        }
    }

    fn submit(&mut self, incoming: Incoming) -> Result<(), Fatal> {
        let Incoming {
            submit,
            plan,
            payload,
            iso,
        } = incoming;
        if self.live.contains_key(&submit.seqnum) {
            return Err(Fatal::Kernel(KernelFault::DuplicateSeqnum(submit.seqnum)));
        }
        self.newest = Some(submit.seqnum);
        if let Some(unlink) = self.early.remove(&submit.seqnum) {
            self.unlinked(unlink, -libc::ECONNRESET);
            return Ok(());
        }
        match plan {
            Plan::Refuse(errno) => {
                self.refuse(&submit, errno, &iso);
                Ok(())
            }
            Plan::Request {
                opcode,
                class,
                effect,
            } => {
                let class = self.enter(&submit, class, effect);
                let reply = if submit.input { submit.length } else { 0 };
                self.send_or_wait(
                    submit.seqnum,
                    Outgoing {
                        opcode,
                        class,
                        payload,
                        reply_len: reply + REPLY_OVERHEAD,
                        timeout_ms: 0,
                    },
                )
            }
        }
    }

    fn complete(&mut self, seqnum: u32, status: Status, payload: Vec<u8>) -> Result<(), Fatal> {
        let Some(urb) = self.live.get(&seqnum) else {
            return Ok(());
        };
        let unlinked = !urb.unlinks.is_empty();
        let outcome = judge(status, &payload, urb.input, urb.length, unlinked);
        match outcome.map_err(Fatal::Violation)? {
            Outcome::DeviceGone => return Err(Fatal::DeviceGone),
            Outcome::Cancelled => self.give_up(seqnum),
            Outcome::Ended {
                status,
                actual,
                data,
            } => {
                if status == 0 {
                    self.endpoints.borrow_mut().apply(urb.effect);
                }
                let ret = submit_return(seqnum, status, actual);
                self.answer(seqnum, Message::with_data(ret, payload, data));
            }
        }
        Ok(())
    }

    /// Takes a URB into its endpoint's lane and returns the class it must go in.
    fn enter(&mut self, submit: &Submit, class: Class, effect: Effect) -> Class {
        let lane = lane_of(submit);
        self.live.insert(
            submit.seqnum,
            Urb {
                lane,
                input: submit.input,
                length: submit.length,
                effect,
                corr: None,
                unlinks: Vec::new(),
                held: None,
            },
        );
        let Some(lane) = self.lanes.get_mut(lane) else {
            return class;
        };
        if lane.order.is_empty() {
            lane.class = class;
        }
        lane.order.push_back(submit.seqnum);
        lane.class
    }

    fn send_or_wait(&mut self, seqnum: u32, outgoing: Outgoing) -> Result<(), Fatal> {
        let queue = usize::from(outgoing.class.to_u8());
        let behind_others = self
            .waiting
            .get(queue)
            .is_some_and(|queue| !queue.is_empty());
        let refused = if behind_others {
            Some(outgoing)
        } else {
            self.send(seqnum, outgoing)?
        };
        if let (Some(outgoing), Some(queue)) = (refused, self.waiting.get_mut(queue)) {
            self.waiting_size.0 += outgoing.payload.len();
            self.waiting_size.1 += 1;
            queue.push_back((seqnum, outgoing));
        }
        Ok(())
    }

    /// Sends a request, or hands it back when it does not fit now.
    fn send(&mut self, seqnum: u32, outgoing: Outgoing) -> Result<Option<Outgoing>, Fatal> {
        match self.outlet.request(outgoing) {
            Ok(corr) => {
                self.requests.insert(corr, Some(seqnum));
                if let Some(urb) = self.live.get_mut(&seqnum) {
                    urb.corr = Some(corr);
                }
                Ok(None)
            }
            Err(OutletError::WouldBlock(outgoing)) => Ok(Some(outgoing)),
            Err(OutletError::TooLarge) => {
                let ret = submit_return(seqnum, -libc::EMSGSIZE, 0);
                self.answer(seqnum, Message::bare(ret));
                Ok(None)
            }
            Err(OutletError::Closed) => Err(Fatal::Closed),
        }
    }

    fn send_waiting(&mut self) -> Result<(), Fatal> {
        for class in Class::ALL {
            let queue = usize::from(class.to_u8());
            while let Some((seqnum, outgoing)) =
                self.waiting.get_mut(queue).and_then(VecDeque::pop_front)
            {
                let size = outgoing.payload.len();
                if let Some(outgoing) = self.send(seqnum, outgoing)? {
                    if let Some(queue) = self.waiting.get_mut(queue) {
                        queue.push_front((seqnum, outgoing));
                    }
                    break;
                }
                self.forget_waiting(size);
            }
        }
        Ok(())
    }

    fn forget_waiting(&mut self, size: usize) {
        self.waiting_size.0 = self.waiting_size.0.saturating_sub(size);
        self.waiting_size.1 = self.waiting_size.1.saturating_sub(1);
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
            self.drop_waiting(target);
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

    fn drop_waiting(&mut self, seqnum: u32) {
        let mut size = None;
        for queue in &mut self.waiting {
            let at = queue.iter().position(|(waiting, _)| *waiting == seqnum);
            if let Some((_, outgoing)) = at.and_then(|at| queue.remove(at)) {
                size = Some(outgoing.payload.len());
            }
        }
        if let Some(size) = size {
            self.forget_waiting(size);
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
        let first = self.lanes.get(lane).and_then(|lane| lane.order.front());
        if urb.unlinks.is_empty() && first != Some(&seqnum) {
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
        if lane.order.front() == Some(&seqnum) {
            lane.order.pop_front();
        } else {
            lane.order.retain(|other| *other != seqnum);
        }
        while let Some(first) = lane.order.front() {
            let Some(answer) = self.live.get_mut(first).and_then(|urb| urb.held.take()) else {
                break;
            };
            self.messages.push(answer);
            self.live.remove(first);
            lane.order.pop_front();
        }
    }

    fn unlinked(&mut self, seqnum: u32, status: i32) {
        let ret = Return::Unlink(RetUnlink { seqnum, status });
        self.messages.push(Message::bare(ret));
    }

    /// Answers a URB that cannot be served, its packets with it: they are counted against the
    /// kernel's own.
    fn refuse(&mut self, submit: &Submit, errno: i32, iso: &[u8]) {
        if submit.packets > 0 && !self.warned.isochronous {
            self.warned.isochronous = true;
            tracing::warn!(
                endpoint = submit.ep,
                "isochronous transfers are not supported yet: audio and video of this device will not work"
            );
        }
        let mut descriptors = Vec::with_capacity(iso.len());
        for packet in IsoDescriptor::parse_all(iso, submit.length).unwrap_or_default() {
            IsoDescriptor {
                actual_length: 0,
                status: -errno,
                ..packet
            }
            .write(&mut descriptors);
        }
        let packets = descriptors.len() / ISO_DESCRIPTOR;
        let packets = u32::try_from(packets).unwrap_or(0);
        let ret = Return::Submit(RetSubmit {
            seqnum: submit.seqnum,
            status: -errno,
            actual_length: 0,
            start_frame: 0,
            packets,
            error_count: packets,
        });
        let data = 0..descriptors.len();
        self.messages
            .push(Message::with_data(ret, descriptors, data));
    }
}

/// The control endpoint is one, whatever the direction; of the others each direction is its own.
fn lane_of(submit: &Submit) -> usize {
    let input = submit.input && submit.ep != 0;
    EndpointAddress::new(submit.ep, input).map_or(0, EndpointAddress::index)
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
