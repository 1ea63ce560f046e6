//! The PWM chips of this machine.

use std::collections::BTreeMap;
use std::io;

use super::hardware::sysfs::ROOT;
use crate::bus::Present;
use crate::kernel::pwm::Chips;
use crate::wire::msgpack::Value;

/// The chips of this machine; may wait.
///
/// # Errors
/// sysfs cannot be read.
pub fn look() -> io::Result<Vec<Present>> {
    chips(&Chips::new(ROOT))
}

fn chips(chips: &Chips) -> io::Result<Vec<Present>> {
    let found = chips.names()?.into_iter().filter_map(|place| {
        // One that vanished is as if it had never been.
        let channels = chips.channels(&place).ok()?;
        Some(device(place.clone(), channels, chips.device(&place)))
    });
    Ok(found.collect())
}

/// A chip as a device.
pub(super) fn device(place: String, channels: u32, device: Option<String>) -> Present {
    let mut props = BTreeMap::from([("channels".to_owned(), Value::Uint(channels.into()))]);
    if let Some(device) = &device {
        props.insert("device".to_owned(), Value::Str(device.clone()));
    }
    Present {
        id: format!("pwm:{place}"),
        name: device.unwrap_or_else(|| place.clone()),
        place,
        hazard: None,
        props,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_chip_is_named_after_its_device() {
        let dir = tempfile::tempdir().unwrap();
        let (class, device) = (dir.path().join("class"), dir.path().join("fe20c000.pwm"));
        fs::create_dir_all(class.join("pwmchip0")).unwrap();
        fs::create_dir_all(class.join("pwmchip1")).unwrap();
        fs::create_dir(&device).unwrap();
        fs::write(class.join("pwmchip0/npwm"), "2\n").unwrap();
        symlink(&device, class.join("pwmchip0/device")).unwrap();
        let found = chips(&Chips::new(&class)).unwrap();
        let [chip] = &*found else {
            panic!("{found:?}");
        };
        assert_eq!((&*chip.id, &*chip.name), ("pwm:pwmchip0", "fe20c000.pwm"));
        assert_eq!(chip.props.get("channels"), Some(&Value::Uint(2)));
    }
}
