//! The SPI devices of this machine that the kernel leaves to programs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::bus::{Present, Roots};
use crate::kernel::spidev::bufsiz;
use crate::wire::msgpack::Value;

/// The devices of this machine, in the order of bus and chip select; may wait.
///
/// # Errors
/// sysfs cannot be read.
pub fn look() -> io::Result<Vec<Present>> {
    look_in(&Roots::default())
}

/// [`look`], elsewhere.
///
/// # Errors
/// sysfs cannot be read.
pub fn look_in(roots: &Roots) -> io::Result<Vec<Present>> {
    let class = roots.sys.join("class/spidev");
    let entries = match fs::read_dir(&class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let bufsiz = bufsiz(&roots.sys);
    let mut found = Vec::new();
    for entry in entries {
        let Ok(place) = entry?.file_name().into_string() else {
            continue;
        };
        if let Some(numbers) = numbers(&place) {
            let chip = chip(&class.join(&place));
            found.push((numbers, device(place, chip, bufsiz)));
        }
    }
    found.sort_by_key(|(numbers, _)| *numbers);
    Ok(found.into_iter().map(|(_, device)| device).collect())
}

/// Bus and chip select of `spidevB.C`.
pub(super) fn numbers(place: &str) -> Option<(u32, u32)> {
    let (bus, select) = place.strip_prefix("spidev")?.split_once('.')?;
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    Some((number(bus)?, number(select)?))
}

/// What the machine's description calls the chip: `spi:w25q80` without the bus.
fn chip(directory: &Path) -> Option<String> {
    let text = fs::read_to_string(directory.join("device/modalias")).ok()?;
    let text = text.trim();
    let name = text.strip_prefix("spi:").unwrap_or(text);
    (!name.is_empty()).then(|| name.to_owned())
}

/// A device as the owner's daemon knows it.
pub(super) fn device(place: String, chip: Option<String>, bufsiz: u32) -> Present {
    let mut props = BTreeMap::from([("bufsiz".to_owned(), Value::Uint(bufsiz.into()))]);
    if let Some(chip) = &chip {
        props.insert("chip".to_owned(), Value::Str(chip.clone()));
    }
    Present {
        id: format!("spi:{place}"),
        name: match chip {
            Some(chip) => format!("{chip} ({place})"),
            None => place.clone(),
        },
        place,
        hazard: None,
        props,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots {
            sys: dir.path().to_owned(),
            ..Roots::default()
        };
        assert_eq!(look_in(&roots).unwrap(), []);
        let class = dir.path().join("class/spidev");
        for place in [
            "spidev10.0",
            "spidev2.1",
            "spidev2.0",
            "spidevx.0",
            "spidev1",
        ] {
            fs::create_dir_all(class.join(place).join("device")).unwrap();
        }
        fs::write(class.join("spidev2.1/device/modalias"), "spi:dh2228fv\n").unwrap();
        let found = look_in(&roots).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|device| (&*device.id, &*device.name))
            .collect();
        let expected = [
            ("spi:spidev2.0", "spidev2.0"),
            ("spi:spidev2.1", "dh2228fv (spidev2.1)"),
            ("spi:spidev10.0", "spidev10.0"),
        ];
        assert_eq!(names, expected);
        let [first, ..] = &*found else {
            panic!("{found:?}");
        };
        assert_eq!(first.props.get("bufsiz"), Some(&Value::Uint(4096)));
    }

    #[test]
    fn a_place_is_two_plain_numbers() {
        assert_eq!(numbers("spidev7.12"), Some((7, 12)));
        for other in [
            "spidev+7.0",
            "spidev7",
            "spidev7.",
            "spidev.0",
            "spi7.0",
            "spidev1.2.3",
        ] {
            assert_eq!(numbers(other), None, "{other}");
        }
    }
}
