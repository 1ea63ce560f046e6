//! An input device without hardware, and devices that no kernel has, for tests.
//!
//! [`FakeInput`] behaves as evdev does: it keeps the state of what [`FakeInput::events`] says, tells
//! a LED's change to everybody who reads, the writer included, and can drop events as a full buffer
//! does. [`FakeMaker`] keeps what was made and lets a test play the programs that use it.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::hardware::{InputDevice, InputHost, InputPort, Made, Maker, Making, Opening};
use crate::kernel::evdev::codes::{
    ABS_MT_FIRST, ABS_MT_LAST, ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_ABS, EV_KEY, EV_LED, EV_SW,
    EV_SYN, SYN_DROPPED,
};
use crate::kernel::evdev::{Description, Effect, Event, Snapshot};
use crate::kernel::uinput::Wish;

/// A fake device of the owner. Clones are the same device.
#[derive(Clone, Default)]
pub struct FakeInput {
    shared: Arc<Mutex<Input>>,
}

#[derive(Default)]
struct Input {
    description: Description,
    snapshot: Snapshot,
    slot: usize,
    queue: VecDeque<Event>,
    waker: Option<Waker>,
    gone: bool,
    grabbed: bool,
    /// The other programs that have it open.
    programs: Vec<String>,
    /// One of them has taken it.
    taken: bool,
    written: Vec<Event>,
    effects: BTreeMap<i16, Effect>,
    next: i16,
    looks: usize,
}

impl FakeInput {
    /// A device that can do this, in its first state.
    pub fn new(description: Description) -> Self {
        let mut snapshot = Snapshot::default();
        let slots = description.slots();
        for (code, axis) in &description.abs {
            if (ABS_MT_FIRST..=ABS_MT_LAST).contains(code) && slots > 0 {
                let empty = if *code == ABS_MT_TRACKING_ID { -1 } else { 0 };
                snapshot.contacts.push((*code, vec![empty; slots]));
            } else {
                snapshot.abs.push((*code, axis.value));
            }
        }
        let fake = Self::default();
        *fake.lock() = Input {
            description,
            snapshot,
            // Not from 0, so that nobody mistakes one number for another.
            next: 10,
            ..Input::default()
        };
        fake
    }

    fn lock(&self) -> MutexGuard<'_, Input> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device does this.
    pub fn events(&self, events: &[Event]) {
        let mut input = self.lock();
        for event in events {
            input.happen(*event);
        }
        input.wake();
    }

    /// The device does this, and nobody read it in time.
    pub fn overrun(&self, events: &[Event]) {
        let mut input = self.lock();
        for event in events {
            input.happen(*event);
        }
        input.queue.clear();
        input.queue.push_back(Event::new(EV_SYN, SYN_DROPPED, 0));
        input.queue.push_back(Event::REPORT);
        input.wake();
    }

    /// Another device is plugged in instead.
    pub fn replace(&self, description: Description) {
        self.lock().description = description;
    }

    /// It is unplugged.
    pub fn unplug(&self) {
        let mut input = self.lock();
        input.gone = true;
        input.wake();
    }

    /// One of these programs of the owner takes it; all of them have it open.
    pub fn take(&self, programs: &[&str]) {
        let mut input = self.lock();
        input.programs = programs.iter().map(|&name| name.to_owned()).collect();
        input.taken = true;
    }

    /// Whether it was taken away from its owner's machine.
    pub fn grabbed(&self) -> bool {
        self.lock().grabbed
    }

    /// What was handed to it, without the ends of packets.
    pub fn written(&self) -> Vec<Event> {
        let input = self.lock();
        let all = input.written.iter().copied();
        all.filter(|event| !event.is_report()).collect()
    }

    /// The effects that it holds.
    pub fn effects(&self) -> Vec<Effect> {
        self.lock().effects.values().copied().collect()
    }

    /// How often it was asked for its state.
    pub fn looks(&self) -> usize {
        self.lock().looks
    }

    /// What state it is in.
    pub fn state(&self) -> Snapshot {
        self.lock().snapshot.clone()
    }
}

impl Input {
    fn happen(&mut self, event: Event) {
        let on = event.value != 0;
        match event.kind {
            EV_KEY => self.snapshot.keys.set(event.code, on),
            EV_SW => self.snapshot.switches.set(event.code, on),
            EV_LED => self.snapshot.leds.set(event.code, on),
            EV_ABS => self.axis(event),
            _ => {}
        }
        self.queue.push_back(event);
    }

    fn axis(&mut self, event: Event) {
        if event.code == ABS_MT_SLOT {
            self.slot = usize::try_from(event.value).unwrap_or(0);
        }
        let contacts = &mut self.snapshot.contacts;
        if let Some((_, values)) = contacts.iter_mut().find(|(code, _)| *code == event.code)
            && let Some(value) = values.get_mut(self.slot)
        {
            *value = event.value;
        }
        let abs = &mut self.snapshot.abs;
        if let Some((_, value)) = abs.iter_mut().find(|(code, _)| *code == event.code) {
            *value = event.value;
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn there(&self) -> Result<(), Errno> {
        if self.gone {
            Err(Errno::ENODEV)
        } else {
            Ok(())
        }
    }
}

impl InputHost for FakeInput {
    fn open<'a>(&'a self, _: &str) -> Opening<'a> {
        Box::pin(async move {
            let mut input = self.lock();
            input.there().map_err(io::Error::from)?;
            // Who opens a device is not told what it did before.
            input.queue.clear();
            drop(input);
            let device: Box<dyn InputDevice> = Box::new(Open(self.clone()));
            Ok(device)
        })
    }
}

/// An open device.
struct Open(FakeInput);

impl Drop for Open {
    /// The kernel takes back the effects of who closes it.
    fn drop(&mut self) {
        self.0.lock().effects.clear();
    }
}

impl InputDevice for Open {
    fn poll_events(
        &self,
        context: &mut Context<'_>,
        events: &mut Vec<Event>,
    ) -> Poll<Result<(), Errno>> {
        let mut input = self.0.lock();
        if let Err(errno) = input.there() {
            return Poll::Ready(Err(errno));
        }
        if input.queue.is_empty() {
            input.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        events.extend(input.queue.drain(..));
        Poll::Ready(Ok(()))
    }

    fn port(&self) -> Arc<dyn InputPort> {
        Arc::new(self.0.clone())
    }
}

impl InputPort for FakeInput {
    fn description(&self) -> Result<Description, Errno> {
        let input = self.lock();
        input.there()?;
        Ok(input.description.clone())
    }

    fn snapshot(&self, _: &Description) -> Result<Snapshot, Errno> {
        let mut input = self.lock();
        input.there()?;
        input.looks += 1;
        // The kernel forgets what the answer says.
        input
            .queue
            .retain(|event| !matches!(event.kind, EV_KEY | EV_SW | EV_LED));
        Ok(input.snapshot.clone())
    }

    fn grab(&self, on: bool) -> Result<(), Errno> {
        let mut input = self.lock();
        input.there()?;
        if on && (input.taken || input.grabbed) {
            return Err(Errno::EBUSY);
        }
        input.grabbed = on;
        Ok(())
    }

    fn programs(&self) -> Vec<String> {
        self.lock().programs.clone()
    }

    fn write(&self, events: &[Event]) -> Result<(), Errno> {
        let mut input = self.lock();
        input.there()?;
        for event in events {
            input.written.push(*event);
            let lit = input.snapshot.leds.has(event.code);
            if event.kind == EV_LED && lit == (event.value != 0) {
                continue;
            }
            input.happen(*event);
        }
        input.wake();
        Ok(())
    }

    fn upload(&self, effect: Effect) -> Result<i16, Errno> {
        let mut input = self.lock();
        input.there()?;
        let id = match effect.id {
            -1 if input.effects.len() >= input.description.effects as usize => {
                return Err(Errno::ENOSPC);
            }
            -1 => {
                input.next += 1;
                input.next
            }
            id if input.effects.contains_key(&id) => id,
            _ => return Err(Errno::EINVAL),
        };
        input.effects.insert(id, Effect { id, ..effect });
        Ok(id)
    }

    fn erase(&self, id: i16) -> Result<(), Errno> {
        let mut input = self.lock();
        input.there()?;
        input.effects.remove(&id).map(drop).ok_or(Errno::EINVAL)
    }
}

/// An answer that uinput was given, by the number of its question.
pub type Answered = (u32, Result<(), Errno>);

/// A kernel that makes one device. Clones are the same.
#[derive(Clone, Default)]
pub struct FakeMaker {
    shared: Arc<Mutex<Output>>,
}

#[derive(Default)]
struct Output {
    made: Option<(Description, String)>,
    refuses: Option<Errno>,
    events: Vec<Event>,
    wishes: VecDeque<Wish>,
    waker: Option<Waker>,
    answers: Vec<Answered>,
    /// How many events had come when it was removed.
    removed: Option<usize>,
}

impl FakeMaker {
    /// A kernel that makes whatever is described.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It makes nothing.
    pub fn refuse(&self, errno: Errno) {
        self.lock().refuses = Some(errno);
    }

    /// What was made, and its place in the machine.
    pub fn made(&self) -> Option<(Description, String)> {
        self.lock().made.clone()
    }

    /// What the device did.
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// A program wants something of the device.
    pub fn wish(&self, wish: Wish) {
        let mut output = self.lock();
        output.wishes.push_back(wish);
        if let Some(waker) = output.waker.take() {
            waker.wake();
        }
    }

    /// The answers to what programs wanted.
    pub fn answers(&self) -> Vec<Answered> {
        self.lock().answers.clone()
    }

    /// Whether it is gone again.
    pub fn removed(&self) -> bool {
        self.lock().removed.is_some()
    }
}

impl Maker for FakeMaker {
    fn make(&self, of: Description, phys: String) -> Making<'_> {
        Box::pin(async move {
            let mut output = self.lock();
            if let Some(errno) = output.refuses {
                return Err(errno.into());
            }
            output.made = Some((of, phys));
            let made: Box<dyn Made> = Box::new(self.clone());
            Ok(made)
        })
    }
}

impl Made for FakeMaker {
    fn node(&self) -> String {
        "/dev/input/event99".to_owned()
    }

    fn poll_wishes(
        &self,
        context: &mut Context<'_>,
        wishes: &mut Vec<Wish>,
    ) -> Poll<Result<(), Errno>> {
        let mut output = self.lock();
        if output.wishes.is_empty() {
            output.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        wishes.extend(output.wishes.drain(..));
        Poll::Ready(Ok(()))
    }

    /// As uinput does, it asks its owner to set a LED that was set, too.
    fn write(&self, events: &[Event]) -> Result<(), Errno> {
        let mut output = self.lock();
        if output.removed.is_some() {
            return Err(Errno::ENODEV);
        }
        for event in events {
            if event.kind == EV_LED {
                output.wishes.push_back(Wish::Event(*event));
            }
            output.events.push(*event);
        }
        if let Some(waker) = output.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn uploaded(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno> {
        self.lock().answers.push((request, result));
        Ok(())
    }

    fn erased(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno> {
        self.lock().answers.push((request, result));
        Ok(())
    }

    fn remove(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>> {
        let mut output = self.lock();
        output.removed = Some(output.events.len());
        drop(output);
        Box::pin(core::future::ready(()))
    }
}
