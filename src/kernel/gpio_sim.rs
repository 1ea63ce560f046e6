//! Simulated GPIO chips (kernel `drivers/gpio/gpio-sim.c`): made in configfs, played in sysfs.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::gpio_mark;

/// Most lines of a simulated chip (`GPIO_SIM_NGPIO_MAX`).
pub const MAX_LINES: u32 = 1024;
/// Longest name that programs get to see, in bytes: `GPIO_MAX_NAME_SIZE` without its final zero.
pub const MAX_NAME: usize = 31;

const CONFIGFS: &str = "/sys/kernel/config/gpio-sim";
const PLATFORM: &str = "/sys/devices/platform";
const BANK: &str = "bank0";

/// A chip to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the chip is called. The kernel finds chips for [`Plan::taken`] by it, so no other chip
    /// may have it.
    pub label: String,
    /// How many lines it has, 1 to [`MAX_LINES`].
    pub lines: u32,
    /// Names of lines.
    pub names: BTreeMap<u32, String>,
    /// Lines that nobody can request, each with what is shown as its user.
    pub taken: BTreeMap<u32, String>,
}

/// A simulated chip. It stays until [`SimChip::remove`] or the end of this value.
#[derive(Debug)]
pub struct SimChip {
    name: String,
    directory: PathBuf,
    lines: PathBuf,
    node: PathBuf,
    base: u32,
    count: u32,
}

/// Whether the kernel can make such chips now.
///
/// # Errors
/// The module is not loaded, or configfs is not mounted.
pub fn probe() -> io::Result<()> {
    fs::metadata(CONFIGFS).map(drop)
}

/// Whether this kernel has the module at all; `None` when that cannot be known.
pub fn is_built() -> Option<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let modules = Path::new("/lib/modules").join(release.trim());
    let lists = ["modules.dep", "modules.builtin"];
    let known: Vec<String> = lists
        .iter()
        .filter_map(|list| fs::read_to_string(modules.join(list)).ok())
        .collect();
    (!known.is_empty()).then(|| known.iter().any(|list| list.contains("/gpio-sim.ko")))
}

/// Whether a chip of this machine has that label.
pub fn is_label_taken(label: &str) -> bool {
    let chips = gpiocdev::chip::chips().unwrap_or_default();
    chips
        .iter()
        .filter_map(|path| gpiocdev::Chip::from_path(path).ok()?.info().ok())
        .any(|info| info.label == label)
}

/// Removes the chips of processes that ended without removing them.
pub fn sweep() {
    for entry in fs::read_dir(CONFIGFS).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(gpio_mark::is_left_behind)
        {
            let path = entry.path();
            match dismantle(&path) {
                Ok(()) => tracing::info!(?path, "removed what a killed process left behind"),
                Err(error) => tracing::warn!(?path, %error, "a killed process left this behind"),
            }
        }
    }
}

impl SimChip {
    /// Makes a chip.
    ///
    /// # Errors
    /// A name that cannot be one, or what the kernel says. Nothing is left then.
    pub fn create(plan: &Plan) -> io::Result<Self> {
        check(plan)?;
        let name = gpio_mark::fresh();
        let directory = Path::new(CONFIGFS).join(&name);
        fs::create_dir(&directory)?;
        Self::build(plan, name, &directory).inspect_err(|_| {
            if let Err(error) = dismantle(&directory) {
                tracing::warn!(?directory, %error, "a chip that was not made is still there");
            }
        })
    }

    fn build(plan: &Plan, name: String, directory: &Path) -> io::Result<Self> {
        let bank = directory.join(BANK);
        fs::create_dir(&bank)?;
        write(&bank.join("num_lines"), &plan.lines.to_string())?;
        write(&bank.join("label"), &plan.label)?;
        for line in 0..plan.lines {
            let (line_name, user) = (plan.names.get(&line), plan.taken.get(&line));
            if line_name.is_none() && user.is_none() {
                continue;
            }
            let line = bank.join(format!("line{line}"));
            fs::create_dir(&line)?;
            if let Some(name) = line_name {
                write(&line.join("name"), name)?;
            }
            if let Some(user) = user {
                fs::create_dir(line.join("hog"))?;
                write(&line.join("hog/name"), user)?;
            }
        }
        write(&directory.join("live"), "1")?;
        let device = Path::new(PLATFORM).join(read_name(&directory.join("dev_name"))?);
        let chip = read_name(&bank.join("chip_name"))?;
        Ok(Self {
            name,
            directory: directory.to_owned(),
            base: base(&device)?,
            lines: device.join(&chip),
            node: Path::new("/dev").join(&chip),
            count: plan.lines,
        })
    }

    /// The name of its directory, with which related things in the kernel can be named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its character device.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The kernel's global number of its first line.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// How many lines it has.
    pub fn lines(&self) -> u32 {
        self.count
    }

    /// Plays what is wired to a line: the level that it has while it is an input.
    ///
    /// # Errors
    /// There is no such line, or the chip is gone.
    pub fn set_pull(&self, line: u32, high: bool) -> io::Result<()> {
        let pull = if high { "pull-up" } else { "pull-down" };
        write(&self.line(line).join("pull"), pull)
    }

    /// The level of a line.
    ///
    /// # Errors
    /// As [`SimChip::set_pull`].
    pub fn value(&self, line: u32) -> io::Result<bool> {
        Ok(read_name(&self.line(line).join("value"))? == "1")
    }

    fn line(&self, line: u32) -> PathBuf {
        self.lines.join(format!("sim_gpio{line}"))
    }

    /// Removes it, also from under programs that use its lines: those see a chip that was unplugged.
    ///
    /// # Errors
    /// What the kernel says; something is left then.
    pub fn remove(self) -> io::Result<()> {
        dismantle(&self.directory)
    }
}

impl Drop for SimChip {
    fn drop(&mut self) {
        // A second time there is nothing.
        let _ = dismantle(&self.directory);
    }
}

/// Takes a chip and its directories away, inner ones first.
fn dismantle(directory: &Path) -> io::Result<()> {
    // Fails where the chip was never alive.
    let _ = write(&directory.join("live"), "0");
    remove_directories(directory, 4)
}

/// Only directories can be removed here; the files in them go with them.
fn remove_directories(directory: &Path, depth: u32) -> io::Result<()> {
    if depth > 0 {
        for entry in fs::read_dir(directory)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_directories(&entry.path(), depth - 1)?;
            }
        }
    }
    fs::remove_dir(directory)
}

/// The names come from elsewhere and are written into the kernel's files.
fn check(plan: &Plan) -> io::Result<()> {
    let names = plan.names.iter().chain(&plan.taken);
    let fits = (1..=MAX_LINES).contains(&plan.lines)
        && is_name(&plan.label)
        && names
            .clone()
            .all(|(line, name)| *line < plan.lines && is_name(name));
    if fits {
        Ok(())
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "a line or name that no simulated chip can have",
        ))
    }
}

/// Whether the kernel keeps a text as it is when it becomes the name of a chip or line.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.trim() == text
        && !text.chars().any(|c| c.is_control() || c == '/')
}

/// `/sys/devices/platform/gpio-sim.0/gpio/gpiochip512/base`.
fn base(device: &Path) -> io::Result<u32> {
    let missing = || io::Error::new(ErrorKind::NotFound, "the kernel has no /sys/class/gpio");
    let chips = fs::read_dir(device.join("gpio")).map_err(|_| missing())?;
    let path = chips
        .flatten()
        .next()
        .ok_or_else(missing)?
        .path()
        .join("base");
    let text = read_name(&path)?;
    text.parse().map_err(|_| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("{}: {text}", path.display()),
        )
    })
}

fn read_name(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// In one `write`, as configfs and sysfs want it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(label: &str, lines: u32, name: &str) -> Plan {
        Plan {
            label: label.to_owned(),
            lines,
            names: BTreeMap::from([(0, name.to_owned())]),
            taken: BTreeMap::new(),
        }
    }

    #[test]
    fn names_that_would_be_more_than_a_name_are_refused() {
        assert!(check(&plan("pinctrl-bcm2711", 54, "GPIO2 (SDA1)")).is_ok());
        for name in ["", " led", "led\n", "a\0b", "../x", &"n".repeat(32)] {
            assert!(check(&plan("bench", 8, name)).is_err(), "{name:?}");
            assert!(check(&plan(name, 8, "LED")).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_chip_has_as_many_lines_as_the_kernel_can_simulate() {
        assert!(check(&plan("bench", 0, "LED")).is_err());
        assert!(check(&plan("bench", MAX_LINES, "LED")).is_ok());
        assert!(check(&plan("bench", MAX_LINES + 1, "LED")).is_err());
        let mut beyond = plan("bench", 8, "LED");
        beyond.taken.insert(8, "spi0 CS0".to_owned());
        assert!(check(&beyond).is_err());
    }

    #[test]
    fn directories_go_inner_ones_first() {
        let root = tempfile::tempdir().unwrap();
        let chip = root.path().join("chip");
        fs::create_dir_all(chip.join("bank0/line3/hog")).unwrap();
        dismantle(&chip).unwrap();
        assert!(!chip.exists());
    }
}
