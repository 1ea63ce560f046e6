//! What is to be attached next, by the rules and by what the nodes offer: without I/O and clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rules::{Rule, Rules};
use crate::daemon::control::message::{NodeName, RuleState};
use crate::device::id::DeviceId;
use crate::device::registry::State;
use crate::wire::time::Mono;

/// The first pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often it doubles, up to a bit more than two minutes.
const DOUBLINGS: u32 = 7;
/// A device that stays for so long was not in vain.
const USEFUL: Duration = Duration::from_secs(30);
/// How many devices are attached at the same time.
const AT_ONCE: usize = 8;

/// A device by the node-id of its owner and its own id.
pub(super) type Key = (String, String);

/// What a connected node offers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) node: NodeName,
    pub(super) devices: Vec<Seen>,
}

/// A device as its owner tells of it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: DeviceId,
    pub(super) class: String,
    pub(super) name: String,
    pub(super) state: State,
    /// Who uses it, for people.
    pub(super) user: Option<String>,
    /// This node does, as far as the owner knows.
    pub(super) ours: bool,
}

/// How things stand, besides what is remembered.
pub(super) struct Scene<'a> {
    pub(super) now: Mono,
    pub(super) rules: &'a Rules,
    pub(super) offers: &'a [Offer],
    /// Nodes that may be heard of soon: they are waited for where they are preferred.
    pub(super) expected: &'a [NodeName],
    /// What is local, or held for its owner's return.
    pub(super) held: &'a BTreeSet<Key>,
}

/// What is known of a device that is or was offered.
#[derive(Debug, Default)]
struct Known {
    /// Somebody gave it back by hand and it was not plugged in anew since.
    put_away: bool,
    trying: bool,
    /// When it was attached by its rule, if it was and has not ended since.
    attached: Option<Mono>,
    failures: u32,
    not_before: Option<Mono>,
    problem: Option<String>,
    /// Another one had it at the last look.
    was_taken: bool,
}

/// One device under its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) node: NodeName,
    pub(super) device: String,
    pub(super) name: String,
    /// The number of the rule, from 0.
    pub(super) rule: usize,
    pub(super) state: RuleState,
    /// Why it is not attached.
    pub(super) why: Option<String>,
}

impl Judged {
    pub(super) fn key(&self) -> Key {
        (self.node.id.clone(), self.device.clone())
    }
}

/// What was tried and what a person decided.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    known: BTreeMap<Key, Known>,
}

impl Reconciler {
    /// The devices to attach now. They count as being attached until [`Self::attached`] or
    /// [`Self::failed`]. `jitter` gives a number for each pause.
    pub(super) fn plan(
        &mut self,
        scene: &Scene<'_>,
        mut jitter: impl FnMut() -> u16,
    ) -> Vec<Judged> {
        self.note(scene, &mut jitter);
        let trying = self.known.values().filter(|known| known.trying).count();
        let mut plan = self.judge(scene);
        plan.retain(|judged| judged.state == RuleState::Due);
        plan.truncate(AT_ONCE.saturating_sub(trying));
        for judged in &plan {
            self.of(judged.key()).trying = true;
        }
        plan
    }

    /// Takes note of what is gone, has ended, or is free again.
    fn note(&mut self, scene: &Scene<'_>, jitter: &mut impl FnMut() -> u16) {
        for offer in scene.offers {
            let listed: BTreeSet<_> = offer.devices.iter().map(|seen| seen.id.as_str()).collect();
            self.known.retain(|(node, device), known| {
                *node != offer.node.id || listed.contains(device.as_str()) || known.trying
            });
            for seen in &offer.devices {
                let key = (offer.node.id.clone(), seen.id.to_string());
                let known = self.known.entry(key).or_default();
                let taken = seen.taken().is_some();
                if known.was_taken && !taken {
                    known.not_before = None;
                }
                known.was_taken = taken;
            }
        }
        for (key, known) in &mut self.known {
            let Some(since) = known.attached.filter(|_| !scene.held.contains(key)) else {
                continue;
            };
            known.attached = None;
            if scene.now.since(since) < USEFUL {
                known.fail(
                    scene.now,
                    "it ended soon after it was attached".to_owned(),
                    jitter(),
                );
            } else {
                known.failures = 0;
            }
        }
    }

    /// How it stands with every offered device that some rule wants.
    pub(super) fn judge(&self, scene: &Scene<'_>) -> Vec<Judged> {
        let mut all: Vec<_> = scene
            .offers
            .iter()
            .flat_map(|offer| offer.devices.iter().map(move |seen| (&offer.node, seen)))
            .filter_map(|(node, seen)| {
                let names = [&*node.id, &*node.name];
                let rule = scene.rules.deciding(names, &seen.id, &seen.class)?;
                let (state, why) = self.standing(scene, node, seen, scene.rules.all().get(rule)?);
                Some(Judged {
                    node: node.clone(),
                    device: seen.id.to_string(),
                    name: seen.name.clone(),
                    rule,
                    state,
                    why,
                })
            })
            .collect();
        prefer(&mut all, scene);
        all
    }

    /// How it stands with a device that no other node offers.
    fn standing(
        &self,
        scene: &Scene<'_>,
        node: &NodeName,
        seen: &Seen,
        rule: &Rule,
    ) -> (RuleState, Option<String>) {
        let key = (node.id.clone(), seen.id.to_string());
        let none = Known::default();
        let known = self.known.get(&key).unwrap_or(&none);
        if scene.held.contains(&key) {
            return (RuleState::Attached, None);
        }
        if known.put_away {
            return (
                RuleState::PutAway,
                Some("it was detached by hand".to_owned()),
            );
        }
        if known.trying {
            return (RuleState::Trying, known.problem.clone());
        }
        if let Some(why) = seen
            .taken()
            .filter(|_| !(rule.lock && seen.is_queued_for()))
        {
            return (RuleState::Taken, Some(why));
        }
        match known.not_before {
            Some(at) if at > scene.now => (RuleState::Failed, known.problem.clone()),
            Some(_) | None => (RuleState::Due, known.problem.clone()),
        }
    }

    /// When the next one that failed is due.
    pub(super) fn next(&self, now: Mono) -> Option<Mono> {
        let due = self.known.values().filter_map(|known| known.not_before);
        due.filter(|at| *at > now).min()
    }

    /// It is local.
    pub(super) fn attached(&mut self, key: Key, now: Mono) {
        let known = self.of(key);
        known.trying = false;
        known.attached = Some(now);
        known.not_before = None;
        known.problem = None;
    }

    /// It could not be made local; true when the reason is another one than the last time.
    pub(super) fn failed(&mut self, key: Key, now: Mono, why: String, jitter: u16) -> bool {
        let known = self.of(key);
        let is_news = known.problem.as_ref() != Some(&why);
        known.fail(now, why, jitter);
        is_news
    }

    /// A person gave it back: it is left alone until it is plugged in anew.
    pub(super) fn put_away(&mut self, key: Key) {
        self.of(key).put_away = true;
    }

    /// Its owner says that it was unplugged: what comes back is plugged in anew.
    pub(super) fn unplugged(&mut self, key: &Key) {
        if self.known.get(key).is_some_and(|known| !known.trying) {
            self.known.remove(key);
        }
    }

    /// A person attached it.
    pub(super) fn taken_up(&mut self, key: &Key) {
        if let Some(known) = self.known.get_mut(key) {
            known.put_away = false;
        }
    }

    /// The rules are others: what failed under the old ones is due.
    pub(super) fn rules_changed(&mut self) {
        for known in self.known.values_mut() {
            known.failures = 0;
            known.not_before = None;
            known.problem = None;
        }
    }

    fn of(&mut self, key: Key) -> &mut Known {
        self.known.entry(key).or_default()
    }
}

impl Known {
    fn fail(&mut self, now: Mono, why: String, jitter: u16) {
        let pause = FIRST_PAUSE * (1 << self.failures.min(DOUBLINGS));
        // Up to a quarter more, so that many who failed together do not come together.
        let more = pause / 4 * u32::from(jitter) / u32::from(u16::MAX);
        self.trying = false;
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now.after(pause + more));
        self.problem = Some(why);
    }
}

impl Seen {
    /// Why it cannot be had, as far as its owner tells.
    fn taken(&self) -> Option<String> {
        let by = |what: &str| match &self.user {
            Some(user) => format!("{what} by {user}"),
            None => what.to_owned(),
        };
        match self.state {
            State::Free => None,
            // A session that its owner does not know to be lost.
            State::InUse | State::Locked if self.ours => None,
            State::InUse => Some(by("in use")),
            State::Locked => Some(by("locked")),
            State::Unavailable => Some("its machine uses it itself".to_owned()),
        }
    }

    /// Its lock will be free some time.
    const fn is_queued_for(&self) -> bool {
        matches!(self.state, State::InUse | State::Locked)
    }
}

/// Of those that one rule with an order of nodes finds under one id, only the first is due that can
/// be had, and none while one of them is local: it is not moved.
fn prefer(all: &mut [Judged], scene: &Scene<'_>) {
    let mut groups: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
    for (n, judged) in all.iter().enumerate() {
        let rule = scene.rules.all().get(judged.rule);
        if rule.is_some_and(|rule| rule.nodes.len() > 1) {
            let group = (judged.rule, judged.device.clone());
            groups.entry(group).or_default().push(n);
        }
    }
    for ((rule, _), mut members) in groups {
        let Some(rule) = scene.rules.all().get(rule) else {
            continue;
        };
        let rank = |node: &NodeName| rule.rank([&node.id, &node.name]);
        let of = |n: &usize| all.get(*n);
        members.sort_by_key(|n| of(n).and_then(|judged| rank(&judged.node)));
        let settled = members.iter().copied().find(|n| {
            of(n).is_some_and(|judged| {
                matches!(
                    judged.state,
                    RuleState::Attached | RuleState::Trying | RuleState::PutAway
                )
            })
        });
        let due = |n: &usize| of(n).is_some_and(|judged| judged.state == RuleState::Due);
        let chosen = settled.or_else(|| members.iter().copied().find(|n| due(n)));
        let Some(chosen) = chosen else { continue };
        let Some(by) = all.get(chosen).cloned() else {
            continue;
        };
        let before =
            |node: &&NodeName| rank(node).is_some_and(|first| Some(first) < rank(&by.node));
        let awaited = scene.expected.iter().find(before);
        for n in members {
            let Some(judged) = all
                .get_mut(n)
                .filter(|judged| judged.state == RuleState::Due)
            else {
                continue;
            };
            if n != chosen {
                judged.state = RuleState::Elsewhere;
                judged.why = Some(format!("it is taken from {}", by.node.name));
            } else if let Some(awaited) = awaited {
                judged.state = RuleState::Elsewhere;
                judged.why = Some(format!("{} is asked first", awaited.name));
            }
        }
    }
}

#[cfg(test)]
mod tests;
