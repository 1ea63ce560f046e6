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
//! | 0x06 | isochronous, only in alternate setting 2 of interface 1: takes up to 192 bytes in each packet |
//! | 0x86 | isochronous, only there: counts, up to 3072 bytes in each packet |
//!
//! Transfers finish at once, in order on every endpoint, except where [`Fake::pause`] holds them or
//! [`Fake::pace`] lets isochronous packets move only when [`Fake::tick`] says so. Each transfer
//! ends well unless [`Fake::halt`] or [`Fake::end_next`], for packets [`Fake::plan_packet`], says
//! otherwise.

mod host;
mod iso;
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

    /// Ends the next transfer of an endpoint that is not isochronous with that status, after it
    /// moved so many bytes at most (received ones are 0xee).
    pub fn end_next(&self, endpoint: u8, status: i32, bytes: usize) {
        let mut state = self.state();
        let endings = state.endings.entry(endpoint).or_default();
        endings.push_back((status, bytes));
        state.settle();
    }

    /// Says what becomes of the next isochronous packet of an endpoint for which it was not said
    /// yet: how many bytes it moves at most, and its status.
    pub fn plan_packet(&self, endpoint: u8, bytes: u32, status: i32) {
        let mut state = self.state();
        let plans = state.iso.plans.entry(endpoint).or_default();
        plans.push_back((bytes, status));
    }

    /// Lets an isochronous endpoint move packets only by [`Fake::tick`].
    pub fn pace(&self, endpoint: u8) {
        self.state().iso.paced.insert(endpoint);
    }

    /// Lets that many intervals of a paced endpoint pass, each with one packet, and returns in how
    /// many of them a packet was there to be moved: the others are gaps in the stream.
    pub fn tick(&self, endpoint: u8, intervals: usize) -> usize {
        let mut state = self.state();
        state.iso.ticks.insert(endpoint, intervals);
        state.settle();
        intervals - state.iso.ticks.remove(&endpoint).unwrap_or(0)
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

    /// Makes one submission fail, after so many others passed.
    pub fn refuse_submission(&self, after: usize, errno: Errno) {
        self.state().refusals.push_back((after, errno));
    }

    /// Gives usbfs so many bytes for the data of all transfers that were not taken back yet.
    pub fn limit_memory(&self, bytes: usize) {
        self.state().budget = Some(bytes);
    }

    /// Makes opening the device fail.
    pub fn refuse_open(&self, errno: Errno) {
        self.state().refuse_open = Some(errno);
    }

    /// Gives an interface to another program.
    pub fn give_to_program(&self, interface: u8) {
        let mut state = self.state();
        state.foreign.insert(interface);
        if state.claimed.remove(&interface) {
            state.unlink_interface(interface);
            state.alternates.remove(&interface);
        }
    }

    /// Has a kernel driver take an interface back from then on, as soon as it was taken from it.
    pub fn contest(&self, interface: u8) {
        self.state().contested.insert(interface);
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

    /// Empty packets that ended a write of whole ones.
    pub fn zero_packets(&self) -> usize {
        self.state().zero_packets
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
