//! The family's pre-shared keys: the current one and, for members that were offline, the replaced
//! ones for 30 days (profile 5.3).

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{LockedState, StateDir, StateError, files};
use crate::session::psk::{KEEP_OLD, Psk, PskStore};
use crate::wire::time::Mono;

const DIR: &str = "psk";
const INDEX: &str = "psk/epochs.toml";

/// One family PSK.
#[derive(Clone, Debug)]
pub struct FamilyPsk {
    /// Its epoch number.
    pub epoch: u64,
    /// The key.
    pub psk: Psk,
    /// `None` for the current one, else the end of its being kept, in seconds since 1970.
    pub until: Option<u64>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(default, rename = "epoch")]
    epochs: Vec<Epoch>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Epoch {
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl StateDir {
    /// Every kept PSK, the oldest first, the current one last.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::Exposed`] and [`StateError::Io`].
    pub fn family_psks(&self) -> Result<Vec<FamilyPsk>, StateError> {
        let mut psks = Vec::new();
        for Epoch { number, until } in self.psk_index()?.epochs {
            let path = self.psk_file(number);
            let Some(key) = files::read_secret(&path)? else {
                return Err(StateError::damaged(
                    &self.file(INDEX),
                    &"a key it names is absent",
                ));
            };
            psks.push(FamilyPsk {
                epoch: number,
                psk: Psk::from_bytes(*key),
                until,
            });
        }
        psks.sort_by_key(|psk| psk.epoch);
        Ok(psks)
    }

    /// The family's PSKs as a responder looks them up. `wall` is the best idea of the present in
    /// seconds since 1970 and `now` the same moment on the monotonic clock.
    ///
    /// # Errors
    /// As [`StateDir::family_psks`]; [`StateError::Damaged`] when two keys have the same id.
    pub fn psk_store(&self, wall: u64, now: Mono) -> Result<PskStore, StateError> {
        let mut store = PskStore::default();
        for FamilyPsk { epoch, psk, until } in self.family_psks()? {
            let added = match until {
                None => store.set_family(now, epoch, psk),
                Some(until) if until <= wall => continue,
                Some(until) => {
                    let left = core::time::Duration::from_secs(until - wall);
                    store.keep_old_family(epoch, psk, now.after(left))
                }
            };
            added.map_err(|error| StateError::damaged(&self.file(INDEX), &error))?;
        }
        Ok(store)
    }

    fn psk_index(&self) -> Result<Index, StateError> {
        Ok(files::read_toml(&self.file(INDEX))?.unwrap_or_default())
    }

    fn psk_file(&self, epoch: u64) -> std::path::PathBuf {
        self.file(DIR).join(format!("{epoch}.key"))
    }
}

impl LockedState {
    /// Makes `psk` the current one and keeps the one before it for 30 days from `wall` (seconds
    /// since 1970); erases what is past its time. Storing the same epoch again replaces its key.
    ///
    /// # Errors
    /// [`StateError::Rule`] when a newer epoch is stored already; [`StateError::Io`].
    pub fn store_family_psk(&self, epoch: u64, psk: &Psk, wall: u64) -> Result<(), StateError> {
        let dir = self.file(DIR);
        super::StateDir::new(&dir).create()?;
        let mut index = self.psk_index()?;
        if index.epochs.iter().any(|old| old.number > epoch) {
            return Err(StateError::Rule(format!(
                "a family PSK newer than epoch {epoch} is stored"
            )));
        }
        // The key first: an index that names an absent key would be damage.
        files::write_secret(&self.psk_file(epoch), &psk.to_bytes())?;
        index.epochs.retain(|old| old.number != epoch);
        for old in &mut index.epochs {
            old.until
                .get_or_insert(wall.saturating_add(KEEP_OLD.as_secs()));
        }
        let (kept, past): (Vec<_>, Vec<_>) = index
            .epochs
            .into_iter()
            .partition(|old| old.until.is_none_or(|until| wall < until));
        let mut epochs = kept;
        epochs.push(Epoch {
            number: epoch,
            until: None,
        });
        let about = "Epochs of the family's pre-shared key; the last one is current.";
        files::write_toml(&self.file(INDEX), about, &Index { epochs })?;
        for Epoch { number, .. } in past {
            let path = self.psk_file(number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::io("erase", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}
