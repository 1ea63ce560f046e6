//! This node as the handshakes and the daemons see it, loaded from the state directory.

use std::time::Duration;

use super::control::message::NodeName;
use super::state::{StateDir, StateError};
use super::system::wall_clock;
use crate::kernel::clock;
use crate::session::LocalNode;
use crate::session::certificate::CertificateChain;
use crate::session::identity::NodeKey;
use crate::session::negotiate;
use crate::session::psk::PskStore;
use crate::session::trust::Trust;
use crate::wire::flags::Tier;
use crate::wire::limits::Limits;

/// Without own transmission for so long, a KEEPALIVE is sent (profile 14.1).
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What this program announces. Drivers submit URBs of up to 16 MiB, many at a time, and both ends
/// are members of one family, so requests get the whole room that profile 18 allows; memory grows
/// with what arrives, not with what is announced.
pub const LIMITS: Limits = Limits {
    msg: 16 << 20,
    rqb: 64 << 20,
    req: 1024,
    ..Limits::DEFAULT
};

/// A node with the given key, certificate and beliefs.
pub fn local(key: NodeKey, chain: CertificateChain, trust: Trust) -> LocalNode {
    LocalNode {
        key,
        chain,
        trust,
        capabilities: negotiate::supported(false),
        max_tier: Tier::T4,
        limits: LIMITS,
        keepalive: KEEPALIVE,
    }
}

/// An enrolled node.
pub struct Loaded {
    /// For handshakes.
    pub node: LocalNode,
    /// The PSKs of its family.
    pub psks: PskStore,
    /// Itself, for people.
    pub name: NodeName,
    /// Its family, for people.
    pub family: NodeName,
}

/// Reads the identity of an enrolled node.
///
/// # Errors
/// [`StateError::NotSetUp`] before `init` or `join`, else what is wrong with the files.
pub fn load(state: &StateDir) -> Result<Loaded, StateError> {
    let identity = state.identity()?;
    let trust = state.trust()?;
    let present = trust.present(wall_clock());
    let psks = state.psk_store(present, clock::mono())?;
    let name = NodeName {
        id: identity.key.node_id().to_string(),
        name: identity.name,
    };
    let family = NodeName {
        id: identity.family.id().to_string(),
        name: identity.family.name.clone(),
    };
    Ok(Loaded {
        node: local(identity.key, identity.chain, trust),
        psks,
        name,
        family,
    })
}
