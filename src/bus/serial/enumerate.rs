//! The serial ports of this machine, their stable ids, and who uses them.

pub use crate::bus::Roots;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::op::MAX_DEVICE_ID;
use crate::bus::{Hazard, Present, programs};
use crate::wire::msgpack::Value;

/// Every serial port that is there now, sorted by id. Reads many small files: call it where waiting is
/// allowed.
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
    let ports = ports(&roots.sys)?;
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let by_id = links(&roots.dev.join("serial/by-id"));
    let by_path = links(&roots.dev.join("serial/by-path"));
    let users = users(roots);
    let consoles = fs::read_to_string(roots.proc.join("consoles")).unwrap_or_default();
    let mut found: Vec<Present> = ports
        .into_iter()
        .map(|port| {
            let place = port.place.as_str();
            let (by_id, by_path) = (by_id.get(place), by_path.get(place));
            let hazard = hazard(&port, &consoles, users.get(place));
            Present {
                id: id(place, by_id, by_path),
                name: port.name(),
                props: port.props(by_id, by_path),
                hazard,
                place: port.place,
            }
        })
        .collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// One port as sysfs shows it.
struct Port {
    place: String,
    /// Where its device stands in sysfs.
    device: PathBuf,
    driver: Option<String>,
    /// Manufacturer and product of the USB device that it is.
    product: Option<String>,
}

impl Port {
    /// The terminal of that name, unless there is no port behind it: virtual terminals and
    /// pseudo-terminals have no device, and a driver may know more ports than the machine has.
    fn read(directory: &Path, place: &str) -> Option<Self> {
        let device = fs::canonicalize(directory.join("device")).ok()?;
        // `PORT_UNKNOWN` of a UART.
        if text(&directory.join("type")).is_some_and(|kind| kind == "0") {
            return None;
        }
        let driver = device
            .ancestors()
            .take(4)
            .filter_map(|at| fs::read_link(at.join("driver")).ok())
            // The kernel puts two devices of its own between a UART and its port.
            .find(|link| !link.iter().any(|part| part == "serial-base"))
            .and_then(|link| Some(link.file_name()?.to_str()?.to_owned()));
        let usb = device
            .ancestors()
            .take(4)
            .find(|at| at.join("idVendor").exists());
        let product = usb.and_then(|usb| {
            let (maker, product) = (text(&usb.join("manufacturer")), text(&usb.join("product"))?);
            Some(match maker {
                Some(maker) if !product.starts_with(maker.as_str()) => format!("{maker} {product}"),
                Some(_) | None => product,
            })
        });
        Some(Self {
            place: place.to_owned(),
            device,
            driver,
            product,
        })
    }

    fn name(&self) -> String {
        match (&self.product, &self.driver) {
            (Some(product), _) => format!("{product} ({})", self.place),
            (None, Some(driver)) => format!("{driver} port {}", self.place),
            (None, None) => format!("serial port {}", self.place),
        }
    }

    fn props(&self, by_id: Option<&String>, by_path: Option<&String>) -> BTreeMap<String, Value> {
        let all = [
            ("driver", self.driver.as_ref()),
            ("by-id", by_id),
            ("by-path", by_path),
        ];
        all.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), Value::Str(value?.clone()))))
            .collect()
    }

    fn is_imported(&self) -> bool {
        self.device
            .iter()
            .any(|part| part.as_bytes().starts_with(b"vhci_hcd"))
    }
}

fn ports(sys: &Path) -> io::Result<Vec<Port>> {
    let class = sys.join("class/tty");
    let mut ports = Vec::new();
    for entry in fs::read_dir(&class)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        ports.extend(Port::read(&class.join(&name), &name));
    }
    Ok(ports)
}

/// The links in a directory of udev, by the kernel's name of what they lead to.
fn links(directory: &Path) -> HashMap<String, String> {
    // udev makes the directory with the first link.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut links: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let place = target.file_name()?.to_str()?.to_owned();
            Some((place, entry.file_name().into_string().ok()?))
        })
        .collect();
    // Where several lead to one port, the first by name is its id, whatever the order in the directory.
    links.sort_unstable_by(|a, b| b.cmp(a));
    links.into_iter().collect()
}

/// The first of these names that makes an id: what udev made of the serial number, of the place where it
/// is plugged in, and the kernel's name.
fn id(place: &str, by_id: Option<&String>, by_path: Option<&String>) -> String {
    let names = by_id.into_iter().chain(by_path).map(String::as_str);
    names
        .map(|name| format!("serial:{name}"))
        .find(|id| id.len() <= MAX_DEVICE_ID && id.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or_else(|| format!("serial:{place}"))
}

fn hazard(port: &Port, consoles: &str, user: Option<&String>) -> Option<Hazard> {
    let place = &port.place;
    let is_console = consoles
        .lines()
        .any(|line| line.split_whitespace().next() == Some(place));
    let reason = if is_console {
        format!("the kernel writes its messages to {place} (console= on its command line)")
    } else if let Some(user) = user {
        format!("{user} has {place} open; end that first")
    } else if port.is_imported() {
        "it is imported from another machine, so that every byte would travel twice; export it on \
         the machine it is plugged into"
            .to_owned()
    } else {
        return None;
    };
    Some(Hazard {
        reason: format!("{reason}, or use --force"),
        forcible: true,
    })
}

/// Which program has a terminal open, by the terminal's name.
fn users(roots: &Roots) -> HashMap<String, String> {
    let terminal = |node: &Path| node.to_str().is_some_and(|node| node.starts_with("tty"));
    let mut users = HashMap::new();
    for (node, program) in programs::with_open(roots, terminal) {
        users
            .entry(node.to_string_lossy().into_owned())
            .or_insert(program);
    }
    users
}

/// A small file without its closing newline; what a device says need not be text.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests;
