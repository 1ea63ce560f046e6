//! Who belongs to the family.

use super::{Known, unresolved};
use crate::daemon::audit::{self, Record, What};
use crate::daemon::control::message::{ControlError, MemberInfo, NodeName, Revoked};
use crate::daemon::state::{Member, Revocation, StateDir};
use crate::device::acl::Subject;
use crate::session::entropy::Entropy;
use crate::session::identity::NodeId;

/// Every node that this one has certified.
///
/// # Errors
/// Where the root key is not: the list is only there.
pub fn members(state: &StateDir, known: Known<'_>) -> Result<Vec<MemberInfo>, ControlError> {
    let this = state.identity()?.key.node_id();
    state.root()?;
    let online = |id: &str| known.sessions.iter().any(|session| session.id == id);
    let info = |member: &Member| MemberInfo {
        online: known
            .devices
            .map(|_| member.node == this || online(&member.node.to_string())),
        ..describe(member, this)
    };
    Ok(state.members()?.all().iter().map(info).collect())
}

/// A member list line as it is shown; `this` is the node that shows it.
pub fn describe(member: &Member, this: NodeId) -> MemberInfo {
    MemberInfo {
        id: member.node.to_string(),
        name: member.name.clone(),
        roles: member.roles.clone(),
        joined: member.joined,
        expires: member.expires,
        revoked: member.revoked,
        this: member.node == this,
        online: None,
    }
}

/// Excludes a member. A running daemon then closes its sessions, fills [`Revoked::closed`], and
/// takes over the new list and PSK.
///
/// # Errors
/// Not found, ambiguous, without the root key, this node itself. `wall`: seconds since 1970.
pub fn revoke(
    state: &StateDir,
    query: &str,
    rng: &mut dyn Entropy,
    wall: u64,
) -> Result<(Revoked, Revocation), ControlError> {
    state.identity()?;
    state.root()?;
    let locked = state.lock()?;
    let members = locked.members()?;
    let member = members
        .resolve(query)
        .map_err(|error| unresolved("member", query, error, "myclerk members"))?;
    let revocation = locked.revoke(member.node, rng, wall)?;
    // A node that comes back with its old key must not find its old rights.
    let mut acl = locked.acl()?;
    let entries = acl.forget(&Subject::Node(member.node.0));
    if entries > 0 {
        locked.store_acl(&acl)?;
    }
    let revoked = Revoked {
        node: NodeName {
            id: member.node.to_string(),
            name: member.name.clone(),
        },
        crl: revocation.list.number(),
        psk_epoch: revocation.psk_epoch,
        closed: 0,
        entries,
    };
    let record = Record::new(What::Revoked).of(revoked.node.clone());
    audit::note(state.path(), &record);
    Ok((revoked, revocation))
}
