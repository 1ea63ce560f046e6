//! PWM channels through sysfs (Documentation/driver-api/pwm.rst, drivers/pwm/core.c). The device
//! behind a chip may be slow: every call may wait.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// The PWM chips of a machine: `/sys/class/pwm`.
#[derive(Clone, Debug)]
pub struct Chips {
    root: PathBuf,
}

/// An exported channel. It stays exported when this is dropped.
#[derive(Debug)]
pub struct Channel {
    chip: PathBuf,
    number: u32,
}

/// What a channel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Nanoseconds of one cycle; 0 when it was never set.
    pub period_ns: u64,
    /// Nanoseconds of a cycle for which it is active.
    pub duty_ns: u64,
    /// Active means low.
    pub inversed: bool,
    /// It runs.
    pub on: bool,
}

impl Chips {
    /// The chips below that directory, normally `/sys/class/pwm`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `pwmchipN`, in the order of N. A kernel without PWM has none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            let number = name.strip_prefix("pwmchip").map(str::parse::<u32>);
            if let Some(Ok(number)) = number {
                found.push((number, name));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// The device that a chip is part of, as the kernel calls it: `fe20c000.pwm`.
    pub fn device(&self, chip: &str) -> Option<String> {
        let device = fs::canonicalize(self.root.join(chip).join("device")).ok()?;
        Some(device.file_name()?.to_string_lossy().into_owned())
    }

    /// How many channels a chip has.
    ///
    /// # Errors
    /// `ENOENT` when the chip is gone.
    pub fn channels(&self, chip: &str) -> Result<u32, Errno> {
        number(&self.root.join(chip).join("npwm"))
    }

    /// Takes a channel.
    ///
    /// # Errors
    /// `EBUSY` when somebody has it, `ENODEV` when the chip has no such channel, `ENOENT` when the chip
    /// is gone.
    pub fn export(&self, chip: &str, channel: u32) -> Result<Channel, Errno> {
        write(&self.root.join(chip).join("export"), &channel.to_string())?;
        Ok(self.exported(chip, channel))
    }

    /// A channel that was taken before.
    pub fn exported(&self, chip: &str, channel: u32) -> Channel {
        Channel {
            chip: self.root.join(chip),
            number: channel,
        }
    }
}

impl Channel {
    /// What the channel does.
    ///
    /// # Errors
    /// `ENOENT` or `ENODEV` when the chip is gone.
    pub fn state(&self) -> Result<State, Errno> {
        Ok(State {
            period_ns: number(&self.file("period"))?,
            duty_ns: number(&self.file("duty_cycle"))?,
            inversed: text(&self.file("polarity"))? == "inversed",
            on: number::<u8>(&self.file("enable"))? != 0,
        })
    }

    /// Sets period and polarity; the channel is off afterwards.
    ///
    /// # Errors
    /// `EINVAL` when the hardware cannot do it, what its driver says, `ENOENT` or `ENODEV` when the
    /// chip is gone.
    pub fn configure(&self, period_ns: u64, inversed: bool) -> Result<(), Errno> {
        let before = self.state()?;
        if before.on {
            self.write("enable", 0)?;
        }
        // At no time may the duty cycle be longer than the period; and before there is a period,
        // nothing else can be set.
        if before.duty_ns > period_ns {
            self.write("duty_cycle", 0)?;
        }
        if before.period_ns != period_ns {
            self.write("period", period_ns)?;
        }
        if before.inversed != inversed {
            let polarity = if inversed { "inversed" } else { "normal" };
            write(&self.file("polarity"), polarity)?;
        }
        Ok(())
    }

    /// Sets the duty cycle and lets the channel run.
    ///
    /// # Errors
    /// As [`Self::configure`].
    pub fn run(&self, duty_ns: u64) -> Result<(), Errno> {
        self.write("duty_cycle", duty_ns)?;
        self.write("enable", 1)
    }

    /// Stops the channel.
    ///
    /// # Errors
    /// As [`Self::configure`].
    pub fn stop(&self) -> Result<(), Errno> {
        self.write("enable", 0)
    }

    /// Gives the channel back.
    ///
    /// # Errors
    /// `ENOENT` or `ENODEV` when the chip is gone.
    pub fn unexport(&self) -> Result<(), Errno> {
        write(&self.chip.join("unexport"), &self.number.to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.chip.join(format!("pwm{}", self.number)).join(name)
    }

    fn write(&self, name: &str, value: u64) -> Result<(), Errno> {
        write(&self.file(name), &value.to_string())
    }
}

fn text(path: &Path) -> Result<String, Errno> {
    let text = fs::read_to_string(path).map_err(|error| errno(&error))?;
    Ok(text.trim().to_owned())
}

fn number<T: core::str::FromStr>(path: &Path) -> Result<T, Errno> {
    text(path)?.parse().map_err(|_| Errno::EPROTO)
}

fn write(path: &Path, text: &str) -> Result<(), Errno> {
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .map_err(|error| errno(&error))?;
    file.write_all(text.as_bytes())
        .map_err(|error| errno(&error))
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as the kernel shows them of a chip whose channel 1 is exported; they keep what is written.
    fn tree(state: [&str; 4]) -> (tempfile::TempDir, Chips) {
        let dir = tempfile::tempdir().unwrap();
        let chip = dir.path().join("pwmchip2");
        fs::create_dir_all(chip.join("pwm1")).unwrap();
        fs::write(chip.join("npwm"), "4\n").unwrap();
        fs::write(chip.join("export"), "").unwrap();
        fs::write(chip.join("unexport"), "").unwrap();
        for (file, text) in ["period", "duty_cycle", "polarity", "enable"]
            .iter()
            .zip(state)
        {
            fs::write(chip.join("pwm1").join(file), format!("{text}\n")).unwrap();
        }
        let chips = Chips::new(dir.path());
        (dir, chips)
    }

    #[test]
    fn chips_are_listed_by_their_numbers() {
        let (dir, chips) = tree(["0"; 4]);
        for name in ["pwmchip10", "pwmchip0", "other", "pwmchipx"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(
            chips.names().unwrap(),
            ["pwmchip0", "pwmchip2", "pwmchip10"]
        );
        assert_eq!(chips.channels("pwmchip2"), Ok(4));
        assert_eq!(chips.channels("pwmchip7"), Err(Errno::ENOENT));
        assert!(
            Chips::new(dir.path().join("none"))
                .names()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_channel_is_taken_configured_run_stopped_and_given_back() {
        let (dir, chips) = tree(["0", "0", "normal", "0"]);
        let channel = chips.export("pwmchip2", 1).unwrap();
        let file = |name: &str| fs::read_to_string(dir.path().join("pwmchip2").join(name)).unwrap();
        assert_eq!(file("export"), "1");
        channel.configure(20_000_000, true).unwrap();
        channel.run(1_500_000).unwrap();
        let state = State {
            period_ns: 20_000_000,
            duty_ns: 1_500_000,
            inversed: true,
            on: true,
        };
        assert_eq!(channel.state(), Ok(state));
        channel.stop().unwrap();
        assert_eq!(channel.state(), Ok(State { on: false, ..state }));
        channel.unexport().unwrap();
        assert_eq!(file("unexport"), "1");
    }

    #[test]
    fn a_duty_cycle_that_would_not_fit_goes_first() {
        let (_dir, chips) = tree(["20000", "15000", "normal", "1"]);
        let channel = chips.exported("pwmchip2", 1);
        channel.configure(10_000, false).unwrap();
        let state = channel.state().unwrap();
        assert_eq!(
            (state.period_ns, state.duty_ns, state.on),
            (10_000, 0, false)
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let (dir, chips) = tree(["0"; 4]);
        assert_eq!(chips.export("pwmchip0", 0).unwrap_err(), Errno::ENOENT);
        assert_eq!(chips.exported("pwmchip2", 3).run(1), Err(Errno::ENOENT));
        assert!(!dir.path().join("pwmchip0").exists());
    }
}
