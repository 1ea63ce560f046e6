//! Locks of peers: asked for, waited for, renewed, given back, lost.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Server;
use super::devices::refused;
use super::dispatch::{Answer, bad_payload, internal};
use super::uses::Use;
use crate::daemon::audit::{Record, What};
use crate::daemon::peer::{Asked, Incoming, Peer};
use crate::daemon::system::SystemEntropy;
use crate::device::acl::Need;
use crate::device::id::{DeviceId, Names};
use crate::device::lock::{Claimant, Happened, Held, LockTable, Lost, SessionKey, WaiterId, Why};
use crate::device::op::{
    EventKind, LockRequest, LockResponse, LockToken, QueuePosition, UnlockRequest,
};
use crate::device::registry::{Found, Refusal, Sharing};
use crate::kernel::clock;
use crate::link::{Corr, StreamId};
use crate::session::Entropy;
use crate::session::identity::NodeId;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// So many fences are reserved at once: each reservation writes to the disk.
const FENCES: u64 = 1024;
/// As long as this many are left no more are reserved.
const FENCES_LEFT: u64 = 64;

/// The locks and who waits for the answer to a request for one.
pub(super) struct Locks {
    pub(super) table: RefCell<LockTable>,
    waiting: RefCell<HashMap<WaiterId, Waiting>>,
    sessions: Cell<u64>,
    /// The next thing that is due may be due earlier.
    stir: Notify,
}

/// A request that is not answered yet.
struct Waiting {
    peer: Peer,
    stream: StreamId,
    corr: Corr,
    /// The device, as the peer calls it.
    device: String,
    /// It wants to know its place in the queue.
    pos: bool,
    /// What it is told when it has waited in vain.
    refusal: Refusal,
}

impl Locks {
    /// No locks; every fence below the given one may have been given before.
    pub(super) fn new(fence: u64) -> Self {
        Self {
            table: RefCell::new(LockTable::new(fence)),
            waiting: RefCell::default(),
            sessions: Cell::default(),
            stir: Notify::new(),
        }
    }

    /// The node that holds the lock of a device.
    pub(super) fn holder(&self, device: &DeviceId) -> Option<[u8; 16]> {
        self.table.borrow().holder(device).map(|lock| lock.node)
    }
}

/// Ends locks and waits when their time is over, for ever.
pub(super) async fn keep(server: Rc<Server>) {
    loop {
        let next = server.locks.table.borrow().next_timeout();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep(at.since(clock::mono())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                server.settle_locks();
                // Timers of the runtime count in milliseconds, and may be early by a part of one.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            () = server.locks.stir.notified() => {}
        }
    }
}

impl Server {
    /// A number for a session.
    pub(super) fn next_session(&self) -> SessionKey {
        let next = self.locks.sessions.get() + 1;
        self.locks.sessions.set(next);
        SessionKey(next)
    }

    /// The device, if the peer may perform the operation on it now and no lock forbids it.
    pub(super) fn usable(
        &self,
        peer: &Peer,
        name: &DeviceId,
        opcode: Opcode,
        need: Need,
        token: Option<LockToken>,
    ) -> Result<Found, Refusal> {
        let registry = self.registry.borrow();
        let id = &registry.find(name).ok_or(Refusal::Unknown)?.found.id;
        let node = peer.identity().node_id.0;
        let table = self.locks.table.borrow();
        let lost = table.has_lost(id, &node, clock::mono());
        let holds = table.holds(id, &node);
        let checked = self.viewed(peer.identity(), |view| {
            registry.check(view, name, opcode, need, holds)
        });
        let device = match checked {
            Err(Refusal::NeedsLock) if lost => return Err(Refusal::LockLost),
            checked => checked?,
        };
        if token.is_some_and(|token| !table.is_current(id, &node, token)) {
            return Err(Refusal::LockLost);
        }
        match table.holder(id) {
            Some(lock) if lock.node != node && lost => Err(Refusal::LockLost),
            Some(lock) if lock.node != node => Err(Refusal::LockHeld),
            Some(_) | None => Ok(device.found.clone()),
        }
    }

    /// The fence of the lock that the peer has of the device.
    pub(super) fn fence_of(&self, peer: &Peer, device: &DeviceId) -> Option<u64> {
        let table = self.locks.table.borrow();
        let own = |lock: &&Held| lock.node == peer.identity().node_id.0;
        table.holder(device).filter(own).map(|lock| lock.fence)
    }

    /// Answers a `DEVICE_LOCK`, now or when its wait is over.
    pub(super) fn device_lock(self: Rc<Self>, peer: Peer, request: Incoming) {
        // At once: it may be given up before anything is done about it.
        let asked = peer.asked(request.stream, request.corr);
        tokio::task::spawn_local(self.take_lock(peer, request, asked));
    }

    async fn take_lock(self: Rc<Self>, peer: Peer, request: Incoming, asked: Asked) {
        let decoded = LockRequest::decode(&request.payload).map_err(bad_payload);
        tokio::select! {
            _ = self.recent() => {}
            _ = peer.closed() => return,
        }
        let wanted = decoded.as_ref().ok().map(|wanted| wanted.dev.clone());
        let given_up = asked.caller.has_left();
        // From here on it is in the queue, where it can be given up too.
        drop(asked);
        let answer = match decoded {
            _ if given_up => Err((Status::Timeout, ErrorMap::new(sub::CANCELLED))),
            Ok(wanted) => self.begin_lock(&peer, &request, &wanted),
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(payload)) => peer.respond(request.stream, request.corr, Status::Ok, payload),
            Err((status, error)) => {
                self.record_refusal(&peer, wanted.as_deref(), &error);
                peer.refuse(request.stream, request.corr, status, &error);
            }
        }
    }

    /// Renews a lock or queues a request; the answer if there is one at once.
    fn begin_lock(
        &self,
        peer: &Peer,
        request: &Incoming,
        wanted: &LockRequest,
    ) -> Result<Option<Vec<u8>>, (Status, ErrorMap)> {
        let now = clock::mono();
        let id = self.lockable(peer, wanted)?;
        let who = self.claimant(peer)?;
        let ttl = Duration::from_millis(wanted.ttl.into());
        if let Some(token) = wanted.lock {
            let renewed = self
                .locks
                .table
                .borrow_mut()
                .renew(now, &id, who, token, ttl);
            let lock = renewed.map_err(|Lost| refused(&Refusal::LockLost))?;
            self.locks.stir.notify_one();
            return Ok(Some(answer(&lock, ttl)?));
        }
        self.reserve_fences().map_err(internal)?;
        let wait = Duration::from_millis(wanted.wait.into());
        let asked = self.locks.table.borrow_mut().ask(now, &id, who, ttl, wait);
        let waiter = asked.map_err(|full| {
            let error = ErrorMap::new(sub::LIMIT).with_msg(full.to_string());
            (Status::BadRequest, error)
        })?;
        let refusal = match self.locks.holder(&id) {
            Some(_) => Refusal::LockHeld,
            None => Refusal::InUse,
        };
        let waiting = Waiting {
            peer: peer.clone(),
            stream: request.stream,
            corr: request.corr,
            device: wanted.dev.clone(),
            pos: wanted.pos,
            refusal,
        };
        self.locks.waiting.borrow_mut().insert(waiter, waiting);
        self.settle_locks();
        if wait.is_zero() {
            // It was not served at once: now its time is over.
            self.settle_locks();
        }
        Ok(None)
    }

    /// The device that the peer may lock. Who has its lock may renew it while it is unplugged.
    fn lockable(&self, peer: &Peer, wanted: &LockRequest) -> Result<DeviceId, (Status, ErrorMap)> {
        let unknown = |_| refused(&Refusal::Unknown);
        let name: DeviceId = wanted.dev.parse().map_err(unknown)?;
        let registry = self.registry.borrow();
        if registry.find(&name).is_none()
            && let Some(token) = wanted.lock
            && let node = peer.identity().node_id.0
            && self.locks.table.borrow().is_current(&name, &node, token)
        {
            return Ok(name);
        }
        let checked = self.viewed(peer.identity(), |view| {
            registry.check(view, &name, Opcode::DeviceLock, Need::Write, true)
        });
        let device = checked.map_err(|refusal| refused(&refusal))?;
        Ok(device.found.id.clone())
    }

    fn claimant(&self, peer: &Peer) -> Result<Claimant, (Status, ErrorMap)> {
        let sessions = self.sessions.borrow();
        let entry = sessions.iter().find(|entry| entry.peer.is(peer));
        let gone = || (Status::InvalidSession, ErrorMap::new(sub::SESSION));
        Ok(Claimant {
            node: peer.identity().node_id.0,
            session: entry.ok_or_else(gone)?.key,
        })
    }

    /// Makes sure that the next locks have fences which no lock before a restart had.
    fn reserve_fences(&self) -> Result<(), crate::daemon::state::StateError> {
        let mut table = self.locks.table.borrow_mut();
        if table.fences_left() >= FENCES_LEFT {
            return Ok(());
        }
        let below = table.reserved().saturating_add(FENCES);
        let stored = self.state.lock().and_then(|state| state.raise_fence(below));
        match stored {
            Ok(()) => table.reserve(below),
            // As long as there are some, nobody need know that there will be no more.
            Err(error) if table.fences_left() > 0 => {
                tracing::warn!(%error, "cannot reserve numbers for locks");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn device_unlock(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request = UnlockRequest::decode(payload).map_err(bad_payload)?;
        let unknown = |_| refused(&Refusal::Unknown);
        let name: DeviceId = request.dev.parse().map_err(unknown)?;
        let registry = self.registry.borrow();
        let device = registry.find(&name);
        let id = device.map_or(&name, |device| &device.found.id).clone();
        let node = peer.identity().node_id.0;
        let current = |token| self.locks.table.borrow().is_current(&id, &node, token);
        let why = if request.lock.is_some_and(current) {
            Why::Released
        } else {
            let names = device.map_or_else(|| Names::from(&id), |device| device.found.names());
            let need = match request.lock {
                Some(_) => Need::List,
                None => Need::Admin,
            };
            let opcode = Opcode::DeviceUnlock;
            let checked = self.viewed(peer.identity(), |view| {
                view.permits(names, opcode, need, false)
            });
            checked.map_err(|refusal| refused(&refusal))?;
            if request.lock.is_some() && self.locks.holder(&id).is_some() {
                return Err(refused(&Refusal::LockLost));
            }
            Why::Broken
        };
        drop(registry);
        let holder = self.locks.holder(&id);
        if self.end_lock(&id, why) {
            if let (Why::Broken, Some(holder)) = (why, holder) {
                let by = format!("by {}", peer.name());
                self.record_break(&id, &holder, &by);
            }
            Ok(vec![0x80])
        } else {
            Err((Status::NotFound, ErrorMap::new(sub::LOCK)))
        }
    }

    /// Ends a lock before its time; false when there is none.
    pub(super) fn end_lock(&self, device: &DeviceId, why: Why) -> bool {
        let now = clock::mono();
        let ended = self.locks.table.borrow_mut().end(now, device, why);
        let Some(ended) = ended else {
            return false;
        };
        self.lock_news(ended);
        self.settle_locks();
        true
    }

    /// The session of a peer is over.
    pub(super) fn locks_without(&self, peer: &Peer) {
        let Ok(who) = self.claimant(peer) else {
            return;
        };
        let now = clock::mono();
        self.locks.table.borrow_mut().session_over(now, who.session);
        let mut waiting = self.locks.waiting.borrow_mut();
        waiting.retain(|_, waiting| !waiting.peer.is(peer));
        drop(waiting);
        self.settle_locks();
    }

    /// A peer does not want to wait for a lock any longer.
    pub(super) fn lock_not_wanted(&self, peer: &Peer, stream: StreamId, corr: Corr) {
        let asked = |waiting: &Waiting| {
            waiting.peer.is(peer) && waiting.stream == stream && waiting.corr == corr
        };
        let waiting = self.locks.waiting.borrow();
        let mut found = waiting.iter().filter(|(_, waiting)| asked(waiting));
        let Some(waiter) = found.next().map(|(waiter, _)| *waiter) else {
            return;
        };
        drop(found);
        drop(waiting);
        self.locks.table.borrow_mut().withdraw(waiter);
        self.refuse_waiter(waiter, Status::Timeout, &ErrorMap::new(sub::CANCELLED));
        self.settle_locks();
    }

    fn refuse_waiter(&self, waiter: WaiterId, status: Status, error: &ErrorMap) {
        let waiting = self.locks.waiting.borrow_mut().remove(&waiter);
        if let Some(waiting) = waiting {
            if error.sub != sub::CANCELLED {
                self.record_refusal(&waiting.peer, Some(&waiting.device), error);
            }
            let (stream, corr) = (waiting.stream, waiting.corr);
            waiting.peer.refuse(stream, corr, status, error);
        }
    }

    /// Does what is due with the locks now, and tells whom it concerns.
    pub(super) fn settle_locks(&self) {
        let blocked = |device: &DeviceId, node: &[u8; 16]| self.stands_in_the_way(device, node);
        let mint = || {
            let mut token = [0; 16];
            SystemEntropy.fill(&mut token);
            token
        };
        let now = clock::mono();
        if let Err(error) = self.reserve_if_wanted() {
            tracing::warn!(%error, "no locks can be given");
        }
        let happened = self.locks.table.borrow_mut().settle(now, blocked, mint);
        for news in happened {
            self.lock_news(news);
        }
        self.locks.stir.notify_one();
    }

    fn reserve_if_wanted(&self) -> Result<(), crate::daemon::state::StateError> {
        if self.locks.waiting.borrow().is_empty() {
            return Ok(());
        }
        self.reserve_fences()
    }

    /// Whether another node uses the device in a way that its lock would not allow: alone, or to
    /// change something.
    fn stands_in_the_way(&self, device: &DeviceId, node: &[u8; 16]) -> bool {
        let registry = self.registry.borrow();
        let users = registry.get(device).map(|device| &*device.users);
        let alone = users
            .unwrap_or_default()
            .iter()
            .any(|user| user.node != *node && user.sharing == Sharing::Exclusive);
        let changes = |used: &Use| {
            used.need == Need::Write
                && used.device.id == *device
                && used.peer.identity().node_id.0 != *node
        };
        alone || self.uses.borrow().iter().any(changes)
    }

    fn lock_news(&self, news: Happened) {
        match news {
            Happened::Ended { device, lock, why } => {
                let node = self.name_of(&lock.node);
                let (id, fence) = (device.as_str(), lock.fence);
                tracing::info!(device = id, node, fence, ?why, "lock ended");
                if why != Why::Broken {
                    let record = Record::new(What::Unlocked).because(why.word());
                    self.record_lock(&lock.node, record.on(&device));
                }
                self.tell(EventKind::Unlocked, &device);
                self.end_uses_under(&device, &lock, why);
            }
            Happened::Granted {
                device,
                waiter,
                lock,
                ttl,
            } => {
                let waiting = self.locks.waiting.borrow_mut().remove(&waiter);
                let node = self.name_of(&lock.node);
                let (id, fence) = (device.as_str(), lock.fence);
                tracing::info!(device = id, node, fence, "locked");
                let record = Record::new(What::Locked).because(format!("fence {fence}"));
                self.record_lock(&lock.node, record.on(&device));
                self.tell(EventKind::Locked, &device);
                if let (Some(to), Ok(payload)) = (waiting, answer(&lock, ttl)) {
                    to.peer.respond(to.stream, to.corr, Status::Ok, payload);
                }
            }
            Happened::Waits { waiter, place } => {
                let waiting = self.locks.waiting.borrow();
                let Some(to) = waiting.get(&waiter).filter(|to| to.pos) else {
                    return;
                };
                let pos = u32::try_from(place).unwrap_or(u32::MAX);
                if let Ok(payload) = (QueuePosition { pos }).encode() {
                    to.peer.respond_more(to.stream, to.corr, payload);
                }
            }
            Happened::InVain { device, waiter } => {
                let held = self.locks.holder(&device).is_some();
                let waiting = self.locks.waiting.borrow();
                let before = waiting.get(&waiter).map(|to| to.refusal.clone());
                drop(waiting);
                let now = if held {
                    Refusal::LockHeld
                } else {
                    before.unwrap_or(Refusal::InUse)
                };
                let (status, error) = refused(&now);
                self.refuse_waiter(waiter, status, &error);
            }
        }
    }

    /// Ends the streams that a node could only have, or was given, because it had the lock.
    fn end_uses_under(&self, device: &DeviceId, lock: &Held, why: Why) {
        let under = |used: &&Use| {
            if used.device.id != *device || used.peer.identity().node_id.0 != lock.node {
                return false;
            }
            let given = used.fence == Some(lock.fence) && why != Why::Released;
            given || self.permitted(used).is_err()
        };
        for used in self.uses.borrow().iter().filter(under) {
            let error = ErrorMap::new(sub::LOCK_LOST);
            self.leases.end(used.ticket);
            used.peer
                .reset_stream(used.stream, Status::Forbidden, &error);
        }
    }

    fn permitted(&self, used: &Use) -> Result<(), Refusal> {
        let node = used.peer.identity().node_id.0;
        let holds = self.locks.table.borrow().holds(&used.device.id, &node);
        self.viewed(used.peer.identity(), |view| {
            view.permits(used.device.names(), used.opcode, used.need, holds)
        })
    }

    /// The rules are others now: ends the use of every device whose user may not have it any longer
    /// (profile 17.2), every lock whose owner may not have it, every wait for one, and tells those who
    /// asked to be told.
    pub(super) fn rights_changed(&self) {
        for used in self.uses.borrow().iter() {
            let Err(refusal) = self.permitted(used) else {
                continue;
            };
            let (peer, device) = (used.peer.name(), used.device.id.as_str());
            tracing::info!(peer, device, "taken back");
            self.record(&used.peer, Record::new(What::TakenBack).on(&device));
            let code = match refusal {
                Refusal::NeedsLock => sub::LOCK_LOST,
                _ => sub::ACL,
            };
            let error = ErrorMap::new(code);
            self.leases.end(used.ticket);
            used.peer
                .reset_stream(used.stream, Status::Forbidden, &error);
        }
        self.take_locks_back();
        self.tell_differences();
        self.rules.notify_one();
    }

    fn take_locks_back(&self) {
        let may_not = |device: &DeviceId, peer: &Peer| {
            let registry = self.registry.borrow();
            let present = registry.get(device);
            present.is_some_and(|device| {
                self.viewed(peer.identity(), |view| {
                    let names = device.found.names();
                    view.permits(names, Opcode::DeviceLock, Need::Write, true)
                        .is_err()
                })
            })
        };
        let sessions = self.sessions.borrow();
        let of_node = |node: &[u8; 16]| {
            let mut own = sessions.iter();
            own.find(|entry| entry.peer.identity().node_id.0 == *node)
                .map(|entry| entry.peer.clone())
        };
        let table = self.locks.table.borrow();
        let peer_may_not =
            |device: &DeviceId, node| of_node(node).is_some_and(|peer| may_not(device, &peer));
        let lost: Vec<DeviceId> = table
            .held()
            .filter(|(device, lock)| peer_may_not(device, &lock.node))
            .map(|(device, _)| device.clone())
            .collect();
        let in_vain: Vec<WaiterId> = table
            .waiting()
            .filter(|(device, waiter)| peer_may_not(device, &waiter.who.node))
            .map(|(_, waiter)| waiter.id)
            .collect();
        drop(table);
        drop(sessions);
        for waiter in in_vain {
            self.locks.table.borrow_mut().withdraw(waiter);
            let (status, error) = refused(&Refusal::Acl);
            self.refuse_waiter(waiter, status, &error);
        }
        for device in lost {
            self.end_lock(&device, Why::RightLost);
        }
    }

    /// As [`Server::record`], of a node that may have no session.
    fn record_lock(&self, node: &[u8; 16], record: Record) {
        let now = clock::mono();
        let heard = self.recorded.borrow_mut().hear(NodeId(*node), None, now);
        if let Some(unsaid) = heard {
            let name = self.user_name(&crate::wire::hex::encode(node));
            self.audit.write(&record.of(name).after(unsaid));
        }
    }

    /// A node for the log: the name of a session of it, or its id.
    pub(super) fn name_of(&self, node: &[u8; 16]) -> String {
        let sessions = self.sessions.borrow();
        let mut own = sessions
            .iter()
            .filter(|entry| entry.peer.identity().node_id.0 == *node);
        own.next()
            .map_or_else(|| crate::wire::hex::encode(node), |entry| entry.peer.name())
    }
}

fn answer(lock: &Held, ttl: Duration) -> Result<Vec<u8>, (Status, ErrorMap)> {
    let response = LockResponse {
        lock: lock.token,
        fence: lock.fence,
        ttl: u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX),
    };
    response.encode().map_err(internal)
}
