//! The devices that are present on this machine, whether they are offered, and who uses them.
//!
//! The registry holds no handles: the bus half that scans the hardware tells it what is there
//! ([`Registry::sync`]), the server asks it what a peer may see and do.

use std::collections::BTreeMap;

use super::acl::{Acl, Caller, Need, Rights};
use super::export::ExportPolicy;
use super::id::{DeviceId, Names};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its stable id.
    pub id: DeviceId,
    /// The name of the port that it is plugged into, where it has one.
    pub port: Option<DeviceId>,
    /// The name of its socket's other port, see [`Names::peer`].
    pub peer: Option<DeviceId>,
    /// What people call it: product and manufacturer strings, or the kernel's name.
    pub name: String,
    /// Why it is not offered unless forced: "its disk sdb1 is mounted on /", "it is a hub".
    pub hazard: Option<Hazard>,
}

impl Found {
    /// Everything that rules may call it.
    pub const fn names(&self) -> Names<'_> {
        Names {
            id: &self.id,
            port: self.port.as_ref(),
            peer: self.peer.as_ref(),
        }
    }
}

/// A reason not to give a device away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// The reason, as the end of "it is not offered because …".
    pub reason: String,
    /// False where even force does not help (hubs, root hubs).
    pub forcible: bool,
}

/// The number that stands as `state` in lists (profile 19.2 gives the range 0–3 only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// 0: nobody uses it.
    Free,
    /// 1: a session uses it.
    InUse,
    /// 2: somebody holds its lock.
    Locked,
    /// 3: it is listed but cannot be used now (its hazard is not overridden).
    Unavailable,
}

impl State {
    /// The number on the wire.
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::InUse => 1,
            Self::Locked => 2,
            Self::Unavailable => 3,
        }
    }

    /// The state with the given number; unknown ones count as not usable.
    pub const fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Free,
            1 => Self::InUse,
            2 => Self::Locked,
            3..=u8::MAX => Self::Unavailable,
        }
    }
}

/// One present device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What the last scan said.
    pub found: Found,
    /// Who has it open, in the order in which they came.
    pub users: Vec<User>,
}

/// A session that has a device open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The node-id at its other end.
    pub node: [u8; 16],
    /// This use and no other.
    pub ticket: Ticket,
    /// Whether others may have it open too.
    pub sharing: Sharing,
}

/// Whether a device can have several users at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One.
    Exclusive,
    /// Several.
    Shared,
}

/// Names one use of a device. A device that was unplugged and plugged in again may be used anew
/// before its last use has ended, and the end of that must not free it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A difference between two scans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was plugged in.
    Added(DeviceId),
    /// It was unplugged; the node that was using it, if any, of several the first.
    Removed(DeviceId, Option<[u8; 16]>),
    /// Its name or hazard changed.
    Changed(DeviceId),
}

/// Why a peer may not do what it asked; [`Refusal::status`] is the answer on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not present, not offered, or invisible to this peer: the three look alike from outside.
    #[error("no such device")]
    Unknown,
    /// Visible, but the entries do not give the needed right.
    #[error("no access list entry grants this")]
    Acl,
    /// The entries give the right to whoever holds the device's lock, and this peer does not.
    #[error("this node may use it only while it holds the device's lock")]
    NeedsLock,
    /// Another node holds its lock.
    #[error("another node holds the device's lock")]
    LockHeld,
    /// The peer held its lock and does so no longer.
    #[error("this node's lock of the device is lost")]
    LockLost,
    /// Another session has it open.
    #[error("another node is using the device")]
    InUse,
    /// This machine itself is using it.
    #[error("the device is not offered: {0}")]
    Hazard(String),
}

impl Refusal {
    /// Status and sub-code of the error response (profile 10.3).
    pub const fn status(&self) -> (Status, &'static str) {
        match self {
            Self::Unknown => (Status::NotFound, sub::DEVICE),
            Self::Acl | Self::NeedsLock => (Status::Forbidden, sub::ACL),
            Self::LockHeld => (Status::Forbidden, sub::LOCK_HELD),
            Self::LockLost => (Status::Forbidden, sub::LOCK_LOST),
            Self::InUse => (Status::Forbidden, sub::EXCLUSIVE),
            Self::Hazard(_) => (Status::ServiceUnavailable, sub::BUSY),
        }
    }
}

/// The rules and the peer that a question is asked under.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is offered.
    pub policy: &'a ExportPolicy,
    /// Who may.
    pub acl: &'a Acl,
    /// Who asks.
    pub caller: Caller<'a>,
    /// Wall time, seconds since 1970.
    pub now: u64,
}

impl View<'_> {
    /// Whether the rules let the peer perform the operation on the device, present or not.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] for what the peer may not even see, [`Refusal::Acl`] when it lacks the
    /// right, [`Refusal::NeedsLock`] when it would have the right with the lock.
    pub fn permits(
        &self,
        device: Names<'_>,
        opcode: Opcode,
        need: Need,
        holds_lock: bool,
    ) -> Result<(), Refusal> {
        let whole = self.acl.rights(&self.caller, device, None, self.now);
        if !self.policy.offers(device) || !whole.allow(Need::List, false) {
            return Err(Refusal::Unknown);
        }
        let rights = self
            .acl
            .rights(&self.caller, device, Some(opcode), self.now);
        let allowed = |holds_lock| match need {
            Need::Admin => self.caller.has_role(super::acl::ADMIN),
            Need::List | Need::Read | Need::Write => rights.allow(need, holds_lock),
        };
        if allowed(holds_lock) {
            Ok(())
        } else if allowed(true) {
            Err(Refusal::NeedsLock)
        } else {
            Err(Refusal::Acl)
        }
    }
}

/// All present devices by id.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    devices: BTreeMap<DeviceId, Device>,
    uses: u64,
}

impl Registry {
    /// Takes over the result of a whole scan and tells what is different now. Of two devices with
    /// one id the first is kept.
    pub fn sync(&mut self, scan: Vec<Found>) -> Vec<Change> {
        let mut seen = BTreeMap::new();
        for found in scan {
            seen.entry(found.id.clone()).or_insert(found);
        }
        let gone: Vec<_> = self
            .devices
            .keys()
            .filter(|id| !seen.contains_key(id))
            .cloned()
            .collect();
        let mut changes: Vec<_> = gone.into_iter().filter_map(|id| self.remove(&id)).collect();
        changes.extend(seen.into_values().filter_map(|found| self.add(found)));
        changes
    }

    /// Adds or updates one device; `None` when nothing changed. Whoever uses it goes on using it.
    pub fn add(&mut self, found: Found) -> Option<Change> {
        let id = found.id.clone();
        match self.devices.get_mut(&id) {
            None => {
                let users = Vec::new();
                self.devices.insert(id.clone(), Device { found, users });
                Some(Change::Added(id))
            }
            Some(device) if device.found != found => {
                device.found = found;
                Some(Change::Changed(id))
            }
            Some(_) => None,
        }
    }

    /// Removes one device; `None` when it was not there.
    pub fn remove(&mut self, id: &DeviceId) -> Option<Change> {
        let device = self.devices.remove(id)?;
        Some(Change::Removed(id.clone(), device.user()))
    }

    /// Every present device, in the order of the ids, offered or not.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// One present device, offered or not.
    pub fn get(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// The present device with that id, or the one that is plugged into the port of that name. A
    /// hub may be at both ports of a socket; otherwise the one at the socket's other port will do.
    pub fn find(&self, name: &DeviceId) -> Option<&Device> {
        let by = |is: fn(&Found) -> Option<&DeviceId>| {
            let mut devices = self.devices.values();
            devices.find(|device| is(&device.found) == Some(name))
        };
        self.devices
            .get(name)
            .or_else(|| by(|found| found.port.as_ref()))
            .or_else(|| by(|found| found.peer.as_ref()))
    }

    /// The devices that this peer may know of, with its rights.
    pub fn visible<'a>(&'a self, view: View<'a>) -> impl Iterator<Item = (&'a Device, Rights)> {
        self.devices.values().filter_map(move |device| {
            let names = device.found.names();
            let rights = view.acl.rights(&view.caller, names, None, view.now);
            let shown = view.policy.offers(names) && rights.allow(Need::List, false);
            shown.then_some((device, rights))
        })
    }

    /// Whether the peer may perform the operation on the device with that id, or at that port.
    ///
    /// # Errors
    /// As [`View::permits`], and [`Refusal::Hazard`] when this machine itself uses the device.
    pub fn check(
        &self,
        view: View<'_>,
        name: &DeviceId,
        opcode: Opcode,
        need: Need,
        holds_lock: bool,
    ) -> Result<&Device, Refusal> {
        let device = self.find(name).ok_or(Refusal::Unknown)?;
        view.permits(device.found.names(), opcode, need, holds_lock)?;
        match device.blocked(view.policy) {
            Some(hazard) if need != Need::List => Err(Refusal::Hazard(hazard.reason.clone())),
            Some(_) | None => Ok(device),
        }
    }

    /// Marks the device as used by the node.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] when it is not present, [`Refusal::InUse`] when another session, even
    /// one of the same node, has it and either of the two needs it alone.
    pub fn begin_use(
        &mut self,
        id: &DeviceId,
        node: [u8; 16],
        sharing: Sharing,
    ) -> Result<Ticket, Refusal> {
        let device = self.devices.get_mut(id).ok_or(Refusal::Unknown)?;
        if !device.has_room(sharing) {
            return Err(Refusal::InUse);
        }
        self.uses += 1;
        let ticket = Ticket(self.uses);
        device.users.push(User {
            node,
            ticket,
            sharing,
        });
        Ok(ticket)
    }

    /// The session that had the device open has closed it; harmless when it is gone already.
    pub fn end_use(&mut self, id: &DeviceId, ticket: Ticket) {
        if let Some(device) = self.devices.get_mut(id) {
            device.users.retain(|user| user.ticket != ticket);
        }
    }
}

impl Device {
    /// Whether it can have one more such user.
    fn has_room(&self, sharing: Sharing) -> bool {
        let shares = |user: &User| user.sharing == Sharing::Shared;
        self.users.is_empty() || (sharing == Sharing::Shared && self.users.iter().all(shares))
    }

    /// The node that has it open, of several the first.
    pub fn user(&self) -> Option<[u8; 16]> {
        self.users.first().map(|user| user.node)
    }

    /// Every node that has it open, once each, in the order in which they came.
    pub fn nodes(&self) -> Vec<[u8; 16]> {
        let mut nodes = Vec::new();
        for user in &self.users {
            if !nodes.contains(&user.node) {
                nodes.push(user.node);
            }
        }
        nodes
    }

    /// The hazard that keeps the device from being used under this policy.
    pub fn blocked(&self, policy: &ExportPolicy) -> Option<&Hazard> {
        let forced = policy.forces(self.found.names());
        self.found
            .hazard
            .as_ref()
            .filter(|hazard| !(hazard.forcible && forced))
    }

    /// The state to show in lists.
    pub fn state(&self, policy: &ExportPolicy) -> State {
        if !self.users.is_empty() {
            State::InUse
        } else if self.blocked(policy).is_some() {
            State::Unavailable
        } else {
            State::Free
        }
    }
}

#[cfg(test)]
mod tests;
