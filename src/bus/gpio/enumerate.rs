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
            let by_label = format!("gpio:{}", info.label);
            let labelled = !twice.contains(&info.label) && names_a_device(&by_label);
            let id = if labelled {
                by_label
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

/// Whether a text may be the id of a device (profile 19).
fn names_a_device(id: &str) -> bool {
    let graphic = id.chars().all(|c| c.is_ascii_graphic() && c != '*');
    graphic && id.len() <= MAX_DEVICE_ID && id != "gpio:" && number_like(id).is_none()
}

/// A label that looks like the kernel's own name of a chip would take the id of another.
fn number_like(id: &str) -> Option<u32> {
    number(id.strip_prefix("gpio:")?)
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
