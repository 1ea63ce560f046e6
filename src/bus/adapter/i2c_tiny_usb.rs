//! i2c-tiny-usb: an I2C adapter whose driver is a part of every Linux
//! (kernel drivers/i2c/busses/i2c-tiny-usb.c).
//!
//! The driver sends a transaction message by message, each with its flags, and says which is the first and
//! which is the last. Messages are kept until the last one is there, and are one transaction then. Only
//! where one that reads is followed by others it is performed at once with those before it, because the
//! driver wants its bytes: a stop stands in between there that the program did not ask for.

use core::future::Future;
use core::pin::Pin;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use nix::errno::Errno;

use super::description::Setting;
use super::{Adapter, Description, Fault, Setup, Transfer};
use crate::bus::i2c::op::{Action, MAX_MESSAGES, Message, MessageFlags};
use crate::bus::usb::op::Speed;

/// idVendor and idProduct.
pub const ID: (u16, u16) = (0x0403, 0xC631);

const GET_FUNC: u8 = 1;
const SET_DELAY: u8 = 2;
const GET_STATUS: u8 = 3;
/// With [`BEGIN`] and [`END`] of a transaction added.
const IO: u8 = 4;
const BEGIN: u8 = 1;
const END: u8 = 2;

const IDLE: u8 = 0;
const ACKNOWLEDGED: u8 = 1;
const NOT_ACKNOWLEDGED: u8 = 2;

/// `I2C_FUNC_*` that messages can say: plain ones, addresses of ten bits, no start, ignored
/// acknowledges, and what the kernel makes of messages by itself (`I2C_FUNC_SMBUS_EMUL`). Not what needs a
/// length from the chip.
pub const SAYABLE: u32 = 0x0EFF_0008 | 0x1 | 0x2 | 0x4 | 0x10;
/// `I2C_FUNC_I2C`.
const PLAIN: u32 = 0x1;
/// `I2C_FUNC_SMBUS_PEC`: the kernel appends the byte to the messages of a bus that takes any.
const PEC: u32 = 0x8;

/// `I2C_M_*` of the kernel, and what they are called on the wire.
const FLAGS: [(u16, MessageFlags); 3] = [
    (0x0010, MessageFlags::TEN_BIT),
    (0x1000, MessageFlags::IGNORE_NAK),
    (0x4000, MessageFlags::NO_START),
];
const READ: u16 = 0x0001;
/// `I2C_M_DMA_SAFE` says nothing about the bus, nor does `I2C_CLIENT_PEC`: the kernel leaves it in the flags
/// of the messages that it makes of an SMBus transaction, and has the sum in their data.
const MEANINGLESS: u16 = 0x0200 | 0x0004;

/// A transaction on its way: what its reading messages brought.
pub type Transacting = Pin<Box<dyn Future<Output = Result<Vec<Vec<u8>>, Errno>>>>;

/// The bus behind the adapter.
pub trait Master {
    /// What it can do: `I2C_FUNC_*`.
    fn functionality(&self) -> u32;

    /// Performs messages as one transaction.
    fn transfer(self: Rc<Self>, messages: Vec<Message>) -> Transacting;
}

/// The adapter.
pub struct I2cTinyUsb<M> {
    description: Description,
    master: Rc<M>,
    /// Messages of a transaction that is not whole yet.
    gathered: RefCell<Vec<Message>>,
    status: Cell<u8>,
}

impl<M: Master + 'static> I2cTinyUsb<M> {
    /// An adapter by that maker, of that name and serial number.
    pub fn new(strings: [String; 3], master: Rc<M>) -> Rc<Self> {
        let description = Description {
            vendor: ID.0,
            product: ID.1,
            release: 0x0205,
            // At full speed, so that a message of 8192 bytes does not come in packets of 8.
            speed: Speed::Full,
            class: [0xFF, 0, 0],
            strings,
            settings: vec![Setting {
                interface: 0,
                alternate: 0,
                class: [0xFF, 0, 0],
                endpoints: Vec::new(),
            }],
        };
        Rc::new(Self {
            description,
            master,
            gathered: RefCell::default(),
            status: Cell::new(IDLE),
        })
    }

    fn functionality(&self) -> u32 {
        let has = self.master.functionality() & SAYABLE;
        if has & PLAIN == 0 { has & !PEC } else { has }
    }

    async fn message(&self, setup: Setup, data: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let edges = setup.request - IO;
        if edges & BEGIN != 0 {
            self.gathered.take();
        }
        // What it would go on with has been performed, with a stop behind it.
        let flags = flags(setup.value & !(READ | MEANINGLESS))?;
        if flags.contains(MessageFlags::NO_START)
            && self.gathered.borrow().is_empty()
            && edges & BEGIN == 0
        {
            return Err(Fault::Stall);
        }
        let reads = setup.value & READ != 0;
        if reads != setup.is_in() && setup.length != 0 {
            return Err(Fault::Stall);
        }
        let message = Message {
            addr: setup.index,
            flags,
            action: if reads {
                Action::Read(setup.length)
            } else {
                Action::Write(data)
            },
        };
        self.gathered.borrow_mut().push(message);
        if self.gathered.borrow().len() > MAX_MESSAGES {
            self.gathered.take();
            return Err(Fault::Stall);
        }
        if edges & END == 0 && !reads {
            self.status.set(ACKNOWLEDGED);
            return Ok(Vec::new());
        }
        self.perform(usize::from(setup.length), reads).await
    }

    /// Performs what is gathered; the bytes of the last message if that reads so many.
    async fn perform(&self, length: usize, reads: bool) -> Result<Vec<u8>, Fault> {
        let messages = self.gathered.take();
        match Rc::clone(&self.master).transfer(messages).await {
            Ok(mut data) => {
                self.status.set(ACKNOWLEDGED);
                let last = if reads { data.pop() } else { None };
                Ok(last.unwrap_or_default())
            }
            Err(Errno::ENXIO | Errno::EREMOTEIO) => {
                self.status.set(NOT_ACKNOWLEDGED);
                // The driver asks for the status only when it got as many bytes as it wanted.
                Ok(if reads { vec![0; length] } else { Vec::new() })
            }
            // All others are EIO to the driver.
            Err(error) => {
                tracing::debug!(%error, "I2C transaction");
                self.status.set(IDLE);
                Err(Fault::Stall)
            }
        }
    }
}

impl<M: Master + 'static> Adapter for I2cTinyUsb<M> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reset(&self) {
        self.gathered.take();
        self.status.set(IDLE);
    }

    fn control(self: Rc<Self>, setup: Setup, data: Vec<u8>) -> Transfer {
        Box::pin(async move {
            match (setup.request, setup.is_in()) {
                (GET_FUNC, true) => Ok(self.functionality().to_le_bytes().to_vec()),
                (SET_DELAY, false) => Ok(Vec::new()),
                (GET_STATUS, true) => Ok(vec![self.status.get()]),
                (4..=7, _) => self.message(setup, data).await,
                _ => Err(Fault::Stall),
            }
        })
    }
}

/// The flags of a message, none of which may be unknown.
fn flags(mut bits: u16) -> Result<MessageFlags, Fault> {
    let mut flags = MessageFlags::NONE;
    for (bit, flag) in FLAGS {
        if bits & bit != 0 {
            flags = flags | flag;
            bits &= !bit;
        }
    }
    if bits == 0 {
        Ok(flags)
    } else {
        Err(Fault::Stall)
    }
}

#[cfg(test)]
mod tests;
