//! One device between its owner and this machine's kernel.

use core::future::poll_fn;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::debug;

use super::effects::{Answer, Effects};
use super::filter::possible;
use crate::bus::hid::hardware::Made;
use crate::bus::hid::op::{Configure, EVENT, decode_events, encode_events};
use crate::bus::hid::state::State;
use crate::bus::hid::timebase::Timebase;
use crate::bus::{Ended, Inbound, Outgoing, Outlet};
use crate::kernel::clock::mono;
use crate::kernel::evdev::codes::{EV_FF, EV_LED, EV_REP, EV_SND, EV_SYN, SYN_DROPPED};
use crate::kernel::evdev::{Description, Effect, Event, monotonic};
use crate::kernel::uinput::Wish;
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// How long the owner may take over an effect, in milliseconds: the kernel waits 30 s.
const EFFECT_MS: u32 = 20_000;
/// How long the owner may take to take the device back.
const STOPPING: Duration = Duration::from_secs(5);
/// Most bytes of the answer to a `STREAM_CONFIGURE`.
const ANSWER: u32 = 1024;
/// Most events that wait for the owner to have room.
const MAX_WAITING: usize = 256;
/// Most of our own events that are waited for to come back.
const MAX_ECHOES: usize = 64;

pub(super) struct Bridge {
    made: Box<dyn Made>,
    device: Description,
    /// The owner takes LEDs, sounds and effects.
    back: bool,
    outlet: Rc<dyn Outlet>,
    /// What this machine's kernel knows.
    state: State,
    time: Timebase,
    effects: Effects,
    /// Events for the owner.
    waiting: VecDeque<Event>,
    /// The owner's LEDs, sounds and repetition, which the kernel tells us as if they were new.
    echoes: VecDeque<Event>,
    /// The number of the request that gives the device back.
    stopping: Option<u32>,
}

impl Bridge {
    pub(super) fn new(
        made: Box<dyn Made>,
        device: Description,
        back: bool,
        outlet: Rc<dyn Outlet>,
    ) -> Self {
        Self {
            made,
            state: State::fresh(&device),
            device,
            back,
            outlet,
            time: Timebase::default(),
            effects: Effects::default(),
            waiting: VecDeque::new(),
            echoes: VecDeque::new(),
            stopping: None,
        }
    }

    /// Runs until the device is no longer on this machine.
    pub(super) async fn run(
        mut self,
        mut inbound: UnboundedReceiver<Inbound>,
        detach: &Notify,
    ) -> Ended {
        let mut ended = self.repeat();
        let late = tokio::time::sleep(STOPPING);
        tokio::pin!(late);
        while ended.is_none() {
            let mut wishes = Vec::new();
            let stopping = self.stopping.is_some();
            ended = tokio::select! {
                biased;
                () = detach.notified(), if !stopping => {
                    late.as_mut().reset(tokio::time::Instant::now() + STOPPING);
                    self.stop()
                }
                () = &mut late, if stopping => {
                    self.outlet.reset(Status::Timeout);
                    Some(Ended::Detached)
                }
                message = inbound.recv() => self.hear(message.unwrap_or(Inbound::Closed)),
                read = poll_fn(|context| self.made.poll_wishes(context, &mut wishes)) => {
                    self.wished(read, &wishes)
                }
            };
        }
        self.release();
        self.made.remove().await;
        ended.unwrap_or(Ended::Detached)
    }

    /// Held keys repeat as at the owner. The kernel would take its own times.
    fn repeat(&mut self) -> Option<Ended> {
        let mut events: Vec<Event> = (0u16..)
            .zip(self.device.repeat.into_iter().flatten())
            .map(|(code, time)| Event::new(EV_REP, code, i32::try_from(time).unwrap_or(0)))
            .collect();
        if events.is_empty() {
            return None;
        }
        events.push(Event::REPORT);
        self.write(&events)
    }

    // --- from the owner -------------------------------------------------------------------------

    fn hear(&mut self, message: Inbound) -> Option<Ended> {
        match message {
            Inbound::Data { payload, .. } => {
                let ended = self.data(&payload);
                self.outlet.consume(payload.len());
                return ended;
            }
            Inbound::Response {
                corr,
                status,
                payload,
                ..
            } => return self.answered(corr, status, &payload),
            Inbound::Request { corr, .. } => {
                let refused = crate::bus::Refused::unsupported("the user's side serves nothing");
                self.outlet.respond(corr, refused.status, refused.payload());
            }
            Inbound::Event { payload, .. } => self.outlet.consume(payload.len()),
            Inbound::Writable => self.flush(),
            Inbound::Cancel { .. } | Inbound::Dropped { .. } => {}
            Inbound::Reset { status } => return Some(Ended::Owner(status)),
            Inbound::Closed => return Some(Ended::Session),
        }
        None
    }

    fn data(&mut self, payload: &[u8]) -> Option<Ended> {
        let events = match decode_events(payload) {
            Ok(events) => events,
            Err(error) => {
                self.outlet.reset(Status::BadRequest);
                return Some(Ended::Failed(format!("the owner sent nonsense: {error}")));
            }
        };
        let now = monotonic();
        let mut packets = Vec::with_capacity(events.len());
        for mut event in events {
            if event.kind == EV_SYN && event.code == SYN_DROPPED {
                debug!("the owner could not tell everything");
            }
            if !possible(&event, &self.device) {
                continue;
            }
            if event.is_report() {
                event.value = 0;
            }
            event.time = match event.time {
                0 => now,
                time => self.time.translate(time, now),
            };
            packets.push(event);
        }
        self.write(&packets)
    }

    fn answered(&mut self, corr: u32, status: Status, payload: &[u8]) -> Option<Ended> {
        if self.stopping == Some(corr) {
            return Some(Ended::Detached);
        }
        let answer = self.effects.answered(corr, status, payload);
        // A program that gave up waiting is not there to be answered.
        let _ = match answer {
            Some(Answer::Uploaded(request, result)) => self.made.uploaded(request, result),
            Some(Answer::Erased(request, result)) => self.made.erased(request, result),
            None => Ok(()),
        };
        None
    }

    // --- to this machine's kernel ---------------------------------------------------------------

    fn write(&mut self, events: &[Event]) -> Option<Ended> {
        for event in events {
            if self.comes_back(event) {
                self.echoes.push_back(*event);
            }
            self.state.apply(event);
        }
        let many = self.echoes.len().saturating_sub(MAX_ECHOES);
        self.echoes.drain(..many);
        if events.is_empty() {
            return None;
        }
        let failed = self.made.write(events).err()?;
        self.outlet.reset(Status::InternalError);
        Some(Ended::Failed(format!(
            "uinput does not take events: {}",
            failed.desc()
        )))
    }

    /// The kernel tells of a LED only when it changes.
    fn comes_back(&self, event: &Event) -> bool {
        match event.kind {
            EV_LED => self.state.leds().has(event.code) != (event.value != 0),
            EV_SND | EV_REP => true,
            _ => false,
        }
    }

    /// Nothing stays pressed when the owner can no longer say that it is released.
    fn release(&mut self) {
        let release = self.state.release();
        if !release.is_empty() {
            // The device is removed next; the kernel would release its keys then.
            let _ = self.made.write(&release);
        }
    }

    // --- from this machine's programs -----------------------------------------------------------

    fn wished(&mut self, read: Result<(), Errno>, wishes: &[Wish]) -> Option<Ended> {
        if let Err(errno) = read {
            self.outlet.reset(Status::InternalError);
            return Some(Ended::Failed(format!("uinput: {}", errno.desc())));
        }
        for wish in wishes {
            match *wish {
                Wish::Event(event) => self.wish(event),
                Wish::Upload { request, effect } => self.upload(request, effect),
                Wish::Erase { request, id } => self.erase(request, id),
            }
        }
        self.flush();
        None
    }

    fn wish(&mut self, mut event: Event) {
        match event.kind {
            EV_LED | EV_SND | EV_REP => {
                let same = |echo: &Event| {
                    (echo.kind, echo.code, echo.value) == (event.kind, event.code, event.value)
                };
                if let Some(at) = self.echoes.iter().position(same) {
                    self.echoes.remove(at);
                    return;
                }
                self.state.apply(&event);
            }
            EV_FF => match self.effects.code(event.code) {
                Some(code) => event.code = code,
                None => return,
            },
            _ => return,
        }
        if self.back {
            if self.waiting.len() >= MAX_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(event);
        }
    }

    fn flush(&mut self) {
        let bytes = (self.waiting.len() + 1) * EVENT;
        if self.waiting.is_empty() || !self.outlet.writable(bytes) {
            return;
        }
        let mut events: Vec<Event> = self.waiting.drain(..).collect();
        events.push(Event {
            // The owner does not begin what comes late; a machine that slept is late.
            time: mono().0,
            ..Event::REPORT
        });
        self.outlet.data(encode_events(&events), false);
    }

    fn upload(&mut self, request: u32, effect: Option<Effect>) {
        let asked = effect
            .ok_or(Errno::EINVAL)
            .and_then(|effect| Ok((self.ask(&self.effects.upload(effect))?, effect.id)));
        match asked {
            Ok((corr, local)) => self.effects.upload_asked(corr, request, local),
            Err(errno) => drop(self.made.uploaded(request, Err(errno))),
        }
    }

    fn erase(&mut self, request: u32, local: i16) {
        // What the program played last goes before what it takes back.
        self.flush();
        let asked = match self.effects.erase(local) {
            Some(erase) => self.ask(&erase).map(Some),
            None => Ok(None),
        };
        match asked {
            Ok(Some(corr)) => self.effects.erase_asked(corr, request, local),
            Ok(None) => drop(self.made.erased(request, Ok(()))),
            Err(errno) => drop(self.made.erased(request, Err(errno))),
        }
    }

    fn ask(&self, what: &Configure) -> Result<u32, Errno> {
        let payload = what.encode().map_err(|_| Errno::EINVAL)?;
        self.request(Opcode::StreamConfigure, payload, EFFECT_MS)
            .ok_or(Errno::EIO)
    }

    fn request(&self, opcode: Opcode, payload: Vec<u8>, timeout_ms: u32) -> Option<u32> {
        let outgoing = Outgoing {
            opcode,
            class: Class::Interactive,
            payload,
            reply_len: ANSWER,
            timeout_ms,
            deadline_ms: 0,
        };
        self.outlet.request(outgoing).ok()
    }

    /// Gives the device back; for this machine nothing is pressed from now on.
    fn stop(&mut self) -> Option<Ended> {
        self.stopping = self.request(Opcode::StreamStop, vec![0x80], 0);
        if self.stopping.is_none() {
            self.outlet.reset(Status::Ok);
            return Some(Ended::Detached);
        }
        None
    }
}
