//! Devices that become local by themselves: the rules of [`super::rules`] carried out as
//! [`super::reconcile`] says.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Client;
use super::hub::Hub;
use super::present::Wanted;
use super::reconcile::{Judged, Key, Offer, Reconciler, Scene, Seen};
use super::rules::{self, Rule, Rules};
use crate::bus::Inbound;
use crate::bus::names::Label;
use crate::daemon::control::Conversation;
use crate::daemon::control::message::{
    AutoDevice, AutoRule, AutoStatus, ControlError, Link, NodeName, RuleState,
};
use crate::daemon::peer::{Peer, WeakPeer};
use crate::device::id::DeviceId;
use crate::device::op::{Brief, DeviceEvent, EventKind, MAX_WAIT_MS, SubscribeRequest};
use crate::device::registry::State;
use crate::kernel::clock;
use crate::wire::opcode::Opcode;
use crate::wire::time::Mono;

/// How often the file and the sessions are looked at.
const TICK: Duration = Duration::from_secs(2);
/// How often an owner is asked that does not tell by itself what changes.
const LOOK: Duration = Duration::from_secs(10);
/// How often one is asked that does: whether its machine uses a device itself, nobody tells it.
const RARE_LOOK: Duration = Duration::from_secs(60);
/// Time for an owner to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two lists of one owner, however often it tells of changes.
const REST: Duration = Duration::from_millis(500);
/// What changes together is looked at together.
const BURST: Duration = Duration::from_millis(20);
/// How long the lock of a device lasts that a rule attaches, unless it is renewed.
const LOCK: Duration = Duration::from_secs(60);
/// How long a preferred node that is being connected to is waited for.
const HOPE: Duration = Duration::from_secs(5);

/// What is kept of the rules and of what the nodes offer.
#[derive(Default)]
pub(super) struct Auto {
    file: PathBuf,
    stamp: Cell<Option<Stamp>>,
    rules: RefCell<Rc<Rules>>,
    problem: RefCell<Option<String>>,
    reconciler: RefCell<Reconciler>,
    lists: RefCell<BTreeMap<String, List>>,
    began: Cell<Option<Mono>>,
    wake: Notify,
}

/// By which a changed file is told from the one that was read.
type Stamp = (u64, i64, i64, u64);

/// What one session's owner offered when it was asked last.
struct List {
    session: WeakPeer,
    asked: Mono,
    asking: bool,
    /// It told that something changed.
    stale: bool,
    /// It tells by itself what changes.
    tells: bool,
    devices: Option<Vec<Brief>>,
}

impl Auto {
    pub(super) fn new(config: &Path) -> Self {
        Self {
            file: rules::file(config),
            ..Self::default()
        }
    }

    /// Something may be due: a session began, a device ended.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The owner told that its devices changed.
    pub(super) fn changed(&self, node: &str) {
        if let Some(list) = self.lists.borrow_mut().get_mut(node) {
            list.stale = true;
        }
        self.wake();
    }

    /// Whether the owner tells of changes by itself.
    fn tells(&self, node: &str, tells: bool) {
        if let Some(list) = self.lists.borrow_mut().get_mut(node) {
            list.tells = tells;
        }
        self.changed(node);
    }

    /// The owner told that something happened to a device.
    fn heard(&self, node: &str, payload: &[u8]) {
        if let Ok(event) = DeviceEvent::decode(payload)
            && event.ev == EventKind::Removed
        {
            let key = (node.to_owned(), event.dev.to_string());
            self.reconciler.borrow_mut().unplugged(&key);
        }
        self.changed(node);
    }

    /// Why the rules in the file are not those that are in use.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// A person gave it back.
    pub(super) fn put_away(&self, node: &str, device: &str) {
        let key = (node.to_owned(), device.to_owned());
        self.reconciler.borrow_mut().put_away(key);
    }

    /// A person attached it.
    pub(super) fn taken_up(&self, node: &str, device: &str) {
        let key = (node.to_owned(), device.to_owned());
        self.reconciler.borrow_mut().taken_up(&key);
    }

    /// True when some rule attaches that device.
    pub(super) fn wants(&self, node: &NodeName, device: &str) -> bool {
        self.with_rule(node, device, |_| ()).is_some()
    }

    /// How udev is to name a device and whose it is to be.
    pub(super) fn label(&self, node: &NodeName, device: &str, title: &str) -> Label {
        let (name, access) = self
            .with_rule(node, device, |rule| {
                (rule.name.clone(), rule.access.clone())
            })
            .unwrap_or_default();
        let title = if title.is_empty() { device } else { title };
        Label {
            node: node.name.clone(),
            name: name.unwrap_or_else(|| title.to_owned()),
            access,
        }
    }

    fn with_rule<R>(
        &self,
        node: &NodeName,
        device: &str,
        of: impl FnOnce(&Rule) -> R,
    ) -> Option<R> {
        let rules = self.rules.borrow();
        let device: DeviceId = device.parse().ok()?;
        let found = rules.deciding([&node.id, &node.name], &device, device.class())?;
        rules.all().get(found).map(of)
    }

    /// Reads the file if it is another one than before. A broken one changes nothing.
    fn reread(&self) {
        let stamp = stamp(&self.file);
        if stamp == self.stamp.replace(stamp) && self.began.get().is_some() {
            return;
        }
        let read = match fs::read_to_string(&self.file) {
            Ok(text) => Rules::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Rules::default()),
            Err(error) => Err(error.to_string()),
        };
        let file = self.file.display();
        match read {
            Ok(read) => {
                *self.problem.borrow_mut() = None;
                if read == **self.rules.borrow() {
                    return;
                }
                tracing::info!(%file, rules = read.all().len(), "rules read");
                *self.rules.borrow_mut() = Rc::new(read);
                self.reconciler.borrow_mut().rules_changed();
            }
            Err(why) => {
                let kept = self.rules.borrow().all().len();
                tracing::error!(%file, why, kept, "rules not understood, the old ones stay");
                *self.problem.borrow_mut() = Some(format!("{file} is not understood: {why}"));
            }
        }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let meta = fs::metadata(file).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

fn jitter() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness the pauses are merely all alike.
    let _ = getrandom::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

/// Attaches what the rules want, for ever.
pub(super) async fn keep(client: Rc<Client>) {
    let auto = &client.auto;
    auto.reread();
    auto.began.set(Some(clock::mono()));
    loop {
        auto.reread();
        let mut pause = TICK;
        if !auto.rules.borrow().all().is_empty() {
            client.look();
            let plan = client.plan();
            for judged in plan {
                tokio::task::spawn_local(attempt(Rc::clone(&client), judged));
            }
            let now = clock::mono();
            if let Some(next) = auto.reconciler.borrow().next(now) {
                pause = pause.min(next.since(now));
            }
        }
        tokio::select! {
            () = auto.wake.notified() => tokio::time::sleep(BURST).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Listens to an owner that tells of its devices by itself, until its session ends.
async fn listen(client: Rc<Client>, peer: Peer, node: String) {
    let Ok(payload) = SubscribeRequest::default().encode() else {
        return;
    };
    let opened = peer.open(Opcode::DeviceSubscribe, payload, ANSWER).await;
    let (_, mut stream) = match opened {
        Ok(opened) => opened,
        Err(error) => return tracing::debug!(node, %error, "it does not tell of its devices"),
    };
    client.auto.tells(&node, true);
    while let Some(inbound) = stream.inbound.recv().await {
        match inbound {
            Inbound::Event { payload, .. } => {
                stream.outlet.consume(payload.len());
                client.auto.heard(&node, &payload);
            }
            Inbound::Data { payload, .. } => stream.outlet.consume(payload.len()),
            Inbound::Reset { .. } | Inbound::Closed => break,
            Inbound::Request { .. }
            | Inbound::Cancel { .. }
            | Inbound::Response { .. }
            | Inbound::Writable
            | Inbound::Dropped { .. } => {}
        }
    }
    client.auto.tells(&node, false);
}

/// Asks an owner for its devices.
async fn list(client: Rc<Client>, hub: Rc<Hub>, node: String) {
    let listed = client.remote_devices(&hub).await;
    if let Some(list) = client.auto.lists.borrow_mut().get_mut(&node) {
        list.asking = false;
        match listed {
            Ok(devices) => list.devices = Some(devices),
            Err(error) => tracing::debug!(node, %error, "cannot see its devices"),
        }
    }
    client.auto.wake();
}

async fn attempt(client: Rc<Client>, judged: Judged) {
    let auto = &client.auto;
    let rule = auto.rules.borrow().all().get(judged.rule).cloned();
    let done = match rule {
        Some(rule) => client.attach_by(&rule, &judged).await,
        None => Err(ControlError::failed("the rules have changed")),
    };
    let (node, device) = (&judged.node.name, &judged.device);
    let now = clock::mono();
    let mut reconciler = auto.reconciler.borrow_mut();
    match done {
        Ok(()) => {
            tracing::info!(node, device, "attached by itself");
            reconciler.attached(judged.key(), now);
        }
        Err(error) => {
            let why = match &error.cause {
                Some(cause) => format!("{}: {cause}", error.message),
                None => error.message.clone(),
            };
            if reconciler.failed(judged.key(), now, why.clone(), jitter()) {
                tracing::warn!(node, device, why, "not attached by itself, trying again");
            }
        }
    }
    drop(reconciler);
    auto.changed(&judged.node.id);
}

impl Client {
    /// Has those nodes asked whose devices are not known or may have changed.
    fn look(self: &Rc<Self>) {
        let now = clock::mono();
        let mut lists = self.auto.lists.borrow_mut();
        let mut connected = BTreeSet::new();
        for hub in self.hubs.borrow().iter() {
            let Some(peer) = hub.peer() else { continue };
            let node = hub.node().id;
            connected.insert(node.clone());
            let list_of = lists.entry(node.clone()).or_insert_with(|| List::of(&peer));
            if !list_of.session.upgrade().is_some_and(|old| old.is(&peer)) {
                *list_of = List::of(&peer);
            }
            if list_of.asked == Mono::default() {
                let listening = listen(Rc::clone(self), peer.clone(), node.clone());
                tokio::task::spawn_local(listening);
            }
            let look = if list_of.tells { RARE_LOOK } else { LOOK };
            let age = now.since(list_of.asked);
            let due = list_of.devices.is_none() || age >= look || (list_of.stale && age >= REST);
            if due && !list_of.asking && (age >= REST || list_of.asked == Mono::default()) {
                list_of.asking = true;
                list_of.stale = false;
                list_of.asked = now;
                tokio::task::spawn_local(list(Rc::clone(self), Rc::clone(hub), node));
            }
        }
        lists.retain(|node, _| connected.contains(node));
    }

    fn plan(&self) -> Vec<Judged> {
        self.with_scene(|scene| {
            let mut reconciler = self.auto.reconciler.borrow_mut();
            reconciler.plan(scene, jitter)
        })
    }

    fn with_scene<R>(&self, work: impl FnOnce(&Scene<'_>) -> R) -> R {
        let now = clock::mono();
        let (mut offers, mut expected) = (Vec::new(), Vec::new());
        let lists = self.auto.lists.borrow();
        for hub in self.hubs.borrow().iter() {
            let node = hub.node();
            let list = lists.get(&node.id).filter(|_| hub.peer().is_some());
            match list.map(|list| &list.devices) {
                Some(Some(devices)) => {
                    let devices = devices.iter().filter_map(|brief| self.seen(brief));
                    offers.push(Offer {
                        node,
                        devices: devices.collect(),
                    });
                }
                Some(None) => expected.push(node),
                None if self.is_expected(hub, now) => expected.push(node),
                None => {}
            }
        }
        let rules = Rc::clone(&self.auto.rules.borrow());
        let scene = Scene {
            now,
            rules: &rules,
            offers: &offers,
            expected: &expected,
            held: &self.held_keys(),
        };
        work(&scene)
    }

    /// Whether a node without a known session may have one soon: it is just being connected to.
    fn is_expected(&self, hub: &Hub, now: Mono) -> bool {
        match hub.standing().0 {
            Link::Connected => true,
            Link::Connecting => {
                let began = self.auto.began.get();
                began.is_none_or(|began| now.since(began) < HOPE)
            }
            Link::Waiting | Link::Refused => false,
        }
    }

    fn seen(&self, brief: &Brief) -> Option<Seen> {
        let id: DeviceId = brief.dev.parse().ok()?;
        let user = brief.owner.map(|owner| self.node_name(&owner));
        Some(Seen {
            class: id.class().to_owned(),
            id,
            name: brief.name.clone(),
            state: State::from_u8(brief.state),
            ours: user.as_ref().is_some_and(|user| user.id == self.name.id),
            user: user.map(|user| {
                if user.name.is_empty() {
                    user.id
                } else {
                    user.name
                }
            }),
        })
    }

    /// What is local, and what is waited for.
    fn held_keys(&self) -> BTreeSet<Key> {
        let attached = self.attached.borrow();
        let waiting = self.waiting.borrow();
        let waiting = waiting.iter().map(|waiting| &waiting.was);
        let held = attached.iter().chain(waiting);
        held.map(|held| (held.node.id.clone(), held.id.clone()))
            .collect()
    }

    async fn attach_by(self: &Rc<Self>, rule: &Rule, judged: &Judged) -> Result<(), ControlError> {
        let id = &judged.node.id;
        let hub = self
            .hubs
            .borrow()
            .iter()
            .find(|hub| hub.node().id == *id)
            .cloned();
        let Some(hub) = hub.filter(|hub| hub.peer().is_some()) else {
            return Err(ControlError::failed(format!(
                "{} is gone",
                judged.node.name
            )));
        };
        let class = judged.device.split_once(':').map_or("", |(class, _)| class);
        let presenter = self.presenters.iter().find(|known| known.class == class);
        let named = presenter.is_some_and(|presenter| presenter.named);
        let wanted = Wanted {
            device: judged.device.clone(),
            name: rule.name.clone().filter(|_| named),
            way: rule.way.clone(),
            options: rule.options.clone(),
            grace: rule.grace.map(Duration::from_secs),
        };
        let device = &judged.device;
        // What a person has locked stays locked.
        let locks = rule.lock && self.lease_of(id, device).is_none();
        if locks {
            let times = [LOCK, Duration::from_millis(MAX_WAIT_MS.into())];
            self.lock(&hub, device, times, &Conversation::nobody())
                .await?;
        }
        let attached = if self.auto.wants(&judged.node, device) {
            self.attach(&hub, wanted, &Conversation::nobody()).await
        } else {
            Err(ControlError::failed("the rules have changed"))
        };
        if locks {
            let (client, id, device) = (Rc::clone(self), id.clone(), device.clone());
            tokio::task::spawn_local(async move { client.unlock_after(&hub, &id, &device).await });
        }
        attached.map(drop)
    }

    /// Gives the lock of a device back once the device is no longer local.
    async fn unlock_after(&self, hub: &Hub, node: &str, device: &str) {
        if let Some(attached) = self.find_attached(node, device) {
            attached.gone().await;
        }
        if let Err(error) = self.unlock(Some(hub), device, false).await {
            tracing::debug!(node, device, %error, "its lock was not given back");
        }
    }

    /// The rules for people.
    pub(super) fn auto_status(&self) -> AutoStatus {
        let rules = Rc::clone(&self.auto.rules.borrow());
        let judged = self.with_scene(|scene| self.auto.reconciler.borrow().judge(scene));
        let of_rule = |(n, rule): (usize, &Rule)| AutoRule {
            number: n + 1,
            rule: serde_json::to_value(rule).unwrap_or_default(),
            notes: self.notes(rule),
            devices: judged
                .iter()
                .filter(|judged| judged.rule == n)
                .map(|judged| AutoDevice {
                    node: judged.node.clone(),
                    device: judged.device.clone(),
                    name: judged.name.clone(),
                    state: judged.state,
                    why: judged
                        .why
                        .clone()
                        .filter(|_| judged.state != RuleState::Due),
                })
                .collect(),
        };
        AutoStatus {
            file: self.auto.file.display().to_string(),
            problem: self.auto.problem(),
            rules: rules.all().iter().enumerate().map(of_rule).collect(),
        }
    }

    /// Why nothing is seen of the nodes that a rule names.
    fn notes(&self, rule: &Rule) -> Vec<String> {
        let hubs = self.hubs.borrow();
        let note = |name: &String| {
            let hub = hubs.iter().find(|hub| hub.is_called(name));
            match hub {
                None => Some(format!("no node is called {name:?}")),
                Some(hub) if hub.peer().is_none() => Some(format!("{name} is not connected")),
                Some(_) => None,
            }
        };
        rule.nodes.iter().filter_map(note).collect()
    }
}

impl List {
    fn of(peer: &Peer) -> Self {
        Self {
            session: peer.downgrade(),
            asked: Mono::default(),
            asking: false,
            stale: false,
            tells: false,
            devices: None,
        }
    }
}
