//! What the fake device is and what it does with a transfer.

use core::task::Waker;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nix::errno::Errno;

use crate::bus::usb::descriptor::Descriptors;
use crate::kernel::usbfs::{Completion, SETUP_LEN, Transfer, TransferType};

/// Everything the device says of itself: configuration 1 with the interfaces 0 and 1, the latter
/// with two settings, and configuration 2 with one interface.
#[rustfmt::skip]
pub const DESCRIPTORS: &[u8] = &[
    18, 1, 0x00, 0x02, 0, 0, 0, 64, 0x6b, 0x1d, 0x04, 0x01, 0x00, 0x01, 1, 2, 3, 2,
    9, 2, 85, 0, 2, 1, 0, 0x80, 50,
        9, 4, 0, 0, 6, 0xff, 0, 0, 0,
            7, 5, 0x01, 2, 0, 2, 0,   7, 5, 0x81, 2, 0, 2, 0,
            7, 5, 0x02, 2, 0, 2, 0,   7, 5, 0x82, 2, 0, 2, 0,
            7, 5, 0x03, 3, 8, 0, 4,   7, 5, 0x83, 3, 8, 0, 4,
        9, 4, 1, 0, 0, 0x07, 1, 2, 0,
        9, 4, 1, 1, 1, 0x07, 1, 2, 0,
            7, 5, 0x84, 2, 0, 2, 0,
    9, 2, 25, 0, 1, 2, 0, 0x80, 50,
        9, 4, 0, 0, 1, 0xff, 0, 0, 0,
            7, 5, 0x05, 2, 0, 2, 0,
];

/// Linux errno as URB statuses.
const UNLINKED: i32 = -2;
const STALL: i32 = -32;
const OVERFLOW: i32 = -75;
const SHUT_DOWN: i32 = -108;
const SHORT: i32 = -121;

/// A call that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// One control transfer.
    Control,
    /// A transfer was given up.
    Discard,
    /// An interface was taken from its driver.
    Claim(u8),
    /// An interface was given up.
    Release(u8),
    /// An interface went back to its kernel driver.
    Connect(u8),
    /// A configuration was chosen.
    SetConfiguration(u8),
    /// An alternate setting was chosen.
    SetInterface(u8, u8),
    /// A halt was ended.
    ClearHalt(u8),
    /// The device was reset.
    Reset,
}

/// How a transfer ended: its status, and for IN what was received.
type Outcome = (i32, Vec<u8>);

pub(super) struct State {
    pub(super) configuration: u8,
    pub(super) claimed: BTreeSet<u8>,
    pub(super) driven: BTreeSet<u8>,
    pub(super) foreign: BTreeSet<u8>,
    pub(super) alternates: BTreeMap<u8, u8>,
    pub(super) halted: BTreeSet<u8>,
    pub(super) paused: BTreeSet<u8>,
    pub(super) queues: BTreeMap<u8, VecDeque<Transfer>>,
    finished: VecDeque<Completion>,
    /// What vendor request 1 stores and reads.
    pub(super) memory: Vec<u8>,
    looped: VecDeque<u8>,
    counters: BTreeMap<u8, u8>,
    pub(super) reports: VecDeque<Vec<u8>>,
    pub(super) written: BTreeMap<u8, Vec<u8>>,
    pub(super) starving: usize,
    pub(super) gone: bool,
    pub(super) hold_calls: bool,
    pub(super) waiting: usize,
    pub(super) failures: Vec<(Act, Errno)>,
    pub(super) acts: Vec<Act>,
    pub(super) complaints: Vec<String>,
    pub(super) told: bool,
    pub(super) waker: Option<Waker>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            configuration: 1,
            claimed: BTreeSet::new(),
            driven: [0, 1].into(),
            foreign: BTreeSet::new(),
            alternates: BTreeMap::new(),
            halted: BTreeSet::new(),
            paused: BTreeSet::new(),
            queues: BTreeMap::new(),
            finished: VecDeque::new(),
            memory: Vec::new(),
            looped: VecDeque::new(),
            counters: BTreeMap::new(),
            reports: VecDeque::new(),
            written: BTreeMap::new(),
            starving: 0,
            gone: false,
            hold_calls: false,
            waiting: 0,
            failures: Vec::new(),
            acts: Vec::new(),
            complaints: Vec::new(),
            told: false,
            waker: None,
        }
    }
}

impl State {
    pub(super) fn complain(&mut self, text: String) {
        self.complaints.push(text);
    }

    pub(super) fn interfaces(&self) -> Vec<u8> {
        match self.configuration {
            1 => vec![0, 1],
            2 => vec![0],
            _ => Vec::new(),
        }
    }

    /// The interface whose current setting has that endpoint.
    pub(super) fn owner(&self, endpoint: u8) -> Option<u8> {
        let device = Descriptors::parse(DESCRIPTORS).ok()?;
        let configuration = device.configuration(self.configuration)?;
        configuration.interfaces().into_iter().find(|interface| {
            let alternate = self.alternates.get(interface).copied().unwrap_or(0);
            configuration
                .setting(*interface, alternate)
                .is_some_and(|setting| setting.endpoint(endpoint).is_some())
        })
    }

    pub(super) fn submit(&mut self, transfer: Transfer) -> Result<(), Errno> {
        if self.waiting > 0 {
            self.complain("a submission waits for another call".to_owned());
        }
        if self.gone {
            return Err(Errno::ENODEV);
        }
        if let Some(left) = self.starving.checked_sub(1) {
            self.starving = left;
            return Err(Errno::ENOMEM);
        }
        if transfer.kind != TransferType::Control {
            let owner = self.owner(transfer.endpoint).ok_or(Errno::ENOENT)?;
            self.use_interface(owner)?;
        } else if let [0x01 | 0x21 | 0x81 | 0xa1, _, _, _, interface, ..] = *transfer.buffer {
            self.use_interface(interface)?;
        }
        self.queues
            .entry(transfer.endpoint)
            .or_default()
            .push_back(transfer);
        self.settle();
        Ok(())
    }

    pub(super) fn reap(&mut self) -> Result<Option<Completion>, Errno> {
        if self.waiting > 0 {
            self.complain("a reaping waits for another call".to_owned());
        }
        match self.finished.pop_front() {
            None if self.gone => Err(Errno::ENODEV),
            completion => Ok(completion),
        }
    }

    pub(super) fn discard(&mut self, key: u64) -> Result<(), Errno> {
        for queue in self.queues.values_mut() {
            if let Some(at) = queue.iter().position(|transfer| transfer.key == key)
                && let Some(transfer) = queue.remove(at)
            {
                self.finish(transfer, (UNLINKED, Vec::new()));
                return Ok(());
            }
        }
        Err(Errno::EINVAL)
    }

    pub(super) fn unlink_interface(&mut self, interface: u8) {
        let endpoints: Vec<u8> = self.queues.keys().copied().collect();
        for endpoint in endpoints {
            if self.owner(endpoint) == Some(interface) {
                self.unlink(endpoint, UNLINKED);
            }
        }
    }

    fn unlink(&mut self, endpoint: u8, status: i32) {
        for transfer in self.queues.remove(&endpoint).unwrap_or_default() {
            self.finish(transfer, (status, Vec::new()));
        }
    }

    pub(super) fn set_configuration(&mut self, value: u8) -> Result<(), Errno> {
        if value > 2 {
            return Err(Errno::EINVAL);
        }
        self.alternates.clear();
        self.halted.clear();
        if value != self.configuration {
            self.configuration = value;
            // The kernel looks for drivers of the new interfaces by itself.
            self.driven = self.interfaces().into_iter().collect();
        }
        Ok(())
    }

    pub(super) fn set_interface(&mut self, interface: u8, alternate: u8) -> Result<(), Errno> {
        self.use_interface(interface)?;
        self.unlink_interface(interface);
        if alternate > u8::from(interface == 1 && self.configuration == 1) {
            return Err(Errno::EINVAL);
        }
        self.alternates.insert(interface, alternate);
        Ok(())
    }

    /// Claims an interface as usbfs does when somebody uses it without having done so.
    pub(super) fn use_interface(&mut self, interface: u8) -> Result<(), Errno> {
        if self.claimed.contains(&interface) {
            return Ok(());
        }
        self.complain(format!("interface {interface} was not claimed before use"));
        self.claim(interface)
    }

    /// Claims an interface that no driver has.
    pub(super) fn claim(&mut self, interface: u8) -> Result<(), Errno> {
        if self.gone {
            return Err(Errno::ENODEV);
        }
        if !self.interfaces().contains(&interface) {
            return Err(Errno::ENOENT);
        }
        if self.driven.contains(&interface) || self.foreign.contains(&interface) {
            return Err(Errno::EBUSY);
        }
        self.claimed.insert(interface);
        Ok(())
    }

    /// A reset that unbinds usbfs and binds the kernel drivers in its place.
    pub(super) fn reset_by_other(&mut self) {
        let endpoints: Vec<u8> = self.queues.keys().copied().collect();
        for endpoint in endpoints {
            self.unlink(endpoint, SHUT_DOWN);
        }
        self.claimed.clear();
        self.alternates.clear();
        self.halted.clear();
        self.memory.clear();
        self.driven = self.interfaces().into_iter().collect();
    }

    pub(super) fn unplug(&mut self) {
        self.gone = true;
        let endpoints: Vec<u8> = self.queues.keys().copied().collect();
        for endpoint in endpoints {
            self.unlink(endpoint, SHUT_DOWN);
        }
        self.tell();
    }

    fn tell(&mut self) {
        self.told = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Finishes what can be finished, in order on every endpoint.
    pub(super) fn settle(&mut self) {
        let endpoints: Vec<u8> = self.queues.keys().copied().collect();
        for endpoint in endpoints {
            while !self.paused.contains(&endpoint)
                && let Some(transfer) = self.queues.get_mut(&endpoint).and_then(VecDeque::pop_front)
            {
                if let Some(outcome) = self.carry_out(&transfer) {
                    self.finish(transfer, outcome);
                } else {
                    self.queues
                        .entry(endpoint)
                        .or_default()
                        .push_front(transfer);
                    break;
                }
            }
        }
    }

    /// What becomes of the first transfer of an endpoint; `None` when it has to wait.
    fn carry_out(&mut self, transfer: &Transfer) -> Option<Outcome> {
        if self.halted.contains(&transfer.endpoint) {
            return Some((STALL, Vec::new()));
        }
        let room = transfer.receive;
        match (transfer.kind, transfer.endpoint) {
            (TransferType::Control, _) => {
                let (setup, data) = transfer.buffer.split_first_chunk::<SETUP_LEN>()?;
                Some(
                    self.answer(*setup, data)
                        .map_or((STALL, Vec::new()), |mut data| {
                            data.truncate(room);
                            (0, data)
                        }),
                )
            }
            (_, 0x01) => {
                self.looped.extend(&transfer.buffer);
                Some((0, Vec::new()))
            }
            (_, 0x81) if self.looped.is_empty() => None,
            (_, 0x81) => {
                let data = self.looped.drain(..room.min(self.looped.len())).collect();
                Some((0, data))
            }
            (_, 0x83) => {
                let mut report = self.reports.pop_front()?;
                let status = if report.len() > room { OVERFLOW } else { 0 };
                report.truncate(room);
                Some((status, report))
            }
            (_, endpoint @ 0x80..) => {
                let counter = self.counters.entry(endpoint).or_default();
                let data = core::iter::repeat_with(|| {
                    *counter = counter.wrapping_add(1);
                    counter.wrapping_sub(1)
                });
                Some((0, data.take(room).collect()))
            }
            (_, endpoint) => {
                let written = self.written.entry(endpoint).or_default();
                written.extend_from_slice(&transfer.buffer);
                Some((0, Vec::new()))
            }
        }
    }

    /// What endpoint 0 answers; `None` is a stall.
    pub(super) fn answer(&mut self, setup: [u8; SETUP_LEN], data: &[u8]) -> Option<Vec<u8>> {
        match setup {
            [0x80, 6, 0, 1, ..] => Some(DESCRIPTORS.get(..18)?.to_vec()),
            [0x80, 6, index, 2, ..] => {
                let range = if index == 0 { 18..103 } else { 103..128 };
                Some(DESCRIPTORS.get(range)?.to_vec())
            }
            [0x80, 0, ..] => Some(vec![0, 0]),
            [0xa1 | 0xa2 | 0x81 | 0x82, ..] => Some(vec![7]),
            [0x40, 1, ..] => {
                self.memory = data.to_vec();
                Some(Vec::new())
            }
            [0xc0, 1, ..] => Some(self.memory.clone()),
            _ => None,
        }
    }

    fn finish(&mut self, transfer: Transfer, (mut status, received): Outcome) {
        let setup = if transfer.kind == TransferType::Control {
            SETUP_LEN
        } else {
            0
        };
        let first = transfer.buffer.first().copied().unwrap_or(0);
        let incoming = if setup == 0 {
            transfer.endpoint & 0x80 != 0
        } else {
            first & 0x80 != 0
        };
        let mut buffer = transfer.buffer;
        if incoming {
            buffer.truncate(setup);
            buffer.extend_from_slice(&received);
            if transfer.short_not_ok && status == 0 && received.len() < transfer.receive {
                status = SHORT;
            }
        }
        let moved = if incoming || status == 0 {
            buffer.len() - setup.min(buffer.len())
        } else {
            0
        };
        self.finished.push_back(Completion {
            key: transfer.key,
            status,
            actual: moved,
            buffer,
            setup,
        });
        self.tell();
    }
}
