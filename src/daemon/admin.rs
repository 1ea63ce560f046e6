//! What an administrator changes: exports, access, members.
//!
//! The server daemon calls these for requests from its control socket and then applies the change
//! to its sessions; a subcommand calls them itself when no daemon runs.

mod access;
mod exports;
mod members;

pub use access::{acl_grant, acl_list, acl_revoke};
pub use exports::{export, unexport};
pub use members::{describe, members, revoke};

use super::control::message::{ControlError, ErrorKind, NodeName};
use super::state::{StateDir, StateError};
use crate::device::id::{DeviceId, Pattern};
use crate::device::name::{self, Candidate, NameError};
use crate::device::registry::{Device, Registry};
use crate::session::identity::NodeId;
use crate::wire::hex;

/// What a running server knows beyond its state; the default is what a lone subcommand knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The devices that are present.
    pub devices: Option<&'a Registry>,
    /// The nodes that have a session.
    pub sessions: &'a [NodeName],
}

impl Known<'_> {
    /// The present device that a person means.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Ambiguous`].
    pub fn present(&self, query: &str) -> Result<Option<&Device>, ControlError> {
        let Some(registry) = self.devices else {
            return Ok(None);
        };
        let devices: Vec<&Device> = registry.devices().collect();
        let candidates: Vec<_> = devices
            .iter()
            .map(|device| Candidate {
                id: device.found.id.as_str(),
                name: &device.found.name,
            })
            .collect();
        let found = name::resolve(query, &candidates)
            .map_err(|error| unresolved("device", query, error, "myclerk list --local"))?;
        Ok(devices.get(found).copied())
    }

    /// The pattern that a person means: one ending in `*` and the name of a port as they stand, else
    /// a present device. With no knowledge of the present ones any whole id is taken.
    fn pattern(&self, query: &str) -> Result<(Pattern, Option<&Device>), ControlError> {
        if let Some(port) = query.parse().ok().filter(DeviceId::is_port) {
            let present = self.devices.and_then(|devices| devices.find(&port));
            return Ok((port.into(), present));
        }
        if !query.ends_with('*')
            && let Some(device) = self.present(query)?
        {
            return Ok((device.found.id.clone().into(), Some(device)));
        }
        let pattern = query.parse().map_err(|error| {
            ControlError::usage(format!("{query:?} names no device")).because(format!("{error}"))
        })?;
        Ok((pattern, None))
    }
}

/// The error for a name that names nothing or too much; `list` is the command that shows the names.
pub fn unresolved(what: &str, query: &str, error: NameError, list: &str) -> ControlError {
    match error {
        NameError::Unknown => {
            ControlError::not_found(format!("there is no {what} {query:?}")).mend(list)
        }
        NameError::Ambiguous(ids) => {
            let message = format!("{query:?} fits more than one {what}");
            ControlError::new(ErrorKind::Ambiguous, message).candidates(ids)
        }
    }
}

/// The node that a person means: a whole node-id, or name or beginning of the id of a member, of a
/// peer, or of a node with a session.
fn node(state: &StateDir, known: Known<'_>, query: &str) -> Result<NodeId, ControlError> {
    if let Some(id) = hex::decode(query) {
        return Ok(NodeId(id));
    }
    let mut nodes = Vec::new();
    let mut add = |id: String, name: &str| {
        if !nodes.iter().any(|(known, _)| *known == id) {
            nodes.push((id, name.to_owned()));
        }
    };
    state
        .members()?
        .current()
        .for_each(|member| add(member.node.to_string(), &member.name));
    state
        .peers()?
        .all()
        .iter()
        .for_each(|peer| add(peer.node.to_string(), &peer.name));
    known
        .sessions
        .iter()
        .for_each(|session| add(session.id.clone(), &session.name));
    let candidates: Vec<_> = nodes
        .iter()
        .map(|(id, name)| Candidate { id, name })
        .collect();
    let found = name::resolve(query, &candidates)
        .map_err(|error| unresolved("node", query, error, "myclerk members"))?;
    let id = nodes.get(found).and_then(|(id, _)| id.parse().ok());
    id.ok_or_else(|| ControlError::not_found(format!("there is no node {query:?}")))
}

/// The name of a node, where it is known.
fn node_name(state: &StateDir, known: Known<'_>, node: NodeId) -> Result<String, ControlError> {
    let id = node.to_string();
    let members = state.members()?;
    let peers = state.peers()?;
    let name = members
        .all()
        .iter()
        .rfind(|member| member.node == node)
        .map(|member| member.name.clone())
        .or_else(|| {
            peers
                .all()
                .iter()
                .find(|peer| peer.node == node)
                .map(|p| p.name.clone())
        })
        .or_else(|| {
            known
                .sessions
                .iter()
                .find(|s| s.id == id)
                .map(|s| s.name.clone())
        });
    Ok(name.unwrap_or_default())
}

impl From<StateError> for ControlError {
    fn from(error: StateError) -> Self {
        let message = error.to_string();
        match error {
            StateError::NotSetUp(_) => Self::failed(message)
                .mend("myclerk init   # to found a family; or: myclerk join TOKEN"),
            StateError::NoRoot(_) => Self::failed(message)
                .because("only the machine where `myclerk init` was run can do this"),
            StateError::Damaged { path, .. } => Self::failed(message).mend(format!(
                "restore {} from a backup; it was not touched",
                path.display()
            )),
            StateError::Exposed { path, .. } => {
                Self::failed(message).mend(format!("chmod go-rwx {}", path.display()))
            }
            StateError::Io { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Self::refused(message).mend("run the same command with sudo")
            }
            StateError::Io { source, path, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Self::failed(message)
                    .because(format!("{} does not exist", path.display()))
                    .mend("myclerk init   # to found a family; or: myclerk join TOKEN")
            }
            StateError::Io { .. } => Self::failed(message),
            StateError::Rule(_) => Self::refused(message),
        }
    }
}

#[cfg(test)]
mod tests;
