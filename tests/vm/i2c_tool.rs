//! An I2C bus that no hardware has: an emulated i2c-tiny-usb with chips behind it. Each line of its orders
//! changes a chip or asks for something, which is told on standard output.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::rc::Rc;

use myclerk::bus::adapter::description::Setting;
use myclerk::bus::adapter::{self, Description, Fault, Setup, Transfer, i2c_tiny_usb};
use myclerk::bus::i2c::fake::FakeBus;
use myclerk::bus::i2c::fake::chips::{Checked, Eeprom, Lm75, Strict};
use myclerk::bus::i2c::op::{Action, Message, MessageFlags};
use myclerk::bus::usb::op::Speed;
use myclerk::kernel::i2c_dev::func;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{adapter_tool, say};

const STRICT: u16 = 0x30;
const CHECKED: u16 = 0x40;
const BROKEN: u16 = 0x41;
const LM75: u16 = 0x48;
const EEPROM: u16 = 0x50;

/// An i2c-tiny-usb as its firmware does it: each message is on the wire at once. What the driver lets get
/// in between, or a stop that does not belong there, the chips find out.
struct Adapter {
    description: Description,
    bus: FakeBus,
    status: Cell<u8>,
    begun: Cell<usize>,
    fails: Cell<bool>,
}

const GET_FUNC: u8 = 1;
const SET_DELAY: u8 = 2;
const GET_STATUS: u8 = 3;
const IO: u8 = 4;
const BEGIN: u8 = 1;
const END: u8 = 2;
const ACKNOWLEDGED: u8 = 1;
const NOT_ACKNOWLEDGED: u8 = 2;
const READ: u16 = 1;

impl Adapter {
    fn new(bus: FakeBus) -> Self {
        let class = [0xFF, 0, 0];
        let description = Description {
            vendor: i2c_tiny_usb::ID.0,
            product: i2c_tiny_usb::ID.1,
            release: 0x0205,
            speed: Speed::Full,
            class,
            strings: ["Lab", "i2c-tiny-usb", "LABI2C1"].map(str::to_owned),
            settings: vec![Setting {
                interface: 0,
                alternate: 0,
                class,
                endpoints: Vec::new(),
            }],
        };
        Self {
            description,
            bus,
            status: Cell::new(0),
            begun: Cell::new(0),
            fails: Cell::new(false),
        }
    }

    fn message(&self, setup: Setup, data: Vec<u8>) -> Result<Vec<u8>, Fault> {
        if self.fails.take() {
            return Err(Fault::Stall);
        }
        let action = if setup.value & READ == 0 {
            Action::Write(data)
        } else {
            Action::Read(setup.length)
        };
        let message = Message {
            addr: setup.index,
            flags: MessageFlags::NONE,
            action,
        };
        let edges = setup.request - IO;
        let (begin, end) = (edges & BEGIN != 0, edges & END != 0);
        self.begun.set(self.begun.get() + usize::from(begin));
        let done = self.bus.on_wire(|wire| wire.message(&message, begin, end));
        self.status.set(if done.is_ok() {
            ACKNOWLEDGED
        } else {
            NOT_ACKNOWLEDGED
        });
        let length = if setup.is_in() { setup.length } else { 0 };
        Ok(done.unwrap_or_else(|_| vec![0; usize::from(length)]))
    }
}

impl adapter::Adapter for Adapter {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reset(&self) {}

    fn control(self: Rc<Self>, setup: Setup, data: Vec<u8>) -> Transfer {
        let answer = match setup.request {
            GET_FUNC => Ok((func::I2C | func::SMBUS_EMUL).to_le_bytes().to_vec()),
            SET_DELAY => Ok(Vec::new()),
            GET_STATUS => Ok(vec![self.status.get()]),
            4..=7 => self.message(setup, data),
            _ => Err(Fault::Stall),
        };
        Box::pin(core::future::ready(answer))
    }
}

/// Is the bus until the process is ended; its EEPROM holds what is in that file.
///
/// # Errors
/// There is no port, or a file cannot be read.
pub(crate) fn serve(orders: &Path, content: &Path) -> io::Result<()> {
    let eeprom = Eeprom::new(&std::fs::read(content)?);
    let lm75 = Lm75::new(25 << 8);
    let bus = FakeBus::new("lab")
        .with(STRICT, Strict::default())
        .with(CHECKED, Checked::new(CHECKED))
        .with(BROKEN, Checked::new(BROKEN).broken())
        .with(LM75, lm75.clone())
        .with(EEPROM, eeprom.clone());
    let mut lines = lines_of(orders)?;
    adapter_tool::plug_in("lab-i2c", || {
        let adapter = Rc::new(Adapter::new(bus.clone()));
        let told = Rc::clone(&adapter);
        let work = async move {
            while let Some(line) = lines.recv().await {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["temperature", raw] => lm75.set(raw.parse().map_err(io::Error::other)?),
                    ["cycle", starts] => {
                        eeprom.set_write_cycle(starts.parse().map_err(io::Error::other)?);
                    }
                    ["content"] => say(&format!("content {}", hex(&eeprom.content()))),
                    ["fail"] => told.fails.set(true),
                    ["report"] => {
                        let (count, mixed) = (told.begun.get(), bus.interleaved());
                        say(&format!("transactions {count} mixed {mixed}"));
                    }
                    _ => return Err(io::Error::other(format!("no order: {line}"))),
                }
                say(&format!("done {line}"));
            }
            Ok(())
        };
        (adapter, work)
    })
}

fn lines_of(orders: &Path) -> io::Result<UnboundedReceiver<String>> {
    let (send, lines) = unbounded_channel();
    // Of a pipe that this end keeps open for writing, reading never ends.
    let file = File::options().read(true).write(true).open(orders)?;
    std::thread::spawn(move || {
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    Ok(lines)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
