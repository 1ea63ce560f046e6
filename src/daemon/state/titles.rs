//! What devices of this node are called, where somebody has said so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LockedState, StateDir, StateError, files};
use crate::device::id::DeviceId;

const FILE: &str = "titles.toml";
/// The most that are stored: devices come and go.
const MAX: usize = 1024;

/// Titles by device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Titles {
    #[serde(default)]
    title: BTreeMap<DeviceId, String>,
}

impl Titles {
    /// The title of a device.
    pub fn of(&self, device: &DeviceId) -> Option<&str> {
        self.title.get(device).map(String::as_str)
    }

    /// Sets a title or takes it away; false when nothing changed.
    ///
    /// # Errors
    /// [`StateError::Rule`] when there are as many as are stored.
    pub fn set(&mut self, device: &DeviceId, title: Option<&str>) -> Result<bool, StateError> {
        let Some(title) = title else {
            return Ok(self.title.remove(device).is_some());
        };
        if self.of(device) == Some(title) {
            return Ok(false);
        }
        if self.title.len() >= MAX && !self.title.contains_key(device) {
            return Err(StateError::Rule(format!("{MAX} devices have titles")));
        }
        self.title.insert(device.clone(), title.to_owned());
        Ok(true)
    }
}

impl StateDir {
    /// What devices are called; nothing when nothing was stored.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn titles(&self) -> Result<Titles, StateError> {
        Ok(files::read_toml(&self.file(FILE))?.unwrap_or_default())
    }
}

impl LockedState {
    /// Stores what devices are called.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store_titles(&self, titles: &Titles) -> Result<(), StateError> {
        let about = "What devices of this machine are called.";
        files::write_toml(&self.file(FILE), about, titles)
    }
}
