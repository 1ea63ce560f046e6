//! The family root and what only it can do: found the family, certify nodes, revoke them.

use std::collections::BTreeSet;

use super::identity::Family;
use super::members::Member;
use super::{LockedState, StateDir, StateError, files};
use crate::device::acl::{ADMIN, is_role};
use crate::device::name::is_friendly;
use crate::session::certificate::{CertificateChain, NodeBody};
use crate::session::entropy::Entropy;
use crate::session::identity::{Authority, NodeId, Serial};
use crate::session::psk::Psk;
use crate::session::revocation::RevocationList;
use crate::wire::limits::MAX_LIST;

const ROOT: &str = "family-root.key";
/// Certificates are valid for ten years: a node in a shed must not die of neglect, and a lost one
/// is revoked, not waited for.
const VALIDITY: u64 = 10 * 365 * 86_400;
/// The highest tier a certificate of this build grants.
const TIER: u8 = 5;

/// The family's private root key.
#[derive(Debug)]
pub struct FamilyRoot(Authority);

/// What `init` made.
#[derive(Debug)]
pub struct Created {
    /// The founding node's id.
    pub node: NodeId,
    /// The family.
    pub family: Family,
}

/// A new certificate.
#[derive(Debug)]
pub struct Issued {
    /// To be handed to the node.
    pub chain: CertificateChain,
    /// Its line in the member list.
    pub member: Member,
}

/// What `revoke` changed.
#[derive(Debug)]
pub struct Revocation {
    /// The new list.
    pub list: RevocationList,
    /// The new family PSK.
    pub psk: Psk,
    /// Its epoch.
    pub psk_epoch: u64,
}

impl StateDir {
    /// The family's root key, on the node that has it.
    ///
    /// # Errors
    /// [`StateError::NoRoot`] elsewhere; [`StateError::Exposed`] when others can read it.
    pub fn root(&self) -> Result<FamilyRoot, StateError> {
        let path = self.file(ROOT);
        match files::read_secret(&path)? {
            Some(seed) => Ok(FamilyRoot(Authority::from_bytes(&seed))),
            None => Err(StateError::NoRoot(path)),
        }
    }

    /// True when the root key is here.
    pub fn has_root(&self) -> bool {
        self.file(ROOT).exists()
    }
}

impl LockedState {
    /// Founds a family with this node as its first member and administrator. What an interrupted
    /// earlier attempt made is used. `wall`: seconds since 1970.
    ///
    /// # Errors
    /// [`StateError::Rule`] when the node already belongs to a family or a name is not usable.
    pub fn found_family(
        &self,
        node_name: &str,
        family_name: &str,
        rng: &mut dyn Entropy,
        wall: u64,
    ) -> Result<Created, StateError> {
        if self.is_set_up() {
            return Err(StateError::Rule(
                "this machine already belongs to a family".to_owned(),
            ));
        }
        check_name(node_name)?;
        check_name(family_name)?;
        let root = if self.has_root() {
            self.root()?
        } else {
            let root = Authority::generate(rng);
            files::write_secret(&self.file(ROOT), &root.to_bytes())?;
            FamilyRoot(root)
        };
        let key = self.ensure_node_key(rng)?;
        if self.family_psks()?.is_empty() {
            self.store_family_psk(1, &Psk::generate(rng), wall)?;
        }
        let family = Family {
            name: family_name.to_owned(),
            root: root.0.public(),
        };
        self.store_revocations(&list(&root.0, 1, wall, BTreeSet::new(), 1)?)?;
        let issued = self.certify(key.public(), node_name, &[ADMIN.to_owned()], rng, wall)?;
        self.store_identity(&issued.chain, &family)?;
        Ok(Created {
            node: key.node_id(),
            family,
        })
    }

    /// Certifies the holder of a key. The key must have been proven in a handshake. `wall`: the
    /// best idea of the present in seconds since 1970.
    ///
    /// A member whose certificate was lost on the way, or that starts anew with its old key, gets
    /// another one with the same serial, so that revoking it revokes both.
    ///
    /// # Errors
    /// [`StateError::NoRoot`]; [`StateError::Rule`] for an unusable name or role, or a name that
    /// another member has.
    pub fn certify(
        &self,
        key: &[u8; 32],
        name: &str,
        roles: &[String],
        rng: &mut dyn Entropy,
        wall: u64,
    ) -> Result<Issued, StateError> {
        let FamilyRoot(root) = self.root()?;
        check_name(name)?;
        if roles.len() > MAX_LIST || !roles.iter().all(|role| is_role(role)) {
            return Err(StateError::Rule(format!(
                "{roles:?} are not usable as roles"
            )));
        }
        let node = NodeId::of(key);
        let mut members = self.members()?;
        let taken = |member: &Member| member.node != node && member.name.eq_ignore_ascii_case(name);
        if members.current().any(taken) {
            return Err(StateError::Rule(format!(
                "there is already a member named {name}; take another name, or revoke that one first"
            )));
        }
        let earlier = members.take_current(node);
        let not_after = wall.saturating_add(VALIDITY);
        let body = NodeBody {
            family: root.public().family_id(),
            key: *key,
            not_before: wall,
            not_after,
            roles: roles.to_vec(),
            serial: earlier.map_or_else(|| Serial::generate(rng), |member| member.serial),
            tier: TIER,
            name: Some(name.to_owned()),
            user: None,
        };
        let chain = CertificateChain::issue(&root, &body, None)
            .map_err(|error| StateError::Rule(error.to_string()))?;
        let member = Member {
            node,
            name: name.to_owned(),
            roles: body.roles,
            serial: body.serial,
            joined: wall,
            expires: not_after,
            revoked: None,
        };
        members.push(member.clone());
        self.store_members(&members)?;
        Ok(Issued { chain, member })
    }

    /// Excludes a node: its certificates go on a new revocation list, the family gets a new PSK.
    ///
    /// # Errors
    /// [`StateError::NoRoot`]; [`StateError::Rule`] when the node is no current member or is this
    /// node itself.
    pub fn revoke(
        &self,
        node: NodeId,
        rng: &mut dyn Entropy,
        wall: u64,
    ) -> Result<Revocation, StateError> {
        let FamilyRoot(root) = self.root()?;
        if self.identity()?.key.node_id() == node {
            return Err(StateError::Rule(
                "this machine cannot revoke itself".to_owned(),
            ));
        }
        let mut members = self.members()?;
        let Some(member) = members.take_current(node) else {
            return Err(StateError::Rule(format!("node {node} is not a member")));
        };
        let old = self.revocations(&root.public())?;
        let number = old.as_ref().map_or(0, RevocationList::number);
        let mut serials = old.map(|old| old.serials().clone()).unwrap_or_default();
        serials.insert(member.serial);
        let psk_epoch = self.family_psks()?.last().map_or(0, |psk| psk.epoch);
        let psk_epoch = psk_epoch.saturating_add(1);
        let psk = self.fresh_psk(rng)?;
        let list = list(&root, number.saturating_add(1), wall, serials, psk_epoch)?;
        // The list first: what excludes the node must not be lost by an interruption.
        self.store_revocations(&list)?;
        self.store_family_psk(psk_epoch, &psk, wall)?;
        members.push(Member {
            revoked: Some(wall),
            ..member
        });
        self.store_members(&members)?;
        Ok(Revocation {
            list,
            psk,
            psk_epoch,
        })
    }

    /// A PSK whose id none of the kept ones has (profile 7.5).
    fn fresh_psk(&self, rng: &mut dyn Entropy) -> Result<Psk, StateError> {
        let kept = self.family_psks()?;
        loop {
            let psk = Psk::generate(rng);
            if kept.iter().all(|old| old.psk.id() != psk.id()) {
                return Ok(psk);
            }
        }
    }
}

fn list(
    root: &Authority,
    number: u64,
    at: u64,
    serials: BTreeSet<Serial>,
    psk_epoch: u64,
) -> Result<RevocationList, StateError> {
    RevocationList::issue(root, number, at, serials, psk_epoch)
        .map_err(|error| StateError::Rule(error.to_string()))
}

fn check_name(name: &str) -> Result<(), StateError> {
    if is_friendly(name) {
        Ok(())
    } else {
        Err(StateError::Rule(format!(
            "{name:?} is not usable as a name: 1 to 64 characters, no '/', no control characters"
        )))
    }
}
