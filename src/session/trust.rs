//! What a node believes about others: pinned roots, revocation lists, and a lower bound of the
//! present (profile 5.3, 5.5, 16.4).

use std::collections::BTreeMap;

use super::certificate::CertificateError;
use super::clock::{ClockQuality, WallClock};
use super::identity::{AuthorityKey, FamilyId, Serial};
use super::revocation::RevocationList;

/// Pinned roots, the newest revocation list of each family, and the newest time known for sure.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: BTreeMap<FamilyId, AuthorityKey>,
    lists: BTreeMap<FamilyId, RevocationList>,
    own: Option<FamilyId>,
    floor: u64,
}

impl Trust {
    /// Trust in nobody. `floor` is the build time or the persisted value of [`Trust::floor`],
    /// seconds since 1970.
    pub const fn new(floor: u64) -> Self {
        Self {
            roots: BTreeMap::new(),
            lists: BTreeMap::new(),
            own: None,
            floor,
        }
    }

    /// Pins a root. The first one is the node's own family, further ones are federated.
    pub fn pin(&mut self, root: AuthorityKey) {
        let family = root.family_id();
        self.own.get_or_insert(family);
        self.roots.insert(family, root);
    }

    /// The node's own family.
    pub const fn own_family(&self) -> Option<FamilyId> {
        self.own
    }

    /// The pinned root of a family.
    pub fn root(&self, family: FamilyId) -> Option<&AuthorityKey> {
        self.roots.get(&family)
    }

    /// Takes a revocation list if it is newer than the stored one; true when it was.
    ///
    /// # Errors
    /// [`CertificateError`] when it is not a list of a pinned family.
    pub fn offer_list(&mut self, raw: &[u8], family: FamilyId) -> Result<bool, CertificateError> {
        let root = self
            .root(family)
            .ok_or(CertificateError::UnknownFamily(family))?;
        let list = RevocationList::verify(raw, root)?;
        if list.number() <= self.list_number(family) && self.lists.contains_key(&family) {
            return Ok(false);
        }
        self.learn_time(list.at());
        self.lists.insert(family, list);
        Ok(true)
    }

    /// The newest revocation list of a family.
    pub fn list(&self, family: FamilyId) -> Option<&RevocationList> {
        self.lists.get(&family)
    }

    /// The number of the newest list of a family, 0 without one.
    pub fn list_number(&self, family: FamilyId) -> u64 {
        self.list(family).map_or(0, RevocationList::number)
    }

    /// The number to announce in a handshake (`crl` of profile 6.4).
    pub(super) fn announced_list(&self) -> u64 {
        self.own.map_or(0, |family| self.list_number(family))
    }

    /// True when the family's newest list names the serial.
    pub fn is_revoked(&self, family: FamilyId, serial: Serial) -> bool {
        self.list(family)
            .is_some_and(|list| list.serials().contains(&serial))
    }

    /// Raises the lower bound of the present: an authenticated time of a synchronised peer, or a
    /// date that somebody trusted has signed.
    pub fn learn_time(&mut self, secs: u64) {
        self.floor = self.floor.max(secs);
    }

    /// The lower bound, to be persisted; seconds since 1970.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// The best lower bound of the present; seconds since 1970 (profile 16.4).
    pub fn present(&self, wall: WallClock) -> u64 {
        match wall.quality {
            ClockQuality::Synchronised => self.floor.max(wall.secs),
            ClockQuality::None | ClockQuality::Estimated => self.floor,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::session::identity::Authority;

    #[test]
    fn only_a_newer_list_of_the_right_root_replaces_the_stored_one() {
        let root = Authority::from_bytes(&[1; 32]);
        let family = root.public().family_id();
        let mut trust = Trust::new(100);
        trust.pin(root.public());
        let list = |by: &Authority, number, serial| {
            let serials = BTreeSet::from([Serial([serial; 8])]);
            RevocationList::issue(by, number, 500, serials, 3).unwrap()
        };
        assert_eq!(
            trust.offer_list(list(&root, 5, 1).as_bytes(), family),
            Ok(true)
        );
        assert_eq!(
            trust.offer_list(list(&root, 5, 2).as_bytes(), family),
            Ok(false)
        );
        assert_eq!(
            trust.offer_list(list(&root, 4, 2).as_bytes(), family),
            Ok(false)
        );
        assert!(
            trust.is_revoked(family, Serial([1; 8])) && !trust.is_revoked(family, Serial([2; 8]))
        );
        let stranger = Authority::from_bytes(&[2; 32]);
        assert!(
            trust
                .offer_list(list(&stranger, 9, 2).as_bytes(), family)
                .is_err()
        );
        assert_eq!(
            trust.offer_list(list(&root, 6, 2).as_bytes(), family),
            Ok(true)
        );
        assert!(
            trust.is_revoked(family, Serial([2; 8])) && !trust.is_revoked(family, Serial([1; 8]))
        );
        assert_eq!(trust.floor(), 500);
        assert_eq!(trust.list(family).map(RevocationList::psk_epoch), Some(3));
    }

    #[test]
    fn an_unsynchronised_clock_never_moves_the_present() {
        let trust = Trust::new(100);
        let present = |secs, quality| trust.present(WallClock { secs, quality });
        assert_eq!(present(900, ClockQuality::Estimated), 100);
        assert_eq!(present(900, ClockQuality::Synchronised), 900);
        assert_eq!(present(50, ClockQuality::Synchronised), 100);
    }
}
