//! Offering devices and taking them back.

use super::Known;
use crate::daemon::audit::{self, Record, What};
use crate::daemon::control::message::{ControlError, Exported, Unexported};
use crate::daemon::state::StateDir;
use crate::device::export::Export;
use crate::device::id::Pattern;
use crate::device::name::{self, Candidate, NameError};

/// Offers a device, or every device that fits a pattern ending in `*`.
///
/// # Errors
/// Not found, ambiguous; refused for hubs, and without `force` for what this machine itself uses.
pub fn export(
    state: &StateDir,
    known: Known<'_>,
    device: &str,
    force: bool,
) -> Result<Exported, ControlError> {
    let (pattern, present) = known.pattern(device)?;
    if let Some(device) = present
        && let Some(hazard) = &device.found.hazard
    {
        let id = &device.found.id;
        let refused = ControlError::refused(format!("{id} is not offered to others"))
            .because(hazard.reason.clone());
        if !hazard.forcible {
            return Err(refused);
        }
        if !force {
            return Err(refused.mend(format!("myclerk export {id} --force   # if you are sure")));
        }
    }
    let locked = state.lock()?;
    let mut policy = locked.exports()?;
    let changed = policy
        .add(Export {
            device: pattern.clone(),
            force,
        })
        .map_err(|error| ControlError::failed(error.to_string()))?;
    if changed {
        locked.store_exports(&policy)?;
        audit::note(state.path(), &Record::new(What::Exported).on(&pattern));
    }
    let acl = locked.acl()?;
    let entries = acl
        .entries()
        .iter()
        .filter(|entry| {
            let same = present.is_some_and(|device| entry.device.covers(device.found.names()));
            same || overlap(&entry.device, &pattern)
        })
        .count();
    Ok(Exported {
        device: pattern.to_string(),
        name: present
            .map(|device| device.found.name.clone())
            .unwrap_or_default(),
        plugged: present
            .and_then(|device| device.found.port.as_ref())
            .map(ToString::to_string),
        changed,
        entries,
    })
}

/// Takes a device back. The caller ends its use if it is no longer offered and fills
/// [`Unexported::taken_from`].
///
/// # Errors
/// Not found, ambiguous.
pub fn unexport(
    state: &StateDir,
    known: Known<'_>,
    device: &str,
) -> Result<Unexported, ControlError> {
    let locked = state.lock()?;
    let mut policy = locked.exports()?;
    let offered: Vec<String> = policy
        .entries()
        .iter()
        .map(|e| e.device.to_string())
        .collect();
    let candidates: Vec<_> = offered
        .iter()
        .map(|id| Candidate { id, name: "" })
        .collect();
    let pattern = match name::resolve(device, &candidates) {
        Ok(found) => policy
            .entries()
            .get(found)
            .map(|export| export.device.clone()),
        Err(NameError::Unknown) => None,
        Err(error @ NameError::Ambiguous(_)) => {
            return Err(super::unresolved(
                "export",
                device,
                error,
                "myclerk list --local",
            ));
        }
    };
    let pattern = match pattern {
        Some(pattern) => pattern,
        None => known.pattern(device)?.0,
    };
    let changed = policy.remove(&pattern);
    if changed {
        locked.store_exports(&policy)?;
        audit::note(state.path(), &Record::new(What::Unexported).on(&pattern));
    }
    let present = known
        .devices
        .and_then(|devices| devices.find(pattern.exact()?));
    let still = match (present, pattern.exact()) {
        (Some(device), _) => policy.covering(device.found.names()),
        (None, Some(id)) => policy.covering(id.into()),
        (None, None) => Vec::new(),
    };
    Ok(Unexported {
        device: pattern.to_string(),
        changed,
        still: still.into_iter().map(Pattern::to_string).collect(),
        taken_from: None,
    })
}

/// True when some device could fall under both.
fn overlap(a: &Pattern, b: &Pattern) -> bool {
    match (a.exact(), b.exact()) {
        (Some(id), _) => b.matches(id),
        (None, Some(id)) => a.matches(id),
        (None, None) => {
            let (a, b) = (a.to_string(), b.to_string());
            let (a, b) = (a.trim_end_matches('*'), b.trim_end_matches('*'));
            a.starts_with(b) || b.starts_with(a)
        }
    }
}
