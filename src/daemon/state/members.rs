//! The certificates that this node has issued; only the node with the root key has such a list.

use serde::{Deserialize, Serialize};

use super::{LockedState, StateDir, StateError, files};
use crate::device::name::{self, Candidate, NameError};
use crate::session::identity::{NodeId, Serial};

const FILE: &str = "members.toml";

/// One certified node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its node-id.
    #[serde(with = "super::identity::as_text")]
    pub node: NodeId,
    /// Its name in its certificate.
    pub name: String,
    /// Its roles in its certificate.
    pub roles: Vec<String>,
    /// The serial of its certificate.
    #[serde(with = "super::identity::as_text")]
    pub serial: Serial,
    /// When it was certified, seconds since 1970.
    pub joined: u64,
    /// End of its certificate, seconds since 1970.
    pub expires: u64,
    /// When it was excluded, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
}

/// Every certificate that was issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    #[serde(default, rename = "member", skip_serializing_if = "Vec::is_empty")]
    members: Vec<Member>,
}

impl Members {
    /// All of them, in the order in which they joined.
    pub fn all(&self) -> &[Member] {
        &self.members
    }

    /// Those that were not revoked.
    pub fn current(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.revoked.is_none())
    }

    /// The current member that a person means by name, node-id or its beginning.
    ///
    /// # Errors
    /// [`NameError`] when there is none or several.
    pub fn resolve(&self, query: &str) -> Result<&Member, NameError> {
        let current: Vec<&Member> = self.current().collect();
        let ids: Vec<String> = current
            .iter()
            .map(|member| member.node.to_string())
            .collect();
        let candidates: Vec<_> = current
            .iter()
            .zip(&ids)
            .map(|(member, id)| Candidate {
                id,
                name: &member.name,
            })
            .collect();
        let found = name::resolve(query, &candidates)?;
        current.get(found).copied().ok_or(NameError::Unknown)
    }

    pub(super) fn push(&mut self, member: Member) {
        self.members.push(member);
    }

    /// Takes the node's line out if it is a current member.
    pub(super) fn take_current(&mut self, node: NodeId) -> Option<Member> {
        let current = |member: &Member| member.node == node && member.revoked.is_none();
        let place = self.members.iter().position(current)?;
        Some(self.members.remove(place))
    }
}

impl StateDir {
    /// The nodes that this one has certified; none on nodes without the root key.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn members(&self) -> Result<Members, StateError> {
        Ok(files::read_toml(&self.file(FILE))?.unwrap_or_default())
    }
}

impl LockedState {
    pub(super) fn store_members(&self, members: &Members) -> Result<(), StateError> {
        let about = "Certificates this machine has issued; change with `myclerk invite`, `revoke`.";
        files::write_toml(&self.file(FILE), about, members)
    }
}
