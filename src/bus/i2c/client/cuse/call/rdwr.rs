//! `I2C_RDWR`, in three rounds: how many messages, the messages, what they point to.

use nix::errno::Errno;

use super::{Asked, Question, Stop, Told};
use crate::bus::chardev::Answer;
use crate::bus::i2c::client::cuse::layout::{self, Entry, Header};
use crate::bus::i2c::hardware::dev::FLAGS;
use crate::bus::i2c::op::{Action, BusEntry, Message, MessageFlags, Transfer, ext};
use crate::kernel::cuse::{Ioctl, Piece};
use crate::kernel::i2c_dev::{MAX_BLOCK, MAX_LENGTH, MAX_MESSAGES, flag, func};

/// Where the bytes of a reading message go: what is there now, which stays where less comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room(Vec<u8>);

/// What the messages ask for, once all of it is there.
pub(super) fn take(bus: &BusEntry, call: &Ioctl) -> Result<Question, Stop> {
    let mut rounds = call.rounds();
    let bytes = rounds.take(Piece::at(call.arg, layout::header(call.compat)))?;
    let header = Header::parse(bytes).ok_or(Errno::EFAULT)?;
    let count = usize::try_from(header.count).map_err(|_| Errno::EINVAL)?;
    if header.messages == 0 || !(1..=MAX_MESSAGES).contains(&count) {
        return Err(Errno::EINVAL.into());
    }
    let width = layout::entry(call.compat);
    let bytes = rounds.take(Piece::at(header.messages, width * header.count))?;
    if bus.funcs & func::I2C == 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let width = usize::try_from(width).map_err(|_| Errno::EINVAL)?;
    let entries = bytes.chunks_exact(width).map(Entry::parse);
    let entries: Vec<Entry> = entries.collect::<Option<_>>().ok_or(Errno::EFAULT)?;
    if entries
        .iter()
        .any(|entry| usize::from(entry.len) > MAX_LENGTH)
    {
        return Err(Errno::EINVAL.into());
    }
    for entry in entries.iter().filter(|entry| entry.reads()) {
        rounds.give(Piece::at(entry.buf, entry.len.into()));
    }
    // Those of all messages are one round. The kernel looks at what is to be written too, so that an
    // address that nobody has is found before anything is on the bus.
    let pieces: Vec<_> = entries.iter().flat_map(Entry::pieces).collect();
    let mut taken = rounds.take_all(&pieces)?.into_iter();
    rounds.complete()?;
    let mut messages = Vec::with_capacity(count);
    let mut rooms = Vec::new();
    for entry in &entries {
        let first = taken.next().unwrap_or_default();
        let _last = taken.next();
        messages.push(entry.message(bus, first)?);
        if entry.reads() {
            let mut room = first.to_vec();
            room.resize(entry.len.into(), 0);
            rooms.push(Room(room));
        }
    }
    let transfer = Transfer {
        dev: bus.dev.clone(),
        messages,
    };
    Ok(Question {
        asked: Asked::Transfer(transfer),
        told: Told::Messages(rooms),
    })
}

/// Each reading message's bytes at their place; the ioctl returns how many messages there were.
pub(super) fn answer(count: usize, rooms: &[Room], reads: &[Vec<u8>]) -> Result<Answer, Errno> {
    let mut output = Vec::new();
    for (Room(room), read) in rooms.iter().zip(reads) {
        let rest = room.get(read.len()..).ok_or(Errno::EPROTO)?;
        output.extend_from_slice(read);
        output.extend_from_slice(rest);
    }
    let count = i32::try_from(count).map_err(|_| Errno::EPROTO)?;
    Ok(Answer::Returned(count, output))
}

impl Entry {
    const fn reads(&self) -> bool {
        self.flags & flag::READ != 0
    }

    /// The program's bytes that are needed: all that is written, and of what is read the first and the
    /// last one, or all where more is said there.
    fn pieces(&self) -> [Piece; 2] {
        let len = u32::from(self.len);
        if !self.reads() || self.flags & flag::RECV_LEN != 0 {
            return [Piece::at(self.buf, len), Piece::at(self.buf, 0)];
        }
        let last = self.buf.wrapping_add(u64::from(len.saturating_sub(1)));
        [Piece::at(self.buf, len.min(1)), Piece::at(last, len.min(1))]
    }

    fn message(&self, bus: &BusEntry, data: &[u8]) -> Result<Message, Errno> {
        let set = FLAGS.iter().filter(|(_, kernel)| self.flags & kernel != 0);
        let flags = set.fold(MessageFlags::NONE, |flags, (ours, _)| flags | *ours);
        if flags.beyond() != MessageFlags::NONE && bus.ext & ext::FLAGS == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let action = if !self.reads() {
            if flags.contains(MessageFlags::RECV_LEN) {
                return Err(Errno::EINVAL);
            }
            Action::Write(data.to_vec())
        } else if flags.contains(MessageFlags::RECV_LEN) {
            let besides = data.first().copied().filter(|besides| *besides > 0);
            let besides = u16::from(besides.ok_or(Errno::EINVAL)?);
            if data.len() < usize::from(besides) + MAX_BLOCK {
                return Err(Errno::EINVAL);
            }
            Action::Read(besides)
        } else {
            Action::Read(self.len)
        };
        let message = Message {
            addr: self.addr,
            flags,
            action,
        };
        message.check().map_err(|_| Errno::EINVAL)?;
        Ok(message)
    }
}
