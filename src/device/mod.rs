//! What this node owns and who may use it: device ids, the export policy, the access list, the
//! registry of present devices.
//!
//! Pure decisions over values; storing them is the daemon's work (`daemon::state`).

pub mod acl;
pub mod export;
pub mod id;
pub mod lock;
pub mod name;
pub mod op;
pub mod registry;
pub mod sticky;
