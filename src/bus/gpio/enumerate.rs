//! The GPIO chips of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hardware::cdev::CdevHost;
use super::hardware::{ChipInfo, GpioHost};
use super::op::{MAX_CHIP_LINES, MAX_DEVICE_ID, MAX_NAME};
use crate::bus::{Hazard, Present};
use crate::wire::msgpack::Value;

/// How the directories below `gpio-sim` of configfs begin whose chips stand for remote ones.
pub const OWN_PREFIX: &str = "myclerk-";
/// Longest label that is part of an id.
const MAX_LABEL: usize = MAX_DEVICE_ID - "gpio:".len();

/// Where a machine shows its chips.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/dev`.
    pub dev: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            dev: PathBuf::from("/dev"),
            sys: PathBuf::from("/sys"),
        }
    }
}

/// The chips of this machine; may wait.
///
/// # Errors
/// The directory of devices cannot be read.
pub fn look() -> io::Result<Vec<Present>> {
    let roots = Roots::default();
    Ok(devices(chips(&roots, &CdevHost::new(&roots.dev))?))
}

/// Every chip that can be opened: what the kernel calls it, what it says of itself, and why it is not
/// given away.
fn chips(
    roots: &Roots,
    host: &dyn GpioHost,
) -> io::Result<Vec<(String, ChipInfo, Option<Hazard>)>> {
    let own = own_platform_devices(&roots.sys);
    let mut found = Vec::new();
    for entry in fs::read_dir(&roots.dev)? {
        let Ok(place) = entry?.file_name().into_string() else {
            continue;
        };
        if number(&place).is_none() {
            continue;
        }
        // One that vanished, or that is none, is as if it had never been.
        let Some(info) = host.open(&place).ok().and_then(|chip| chip.info().ok()) else {
            continue;
        };
        let hazard = is_own(&roots.sys, &place, &own).then(|| Hazard {
            reason: "it stands for the chip of another machine".to_owned(),
            forcible: false,
        });
        found.push((place, info, hazard));
    }
    found.sort_by_key(|(place, ..)| number(place));
    Ok(found)
}

/// The N of `gpiochipN`.
fn number(place: &str) -> Option<u32> {
    let digits = place.strip_prefix("gpiochip")?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Chips as devices. A chip is known by its label if no other has that, since the kernel numbers
/// chips as it finds them.
pub(super) fn devices(found: Vec<(String, ChipInfo, Option<Hazard>)>) -> Vec<Present> {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for (_, info, _) in &found {
        if !seen.insert(info.label.clone()) {
            twice.insert(info.label.clone());
        }
    }
    found
        .into_iter()
        .map(|(place, info, hazard)| {
            let labelled = !twice.contains(&info.label) && may_name(&info.label);
            let id = if labelled {
                format!("gpio:{}", info.label)
            } else {
                format!("gpio:{place}")
            };
            let too_many = info.lines > MAX_CHIP_LINES;
            let hazard = hazard.or_else(|| {
                too_many.then(|| Hazard {
                    reason: format!("it has {} lines", info.lines),
                    forcible: false,
                })
            });
            let label = clean(&info.label);
            let name = if label.is_empty() {
                place.clone()
            } else {
                label.clone()
            };
            let props = BTreeMap::from([
                ("chip".to_owned(), Value::Str(place.clone())),
                ("label".to_owned(), Value::Str(label)),
                ("lines".to_owned(), Value::Uint(info.lines.into())),
            ]);
            Present {
                id,
                name,
                place,
                hazard,
                props,
            }
        })
        .collect()
}

/// Whether a label may be part of an id (profile 19). One that looks like the kernel's own name of a
/// chip would take the id of another.
fn may_name(label: &str) -> bool {
    let graphic = label.chars().all(|c| c.is_ascii_graphic() && c != '*');
    graphic && !label.is_empty() && label.len() <= MAX_LABEL && number(label).is_none()
}

/// A name of the kernel as the wire carries it: at most [`MAX_NAME`] bytes without control characters.
pub(super) fn clean(name: &str) -> String {
    let mut clean = String::new();
    for c in name.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if clean.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        clean.push(c);
    }
    clean
}

/// The platform devices (`gpio-sim.0`) of the chips that we made of remote ones.
fn own_platform_devices(sys: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sys.join("kernel/config/gpio-sim")) else {
        return Vec::new();
    };
    let own = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes())
    });
    own.filter_map(|entry| fs::read_to_string(entry.path().join("dev_name")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// A chip stands in sysfs below the platform device that it belongs to.
fn is_own(sys: &Path, place: &str, own: &[String]) -> bool {
    let Ok(path) = fs::canonicalize(sys.join("bus/gpio/devices").join(place)) else {
        return false;
    };
    let mut parts = path.components();
    parts.any(|part| own.iter().any(|name| part.as_os_str() == name.as_str()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use nix::errno::Errno;

    use super::*;
    use crate::bus::gpio::fake::FakeChip;
    use crate::bus::gpio::hardware::GpioChip;

    fn info(label: &str, lines: u32) -> ChipInfo {
        ChipInfo {
            name: String::new(),
            label: label.to_owned(),
            lines,
        }
    }

    fn ids(labels: &[&str]) -> Vec<String> {
        let found = labels
            .iter()
            .enumerate()
            .map(|(number, label)| (format!("gpiochip{number}"), info(label, 8), None));
        devices(found.collect())
            .into_iter()
            .map(|device| device.id)
            .collect()
    }

    #[test]
    fn a_chip_is_known_by_its_label_if_that_can_be() {
        let long = "l".repeat(60);
        let labels = [
            "pinctrl-bcm2835",
            "twin",
            "twin",
            "",
            "a b",
            "gpiochip0",
            "star*",
            &long,
        ];
        let expected = [
            "gpio:pinctrl-bcm2835",
            "gpio:gpiochip1",
            "gpio:gpiochip2",
            "gpio:gpiochip3",
            "gpio:gpiochip4",
            "gpio:gpiochip5",
            "gpio:gpiochip6",
            "gpio:gpiochip7",
        ];
        assert_eq!(ids(&labels), expected);
    }

    #[test]
    fn names_are_cut_between_characters_and_have_no_control_characters() {
        assert_eq!(clean("LED\n1"), "LED?1");
        assert_eq!(clean(&format!("{}ä", "n".repeat(30))), "n".repeat(30));
        assert_eq!(clean(&"n".repeat(40)).len(), MAX_NAME);
    }

    #[test]
    fn a_chip_with_more_lines_than_can_be_told_is_not_given_away() {
        let place = "gpiochip0".to_owned();
        let found = devices(vec![(place, info("big", MAX_CHIP_LINES + 1), None)]);
        assert!(found.iter().all(|device| device.hazard.is_some()));
    }

    /// Opens whatever has the number of a chip, except `gpiochip3`.
    struct Any;

    impl GpioHost for Any {
        fn open(&self, place: &str) -> io::Result<Arc<dyn GpioChip>> {
            match place {
                "gpiochip3" => Err(Errno::ENOENT.into()),
                place => Ok(Arc::new(FakeChip::new(&format!("chip of {place}"), &["a"]))),
            }
        }
    }

    #[test]
    fn chips_that_stand_for_remote_ones_are_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots {
            dev: dir.path().join("dev"),
            sys: dir.path().join("sys"),
        };
        fs::create_dir(&roots.dev).unwrap();
        for name in [
            "gpiochip10",
            "gpiochip2",
            "gpiochip3",
            "gpiochip02",
            "gpio",
            "null",
        ] {
            fs::write(roots.dev.join(name), "").unwrap();
        }
        let devices = roots.sys.join("bus/gpio/devices");
        fs::create_dir_all(&devices).unwrap();
        for (platform, chip) in [("gpio-sim.0", "gpiochip2"), ("gpio-sim.1", "gpiochip10")] {
            let place = roots.sys.join("devices/platform").join(platform).join(chip);
            fs::create_dir_all(&place).unwrap();
            symlink(&place, devices.join(chip)).unwrap();
        }
        for (name, platform) in [("myclerk-hub-0", "gpio-sim.1\n"), ("bench", "gpio-sim.0\n")] {
            let chip = roots.sys.join("kernel/config/gpio-sim").join(name);
            fs::create_dir_all(&chip).unwrap();
            fs::write(chip.join("dev_name"), platform).unwrap();
        }
        let found = chips(&roots, &Any).unwrap();
        let told = found
            .iter()
            .map(|(place, _, hazard)| (&**place, hazard.is_some()));
        assert!(told.eq([("gpiochip2", false), ("gpiochip10", true)]));
    }
}
