//! A wire with chips on it, bit for bit as far as starts, bytes, acknowledges and stops go.

use std::collections::BTreeMap;

use nix::errno::Errno;

use crate::bus::i2c::op::{Action, MAX_BLOCK, Message, MessageFlags};

/// A chip on the wire.
pub trait Chip: Send {
    /// A start, or a repeated one, with this chip's address; false does not acknowledge.
    fn start(&mut self, read: bool) -> bool;
    /// A byte for it; false does not acknowledge.
    fn write(&mut self, byte: u8) -> bool;
    /// A byte of it.
    fn read(&mut self) -> u8;
    /// The transaction has ended, or it is no longer for this chip.
    fn stop(&mut self) {}
}

/// A wire. Messages are begun and ended as an adapter is told to, so that one that lets something in
/// between, or a stop where none belongs, is found out by the chips.
#[derive(Default)]
pub struct Wire {
    chips: BTreeMap<u16, Box<dyn Chip>>,
    /// The chips that were addressed since the last stop.
    addressed: Vec<u16>,
    open: bool,
    interleaved: usize,
}

impl Wire {
    /// There is this chip at that address.
    pub fn attach(&mut self, addr: u16, chip: Box<dyn Chip>) {
        self.chips.insert(addr, chip);
    }

    /// How often a transaction began before the one before it had ended.
    pub const fn interleaved(&self) -> usize {
        self.interleaved
    }

    /// One transaction; what each reading message brought.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub fn transfer(&mut self, messages: &[Message]) -> Result<Vec<Vec<u8>>, Errno> {
        let last = messages.len().saturating_sub(1);
        let mut reads = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let read = self.message(message, index == 0, index == last)?;
            if matches!(message.action, Action::Read(_)) {
                reads.push(read);
            }
        }
        Ok(reads)
    }

    /// One message; `begin` when it begins a transaction, `end` when a stop follows.
    ///
    /// # Errors
    /// `ENXIO` when no chip answers, `EREMOTEIO` when one does not take a byte; a stop follows then.
    pub fn message(&mut self, message: &Message, begin: bool, end: bool) -> Result<Vec<u8>, Errno> {
        if begin && self.open {
            self.interleaved += 1;
        }
        self.open = true;
        let done = self.perform(message);
        if end || done.is_err() || message.flags.contains(MessageFlags::STOP) {
            self.stop();
        }
        done
    }

    fn perform(&mut self, message: &Message) -> Result<Vec<u8>, Errno> {
        let forgiving = message.flags.contains(MessageFlags::IGNORE_NAK);
        let Some(chip) = self.chips.get_mut(&message.addr) else {
            return match &message.action {
                Action::Write(_) if forgiving => Ok(Vec::new()),
                // Nobody pulls the wire down.
                Action::Read(len) if forgiving => Ok(vec![0xFF; usize::from(*len)]),
                Action::Write(_) | Action::Read(_) => Err(Errno::ENXIO),
            };
        };
        if !message.flags.contains(MessageFlags::NO_START) {
            self.addressed.push(message.addr);
            let read = matches!(message.action, Action::Read(_))
                != message.flags.contains(MessageFlags::REVERSED);
            if !chip.start(read) && !forgiving {
                return Err(Errno::ENXIO);
            }
        }
        match &message.action {
            Action::Write(data) => {
                for byte in data {
                    if !chip.write(*byte) && !forgiving {
                        return Err(Errno::EREMOTEIO);
                    }
                }
                Ok(Vec::new())
            }
            Action::Read(len) => {
                let mut data: Vec<u8> = (0..*len).map(|_| chip.read()).collect();
                if message.flags.contains(MessageFlags::RECV_LEN) {
                    let block = data.first().copied().map_or(0, usize::from);
                    if !(1..=MAX_BLOCK).contains(&block) {
                        return Err(Errno::EPROTO);
                    }
                    data.extend((0..block).map(|_| chip.read()));
                }
                Ok(data)
            }
        }
    }

    fn stop(&mut self) {
        self.open = false;
        for addr in std::mem::take(&mut self.addressed) {
            if let Some(chip) = self.chips.get_mut(&addr) {
                chip.stop();
            }
        }
    }
}
