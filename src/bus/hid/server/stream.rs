//! One attached device: its events to the peer, the peer's LEDs, sounds and effects to it.

use core::future::poll_fn;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use nix::errno::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::debug;

use super::jobs::{Done, Job, Jobs};
use super::{Opened, internal};
use crate::bus::hid::hardware::{InputDevice, InputPort};
use crate::bus::hid::op::{
    Configure, Configured, EVENT, MAX_EVENTS, StartPar, decode_events, encode_events,
};
use crate::bus::hid::state::State;
use crate::bus::hid::timebase::Timebase;
use crate::bus::{Answer, End, Inbound, MAX_AGE_SECS, Outlet, Refused};
use crate::kernel::clock::mono;
use crate::kernel::evdev::codes::{
    EV_FF, EV_LED, EV_REP, EV_SND, EV_SYN, FF_AUTOCENTER, FF_GAIN, REP_DELAY, REP_PERIOD,
    SYN_DROPPED,
};
use crate::kernel::evdev::{Codes, Description, Effect, Event};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// Longest packet that is passed on. A device with the most slots that we take, each with every
/// axis changed, stays below it.
const MAX_PACKET: usize = MAX_EVENTS;
/// How old a unit of the peer's events may be that moves something, in microseconds.
const MAX_AGE_US: u64 = MAX_AGE_SECS as u64 * 1_000_000;
/// Most of our own events that are waited for to come back.
const MAX_ECHOES: usize = 64;

pub(super) struct Stream {
    device: Box<dyn InputDevice>,
    port: Arc<dyn InputPort>,
    outlet: Rc<dyn Outlet>,
    jobs: Jobs,
    description: Arc<Description>,
    /// As it was before the peer had it.
    found: State,
    par: StartPar,
    /// What the peer knows of the device.
    told: State,
    /// It was told how it found the device, were it only that there is nothing to tell.
    greeted: bool,
    /// The packet that is being read.
    packet: Vec<Event>,
    /// What of the device's events is passed on.
    flow: Flow,
    /// The effects that are the peer's.
    effects: BTreeSet<i16>,
    /// What was written for the peer, which the kernel tells everybody, the writer included.
    echoes: VecDeque<Event>,
    /// Answered when the device is released or taken again.
    pausing: BTreeSet<u32>,
    /// When the peer sent what it sends.
    time: Timebase,
}

/// What of the device's events is passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Everything.
    Open,
    /// The kernel dropped some: nothing until its packet ends.
    Dropped,
    /// The peer has no room: nothing until it has.
    Full,
    /// Nothing is read until it is known what state the device is in.
    Looking,
    /// The peer wants nothing.
    Paused,
}

impl Stream {
    pub(super) fn new(opened: Opened, outlet: Rc<dyn Outlet>) -> Self {
        let description = Arc::new(opened.description);
        let jobs = Jobs::start(opened.port.clone(), description.clone());
        let stream = Self {
            told: State::fresh(&description),
            greeted: false,
            device: opened.device,
            port: opened.port,
            outlet,
            jobs,
            description,
            found: opened.found,
            par: opened.par,
            packet: Vec::new(),
            flow: Flow::Open,
            effects: BTreeSet::new(),
            echoes: VecDeque::new(),
            pausing: BTreeSet::new(),
            time: Timebase::default(),
        };
        stream.jobs.add(Job::Look);
        Self {
            flow: Flow::Looking,
            ..stream
        }
    }

    pub(super) async fn run(mut self, mut inbound: UnboundedReceiver<Inbound>) -> End {
        let end = loop {
            let mut events = Vec::new();
            let readable = self.flow != Flow::Looking;
            let end = tokio::select! {
                biased;
                message = inbound.recv() => self.hear(message.unwrap_or(Inbound::Closed)),
                done = self.jobs.next() => self.done(done),
                read = poll_fn(|context| self.device.poll_events(context, &mut events)),
                    if readable => self.read(read, &events),
            };
            if let Some(end) = end {
                break end;
            }
        };
        self.leave(&end).await;
        end
    }

    /// The device is as it was found: its effects go when it is closed.
    async fn leave(self, end: &End) {
        match end {
            End::DeviceGone => self.outlet.reset(Status::ServiceUnavailable),
            End::Failed => self.outlet.reset(Status::InternalError),
            End::Refused(_) | End::Detached | End::PeerLeft => {}
        }
        self.jobs.finish().await;
        let (port, par) = (self.port, self.par);
        let before = restoring(&self.description, &self.found);
        let restore = move || {
            if par.back {
                // It may be gone.
                let _ = port.write(&before);
            }
            if par.grab {
                let _ = port.grab(false);
            }
        };
        let _ = tokio::task::spawn_blocking(restore).await;
    }

    // --- from the device ------------------------------------------------------------------------

    fn read(&mut self, read: Result<(), Errno>, events: &[Event]) -> Option<End> {
        match read {
            Ok(()) => {
                for event in events {
                    self.event(*event);
                }
                None
            }
            Err(Errno::ENODEV) => Some(End::DeviceGone),
            Err(errno) => {
                debug!(%errno, "reading an input device");
                Some(End::Failed)
            }
        }
    }

    fn event(&mut self, event: Event) {
        match self.flow {
            Flow::Open if event.kind == EV_SYN && event.code == SYN_DROPPED => {
                self.packet.clear();
                self.flow = Flow::Dropped;
            }
            Flow::Open => self.collect(event),
            Flow::Dropped if event.is_report() => self.look(),
            // What was read together with the end of a gap is older than the state that is asked for.
            Flow::Dropped | Flow::Full | Flow::Looking | Flow::Paused => {}
        }
    }

    fn collect(&mut self, event: Event) {
        let report = event.is_report();
        if !self.is_echo(&event) {
            self.packet.push(event);
        }
        if self.packet.len() > MAX_PACKET {
            self.packet.clear();
            self.flow = Flow::Dropped;
        } else if report {
            let packet = core::mem::take(&mut self.packet);
            // Nothing but echoes.
            if packet.len() > 1 {
                self.send(&packet);
            }
        }
    }

    /// Whether this is one of the peer's own events. Each comes back once.
    fn is_echo(&mut self, event: &Event) -> bool {
        if !matches!(event.kind, EV_LED | EV_SND | EV_REP | EV_FF) {
            return false;
        }
        let same = |echo: &Event| {
            (echo.kind, echo.code, echo.value) == (event.kind, event.code, event.value)
        };
        let found = self.echoes.iter().position(same);
        if let Some(at) = found {
            self.echoes.remove(at);
            self.told.apply(event);
        }
        // Effects that others play are none of the peer's business.
        found.is_some() || event.kind == EV_FF
    }

    fn send(&mut self, packet: &[Event]) {
        if self.outlet.writable(packet.len() * EVENT) {
            for event in packet {
                self.told.apply(event);
            }
            self.outlet.data(encode_events(packet), false);
        } else {
            self.flow = Flow::Full;
        }
    }

    fn look(&mut self) {
        self.packet.clear();
        self.echoes.clear();
        self.flow = Flow::Looking;
        self.jobs.add(Job::Look);
    }

    /// Tells the peer what it missed, and at the beginning that it missed nothing.
    fn looked(&mut self, state: &State) {
        if self.flow != Flow::Looking {
            return;
        }
        self.flow = Flow::Open;
        let mut difference = self.told.difference(state);
        let greeted = core::mem::replace(&mut self.greeted, true);
        if difference.is_empty() && !greeted {
            difference.push(Event::REPORT);
        }
        if !difference.is_empty() {
            let mut packet = vec![Event::new(EV_SYN, SYN_DROPPED, 0)];
            packet.extend(difference);
            self.send(&packet);
        }
    }

    // --- from the peer --------------------------------------------------------------------------

    fn hear(&mut self, message: Inbound) -> Option<End> {
        match message {
            Inbound::Request {
                corr,
                opcode,
                payload,
                age_secs,
            } => return self.request(corr, opcode, &payload, age_secs),
            Inbound::Data { payload, .. } => return self.data(&payload),
            Inbound::Event { payload, .. } => self.outlet.consume(payload.len()),
            Inbound::Writable if self.flow == Flow::Full => self.look(),
            Inbound::Cancel { .. }
            | Inbound::Response { .. }
            | Inbound::Writable
            | Inbound::Dropped { .. } => {}
            Inbound::Reset { .. } | Inbound::Closed => return Some(End::PeerLeft),
        }
        None
    }

    fn request(&mut self, corr: u32, opcode: Opcode, payload: &[u8], age: u32) -> Option<End> {
        let begun = match opcode {
            Opcode::StreamStop => {
                self.respond(corr, Ok(Vec::new()));
                return Some(End::Detached);
            }
            Opcode::StreamConfigure => self.configure(corr, payload, age),
            Opcode::StreamPause => {
                self.pause(corr);
                Ok(())
            }
            // The device is taken away from its owner's programs.
            Opcode::StreamResume if self.par.grab && age > MAX_AGE_SECS => Err(too_old()),
            Opcode::StreamResume => {
                self.resume(corr);
                Ok(())
            }
            other => Err(Refused::unsupported(format!(
                "{other} is not for input devices"
            ))),
        };
        if let Err(refused) = begun {
            self.respond(corr, Err(refused));
        }
        None
    }

    /// Begins what is to change; the answer follows.
    fn configure(&mut self, corr: u32, payload: &[u8], age: u32) -> Result<(), Refused> {
        if age > MAX_AGE_SECS {
            return Err(too_old());
        }
        let wanted = Configure::decode(payload).map_err(|error| Refused::bad(error.to_string()))?;
        match wanted {
            Configure::Grab(_) if !self.par.writes() => Err(watching()),
            Configure::Upload(_) | Configure::Erase(_) if !self.par.back => Err(watching()),
            Configure::Grab(on) => {
                self.jobs.add(Job::Grab(corr, on));
                Ok(())
            }
            Configure::Upload(effect) => self.upload(corr, effect),
            Configure::Erase(id) if !self.effects.contains(&id) => Err(no_effect()),
            Configure::Erase(id) => {
                self.jobs.add(Job::Erase(corr, id));
                Ok(())
            }
        }
    }

    fn upload(&mut self, corr: u32, effect: Effect) -> Result<(), Refused> {
        if effect.id != -1 && !self.effects.contains(&effect.id) {
            return Err(no_effect());
        }
        if !self.description.ff.has(effect.kind.to_u16()) {
            return Err(Refused::io("the device has no such effects", Errno::EINVAL));
        }
        self.jobs.add(Job::Upload(corr, effect));
        Ok(())
    }

    /// The owner has the device meanwhile, and for the peer nothing is pressed.
    fn pause(&mut self, corr: u32) {
        if self.flow == Flow::Paused {
            return self.respond(corr, Ok(Vec::new()));
        }
        let release = self.told.release();
        if !release.is_empty() {
            self.send(&release);
        }
        self.packet.clear();
        self.flow = Flow::Paused;
        if self.par.grab {
            self.pausing.insert(corr);
            self.jobs.add(Job::Grab(corr, false));
        } else {
            self.respond(corr, Ok(Vec::new()));
        }
    }

    fn resume(&mut self, corr: u32) {
        if self.flow != Flow::Paused {
            return self.respond(corr, Ok(Vec::new()));
        }
        if self.par.grab {
            self.pausing.insert(corr);
            self.jobs.add(Job::Grab(corr, true));
        } else {
            self.respond(corr, Ok(Vec::new()));
            self.look();
        }
    }

    /// LEDs, sounds, repetition, effects to play.
    fn data(&mut self, payload: &[u8]) -> Option<End> {
        let Ok(mut events) = decode_events(payload) else {
            self.outlet.reset(Status::BadRequest);
            return Some(End::PeerLeft);
        };
        let late = self.is_late(&events);
        events.retain(|event| self.may_set(event) && !(late && begins(event)));
        if events.is_empty() {
            self.outlet.consume(payload.len());
            return None;
        }
        for event in &events {
            if self.comes_back(event) {
                self.echoes.push_back(*event);
            }
        }
        let many = self.echoes.len().saturating_sub(MAX_ECHOES);
        self.echoes.drain(..many);
        events.push(Event::REPORT);
        self.jobs.add(Job::Write(events, payload.len()));
        None
    }

    /// Whether a unit was held back on its way; its end says when it was sent, by the peer's clock.
    fn is_late(&mut self, events: &[Event]) -> bool {
        let now = mono().0;
        match events.last().map(|report| report.time) {
            None | Some(0) => false,
            Some(sent) => self.time.delay(sent, now) > MAX_AGE_US,
        }
    }

    fn may_set(&self, event: &Event) -> bool {
        let has = |codes: &Codes| codes.has(event.code);
        let of = &self.description;
        let known = match event.kind {
            EV_LED => has(&of.leds) && matches!(event.value, 0 | 1),
            EV_SND => has(&of.sounds),
            EV_REP => of.repeat.is_some() && event.code <= REP_PERIOD && event.value >= 0,
            EV_FF if matches!(event.code, FF_GAIN | FF_AUTOCENTER) => {
                has(&of.ff) && (0..=0xFFFF).contains(&event.value)
            }
            EV_FF => i16::try_from(event.code).is_ok_and(|id| self.effects.contains(&id)),
            _ => false,
        };
        self.par.back && known
    }

    /// The kernel tells of a LED only when it changes: from what was written to it last, and not told
    /// yet, or from what the peer knows.
    fn comes_back(&self, event: &Event) -> bool {
        match event.kind {
            EV_LED => {
                let same = |echo: &&Event| (echo.kind, echo.code) == (event.kind, event.code);
                let last = self.echoes.iter().rev().find(same);
                let lit =
                    last.map_or_else(|| self.told.leds().has(event.code), |echo| echo.value != 0);
                lit != (event.value != 0)
            }
            EV_SND | EV_REP => true,
            _ => false,
        }
    }

    // --- what was done --------------------------------------------------------------------------

    fn done(&mut self, done: Done) -> Option<End> {
        match done {
            Done::Wrote(result, bytes) => {
                self.outlet.consume(bytes);
                if let Err(errno) = result {
                    debug!(%errno, "writing to an input device");
                }
            }
            Done::Uploaded(corr, result) => {
                let answer = result.map(|id| {
                    self.effects.insert(id);
                    Configured { effect: Some(id) }
                });
                self.configured(corr, "cannot give the device the effect", answer);
            }
            Done::Erased(corr, id, result) => {
                self.effects.remove(&id);
                let answer = result.map(|()| Configured::default());
                self.configured(corr, "cannot take the effect back", answer);
            }
            Done::Grabbed(corr, on, result) => return self.grabbed(corr, on, result),
            Done::Looked(Ok(state)) => self.looked(&state),
            Done::Looked(Err(Errno::ENODEV)) => return Some(End::DeviceGone),
            Done::Looked(Err(errno)) => {
                debug!(%errno, "asking an input device for its state");
                return Some(End::Failed);
            }
        }
        None
    }

    fn grabbed(&mut self, corr: u32, on: bool, result: Result<(), Errno>) -> Option<End> {
        if self.pausing.remove(&corr) {
            let answer = result.map_err(|errno| Refused::io("cannot take the device", errno));
            if answer.is_ok() && on {
                self.look();
            }
            self.respond(corr, answer.map(|()| Vec::new()));
            return None;
        }
        if result.is_ok() {
            self.par.grab = on;
        }
        let answer = result.map(|()| Configured::default());
        self.configured(corr, "cannot take the device", answer);
        None
    }

    fn configured(&self, corr: u32, what: &str, result: Result<Configured, Errno>) {
        let answer = result
            .map_err(|errno| Refused::io(what, errno))
            .and_then(|answer| answer.encode().map_err(|error| internal(&error)));
        self.respond(corr, answer);
    }

    fn respond(&self, corr: u32, answer: Answer) {
        match answer {
            Ok(payload) if payload.is_empty() => {
                self.outlet.respond(corr, Status::Ok, vec![0x80]);
            }
            Ok(payload) => self.outlet.respond(corr, Status::Ok, payload),
            Err(refused) => self.outlet.respond(corr, refused.status, refused.payload()),
        }
    }
}

/// Whether this makes the device do something: effects and sounds, unlike settings and their end.
fn begins(event: &Event) -> bool {
    let sets = event.kind == EV_FF && matches!(event.code, FF_GAIN | FF_AUTOCENTER);
    matches!(event.kind, EV_FF | EV_SND) && !sets && event.value != 0
}

fn too_old() -> Refused {
    let text = "the request was too long on its way";
    Refused::new(Status::Forbidden, sub::TOO_OLD, text)
}

fn watching() -> Refused {
    Refused::new(
        Status::Forbidden,
        sub::ACL,
        "the device was opened to be watched",
    )
}

fn no_effect() -> Refused {
    Refused::io("the effect is not of this stream", Errno::EACCES)
}

/// LEDs, sounds and repetition as they were found.
fn restoring(description: &Description, found: &State) -> Vec<Event> {
    let led = |code| Event::new(EV_LED, code, i32::from(found.leds().has(code)));
    let quiet = |code| Event::new(EV_SND, code, 0);
    let mut events: Vec<Event> = description.leds.iter().map(led).collect();
    events.extend(description.sounds.iter().map(quiet));
    for (code, value) in [REP_DELAY, REP_PERIOD]
        .into_iter()
        .zip(description.repeat.into_iter().flatten())
    {
        events.push(Event::new(EV_REP, code, i32::try_from(value).unwrap_or(0)));
    }
    events.push(Event::REPORT);
    events
}
