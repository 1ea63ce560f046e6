//! `SPI_IOC_MESSAGE(N)`: the structures of a program, and its memory that they name.

use nix::errno::Errno;

use crate::bus::spi::op::Transfer;
use crate::kernel::cuse::{Ioctl, Pause, Piece};
use crate::kernel::spidev::TRANSFER_LEN;

/// One `struct spi_ioc_transfer` of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    tx_buf: u64,
    rx_buf: u64,
    len: u32,
    hz: u32,
    delay_us: u16,
    bits: u8,
    cs_change: bool,
    tx_nbits: u8,
    rx_nbits: u8,
    word_delay_us: u8,
}

/// A message with all that it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What is to be done.
    pub transfers: Vec<Transfer>,
    /// Bytes of all transfers: what the ioctl returns.
    pub total: i32,
}

/// Why a message is not sent in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// More of the program's memory is needed first.
    Pause(Pause),
    /// The call fails.
    Failed(Errno),
}

impl Message {
    /// Takes a message of so many transfers and at most `bufsiz` bytes each way from what the rounds so
    /// far brought.
    ///
    /// # Errors
    /// [`Stop`]; `EMSGSIZE` as the kernel, and for what CUSE does not move in one call.
    pub fn take(ioctl: &Ioctl, count: usize, bufsiz: u32) -> Result<Self, Stop> {
        let mut rounds = ioctl.rounds();
        let size = u32::try_from(count * TRANSFER_LEN).map_err(|_| Errno::EMSGSIZE)?;
        let array = rounds.take(Piece::at(ioctl.arg, size))?;
        let (structs, _) = array.as_chunks::<TRANSFER_LEN>();
        let entries: Vec<_> = structs
            .iter()
            .map(|bytes| Entry::parse(bytes, ioctl.compat))
            .collect();
        let total = check(&entries, bufsiz)?;
        for piece in pieces(&entries, |entry| entry.rx_buf) {
            rounds.give(piece);
        }
        let sent = rounds
            .take_all(&pieces(&entries, |entry| entry.tx_buf))?
            .concat();
        rounds.complete()?;
        let mut rest = &*sent;
        let mut transfers = Vec::with_capacity(entries.len());
        for entry in &entries {
            transfers.push(entry.transfer(&mut rest)?);
        }
        Ok(Self { transfers, total })
    }
}

impl From<Pause> for Stop {
    fn from(pause: Pause) -> Self {
        match pause {
            // The kernel's spidev has no such limit beside its buffer.
            Pause::TooMuch => Self::Failed(Errno::EMSGSIZE),
            pause => Self::Pause(pause),
        }
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl Entry {
    /// The structure is the same for 32-bit programs; of their pointers only half counts.
    fn parse(bytes: &[u8; TRANSFER_LEN], compat: bool) -> Self {
        let [
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
            t6,
            t7,
            r0,
            r1,
            r2,
            r3,
            r4,
            r5,
            r6,
            r7,
            l0,
            l1,
            l2,
            l3,
            h0,
            h1,
            h2,
            h3,
            d0,
            d1,
            bits,
            cs_change,
            tx_nbits,
            rx_nbits,
            word_delay_us,
            _pad,
        ] = *bytes;
        let pointer = |bytes| {
            let pointer = u64::from_ne_bytes(bytes);
            if compat {
                pointer & u64::from(u32::MAX)
            } else {
                pointer
            }
        };
        Self {
            tx_buf: pointer([t0, t1, t2, t3, t4, t5, t6, t7]),
            rx_buf: pointer([r0, r1, r2, r3, r4, r5, r6, r7]),
            len: u32::from_ne_bytes([l0, l1, l2, l3]),
            hz: u32::from_ne_bytes([h0, h1, h2, h3]),
            delay_us: u16::from_ne_bytes([d0, d1]),
            bits,
            cs_change: cs_change != 0,
            tx_nbits,
            rx_nbits,
            word_delay_us,
        }
    }

    /// With what it sends taken off the front of `rest`.
    fn transfer(&self, rest: &mut &[u8]) -> Result<Transfer, Errno> {
        let len = usize::try_from(self.len).map_err(|_| Errno::EMSGSIZE)?;
        let mut tx = Vec::new();
        if self.tx_buf != 0 {
            let (sent, after) = rest.split_at_checked(len).ok_or(Errno::EFAULT)?;
            (tx, *rest) = (sent.to_vec(), after);
        }
        let kept = self.tx_buf != 0 || self.rx_buf != 0;
        Ok(Transfer {
            tx,
            rx_len: if self.rx_buf == 0 { 0 } else { self.len },
            idle_len: if kept { 0 } else { self.len },
            hz: self.hz,
            delay_us: self.delay_us,
            bits: self.bits,
            cs_change: self.cs_change,
            tx_nbits: self.tx_nbits,
            rx_nbits: self.rx_nbits,
            word_delay_us: self.word_delay_us,
        })
    }
}

/// Bytes of all transfers, which are not too many (`spidev_message`). The owner's kernel rounds each
/// length up to what its processor needs and may find more of them too many.
fn check(entries: &[Entry], bufsiz: u32) -> Result<i32, Errno> {
    let (mut total, mut tx, mut rx) = (0_i32, 0_u32, 0_u32);
    let add = |sum: &mut u32, len| -> Result<(), Errno> {
        *sum = sum.checked_add(len).ok_or(Errno::EMSGSIZE)?;
        if *sum > bufsiz {
            return Err(Errno::EMSGSIZE);
        }
        Ok(())
    };
    for entry in entries {
        let len = i32::try_from(entry.len).map_err(|_| Errno::EMSGSIZE)?;
        total = total.checked_add(len).ok_or(Errno::EMSGSIZE)?;
        if entry.rx_buf != 0 {
            add(&mut rx, entry.len)?;
        }
        if entry.tx_buf != 0 {
            add(&mut tx, entry.len)?;
        }
    }
    Ok(total)
}

/// The program's memory that the transfers name; what lies side by side is one piece, since the kernel
/// takes a limited number of them.
fn pieces(entries: &[Entry], address: impl Fn(&Entry) -> u64) -> Vec<Piece> {
    let mut stretches: Vec<(u64, u32)> = Vec::new();
    for entry in entries {
        let (at, len) = (address(entry), entry.len);
        if at == 0 || len == 0 {
            continue;
        }
        if let Some((start, before)) = stretches.last_mut()
            && start.checked_add(u64::from(*before)) == Some(at)
            && let Some(both) = before.checked_add(len)
        {
            *before = both;
        } else {
            stretches.push((at, len));
        }
    }
    let piece = |(at, len)| Piece::at(at, len);
    stretches.into_iter().map(piece).collect()
}
