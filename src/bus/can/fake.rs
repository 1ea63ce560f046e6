//! CAN interfaces without a kernel, for tests: they behave as `SocketCAN` does, with buses that join
//! controllers, virtual interfaces, and what goes wrong on command.

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::hardware::{CanHost, CanPort, Settings};
use crate::kernel::can::{
    BusState, Controller, Filter, Frame, Kind, Link, MTU_CLASSIC, MTU_FD, Options, Received, Timing,
};

/// A machine's interfaces. Clones are the same machine.
#[derive(Clone, Default)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    links: Vec<FakeLink>,
    sockets: Vec<Socket>,
    next: u32,
    next_wire: u32,
    clock: u64,
    /// No virtual interface is made, for that reason.
    unmade: Option<Errno>,
}

struct FakeLink {
    link: Link,
    /// Interfaces with the same one hear each other.
    wire: Option<u32>,
    /// Sockets wait before they send.
    held: bool,
    /// What the next sends end with.
    failures: VecDeque<Errno>,
    /// Everything that was set of it.
    settings: Vec<Settings>,
    /// The next configuration fails so.
    refuses: Option<Errno>,
}

struct Socket {
    key: u32,
    index: u32,
    options: Options,
    filters: Vec<Filter>,
    frames: VecDeque<Received>,
    error: Option<Errno>,
    overflow: u32,
    readers: Option<Waker>,
    writers: Option<Waker>,
}

impl FakeHost {
    /// A machine without interfaces.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A real classic interface at the bus of that number, up when its bit rate is set.
    pub fn add_controller(&self, name: &str, bus: u32, bitrate: u32) {
        let controller = Controller {
            timing: Timing {
                bitrate,
                sample_point: 875,
            },
            data: Timing::default(),
            modes: 0,
            state: BusState::Active,
            errors: Some((0, 0)),
            restart_ms: 0,
            restarts: 0,
            bus_offs: 0,
        };
        let mut state = self.state();
        state.next_wire = state.next_wire.max(bus);
        state.add(name, "can", MTU_CLASSIC, Some(bus));
        state.last(|link| {
            link.up = bitrate > 0;
            link.controller = Some(controller);
        });
    }

    /// A vcan that is up.
    pub fn add_virtual(&self, name: &str, alias: &str) {
        let mut state = self.state();
        state.add(name, "vcan", MTU_FD, None);
        state.last(|link| {
            link.up = true;
            alias.clone_into(&mut link.alias);
        });
    }

    /// Changes what the kernel says of an interface.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.state().named(name) {
            change(&mut link.link);
        }
    }

    /// Takes a device away.
    pub fn unplug(&self, name: &str) {
        let mut state = self.state();
        if let Some(index) = state.named(name).map(|link| link.link.index) {
            state.remove(index);
        }
    }

    /// Lets nothing be sent there, as a bus without another node does, until [`FakeHost::release`].
    pub fn hold(&self, name: &str) {
        if let Some(link) = self.state().named(name) {
            link.held = true;
        }
    }

    /// The opposite of [`FakeHost::hold`].
    pub fn release(&self, name: &str) {
        let mut state = self.state();
        if let Some(link) = state.named(name) {
            link.held = false;
        }
        state.wake_writers();
    }

    /// The next frame that is sent there is not, for that reason.
    pub fn fail_send(&self, name: &str, errno: Errno) {
        if let Some(link) = self.state().named(name) {
            link.failures.push_back(errno);
        }
    }

    /// The next configuration fails so.
    pub fn refuse_settings(&self, name: &str, errno: Errno) {
        if let Some(link) = self.state().named(name) {
            link.refuses = Some(errno);
        }
    }

    /// No virtual interface can be made.
    pub fn refuse_making(&self, errno: Errno) {
        self.state().unmade = Some(errno);
    }

    /// Everything that was set of a controller, in order.
    pub fn settings(&self, name: &str) -> Vec<Settings> {
        let mut state = self.state();
        let link = state.named(name);
        link.map(|link| link.settings.clone()).unwrap_or_default()
    }

    /// The sockets of an interface had no room for so many frames.
    pub fn overflow(&self, name: &str, frames: u32) {
        let mut state = self.state();
        let index = state.named(name).map(|link| link.link.index);
        for socket in &mut state.sockets {
            if Some(socket.index) == index {
                socket.overflow = socket.overflow.wrapping_add(frames);
            }
        }
    }

    /// An error frame of a controller.
    pub fn error_frame(&self, name: &str, frame: Frame) {
        let mut state = self.state();
        if let Some(index) = state.named(name).map(|link| link.link.index) {
            state.deliver(index, frame, None, false);
        }
    }

    /// How many sockets of an interface are open.
    pub fn open_sockets(&self, name: &str) -> usize {
        let mut state = self.state();
        let index = state.named(name).map(|link| link.link.index);
        let sockets = state.sockets.iter();
        sockets.filter(|socket| Some(socket.index) == index).count()
    }

    /// A program that has an interface open, for all frames.
    ///
    /// # Errors
    /// `ENODEV`.
    pub fn program(&self, name: &str) -> io::Result<Program> {
        let index = self.find(name)?.index;
        let options = Options {
            own: false,
            errors: true,
        };
        Ok(Program(self.socket(index, options)))
    }

    fn socket(&self, index: u32, options: Options) -> FakePort {
        let mut state = self.state();
        state.next += 1;
        let key = state.next;
        state.sockets.push(Socket {
            key,
            index,
            options,
            filters: vec![[0, 0]],
            frames: VecDeque::new(),
            error: None,
            overflow: 0,
            readers: None,
            writers: None,
        });
        drop(state);
        FakePort {
            host: self.clone(),
            key,
        }
    }

    fn with<T>(
        &self,
        index: u32,
        act: impl FnOnce(&mut FakeLink) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let link = state.links.iter_mut().find(|link| link.link.index == index);
        act(link.ok_or(Errno::ENODEV)?)
    }
}

impl State {
    fn add(&mut self, name: &str, kind: &str, mtu: u32, wire: Option<u32>) {
        self.next += 1;
        self.links.push(FakeLink {
            link: Link {
                index: self.next,
                name: name.to_owned(),
                up: false,
                mtu,
                alias: String::new(),
                kind: kind.to_owned(),
                controller: None,
            },
            wire,
            held: false,
            failures: VecDeque::new(),
            settings: Vec::new(),
            refuses: None,
        });
    }

    fn last(&mut self, change: impl FnOnce(&mut Link)) {
        if let Some(last) = self.links.last_mut() {
            change(&mut last.link);
        }
    }

    fn named(&mut self, name: &str) -> Option<&mut FakeLink> {
        self.links.iter_mut().find(|link| link.link.name == name)
    }

    fn remove(&mut self, index: u32) {
        self.links.retain(|link| link.link.index != index);
        for socket in &mut self.sockets {
            if socket.index == index {
                socket.error = Some(Errno::ENODEV);
                socket.readers.take().into_iter().for_each(Waker::wake);
            }
        }
        self.wake_writers();
    }

    fn wake_writers(&mut self) {
        for socket in &mut self.sockets {
            socket.writers.take().into_iter().for_each(Waker::wake);
        }
    }

    fn deliver(&mut self, index: u32, frame: Frame, sender: Option<u32>, local: bool) {
        self.clock += 1;
        for socket in &mut self.sockets {
            let own = Some(socket.key) == sender;
            let passes = |[id, mask]: &Filter| frame.id() & mask == id & mask;
            let wanted = if frame.is_error() {
                socket.options.errors
            } else {
                socket.filters.iter().any(passes)
            };
            if socket.index != index || !wanted || (own && !socket.options.own) {
                continue;
            }
            socket.frames.push_back(Received {
                frame,
                time_us: self.clock,
                own,
                local,
                overflow: socket.overflow,
            });
            socket.readers.take().into_iter().for_each(Waker::wake);
        }
    }

    fn send(&mut self, key: u32, frame: &Frame) -> Poll<Result<(), Errno>> {
        let socket = self.sockets.iter().find(|socket| socket.key == key);
        let index = socket.map(|socket| socket.index);
        let link = self.links.iter_mut();
        let Some(link) = { link }.find(|link| Some(link.link.index) == index) else {
            return Poll::Ready(Err(Errno::ENODEV));
        };
        if let Some(errno) = link.failures.pop_front() {
            return Poll::Ready(Err(errno));
        }
        if !link.link.up {
            return Poll::Ready(Err(Errno::ENETDOWN));
        }
        if frame.is_fd() && !link.link.is_fd() {
            return Poll::Ready(Err(Errno::EINVAL));
        }
        if link.held {
            return Poll::Pending;
        }
        let (index, wire) = (link.link.index, link.wire);
        self.deliver(index, *frame, Some(key), true);
        let joined = |link: &&FakeLink| {
            wire.is_some() && link.wire == wire && link.link.index != index && link.link.up
        };
        let others: Vec<u32> = self
            .links
            .iter()
            .filter(joined)
            .map(|l| l.link.index)
            .collect();
        for other in others {
            self.deliver(other, *frame, None, false);
        }
        Poll::Ready(Ok(()))
    }
}

impl CanHost for FakeHost {
    fn list(&self) -> io::Result<Vec<Link>> {
        let links = |link: &FakeLink| link.link.clone();
        Ok(self.state().links.iter().map(links).collect())
    }

    fn find(&self, name: &str) -> io::Result<Link> {
        let mut state = self.state();
        let link = state.named(name).ok_or(Errno::ENODEV)?;
        Ok(link.link.clone())
    }

    fn create(&self, name: &str, kind: &Kind, mtu: u32) -> io::Result<()> {
        let mut state = self.state();
        if let Some(errno) = state.unmade {
            return Err(errno.into());
        }
        if state.named(name).is_some() {
            return Err(Errno::EEXIST.into());
        }
        match kind {
            Kind::Vcan => state.add(name, "vcan", mtu, None),
            Kind::Vxcan(peer) => {
                state.next_wire += 1;
                let wire = Some(state.next_wire);
                state.add(name, "vxcan", mtu, wire);
                state.add(peer, "vxcan", mtu, wire);
            }
        }
        Ok(())
    }

    fn delete(&self, index: u32) -> io::Result<()> {
        let wire = self.with(index, |link| match link.link.kind.as_str() {
            "can" => Err(Errno::EOPNOTSUPP.into()),
            _ => Ok(link.wire),
        })?;
        let mut state = self.state();
        let both =
            |link: &&FakeLink| link.link.index == index || (wire.is_some() && link.wire == wire);
        let both: Vec<u32> = state
            .links
            .iter()
            .filter(both)
            .map(|l| l.link.index)
            .collect();
        for index in both {
            state.remove(index);
        }
        Ok(())
    }

    fn set_alias(&self, index: u32, alias: &str) -> io::Result<()> {
        self.with(index, |link| {
            alias.clone_into(&mut link.link.alias);
            Ok(())
        })
    }

    fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        self.with(index, |link| {
            let unset = |controller: &Controller| controller.timing.bitrate == 0;
            if up && link.link.controller.as_ref().is_some_and(unset) {
                return Err(Errno::EINVAL.into());
            }
            if let Some(controller) = link.link.controller.as_mut()
                && up != link.link.up
            {
                controller.state = if up {
                    BusState::Active
                } else {
                    BusState::Stopped
                };
            }
            link.link.up = up;
            Ok(())
        })
    }

    fn configure(&self, index: u32, settings: &Settings) -> io::Result<()> {
        self.with(index, |link| {
            if link.link.up {
                return Err(Errno::EBUSY.into());
            }
            if let Some(errno) = link.refuses.take() {
                return Err(errno.into());
            }
            let controller = link.link.controller.as_mut().ok_or(Errno::EOPNOTSUPP)?;
            controller.timing = settings.timing;
            controller.data = settings.data.unwrap_or_default();
            controller.modes = controller.modes & !settings.mask | settings.modes & settings.mask;
            link.settings.push(*settings);
            Ok(())
        })
    }

    fn open(&self, index: u32, options: Options) -> io::Result<Box<dyn CanPort>> {
        self.with(index, |_| Ok(()))?;
        Ok(Box::new(self.socket(index, options)))
    }
}

/// A socket.
struct FakePort {
    host: FakeHost,
    key: u32,
}

impl FakePort {
    fn with<T>(&self, act: impl FnOnce(&mut Socket) -> T) -> Option<T> {
        let mut state = self.host.state();
        let mut sockets = state.sockets.iter_mut();
        sockets.find(|socket| socket.key == self.key).map(act)
    }
}

impl Drop for FakePort {
    fn drop(&mut self) {
        let mut state = self.host.state();
        state.sockets.retain(|socket| socket.key != self.key);
    }
}

impl CanPort for FakePort {
    fn set_filters(&self, filters: &[Filter]) -> io::Result<()> {
        self.with(|socket| socket.filters = filters.to_vec());
        Ok(())
    }

    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        frames: &mut Vec<Received>,
    ) -> Poll<Result<(), Errno>> {
        let read = self.with(|socket| {
            if let Some(errno) = socket.error.take() {
                return Poll::Ready(Err(errno));
            }
            if socket.frames.is_empty() {
                socket.readers = Some(context.waker().clone());
                return Poll::Pending;
            }
            frames.extend(socket.frames.drain(..));
            Poll::Ready(Ok(()))
        });
        read.unwrap_or(Poll::Pending)
    }

    fn poll_send(&self, context: &mut Context<'_>, frame: &Frame) -> Poll<Result<(), Errno>> {
        self.with(|socket| socket.writers = Some(context.waker().clone()));
        self.host.state().send(self.key, frame)
    }
}

/// A program that uses an interface.
pub struct Program(FakePort);

impl Program {
    /// Sends a frame; it waits as the interface makes it wait.
    ///
    /// # Errors
    /// As [`crate::kernel::can::CanSocket::poll_send`].
    pub async fn send(&self, frame: Frame) -> Result<(), Errno> {
        poll_fn(|context| self.0.poll_send(context, &frame)).await
    }

    /// The next frames, at least one.
    ///
    /// # Errors
    /// As [`crate::kernel::can::CanSocket::poll_receive`].
    pub async fn receive(&self) -> Result<Vec<Received>, Errno> {
        let mut frames = Vec::new();
        poll_fn(|context| self.0.poll_receive(context, &mut frames)).await?;
        Ok(frames)
    }

    /// The frames that have arrived.
    pub fn arrived(&self) -> Vec<Frame> {
        let frames = self
            .0
            .with(|socket| socket.frames.drain(..).map(|r| r.frame).collect());
        frames.unwrap_or_default()
    }
}
