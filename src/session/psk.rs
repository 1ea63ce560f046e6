//! Pre-shared keys: 32 random bytes that a handshake mixes in (profile 5.1, 5.3, 5.4, 7.5).

use core::fmt;
use core::time::Duration;

use zeroize::Zeroizing;

use super::entropy::{self, Entropy};
use super::identity::FamilyId;
use super::schedule::{self, Secret};
use crate::wire::time::Mono;

/// How long a responder keeps the family PSKs it replaced (profile 5.3).
pub const KEEP_OLD: Duration = Duration::from_secs(30 * 86400);
/// Lifetime of an enrolment token (profile 5.4).
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// Failed enrolments after which a token is erased (profile 5.4).
pub const TOKEN_ATTEMPTS: u32 = 3;

/// A pre-shared key of full entropy. Passwords are not PSKs (profile 6.5).
#[derive(Clone)]
pub struct Psk(Secret);

impl Psk {
    /// A fresh key.
    pub fn generate(rng: &mut dyn Entropy) -> Self {
        Self(Secret(*entropy::secret(rng)))
    }

    /// The key with the given bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret(bytes))
    }

    /// The bytes, for storage or for handing out in an ENROL or `FAMILY_UPDATE` answer.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.0)
    }

    /// The key of an enrolment token of 16 random bytes (profile 5.4).
    pub fn from_token(token: &Token, family: FamilyId) -> Self {
        Self(schedule::enrolment_psk(&token.0, &family.0))
    }

    /// The Key ID it goes by on the wire, never 0 (profile 7.5).
    pub fn id(&self) -> u32 {
        schedule::psk_id(&self.0)
    }

    pub(crate) const fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Psk(id {:08x})", self.id())
    }
}

/// An enrolment token: 16 random bytes shown once, valid ten minutes (profile 5.4).
#[derive(Clone)]
pub struct Token(Zeroizing<[u8; 16]>);

impl Token {
    /// A fresh token.
    pub fn generate(rng: &mut dyn Entropy) -> Self {
        Self(entropy::secret(rng))
    }

    /// The token with the given bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the QR code.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 16]> {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What a PSK is for; it decides what a session that mixed it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PskUse {
    /// The PSK of a family (profile 5.1).
    Family {
        /// Its epoch number.
        epoch: u64,
        /// False for one that has been replaced: the session may only fetch the new one.
        current: bool,
    },
    /// Made from an enrolment token: the session may only enrol (profile 5.4).
    Enrol,
    /// Shared by two nodes or two families (profile 5.1, 5.5).
    Pair,
}

/// Where a responder finds the PSK that a handshake names.
pub trait PskLookup {
    /// The PSK with the given Key ID, if it may be used now.
    fn psk(&self, key_id: u32) -> Option<(Psk, PskUse)>;
}

impl<F: Fn(u32) -> Option<(Psk, PskUse)>> PskLookup for F {
    fn psk(&self, key_id: u32) -> Option<(Psk, PskUse)> {
        self(key_id)
    }
}

/// The PSKs a responder accepts: the family's with their epochs, enrolment tokens, pairs.
#[derive(Debug, Default)]
pub struct PskStore {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u32,
    psk: Psk,
    usage: PskUse,
    until: Option<Mono>,
    failures: u32,
}

/// The key id is taken; generate another key (profile 7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another key already has the id {0:08x}")]
pub struct IdTaken(pub u32);

impl PskStore {
    /// Makes `psk` the family's current one; those of earlier epochs stay for 30 days.
    ///
    /// # Errors
    /// [`IdTaken`] when another key has the same id.
    pub fn set_family(&mut self, now: Mono, epoch: u64, psk: Psk) -> Result<(), IdTaken> {
        self.add(Entry::new(
            psk,
            PskUse::Family {
                epoch,
                current: true,
            },
            None,
        ))?;
        for entry in &mut self.entries {
            if let PskUse::Family {
                epoch: old,
                current,
            } = &mut entry.usage
                && *old < epoch
                && *current
            {
                *current = false;
                entry.until = Some(now.after(KEEP_OLD));
            }
        }
        Ok(())
    }

    /// Keeps a replaced family PSK for members that were offline, until `until`.
    ///
    /// # Errors
    /// [`IdTaken`] when another key has the same id.
    pub fn keep_old_family(&mut self, epoch: u64, psk: Psk, until: Mono) -> Result<(), IdTaken> {
        self.add(Entry::new(
            psk,
            PskUse::Family {
                epoch,
                current: false,
            },
            Some(until),
        ))
    }

    /// Accepts an enrolment token for ten minutes and returns the Key ID it will come with.
    ///
    /// # Errors
    /// [`IdTaken`] when another key has the same id.
    pub fn add_token(
        &mut self,
        now: Mono,
        token: &Token,
        family: FamilyId,
    ) -> Result<u32, IdTaken> {
        let psk = Psk::from_token(token, family);
        let id = psk.id();
        self.add(Entry::new(
            psk,
            PskUse::Enrol,
            Some(now.after(TOKEN_LIFETIME)),
        ))?;
        Ok(id)
    }

    /// Accepts a pairwise PSK.
    ///
    /// # Errors
    /// [`IdTaken`] when another key has the same id.
    pub fn add_pair(&mut self, psk: Psk) -> Result<(), IdTaken> {
        self.add(Entry::new(psk, PskUse::Pair, None))
    }

    /// The family's current PSK and its epoch.
    pub fn family(&self) -> Option<(&Psk, u64)> {
        self.entries.iter().find_map(|entry| match entry.usage {
            PskUse::Family {
                epoch,
                current: true,
            } => Some((&entry.psk, epoch)),
            PskUse::Family { current: false, .. } | PskUse::Enrol | PskUse::Pair => None,
        })
    }

    /// Erases a token that was used or withdrawn.
    pub fn remove(&mut self, key_id: u32) {
        self.entries.retain(|entry| entry.id != key_id);
    }

    /// Counts a failed enrolment; the third one erases the token (profile 5.4).
    pub fn enrolment_failed(&mut self, key_id: u32) {
        self.entries.retain_mut(|entry| {
            if entry.id == key_id && entry.usage == PskUse::Enrol {
                entry.failures += 1;
            }
            entry.failures < TOKEN_ATTEMPTS
        });
    }

    /// Erases what has run out.
    pub fn expire(&mut self, now: Mono) {
        self.entries
            .retain(|entry| entry.until.is_none_or(|until| now < until));
    }

    /// The keys as they are at `now`.
    pub fn at(&self, now: Mono) -> impl PskLookup {
        move |key_id| {
            let entry = self.entries.iter().find(|entry| entry.id == key_id)?;
            let valid = entry.until.is_none_or(|until| now < until);
            valid.then(|| (entry.psk.clone(), entry.usage))
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), IdTaken> {
        if self.entries.iter().any(|other| other.id == entry.id) {
            return Err(IdTaken(entry.id));
        }
        self.entries.push(entry);
        Ok(())
    }
}

impl Entry {
    fn new(psk: Psk, usage: PskUse, until: Option<Mono>) -> Self {
        Self {
            id: psk.id(),
            psk,
            usage,
            until,
            failures: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psk(byte: u8) -> Psk {
        Psk::from_bytes([byte; 32])
    }

    #[test]
    fn a_replaced_family_psk_is_kept_for_thirty_days_as_old() {
        let mut store = PskStore::default();
        let day = |days: u64| Mono::from_secs(days * 86400);
        assert_eq!(store.set_family(day(0), 1, psk(1)), Ok(()));
        assert_eq!(store.set_family(day(5), 2, psk(2)), Ok(()));
        let usage = |now, key: &Psk| store.at(now).psk(key.id()).map(|(_, usage)| usage);
        assert_eq!(
            usage(day(34), &psk(1)),
            Some(PskUse::Family {
                epoch: 1,
                current: false
            })
        );
        assert_eq!(usage(day(35), &psk(1)), None);
        assert_eq!(
            usage(day(35), &psk(2)),
            Some(PskUse::Family {
                epoch: 2,
                current: true
            })
        );
        assert_eq!(store.family().map(|(_, epoch)| epoch), Some(2));
    }

    #[test]
    fn a_token_dies_of_age_of_use_and_of_the_third_failure() {
        let family = FamilyId([3; 16]);
        let token = Token::from_bytes([4; 16]);
        let mut store = PskStore::default();
        let id = store.add_token(Mono::ZERO, &token, family).unwrap();
        assert!(store.at(Mono::from_secs(599)).psk(id).is_some());
        assert!(store.at(Mono::from_secs(600)).psk(id).is_none());
        store.enrolment_failed(id);
        store.enrolment_failed(id);
        assert!(store.at(Mono::ZERO).psk(id).is_some());
        store.enrolment_failed(id);
        assert!(store.at(Mono::ZERO).psk(id).is_none());
        let id = store.add_token(Mono::ZERO, &token, family).unwrap();
        assert_eq!(
            store.add_token(Mono::ZERO, &token, family),
            Err(IdTaken(id))
        );
        store.remove(id);
        assert!(store.at(Mono::ZERO).psk(id).is_none());
    }

    #[test]
    fn neither_psk_nor_token_is_printed() {
        assert!(!format!("{:?}", psk(0xAA)).contains("170"));
        assert_eq!(format!("{:?}", Token::from_bytes([1; 16])), "Token(..)");
    }
}
