//! Peers that want to be told what happens to devices (profile 19.2).
//!
//! Each is told in terms of what it may see: a device that it is granted is added for it, one that it
//! is denied is removed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Server;
use super::dispatch::bad_payload;
use crate::bus::{Inbound, Outlet};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::id::DeviceId;
use crate::device::op::{Brief, DeviceEvent, EventKind, SubscribeRequest};
use crate::wire::error::ErrorMap;
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// All subscriptions (profile 18).
const MAX: usize = 1024;
/// Those of one session.
const PER_SESSION: usize = 16;
/// Bytes of events that wait for a slow reader; what comes then is lost.
const QUEUE: usize = 16 * 1024;
/// More than any queue holds.
const ALL: usize = 1 << 40;

/// How often it is looked whether an access entry has expired, while there are such.
const EXPIRY: Duration = Duration::from_millis(250);

/// One that is told.
pub(super) struct Subscription {
    peer: Peer,
    outlet: Rc<dyn Outlet>,
    wanted: SubscribeRequest,
    /// The devices that it knows of, as it was told.
    known: RefCell<BTreeMap<DeviceId, Brief>>,
    /// The last event that there was no room for.
    unsent: RefCell<Option<DeviceEvent>>,
    /// Those before it.
    lost: Cell<u64>,
}

impl Subscription {
    fn tell(&self, ev: EventKind, dev: &DeviceId, info: Option<&Brief>) {
        if !self.wanted.wants(ev, dev) {
            return;
        }
        let event = DeviceEvent {
            ev,
            dev: dev.clone(),
            info: info.map(Brief::to_value),
            lost: 0,
        };
        self.flush();
        if self.unsent.borrow().is_some() || !self.has_room() {
            let before = self.unsent.borrow_mut().replace(event);
            self.lost.set(self.lost.get() + u64::from(before.is_some()));
        } else {
            self.send(&event);
        }
    }

    /// Sends what had to wait, if there is room now.
    fn flush(&self) {
        if self.unsent.borrow().is_none() || !self.has_room() {
            return;
        }
        if let Some(mut event) = self.unsent.take() {
            event.lost = self.lost.take();
            self.send(&event);
        }
    }

    /// Asking for more room than there ever is makes the link tell when something has left.
    fn has_room(&self) -> bool {
        self.outlet.queued() < QUEUE || self.outlet.writable(ALL)
    }

    fn send(&self, event: &DeviceEvent) {
        match event.encode() {
            Ok(payload) => self.outlet.event(Opcode::DeviceSubscribe, payload),
            Err(error) => tracing::warn!(%error, "event not sent"),
        }
    }

    /// Tells every difference between what it knows and how things are for it.
    fn update(&self, now: &[Brief]) {
        let now: BTreeMap<DeviceId, &Brief> = now
            .iter()
            .filter_map(|brief| Some((brief.dev.parse().ok()?, brief)))
            .collect();
        let before = self.known.take();
        for dev in before.keys().filter(|dev| !now.contains_key(dev)) {
            self.tell(EventKind::Removed, dev, None);
        }
        for (dev, brief) in &now {
            let Some(old) = before.get(dev) else {
                self.tell(EventKind::Added, dev, Some(brief));
                continue;
            };
            let same_mode = Brief {
                mode: old.mode,
                ..(*brief).clone()
            };
            if same_mode != *old {
                self.tell(EventKind::Changed, dev, Some(brief));
            }
            if brief.mode != old.mode {
                self.tell(EventKind::Acl, dev, Some(brief));
            }
        }
        let now = now.into_iter().map(|(dev, brief)| (dev, brief.clone()));
        *self.known.borrow_mut() = now.collect();
    }
}

/// Looks whether access entries have expired, for ever.
pub(super) async fn expire(server: Rc<Server>) {
    let mut before = 0;
    loop {
        tokio::time::sleep(EXPIRY).await;
        let now = server.present();
        let over = server.acl.borrow().expired(now);
        if over > before {
            server.rights_changed();
        }
        before = over;
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
        let known = self.briefs(peer.identity()).into_iter();
        let known = known.filter_map(|brief| Some((brief.dev.parse().ok()?, brief)));
        Ok(Rc::new(Subscription {
            peer: peer.clone(),
            outlet: Rc::clone(outlet),
            wanted,
            known: RefCell::new(known.collect()),
            unsent: RefCell::default(),
            lost: Cell::default(),
        }))
    }

    /// Something happened to one device that changes nobody's rights.
    pub(super) fn tell(&self, ev: EventKind, device: &DeviceId) {
        let (policy, registry) = (self.policy.borrow(), self.registry.borrow());
        let Some(present) = registry.get(device) else {
            return;
        };
        for subscription in self.subscriptions.borrow().iter() {
            let mut known = subscription.known.borrow_mut();
            let Some(old) = known.get_mut(device) else {
                continue;
            };
            *old = self.brief(present, &policy, old.mode);
            let brief = old.clone();
            drop(known);
            subscription.tell(ev, device, Some(&brief));
        }
    }

    /// Devices came or went, or rules changed: everybody is told what is different for it.
    pub(super) fn tell_differences(&self) {
        let subscriptions = self.subscriptions.borrow();
        for subscription in subscriptions.iter() {
            subscription.update(&self.briefs(subscription.peer.identity()));
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
                self.flush();
                false
            }
            Inbound::Cancel { .. } | Inbound::Response { .. } | Inbound::Dropped { .. } => false,
            Inbound::Reset { .. } | Inbound::Closed => true,
        }
    }
}
