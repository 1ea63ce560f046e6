//! A DS2490, the chip of the DS9490R adapter between USB and a 1-Wire bus (its data sheet;
//! drivers/w1/masters/ds2490.c): what Linux's driver uses of it, for a bus that is somewhere else.
//!
//! The driver speaks slot by slot, and each of its commands is over before the next. What is behind this
//! may be far away, so [`line`] understands what is said and asks for as little as possible of it.
//!
//! Nothing of a bus ever stalls here: of a read that failed the driver makes zeros, whose CRC is right,
//! and a thermometer would be at 0 degrees. A bus that does not answer reads as ones, as an empty one does.

mod line;
#[cfg(test)]
mod tests;

use core::future::{Future, pending, ready};
use core::pin::Pin;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::description::{Endpoint, Setting};
use super::{Adapter, Description, Fault, Setup, Transfer};
use crate::bus::onewire::op::{Rom, Select};
use crate::bus::usb::op::Speed;
use crate::kernel::usbfs::TransferType;
use line::Line;

/// idVendor and idProduct.
pub const ID: (u16, u16) = (0x04FA, 0x2490);

/// The endpoints: status, data to the bus, data from it.
const STATUS: u8 = 0x81;
const DATA_OUT: u8 = 0x02;
const DATA_IN: u8 = 0x83;

/// bRequest of the vendor's control requests.
const CONTROL_CMD: u8 = 0;
const COMM_CMD: u8 = 1;
const MODE_CMD: u8 = 2;

/// Control commands.
const RESET_DEVICE: u16 = 0x00;
const FLUSH_COMM_CMDS: u16 = 0x07;
const FLUSH_RCV_BUFFER: u16 = 0x08;
const FLUSH_XMT_BUFFER: u16 = 0x09;

/// Communication commands, without the bits that say how, and those bits.
const COMMAND: u16 = 0x00F6;
const SET_DURATION: u16 = 0x0012;
const BIT_IO: u16 = 0x0020;
const ONE_WIRE_RESET: u16 = 0x0042;
const BYTE_IO: u16 = 0x0052;
const BLOCK_IO: u16 = 0x0074;
const SEARCH_ACCESS: u16 = 0x00F4;
const BIT_VALUE: u16 = 0x0008;
const STRONG_PULLUP: u16 = 0x1000;

/// What a search looks for.
const SEARCH_ALL: u8 = 0xF0;
const SEARCH_ALARM: u8 = 0xEC;

/// The chip's buffers, in bytes. Linux's driver reads blocks in pieces of so many and writes them whole,
/// so the one to the bus is longer here.
const FIFO: usize = 128;
const MAX_WRITTEN: usize = 4096;
/// Commands that may wait, more than a driver ever sends without looking at the status.
const MAX_COMMANDS: usize = 64;
/// Status: nothing is under way; the chip has power of its own.
const IDLE: u8 = 0x20;
const POWERED: u8 = 0x08;
/// How long a look at the status waits for the end of what is under way. The driver gives one up after a
/// second, and everything after a hundred.
const PATIENCE: Duration = Duration::from_millis(500);
/// A strong pull-up is counted in sixteens of milliseconds.
const PULLUP_UNIT_MS: u32 = 16;

/// An answer of a bus on its way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Errno>>>>;

/// A bus that is somewhere else.
pub trait OnewireBus {
    /// Finds its devices, or those with an alarm.
    fn search(&self, alarm: bool) -> Answer<Vec<Rom>>;

    /// Does all of that, if possible with nothing else of the bus in between; what was read.
    fn run(&self, transaction: Transaction) -> Answer<Vec<u8>>;
}

/// What happens on the bus before the bytes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Reset and address.
    Select(Select),
    /// Reset alone: the bytes begin with a ROM command.
    Reset,
    /// Nothing: the one before goes on.
    GoOn,
}

/// Bytes written, then bytes read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// What comes first.
    pub begin: Begin,
    /// Is written.
    pub write: Vec<u8>,
    /// How many bytes are read then.
    pub read: usize,
    /// Milliseconds of strong pull-up after the last written byte; 0 for none.
    pub pullup_ms: u32,
}

/// The chip.
pub struct Ds2490 {
    description: Description,
    state: RefCell<State>,
    commands: UnboundedSender<(u64, Command)>,
    /// Something has ended.
    changed: Notify,
    used: Cell<bool>,
}

#[derive(Default)]
struct State {
    /// Counts resets of the chip: what was begun before one does not count after it.
    life: u64,
    to_bus: VecDeque<u8>,
    from_bus: VecDeque<u8>,
    /// What is in `from_bus` comes of a search, which is not over before all of it is.
    searching: bool,
    waiting: usize,
    pullup_ms: u32,
    /// As the last modes were set; the status shows them.
    modes: [u8; 8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Reset,
    Bit(bool),
    Bytes { slots: Vec<u8>, pullup_ms: u32 },
    Search { alarm: bool, limit: usize },
}

impl Ds2490 {
    /// Such a chip with that bus: maker, name and serial number, and what does the work. Must be called
    /// inside a `LocalSet`.
    pub fn new(strings: [String; 3], bus: Rc<dyn OnewireBus>) -> Rc<Self> {
        let (commands, ordered) = unbounded_channel();
        let chip = Rc::new(Self {
            description: description(strings),
            state: RefCell::default(),
            commands,
            changed: Notify::new(),
            used: Cell::new(false),
        });
        let worker = Worker {
            chip: Rc::downgrade(&chip),
            bus,
            line: Line::default(),
        };
        spawn_local(worker.work(ordered));
        chip
    }

    /// Whether a driver has begun to use it.
    pub fn is_used(&self) -> bool {
        self.used.get()
    }

    fn control_command(&self, value: u16) -> Result<(), Fault> {
        let mut state = self.state.borrow_mut();
        match value {
            RESET_DEVICE => state.begin_anew(),
            FLUSH_RCV_BUFFER => state.from_bus.clear(),
            FLUSH_XMT_BUFFER => state.to_bus.clear(),
            // Commands begin at once here, and none can be halted.
            0x01..=0x04 | FLUSH_COMM_CMDS => {}
            _ => return Err(Fault::Stall),
        }
        drop(state);
        self.used.set(true);
        self.changed.notify_waiters();
        Ok(())
    }

    fn communicate(&self, value: u16, index: u16) -> Result<(), Fault> {
        let [low, high] = index.to_le_bytes();
        let mut state = self.state.borrow_mut();
        let pullup_ms = if value & STRONG_PULLUP == 0 {
            0
        } else {
            state.pullup_ms
        };
        let command = match value & COMMAND {
            SET_DURATION => {
                // The other duration is that of a programming pulse.
                if value & BIT_VALUE == 0 {
                    state.pullup_ms = u32::from(low) * PULLUP_UNIT_MS;
                }
                return Ok(());
            }
            ONE_WIRE_RESET => Command::Reset,
            BIT_IO => Command::Bit(value & BIT_VALUE != 0),
            BYTE_IO => Command::Bytes {
                slots: vec![low],
                pullup_ms,
            },
            BLOCK_IO => {
                let length = usize::from(index);
                if length > state.to_bus.len() {
                    return Err(Fault::Stall);
                }
                let slots = state.to_bus.drain(..length).collect();
                Command::Bytes { slots, pullup_ms }
            }
            SEARCH_ACCESS => {
                // Where to begin stands in the buffer: at the beginning, since all are told at once.
                state.to_bus.clear();
                let alarm = match low {
                    SEARCH_ALL => false,
                    SEARCH_ALARM => true,
                    _ => return Err(Fault::Stall),
                };
                // The driver has no room for more than that; 0 is its word for more than 255.
                let limit = if high == 0 { 256 } else { usize::from(high) };
                Command::Search { alarm, limit }
            }
            _ => return Err(Fault::Stall),
        };
        if state.waiting >= MAX_COMMANDS {
            return Err(Fault::Stall);
        }
        state.searching = false;
        state.waiting += 1;
        // The worker lives as long as this.
        let _ = self.commands.send((state.life, command));
        Ok(())
    }

    async fn status(self: Rc<Self>, length: usize) -> Result<Vec<u8>, Fault> {
        let changed = self.changed.notified();
        if self.state.borrow().waiting > 0 {
            let _ = timeout(PATIENCE, self.settled(changed)).await;
        }
        let mut status = self.state.borrow().status().to_vec();
        status.truncate(length);
        Ok(status)
    }

    async fn settled(&self, mut changed: tokio::sync::futures::Notified<'_>) {
        loop {
            changed.await;
            changed = self.changed.notified();
            if self.state.borrow().waiting == 0 {
                return;
            }
        }
    }

    async fn data(self: Rc<Self>, length: usize) -> Result<Vec<u8>, Fault> {
        loop {
            let changed = self.changed.notified();
            let received = self.state.borrow_mut().received(length);
            if !received.is_empty() {
                return Ok(received);
            }
            if self.state.borrow().waiting == 0 {
                // Nothing will come; the driver gives it up.
                return pending().await;
            }
            changed.await;
        }
    }

    /// What came of a command that was given in that life of the chip.
    fn done(&self, life: u64, data: &[u8], searching: bool) {
        let mut state = self.state.borrow_mut();
        if state.life == life {
            state.waiting = state.waiting.saturating_sub(1);
            state.from_bus.extend(data);
            state.searching = searching;
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    fn begin_anew(&mut self) {
        *self = Self {
            life: self.life + 1,
            ..Self::default()
        };
    }

    /// At most so many bytes of what came from the bus.
    fn received(&mut self, length: usize) -> Vec<u8> {
        let length = length.min(self.from_bus.len());
        self.from_bus.drain(..length).collect()
    }

    /// The status packet (data sheet, "device status").
    fn status(&self) -> [u8; 16] {
        let is_idle = self.waiting == 0 && !(self.searching && self.from_bus.len() > FIFO);
        let fill = |length: usize| u8::try_from(length.min(FIFO)).unwrap_or(0);
        let [enable, speed, pullup, program, slew, write_1, sample, _] = self.modes;
        let status = POWERED | if is_idle { IDLE } else { 0 };
        let (out, received) = (fill(self.to_bus.len()), fill(self.from_bus.len()));
        let modes = [enable, speed, pullup, program, slew, write_1, sample, 0];
        let mut packet = [0; 16];
        let rest = [status, 0, 0, fill(self.waiting), out, received, 0, 0];
        packet[..8].copy_from_slice(&modes);
        packet[8..].copy_from_slice(&rest);
        packet
    }
}

impl Adapter for Ds2490 {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reset(&self) {
        self.state.borrow_mut().begin_anew();
        self.changed.notify_waiters();
    }

    fn control(self: Rc<Self>, setup: Setup, _: Vec<u8>) -> Transfer {
        let result = match (setup.request_type, setup.request) {
            (0x40, CONTROL_CMD) => self.control_command(setup.value),
            (0x40, COMM_CMD) => self.communicate(setup.value, setup.index),
            (0x40, MODE_CMD) => {
                let [value, _] = setup.index.to_le_bytes();
                let mut state = self.state.borrow_mut();
                let mode = state.modes.get_mut(usize::from(setup.value));
                mode.map(|mode| *mode = value).ok_or(Fault::Stall)
            }
            _ => Err(Fault::Stall),
        };
        Box::pin(ready(result.map(|()| Vec::new())))
    }

    fn read(self: Rc<Self>, endpoint: u8, length: usize) -> Transfer {
        match endpoint {
            STATUS => Box::pin(self.status(length)),
            DATA_IN => Box::pin(self.data(length)),
            _ => Box::pin(ready(Err(Fault::Stall))),
        }
    }

    fn write(self: Rc<Self>, endpoint: u8, data: Vec<u8>) -> Transfer {
        let mut state = self.state.borrow_mut();
        let fits = endpoint == DATA_OUT && state.to_bus.len() + data.len() <= MAX_WRITTEN;
        if fits {
            state.to_bus.extend(data);
        }
        let result = if fits {
            Ok(Vec::new())
        } else {
            Err(Fault::Stall)
        };
        Box::pin(ready(result))
    }
}

/// Does one command after the other.
struct Worker {
    chip: std::rc::Weak<Ds2490>,
    bus: Rc<dyn OnewireBus>,
    line: Line,
}

impl Worker {
    async fn work(mut self, mut ordered: UnboundedReceiver<(u64, Command)>) {
        let mut now = 0;
        while let Some((life, command)) = ordered.recv().await {
            if now != life {
                now = life;
                self.line = Line::default();
            }
            let searching = matches!(command, Command::Search { .. });
            let data = self.perform(command).await;
            let Some(chip) = self.chip.upgrade() else {
                return;
            };
            chip.done(life, &data, searching);
        }
    }

    async fn perform(&mut self, command: Command) -> Vec<u8> {
        match command {
            Command::Reset => {
                self.line.reset(&*self.bus).await;
                Vec::new()
            }
            Command::Bit(bit) => {
                let bit = self.line.bit(&*self.bus, bit).await;
                vec![u8::from(bit)]
            }
            Command::Bytes { slots, pullup_ms } => {
                self.line.bytes(&*self.bus, &slots, pullup_ms).await
            }
            Command::Search { alarm, limit } => {
                let mut found = self.line.search(&*self.bus, alarm).await;
                found.truncate(limit);
                found.iter().flat_map(|rom| rom.0).collect()
            }
        }
    }
}

fn description(strings: [String; 3]) -> Description {
    let endpoint = |address, kind, max_packet, interval| Endpoint {
        address,
        kind,
        max_packet,
        interval,
    };
    // The settings differ by how often the status is polled, and by the size of packets.
    let setting = |(alternate, interval, packet)| Setting {
        interface: 0,
        alternate,
        class: [0xFF, 0, 0],
        endpoints: vec![
            endpoint(STATUS, TransferType::Interrupt, 32, interval),
            endpoint(DATA_OUT, TransferType::Bulk, packet, 0),
            endpoint(DATA_IN, TransferType::Bulk, packet, 0),
        ],
    };
    let settings = [(0, 10, 16), (1, 10, 64), (2, 1, 16), (3, 1, 64)];
    Description {
        vendor: ID.0,
        product: ID.1,
        release: 0x0100,
        speed: Speed::Full,
        class: [0xFF, 0, 0],
        strings,
        settings: settings.map(setting).to_vec(),
    }
}
