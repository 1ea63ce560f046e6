//! The locks that this machine has of devices of others: asked for once, then renewed until they are
//! given back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Client;
use super::hub::Hub;
use super::target::{Target, ask_error};
use crate::daemon::admin::unresolved;
use crate::daemon::control::Conversation;
use crate::daemon::control::message::{ControlError, HeldLock, NodeName, Reply, Request};
use crate::daemon::peer::{CallError, LongCall, Peer};
use crate::device::name::{self, Candidate};
use crate::device::op::{LockRequest, LockResponse, LockToken, QueuePosition, UnlockRequest};
use crate::kernel::clock;
use crate::wire::opcode::Opcode;
use crate::wire::status::{StatusClass, sub};
use crate::wire::time::Mono;

/// Time for the owner to answer what needs no waiting.
const ANSWER: Duration = Duration::from_secs(10);
/// Pause before a renewal that brought no answer is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// A lock is renewed at least so often: the owner learns by it that nothing is wrong.
const OFTEN: Duration = Duration::from_secs(60);

/// One lock.
pub(super) struct Lease {
    node: NodeName,
    device: String,
    token: LockToken,
    fence: u64,
    ttl: Cell<Duration>,
    /// When it ends unless it is renewed.
    until: Cell<Mono>,
    given_back: Cell<bool>,
    stir: Notify,
}

impl Lease {
    fn info(&self) -> HeldLock {
        HeldLock {
            node: self.node.clone(),
            device: self.device.clone(),
            fence: self.fence,
            left: self.until.get().since(clock::mono()).as_secs(),
        }
    }

    fn is_of(&self, node: &str, device: &str) -> bool {
        self.node.id == node && self.device == device
    }

    fn renewal(&self) -> LockRequest {
        LockRequest {
            lock: Some(self.token),
            pos: false,
            ..request(&self.device, self.ttl.get(), Duration::ZERO)
        }
    }
}

fn request(device: &str, ttl: Duration, wait: Duration) -> LockRequest {
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    LockRequest {
        dev: device.to_owned(),
        ttl: millis(ttl),
        wait: millis(wait),
        lock: None,
        pos: true,
    }
}

/// Whether the owner said that it will not renew the lock; an owner that does not answer may yet.
fn is_lost(error: &CallError) -> bool {
    let CallError::Refused { status, .. } = error else {
        return false;
    };
    status.class() == StatusClass::Permanent
}

impl Client {
    /// The lock that this machine has of a device.
    pub(super) fn lease_of(&self, node: &str, device: &str) -> Option<LockToken> {
        let leases = self.leases.borrow();
        let mut own = leases.iter().filter(|lease| lease.is_of(node, device));
        own.next().map(|lease| lease.token)
    }

    /// What a person asks about locks.
    pub(super) async fn lock_request(
        self: &Rc<Self>,
        request: Request,
        asker: &Conversation,
    ) -> Result<Reply, ControlError> {
        match request {
            Request::Lock {
                node,
                device,
                ttl,
                wait,
            } => {
                let hub = self.hub(&node)?;
                let times = [ttl, wait].map(|secs| Duration::from_secs(secs.into()));
                let lock = self.lock(&hub, &device, times, asker).await?;
                Ok(Reply::Locked(lock))
            }
            Request::Unlock {
                node,
                device,
                breaking,
            } => {
                let hub = node.map(|node| self.hub(&node)).transpose()?;
                let lock = self.unlock(hub.as_deref(), &device, breaking).await?;
                Ok(Reply::Unlocked(lock))
            }
            other => Err(ControlError::failed(format!(
                "{other:?} is no matter of locks"
            ))),
        }
    }

    /// Locks a device and keeps it locked. `ttl` and `wait` as of [`LockRequest`].
    pub(super) async fn lock(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        device: &str,
        [ttl, wait]: [Duration; 2],
        asker: &Conversation,
    ) -> Result<HeldLock, ControlError> {
        let node = hub.node();
        let peer = self.connected(hub).await?;
        let target = Target::named(&peer, device, &node, self.presenters).await?;
        let device = target.brief.dev;
        let of_ours = |lease: &&Rc<Lease>| lease.is_of(&node.id, &device);
        let lease = self.leases.borrow().iter().find(of_ours).cloned();
        if let Some(lease) = lease {
            lease.ttl.set(ttl);
            renew(&lease, &peer)
                .await
                .map_err(|error| ask_error(&error.into(), &node, &device))?;
            lease.stir.notify_one();
            return Ok(lease.info());
        }
        let payload = encoded(request(&device, ttl, wait).encode())?;
        let refused = |error: CallError| ask_error(&error.into(), &node, &device);
        let timeout = wait.saturating_add(ANSWER);
        let mut call = peer
            .begin(Opcode::DeviceLock, payload, timeout)
            .map_err(refused)?;
        let Some(answer) = until_locked(&mut call, &node, &device, asker).await else {
            call.cancel();
            // It may have been given just now.
            if let Ok(answer) = call.answer().await
                && let Ok(response) = LockResponse::decode(&answer)
            {
                let _ = give_back(&peer, &device, Some(response.lock)).await;
            }
            return Err(ControlError::failed("the wait for the lock was given up"));
        };
        let answer = answer.map_err(refused)?;
        let nonsense = |_| ControlError::failed(format!("{} answered without sense", node.name));
        let response = LockResponse::decode(&answer).map_err(nonsense)?;
        let ttl = Duration::from_millis(response.ttl.into());
        let lease = Rc::new(Lease {
            node,
            device,
            token: response.lock,
            fence: response.fence,
            ttl: Cell::new(ttl),
            until: Cell::new(clock::mono().after(ttl)),
            given_back: Cell::new(false),
            stir: Notify::new(),
        });
        self.leases.borrow_mut().push(Rc::clone(&lease));
        let info = lease.info();
        tracing::info!(node = info.node.name, device = info.device, "locked");
        tokio::task::spawn_local(keep(Rc::clone(self), Rc::clone(hub), lease));
        Ok(info)
    }

    /// Gives a lock back; or ends whichever lock there is of the device, which only administrators
    /// may.
    pub(super) async fn unlock(
        &self,
        hub: Option<&Hub>,
        device: &str,
        breaking: bool,
    ) -> Result<HeldLock, ControlError> {
        if let (Some(hub), true) = (hub, breaking) {
            return self.break_lock(hub, device).await;
        }
        let node = hub.map(|hub| hub.node().id);
        let mut leases = self.leases.borrow().clone();
        leases.retain(|lease| node.as_ref().is_none_or(|node| lease.node.id == *node));
        let candidates: Vec<_> = leases
            .iter()
            .map(|lease| Candidate {
                id: &lease.device,
                name: &lease.device,
            })
            .collect();
        let found = name::resolve(device, &candidates)
            .map_err(|error| unresolved("lock of ours of", device, error, "myclerk list"))?;
        let Some(lease) = leases.get(found).cloned() else {
            return Err(ControlError::not_found("there is no such lock"));
        };
        let info = lease.info();
        self.forget_lease(&lease);
        let hub = self.hub(&lease.node.id)?;
        let peer = self.connected(&hub).await?;
        match give_back(&peer, &lease.device, Some(lease.token)).await {
            // It has ended before.
            Err(CallError::Refused { error, .. }) if error.sub == sub::LOCK => Ok(info),
            Err(error) => Err(ask_error(&error.into(), &lease.node, &lease.device)),
            Ok(()) => Ok(info),
        }
    }

    async fn break_lock(&self, hub: &Hub, device: &str) -> Result<HeldLock, ControlError> {
        let node = hub.node();
        let peer = self.connected(hub).await?;
        let target = Target::named(&peer, device, &node, self.presenters).await?;
        let device = target.brief.dev;
        match give_back(&peer, &device, None).await {
            Err(CallError::Refused { error, .. }) if error.sub == sub::ACL => {
                let refused = format!("{} does not let this machine break locks", node.name);
                let why = "that needs the role admin in this machine's certificate";
                return Err(ControlError::refused(refused)
                    .because(why)
                    .mend(format!("on {}: myclerk unlock {device} --break", node.name)));
            }
            Err(error) => return Err(ask_error(&error.into(), &node, &device)),
            Ok(()) => {}
        }
        Ok(HeldLock {
            node,
            device,
            fence: 0,
            left: 0,
        })
    }

    fn forget_lease(&self, lease: &Rc<Lease>) {
        lease.given_back.set(true);
        lease.stir.notify_one();
        let mut leases = self.leases.borrow_mut();
        leases.retain(|other| !Rc::ptr_eq(other, lease));
    }

    /// Gives every lock back whose owner can be told.
    pub(super) async fn give_locks_back(&self) {
        let leases = self.leases.borrow().clone();
        for lease in leases {
            self.forget_lease(&lease);
            let peer = self.hub(&lease.node.id).ok().and_then(|hub| hub.peer());
            if let Some(peer) = peer {
                let _ = give_back(&peer, &lease.device, Some(lease.token)).await;
            }
        }
    }
}

fn encoded<E: ToString>(payload: Result<Vec<u8>, E>) -> Result<Vec<u8>, ControlError> {
    payload.map_err(|error| ControlError::failed(error.to_string()))
}

/// Waits for the lock and tells of the place in the queue; `None` when the asker went away.
async fn until_locked(
    call: &mut LongCall,
    node: &NodeName,
    device: &str,
    asker: &Conversation,
) -> Option<Result<Vec<u8>, CallError>> {
    let mut news = call.news.clone();
    loop {
        tokio::select! {
            biased;
            answer = call.answer() => return Some(answer),
            () = asker.gone() => return None,
            changed = news.changed() => {
                if changed.is_err() {
                    return Some(call.answer().await);
                }
                let place = QueuePosition::decode(&news.borrow_and_update());
                let Ok(QueuePosition { pos }) = place else {
                    continue;
                };
                let place = match pos {
                    0 => "this machine is next".to_owned(),
                    n => format!("{n} before this machine"),
                };
                asker.step(format!("waiting for the lock of {device} on {}: {place}", node.name));
            }
        }
    }
}

/// Renews a lock until it is given back or lost.
async fn keep(client: Rc<Client>, hub: Rc<Hub>, lease: Rc<Lease>) {
    let mut pause = Duration::ZERO;
    loop {
        let lost_session = async {
            match hub.peer() {
                Some(peer) => drop(peer.closed().await),
                None => std::future::pending().await,
            }
        };
        let pause_now = if pause.is_zero() {
            (lease.ttl.get() / 3).min(OFTEN)
        } else {
            pause
        };
        tokio::select! {
            () = tokio::time::sleep(pause_now) => {}
            () = lease.stir.notified() => {}
            () = lost_session => {}
        }
        if lease.given_back.get() {
            return;
        }
        let left = lease.until.get().since(clock::mono());
        let renewed = match hub.wait_for_peer(left.min(ANSWER)).await {
            Some(peer) => renew(&lease, &peer).await.map_err(Some),
            None => Err(None),
        };
        if lease.given_back.get() {
            return;
        }
        pause = match renewed {
            Ok(()) => Duration::ZERO,
            Err(Some(error)) if is_lost(&error) => {
                return lose(&client, &lease, &error.to_string());
            }
            Err(_) if lease.until.get() <= clock::mono() => {
                return lose(&client, &lease, "it could not be renewed in time");
            }
            Err(_) => AGAIN,
        };
    }
}

fn lose(client: &Client, lease: &Rc<Lease>, reason: &str) {
    let (node, device) = (&lease.node.name, &lease.device);
    tracing::warn!(node, device, reason, "lock lost");
    client.forget_lease(lease);
}

async fn renew(lease: &Lease, peer: &Peer) -> Result<(), CallError> {
    // From when the request is made: the owner counts from when it comes, which is later.
    let now = clock::mono();
    let payload = lease.renewal().encode().unwrap_or_default();
    let answer = peer.call(Opcode::DeviceLock, payload, ANSWER).await?;
    if let Ok(response) = LockResponse::decode(&answer) {
        let ttl = Duration::from_millis(response.ttl.into());
        lease.until.set(now.after(ttl));
    }
    Ok(())
}

async fn give_back(peer: &Peer, device: &str, lock: Option<LockToken>) -> Result<(), CallError> {
    let request = UnlockRequest {
        dev: device.to_owned(),
        lock,
    };
    let payload = request.encode().unwrap_or_default();
    peer.call(Opcode::DeviceUnlock, payload, ANSWER)
        .await
        .map(drop)
}
