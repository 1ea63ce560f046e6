//! A 1-Wire bus with thermometers that no hardware has, at an adapter of this kernel, and what programs
//! ask a bus for that has no file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::adapter::ds2490::Ds2490;
use myclerk::bus::onewire::fake::{Chip, FakeBus};
use myclerk::bus::onewire::op::Rom;
use myclerk::kernel::w1::{Command, Connector};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{adapter_tool, say};

const PATIENCE: Duration = Duration::from_secs(30);

/// Is the bus until the process is ended, with thermometers number 1 to `count`. Lines of `orders`:
///
/// - `warm NUMBER|all SIXTEENTHS` of a degree;
/// - `add NUMBER`, `remove NUMBER`;
/// - `power NUMBER own|bus`;
/// - `log`: says what was done on the bus since the last such line.
///
/// Each is answered by its own words on standard output.
///
/// # Errors
/// There is no port for the adapter.
pub(crate) fn serve(orders: &Path, count: u64) -> io::Result<()> {
    let (send, lines) = unbounded_channel();
    let file = File::options().read(true).write(true).open(orders)?;
    std::thread::spawn(move || {
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    adapter_tool::plug_in("lab/wire", || {
        let bus = Rc::new(FakeBus::new((1..=count).map(Chip::ds18b20)));
        let strings = ["Lab", "DS9490R", "LABWIRE1"].map(str::to_owned);
        let chip = Ds2490::new(strings, Rc::<FakeBus>::clone(&bus));
        (chip, obey(bus, lines))
    })
}

async fn obey(bus: Rc<FakeBus>, mut lines: UnboundedReceiver<String>) -> io::Result<()> {
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        order(&bus, &words)?;
        say(&line);
    }
    Ok(())
}

fn order(bus: &FakeBus, words: &[&str]) -> io::Result<()> {
    let thermometer = |number: &str| Ok::<_, io::Error>(Chip::ds18b20(parsed(number)?));
    match *words {
        ["warm", "all", warmth] => {
            let warmth = parsed(warmth)?;
            for rom in bus.roms() {
                bus.thermometer(rom, |chip| chip.warmth = warmth);
            }
        }
        ["warm", number, warmth] => {
            let (rom, warmth) = (thermometer(number)?.rom(), parsed(warmth)?);
            bus.thermometer(rom, |chip| chip.warmth = warmth);
        }
        ["power", number, source] => {
            let rom = thermometer(number)?.rom();
            bus.thermometer(rom, |chip| chip.powered = source == "own");
        }
        ["add", number] => bus.add(thermometer(number)?),
        ["remove", number] => bus.remove(thermometer(number)?.rom()),
        ["log"] => {
            for done in bus.log() {
                say(&format!("did {done}"));
            }
        }
        _ => return Err(io::Error::other("no such order")),
    }
    Ok(())
}

fn parsed<T: std::str::FromStr<Err = std::num::ParseIntError>>(word: &str) -> io::Result<T> {
    word.parse().map_err(io::Error::other)
}

/// Says which devices have an alarm, one line each.
///
/// # Errors
/// There is no such bus.
pub(crate) fn alarms(master: u32) -> io::Result<()> {
    let done = Connector::open()?.run(master, &[Command::AlarmSearch], PATIENCE)?;
    for code in done.iter().flat_map(|done| done.data.chunks_exact(8)) {
        let code = <[u8; 8]>::try_from(code).map_err(io::Error::other)?;
        say(&Rom(code).to_string());
    }
    Ok(())
}
