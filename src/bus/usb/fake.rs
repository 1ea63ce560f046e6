//! A USB device without hardware, for tests: it behaves towards the server half as usbfs does,
//! including what usbfs complains about, and does on command what real devices do at bad moments.
//!
//! | endpoint | |
//! |---|---|
//! | 0x01, 0x81 | bulk: what is written can be read back |
//! | 0x02 | bulk: takes everything |
//! | 0x82 | bulk: counts 0, 1, 2, … |
//! | 0x03 | interrupt: takes everything |
//! | 0x83 | interrupt: what [`Fake::interrupt`] says |
//! | 0x84 | bulk, only in alternate setting 1 of interface 1: counts |
//! | 0x05 | bulk, only in configuration 2: takes everything |

mod host;
mod state;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

pub use host::FakeHost;
pub use state::{Act, DESCRIPTORS};

use state::State;

/// A fake device. Clones are the same device.
#[derive(Clone, Default)]
pub struct Fake {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

impl Fake {
    /// A device with its kernel drivers, in configuration 1.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something on the interrupt endpoint 0x83, once for each call.
    pub fn interrupt(&self, report: &[u8]) {
        let mut state = self.state();
        state.reports.push_back(report.to_vec());
        state.settle();
    }

    /// Halts an endpoint until the halt is cleared: transfers on it stall.
    pub fn halt(&self, endpoint: u8) {
        let mut state = self.state();
        state.halted.insert(endpoint);
        state.settle();
    }

    /// Lets nothing finish on an endpoint.
    pub fn pause(&self, endpoint: u8) {
        self.state().paused.insert(endpoint);
    }

    /// The opposite of [`Fake::pause`].
    pub fn resume(&self, endpoint: u8) {
        let mut state = self.state();
        state.paused.remove(&endpoint);
        state.settle();
    }

    /// Resets the device as another program of its owner does: whoever has claimed interfaces loses
    /// them to the kernel drivers.
    pub fn reset_by_other(&self) {
        self.state().reset_by_other();
    }

    /// Pulls the plug.
    pub fn unplug(&self) {
        self.state().unplug();
        self.shared.released.notify_all();
    }

    /// Makes every call that may wait do so, until [`Fake::let_calls_go`].
    pub fn hold_calls(&self) {
        self.state().hold_calls = true;
    }

    /// The opposite of [`Fake::hold_calls`].
    pub fn let_calls_go(&self) {
        self.state().hold_calls = false;
        self.shared.released.notify_all();
    }

    /// Makes the next call of that kind fail.
    pub fn fail_next(&self, act: Act, errno: Errno) {
        self.state().failures.push((act, errno));
    }

    /// Makes that many submissions fail for want of memory.
    pub fn starve(&self, submissions: usize) {
        self.state().starving = submissions;
    }

    /// Gives an interface to another program.
    pub fn give_to_program(&self, interface: u8) {
        self.state().foreign.insert(interface);
    }

    /// What was done to the device through calls that may wait, in order.
    pub fn acts(&self) -> Vec<Act> {
        self.state().acts.clone()
    }

    /// Calls that are waiting now.
    pub fn waiting_calls(&self) -> usize {
        self.state().waiting
    }

    /// Everything that the kernel would have complained about, and every call that would have
    /// made the data thread wait.
    pub fn complaints(&self) -> Vec<String> {
        self.state().complaints.clone()
    }

    /// Interfaces that have their kernel driver.
    pub fn driven(&self) -> Vec<u8> {
        self.state().driven.iter().copied().collect()
    }

    /// Interfaces that are claimed.
    pub fn claimed(&self) -> Vec<u8> {
        self.state().claimed.iter().copied().collect()
    }

    /// Transfers that have not finished.
    pub fn in_flight(&self) -> usize {
        self.state()
            .queues
            .values()
            .map(std::collections::VecDeque::len)
            .sum()
    }

    /// bConfigurationValue of the active configuration.
    pub fn configuration(&self) -> u8 {
        self.state().configuration
    }

    /// Everything that was written to an endpoint that takes everything.
    pub fn written(&self, endpoint: u8) -> Vec<u8> {
        self.state()
            .written
            .get(&endpoint)
            .cloned()
            .unwrap_or_default()
    }

    /// A call that may wait: waits while it is told to, then does its work.
    fn call<T>(
        &self,
        act: Act,
        work: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.state();
        state.acts.push(act);
        state.waiting += 1;
        while state.hold_calls && !state.gone {
            state = self
                .shared
                .released
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        if state.gone {
            return Err(Errno::ENODEV);
        }
        if let Some(at) = state.failures.iter().position(|(which, _)| *which == act) {
            return Err(state.failures.remove(at).1);
        }
        let result = work(&mut state);
        state.settle();
        result
    }

    fn is_gone(&self) -> io::Result<()> {
        if self.state().gone {
            return Err(io::Error::from(Errno::ENODEV));
        }
        Ok(())
    }
}
