//! The access list (profile 17.2): who may do what with which device. Default: nobody, nothing.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::{Names, Pattern};
use crate::wire::hex;
use crate::wire::opcode::Opcode;

/// The most entries a list may have (profile 18).
pub const MAX_ENTRIES: usize = 1024;
/// The role that may change access lists and routes (profile 17.2).
pub const ADMIN: &str = "admin";

/// What one entry grants; an enumeration, not bits (profile 17.2, erratum F-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// 0: denies, whatever other entries grant.
    #[serde(rename = "none")]
    None,
    /// 1: read.
    #[serde(rename = "r")]
    Read,
    /// 2: write.
    #[serde(rename = "w")]
    Write,
    /// 3: read and write.
    #[serde(rename = "rw")]
    ReadWrite,
    /// 4: read and write, only while holding the device's lock.
    #[serde(rename = "exclusive")]
    Exclusive,
}

impl Mode {
    /// The mode with the given number; `None` above 4, which is not a valid payload.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Read,
            2 => Self::Write,
            3 => Self::ReadWrite,
            4 => Self::Exclusive,
            5..=u8::MAX => return None,
        })
    }

    /// The number on the wire.
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Read => 1,
            Self::Write => 2,
            Self::ReadWrite => 3,
            Self::Exclusive => 4,
        }
    }

    /// The word used in files and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "r",
            Self::Write => "w",
            Self::ReadWrite => "rw",
            Self::Exclusive => "exclusive",
        }
    }
}

/// Whom an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// One node, by its node-id.
    Node([u8; 16]),
    /// Every node whose certificate carries the role.
    Role(String),
    /// Every node of a family, by its family-id.
    Family([u8; 16]),
}

/// A text that is no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not node:<32 hex digits>, role:<name> or family:<32 hex digits>")]
pub struct SubjectError(String);

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let wrong = || SubjectError(text.to_owned());
        match text.split_once(':') {
            Some(("node", id)) => hex::decode(id).map(Self::Node).ok_or_else(wrong),
            Some(("family", id)) => hex::decode(id).map(Self::Family).ok_or_else(wrong),
            Some(("role", name)) if is_role(name) => Ok(Self::Role(name.to_owned())),
            Some(_) | None => Err(wrong()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node:{}", hex::encode(id)),
            Self::Role(name) => write!(f, "role:{name}"),
            Self::Family(id) => write!(f, "family:{}", hex::encode(id)),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;

    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// True for what may stand as a role: 1 to 64 letters, digits, `-`, `_`, `.`.
pub fn is_role(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which devices.
    #[serde(rename = "dev")]
    pub device: Pattern,
    /// Whose access.
    #[serde(rename = "sub")]
    pub subject: Subject,
    /// What it grants or denies.
    pub mode: Mode,
    /// Only for these opcodes, each range with both ends included; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<(u16, u16)>,
    /// Seconds since 1970 after which the entry no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Entry {
    /// A permanent entry for every operation.
    pub fn new(device: Pattern, subject: Subject, mode: Mode) -> Self {
        Self {
            device,
            subject,
            mode,
            ops: Vec::new(),
            until: None,
        }
    }

    fn is_about(&self, caller: &Caller<'_>) -> bool {
        match &self.subject {
            Subject::Node(id) => id == caller.node,
            Subject::Role(role) => caller.has_role(role),
            Subject::Family(id) => id == caller.family,
        }
    }

    fn is_for(&self, opcode: Option<Opcode>) -> bool {
        let Some(opcode) = opcode else {
            // A denial of some operations does not hide the device.
            return self.ops.is_empty() || self.mode != Mode::None;
        };
        let number = opcode.to_u16();
        self.ops.is_empty()
            || self
                .ops
                .iter()
                .any(|&(low, high)| (low..=high).contains(&number))
    }
}

/// The authenticated peer that asks; everything in it comes from its verified certificate.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its node-id.
    pub node: &'a [u8; 16],
    /// Its family-id.
    pub family: &'a [u8; 16],
    /// The roles in its certificate.
    pub roles: &'a [String],
}

impl Caller<'_> {
    /// True when the certificate carries the role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

/// The right an operation needs (column "Rt" of profile 19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// L: any entry.
    List,
    /// R.
    Read,
    /// W.
    Write,
    /// A: the role `admin`, independent of entries.
    Admin,
}

/// The union of what all matching entries grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    read: bool,
    write: bool,
    locked: bool,
}

impl Rights {
    /// True when these rights allow what is needed. `holds_lock`: the caller holds the device's
    /// lock at this moment. [`Need::Admin`] is never granted here; see [`Caller::has_role`].
    pub const fn allow(self, need: Need, holds_lock: bool) -> bool {
        let by_lock = self.locked && holds_lock;
        match need {
            Need::List => self.read || self.write || self.locked,
            Need::Read => self.read || by_lock,
            Need::Write => self.write || by_lock,
            Need::Admin => false,
        }
    }

    /// The number that stands as `mode` in a device's brief (profile 19.2).
    pub const fn mode(self) -> Mode {
        match (self.read, self.write, self.locked) {
            (true, true, _) => Mode::ReadWrite,
            (_, _, true) => Mode::Exclusive,
            (true, false, false) => Mode::Read,
            (false, true, false) => Mode::Write,
            (false, false, false) => Mode::None,
        }
    }

    const fn add(&mut self, mode: Mode) {
        match mode {
            Mode::None => {}
            Mode::Read => self.read = true,
            Mode::Write => self.write = true,
            Mode::ReadWrite => (self.read, self.write) = (true, true),
            Mode::Exclusive => self.locked = true,
        }
    }
}

/// A list that would exceed its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access list already has {MAX_ENTRIES} entries")]
pub struct AclFull;

/// Why a list was not replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSet {
    /// Somebody has changed it; its version is this one.
    #[error("the access list has version {0} by now")]
    Version(u64),
    /// It has no room.
    #[error(transparent)]
    Full(#[from] AclFull),
}

/// The whole list of this node with the version that compare-and-set uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    /// Grows by one with every change.
    #[serde(default, rename = "version")]
    version: u64,
    #[serde(default, rename = "entry", skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Entry>,
}

impl Acl {
    /// Grows by one with every change.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Every entry, in the order they were made.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the caller may do with the device at wall time `now` (seconds since 1970). Entries
    /// count under whichever of its names they stand, so a denial of its port denies it too.
    ///
    /// With an opcode, entries for other opcodes do not count. Without one the question is about
    /// the device as a whole: any grant lists it, a denial of single operations does not hide it.
    pub fn rights(
        &self,
        caller: &Caller<'_>,
        device: Names<'_>,
        opcode: Option<Opcode>,
        now: u64,
    ) -> Rights {
        let mut rights = Rights::default();
        for entry in &self.entries {
            let counts = entry.until.is_none_or(|until| now <= until)
                && entry.device.covers(device)
                && entry.is_about(caller)
                && entry.is_for(opcode);
            if !counts {
                continue;
            }
            if entry.mode == Mode::None {
                return Rights::default();
            }
            rights.add(entry.mode);
        }
        rights
    }

    /// How many entries no longer count at wall time `now`, and whether there are some that will not
    /// count some time.
    pub fn expired(&self, now: u64) -> (usize, bool) {
        let ends = self.entries.iter().filter_map(|entry| entry.until);
        let (over, more): (Vec<u64>, Vec<u64>) = ends.partition(|until| *until < now);
        (over.len(), !more.is_empty())
    }

    /// Replaces every entry with exactly this pattern; false when nothing changed.
    ///
    /// # Errors
    /// [`NotSet::Version`] when the list is not what the caller knew any longer, [`NotSet::Full`] when
    /// it would have more than [`MAX_ENTRIES`]; nothing is changed then.
    pub fn set(
        &mut self,
        device: &Pattern,
        entries: Vec<Entry>,
        version: u64,
    ) -> Result<bool, NotSet> {
        if version != self.version {
            return Err(NotSet::Version(self.version));
        }
        let mut new = self.clone();
        new.entries.retain(|entry| entry.device != *device);
        for entry in entries {
            new.grant(entry)?;
        }
        if new.entries == self.entries {
            return Ok(false);
        }
        new.version = self.version.saturating_add(1);
        *self = new;
        Ok(true)
    }

    /// Adds an entry, or replaces the one with the same device, subject and opcodes; false when
    /// nothing changed.
    ///
    /// # Errors
    /// [`AclFull`] at [`MAX_ENTRIES`] entries.
    pub fn grant(&mut self, entry: Entry) -> Result<bool, AclFull> {
        let same = |old: &&mut Entry| {
            old.device == entry.device && old.subject == entry.subject && old.ops == entry.ops
        };
        if let Some(old) = self.entries.iter_mut().find(same) {
            if *old == entry {
                return Ok(false);
            }
            *old = entry;
        } else if self.entries.len() >= MAX_ENTRIES {
            return Err(AclFull);
        } else {
            self.entries.push(entry);
        }
        self.version = self.version.saturating_add(1);
        Ok(true)
    }

    /// Removes every entry with exactly this pattern and subject; returns how many there were.
    pub fn revoke(&mut self, device: &Pattern, subject: &Subject) -> usize {
        self.retain(|entry| entry.device != *device || entry.subject != *subject)
    }

    /// Removes every entry of the subject; returns how many there were.
    pub fn forget(&mut self, subject: &Subject) -> usize {
        self.retain(|entry| entry.subject != *subject)
    }

    fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(keep);
        let removed = before - self.entries.len();
        if removed > 0 {
            self.version = self.version.saturating_add(1);
        }
        removed
    }
}

#[cfg(test)]
mod tests;
