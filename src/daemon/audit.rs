//! What peers did with the devices of this node, and who changed the rules: JSON lines in the state
//! directory, for `myclerk audit` and whoever has to explain something later.
//!
//! The daemon's thread only hands lines over ([`AuditLog`]); another one writes them. Neither a full
//! disk nor a slow one stops anything: what cannot be written is counted, and the count is written
//! when there is room again.

mod files;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::control::message::NodeName;
use super::system::wall_secs;

pub use files::{Follower, latest};
pub use writer::AuditLog;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A peer began to use a device.
    Attached,
    /// A peer's use of a device ended.
    Detached,
    /// A peer got the lock of a device.
    Locked,
    /// A lock ended.
    Unlocked,
    /// An administrator ended a lock.
    LockBroken,
    /// A peer was not given what it asked for.
    Refused,
    /// An open device was taken back because the rules changed.
    TakenBack,
    /// The access list was changed.
    AclChanged,
    /// A device is offered.
    Exported,
    /// A device is offered no longer.
    Unexported,
    /// A setting of a device was changed.
    Configured,
    /// A node was excluded from the family.
    Revoked,
    /// Lines are missing here: they could not be written.
    Missing,
    /// A later version's.
    #[serde(other)]
    Other,
}

impl What {
    /// In words, after the node and the device.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::LockBroken => "lock broken",
            Self::Refused => "refused",
            Self::TakenBack => "taken back",
            Self::AclChanged => "access changed",
            Self::Exported => "exported",
            Self::Unexported => "unexported",
            Self::Configured => "configured",
            Self::Revoked => "revoked",
            Self::Missing => "lines missing",
            Self::Other => "(unknown)",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970, by this machine's clock.
    pub time: u64,
    /// What was done.
    pub what: What,
    /// By or to which node; `None` for the administrator of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Device, or pattern of devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why, how it ended, or what of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many such lines were left out before this one, so that no node fills the log.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsaid: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Record {
    /// Something that happens now.
    pub fn new(what: What) -> Self {
        Self {
            time: wall_secs(),
            what,
            node: None,
            device: None,
            reason: None,
            unsaid: 0,
        }
    }

    /// By or to that node.
    #[must_use]
    pub fn of(mut self, node: NodeName) -> Self {
        self.node = Some(node);
        self
    }

    /// With that device.
    #[must_use]
    pub fn on(mut self, device: &(impl ToString + ?Sized)) -> Self {
        self.device = Some(device.to_string());
        self
    }

    /// With that reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// After so many that were left out.
    #[must_use]
    pub const fn after(mut self, unsaid: u64) -> Self {
        self.unsaid = unsaid;
        self
    }

    fn line(&self) -> Option<Vec<u8>> {
        let mut line = serde_json::to_vec(self).ok()?;
        line.push(b'\n');
        Some(line)
    }
}

/// Where the log of a state directory is.
pub fn directory(state: &Path) -> PathBuf {
    state.join("audit")
}

/// Writes a line at once, for what an administrator does. That it cannot be written is told to the log
/// of the program only: what was done is done.
pub fn note(state: &Path, record: &Record) {
    let Some(line) = record.line() else {
        return;
    };
    if let Err(error) = files::append(&directory(state), &line) {
        tracing::warn!(%error, "cannot write the audit log");
    }
}
