//! The input devices of this machine, their stable ids, and which of them it needs itself.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::bus::{Hazard, Present};
use crate::kernel::evdev::Codes;
use crate::wire::msgpack::Value;

/// Longest device id in bytes (profile 19).
const MAX_ID: usize = 64;
/// How the place of a device begins that another machine's device was made into.
pub const OURS: &str = "myclerk/";

/// `KEY_Q` to `KEY_P`: what has them all can write.
const LETTERS: std::ops::RangeInclusive<u16> = 16..=25;
/// `KEY_POWER`, `KEY_SLEEP`, `KEY_WAKEUP`.
const POWER: [u16; 3] = [116, 142, 143];
/// Bits of a word in sysfs.
const WORD: u16 = if size_of::<usize>() == 8 { 64 } else { 32 };
/// `SW_LID`.
const LID: u16 = 0;
/// `BTN_MISC`, the first code that is a button and no key.
const BUTTONS: u16 = 0x100;

/// What sysfs says of an input device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    /// `event3`.
    event: String,
    name: String,
    phys: String,
    uniq: String,
    vendor: u16,
    product: u16,
    bus: u16,
    keys: Codes,
    rel: Codes,
    abs: Codes,
    switches: Codes,
    effects: bool,
}

/// The input devices that are there now, by id. Reads many small files.
///
/// # Errors
/// sysfs cannot be read. A kernel without input devices has none.
pub fn list() -> io::Result<Vec<Present>> {
    list_in(Path::new("/sys/class/input"))
}

/// [`list`] below another directory than `/sys/class/input`.
///
/// # Errors
/// As [`list`].
pub fn list_in(class: &Path) -> io::Result<Vec<Present>> {
    let entries = match fs::read_dir(class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(event) = name.to_str().filter(|name| name.starts_with("event")) else {
            continue;
        };
        // One that is unplugged at this moment is left out.
        found.extend(read(&entry.path().join("device"), event));
    }
    found.sort_by_key(number);
    Ok(presents(&found))
}

fn number(found: &Found) -> Option<u32> {
    found.event.strip_prefix("event")?.parse().ok()
}

fn read(device: &Path, event: &str) -> Option<Found> {
    let text = |file: &str| {
        let text = fs::read_to_string(device.join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    let hex = |file: &str| u16::from_str_radix(&text(file), 16).ok();
    let codes = |file: &str| bitmap(&text(file));
    Some(Found {
        event: event.to_owned(),
        name: text("name"),
        phys: text("phys"),
        uniq: text("uniq"),
        vendor: hex("id/vendor")?,
        product: hex("id/product")?,
        bus: hex("id/bustype")?,
        keys: codes("capabilities/key"),
        rel: codes("capabilities/rel"),
        abs: codes("capabilities/abs"),
        switches: codes("capabilities/sw"),
        effects: !codes("capabilities/ff").is_empty(),
    })
}

/// Words of this machine's length in hexadecimal, the highest first.
fn bitmap(text: &str) -> Codes {
    let words = text.split_whitespace().rev();
    let mut codes = Codes::new();
    for (first, digits) in (0u16..4096).step_by(WORD.into()).zip(words) {
        let bits = u64::from_str_radix(digits, 16).unwrap_or(0);
        for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
            codes.set(first + bit, true);
        }
    }
    codes
}

fn presents(found: &[Found]) -> Vec<Present> {
    let keyboards = found
        .iter()
        .filter(|device| device.writes() && !device.ours())
        .count();
    let mut presents: Vec<Present> = found
        .iter()
        .zip(ids(found))
        .map(|(device, id)| Present {
            id,
            name: match device.name.as_str() {
                "" => format!("input device {:04x}:{:04x}", device.vendor, device.product),
                name => name.to_owned(),
            },
            place: device.event.clone(),
            hazard: device.hazard(keyboards == 1),
            props: device.props(),
        })
        .collect();
    presents.sort_by(|one, other| one.id.cmp(&other.id));
    presents
}

impl Found {
    fn ours(&self) -> bool {
        self.phys.starts_with(OURS)
    }

    /// Whether one can write text with it.
    fn writes(&self) -> bool {
        LETTERS.into_iter().all(|letter| self.keys.has(letter))
    }

    fn hazard(&self, only_keyboard: bool) -> Option<Hazard> {
        let hazard = |reason: &str, forcible| {
            Some(Hazard {
                reason: reason.to_owned(),
                forcible,
            })
        };
        let power = |code: u16| POWER.contains(&code);
        if self.ours() {
            hazard("it is another machine's device, used here", false)
        } else if self.writes() && only_keyboard {
            hazard("it is this machine's only keyboard", true)
        } else if !self.keys.is_empty() && self.keys.iter().all(power) {
            hazard("it is this machine's power button", true)
        } else if self.switches.has(LID) {
            hazard("it is this machine's lid switch", true)
        } else {
            None
        }
    }

    /// What kind of thing it is, for people.
    fn kind(&self) -> &'static str {
        // BTN_LEFT, BTN_TOUCH, BTN_JOYSTICK to BTN_THUMBR.
        let (left, touch) = (self.keys.has(0x110), self.keys.has(0x14A));
        if self.writes() {
            "keyboard"
        } else if self.rel.has(0) && left {
            "mouse"
        } else if self.abs.has(0) && touch {
            "touch"
        } else if self.keys.iter().any(|key| (0x120..0x13F).contains(&key)) {
            "joystick"
        } else if self.keys.iter().any(|key| key < BUTTONS) {
            "keys"
        } else {
            "input"
        }
    }

    fn props(&self) -> BTreeMap<String, Value> {
        let mut props = BTreeMap::from([
            ("bus".to_owned(), Value::from(u64::from(self.bus))),
            ("vendor".to_owned(), Value::from(u64::from(self.vendor))),
            ("product".to_owned(), Value::from(u64::from(self.product))),
            ("kind".to_owned(), Value::from(self.kind())),
            ("force-feedback".to_owned(), Value::from(self.effects)),
        ]);
        for (key, text) in [("phys", &self.phys), ("uniq", &self.uniq)] {
            if !text.is_empty() {
                props.insert(key.to_owned(), Value::from(text.as_str()));
            }
        }
        props
    }

    /// The candidates for its id, the best first: by what tells it from others of its kind, by where
    /// it is plugged in, by that and its name. A device of several nodes has the first two the same
    /// for each.
    fn candidates(&self) -> Vec<String> {
        let mut rests = Vec::new();
        for rest in [&self.uniq, &self.phys] {
            if rest.chars().any(|c| c.is_ascii_alphanumeric()) && !self.ours() {
                rests.push(rest.clone());
            }
        }
        let place = if self.phys.is_empty() {
            &self.uniq
        } else {
            &self.phys
        };
        rests.push(format!("{place}+{}", self.name));
        let id = |rest: String| fitting(self.vendor, self.product, &rest);
        rests.into_iter().map(id).collect()
    }
}

/// The first candidate of each device that nobody else has; else its last one with a number.
fn ids(found: &[Found]) -> Vec<String> {
    let mut claims: HashMap<String, usize> = HashMap::new();
    for device in found {
        let mut mine = device.candidates();
        mine.dedup();
        for candidate in mine {
            *claims.entry(candidate).or_default() += 1;
        }
    }
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut choose = |device: &Found| {
        let candidates = device.candidates();
        let alone = candidates
            .iter()
            .find(|candidate| claims.get(*candidate) == Some(&1));
        if let Some(alone) = alone {
            return alone.clone();
        }
        let last = candidates.last().cloned().unwrap_or_default();
        let number = taken.entry(last.clone()).or_default();
        *number += 1;
        fitting(device.vendor, device.product, &format!("{last}~{number}"))
    };
    found.iter().map(&mut choose).collect()
}

/// `hid:VVVV:PPPP:REST`, the rest in plain characters and, where it is too long, its end as a hash.
fn fitting(vendor: u16, product: u16, rest: &str) -> String {
    let head = format!("hid:{vendor:04x}:{product:04x}:");
    let rest = rest.strip_prefix(head.as_str()).unwrap_or(rest);
    let plain: String = rest
        .chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' | ':' | '+' | '~' => c,
            _ => '_',
        })
        .collect();
    if head.len() + plain.len() <= MAX_ID {
        return head + &plain;
    }
    let hash = Sha256::digest(rest.as_bytes());
    let [a, b, c, d, ..]: [u8; 32] = hash.into();
    let hash = format!("{:08x}", u32::from_be_bytes([a, b, c, d]));
    let room = MAX_ID - head.len() - hash.len() - 1;
    let begin: String = plain.chars().take(room).collect();
    format!("{head}{begin}~{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyboard(event: &str, phys: &str, uniq: &str) -> Found {
        Found {
            event: event.to_owned(),
            name: "Keyboard K120".to_owned(),
            phys: phys.to_owned(),
            uniq: uniq.to_owned(),
            vendor: 0x046D,
            product: 0xC31C,
            bus: 3,
            keys: (1..120).collect(),
            ..Found::default()
        }
    }

    fn ids_of(found: &[Found]) -> Vec<String> {
        ids(found)
    }

    #[test]
    fn a_serial_number_makes_an_id_that_no_port_changes() {
        assert_eq!(
            ids_of(&[keyboard("event3", "usb-0000:00:14.0-1/input0", "A1 B")]),
            ["hid:046d:c31c:A1_B"]
        );
    }

    #[test]
    fn nodes_with_one_serial_number_go_by_their_place_and_those_with_one_place_by_name_too() {
        let one = keyboard("event3", "usb-1/input0", "A1");
        let other = keyboard("event4", "usb-1/input1", "A1");
        let pen = Found {
            name: "Pen".to_owned(),
            ..keyboard("event5", "usb-1/input1", "A1")
        };
        assert_eq!(
            ids_of(&[one, other, pen]),
            [
                "hid:046d:c31c:usb-1/input0",
                "hid:046d:c31c:usb-1/input1+Keyboard_K120",
                "hid:046d:c31c:usb-1/input1+Pen"
            ]
        );
    }

    #[test]
    fn twins_that_nothing_tells_apart_are_counted() {
        let twin = |event| keyboard(event, "", "");
        assert_eq!(
            ids_of(&[twin("event1"), twin("event2")]),
            [
                "hid:046d:c31c:+Keyboard_K120~1",
                "hid:046d:c31c:+Keyboard_K120~2"
            ]
        );
    }

    #[test]
    fn a_long_place_ends_as_a_hash_and_stays_different() {
        let far = |last: char| format!("{}{last}", "usb-0000:00:14.0-1.".repeat(4));
        let found = [
            keyboard("event1", &far('1'), ""),
            keyboard("event2", &far('2'), ""),
        ];
        let ids = ids_of(&found);
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.len() == MAX_ID));
    }

    #[test]
    fn the_only_keyboard_is_kept_unless_forced_and_one_of_two_is_not() {
        let one = keyboard("event1", "usb-1/input0", "");
        let mouse = Found {
            keys: [0x110].into_iter().collect(),
            rel: [0, 1].into_iter().collect(),
            ..keyboard("event2", "usb-2/input0", "")
        };
        let borrowed = keyboard("event3", "myclerk/hub/hid:1", "");
        let list = presents(&[one.clone(), mouse.clone(), borrowed]);
        let hazard = |list: &[Present], place: &str| {
            let found = list.iter().find(|present| present.place == place);
            found.unwrap().hazard.clone()
        };
        assert!(hazard(&list, "event1").unwrap().forcible);
        assert_eq!(hazard(&list, "event2"), None);
        assert!(!hazard(&list, "event3").unwrap().forcible);
        let second = keyboard("event4", "usb-4/input0", "");
        let list = presents(&[one, second]);
        assert_eq!(hazard(&list, "event1"), None);
    }

    #[test]
    fn the_power_button_and_the_lid_stay_unless_forced() {
        let button = Found {
            keys: [116].into_iter().collect(),
            ..keyboard("event0", "PNP0C0C/button/input0", "")
        };
        assert!(button.hazard(false).unwrap().forcible);
        let lid = Found {
            keys: Codes::new(),
            switches: [LID].into_iter().collect(),
            ..button
        };
        assert!(lid.hazard(false).unwrap().forcible);
    }

    #[test]
    fn sysfs_is_read_as_the_kernel_writes_it() {
        let class = tempfile::tempdir().unwrap();
        let device = class.path().join("event12/device");
        fs::create_dir_all(device.join("id")).unwrap();
        fs::create_dir_all(device.join("capabilities")).unwrap();
        for (file, text) in [
            ("name", "QEMU Virtio Keyboard\n"),
            ("phys", "\n"),
            ("uniq", "serial7\n"),
            ("id/vendor", "0627\n"),
            ("id/product", "0001\n"),
            ("id/bustype", "0006\n"),
            ("capabilities/key", "1 0 0 3ff0000\n"),
        ] {
            fs::write(device.join(file), text).unwrap();
        }
        fs::create_dir(class.path().join("mouse0")).unwrap();
        // Unplugged at this moment.
        fs::create_dir(class.path().join("event13")).unwrap();
        let list = list_in(class.path()).unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].id, "hid:0627:0001:serial7");
        assert_eq!(list[0].place, "event12");
        assert_eq!(list[0].props["kind"], Value::from("keyboard"));
        assert!(list[0].hazard.as_ref().unwrap().forcible);
        let words = bitmap("1 0 0 3ff0000");
        assert!(words.has(16) && words.has(25) && words.has(3 * WORD));
        assert!(list_in(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
