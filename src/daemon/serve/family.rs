//! Who belongs to the family: invites, enrolment, revocation lists and PSKs (profile 5.3, 5.4).

use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};

use super::Server;
use super::dispatch::{Answer, bad_payload, internal};
use crate::daemon::peer::Peer;
use crate::daemon::state::Revocation;
use crate::kernel::clock;
use crate::session::enrol::{EnrolRequest, EnrolResponse, UpdateRequest, UpdateResponse};
use crate::session::identity::NodeId;
use crate::wire::error::ErrorMap;
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// A token that somebody may join with.
pub(super) struct Invite {
    /// The Key ID with which its holder comes.
    pub(super) key_id: u32,
    /// Whoever comes with it is reported here.
    pub(super) visitors: mpsc::UnboundedSender<Visitor>,
}

/// What happens at the door.
pub(super) enum Visitor {
    /// A node proved that it has the token and asks to join.
    Applicant(Applicant),
    /// A node that had the token left without joining.
    Failed {
        /// Where from, `ADDRESS:PORT`.
        from: String,
    },
}

/// A node that asks to join.
pub(super) struct Applicant {
    /// The name that it wants.
    pub(super) name: String,
    /// The key that it proved.
    pub(super) key: [u8; 32],
    /// Its node-id.
    pub(super) node: NodeId,
    /// Where from, `ADDRESS:PORT`.
    pub(super) from: String,
    /// The answer to it: what it becomes, or why not.
    pub(super) verdict: oneshot::Sender<Result<EnrolResponse, ErrorMap>>,
}

impl Server {
    fn invite(&self, key_id: u32) -> Option<Rc<Invite>> {
        self.invites
            .borrow()
            .iter()
            .find(|invite| invite.key_id == key_id)
            .cloned()
    }

    /// Watches a session that may only enrol: leaving without that counts against its token.
    pub(super) fn enrolling(self: &Rc<Self>, peer: &Peer, key_id: u32) {
        let (server, peer) = (Rc::clone(self), peer.clone());
        tokio::task::spawn_local(async move {
            peer.closed().await;
            // Used or withdrawn tokens are gone from the list.
            if let Some(invite) = server.invite(key_id) {
                server.psks.borrow_mut().enrolment_failed(key_id);
                let from = peer.address().to_owned();
                let _ = invite.visitors.send(Visitor::Failed { from });
            }
        });
    }

    /// ENROL: asks the administrator and certifies the key that the handshake proved.
    pub(super) async fn enrol(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request: EnrolRequest = msgpack::decode(payload).map_err(bad_payload)?;
        let declined = |msg: &str| {
            (
                Status::Forbidden,
                ErrorMap::new(sub::ENROL_ONLY).with_msg(msg),
            )
        };
        let key_id = self.enrol_key(peer).ok_or_else(|| declined("no invite"))?;
        let invite = self
            .invite(key_id)
            .ok_or_else(|| declined("the invite was withdrawn"))?;
        let (verdict, answer) = oneshot::channel();
        let applicant = Applicant {
            name: request.name,
            key: peer.identity().key,
            node: peer.identity().node_id,
            from: peer.address().to_owned(),
            verdict,
        };
        let asked = invite.visitors.send(Visitor::Applicant(applicant));
        drop(invite);
        if asked.is_err() {
            return Err(declined("the invite was withdrawn"));
        }
        match answer.await {
            Ok(Ok(response)) => msgpack::encode(&response).map_err(internal),
            Ok(Err(error)) => Err((Status::Forbidden, error)),
            Err(_) => Err(declined("the invite was withdrawn")),
        }
    }

    fn enrol_key(&self, peer: &Peer) -> Option<u32> {
        let sessions = self.sessions.borrow();
        sessions.iter().find(|entry| entry.peer.is(peer))?.enrol_key
    }

    /// `FAMILY_UPDATE`: what is newer than what the peer has.
    pub(super) fn family_update(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request: UpdateRequest = msgpack::decode(payload).map_err(bad_payload)?;
        let mut response = UpdateResponse::default();
        let node = self.node.borrow();
        let own = node.trust.own_family();
        let list = own.and_then(|family| node.trust.list(family));
        if let Some(list) = list.filter(|list| list.number() > request.crl) {
            response.crl = Some(list.as_bytes().to_vec());
        }
        // Sessions with members of the own family always mixed a PSK here (`handshake::policy`).
        if own.is_some() && peer.identity().family() == own {
            let psks = self.psks.borrow();
            if let Some((psk, epoch)) = psks.family().filter(|(_, at)| *at > request.psk_epoch) {
                response.psk = Some(*psk.to_bytes());
                response.psk_epoch = Some(epoch);
            }
        }
        msgpack::encode(&response).map_err(internal)
    }

    /// Puts a revocation into effect: ends the node's sessions, tells the others (profile 5.3).
    /// Returns how many sessions were ended.
    pub(super) fn exclude(&self, node: NodeId, revocation: &Revocation) -> usize {
        let now = clock::mono();
        {
            let trust = &mut self.node.borrow_mut().trust;
            let family = revocation.list.family();
            if let Err(error) = trust.offer_list(revocation.list.as_bytes(), family) {
                tracing::error!(%error, "the own revocation list was not accepted");
            }
        }
        let (epoch, psk) = (revocation.psk_epoch, revocation.psk.clone());
        if let Err(error) = self.psks.borrow_mut().set_family(now, epoch, psk) {
            tracing::error!(%error, "the new family PSK was not taken over");
        }
        self.tickets.borrow_mut().forget_node(node);
        let peers: Vec<Peer> = self
            .sessions
            .borrow()
            .iter()
            .map(|entry| entry.peer.clone())
            .collect();
        let mut ended = 0;
        for peer in peers {
            if peer.recheck(&self.node.borrow().trust) {
                ended += 1;
            } else {
                self.announce(&peer, revocation);
            }
        }
        ended
    }

    fn announce(&self, peer: &Peer, revocation: &Revocation) {
        if peer.identity().family() != self.node.borrow().trust.own_family() {
            return;
        }
        let update = UpdateResponse {
            crl: Some(revocation.list.as_bytes().to_vec()),
            psk: Some(*revocation.psk.to_bytes()),
            psk_epoch: Some(revocation.psk_epoch),
        };
        match msgpack::encode(&update) {
            Ok(payload) => peer.notify(Opcode::FamilyUpdate, payload),
            Err(error) => tracing::error!(%error, "a family update could not be encoded"),
        }
    }
}
