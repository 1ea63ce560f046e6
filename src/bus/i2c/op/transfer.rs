//! `I2C_TRANSFER`: messages that are one transaction on the bus.

use core::fmt;
use core::ops::BitOr;

use super::{MAX_BLOCK, MAX_LENGTH, MAX_MESSAGES, OVERHEAD, OpError, check_address, read_device};
use crate::wire::msgpack::{Reader, Writer};

/// `flags` 1: the message reads.
const READ: u8 = 1;

/// `flags` of a message besides its direction (profile 19.7), and those of the kernel beyond the profile.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MessageFlags(u8);

impl MessageFlags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// 2: the address has ten bits (`I2C_M_TEN`).
    pub const TEN_BIT: Self = Self(2);
    /// 4: no start and no address before this message (`I2C_M_NOSTART`).
    pub const NO_START: Self = Self(4);
    /// 8: a missing acknowledge changes nothing (`I2C_M_IGNORE_NAK`).
    pub const IGNORE_NAK: Self = Self(8);
    /// 16, beyond the profile: the first byte that is read says how many follow, 1 to 32, besides those
    /// asked for (`I2C_M_RECV_LEN`).
    pub const RECV_LEN: Self = Self(16);
    /// 32, beyond the profile: nothing is acknowledged in a read (`I2C_M_NO_RD_ACK`).
    pub const NO_READ_ACK: Self = Self(32);
    /// 64, beyond the profile: the direction bit is inverted (`I2C_M_REV_DIR_ADDR`).
    pub const REVERSED: Self = Self(64);
    /// 128, beyond the profile: a stop after this message (`I2C_M_STOP`).
    pub const STOP: Self = Self(128);

    /// Flags by their bits on the wire, without the direction.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & !READ)
    }

    /// Their bits on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that the profile does not have.
    #[must_use]
    pub const fn beyond(self) -> Self {
        let profile = Self::TEN_BIT.0 | Self::NO_START.0 | Self::IGNORE_NAK.0;
        Self(self.0 & !profile)
    }
}

impl BitOr for MessageFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for MessageFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageFlags({:#x})", self.0)
    }
}

/// What a message does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes these bytes, at most [`MAX_LENGTH`].
    Write(Vec<u8>),
    /// Reads so many, at most [`MAX_LENGTH`].
    Read(u16),
}

/// One message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The chip's address, of seven bits, or of ten by [`MessageFlags::TEN_BIT`].
    pub addr: u16,
    /// What is unusual.
    pub flags: MessageFlags,
    /// What it does.
    pub action: Action,
}

impl Message {
    /// Writes to a chip.
    pub fn write(addr: u16, data: impl Into<Vec<u8>>) -> Self {
        Self {
            addr,
            flags: MessageFlags::NONE,
            action: Action::Write(data.into()),
        }
    }

    /// Reads from a chip.
    pub const fn read(addr: u16, len: u16) -> Self {
        Self {
            addr,
            flags: MessageFlags::NONE,
            action: Action::Read(len),
        }
    }

    /// The least and the most bytes that it may bring; `None` when it writes.
    pub fn reply_len(&self) -> Option<(usize, usize)> {
        match self.action {
            Action::Write(_) => None,
            // The first byte counts those beyond `len`, and is one of `len` itself.
            Action::Read(len) if self.flags.contains(MessageFlags::RECV_LEN) => {
                Some((usize::from(len), usize::from(len) + MAX_BLOCK))
            }
            Action::Read(len) => Some((usize::from(len), usize::from(len))),
        }
    }

    /// Whether such a message can be.
    ///
    /// # Errors
    /// [`OpError`] when it is too long, or to an address that cannot be.
    pub fn check(&self) -> Result<(), OpError> {
        check_address(self.addr, self.flags.contains(MessageFlags::TEN_BIT))?;
        let recv_len = self.flags.contains(MessageFlags::RECV_LEN);
        match &self.action {
            Action::Write(_) if recv_len => Err(OpError::Field("flags")),
            Action::Read(0) if recv_len => Err(OpError::Field("len")),
            Action::Write(data) if data.len() > usize::from(MAX_LENGTH) => {
                Err(OpError::Field("bin"))
            }
            Action::Read(len) if *len > MAX_LENGTH => Err(OpError::Field("len")),
            Action::Write(_) | Action::Read(_) => Ok(()),
        }
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.array(3);
        writer.uint(self.addr);
        match &self.action {
            Action::Write(data) => {
                writer.uint(self.flags.bits());
                writer.bin(data);
            }
            Action::Read(len) => {
                writer.uint(self.flags.bits() | READ);
                writer.uint(*len);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, OpError> {
        let extra = reader.fixed_array(3)?;
        let addr = reader.u16()?;
        let bits = reader.u8()?;
        let action = if bits & READ == 0 {
            Action::Write(reader.bin()?.to_vec())
        } else {
            Action::Read(reader.u16()?)
        };
        reader.skip_values(extra)?;
        let message = Self {
            addr,
            flags: MessageFlags::from_bits(bits),
            action,
        };
        message.check()?;
        Ok(message)
    }
}

/// `I2C_TRANSFER` `[dev, [*[addr, flags, len or bin]]]`: 1 to [`MAX_MESSAGES`] messages with a repeated
/// start between them, which nothing comes between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The bus's id.
    pub dev: String,
    /// What happens on it.
    pub messages: Vec<Message>,
}

impl Transfer {
    /// The encoded request. More messages or longer ones than the bounds are for the owner to refuse.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.array(2);
        writer.str(&self.dev);
        writer.array(u32::try_from(self.messages.len()).unwrap_or(u32::MAX));
        for message in &self.messages {
            message.encode(&mut writer);
        }
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, no messages or too many, or one is too long or to an
    /// address that cannot be.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(2)?;
        let dev = read_device(&mut reader)?;
        let count = reader.array_header()?;
        if count == 0 || count > MAX_MESSAGES {
            return Err(OpError::Field("messages"));
        }
        let messages = (0..count)
            .map(|_| Message::decode(&mut reader))
            .collect::<Result<_, _>>()?;
        reader.finish_fixed(extra)?;
        Ok(Self { dev, messages })
    }

    /// `[[*bin]]`: the answer, with what each reading message brought.
    pub fn encode_reply(reads: &[Vec<u8>]) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(8 + reads.iter().map(|read| read.len() + 5).sum::<usize>());
        let mut writer = Writer::new(&mut out);
        writer.array(1);
        writer.array(u32::try_from(reads.len()).unwrap_or(u32::MAX));
        for read in reads {
            writer.bin(read);
        }
        out
    }

    /// Reads the answer to this request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or brings more or less than was asked for.
    pub fn decode_reply(&self, payload: &[u8]) -> Result<Vec<Vec<u8>>, OpError> {
        let mut reader = Reader::new(payload);
        let extra = reader.fixed_array(1)?;
        let count = reader.array_header()?;
        let wanted: Vec<_> = self
            .messages
            .iter()
            .filter_map(Message::reply_len)
            .collect();
        if count != wanted.len() {
            return Err(OpError::Field("reads"));
        }
        let mut reads = Vec::with_capacity(count);
        for (least, most) in wanted {
            let read = reader.bin()?;
            if read.len() < least || read.len() > most {
                return Err(OpError::Field("bin"));
            }
            reads.push(read.to_vec());
        }
        reader.finish_fixed(extra)?;
        Ok(reads)
    }

    /// The most bytes that the answer can have.
    pub fn declared_reply(&self) -> u32 {
        let reads = self.messages.iter().filter_map(Message::reply_len);
        let total: usize = reads.map(|(_, most)| most + 4).sum();
        u32::try_from(total).map_or(u32::MAX, |total| total.saturating_add(OVERHEAD))
    }

    /// Whether it does no more than `I2C_READ_BLOCK`: it only reads, at most after one byte that says
    /// from where. A message without data is the SMBus quick command, which can switch something.
    pub fn only_reads(&self) -> bool {
        match &*self.messages {
            [
                Message {
                    action: Action::Write(register),
                    flags: MessageFlags::NONE,
                    addr,
                },
                Message {
                    action: Action::Read(1..),
                    flags: MessageFlags::NONE,
                    addr: from,
                },
            ] => register.len() == 1 && addr == from,
            messages => messages.iter().all(|message| {
                let reads = matches!(message.action, Action::Read(1..));
                reads && !message.flags.contains(MessageFlags::REVERSED)
            }),
        }
    }
}
