//! Peers that want to be told what happens to devices (profile 19.2).
//!
//! Each is told in terms of what it may see: a device that it is granted is added for it, one that it
//! is denied is removed.

mod feed;

use std::rc::Rc;
use std::time::Duration;

use self::feed::Feed;
use super::Server;
use super::dispatch::bad_payload;
use crate::bus::{Inbound, Outlet};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::id::DeviceId;
use crate::device::op::{EventKind, SubscribeRequest};
use crate::wire::error::ErrorMap;
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// All subscriptions (profile 18).
const MAX: usize = 1024;
/// Those of one session.
const PER_SESSION: usize = 16;
/// How often it is looked whether an access entry has expired, while there are such.
const EXPIRY: Duration = Duration::from_millis(250);

/// One that is told.
pub(super) struct Subscription {
    peer: Peer,
    outlet: Rc<dyn Outlet>,
    feed: Feed,
}

/// Looks whether access entries have expired, for ever.
pub(super) async fn expire(server: Rc<Server>) {
    let mut before = 0;
    loop {
        let (over, more) = server.acl.borrow().expired(server.present());
        if over > before {
            server.rights_changed();
        }
        before = over;
        let rules = server.rules.notified();
        if more {
            tokio::select! {
                () = tokio::time::sleep(EXPIRY) => {}
                () = rules => {}
            }
        } else {
            rules.await;
        }
    }
}

impl Server {
    /// Serves the stream of a `DEVICE_SUBSCRIBE` to its end.
    pub(super) async fn device_subscribe(self: Rc<Self>, peer: Peer, request: Incoming) {
        let (stream, corr) = (request.stream, request.corr);
        let mut handle = peer.take_stream(stream);
        tokio::select! {
            _ = self.recent() => {}
            _ = peer.closed() => return,
        }
        match self.subscribe(&peer, &request, &handle.outlet) {
            Ok(subscription) => {
                peer.respond(stream, corr, Status::Ok, vec![0x80]);
                self.subscriptions
                    .borrow_mut()
                    .push(Rc::clone(&subscription));
                while let Some(inbound) = handle.inbound.recv().await {
                    if subscription.is_over(inbound) {
                        break;
                    }
                }
                self.subscriptions
                    .borrow_mut()
                    .retain(|other| !Rc::ptr_eq(other, &subscription));
            }
            Err((status, error)) => peer.refuse(stream, corr, status, &error),
        }
        peer.drop_stream(stream);
    }

    fn subscribe(
        &self,
        peer: &Peer,
        request: &Incoming,
        outlet: &Rc<dyn Outlet>,
    ) -> Result<Rc<Subscription>, (Status, ErrorMap)> {
        let wanted = SubscribeRequest::decode(&request.payload).map_err(bad_payload)?;
        let subscriptions = self.subscriptions.borrow();
        let of_peer = subscriptions.iter().filter(|other| other.peer.is(peer));
        if subscriptions.len() >= MAX || of_peer.count() >= PER_SESSION {
            return Err((Status::BadRequest, ErrorMap::new(sub::LIMIT)));
        }
        let known = self.briefs(peer.identity());
        Ok(Rc::new(Subscription {
            peer: peer.clone(),
            outlet: Rc::clone(outlet),
            feed: Feed::new(Rc::clone(outlet), wanted, known),
        }))
    }

    /// Something happened to one device that changes nobody's rights.
    pub(super) fn tell(&self, ev: EventKind, device: &DeviceId) {
        let (policy, registry) = (self.policy.borrow(), self.registry.borrow());
        let Some(present) = registry.get(device) else {
            return;
        };
        for subscription in self.subscriptions.borrow().iter() {
            let brief = |mode| self.brief(present, &policy, mode);
            subscription.feed.happened(ev, device, brief);
        }
    }

    /// Devices came or went, or rules changed: everybody is told what is different for it.
    pub(super) fn tell_differences(&self) {
        let subscriptions = self.subscriptions.borrow();
        for subscription in subscriptions.iter() {
            let feed = &subscription.feed;
            feed.update(&self.briefs(subscription.peer.identity()));
        }
    }
}

impl Subscription {
    /// Takes in what the subscriber sends; true when that is the end of it.
    fn is_over(&self, inbound: Inbound) -> bool {
        match inbound {
            Inbound::Request {
                corr,
                opcode: Opcode::DeviceUnsubscribe,
                payload,
                ..
            } => {
                if let Err(error) = msgpack::decode_empty(&payload) {
                    let (status, error) = bad_payload(error);
                    let error = error.encode().unwrap_or_default();
                    self.outlet.respond(corr, status, error);
                    return false;
                }
                self.outlet.respond(corr, Status::Ok, vec![0x80]);
                true
            }
            Inbound::Request { corr, .. } => {
                let error = ErrorMap::new(sub::STREAM_STATE);
                let error = error.encode().unwrap_or_default();
                self.outlet.respond(corr, Status::BadRequest, error);
                false
            }
            Inbound::Data { .. } | Inbound::Event { .. } => {
                self.outlet.reset(Status::BadRequest);
                true
            }
            Inbound::Writable => {
                self.feed.flush();
                false
            }
            Inbound::Cancel { .. } | Inbound::Response { .. } | Inbound::Dropped { .. } => false,
            Inbound::Reset { .. } | Inbound::Closed => true,
        }
    }
}
