//! A second process that gives lent devices back to their kernel drivers when the server is killed.
//!
//! Closing usbfs releases a device's interfaces but leaves them without drivers, and a process that
//! was killed can do no more than be closed. So the server keeps a child that knows which devices
//! are lent: one line on a pipe when a device is lent and one when it is back. When the pipe closes
//! while something is lent the child does what the server would have done ([`child`]). It reads
//! nothing else, listens nowhere and keeps no privilege but that to open the devices.

mod child;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow};

use super::logging;
use crate::bus::usb::enumerate::Location;

pub use child::run;

/// The subcommand that is the child.
pub const SUBCOMMAND: &str = "guard-devices";

/// A device that a peer has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Loan {
    location: Location,
    /// The configuration that it had before, 0 for none.
    configuration: u8,
}

/// What the child is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Lent(Loan),
    /// By bus and address.
    Back(u8, u8),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lent(Loan {
                location,
                configuration,
            }) => {
                let Location {
                    bus,
                    address,
                    sysfs,
                } = location;
                let sysfs = sysfs.display();
                writeln!(f, "lent {bus} {address} {configuration} {sysfs}")
            }
            Self::Back(bus, address) => writeln!(f, "back {bus} {address}"),
        }
    }
}

/// A line that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server said {0:?}")]
struct NoWord(String);

impl FromStr for Word {
    type Err = NoWord;

    fn from_str(line: &str) -> Result<Self, NoWord> {
        let word = || {
            let mut fields = line.splitn(5, ' ');
            let what = fields.next()?;
            let mut number = || fields.next()?.parse::<u8>().ok();
            let (bus, address) = (number()?, number()?);
            match what {
                "lent" => {
                    let configuration = number()?;
                    let sysfs = PathBuf::from(fields.next()?);
                    let location = Location {
                        bus,
                        address,
                        sysfs,
                    };
                    Some(Self::Lent(Loan {
                        location,
                        configuration,
                    }))
                }
                "back" => Some(Self::Back(bus, address)),
                _ => None,
            }
        };
        word().ok_or_else(|| NoWord(line.to_owned()))
    }
}

/// The server's end: tells the child, and starts another when that one is gone.
pub(super) struct Guardian {
    process: RefCell<Option<Process>>,
    loans: RefCell<BTreeMap<(u8, u8), Loan>>,
}

struct Process {
    child: Child,
    pipe: ChildStdin,
}

impl Guardian {
    /// Starts the child.
    pub(super) fn start() -> Self {
        let guardian = Self {
            process: RefCell::default(),
            loans: RefCell::default(),
        };
        guardian.restart();
        guardian
    }

    /// A peer is about to get the device; nothing was done to it yet.
    pub(super) fn lend(&self, location: &Location) {
        // Empty while it has none.
        let active = fs::read_to_string(location.sysfs.join("bConfigurationValue"));
        let configuration = active.ok().and_then(|text| text.trim().parse().ok());
        let loan = Loan {
            location: location.clone(),
            configuration: configuration.unwrap_or(0),
        };
        let key = (location.bus, location.address);
        self.loans.borrow_mut().insert(key, loan.clone());
        self.tell(&Word::Lent(loan));
    }

    /// The device is back with its drivers, or gone.
    pub(super) fn back(&self, location: &Location) {
        let (bus, address) = (location.bus, location.address);
        self.loans.borrow_mut().remove(&(bus, address));
        self.tell(&Word::Back(bus, address));
    }

    fn tell(&self, word: &Word) {
        let told = match &mut *self.process.borrow_mut() {
            Some(process) => process.tell(word),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "the guardian of lent devices is gone, starting another");
            self.restart();
        }
    }

    /// Starts a child that knows everything that is lent.
    fn restart(&self) {
        let started = Process::start().and_then(|mut process| {
            for loan in self.loans.borrow().values() {
                process.tell(&Word::Lent(loan.clone()))?;
            }
            Ok(process)
        });
        if let Err(error) = &started {
            tracing::warn!(
                %error,
                "no guardian: if this server is killed, its devices stay without drivers until the \
                 next one starts"
            );
        }
        if let Some(mut old) = self.process.replace(started.ok()) {
            // One that hangs must not take the end of its pipe for the end of the server.
            let _ = old.child.kill();
            let _ = old.child.try_wait();
        }
    }
}

impl Process {
    fn start() -> io::Result<Self> {
        // By this way it is the same program even when that was replaced on the disk.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("myclerk")
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C is meant for the server, which gives its devices back itself.
            .process_group(0);
        for kept in [logging::FILTER, logging::JOURNAL] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        // What ends the server may reach the child before it has run at all: it is born deaf.
        let usual = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let spawned = command.spawn();
        usual.thread_set_mask()?;
        let mut child = spawned?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // The server never waits for its guardian.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { child, pipe })
    }

    /// A line is short enough for the pipe to take it whole or not at all (pipe(7), `PIPE_BUF`).
    fn tell(&mut self, word: &Word) -> io::Result<()> {
        self.pipe.write_all(word.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let location = Location {
            bus: 1,
            address: 42,
            sysfs: "/sys/devices/a b/1-4".into(),
        };
        let lent = Word::Lent(Loan {
            location,
            configuration: 2,
        });
        for word in [lent, Word::Back(255, 1)] {
            let line = word.to_string();
            assert_eq!(line.trim_end().parse(), Ok(word));
        }
        for wrong in ["", "lent 1 2 3", "lent 1 2 x /sys", "back 1", "give 1 2"] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong}");
        }
    }
}
