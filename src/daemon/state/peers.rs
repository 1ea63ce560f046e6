//! The nodes that this one connects to as a client.

use serde::{Deserialize, Serialize};

use super::{LockedState, StateDir, StateError, files};
use crate::session::identity::NodeId;

const FILE: &str = "peers.toml";
/// The most peers that are kept.
const MAX_PEERS: usize = 1024;

/// One node to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its node-id; the handshake must prove it.
    #[serde(with = "super::identity::as_text")]
    pub node: NodeId,
    /// Its name in its certificate, when it was last connected.
    pub name: String,
    /// Where to try, `HOST:PORT`, in this order.
    pub addresses: Vec<String>,
}

/// All nodes to connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    #[serde(default, rename = "peer", skip_serializing_if = "Vec::is_empty")]
    peers: Vec<Peer>,
}

impl Peers {
    /// All of them.
    pub fn all(&self) -> &[Peer] {
        &self.peers
    }

    /// Adds a node, or takes over its newer name and puts its newer addresses first.
    pub fn put(&mut self, peer: Peer) {
        let Some(old) = self.peers.iter_mut().find(|old| old.node == peer.node) else {
            if self.peers.len() < MAX_PEERS {
                self.peers.push(peer);
            }
            return;
        };
        if !peer.name.is_empty() {
            old.name = peer.name;
        }
        let mut addresses = peer.addresses;
        addresses.append(&mut old.addresses);
        for address in addresses {
            if !old.addresses.contains(&address) && old.addresses.len() < 8 {
                old.addresses.push(address);
            }
        }
    }
}

impl StateDir {
    /// The nodes to connect to; none when nothing was stored.
    ///
    /// # Errors
    /// [`StateError::Damaged`] and [`StateError::Io`].
    pub fn peers(&self) -> Result<Peers, StateError> {
        Ok(files::read_toml(&self.file(FILE))?.unwrap_or_default())
    }
}

impl LockedState {
    /// Stores the nodes to connect to.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store_peers(&self, peers: &Peers) -> Result<(), StateError> {
        let about = "Nodes that `myclerk client` connects to.";
        files::write_toml(&self.file(FILE), about, peers)
    }
}
