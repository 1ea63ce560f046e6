//! What programs call on the device (kernel drivers/i2c/i2c-dev.c): what of it is answered here, and what
//! the owner is asked.
//!
//! Nothing but a program's own structures and the constants here decides where in its memory is read and
//! written, and how much.

mod rdwr;
mod smbus;

use std::time::Duration;

use nix::errno::Errno;

use super::layout;
use crate::bus::chardev::Answer;
use crate::bus::i2c::op::{
    BusEntry, MAX_ADDRESS, MAX_LENGTH, MAX_TEN_BIT_ADDRESS, Message, MessageFlags, SmbusCommand,
    Transfer, decode_data,
};
use crate::kernel::cuse::{Ioctl, Pause, Piece};
use crate::kernel::i2c_dev::{func, ioctl};
use crate::wire::opcode::Opcode;

/// How long any transaction may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much longer for each byte: a bus can be as slow as 10 kHz.
const PER_BYTE: Duration = Duration::from_millis(1);

/// What a call comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is answered.
    Answered(Answer),
    /// The owner is asked.
    Ask(Question),
}

/// Why a call is not performed, or not in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// More of the program's memory is needed first.
    Pause(Pause),
    /// It fails.
    Failed(Errno),
}

impl From<Pause> for Stop {
    fn from(pause: Pause) -> Self {
        Self::Pause(pause)
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl From<Stop> for Answer {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Pause(pause) => Self::Pause(pause),
            Stop::Failed(errno) => Self::Failed(errno),
        }
    }
}

/// A question to the owner, and what its answer means to the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    asked: Asked,
    told: Told,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Transfer(Transfer),
    Smbus(SmbusCommand),
}

/// How a program is told what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// `read`
    Read,
    /// `write` of so many bytes.
    Written(usize),
    /// `I2C_RDWR`
    Messages(Vec<rdwr::Room>),
    /// `I2C_SMBUS`
    Smbus(smbus::Data),
}

impl Question {
    /// Its operation and parameters.
    pub fn request(&self) -> (Opcode, Vec<u8>) {
        match &self.asked {
            Asked::Transfer(transfer) => (Opcode::I2cTransfer, transfer.encode()),
            Asked::Smbus(command) => (Opcode::I2cSmbusCommand, command.encode()),
        }
    }

    /// How long the owner has for it.
    pub fn patience(&self) -> Duration {
        let bytes = match &self.asked {
            Asked::Transfer(transfer) => {
                let writes = transfer.encode().len();
                u32::try_from(writes).map_or(u32::MAX, |writes| {
                    writes.saturating_add(transfer.declared_reply())
                })
            }
            Asked::Smbus(_) => 64,
        };
        PATIENCE + PER_BYTE * bytes
    }

    /// What the program is told when the owner answered so.
    ///
    /// # Errors
    /// `EPROTO` when it is not an answer to this question; nothing of it reaches the program.
    pub fn answer(self, payload: &[u8]) -> Result<Answer, Errno> {
        match (self.asked, self.told) {
            (Asked::Transfer(transfer), told) => {
                let reads = transfer.decode_reply(payload).map_err(|_| Errno::EPROTO)?;
                match told {
                    Told::Read => Ok(Answer::Data(reads.concat())),
                    Told::Written(count) => Ok(Answer::Written(count)),
                    Told::Messages(rooms) => rdwr::answer(transfer.messages.len(), &rooms, &reads),
                    Told::Smbus(_) => Err(Errno::EPROTO),
                }
            }
            (Asked::Smbus(command), Told::Smbus(data)) => {
                let (least, most) = command.smbus.reply_len();
                let brought = decode_data(payload, least, most).map_err(|_| Errno::EPROTO)?;
                Ok(Answer::Done(data.answer(brought)))
            }
            (Asked::Smbus(_), _) => Err(Errno::EPROTO),
        }
    }
}

/// What an open file remembers (`struct i2c_client`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFile {
    addr: u16,
    ten_bit: bool,
    pec: bool,
    force: bool,
}

impl OpenFile {
    /// `read(2)` of at most so many bytes.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the adapter only knows SMBus.
    pub fn read(self, bus: &BusEntry, size: u32) -> Result<Question, Errno> {
        let len = u16::try_from(size).map_or(MAX_LENGTH, |size| size.min(MAX_LENGTH));
        self.plain(bus, Message::read(self.addr, len), Told::Read)
    }

    /// `write(2)`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn write(self, bus: &BusEntry, data: &[u8]) -> Result<Question, Errno> {
        let data = data.get(..usize::from(MAX_LENGTH)).unwrap_or(data);
        self.plain(
            bus,
            Message::write(self.addr, data),
            Told::Written(data.len()),
        )
    }

    fn plain(self, bus: &BusEntry, mut message: Message, told: Told) -> Result<Question, Errno> {
        if bus.funcs & func::I2C == 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.ten_bit {
            message.flags = MessageFlags::TEN_BIT;
        }
        let transfer = Transfer {
            dev: bus.dev.clone(),
            messages: vec![message],
        };
        Ok(Question {
            asked: Asked::Transfer(transfer),
            told,
        })
    }

    /// One round of an ioctl.
    ///
    /// # Errors
    /// As i2c-dev; `ENOMEM` for more data than CUSE moves in one call.
    pub fn ioctl(&mut self, bus: &BusEntry, call: &Ioctl) -> Result<Step, Stop> {
        let done = Step::Answered(Answer::Done(Vec::new()));
        match call.cmd {
            ioctl::SLAVE | ioctl::SLAVE_FORCE => {
                self.select(call.arg, call.cmd == ioctl::SLAVE_FORCE)?;
            }
            ioctl::TENBIT => self.ten_bit = call.arg != 0,
            ioctl::PEC => self.pec = call.arg != 0,
            ioctl::FUNCS => return functionality(bus, call),
            ioctl::RDWR => return rdwr::take(bus, call).map(Step::Ask),
            ioctl::SMBUS => return smbus::take(*self, bus, call).map(Step::Ask),
            // They are the owner's business; only what the kernel refuses is refused.
            ioctl::RETRIES if call.arg > MOST_RETRIES => return Err(Errno::EINVAL.into()),
            ioctl::TIMEOUT if call.arg > MOST_RETRIES / 10 => return Err(Errno::EINVAL.into()),
            ioctl::RETRIES | ioctl::TIMEOUT => {}
            _ => return Err(Errno::ENOTTY.into()),
        }
        Ok(done)
    }

    fn select(&mut self, addr: u64, force: bool) -> Result<(), Errno> {
        let highest = if self.ten_bit {
            MAX_TEN_BIT_ADDRESS
        } else {
            MAX_ADDRESS
        };
        match u16::try_from(addr) {
            Ok(addr) if addr <= highest => (self.addr, self.force) = (addr, force),
            Ok(_) | Err(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

/// `INT_MAX`.
const MOST_RETRIES: u64 = 0x7FFF_FFFF;

fn functionality(bus: &BusEntry, call: &Ioctl) -> Result<Step, Stop> {
    let width = layout::word(call.compat);
    let mut rounds = call.rounds();
    rounds.give(Piece::at(call.arg, width));
    rounds.complete()?;
    let funcs = if width == 4 {
        bus.funcs.to_ne_bytes().to_vec()
    } else {
        u64::from(bus.funcs).to_ne_bytes().to_vec()
    };
    Ok(Step::Answered(Answer::Done(funcs)))
}
