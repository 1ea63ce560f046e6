//! Who has which device, for the administrator of this machine.

use super::Server;
use super::control::{node_name, wrong_half};
use crate::daemon::audit::{Record, What};
use crate::daemon::control::message::{
    ControlError, DeviceUse, HeldLock, LockInfo, NodeName, Reply, Request, UserInfo, WaitingInfo,
};
use crate::device::id::DeviceId;
use crate::device::lock::{Held, Waiter, Why};
use crate::kernel::clock;
use crate::wire::hex;
use crate::wire::time::Mono;

impl Server {
    /// What the administrator asks about locks.
    pub(super) async fn lock_request(&self, request: Request) -> Result<Reply, ControlError> {
        if let Request::Unlock {
            node: None,
            device,
            breaking: true,
        } = request
        {
            return self.break_lock(&device);
        }
        if request != Request::Who {
            return Err(wrong_half());
        }
        self.recent().await;
        Ok(Reply::Who(self.who()))
    }

    /// Every offered device with its users, its lock and who waits for that.
    fn who(&self) -> Vec<DeviceUse> {
        let now = clock::mono();
        let (policy, registry) = (self.policy.borrow(), self.registry.borrow());
        let offered = registry
            .devices()
            .filter(|device| policy.offers(device.found.names()));
        let table = self.locks.table.borrow();
        offered
            .map(|device| {
                let id = &device.found.id;
                let lock = table.holder(id).map(|lock| self.lock_info(lock, now));
                let waiting = |waiter: &Waiter| WaitingInfo {
                    node: self.node_called(&waiter.who.node),
                    since: now.since(waiter.since).as_secs(),
                };
                DeviceUse {
                    device: id.as_str().to_owned(),
                    name: device.found.name.clone(),
                    users: self.users(id, now),
                    lock,
                    queue: table.queue(id).map(waiting).collect(),
                }
            })
            .collect()
    }

    /// One line for each session, whatever number of streams it has.
    fn users(&self, device: &DeviceId, now: Mono) -> Vec<UserInfo> {
        let mut users: Vec<UserInfo> = Vec::new();
        let uses = self.uses.borrow();
        for used in uses.iter().filter(|used| used.device.id == *device) {
            let user = UserInfo {
                node: node_name(&used.peer),
                address: used.peer.address().to_owned(),
                since: now.since(used.since).as_secs(),
            };
            let same = |other: &UserInfo| other.node == user.node && other.address == user.address;
            if !users.iter().any(same) {
                users.push(user);
            }
        }
        users
    }

    fn lock_info(&self, lock: &Held, now: Mono) -> LockInfo {
        LockInfo {
            node: self.node_called(&lock.node),
            fence: lock.fence,
            since: now.since(lock.since).as_secs(),
            left: lock.until.since(now).as_secs(),
        }
    }

    /// A node by the name of its session, or else by that which this machine knows.
    fn node_called(&self, node: &[u8; 16]) -> NodeName {
        let named = self.user_name(&hex::encode(node));
        if !named.name.is_empty() {
            return named;
        }
        let members = self.state.members().unwrap_or_default();
        let mut members = members.all().iter();
        let member = members.rfind(|member| member.node.0 == *node);
        NodeName {
            name: member.map(|member| member.name.clone()).unwrap_or_default(),
            ..named
        }
    }

    /// Ends the lock of a device against the will of its owner.
    fn break_lock(&self, query: &str) -> Result<Reply, ControlError> {
        let id = self.locked_device(query)?;
        let now = clock::mono();
        let lock = self.locks.table.borrow().holder(&id).cloned();
        let Some(lock) = lock else {
            return Err(not_locked(&id));
        };
        let broken = HeldLock {
            node: self.node_called(&lock.node),
            device: id.as_str().to_owned(),
            fence: lock.fence,
            left: lock.until.since(now).as_secs(),
        };
        self.end_lock(&id, Why::Broken);
        self.record_break(&id, &lock.node, "by the administrator");
        Ok(Reply::Unlocked(broken))
    }

    /// Somebody took a lock away from the node.
    pub(super) fn record_break(&self, device: &DeviceId, from: &[u8; 16], by: &str) {
        let record = Record::new(What::LockBroken).on(device).because(by);
        self.audit.write(&record.of(self.node_called(from)));
    }

    /// A present device, or one that is locked although it is not present.
    fn locked_device(&self, query: &str) -> Result<DeviceId, ControlError> {
        let locked = query.parse().ok();
        if let Some(id) = locked.filter(|id| self.locks.holder(id).is_some()) {
            return Ok(id);
        }
        let port = query.parse().ok();
        let registry = self.registry.borrow();
        let at_port = port.and_then(|name| registry.find(&name));
        if let Some(device) = at_port {
            return Ok(device.found.id.clone());
        }
        drop(registry);
        self.known(|known| {
            let device = known.present(query)?;
            let id = device.map(|device| device.found.id.clone());
            id.ok_or_else(|| ControlError::not_found(format!("there is no device {query:?}")))
        })
    }
}

fn not_locked(device: &DeviceId) -> ControlError {
    ControlError::not_found(format!("nobody has the lock of {device}")).mend("myclerk who")
}
