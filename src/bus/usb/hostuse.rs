//! Is this machine itself using a device? What is found here is refused, unless forced.
//!
//! Everything is read from sysfs and procfs below [`Roots`], so that tests can bring a tree of
//! their own. The checks look at what the kernel shows *now*; they are made again at every attach.

mod block;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::descriptor::CLASS_HUB;

/// Directories below a device that are looked at; a real one has well under a hundred.
const MAX_DIRECTORIES: usize = 4096;
/// How deep they nest: interface/host/target/lun/block/disk/partition/holders and some room.
const MAX_DEPTH: usize = 16;

/// Where the kernel's file systems are mounted.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Normally `/sys`.
    pub sys: PathBuf,
    /// Normally `/proc`.
    pub proc: PathBuf,
    /// Normally `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
        }
    }
}

/// Why a device is not given away. The text names the cause and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InUse {
    /// The root hub of a controller.
    #[error("it is the root hub of a USB controller; export the devices behind it instead")]
    RootHub,
    /// A hub.
    #[error(
        "it is a hub and the devices behind it would be lost; export those instead, or use --force"
    )]
    Hub,
    /// It is itself imported from another machine through vhci-hcd.
    #[error(
        "it is imported from another machine, so that every transfer would travel twice; export it \
         on the machine it is plugged into, or use --force"
    )]
    Imported,
    /// A file system on it is mounted.
    #[error(
        "{block} is mounted on {mount_point}; unmount it first (umount {mount_point}), or use --force"
    )]
    Mounted {
        /// The block device, `sdb1` or `dm-0`.
        block: String,
        /// One place where it is mounted.
        mount_point: String,
    },
    /// The machine swaps to it.
    #[error("the machine swaps to {block}; switch that off first (swapoff), or use --force")]
    Swap {
        /// The block device.
        block: String,
    },
    /// LVM, LUKS, RAID or the like is built on it.
    #[error("{block} is part of {holder}; close or stop that first, or use --force")]
    Held {
        /// The block device.
        block: String,
        /// Who holds it, `dm-0` or `md0`.
        holder: String,
    },
    /// A keyboard that types on this machine's console.
    #[error("it is a keyboard of this machine's console ({name}); use --force to give it away")]
    ConsoleKeyboard {
        /// The kernel's name of it.
        name: String,
    },
    /// A network interface that carries the default route.
    #[error("{interface} carries this machine's default route; take it down first, or use --force")]
    DefaultRoute {
        /// The network interface.
        interface: String,
    },
}

impl InUse {
    /// Whether `--force` helps. A root hub cannot be driven from elsewhere.
    pub const fn is_forcible(&self) -> bool {
        match self {
            Self::RootHub => false,
            Self::Hub
            | Self::Imported
            | Self::Mounted { .. }
            | Self::Swap { .. }
            | Self::Held { .. }
            | Self::ConsoleKeyboard { .. }
            | Self::DefaultRoute { .. } => true,
        }
    }
}

/// Looks for a reason not to give the device away; `device` is its directory in sysfs
/// (`…/usb1/1-4`), a link to it, or just that. The reasons that force does not help against come
/// first.
///
/// What cannot be read counts as not in use: the kernel shows these files to everybody.
pub fn check(roots: &Roots, device: &Path) -> Option<InUse> {
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    if is_root_hub(&device) {
        return Some(InUse::RootHub);
    }
    if is_imported(&device) {
        return Some(InUse::Imported);
    }
    let below = Below::walk(&device);
    if is_hub(&device, &below) {
        return Some(InUse::Hub);
    }
    block::check(roots, &below.blocks)
        .or_else(|| console_keyboard(roots, &device))
        .or_else(|| default_route(roots, &below.networks))
}

/// True for the resolved directory of a device that vhci-hcd made.
pub(super) fn is_imported(device: &Path) -> bool {
    device
        .iter()
        .any(|part| part.as_encoded_bytes().starts_with(b"vhci_hcd"))
}

fn is_root_hub(device: &Path) -> bool {
    let name = device.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix("usb"))
        .is_some_and(|bus| !bus.is_empty() && bus.bytes().all(|b| b.is_ascii_digit()))
}

fn is_hub(device: &Path, below: &Below) -> bool {
    let hub = |path: PathBuf| {
        read(&path).is_some_and(|class| u8::from_str_radix(&class, 16) == Ok(CLASS_HUB))
    };
    hub(device.join("bDeviceClass"))
        || below
            .interfaces
            .iter()
            .any(|interface| hub(interface.join("bInterfaceClass")))
}

/// A small text file without its closing newline; `None` when it cannot be read.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

/// The names in a directory, sorted so that the answer does not depend on the file system.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// What hangs below a USB device, without the devices behind it when it is a hub.
#[derive(Default)]
struct Below {
    /// Directories of USB interfaces, `1-4:1.0`.
    interfaces: Vec<PathBuf>,
    /// Directories of disks and partitions.
    blocks: Vec<PathBuf>,
    /// Names of network interfaces.
    networks: Vec<String>,
    seen: usize,
}

impl Below {
    fn walk(device: &Path) -> Self {
        let mut below = Self::default();
        below.descend(device, 0);
        below
    }

    fn descend(&mut self, directory: &Path, depth: usize) {
        for name in names(directory) {
            let path = directory.join(&name);
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            let other_device = depth == 0 && path.join("bDeviceClass").exists();
            if !is_directory || other_device || self.seen >= MAX_DIRECTORIES {
                continue;
            }
            self.seen += 1;
            let parent = directory.file_name().unwrap_or_default();
            if path.join("bInterfaceNumber").exists() {
                self.interfaces.push(path.clone());
            }
            if parent == "block" || (path.join("partition").exists() && path.join("dev").exists()) {
                self.blocks.push(path.clone());
            }
            if parent == "net" {
                self.networks.push(name);
            }
            if depth < MAX_DEPTH {
                self.descend(&path, depth + 1);
            }
        }
    }
}

/// A whole keyboard of this device that the kernel's `kbd` handler reads while a virtual terminal
/// is there to be typed on. Keys alone do not make a keyboard: mice, headsets and power buttons
/// have some too, so the rule of udev's `ID_INPUT_KEYBOARD` decides.
fn console_keyboard(roots: &Roots, device: &Path) -> Option<InUse> {
    read(&roots.sys.join("class/tty/tty0/active")).filter(|active| !active.is_empty())?;
    let sys = fs::canonicalize(&roots.sys).unwrap_or_else(|_| roots.sys.clone());
    let mut prefix = String::from("/");
    let _ = write!(prefix, "{}/", device.strip_prefix(sys).ok()?.display());
    let inputs = fs::read_to_string(roots.proc.join("bus/input/devices")).ok()?;
    inputs
        .split("\n\n")
        .find_map(|input| keyboard_name(input, &prefix))
        .map(|name| InUse::ConsoleKeyboard { name })
}

/// The name in one block of `/proc/bus/input/devices` when it describes such a keyboard.
fn keyboard_name(input: &str, sysfs_prefix: &str) -> Option<String> {
    let line = |prefix: &str| input.lines().find_map(|line| line.strip_prefix(prefix));
    let handlers = line("H: Handlers=")?;
    let keys = line("B: KEY=")?;
    let ours = line("S: Sysfs=")?.starts_with(sysfs_prefix);
    let typed_on = handlers.split_whitespace().any(|handler| handler == "kbd");
    // Escape, the digits, and the letters Q to D: bits 1 to 31 of the last word.
    let last = u64::from_str_radix(keys.split_whitespace().next_back()?, 16).ok()?;
    let whole = last & 0xffff_fffe == 0xffff_fffe;
    let name = line("N: Name=").unwrap_or("unnamed");
    (ours && typed_on && whole).then(|| name.trim_matches('"').to_owned())
}

fn default_route(roots: &Roots, networks: &[String]) -> Option<InUse> {
    if networks.is_empty() {
        return None;
    }
    let v4 = fs::read_to_string(roots.proc.join("net/route")).unwrap_or_default();
    let v6 = fs::read_to_string(roots.proc.join("net/ipv6_route")).unwrap_or_default();
    let default_v4 = v4.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (interface, destination) = (fields.next()?, fields.next()?);
        let mask = fields.nth(5)?;
        (destination == "00000000" && mask == "00000000").then_some(interface)
    });
    let default_v6 = v6.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (destination, length) = (fields.next()?, fields.next()?);
        let anywhere = length == "00" && destination.bytes().all(|b| b == b'0');
        anywhere.then(|| fields.next_back()).flatten()
    });
    default_v4
        .chain(default_v6)
        .find(|interface| {
            networks.iter().any(|network| network == interface)
                && read(
                    &roots
                        .sys
                        .join("class/net")
                        .join(interface)
                        .join("operstate"),
                )
                .is_none_or(|state| state != "down")
        })
        .map(|interface| InUse::DefaultRoute {
            interface: interface.to_owned(),
        })
}

#[cfg(test)]
mod tests;
