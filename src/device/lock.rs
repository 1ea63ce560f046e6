//! Locks as leases (profile 17.3): who may use a device alone, until when, and who comes next.
//!
//! Time and randomness come as arguments. Whether the device itself is free is asked of the caller,
//! for its uses are not known here.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::id::DeviceId;
use super::op::LockToken;
use crate::wire::time::Mono;

/// How long a lock outlives the session of its owner (profile 17.3).
pub const GRACE: Duration = Duration::from_secs(10);
/// The most that wait for one device.
pub const MAX_QUEUE: usize = 32;
/// The most that one node has or waits for, of all devices together.
pub const MAX_PER_NODE: usize = 64;
/// How long it is remembered that a node lost its lock, so that it is told so.
const MEMORY: Duration = Duration::from_secs(600);

/// One session of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u64);

/// A request that waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(u64);

/// Who asks for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Its node-id.
    pub node: [u8; 16],
    /// The session that it asks on.
    pub session: SessionKey,
}

/// A lock that a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose it is.
    pub node: [u8; 16],
    /// What proves it.
    pub token: LockToken,
    /// Greater than that of every lock before.
    pub fence: u64,
    /// When it ends unless it is renewed.
    pub until: Mono,
    /// When it was acquired.
    pub since: Mono,
    /// The session that renewed it last; `None` once that is over.
    session: Option<SessionKey>,
}

/// A request in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// This request.
    pub id: WaiterId,
    /// Who asks.
    pub who: Claimant,
    /// Since when.
    pub since: Mono,
    ttl: Duration,
    until: Mono,
    /// The place in the queue that it was told last.
    told: Option<usize>,
}

/// Why a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its owner gave it back.
    Released,
    /// It was not renewed in time.
    Expired,
    /// The session of its owner ended, and no other one renewed it within [`GRACE`].
    SessionLost,
    /// Its owner may not write to the device any longer.
    RightLost,
    /// An administrator broke it.
    Broken,
}

impl Why {
    /// In one word, for logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::SessionLost => "session-lost",
            Self::RightLost => "right-lost",
            Self::Broken => "broken",
        }
    }
}

/// What has come about, to be told to those whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A lock has ended.
    Ended {
        /// Of which device.
        device: DeviceId,
        /// The lock.
        lock: Held,
        /// Why.
        why: Why,
    },
    /// A request has got its lock.
    Granted {
        /// Of which device.
        device: DeviceId,
        /// The request.
        waiter: WaiterId,
        /// The lock.
        lock: Held,
        /// How long it lasts without renewal.
        ttl: Duration,
    },
    /// A request waits at this place of the queue now.
    Waits {
        /// The request.
        waiter: WaiterId,
        /// How many come before it.
        place: usize,
    },
    /// A request has waited as long as it wanted.
    InVain {
        /// The device.
        device: DeviceId,
        /// The request.
        waiter: WaiterId,
    },
}

/// The queue is full, or the node has too many locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`MAX_QUEUE`].
    #[error("{MAX_QUEUE} others wait for its lock")]
    Queue,
    /// [`MAX_PER_NODE`].
    #[error("this node has or waits for {MAX_PER_NODE} locks")]
    Node,
}

/// The token is not that of the lock, or there is no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock is lost")]
pub struct Lost;

#[derive(Clone, Debug, Default)]
struct Slot {
    lock: Option<Held>,
    queue: VecDeque<Waiter>,
    /// Who lost the last lock against its will, and when.
    loser: Option<([u8; 16], Mono)>,
}

/// The locks of all devices of this node.
#[derive(Debug, Default)]
pub struct LockTable {
    slots: BTreeMap<DeviceId, Slot>,
    waiters: u64,
    /// The next fence.
    fence: u64,
    /// Fences from here on may have been given before a restart: they are not given until they are
    /// reserved.
    reserved: u64,
}

impl LockTable {
    /// A table without locks; every fence below `fence` may have been given already.
    pub fn new(fence: u64) -> Self {
        Self {
            fence,
            reserved: fence,
            ..Self::default()
        }
    }

    /// Fences that can still be given before more are reserved.
    pub const fn fences_left(&self) -> u64 {
        self.reserved.saturating_sub(self.fence)
    }

    /// The first fence that is not reserved.
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Fences below this one may be given: it is stored that they may have been.
    pub fn reserve(&mut self, below: u64) {
        self.reserved = self.reserved.max(below);
    }

    /// The lock of a device.
    pub fn holder(&self, device: &DeviceId) -> Option<&Held> {
        self.slots.get(device)?.lock.as_ref()
    }

    /// Whether the node holds the device's lock.
    pub fn holds(&self, device: &DeviceId, node: &[u8; 16]) -> bool {
        self.holder(device).is_some_and(|lock| lock.node == *node)
    }

    /// The requests that wait for a device, the next one first.
    pub fn queue(&self, device: &DeviceId) -> impl Iterator<Item = &Waiter> {
        let slot = self.slots.get(device);
        slot.into_iter().flat_map(|slot| &slot.queue)
    }

    /// Every lock.
    pub fn held(&self) -> impl Iterator<Item = (&DeviceId, &Held)> {
        let slots = self.slots.iter();
        slots.filter_map(|(device, slot)| Some((device, slot.lock.as_ref()?)))
    }

    /// Every request that waits.
    pub fn waiting(&self) -> impl Iterator<Item = (&DeviceId, &Waiter)> {
        let slots = self.slots.iter();
        slots.flat_map(|(device, slot)| slot.queue.iter().map(move |waiter| (device, waiter)))
    }

    /// True when the node had a lock of the device not long ago and lost it against its will.
    pub fn has_lost(&self, device: &DeviceId, node: &[u8; 16], now: Mono) -> bool {
        let slot = self.slots.get(device);
        slot.and_then(|slot| slot.loser)
            .is_some_and(|(loser, when)| loser == *node && now.since(when) < MEMORY)
    }

    /// Queues a request; [`Self::settle`] serves it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn ask(
        &mut self,
        now: Mono,
        device: &DeviceId,
        who: Claimant,
        ttl: Duration,
        wait: Duration,
    ) -> Result<WaiterId, Full> {
        let of_node = self.held().filter(|(_, lock)| lock.node == who.node);
        let queued = self.waiting().filter(|(_, w)| w.who.node == who.node);
        if of_node.count() + queued.count() >= MAX_PER_NODE {
            return Err(Full::Node);
        }
        if self.queue(device).count() >= MAX_QUEUE {
            return Err(Full::Queue);
        }
        self.waiters += 1;
        let id = WaiterId(self.waiters);
        let slot = self.slots.entry(device.clone()).or_default();
        slot.queue.push_back(Waiter {
            id,
            who,
            since: now,
            ttl,
            until: now.after(wait),
            told: None,
        });
        Ok(id)
    }

    /// The owner of a lock wants it for longer, perhaps in a new session.
    ///
    /// # Errors
    /// [`Lost`] when it is not its lock any longer.
    pub fn renew(
        &mut self,
        now: Mono,
        device: &DeviceId,
        who: Claimant,
        token: LockToken,
        ttl: Duration,
    ) -> Result<Held, Lost> {
        let slot = self.slots.get_mut(device).ok_or(Lost)?;
        let lock = slot.lock.as_mut().ok_or(Lost)?;
        if lock.node != who.node || lock.token != token || lock.until <= now {
            return Err(Lost);
        }
        lock.until = now.after(ttl);
        lock.session = Some(who.session);
        Ok(lock.clone())
    }

    /// Whether that is the lock which the node has.
    pub fn is_current(&self, device: &DeviceId, node: &[u8; 16], token: LockToken) -> bool {
        self.holder(device)
            .is_some_and(|lock| lock.node == *node && lock.token == token)
    }

    /// Ends the lock of a device; `None` when there was none.
    pub fn end(&mut self, now: Mono, device: &DeviceId, why: Why) -> Option<Happened> {
        let slot = self.slots.get_mut(device)?;
        let lock = slot.lock.take()?;
        slot.loser = (why != Why::Released).then_some((lock.node, now));
        Some(Happened::Ended {
            device: device.clone(),
            lock,
            why,
        })
    }

    /// A request is given up; false when it does not wait any longer.
    pub fn withdraw(&mut self, waiter: WaiterId) -> bool {
        let mut slots = self.slots.values_mut();
        slots.any(|slot| {
            let before = slot.queue.len();
            slot.queue.retain(|queued| queued.id != waiter);
            slot.queue.len() != before
        })
    }

    /// A session is over: its requests are gone, its locks have [`GRACE`].
    pub fn session_over(&mut self, now: Mono, session: SessionKey) {
        for slot in self.slots.values_mut() {
            slot.queue.retain(|queued| queued.who.session != session);
            let own = |lock: &&mut Held| lock.session == Some(session);
            if let Some(lock) = slot.lock.as_mut().filter(own) {
                lock.session = None;
                lock.until = lock.until.min(now.after(GRACE));
            }
        }
    }

    /// Does what is due now: ends locks and waits whose time is over, gives free locks to the next
    /// for whom nothing stands in the way, tells the others their place.
    ///
    /// `blocked` tells whether another node than the given one has the device to itself, `mint`
    /// makes tokens that nobody can guess.
    pub fn settle(
        &mut self,
        now: Mono,
        mut blocked: impl FnMut(&DeviceId, &[u8; 16]) -> bool,
        mut mint: impl FnMut() -> [u8; 16],
    ) -> Vec<Happened> {
        let mut happened = Vec::new();
        let (mut fence, reserved) = (self.fence, self.reserved);
        for (device, slot) in &mut self.slots {
            slot.expire(now, device, &mut happened);
            let free = slot.lock.is_none() && fence < reserved;
            let next = slot
                .queue
                .iter()
                .position(|queued| free && !blocked(device, &queued.who.node));
            if let Some(next) = next.and_then(|next| slot.queue.remove(next)) {
                fence += 1;
                let lock = Held {
                    node: next.who.node,
                    token: LockToken(mint()),
                    fence,
                    until: now.after(next.ttl),
                    since: now,
                    session: Some(next.who.session),
                };
                slot.loser = slot.loser.filter(|(loser, _)| *loser != next.who.node);
                slot.lock = Some(lock.clone());
                happened.push(Happened::Granted {
                    device: device.clone(),
                    waiter: next.id,
                    lock,
                    ttl: next.ttl,
                });
            }
            slot.tell_places(&mut happened);
        }
        self.fence = fence;
        self.slots.retain(|_, slot| !slot.is_idle(now));
        happened
    }

    /// When [`Self::settle`] has something to do even if nothing happens before.
    pub fn next_timeout(&self) -> Option<Mono> {
        let locks = self.held().map(|(_, lock)| lock.until);
        let waits = self.waiting().map(|(_, waiter)| waiter.until);
        locks.chain(waits).min()
    }
}

impl Slot {
    fn expire(&mut self, now: Mono, device: &DeviceId, happened: &mut Vec<Happened>) {
        if let Some(lock) = self.lock.take_if(|lock| lock.until <= now) {
            self.loser = Some((lock.node, now));
            let why = match lock.session {
                Some(_) => Why::Expired,
                None => Why::SessionLost,
            };
            happened.push(Happened::Ended {
                device: device.clone(),
                lock,
                why,
            });
        }
        self.queue.retain(|queued| {
            let over = queued.until <= now && queued.told.is_some();
            if over {
                happened.push(Happened::InVain {
                    device: device.clone(),
                    waiter: queued.id,
                });
            }
            !over
        });
    }

    fn tell_places(&mut self, happened: &mut Vec<Happened>) {
        for (place, queued) in self.queue.iter_mut().enumerate() {
            if queued.told != Some(place) {
                queued.told = Some(place);
                happened.push(Happened::Waits {
                    waiter: queued.id,
                    place,
                });
            }
        }
    }

    fn is_idle(&self, now: Mono) -> bool {
        let remembers = self.loser.is_some_and(|(_, when)| now.since(when) < MEMORY);
        self.lock.is_none() && self.queue.is_empty() && !remembers
    }
}

#[cfg(test)]
mod tests;
