//! The best lower bound of the present that this node has seen (profile 16.4).

use serde::{Deserialize, Serialize};

use super::{LockedState, StateDir, StateError, files};

/// The present is not before this build was made: 2026-11-01, in seconds since 1970.
pub const BUILD_FLOOR: u64 = 1_793_491_200;

const FILE: &str = "clock.toml";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    floor: u64,
}

impl StateDir {
    /// Seconds since 1970 before which the present cannot be: the newest authenticated time that
    /// was stored, at least [`BUILD_FLOOR`].
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn time_floor(&self) -> Result<u64, StateError> {
        let stored: Option<Clock> = files::read_toml(&self.file(FILE))?;
        Ok(stored.map_or(BUILD_FLOOR, |clock| clock.floor.max(BUILD_FLOOR)))
    }
}

impl LockedState {
    /// Stores an authenticated time if it is later than the stored one. A daemon calls this after a
    /// handshake with a synchronised peer and about once an hour, not more often: it writes to disk.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn raise_time_floor(&self, secs: u64) -> Result<(), StateError> {
        if secs <= self.time_floor()? {
            return Ok(());
        }
        let about = "Lower bound of the present in seconds since 1970, for starts without a clock.";
        files::write_toml(&self.file(FILE), about, &Clock { floor: secs })
    }
}
