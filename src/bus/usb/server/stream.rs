//! The life of one attached device: requests in, transfers out, completions back.
//!
//! While a change of the device, or a discard, waits for the hardware on another thread, the data
//! thread leaves the device alone and requests queue up, because any ioctl of it would wait too.

use core::future::{pending, poll_fn};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use nix::errno::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::End;
use super::check::{self, Change, Form, Order, Work};
use super::held::Held;
use super::iso::{self, IsoOrder, Submitted};
use super::outstanding::{CANCELLED, GONE, Outstanding, SHUT_DOWN, UNLINKED};
use super::reply::{self, NO_MEMORY, Refused};
use super::spare::Spare;
use crate::bus::usb::hardware::UsbDevice;
use crate::bus::usb::op::{DescriptorReply, IsoTransfer};
use crate::bus::{Inbound, Outlet};
use crate::kernel::usbfs::{Completion, SETUP_LEN, Transfer, TransferType};
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
    /// It was said already that usbfs has too little memory.
    told_memory: bool,
    /// The request that gave the device back; it is answered last.
    detached: Option<u32>,
}

/// Where the device is: at hand for the data thread, or with a thread that waits for it.
enum Hold {
    Here(Held),
    Away(JoinHandle<Returned>),
    /// It came to nothing; the stream is about to end.
    Lost,
}

/// What a waiting thread brings back.
struct Returned {
    held: Held,
    outcome: Outcome,
}

enum Outcome {
    Discarded,
    Changed {
        corr: u32,
        change: Change,
        form: Form,
        result: Result<(), Errno>,
    },
    GivenBack {
        corr: u32,
    },
}

struct Request {
    corr: u32,
    opcode: Opcode,
    payload: Vec<u8>,
    arrived: Instant,
}

/// What the stream wakes up for.
enum Wake {
    Inbound(Option<Inbound>),
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
            told_memory: false,
            detached: None,
        }
    }

    /// Serves the peer until one of the three is gone: the peer, the device, the wish to use it.
    pub(super) async fn run(
        mut self,
        outlet: Rc<dyn Outlet>,
        mut inbound: UnboundedReceiver<Inbound>,
    ) -> End {
        loop {
            let end = match self.wake(&mut inbound).await {
                Wake::Inbound(message) => self.on_inbound(&*outlet, message),
                Wake::Completed => self.reap(&*outlet),
                Wake::Returned(Some(returned)) => self.on_returned(&*outlet, returned),
                Wake::Returned(None) => {
                    self.hold = Hold::Lost;
                    Some(End::Failed)
                }
                Wake::Deadline => {
                    self.discards
                        .extend(self.outstanding.expire(Instant::now()));
                    None
                }
            };
            let end = end.or_else(|| self.proceed(&*outlet));
            let Some(end) = end else { continue };
            self.finish(&*outlet, &mut inbound, &end).await;
            return end;
        }
    }

    async fn wake(&mut self, inbound: &mut UnboundedReceiver<Inbound>) -> Wake {
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
        tokio::select! {
            message = inbound.recv() => Wake::Inbound(message),
            () = poll_fn(|context| device.poll_completed(context)), if at_hand => Wake::Completed,
            returned = returned => Wake::Returned(returned),
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
            Some(Inbound::Reset { .. } | Inbound::Closed) | None => return Some(End::PeerLeft),
            // This half never asks the peer for anything, and no operation of USB uses the others.
            Some(Inbound::Response { .. } | Inbound::Event { .. } | Inbound::Data { .. }) => {
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
                Err(_) => {
                    self.backlog.push_front(request);
                    return Some(End::DeviceGone);
                }
            }
        }
        if !self.discards.is_empty() && matches!(self.hold, Hold::Here(_)) {
            let mut keys = core::mem::take(&mut self.discards);
            // The last first, so that none is started by the end of the one before it.
            keys.sort_unstable();
            self.send_away(move |held| {
                for key in keys.iter().rev() {
                    // EINVAL: it finished meanwhile and will be reaped as such.
                    let _ = held.port().discard(*key);
                }
                Outcome::Discarded
            });
        }
        None
    }

    /// Starts one request.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone, `ENOMEM` when it is worth trying again; the request is not
    /// answered then.
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
                return self.submit(outlet, corr, &order);
            }
            Ok(Work::SubmitIso(order)) if order.is_late(request.arrived.elapsed()) => {
                if self.starved.is_some() {
                    self.tell_memory();
                }
                outlet.respond(corr, Status::Ok, order.unmoved(0));
            }
            Ok(Work::SubmitIso(order)) => {
                held.touch();
                return self.submit_iso(outlet, corr, &order);
            }
            Ok(Work::Done(form)) => outlet.respond(corr, Status::Ok, done(form)),
            Ok(Work::Job(change, form)) => self.send_away(move |held| {
                let result = apply(held, change);
                Outcome::Changed {
                    corr,
                    change,
                    form,
                    result,
                }
            }),
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

    fn submit(&mut self, outlet: &dyn Outlet, corr: u32, order: &Order<'_>) -> Result<(), Errno> {
        let mut buffer = self.spare.take();
        buffer.extend_from_slice(
            order
                .setup
                .as_ref()
                .map_or(&[], <[u8; SETUP_LEN]>::as_slice),
        );
        buffer.extend_from_slice(order.data);
        let key = self.outstanding.next_key();
        let transfer = Transfer {
            key,
            endpoint: order.endpoint,
            kind: order.kind,
            buffer,
            receive: order.receive,
            packets: Vec::new(),
            short_not_ok: order.flags.short_not_ok,
            zero_packet: order.flags.zero_packet,
        };
        match self.device.submit(transfer) {
            Ok(()) => {
                let timeout = Duration::from_millis(order.timeout_ms.into());
                let deadline = (order.timeout_ms != 0).then(|| Instant::now() + timeout);
                self.outstanding.insert(key, corr, order.form, deadline);
                Ok(())
            }
            Err(errno) => self.not_accepted(outlet, corr, errno),
        }
    }

    fn submit_iso(
        &mut self,
        outlet: &dyn Outlet,
        corr: u32,
        order: &IsoOrder<'_>,
    ) -> Result<(), Errno> {
        let device = &*self.device;
        let all = &mut self.outstanding;
        match all.submit_iso(device, &mut self.spare, corr, order) {
            Submitted::Whole => Ok(()),
            Submitted::Partly(keys, errno) => {
                debug!(%errno, "only a part of an isochronous transfer was accepted");
                if errno == Errno::ENOMEM {
                    self.tell_memory();
                }
                self.discards.extend(keys);
                Ok(())
            }
            Submitted::Not(errno) => self.not_accepted(outlet, corr, errno),
        }
    }

    /// Answers a transfer that usbfs refused.
    ///
    /// # Errors
    /// As [`Self::start`].
    fn not_accepted(&mut self, outlet: &dyn Outlet, corr: u32, errno: Errno) -> Result<(), Errno> {
        let refused = match errno {
            Errno::ENODEV => return Err(errno),
            Errno::ENOMEM if self.starved.is_none_or(|since| since.elapsed() < STARVED.1) => {
                return Err(errno);
            }
            Errno::ENOMEM => {
                self.tell_memory();
                Refused::no_memory()
            }
            Errno::ENOSPC => Refused::io("the owner's USB bus has no bandwidth left for it", errno),
            errno => Refused::io("the transfer was not accepted", errno),
        };
        outlet.respond(corr, refused.status, refused.payload());
        Ok(())
    }

    /// Says in the log, once, what the owner of this machine can do.
    fn tell_memory(&mut self) {
        if !core::mem::replace(&mut self.told_memory, true) {
            warn!("{NO_MEMORY}");
        }
    }

    /// Lends the device to a thread that may wait.
    fn send_away(&mut self, work: impl FnOnce(&mut Held) -> Outcome + Send + 'static) {
        match core::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Here(mut held) => {
                self.hold = Hold::Away(spawn_blocking(move || {
                    let outcome = work(&mut held);
                    Returned { held, outcome }
                }));
            }
            // INVARIANT: only called while the device is at hand; otherwise nothing changes.
            other @ (Hold::Away(_) | Hold::Lost) => self.hold = other,
        }
    }

    fn on_returned(&mut self, outlet: &dyn Outlet, returned: Returned) -> Option<End> {
        self.hold = Hold::Here(returned.held);
        match returned.outcome {
            Outcome::Discarded => self.reap(outlet),
            Outcome::Changed {
                corr,
                change,
                form,
                result,
            } => {
                let end = self.reap(outlet);
                match (result, form) {
                    (Ok(()), form) => outlet.respond(corr, Status::Ok, done(form)),
                    (Err(errno), Form::Received | Form::Sent) => {
                        let payload = reply::transfer(-(errno as i32), 0, &[]);
                        outlet.respond(corr, Status::Ok, payload);
                    }
                    (Err(errno), Form::Empty | Form::Descriptor) => {
                        let refused = Refused::io(&format!("{change:?}"), errno);
                        outlet.respond(corr, refused.status, refused.payload());
                    }
                }
                end.or_else(|| (result == Err(Errno::ENODEV)).then_some(End::DeviceGone))
            }
            Outcome::GivenBack { corr } => {
                self.detached = Some(corr);
                let _ = self.reap(outlet);
                Some(End::Detached)
            }
        }
    }

    /// Takes back and answers everything that finished.
    fn reap(&mut self, outlet: &dyn Outlet) -> Option<End> {
        loop {
            match self.device.reap() {
                Ok(Some(completion)) => self.complete(outlet, completion),
                Ok(None) => return None,
                Err(errno) => {
                    if errno != Errno::ENODEV {
                        warn!(%errno, "cannot take USB transfers back");
                    }
                    return Some(End::DeviceGone);
                }
            }
        }
    }

    fn complete(&mut self, outlet: &dyn Outlet, completion: Completion) {
        let iso = &mut self.outstanding.iso;
        let completion = match iso.complete(completion, &mut self.spare) {
            Ok(Some((corr, payload))) => return outlet.respond(corr, Status::Ok, payload),
            Ok(None) => return,
            Err(other) => other,
        };
        let Some(pending) = self.outstanding.remove(completion.key) else {
            warn!("a USB transfer finished that nobody asked for");
            return;
        };
        let status = pending.status(completion.status);
        let (status, payload) = match pending.form {
            Form::Received => {
                let data = completion.data();
                (Status::Ok, reply::transfer(status, data.len(), data))
            }
            Form::Sent => (Status::Ok, reply::transfer(status, completion.actual, &[])),
            Form::Descriptor if status == 0 => {
                let mut payload = Vec::new();
                let descriptor = completion.data();
                DescriptorReply { descriptor }.encode(&mut payload);
                (Status::Ok, payload)
            }
            Form::Descriptor | Form::Empty => {
                let refused = if pending.is_cancelled() && status == CANCELLED {
                    Refused::cancelled()
                } else {
                    Refused::io("the device did not answer", Errno::from_raw(-status))
                };
                (refused.status, refused.payload())
            }
        };
        outlet.respond(pending.corr, status, payload);
        self.spare.put(completion.buffer);
    }

    /// Answers what will not be finished any more.
    fn answer_rest(&mut self, outlet: &dyn Outlet, status: i32, refused: &Refused) {
        for pending in self.outstanding.drain() {
            match pending.form {
                Form::Received | Form::Sent => {
                    outlet.respond(pending.corr, Status::Ok, reply::transfer(status, 0, &[]));
                }
                Form::Descriptor | Form::Empty => {
                    outlet.respond(pending.corr, refused.status, refused.payload());
                }
            }
        }
        for (corr, payload) in self.outstanding.iso.drain(status) {
            outlet.respond(corr, Status::Ok, payload);
        }
        for request in self.backlog.drain(..) {
            unstarted(outlet, &request, status, refused);
        }
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

fn apply(held: &mut Held, change: Change) -> Result<(), Errno> {
    match change {
        Change::SetConfiguration(value) => held.set_configuration(value),
        Change::SetInterface {
            interface,
            alternate,
        } => held.set_interface(interface, alternate),
        Change::ClearHalt(endpoint) => held.port().clear_halt(endpoint),
        Change::Reset => held.reset(),
    }
}

fn done(form: Form) -> Vec<u8> {
    match form {
        Form::Received | Form::Sent => reply::transfer(0, 0, &[]),
        Form::Descriptor | Form::Empty => reply::empty(),
    }
}

/// Answers a request that was never started: transfers by a status, other operations by an error.
fn unstarted(outlet: &dyn Outlet, request: &Request, status: i32, refused: &Refused) {
    let transfer = matches!(
        request.opcode,
        Opcode::UsbControlTransfer | Opcode::UsbBulkTransfer | Opcode::UsbInterruptTransfer
    );
    let iso = match request.opcode {
        Opcode::UsbIsochronousTransfer => IsoTransfer::decode(&request.payload).ok(),
        _ => None,
    };
    if transfer {
        outlet.respond(request.corr, Status::Ok, reply::transfer(status, 0, &[]));
    } else if let Some((transfer, _)) = iso {
        let payload = iso::unmoved(&transfer, status);
        outlet.respond(request.corr, Status::Ok, payload);
    } else {
        outlet.respond(request.corr, refused.status, refused.payload());
    }
}
