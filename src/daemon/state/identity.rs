//! Who this node is: its key, and the certificate of its family.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{FamilyPsk, LockedState, Peer, StateDir, StateError, files};
use crate::session::certificate::CertificateChain;
use crate::session::entropy::Entropy;
use crate::session::identity::{AuthorityKey, FamilyId, NodeId, NodeKey};
use crate::session::revocation::RevocationList;
use crate::session::trust::Trust;
use crate::wire::hex;

const KEY: &str = "node.key";
const IDENTITY: &str = "identity.toml";
const LIST: &str = "revocations.toml";

/// Identifiers as text in TOML; on the wire the same types are binary.
pub(super) mod as_text {
    use core::fmt::Display;
    use core::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A set-up node.
#[derive(Debug)]
pub struct Identity {
    /// Its static key.
    pub key: NodeKey,
    /// Its name in its certificate.
    pub name: String,
    /// Its roles in its certificate.
    pub roles: Vec<String>,
    /// Its certificate.
    pub chain: CertificateChain,
    /// Its family.
    pub family: Family,
}

/// A family as its members know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name for people; empty on nodes that were not told.
    pub name: String,
    /// The pinned public root key.
    pub root: AuthorityKey,
}

impl Family {
    /// The family-id, which follows from the root key.
    pub fn id(&self) -> FamilyId {
        self.root.family_id()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    #[serde(with = "as_text")]
    node: NodeId,
    certificate: String,
    family: StoredFamily,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFamily {
    name: String,
    #[serde(with = "as_text")]
    id: FamilyId,
    #[serde(with = "as_text")]
    root: AuthorityKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredList {
    number: u64,
    list: String,
}

/// What enrolment brings (profile 5.4).
#[derive(Debug)]
pub struct Membership {
    /// The certificate for this node's key.
    pub chain: CertificateChain,
    /// The family whose root the token named.
    pub family: Family,
    /// The family's current PSK.
    pub psk: FamilyPsk,
    /// The family's newest revocation list.
    pub revocations: RevocationList,
    /// The hub and where it was reached.
    pub hub: Peer,
}

impl StateDir {
    /// True when this node belongs to a family.
    pub fn is_set_up(&self) -> bool {
        self.file(IDENTITY).exists()
    }

    /// This node.
    ///
    /// # Errors
    /// [`StateError::NotSetUp`] before `init` or `join`; [`StateError::Damaged`] when key and
    /// certificate do not belong together.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let path = self.file(IDENTITY);
        let Some(stored) = files::read_toml::<Stored>(&path)? else {
            return Err(StateError::NotSetUp(self.path().to_owned()));
        };
        let damaged = |why: &str| StateError::damaged(&path, &why);
        let key_path = self.file(KEY);
        let key = self
            .node_key()?
            .ok_or_else(|| StateError::damaged(&key_path, &"it is absent"))?;
        let raw = hex::decode_vec(&stored.certificate);
        let raw = raw.ok_or_else(|| damaged("its certificate is not hexadecimal"))?;
        let chain = CertificateChain::decode(&raw).map_err(|error| damaged(&error.to_string()))?;
        let claims = chain
            .claims()
            .map_err(|error| damaged(&error.to_string()))?;
        if stored.node != key.node_id() || claims.key != *key.public() {
            return Err(damaged("it belongs to another key than node.key"));
        }
        if stored.family.id != stored.family.root.family_id() || claims.family != stored.family.id {
            return Err(damaged(
                "its certificate is of another family than its root key",
            ));
        }
        let family = Family {
            name: stored.family.name,
            root: stored.family.root,
        };
        Ok(Identity {
            key,
            name: stored.name,
            roles: claims.roles,
            chain,
            family,
        })
    }

    /// What this node believes: its family's root, the stored revocation list, the time floor.
    ///
    /// # Errors
    /// As [`StateDir::identity`]; [`StateError::Damaged`] for a list that does not verify.
    pub fn trust(&self) -> Result<Trust, StateError> {
        let root = self.identity()?.family.root;
        let mut trust = Trust::new(self.time_floor()?);
        trust.pin(root);
        if let Some(list) = self.revocations(&root)? {
            trust
                .offer_list(list.as_bytes(), root.family_id())
                .map_err(|error| StateError::damaged(&self.file(LIST), &error))?;
        }
        Ok(trust)
    }

    /// The newest stored revocation list of the family with this root.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when it does not verify.
    pub fn revocations(&self, root: &AuthorityKey) -> Result<Option<RevocationList>, StateError> {
        let path = self.file(LIST);
        let Some(stored) = files::read_toml::<StoredList>(&path)? else {
            return Ok(None);
        };
        let raw = hex::decode_vec(&stored.list)
            .ok_or_else(|| StateError::damaged(&path, &"its list is not hexadecimal"))?;
        let list = RevocationList::verify(&raw, root);
        list.map(Some)
            .map_err(|error| StateError::damaged(&path, &error))
    }

    pub(super) fn node_key(&self) -> Result<Option<NodeKey>, StateError> {
        let secret = files::read_secret(&self.file(KEY))?;
        Ok(secret.map(|secret| NodeKey::from_bytes(&secret)))
    }
}

impl LockedState {
    /// This node's key, made now if there is none.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::Exposed`] and [`StateError::Io`].
    pub fn ensure_node_key(&self, rng: &mut dyn Entropy) -> Result<NodeKey, StateError> {
        if let Some(key) = self.node_key()? {
            return Ok(key);
        }
        let key = NodeKey::generate(rng);
        files::write_secret(&self.file(KEY), &key.to_bytes())?;
        Ok(key)
    }

    /// Stores what enrolment brought; from then on the node is set up. `wall`: seconds since 1970.
    ///
    /// # Errors
    /// [`StateError::Rule`] when the certificate is not for this node's key, or the node is a
    /// member already.
    pub fn store_membership(&self, membership: &Membership, wall: u64) -> Result<(), StateError> {
        if self.is_set_up() {
            return Err(StateError::Rule(
                "this machine already belongs to a family".to_owned(),
            ));
        }
        let FamilyPsk { epoch, psk, .. } = &membership.psk;
        self.store_family_psk(*epoch, psk, wall)?;
        self.store_revocations(&membership.revocations)?;
        let mut peers = self.peers()?;
        peers.put(membership.hub.clone());
        self.store_peers(&peers)?;
        // Last: it is what makes the node set up.
        self.store_identity(&membership.chain, &membership.family)
    }

    /// Leaves the family: the membership, the node's key and the access list, whose entries name
    /// nodes and roles of that family, are moved aside. The exports stay. Returns where they are.
    ///
    /// # Errors
    /// [`StateError::Rule`] on the node with the family's root key; [`StateError::NotSetUp`].
    pub fn leave_family(&self) -> Result<PathBuf, StateError> {
        if self.has_root() {
            return Err(StateError::Rule(format!(
                "this machine holds the root key of its family; move {} away to start anew",
                self.path().display()
            )));
        }
        let node = self.identity()?.key.node_id();
        let aside = self.file(&format!("former-{node}"));
        StateDir::new(&aside).create()?;
        // The identity first: without it the node is not set up, whatever else is still there.
        for name in [IDENTITY, KEY, LIST, "psk", "acl.toml", "peers.toml"] {
            let from = self.file(name);
            match std::fs::rename(&from, aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::io("move aside", &from)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(aside)
    }

    /// Stores a revocation list unless the stored one is as new; true when it was stored.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store_revocations(&self, list: &RevocationList) -> Result<bool, StateError> {
        let path = self.file(LIST);
        let stored = files::read_toml::<StoredList>(&path)?;
        if stored.is_some_and(|stored| stored.number >= list.number()) {
            return Ok(false);
        }
        let stored = StoredList {
            number: list.number(),
            list: hex::encode(list.as_bytes()),
        };
        files::write_toml(&path, "The family's signed revocation list.", &stored)?;
        Ok(true)
    }

    pub(super) fn store_identity(
        &self,
        chain: &CertificateChain,
        family: &Family,
    ) -> Result<(), StateError> {
        let claims = chain
            .claims()
            .map_err(|error| StateError::Rule(error.to_string()))?;
        let own = self
            .node_key()?
            .is_some_and(|key| *key.public() == claims.key);
        if !own || claims.family != family.id() {
            return Err(StateError::Rule(
                "the certificate is not for this machine".to_owned(),
            ));
        }
        let stored = Stored {
            name: claims.name.unwrap_or_default(),
            node: NodeId::of(&claims.key),
            certificate: hex::encode(chain.as_bytes()),
            family: StoredFamily {
                name: family.name.clone(),
                id: family.id(),
                root: family.root,
            },
        };
        let about = "This machine's place in its family. Nothing here is secret.";
        files::write_toml(&self.file(IDENTITY), about, &stored)
    }
}
