//! An I2C bus that no hardware has: an emulated i2c-tiny-usb with chips behind it. Each line of its orders
//! changes a chip or asks for something, which is told on standard output.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::rc::Rc;

use myclerk::bus::adapter::i2c_tiny_usb::{I2cTinyUsb, Master, Transacting};
use myclerk::bus::i2c::fake::FakeBus;
use myclerk::bus::i2c::fake::chips::{Checked, Eeprom, Lm75, Strict};
use myclerk::bus::i2c::hardware::I2cBus;
use myclerk::bus::i2c::op::Message;
use myclerk::kernel::i2c_dev::func;
use nix::errno::Errno;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{adapter_tool, say};

const STRICT: u16 = 0x30;
const CHECKED: u16 = 0x40;
const BROKEN: u16 = 0x41;
const LM75: u16 = 0x48;
const EEPROM: u16 = 0x50;

/// The bus as an adapter has it.
struct Behind(FakeBus);

impl Master for Behind {
    fn functionality(&self) -> u32 {
        func::I2C | func::SMBUS_EMUL | func::PROTOCOL_MANGLING | func::NOSTART
    }

    fn transfer(self: Rc<Self>, messages: Vec<Message>) -> Transacting {
        let done = self.0.transfer(&messages);
        Box::pin(core::future::ready(done))
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
        .with_functionality(func::I2C | func::PROTOCOL_MANGLING | func::NOSTART)
        .with(STRICT, Strict::default())
        .with(CHECKED, Checked::new(CHECKED))
        .with(BROKEN, Checked::new(BROKEN).broken())
        .with(LM75, lm75.clone())
        .with(EEPROM, eeprom.clone());
    let mut lines = lines_of(orders)?;
    let strings = ["Lab", "i2c-tiny-usb", "LABI2C1"].map(str::to_owned);
    adapter_tool::plug_in("lab-i2c", || {
        let adapter = I2cTinyUsb::new(strings, Rc::new(Behind(bus.clone())));
        let work = async move {
            while let Some(line) = lines.recv().await {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["temperature", raw] => lm75.set(raw.parse().map_err(io::Error::other)?),
                    ["cycle", starts] => {
                        eeprom.set_write_cycle(starts.parse().map_err(io::Error::other)?);
                    }
                    ["content"] => say(&format!("content {}", hex(&eeprom.content()))),
                    ["fail"] => bus.fail(Errno::EIO),
                    ["report"] => {
                        let (count, mixed) = (bus.transactions(), bus.interleaved());
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
