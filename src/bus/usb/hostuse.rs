//! Is this machine itself using a device? What is found here is refused, unless forced.
//!
//! Everything is read from sysfs and procfs below [`Roots`], so that tests can bring a tree of
//! their own. The checks look at what the kernel shows *now*; they are made again at every attach.

mod block;

pub use crate::bus::Roots;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::errno::Errno;

use super::descriptor::CLASS_HUB;

/// Directories below a device that are looked at; a real one has well under a hundred.
const MAX_DIRECTORIES: usize = 4096;
/// How deep they nest: interface/host/target/lun/block/disk/partition/holders and some room.
const MAX_DEPTH: usize = 16;

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
    /// What would tell could not be read, so that any of the others may be the case.
    #[error(
        "whether this machine uses it cannot be told, because {} cannot be read: {cause}{}; put \
         that right first, or use --force", path.display(), remedy(*cause)
    )]
    Unknown {
        /// The file or directory.
        path: PathBuf,
        /// Why it cannot be read.
        cause: Errno,
    },
}

/// What helps against the causes that are known to happen.
fn remedy(cause: Errno) -> &'static str {
    match cause {
        Errno::EMFILE => " (raise LimitNOFILE= of the daemon's service or ulimit -n)",
        Errno::ENFILE => " (raise sysctl fs.file-max)",
        _ => "",
    }
}

impl InUse {
    /// Whether `--force` helps. A root hub cannot be driven from elsewhere. What could not be read
    /// is forced too: it could only have told of what is forced anyway.
    pub const fn is_forcible(&self) -> bool {
        match self {
            Self::RootHub => false,
            Self::Hub
            | Self::Imported
            | Self::Mounted { .. }
            | Self::Swap { .. }
            | Self::Held { .. }
            | Self::ConsoleKeyboard { .. }
            | Self::DefaultRoute { .. }
            | Self::Unknown { .. } => true,
        }
    }
}

/// Looks for a reason not to give the device away; `device` is its directory in sysfs
/// (`…/usb1/1-4`), a link of that name to it, or just that. The reasons that force does not help against come
/// first.
///
/// What is not there is not in use. What is there and cannot be read is [`InUse::Unknown`]: with no
/// file descriptor left, every disk would look unmounted.
pub fn check(roots: &Roots, device: &Path) -> Option<InUse> {
    look(roots, device).err()
}

fn look(roots: &Roots, device: &Path) -> Result<(), InUse> {
    if is_root_hub(device) {
        return Err(InUse::RootHub);
    }
    let device = real(device)?.unwrap_or_else(|| device.to_owned());
    if is_imported(&device) {
        return Err(InUse::Imported);
    }
    let below = Below::walk(&device)?;
    if is_hub(&device, &below)? {
        return Err(InUse::Hub);
    }
    block::check(roots, &below.blocks)?;
    console_keyboard(roots, &device)?;
    default_route(roots, &below.networks)
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

fn is_hub(device: &Path, below: &Below) -> Result<bool, InUse> {
    let interfaces = below.interfaces.iter();
    let classes = interfaces.map(|interface| interface.join("bInterfaceClass"));
    for path in std::iter::once(device.join("bDeviceClass")).chain(classes) {
        let class = read(&path)?;
        if class.is_some_and(|class| u8::from_str_radix(&class, 16) == Ok(CLASS_HUB)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What an access to `path` found; `None` when nothing is there, or not any more.
fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, InUse> {
    let error = match result {
        Ok(found) => return Ok(Some(found)),
        Err(error) => error,
    };
    match Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV | Errno::ENXIO => Ok(None),
        cause => Err(InUse::Unknown {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// A small text file without its closing newline. Whoever mounts or names something may have put
/// bytes into it that are no text.
fn read(path: &Path) -> Result<Option<String>, InUse> {
    let bytes = found(path, fs::read(path))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

/// The names in a directory, sorted so that the answer does not depend on the file system.
fn names(directory: &Path) -> Result<Vec<String>, InUse> {
    let mut names = Vec::new();
    for entry in found(directory, fs::read_dir(directory))?
        .into_iter()
        .flatten()
    {
        let entry = found(directory, entry)?;
        names.extend(entry.and_then(|entry| entry.file_name().into_string().ok()));
    }
    names.sort_unstable();
    Ok(names)
}

fn exists(path: &Path) -> Result<bool, InUse> {
    Ok(found(path, fs::metadata(path))?.is_some())
}

/// Where links lead to.
fn real(path: &Path) -> Result<Option<PathBuf>, InUse> {
    found(path, fs::canonicalize(path))
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
    fn walk(device: &Path) -> Result<Self, InUse> {
        let mut below = Self::default();
        below.descend(device, 0)?;
        Ok(below)
    }

    fn descend(&mut self, directory: &Path, depth: usize) -> Result<(), InUse> {
        for name in names(directory)? {
            let path = directory.join(&name);
            let meta = found(&path, fs::symlink_metadata(&path))?;
            let is_directory = meta.is_some_and(|meta| meta.is_dir());
            if !is_directory || (depth == 0 && exists(&path.join("bDeviceClass"))?) {
                continue;
            }
            if self.seen >= MAX_DIRECTORIES || depth > MAX_DEPTH {
                let cause = Errno::EOVERFLOW;
                return Err(InUse::Unknown { path, cause });
            }
            self.seen += 1;
            let parent = directory.file_name().unwrap_or_default();
            if exists(&path.join("bInterfaceNumber"))? {
                self.interfaces.push(path.clone());
            }
            if parent == "block" || (exists(&path.join("partition"))? && exists(&path.join("dev"))?)
            {
                self.blocks.push(path.clone());
            }
            if parent == "net" {
                self.networks.push(name);
            }
            self.descend(&path, depth + 1)?;
        }
        Ok(())
    }
}

/// A whole keyboard of this device that the kernel's `kbd` handler reads while a virtual terminal
/// is there to be typed on. Keys alone do not make a keyboard: mice, headsets and power buttons
/// have some too, so the rule of udev's `ID_INPUT_KEYBOARD` decides.
fn console_keyboard(roots: &Roots, device: &Path) -> Result<(), InUse> {
    let active = read(&roots.sys.join("class/tty/tty0/active"))?;
    let sys = real(&roots.sys)?.unwrap_or_else(|| roots.sys.clone());
    let (Some(1..), Ok(below)) = (active.map(|active| active.len()), device.strip_prefix(sys))
    else {
        return Ok(());
    };
    let mut prefix = String::from("/");
    let _ = write!(prefix, "{}/", below.display());
    let inputs = read(&roots.proc.join("bus/input/devices"))?.unwrap_or_default();
    inputs
        .split("\n\n")
        .find_map(|input| keyboard_name(input, &prefix))
        .map_or(Ok(()), |name| Err(InUse::ConsoleKeyboard { name }))
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

fn default_route(roots: &Roots, networks: &[String]) -> Result<(), InUse> {
    if networks.is_empty() {
        return Ok(());
    }
    let v4 = read(&roots.proc.join("net/route"))?.unwrap_or_default();
    let v6 = read(&roots.proc.join("net/ipv6_route"))?.unwrap_or_default();
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
    let ours = |interface: &&str| networks.iter().any(|network| network == interface);
    for interface in default_v4.chain(default_v6).filter(ours) {
        let directory = roots.sys.join("class/net").join(interface);
        if read(&directory.join("operstate"))?.is_none_or(|state| state != "down") {
            let interface = interface.to_owned();
            return Err(InUse::DefaultRoute { interface });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
