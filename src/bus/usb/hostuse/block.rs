//! Disks: mounted, swapped to, or built upon.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{InUse, Roots, names, read, real};

/// How far disks are followed up through LVM on LUKS on RAID and so on.
const MAX_LAYERS: usize = 8;

/// One disk, partition, or what is built on one.
struct Block {
    name: String,
    /// `major:minor`.
    number: String,
    /// The name of a device-mapper device below `/dev/mapper`.
    mapped: Option<String>,
    /// What is built directly on it.
    holders: Vec<String>,
}

impl Block {
    /// `None` when it is gone.
    fn read(directory: &Path) -> Result<Option<Self>, InUse> {
        let name = directory.file_name().and_then(|name| name.to_str());
        let (Some(name), Some(number)) = (name, read(&directory.join("dev"))?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            name: name.to_owned(),
            number,
            mapped: read(&directory.join("dm/name"))?,
            holders: names(&directory.join("holders"))?,
        }))
    }

    /// Whether a path of procfs names this device.
    fn is_named(&self, roots: &Roots, path: &str) -> Result<bool, InUse> {
        let Ok(below) = Path::new(path).strip_prefix("/dev") else {
            return Ok(false);
        };
        if below == Path::new(&self.name) {
            return Ok(true);
        }
        let mapped = self
            .mapped
            .as_ref()
            .map(|name| Path::new("mapper").join(name));
        if mapped.is_some_and(|mapped| below == mapped) {
            return Ok(true);
        }
        let real = real(&roots.dev.join(below))?;
        let name = real.as_deref().and_then(Path::file_name);
        Ok(name.is_some_and(|name| *name == *self.name))
    }
}

/// Looks at the disks and partitions of a device and at everything built on them.
pub(super) fn check(roots: &Roots, directories: &[PathBuf]) -> Result<(), InUse> {
    let blocks = with_holders(roots, directories)?;
    if blocks.is_empty() {
        return Ok(());
    }
    mounted(roots, &blocks)?;
    in_btrfs(roots, &blocks)?;
    swapped(roots, &blocks)?;
    for block in blocks {
        if let Some(holder) = block.holders.into_iter().next() {
            let block = block.name;
            return Err(InUse::Held { block, holder });
        }
    }
    Ok(())
}

fn with_holders(roots: &Roots, directories: &[PathBuf]) -> Result<Vec<Block>, InUse> {
    let mut found: Vec<Block> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut layer = directories.to_vec();
    for _ in 0..MAX_LAYERS {
        let mut above = Vec::new();
        for directory in &layer {
            let Some(block) = Block::read(directory)? else {
                continue;
            };
            if known.insert(block.name.clone()) {
                let class = roots.sys.join("class/block");
                above.extend(block.holders.iter().map(|holder| class.join(holder)));
                found.push(block);
            }
        }
        layer = above;
    }
    match layer.into_iter().next() {
        None => Ok(found),
        Some(path) => Err(InUse::Unknown {
            path,
            cause: Errno::EOVERFLOW,
        }),
    }
}

fn mounted(roots: &Roots, blocks: &[Block]) -> Result<(), InUse> {
    // The service may live in a mount namespace of its own, so init's mounts count too.
    for file in ["self/mountinfo", "1/mountinfo"] {
        let table = read(&roots.proc.join(file))?.unwrap_or_default();
        for (number, mount_point, source) in table.lines().filter_map(mount) {
            let source = unescape(source);
            for block in blocks {
                if block.number == number || block.is_named(roots, &source)? {
                    return Err(InUse::Mounted {
                        block: block.name.clone(),
                        mount_point: unescape(mount_point),
                    });
                }
            }
        }
    }
    Ok(())
}

/// `major:minor`, mount point and source in a line of mountinfo.
fn mount(line: &str) -> Option<(&str, &str, &str)> {
    // ID, parent, major:minor, root, mount point, …, " - ", type, source, options
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let (number, mount_point) = (fields.next()?, fields.nth(1)?);
    Some((number, mount_point, file_system.split(' ').nth(1)?))
}

/// Mountinfo shows an anonymous number and only one of the disks of a btrfs volume.
fn in_btrfs(roots: &Roots, blocks: &[Block]) -> Result<(), InUse> {
    let volumes = roots.sys.join("fs/btrfs");
    for volume in names(&volumes)? {
        let members = names(&volumes.join(&volume).join("devices"))?;
        if let Some(block) = blocks.iter().find(|block| members.contains(&block.name)) {
            return Err(InUse::Mounted {
                block: block.name.clone(),
                mount_point: format!("a btrfs volume ({volume})"),
            });
        }
    }
    Ok(())
}

fn swapped(roots: &Roots, blocks: &[Block]) -> Result<(), InUse> {
    let table = read(&roots.proc.join("swaps"))?.unwrap_or_default();
    let paths = table.lines().skip(1);
    for path in paths.filter_map(|line| line.split_whitespace().next()) {
        let path = unescape(path);
        for block in blocks {
            if block.is_named(roots, &path)? {
                let block = block.name.clone();
                return Err(InUse::Swap { block });
            }
        }
    }
    Ok(())
}

/// Undoes the `\040` with which procfs writes spaces in paths.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let octal = behind
            .split_first_chunk::<3>()
            .filter(|(digits, _)| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)))
            .and_then(|(digits, behind)| {
                let value = digits
                    .iter()
                    .fold(0_u16, |v, d| v * 8 + u16::from(d - b'0'));
                Some((u8::try_from(value).ok()?, behind))
            });
        let (value, behind) = octal.unwrap_or((byte, behind));
        bytes.push(value);
        rest = behind;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
