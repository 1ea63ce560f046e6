//! Granting and revoking access.

use super::{Known, node, node_name};
use crate::daemon::audit::{self, Record, What};
use crate::daemon::control::message::{AclLine, ControlError};
use crate::daemon::state::StateDir;
use crate::device::acl::{Entry, Mode, Subject};
use crate::device::id::Pattern;
use crate::session::identity::NodeId;

/// Adds an entry or replaces the mode of the one there is; returns it.
///
/// # Errors
/// Not found, ambiguous, a subject that is none.
pub fn acl_grant(
    state: &StateDir,
    known: Known<'_>,
    device: &str,
    subject: &str,
    mode: Mode,
) -> Result<AclLine, ControlError> {
    let subject = self::subject(state, known, subject)?;
    let device = pattern(state, known, device)?;
    let locked = state.lock()?;
    let mut acl = locked.acl()?;
    let entry = Entry::new(device, subject, mode);
    let changed = acl
        .grant(entry.clone())
        .map_err(|error| ControlError::failed(error.to_string()))?;
    if changed {
        locked.store_acl(&acl)?;
        let mode = entry.mode.word();
        let record = Record::new(What::AclChanged).on(&entry.device);
        let record = record.because(format!("{mode} for {}", entry.subject));
        audit::note(state.path(), &record);
    }
    line(state, known, &entry)
}

/// Removes the entries of one device, or pattern, and one subject; returns them.
///
/// # Errors
/// Not found, ambiguous, a subject that is none.
pub fn acl_revoke(
    state: &StateDir,
    known: Known<'_>,
    device: &str,
    subject: &str,
) -> Result<Vec<AclLine>, ControlError> {
    let subject = self::subject(state, known, subject)?;
    let locked = state.lock()?;
    let mut acl = locked.acl()?;
    // What stands in the list is meant before what is present: entries outlive devices.
    let listed = acl
        .entries()
        .iter()
        .find(|entry| entry.device.to_string() == device);
    let device = match listed {
        Some(entry) => entry.device.clone(),
        None => pattern(state, known, device)?,
    };
    let gone: Vec<Entry> = acl
        .entries()
        .iter()
        .filter(|entry| entry.device == device && entry.subject == subject)
        .cloned()
        .collect();
    if gone.is_empty() {
        let message = format!("there is no access entry of {subject} for {device}");
        return Err(ControlError::not_found(message).mend("myclerk acl list"));
    }
    acl.revoke(&device, &subject);
    locked.store_acl(&acl)?;
    let record = Record::new(What::AclChanged).on(&device);
    let record = record.because(format!("no entry for {subject} any longer"));
    audit::note(state.path(), &record);
    gone.iter().map(|entry| line(state, known, entry)).collect()
}

/// The whole list.
///
/// # Errors
/// When the state cannot be read.
pub fn acl_list(state: &StateDir, known: Known<'_>) -> Result<Vec<AclLine>, ControlError> {
    state
        .acl()?
        .entries()
        .iter()
        .map(|entry| line(state, known, entry))
        .collect()
}

fn subject(state: &StateDir, known: Known<'_>, text: &str) -> Result<Subject, ControlError> {
    let named = text.strip_prefix("node:").unwrap_or(text);
    if named == text && text.contains(':') {
        return text
            .parse()
            .map_err(|error| ControlError::usage(format!("{error}")));
    }
    node(state, known, named).map(|NodeId(id)| Subject::Node(id))
}

/// A pattern as it stands; an exported device although it is not present; a present device.
fn pattern(state: &StateDir, known: Known<'_>, device: &str) -> Result<Pattern, ControlError> {
    let exports = state.exports()?;
    match exports
        .entries()
        .iter()
        .find(|export| export.device.to_string() == device)
    {
        Some(export) => Ok(export.device.clone()),
        None => Ok(known.pattern(device)?.0),
    }
}

fn line(state: &StateDir, known: Known<'_>, entry: &Entry) -> Result<AclLine, ControlError> {
    let name = match entry.subject {
        Subject::Node(id) => Some(node_name(state, known, NodeId(id))?),
        Subject::Role(_) | Subject::Family(_) => None,
    };
    Ok(AclLine {
        device: entry.device.to_string(),
        subject: entry.subject.to_string(),
        name: name.filter(|name| !name.is_empty()),
        mode: entry.mode,
        ops: entry.ops.clone(),
        until: entry.until,
    })
}
