//! The family's news on the client's side: revocation lists and PSKs (profile 5.3).

use std::rc::Rc;
use std::time::Duration;

use super::Client;
use crate::daemon::node;
use crate::daemon::peer::{CallError, Incoming, Peer, Service};
use crate::daemon::state::StateError;
use crate::daemon::system::wall_clock;
use crate::kernel::clock;
use crate::session::LocalNode;
use crate::session::enrol::{UpdateRequest, UpdateResponse};
use crate::session::psk::Psk;
use crate::session::revocation::RevocationList;
use crate::wire::error::ErrorMap;
use crate::wire::msgpack::{self, DecodeError};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the family's news could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the family update cannot be read")]
    Decode(#[from] DecodeError),
    #[error("the request could not be made")]
    Encode(#[from] msgpack::EncodeError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Service for Rc<Client> {
    fn request(&self, peer: &Peer, request: Incoming) {
        let sub = match request.opcode {
            Opcode::Unknown(_) => sub::UNKNOWN_OP,
            _ => sub::UNSUPPORTED,
        };
        let error = ErrorMap::new(sub).with_msg("this node offers nothing");
        peer.refuse(request.stream, request.corr, Status::BadRequest, &error);
    }

    fn event(&self, peer: &Peer, opcode: Opcode, payload: &[u8]) {
        if opcode != Opcode::FamilyUpdate {
            return;
        }
        let taken = msgpack::decode::<UpdateResponse>(payload)
            .map_err(UpdateError::from)
            .and_then(|update| self.take_update(&update));
        match taken {
            Ok(_) => tracing::info!(peer = peer.name(), "family updated"),
            Err(error) => tracing::warn!(peer = peer.name(), %error, "family update not taken"),
        }
    }
}

impl Client {
    /// A copy of this node for one handshake, so that nothing is borrowed while it waits.
    pub(super) fn handshake_node(&self) -> Result<LocalNode, StateError> {
        let identity = self.state.identity()?;
        Ok(node::local(
            identity.key,
            identity.chain,
            self.node.borrow().trust.clone(),
        ))
    }

    /// Asks for the family's news; true when there was a newer PSK.
    pub(super) async fn catch_up(&self, peer: &Peer) -> Result<bool, UpdateError> {
        let request = {
            let node = self.node.borrow();
            let own = node.trust.own_family();
            UpdateRequest {
                crl: own.map_or(0, |family| node.trust.list_number(family)),
                psk_epoch: self.psks.borrow().family().map_or(0, |(_, epoch)| epoch),
            }
        };
        let payload = msgpack::encode(&request)?;
        let answer = peer.call(Opcode::FamilyUpdate, payload, TIMEOUT).await?;
        self.take_update(&msgpack::decode(&answer)?)
    }

    fn take_update(&self, update: &UpdateResponse) -> Result<bool, UpdateError> {
        let identity = self.state.identity()?;
        if let Some(raw) = &update.crl {
            let list = RevocationList::verify(raw, &identity.family.root)
                .map_err(|error| StateError::Rule(error.to_string()))?;
            self.state.lock()?.store_revocations(&list)?;
            let family = identity.family.id();
            let offered = self.node.borrow_mut().trust.offer_list(raw, family);
            offered.map_err(|error| StateError::Rule(error.to_string()))?;
        }
        let (Some(psk), Some(epoch)) = (update.psk, update.psk_epoch) else {
            return Ok(false);
        };
        let psk = Psk::from_bytes(psk);
        let present = self.node.borrow().trust.present(wall_clock());
        self.state.lock()?.store_family_psk(epoch, &psk, present)?;
        let taken = self.psks.borrow_mut().set_family(clock::mono(), epoch, psk);
        taken.map_err(|error| StateError::Rule(error.to_string()))?;
        Ok(true)
    }
}
