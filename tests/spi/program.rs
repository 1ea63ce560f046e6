//! A program that has the device open, with memory of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use nix::errno::Errno;

use crate::rig::Kernel;

pub(crate) const RD_MODE: u32 = 0x8001_6B01;
pub(crate) const WR_MODE: u32 = 0x4001_6B01;
pub(crate) const RD_LSB: u32 = 0x8001_6B02;
pub(crate) const WR_LSB: u32 = 0x4001_6B02;
pub(crate) const RD_BITS: u32 = 0x8001_6B03;
pub(crate) const WR_BITS: u32 = 0x4001_6B03;
pub(crate) const RD_HZ: u32 = 0x8004_6B04;
pub(crate) const WR_HZ: u32 = 0x4004_6B04;
pub(crate) const RD_MODE32: u32 = 0x8004_6B05;
pub(crate) const WR_MODE32: u32 = 0x4004_6B05;

/// Where a program keeps the argument of an ioctl, what it sends, and room for what it receives.
pub(crate) const ARGUMENT: u64 = 0x1_0000;
pub(crate) const SENT: u64 = 0x10_0000;
pub(crate) const ROOM: u64 = 0x20_0000;

/// `SPI_IOC_MESSAGE(count)`
pub(crate) fn message(count: usize) -> u32 {
    u32::try_from(count * 32).unwrap() << 16 | 0x4000_6B00
}

/// `struct spi_ioc_transfer`
#[derive(Clone, Copy, Default)]
pub(crate) struct Xfer {
    pub(crate) tx: u64,
    pub(crate) rx: u64,
    pub(crate) len: u32,
    pub(crate) hz: u32,
    pub(crate) delay: u16,
    pub(crate) bits: u8,
    pub(crate) cs_change: u8,
    pub(crate) tx_nbits: u8,
    pub(crate) rx_nbits: u8,
    pub(crate) word_delay: u8,
}

impl Xfer {
    /// With nothing but its buffers, 0 for none.
    pub(crate) fn new(tx: u64, rx: u64, len: u32) -> Self {
        Self {
            tx,
            rx,
            len,
            ..Self::default()
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.tx, self.rx].map(u64::to_ne_bytes).concat();
        bytes.extend([self.len, self.hz].map(u32::to_ne_bytes).concat());
        bytes.extend(self.delay.to_ne_bytes());
        bytes.extend([self.bits, self.cs_change, self.tx_nbits, self.rx_nbits]);
        // What a program leaves in the padding means nothing.
        bytes.extend([self.word_delay, 0xAA]);
        bytes
    }
}

pub(crate) struct Program {
    kernel: Rc<Kernel>,
    pub(crate) fh: u64,
    /// It is a 32-bit program.
    pub(crate) compat: bool,
    memory: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl Program {
    pub(crate) fn new(kernel: Rc<Kernel>, fh: u64) -> Self {
        Self {
            kernel,
            fh,
            compat: false,
            memory: RefCell::default(),
        }
    }

    /// Bytes that it has there; nothing is mapped behind them.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.borrow_mut().insert(at, bytes.to_vec());
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        self.gather(&[(at, u64::try_from(len).unwrap())]).unwrap()
    }

    /// What pieces of its memory hold.
    pub(crate) fn gather(&self, pieces: &[(u64, u64)]) -> Result<Vec<u8>, Errno> {
        let memory = self.memory.borrow();
        let mut gathered = Vec::new();
        for (at, len) in pieces {
            let (start, held) = memory.range(..=at).next_back().ok_or(Errno::EFAULT)?;
            let from = usize::try_from(at - start).unwrap();
            let len = usize::try_from(*len).unwrap();
            let piece = held.get(from..).and_then(|rest| rest.get(..len));
            gathered.extend_from_slice(piece.ok_or(Errno::EFAULT)?);
        }
        Ok(gathered)
    }

    pub(crate) fn scatter(&self, pieces: &[(u64, u64)], mut bytes: &[u8]) -> Result<(), Errno> {
        let mut memory = self.memory.borrow_mut();
        for (at, len) in pieces {
            let (now, rest) = bytes.split_at(bytes.len().min(usize::try_from(*len).unwrap()));
            let (start, held) = memory.range_mut(..=at).next_back().ok_or(Errno::EFAULT)?;
            let from = usize::try_from(at - start).unwrap();
            let room = held
                .get_mut(from..)
                .and_then(|room| room.get_mut(..now.len()));
            room.ok_or(Errno::EFAULT)?.copy_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    pub(crate) async fn ioctl(&self, cmd: u32, arg: u64) -> Result<i32, Errno> {
        self.kernel.ioctl(self, self.fh, cmd, arg).await
    }

    /// `SPI_IOC_MESSAGE` with these transfers.
    pub(crate) async fn message(&self, xfers: &[Xfer]) -> Result<i32, Errno> {
        let array: Vec<_> = xfers.iter().flat_map(Xfer::bytes).collect();
        self.put(ARGUMENT, &array);
        self.ioctl(message(xfers.len()), ARGUMENT).await
    }

    /// Sends bytes in one transfer, and what comes back.
    pub(crate) async fn exchange(&self, sent: &[u8]) -> Result<Vec<u8>, Errno> {
        self.put(SENT, sent);
        self.put(ROOM, &vec![0x55; sent.len()]);
        let len = u32::try_from(sent.len()).unwrap();
        let xfer = Xfer::new(SENT, ROOM, len);
        assert_eq!(self.message(&[xfer]).await?, i32::try_from(len).unwrap());
        Ok(self.bytes(ROOM, sent.len()))
    }

    /// Sends a command, then receives, while the chip stays selected.
    pub(crate) async fn command(&self, sent: &[u8], answer: u32) -> Result<Vec<u8>, Errno> {
        let len = usize::try_from(answer).unwrap();
        self.put(SENT, sent);
        self.put(ROOM, &vec![0x55; len]);
        let command = Xfer::new(SENT, 0, u32::try_from(sent.len()).unwrap());
        let answer = Xfer::new(0, ROOM, answer);
        self.message(&[command, answer]).await?;
        Ok(self.bytes(ROOM, len))
    }

    /// A setting of one or four bytes.
    pub(crate) async fn get(&self, cmd: u32) -> Result<u32, Errno> {
        let width = usize::try_from(cmd >> 16 & 0x3FFF).unwrap();
        self.put(ARGUMENT, &vec![0xEE; width]);
        assert_eq!(self.ioctl(cmd, ARGUMENT).await?, 0);
        let mut bytes = self.bytes(ARGUMENT, width);
        bytes.resize(4, 0);
        Ok(u32::from_ne_bytes(bytes.try_into().unwrap()))
    }

    pub(crate) async fn set(&self, cmd: u32, value: u32) -> Result<i32, Errno> {
        let width = usize::try_from(cmd >> 16 & 0x3FFF).unwrap();
        self.put(ARGUMENT, &value.to_ne_bytes()[..width]);
        self.ioctl(cmd, ARGUMENT).await
    }

    pub(crate) async fn read(&self, size: u32) -> Result<Vec<u8>, Errno> {
        self.kernel.read(self.fh, size).await
    }

    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<u32, Errno> {
        self.kernel.write(self.fh, bytes).await
    }

    pub(crate) fn close(self) {
        self.kernel.release(self.fh);
    }
}
