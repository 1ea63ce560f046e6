//! One device between its owner and this machine's kernel.

use core::future::poll_fn;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::debug;

use super::effects::{Answer, Effects};
use super::filter::{possible, same};
use super::{Given, Owner};
use crate::bus::hid::hardware::Made;
use crate::bus::hid::op::{Configure, EVENT, decode_events, encode_events};
use crate::bus::hid::state::State;
use crate::bus::hid::timebase::Timebase;
use crate::bus::outage::{Returning, returned};
use crate::bus::{Ended, Inbound, Outgoing, Outlet};
use crate::kernel::clock::mono;
use crate::kernel::evdev::codes::{
    EV_FF, EV_LED, EV_REP, EV_SND, EV_SYN, FF_AUTOCENTER, FF_GAIN, SYN_DROPPED,
};
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
    owner: Owner,
    device: Description,
    /// The owner takes LEDs, sounds and effects.
    back: bool,
    outlet: Rc<dyn Outlet>,
    inbound: UnboundedReceiver<Inbound>,
    /// The session is lost, and this waits for another one.
    returning: Option<Returning<Given>>,
    /// What this machine's kernel knows.
    state: State,
    /// What the owner takes for that, after another session began and until it has told how its
    /// device is.
    taken_for: Option<State>,
    /// By kind and code what this machine's programs have set last and what stays so: LEDs,
    /// repetition, gain, autocentring.
    lasting: BTreeMap<(u16, u16), i32>,
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
    pub(super) fn new(made: Box<dyn Made>, given: Given, owner: Owner) -> Self {
        Self {
            made,
            owner,
            state: State::fresh(&given.device),
            device: given.device,
            back: given.back,
            outlet: given.stream.outlet,
            inbound: given.stream.inbound,
            returning: None,
            taken_for: None,
            lasting: BTreeMap::new(),
            time: Timebase::default(),
            effects: Effects::default(),
            waiting: VecDeque::new(),
            echoes: VecDeque::new(),
            stopping: None,
        }
    }

    /// Runs until the device is no longer on this machine.
    pub(super) async fn run(mut self, detach: &Notify) -> Ended {
        let mut ended = self.repeat();
        let late = tokio::time::sleep(STOPPING);
        tokio::pin!(late);
        while ended.is_none() {
            let mut wishes = Vec::new();
            let stopping = self.stopping.is_some();
            let lost = self.returning.is_some();
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
                message = self.inbound.recv(), if !lost => {
                    self.hear(message.unwrap_or(Inbound::Closed))
                }
                given = returned(&mut self.returning), if lost => self.found(given),
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
            Inbound::Closed => return self.lost(),
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
        if let Some(state) = self.taken_for.take() {
            packets = self.catch_up(state, &packets);
        }
        if packets.iter().all(Event::is_report) {
            return None;
        }
        for event in &packets {
            self.overruled(event);
        }
        self.write(&packets)
    }

    /// What leads from what this machine's kernel knows to how the owner's device is: so, if the
    /// owner took us for that, and these packets followed. What programs of this machine have set
    /// the owner was told already.
    fn catch_up(&self, mut state: State, packets: &[Event]) -> Vec<Event> {
        for event in packets {
            state.apply(event);
        }
        for ((kind, code), value) in &self.lasting {
            state.apply(&Event::new(*kind, *code, *value));
        }
        self.state.difference(&state)
    }

    /// What the owner set after this machine's programs is no longer theirs.
    fn overruled(&mut self, event: &Event) {
        let key = (event.kind, event.code);
        if self
            .lasting
            .get(&key)
            .is_some_and(|value| *value != event.value)
        {
            self.lasting.remove(&key);
        }
    }

    fn answered(&mut self, corr: u32, status: Status, payload: &[u8]) -> Option<Ended> {
        if self.stopping == Some(corr) {
            return Some(Ended::Detached);
        }
        if let Some(answer) = self.effects.answered(corr, status, payload) {
            self.answer(answer);
        }
        self.restore();
        None
    }

    fn answer(&self, answer: Answer) {
        // A program that gave up waiting is not there to be answered.
        let _ = match answer {
            Answer::Uploaded(request, result) => self.made.uploaded(request, result),
            Answer::Erased(request, result) => self.made.erased(request, result),
            // Its answer is nobody's.
            Answer::Orphan(owners) => self.ask(&Configure::Erase(owners)).map(drop),
        };
    }

    // --- without the owner ----------------------------------------------------------------------

    /// The session is gone. The device stays for a while, with nothing pressed on it.
    fn lost(&mut self) -> Option<Ended> {
        if self.stopping.is_some() || self.owner.grace().is_zero() {
            return Some(Ended::Session);
        }
        self.owner.live.set(false);
        self.returning = Some(self.owner.again());
        self.taken_for = None;
        self.waiting.clear();
        for answer in self.effects.lost() {
            self.answer(answer);
        }
        let release = self.state.release();
        self.write(&release)
    }

    /// The owner has given its device again, or does so no more.
    fn found(&mut self, given: Result<Given, Ended>) -> Option<Ended> {
        self.returning = None;
        let given = match given {
            Ok(given) => given,
            Err(ended) => return Some(ended),
        };
        if !same(&given.device, &self.device) || given.back != self.back {
            given.stream.outlet.reset(Status::Ok);
            let text = "the owner has another device by that name now";
            return Some(Ended::Failed(text.to_owned()));
        }
        self.outlet = given.stream.outlet;
        self.inbound = given.stream.inbound;
        self.owner.live.set(true);
        // It may have started anew, and its clock with it.
        self.time = Timebase::default();
        self.taken_for = Some(State::fresh(&given.device));
        let lasting = self.lasting.iter();
        let told = lasting.map(|((kind, code), value)| Event::new(*kind, *code, *value));
        self.waiting = if self.back {
            told.collect()
        } else {
            VecDeque::new()
        };
        self.flush();
        self.restore();
        None
    }

    /// Gives the owner the next effect that it had before.
    fn restore(&mut self) {
        while let Some(effect) = self.effects.next_again() {
            if let Ok(corr) = self.ask(&self.effects.upload(effect)) {
                return self.effects.asked_again(corr, effect.id);
            }
        }
    }

    /// The owner cannot be asked, or not yet, for what programs do with their effects.
    fn is_behind(&self) -> bool {
        self.returning.is_some() || self.effects.are_behind()
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
                if event.kind != EV_SND {
                    self.lasting.insert((event.kind, event.code), event.value);
                }
            }
            EV_FF if matches!(event.code, FF_GAIN | FF_AUTOCENTER) => {
                self.lasting.insert((event.kind, event.code), event.value);
            }
            EV_FF => match self.effects.code(event.code) {
                Some(code) => event.code = code,
                None => return,
            },
            _ => return,
        }
        if self.back && self.returning.is_none() {
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
        if let Some(effect) = effect
            && self.is_behind()
        {
            self.effects.keep(effect);
            return self.answer(Answer::Uploaded(request, Ok(())));
        }
        let asked = effect
            .ok_or(Errno::EINVAL)
            .and_then(|effect| Ok((self.ask(&self.effects.upload(effect))?, effect)));
        match asked {
            Ok((corr, effect)) => self.effects.upload_asked(corr, request, effect),
            Err(errno) => drop(self.made.uploaded(request, Err(errno))),
        }
    }

    fn erase(&mut self, request: u32, local: i16) {
        if self.is_behind() {
            if let Some(orphan) = self.effects.forget(local) {
                self.answer(orphan);
            }
            return self.answer(Answer::Erased(request, Ok(())));
        }
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
