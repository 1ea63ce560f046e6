//! Who connects: accepting, handshakes, the list of open sessions.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{Entry, Server};
use crate::bus;
use crate::daemon::capture::Capture;
use crate::daemon::handshake::{self, Answering, GreetError, Greeted};
use crate::daemon::metrics::Past;
use crate::daemon::peer::{self, Peer};
use crate::daemon::system::{SystemEntropy, is_better_clock};
use crate::kernel::clock;
use crate::link::connection::Connection;
use crate::session::psk::{PskLookup, PskUse};
use crate::session::{HandshakeError, LocalNode, Restriction, Session, TicketTable};
use crate::transport::tcp::{Accepted, Listener};
use crate::wire::status::{Status, sub};

/// From one ticket of a session to the next; each is good for a day (profile 14.5).
const NEXT_TICKET: Duration = Duration::from_secs(8 * 3600);

/// Sessions of one node at once (profile 18).
const PER_NODE: usize = 64;

/// Accepts connections for ever.
pub(super) async fn accept(server: Rc<Server>, mut listener: Listener) {
    loop {
        let accepted = listener.accept().await;
        tokio::task::spawn_local(welcome(Rc::clone(&server), accepted));
    }
}

impl Answering for Server {
    fn with<R>(&self, step: impl FnOnce(&LocalNode, &dyn PskLookup, &mut TicketTable) -> R) -> R {
        let now = clock::mono();
        self.psks.borrow_mut().expire(now);
        let psks = self.psks.borrow();
        step(
            &self.node.borrow(),
            &psks.at(now),
            &mut self.tickets.borrow_mut(),
        )
    }
}

async fn welcome(server: Rc<Server>, accepted: Accepted) {
    let Accepted {
        path,
        source,
        place,
    } = accepted;
    match handshake::answer(&*server, path).await {
        Ok(greeted) => {
            drop(place);
            server.enter(greeted);
        }
        Err(error) => {
            Past::count(&server.past.refused);
            let heard =
                server
                    .refusals
                    .borrow_mut()
                    .hear(source.ip(), wrong_key(&error), clock::mono());
            if let Some(unsaid) = heard {
                note_failure(&error, &source.ip().to_string(), unsaid);
            }
        }
    }
}

impl Server {
    fn enter(self: &Rc<Self>, greeted: Greeted) {
        let Greeted {
            session,
            path,
            info,
        } = greeted;
        let tier = session.selected_tier().to_u8();
        let (restriction, resumed) = (session.restricted(), info.resumed.is_some());
        let mut trust_changed = false;
        // Whoever only holds a token is nobody yet, and its clock may say anything.
        if is_better_clock(info.peer_clock) && session.peer().certificate.is_some() {
            self.node.borrow_mut().trust.learn_time(info.peer_time);
            trust_changed = true;
        }
        let ordered = path.control.ordered();
        let now = clock::mono();
        let connection = Connection::new(now, session, ordered, false, bus::declared_reply)
            .tapped(self.capture.as_ref().map(Capture::tap));
        let peer = peer::start(connection, path, Rc::new(Rc::clone(self)));
        let node = peer.identity().node_id;
        tracing::info!(
            peer = peer.name(), %node, address = peer.address(), ?restriction, resumed,
            "session opened"
        );
        if trust_changed {
            self.remember_time();
        }
        self.make_room(&peer);
        let enrol_key = match info.psk {
            Some((key_id, PskUse::Enrol)) => Some(key_id),
            Some((_, PskUse::Family { .. } | PskUse::Pair)) | None => None,
        };
        let entry = Entry {
            peer: peer.clone(),
            key: self.next_session(),
            since: now,
            tier,
            enrol_key,
            resumed: Cell::new(info.resumed),
        };
        self.sessions.borrow_mut().push(entry);
        Past::count(&self.past.opened);
        if let Some(key_id) = enrol_key {
            self.enrolling(&peer, key_id);
        }
        if restriction == Restriction::None {
            tokio::task::spawn_local(give_tickets(Rc::clone(self), peer.clone()));
        }
        tokio::task::spawn_local(leave(Rc::clone(self), peer));
    }

    /// The peer has sent something that only it can have sealed. If it came with a ticket, the session
    /// that this was given in is over, whether or not that is known here yet.
    pub(super) fn confirmed(&self, peer: &Peer) {
        let sessions = self.sessions.borrow();
        let of_peer = sessions.iter().find(|entry| entry.peer.is(peer));
        let Some(ticket) = of_peer.and_then(|entry| entry.resumed.take()) else {
            return;
        };
        let old = sessions.iter().find(|entry| {
            let gave = |session: &mut Session| session.has_issued(&ticket);
            !entry.peer.is(peer) && entry.peer.with_session(gave)
        });
        let old = old.map(|entry| entry.peer.clone());
        drop(sessions);
        if let Some(old) = old.filter(|old| old.ended().is_none()) {
            tracing::info!(peer = old.name(), "the node is heard of in another session");
            old.lose();
        }
    }

    /// A node that opens more and more sessions loses its oldest one.
    fn make_room(&self, peer: &Peer) {
        let sessions = self.sessions.borrow();
        let node = peer.identity().node_id;
        let mut same = sessions
            .iter()
            .filter(|entry| entry.peer.identity().node_id == node && !entry.peer.is_ending());
        if same.clone().count() >= PER_NODE
            && let Some(oldest) = same.next()
        {
            oldest.peer.close(Status::BadRequest, sub::DUPLICATE);
        }
    }

    fn remember_time(&self) {
        let floor = self.node.borrow().trust.floor();
        let stored = self
            .state
            .lock()
            .and_then(|state| state.raise_time_floor(floor));
        if let Err(error) = stored {
            tracing::warn!(%error, "the time learned from a peer was not stored");
        }
    }
}

/// The id of the key that a stranger came with.
const fn wrong_key(error: &GreetError) -> Option<u32> {
    match error {
        GreetError::Handshake(HandshakeError::UnknownPsk(id)) => Some(*id),
        GreetError::Handshake(_)
        | GreetError::Refused(_)
        | GreetError::Silence
        | GreetError::Path(_) => None,
    }
}

/// One line for each refusal; strangers get no answer that explains it.
fn note_failure(error: &GreetError, source: &str, unsaid: u64) {
    let reason: &dyn std::error::Error = error;
    match error {
        GreetError::Silence | GreetError::Handshake(HandshakeError::Timeout) => {
            tracing::info!(
                source,
                reason,
                unsaid,
                "connection ended before a handshake"
            );
        }
        GreetError::Refused(_) | GreetError::Handshake(_) | GreetError::Path(_) => {
            tracing::warn!(source, reason, unsaid, "connection refused");
        }
    }
}

/// Gives the peer tickets as long as its session lasts: one at once, and the next well before that expires.
async fn give_tickets(server: Rc<Server>, peer: Peer) {
    loop {
        let issued = peer.with_session(|session| {
            let mut tickets = server.tickets.borrow_mut();
            session.issue_ticket(clock::mono(), &mut SystemEntropy, &mut tickets)
        });
        if let Err(error) = issued {
            tracing::debug!(peer = peer.name(), %error, "no ticket");
        }
        tokio::select! {
            () = tokio::time::sleep(NEXT_TICKET) => {}
            _ = peer.closed() => return,
        }
    }
}

async fn leave(server: Rc<Server>, peer: Peer) {
    let end = peer.closed().await;
    tracing::info!(peer = peer.name(), reason = %end, "session ended");
    server.locks_without(&peer);
    server.past.ended(&peer);
    server
        .sessions
        .borrow_mut()
        .retain(|entry| !entry.peer.is(&peer));
}
