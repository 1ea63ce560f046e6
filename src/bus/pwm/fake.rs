//! PWM chips for the tests of both halves.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::enumerate;
use super::hardware::{PwmChannel, PwmHost, State};
use super::server::{self, Holder};
use crate::bus::fake::{FakeSession, OPENING};
use crate::bus::{Grant, Present, Refused};

/// A machine with one chip, `pwmchip0`. Clones are the same machine.
#[derive(Clone, Default)]
pub struct FakePwm {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    channels: u32,
    exported: BTreeMap<u32, State>,
    fail: Option<Errno>,
    gone: bool,
}

impl FakePwm {
    /// A machine whose chip has so many channels.
    pub fn new(channels: u32) -> Self {
        let fake = Self::default();
        fake.inner().channels = channels;
        fake
    }

    /// What a channel does; `None` while nobody has taken it.
    pub fn state(&self, channel: u32) -> Option<State> {
        self.inner().exported.get(&channel).copied()
    }

    /// Another program takes a channel.
    pub fn occupy(&self, channel: u32) {
        self.inner().exported.insert(channel, State::default());
    }

    /// The next call that changes something fails so.
    pub fn fail(&self, errno: Errno) {
        self.inner().fail = Some(errno);
    }

    /// The chip is pulled out.
    pub fn unplug(&self) {
        self.inner().gone = true;
    }

    /// The chip as a device.
    pub fn present(&self) -> Present {
        enumerate::device("pwmchip0".to_owned(), self.inner().channels, None)
    }

    /// A session with the server half of this machine, whose peer may do everything. To be used in a
    /// `LocalSet`.
    pub fn session(&self) -> Rc<FakeSession> {
        self.session_with(&Arc::new(Holder::default()))
    }

    /// [`Self::session`] with a holder that other sessions have too.
    pub fn session_with(&self, holder: &Arc<Holder>) -> Rc<FakeSession> {
        let (machine, holder) = (self.clone(), Arc::clone(holder));
        FakeSession::new(
            move |opened| {
                let grant = Grant {
                    corr: OPENING,
                    opcode: opened.opcode,
                    payload: opened.payload,
                    present: machine.present(),
                    write: true,
                    quiet: true,
                };
                let host = Arc::new(machine.clone());
                let holder = Arc::clone(&holder);
                tokio::task::spawn_local(server::serve(host, holder, grant, opened.stream));
            },
            |opcode, _| Err(Refused::unsupported(format!("{opcode} is no PWM call"))),
        )
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PwmHost for FakePwm {
    fn channels(&self, _: &str) -> Result<u32, Errno> {
        let inner = self.inner();
        if inner.gone {
            Err(Errno::ENOENT)
        } else {
            Ok(inner.channels)
        }
    }

    fn open(&self, _: &str, channel: u32, ours: bool) -> Result<Box<dyn PwmChannel>, Errno> {
        let mut inner = self.inner();
        match inner.exported.get(&channel) {
            Some(_) if !ours => return Err(Errno::EBUSY),
            Some(_) => {}
            None => {
                inner.exported.insert(channel, State::default());
            }
        }
        drop(inner);
        Ok(Box::new(FakeChannel {
            machine: self.clone(),
            channel,
        }))
    }
}

struct FakeChannel {
    machine: FakePwm,
    channel: u32,
}

impl FakeChannel {
    fn change(&self, change: impl FnOnce(&mut State) -> Result<(), Errno>) -> Result<(), Errno> {
        let mut inner = self.machine.inner();
        if inner.gone {
            return Err(Errno::ENODEV);
        }
        inner.fail.take().map_or(Ok(()), Err)?;
        change(inner.exported.get_mut(&self.channel).ok_or(Errno::ENOENT)?)
    }
}

impl PwmChannel for FakeChannel {
    fn configure(&self, period_ns: u64, inversed: bool) -> Result<(), Errno> {
        self.change(|state| {
            *state = State {
                period_ns,
                inversed,
                ..State::default()
            };
            Ok(())
        })
    }

    fn run(&self, duty_ns: u64) -> Result<(), Errno> {
        self.change(|state| {
            if duty_ns > state.period_ns {
                return Err(Errno::EINVAL);
            }
            (state.duty_ns, state.on) = (duty_ns, true);
            Ok(())
        })
    }

    fn stop(&self) -> Result<(), Errno> {
        self.change(|state| {
            state.on = false;
            Ok(())
        })
    }

    fn state(&self) -> Result<State, Errno> {
        self.machine.state(self.channel).ok_or(Errno::ENOENT)
    }

    fn unexport(&self) -> Result<(), Errno> {
        self.machine.inner().exported.remove(&self.channel);
        Ok(())
    }
}
