//! What the fake device is and what it does with a transfer.

use core::task::Waker;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nix::errno::Errno;

use super::iso::Iso;
use crate::bus::usb::descriptor::{Descriptors, Endpoint};
use crate::kernel::usbfs::{Completion, SETUP_LEN, Transfer, TransferType};

/// Everything the device says of itself: configuration 1 with the interfaces 0 and 1, the latter
/// with three settings, and configuration 2 with one interface.
#[rustfmt::skip]
pub const DESCRIPTORS: &[u8] = &[
    18, 1, 0x00, 0x02, 0, 0, 0, 64, 0x6b, 0x1d, 0x04, 0x01, 0x00, 0x01, 1, 2, 3, 2,
    9, 2, 108, 0, 2, 1, 0, 0x80, 50,
        9, 4, 0, 0, 6, 0xff, 0, 0, 0,
            7, 5, 0x01, 2, 0, 2, 0,   7, 5, 0x81, 2, 0, 2, 0,
            7, 5, 0x02, 2, 0, 2, 0,   7, 5, 0x82, 2, 0, 2, 0,
            7, 5, 0x03, 3, 8, 0, 4,   7, 5, 0x83, 3, 8, 0, 4,
        9, 4, 1, 0, 0, 0x07, 1, 2, 0,
        9, 4, 1, 1, 1, 0x07, 1, 2, 0,
            7, 5, 0x84, 2, 0, 2, 0,
        9, 4, 1, 2, 2, 0x07, 1, 2, 0,
            7, 5, 0x06, 1, 192, 0, 4,   7, 5, 0x86, 1, 0, 0x14, 1,
    9, 2, 25, 0, 1, 2, 0, 0x80, 50,
        9, 4, 0, 0, 1, 0xff, 0, 0, 0,
            7, 5, 0x05, 2, 0, 2, 0,
];

/// Where the configurations stand in it.
const CONFIGURATIONS: [core::ops::Range<usize>; 2] = [18..126, 126..151];

/// Linux errno as URB statuses.
const UNLINKED: i32 = -2;
const STALL: i32 = -32;
const OVERFLOW: i32 = -75;
const SHUT_DOWN: i32 = -108;
const SHORT: i32 = -121;
/// wMaxPacketSize of the bulk endpoints.
const BULK_PACKET: usize = 512;

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

/// How a transfer ended.
pub(super) struct Outcome {
    status: i32,
    /// IN: what was received.
    received: Vec<u8>,
    /// OUT: bytes that were sent.
    sent: usize,
}

impl Outcome {
    /// With that status and nothing moved; packets of isochronous transfers speak for themselves.
    pub(super) const fn ended(status: i32) -> Self {
        Self {
            status,
            received: Vec::new(),
            sent: 0,
        }
    }

    fn received(received: Vec<u8>) -> Self {
        Self {
            received,
            ..Self::ended(0)
        }
    }

    fn sent(sent: usize) -> Self {
        Self {
            sent,
            ..Self::ended(0)
        }
    }
}

pub(super) struct State {
    pub(super) configuration: u8,
    pub(super) claimed: BTreeSet<u8>,
    pub(super) driven: BTreeSet<u8>,
    pub(super) foreign: BTreeSet<u8>,
    pub(super) contested: BTreeSet<u8>,
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
    pub(super) iso: Iso,
    /// How the next transfers of an endpoint end: their status, and how many bytes they move.
    pub(super) endings: BTreeMap<u8, VecDeque<(i32, usize)>>,
    /// Empty packets that ended a transfer of whole ones.
    pub(super) zero_packets: usize,
    pub(super) starving: usize,
    /// Submissions that fail: how many pass before, and the error.
    pub(super) refusals: VecDeque<(usize, Errno)>,
    /// usbfs's memory in bytes, and what each transfer has of it until it is taken back.
    pub(super) budget: Option<usize>,
    charged: BTreeMap<u64, usize>,
    pub(super) refuse_open: Option<Errno>,
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
            contested: BTreeSet::new(),
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
            iso: Iso::default(),
            endings: BTreeMap::new(),
            zero_packets: 0,
            starving: 0,
            refusals: VecDeque::new(),
            budget: None,
            charged: BTreeMap::new(),
            refuse_open: None,
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
        Some(self.endpoint(endpoint)?.0)
    }

    /// An endpoint of the current settings, and its interface.
    fn endpoint(&self, address: u8) -> Option<(u8, Endpoint)> {
        let device = Descriptors::parse(DESCRIPTORS).ok()?;
        let configuration = device.configuration(self.configuration)?;
        configuration
            .interfaces()
            .into_iter()
            .find_map(|interface| {
                let alternate = self.alternates.get(&interface).copied().unwrap_or(0);
                let setting = configuration.setting(interface, alternate)?;
                Some((interface, *setting.endpoint(address)?))
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
        match self.refusals.front_mut() {
            Some((0, errno)) => {
                let errno = *errno;
                self.refusals.pop_front();
                return Err(errno);
            }
            Some((before, _)) => *before -= 1,
            None => {}
        }
        self.check(&transfer)?;
        self.charge(&transfer)?;
        self.queues
            .entry(transfer.endpoint)
            .or_default()
            .push_back(transfer);
        self.settle();
        Ok(())
    }

    /// What usbfs would say to a transfer.
    fn check(&mut self, transfer: &Transfer) -> Result<(), Errno> {
        let iso = transfer.kind == TransferType::Isochronous;
        if !iso && !transfer.packets.is_empty() {
            self.complain("packets of a transfer that is not isochronous".to_owned());
            return Err(Errno::EINVAL);
        }
        if transfer.kind == TransferType::Control {
            return match *transfer.buffer {
                // Requests to an interface that are no vendor's.
                [0x01 | 0x21 | 0x81 | 0xa1, _, _, _, owner, ..] => self.use_interface(owner),
                _ => Ok(()),
            };
        }
        let (owner, endpoint) = self.endpoint(transfer.endpoint).ok_or(Errno::ENOENT)?;
        self.use_interface(owner)?;
        if endpoint.kind != transfer.kind {
            let (kind, address) = (transfer.kind, transfer.endpoint);
            self.complain(format!("a transfer of type {kind:?} on 0x{address:02x}"));
            return Err(Errno::EINVAL);
        }
        if iso {
            self.check_packets(transfer, endpoint)?;
        }
        Ok(())
    }

    /// Takes a transfer's memory out of the budget.
    fn charge(&mut self, transfer: &Transfer) -> Result<(), Errno> {
        let packets: usize = transfer.packets.iter().map(|p| p.length as usize).sum();
        let bytes = transfer.buffer.len().max(packets).max(transfer.receive);
        let used: usize = self.charged.values().sum();
        if self.budget.is_some_and(|budget| used + bytes > budget) {
            return Err(Errno::ENOMEM);
        }
        self.charged.insert(transfer.key, bytes);
        Ok(())
    }

    pub(super) fn reap(&mut self) -> Result<Option<Completion>, Errno> {
        if self.waiting > 0 {
            self.complain("a reaping waits for another call".to_owned());
        }
        match self.finished.pop_front() {
            Some(completion) => {
                self.charged.remove(&completion.key);
                Ok(Some(completion))
            }
            None if self.gone => Err(Errno::ENODEV),
            None => Ok(None),
        }
    }

    pub(super) fn discard(&mut self, key: u64) -> Result<(), Errno> {
        for queue in self.queues.values_mut() {
            if let Some(at) = queue.iter().position(|transfer| transfer.key == key)
                && let Some(transfer) = queue.remove(at)
            {
                self.finish(transfer, Outcome::ended(UNLINKED));
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
        // The last first, as destroy_async() and usb_hcd_flush_endpoint() do.
        let queue = self.queues.remove(&endpoint).unwrap_or_default();
        for transfer in queue.into_iter().rev() {
            self.finish(transfer, Outcome::ended(status));
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
        let settings = if (interface, self.configuration) == (1, 1) {
            0..=2
        } else {
            0..=0
        };
        if !settings.contains(&alternate) {
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
        if transfer.kind == TransferType::Isochronous {
            // There is no handshake on these endpoints, so they cannot stall.
            return self.move_packets(transfer);
        }
        if self.halted.contains(&transfer.endpoint) {
            return Some(Outcome::ended(STALL));
        }
        let room = transfer.receive;
        let endings = self.endings.entry(transfer.endpoint).or_default();
        if let Some((status, bytes)) = endings.pop_front() {
            return Some(Outcome {
                status,
                received: vec![0xee; bytes.min(room)],
                sent: bytes.min(transfer.buffer.len()),
            });
        }
        match (transfer.kind, transfer.endpoint) {
            (TransferType::Control, _) => {
                let (setup, data) = transfer.buffer.split_first_chunk::<SETUP_LEN>()?;
                let Some(mut answer) = self.answer(*setup, data) else {
                    return Some(Outcome::ended(STALL));
                };
                answer.truncate(room);
                Some(Outcome {
                    sent: data.len(),
                    ..Outcome::received(answer)
                })
            }
            (_, 0x01) => {
                self.looped.extend(&transfer.buffer);
                Some(Outcome::sent(transfer.buffer.len()))
            }
            (_, 0x81) if self.looped.is_empty() => None,
            (_, 0x81) => {
                let data = self.looped.drain(..room.min(self.looped.len())).collect();
                Some(Outcome::received(data))
            }
            (_, 0x83) => {
                let mut report = self.reports.pop_front()?;
                let status = if report.len() > room { OVERFLOW } else { 0 };
                report.truncate(room);
                Some(Outcome {
                    status,
                    ..Outcome::received(report)
                })
            }
            (_, endpoint @ 0x80..) => Some(Outcome::received(self.count(endpoint, room))),
            (_, endpoint) => {
                let whole = !transfer.buffer.is_empty()
                    && transfer.buffer.len().is_multiple_of(BULK_PACKET);
                self.zero_packets += usize::from(transfer.zero_packet && whole);
                let written = self.written.entry(endpoint).or_default();
                written.extend_from_slice(&transfer.buffer);
                Some(Outcome::sent(transfer.buffer.len()))
            }
        }
    }

    /// The next bytes of an endpoint that counts.
    pub(super) fn count(&mut self, endpoint: u8, bytes: usize) -> Vec<u8> {
        let counter = self.counters.entry(endpoint).or_default();
        let next = core::iter::repeat_with(|| {
            *counter = counter.wrapping_add(1);
            counter.wrapping_sub(1)
        });
        next.take(bytes).collect()
    }

    /// What endpoint 0 answers; `None` is a stall.
    pub(super) fn answer(&mut self, setup: [u8; SETUP_LEN], data: &[u8]) -> Option<Vec<u8>> {
        match setup {
            [0x80, 6, 0, 1, ..] => Some(DESCRIPTORS.get(..18)?.to_vec()),
            [0x80, 6, index, 2, ..] => {
                let range = CONFIGURATIONS.get(usize::from(index))?.clone();
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

    fn finish(&mut self, transfer: Transfer, outcome: Outcome) {
        let Outcome {
            mut status,
            mut received,
            mut sent,
        } = outcome;
        let control = transfer.kind == TransferType::Control;
        let setup = if control { SETUP_LEN } else { 0 };
        let direction = if control {
            transfer.buffer.first().copied().unwrap_or(0)
        } else {
            transfer.endpoint
        };
        let incoming = direction & 0x80 != 0;
        let mut packets = Vec::new();
        if transfer.kind == TransferType::Isochronous {
            (packets, received) = self.packets_of(&transfer);
            sent = packets.iter().map(|packet| packet.actual as usize).sum();
        } else if incoming
            && transfer.short_not_ok
            && status == 0
            && received.len() < transfer.receive
        {
            status = SHORT;
        }
        let mut buffer = transfer.buffer;
        let actual = if incoming { received.len() } else { sent };
        if incoming {
            buffer.truncate(setup);
            buffer.extend_from_slice(&received);
        }
        self.finished.push_back(Completion {
            key: transfer.key,
            status,
            actual,
            buffer,
            setup,
            packets,
            start_frame: 0,
        });
        self.tell();
    }
}
