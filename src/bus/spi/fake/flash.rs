//! A flash chip as a Winbond W25Q80BV is: 1 MiB, sectors of 4 KiB, pages of 256 bytes.

use super::Transfer;

const SIZE: usize = 1 << 20;
const SECTOR: usize = 4 << 10;
const PAGE: usize = 256;
const ID: [u8; 3] = [0xEF, 0x40, 0x14];
/// In the status register: the next command may change the memory.
const WRITABLE: u8 = 2;

/// A chip.
pub struct Flash {
    memory: Vec<u8>,
    status: u8,
    /// What was sent since it was selected.
    sent: Vec<u8>,
}

impl Default for Flash {
    fn default() -> Self {
        Self {
            memory: vec![0xFF; SIZE],
            status: 0,
            sent: Vec::new(),
        }
    }
}

impl Flash {
    /// What it holds.
    pub fn memory(&self) -> Vec<u8> {
        self.memory.clone()
    }

    /// One transfer while it is selected, and what it answers.
    pub fn transfer(&mut self, transfer: &Transfer) -> Vec<u8> {
        let mut answers = Vec::new();
        for at in 0..transfer.len() {
            answers.push(self.byte(transfer.tx.get(at).copied().unwrap_or_default()));
        }
        answers.truncate(usize::try_from(transfer.rx_len).unwrap_or_default());
        answers
    }

    fn byte(&mut self, sent: u8) -> u8 {
        let at = self.sent.len();
        self.sent.push(sent);
        let Some(command) = self.sent.first().filter(|_| at > 0) else {
            return 0xFF;
        };
        let beyond = |first: usize| at.checked_sub(first);
        let answer = match command {
            0x9F => beyond(1).and_then(|at| ID.get(at)).copied(),
            0x05 => Some(self.status),
            0x03 => beyond(4).map(|at| self.read(at)),
            0x0B => beyond(5).map(|at| self.read(at)),
            _ => None,
        };
        answer.unwrap_or(0xFF)
    }

    fn read(&self, at: usize) -> u8 {
        let place = (self.address() + at) % SIZE;
        self.memory.get(place).copied().unwrap_or(0xFF)
    }

    fn address(&self) -> usize {
        let address = self.sent.get(1..4).unwrap_or_default();
        address
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            % SIZE
    }

    /// It is no longer selected: what was commanded happens.
    pub fn deselect(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        let Some((command, arguments)) = sent.split_first() else {
            return;
        };
        match (command, arguments.len()) {
            (0x06, _) => self.status |= WRITABLE,
            (0x04, _) => self.status &= !WRITABLE,
            (0x02, 4..) => self.program(&sent),
            (0x20, 3) => self.erase(&sent, SECTOR),
            (0xC7 | 0x60, 0) => self.erase(&[0; 4], SIZE),
            _ => {}
        }
    }

    fn program(&mut self, sent: &[u8]) {
        let (address, page) = self.changed(sent, PAGE);
        for (at, byte) in sent.iter().skip(4).enumerate() {
            // Within the page it begins at its start again.
            if let Some(cell) = page
                .start
                .checked_add((address + at) % PAGE)
                .and_then(|place| self.memory.get_mut(place))
                .filter(|_| !page.is_empty())
            {
                *cell &= byte;
            }
        }
    }

    fn erase(&mut self, sent: &[u8], size: usize) {
        let (_, range) = self.changed(sent, size);
        self.memory.get_mut(range).unwrap_or_default().fill(0xFF);
    }

    /// The address, and the block around it; an empty one when nothing may change. Nothing may
    /// change afterwards.
    fn changed(&mut self, sent: &[u8], size: usize) -> (usize, core::ops::Range<usize>) {
        self.sent = sent.to_vec();
        let address = self.address();
        self.sent.clear();
        let start = address / size * size;
        let writable = self.status & WRITABLE != 0;
        self.status &= !WRITABLE;
        (address, start..if writable { start + size } else { start })
    }
}
