//! The export policy and the access list on disk.

use super::{LockedState, StateDir, StateError, files};
use crate::device::acl::Acl;
use crate::device::export::ExportPolicy;

const EXPORTS: &str = "exports.toml";
const ACL: &str = "acl.toml";

impl StateDir {
    /// Which devices this node offers; none when nothing was stored.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn exports(&self) -> Result<ExportPolicy, StateError> {
        Ok(files::read_toml(&self.file(EXPORTS))?.unwrap_or_default())
    }

    /// Who may use them; nobody when nothing was stored.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn acl(&self) -> Result<Acl, StateError> {
        Ok(files::read_toml(&self.file(ACL))?.unwrap_or_default())
    }
}

impl LockedState {
    /// Stores the export policy.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store_exports(&self, policy: &ExportPolicy) -> Result<(), StateError> {
        let about = "Devices this machine offers; change with `myclerk export` and `unexport`.";
        files::write_toml(&self.file(EXPORTS), about, policy)
    }

    /// Stores the access list.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store_acl(&self, acl: &Acl) -> Result<(), StateError> {
        let about = "Who may use which device; change with `myclerk acl`.";
        files::write_toml(&self.file(ACL), about, acl)
    }
}
