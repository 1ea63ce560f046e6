//! The fence of locks: a number that never goes back, not even over a crash (profile 17.3).

use serde::{Deserialize, Serialize};

use super::{LockedState, StateDir, StateError, files};

const FILE: &str = "fence.toml";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fence {
    below: u64,
}

impl StateDir {
    /// Every fence that was ever given is below this.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn fence(&self) -> Result<u64, StateError> {
        let stored: Option<Fence> = files::read_toml(&self.file(FILE))?;
        Ok(stored.map_or(0, |fence| fence.below))
    }
}

impl LockedState {
    /// Stores that fences up to this one may be given from now on.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn raise_fence(&self, below: u64) -> Result<(), StateError> {
        if below <= self.fence()? {
            return Ok(());
        }
        let about = "Locks given so far have numbers below this; it must never be lowered.";
        files::write_toml(&self.file(FILE), about, &Fence { below })
    }
}
