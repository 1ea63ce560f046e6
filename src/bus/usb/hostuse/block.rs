//! Disks: mounted, swapped to, or built upon.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{InUse, Roots, names, read};

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
    fn read(directory: &Path) -> Option<Self> {
        Some(Self {
            name: directory.file_name()?.to_str()?.to_owned(),
            number: read(&directory.join("dev"))?,
            mapped: read(&directory.join("dm/name")),
            holders: names(&directory.join("holders")),
        })
    }

    /// Whether a path of procfs names this device.
    fn is_named(&self, roots: &Roots, path: &str) -> bool {
        let Ok(below) = Path::new(path).strip_prefix("/dev") else {
            return false;
        };
        if below == Path::new(&self.name) {
            return true;
        }
        let mapped = self
            .mapped
            .as_ref()
            .map(|name| Path::new("mapper").join(name));
        mapped.is_some_and(|mapped| below == mapped)
            || fs::canonicalize(roots.dev.join(below))
                .is_ok_and(|real| real.file_name().is_some_and(|name| *name == *self.name))
    }
}

/// Looks at the disks and partitions of a device and at everything built on them.
pub(super) fn check(roots: &Roots, directories: &[PathBuf]) -> Option<InUse> {
    let blocks = with_holders(roots, directories);
    if blocks.is_empty() {
        return None;
    }
    mounted(roots, &blocks)
        .or_else(|| swapped(roots, &blocks))
        .or_else(|| {
            blocks.iter().find_map(|block| {
                Some(InUse::Held {
                    block: block.name.clone(),
                    holder: block.holders.first()?.clone(),
                })
            })
        })
}

fn with_holders(roots: &Roots, directories: &[PathBuf]) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut layer = directories.to_vec();
    for _ in 0..MAX_LAYERS {
        let mut above = Vec::new();
        for block in layer.iter().filter_map(|directory| Block::read(directory)) {
            if known.insert(block.name.clone()) {
                above.extend(
                    block
                        .holders
                        .iter()
                        .map(|holder| roots.sys.join("class/block").join(holder)),
                );
                found.push(block);
            }
        }
        if above.is_empty() {
            break;
        }
        layer = above;
    }
    found
}

fn mounted(roots: &Roots, blocks: &[Block]) -> Option<InUse> {
    // The service may live in a mount namespace of its own, so init's mounts count too.
    let table = ["self/mountinfo", "1/mountinfo"]
        .iter()
        .filter_map(|file| fs::read_to_string(roots.proc.join(file)).ok())
        .collect::<String>();
    let by_table = table.lines().find_map(|line| {
        // ID, parent, major:minor, root, mount point, …, " - ", type, source, options
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let (number, mount_point) = (fields.next()?, fields.nth(1)?);
        let source = unescape(file_system.split(' ').nth(1)?);
        let block = blocks
            .iter()
            .find(|block| block.number == number || block.is_named(roots, &source))?;
        Some(InUse::Mounted {
            block: block.name.clone(),
            mount_point: unescape(mount_point),
        })
    });
    // btrfs shows an anonymous number and only one of its disks there.
    by_table.or_else(|| {
        names(&roots.sys.join("fs/btrfs"))
            .iter()
            .find_map(|volume| {
                let members = names(&roots.sys.join("fs/btrfs").join(volume).join("devices"));
                let block = blocks.iter().find(|block| members.contains(&block.name))?;
                Some(InUse::Mounted {
                    block: block.name.clone(),
                    mount_point: format!("a btrfs volume ({volume})"),
                })
            })
    })
}

fn swapped(roots: &Roots, blocks: &[Block]) -> Option<InUse> {
    let table = fs::read_to_string(roots.proc.join("swaps")).unwrap_or_default();
    table.lines().skip(1).find_map(|line| {
        let path = unescape(line.split_whitespace().next()?);
        let block = blocks.iter().find(|block| block.is_named(roots, &path))?;
        Some(InUse::Swap {
            block: block.name.clone(),
        })
    })
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
