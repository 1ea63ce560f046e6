use super::*;

const RULES: &str = "[[client.attach]]\ndevice = 'echo:*'\nnodes = ['hub', 'shed']\n\
                     [[client.attach]]\nclass = 'choir'\n";

fn node(name: &str) -> NodeName {
    NodeName {
        id: format!("id of {name}"),
        name: name.to_owned(),
    }
}

fn key(name: &str, device: &str) -> Key {
    (node(name).id, device.to_owned())
}

fn seen(device: &str, state: State) -> Seen {
    let id: DeviceId = device.parse().unwrap();
    Seen {
        class: id.class().to_owned(),
        id,
        name: String::new(),
        state,
        user: (state == State::InUse).then(|| "desk".to_owned()),
        ours: false,
    }
}

/// A world that the tests change step by step.
struct World {
    now: Mono,
    rules: Rules,
    offers: Vec<Offer>,
    expected: Vec<NodeName>,
    held: BTreeSet<Key>,
    reconciler: Reconciler,
}

impl World {
    fn new() -> Self {
        Self {
            now: Mono::from_secs(100),
            rules: Rules::parse(RULES).unwrap(),
            offers: Vec::new(),
            expected: Vec::new(),
            held: BTreeSet::new(),
            reconciler: Reconciler::default(),
        }
    }

    fn offers(&mut self, name: &str, devices: &[(&str, State)]) {
        self.offers.retain(|offer| offer.node.name != name);
        self.offers.push(Offer {
            node: node(name),
            devices: devices.iter().map(|(id, state)| seen(id, *state)).collect(),
        });
    }

    fn leaves(&mut self, name: &str) {
        self.offers.retain(|offer| offer.node.name != name);
    }

    fn passes(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// What is to be attached, as `NODE/DEVICE`.
    fn plan(&mut self) -> Vec<String> {
        let mut reconciler = std::mem::take(&mut self.reconciler);
        let plan = reconciler.plan(&self.scene(), || 0);
        self.reconciler = reconciler;
        let path = |judged: Judged| format!("{}/{}", judged.node.name, judged.device);
        plan.into_iter().map(path).collect()
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            now: self.now,
            rules: &self.rules,
            offers: &self.offers,
            expected: &self.expected,
            held: &self.held,
        }
    }

    fn state(&self, name: &str, device: &str) -> Option<RuleState> {
        let all = self.reconciler.judge(&self.scene());
        let found = all.iter().find(|judged| judged.key() == key(name, device));
        found.map(|judged| judged.state)
    }

    fn attached(&mut self, name: &str, device: &str) {
        self.reconciler.attached(key(name, device), self.now);
        self.held.insert(key(name, device));
    }

    fn failed(&mut self, name: &str, device: &str) -> bool {
        let why = "no".to_owned();
        self.reconciler.failed(key(name, device), self.now, why, 0)
    }
}

const FREE: State = State::Free;

#[test]
fn a_device_that_a_rule_wants_is_attached_once() {
    let mut world = World::new();
    world.offers("hub", &[("echo:one", FREE), ("can:can0", FREE)]);
    assert_eq!(world.plan(), ["hub/echo:one"]);
    assert_eq!(world.plan(), [""; 0], "it is being attached");
    world.attached("hub", "echo:one");
    assert_eq!(world.plan(), [""; 0]);
    assert_eq!(world.state("hub", "can:can0"), None);
}

#[test]
fn the_preferred_node_is_taken_and_nothing_is_moved_to_it_later() {
    let mut world = World::new();
    world.offers("shed", &[("echo:one", FREE)]);
    world.offers("hub", &[("echo:one", FREE)]);
    assert_eq!(world.plan(), ["hub/echo:one"]);
    assert_eq!(world.state("shed", "echo:one"), Some(RuleState::Elsewhere));
    world.attached("hub", "echo:one");
    assert_eq!(world.plan(), [""; 0]);
    world.leaves("hub");
    world.held.clear();
    world.passes(60);
    assert_eq!(world.plan(), ["shed/echo:one"]);
    world.attached("shed", "echo:one");
    world.offers("hub", &[("echo:one", FREE)]);
    assert_eq!(world.plan(), [""; 0], "it is in use");
    assert_eq!(world.state("hub", "echo:one"), Some(RuleState::Elsewhere));
}

#[test]
fn a_preferred_node_that_may_be_heard_of_soon_is_waited_for() {
    let mut world = World::new();
    world.offers("shed", &[("echo:one", FREE), ("choir:all", FREE)]);
    world.expected = vec![node("hub")];
    assert_eq!(world.plan(), ["shed/choir:all"]);
    world.expected.clear();
    assert_eq!(world.plan(), ["shed/echo:one"]);
}

#[test]
fn where_the_preferred_one_cannot_be_had_the_next_one_is_taken() {
    let mut world = World::new();
    world.offers("hub", &[("echo:one", State::InUse), ("echo:two", FREE)]);
    world.offers("shed", &[("echo:one", FREE), ("echo:two", FREE)]);
    assert_eq!(world.plan(), ["hub/echo:two", "shed/echo:one"]);
    world.failed("hub", "echo:two");
    assert_eq!(world.plan(), ["shed/echo:two"]);
}

#[test]
fn without_an_order_of_nodes_each_node_has_a_device_of_its_own() {
    let mut world = World::new();
    world.offers("hub", &[("choir:all", FREE)]);
    world.offers("shed", &[("choir:all", FREE)]);
    assert_eq!(world.plan(), ["hub/choir:all", "shed/choir:all"]);
}

#[test]
fn what_was_detached_by_hand_stays_away_until_it_is_plugged_in_anew() {
    let mut world = World::new();
    world.offers("hub", &[("echo:one", FREE)]);
    world.offers("shed", &[("echo:one", FREE)]);
    world.plan();
    world.attached("hub", "echo:one");
    world.reconciler.put_away(key("hub", "echo:one"));
    world.held.clear();
    world.passes(3600);
    assert_eq!(world.plan(), [""; 0], "nor is it taken from elsewhere");
    assert_eq!(world.state("hub", "echo:one"), Some(RuleState::PutAway));
    world.leaves("hub");
    assert_eq!(world.plan(), ["shed/echo:one"], "that may be another one");
    world.failed("shed", "echo:one");
    world.leaves("shed");
    world.offers("hub", &[("echo:one", FREE)]);
    assert_eq!(world.plan(), [""; 0], "a lost link is no unplugging");
    world.offers("hub", &[]);
    assert_eq!(world.plan(), [""; 0]);
    world.offers("hub", &[("echo:one", FREE)]);
    assert_eq!(world.plan(), ["hub/echo:one"]);
}

#[test]
fn what_was_attached_by_hand_is_attached_again_by_itself() {
    let mut world = World::new();
    world.offers("hub", &[("echo:one", FREE)]);
    world.reconciler.put_away(key("hub", "echo:one"));
    assert_eq!(world.plan(), [""; 0]);
    world.reconciler.taken_up(&key("hub", "echo:one"));
    assert_eq!(world.plan(), ["hub/echo:one"]);
}

#[test]
fn failures_are_repeated_ever_more_rarely_and_told_once() {
    let mut world = World::new();
    world.offers("hub", &[("choir:all", FREE)]);
    let mut pauses = Vec::new();
    for n in 0..10 {
        assert_eq!(world.plan(), ["hub/choir:all"], "{n}");
        assert_eq!(world.failed("hub", "choir:all"), n == 0);
        assert_eq!(world.plan(), [""; 0]);
        assert_eq!(world.state("hub", "choir:all"), Some(RuleState::Failed));
        let next = world.reconciler.next(world.now).unwrap();
        pauses.push(next.since(world.now).as_secs());
        world.now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 128, 128]);
    world.reconciler.rules_changed();
    assert_eq!(world.plan(), ["hub/choir:all"]);
    assert!(world.failed("hub", "choir:all"));
}

#[test]
fn pauses_differ_by_up_to_a_quarter() {
    let mut known = Known::default();
    known.fail(Mono::from_secs(0), String::new(), u16::MAX);
    let pause = known.not_before.unwrap().since(Mono::from_secs(0));
    assert_eq!(pause, FIRST_PAUSE * 5 / 4);
}

#[test]
fn a_device_that_ends_at_once_again_and_again_is_no_hot_loop() {
    let mut world = World::new();
    world.offers("hub", &[("choir:all", FREE)]);
    let mut attempts = 0;
    for _ in 0..100 {
        attempts += world.plan().len();
        if world.state("hub", "choir:all") == Some(RuleState::Trying) {
            world.attached("hub", "choir:all");
            world.held.clear();
        }
        world.passes(1);
    }
    assert!((4..=7).contains(&attempts), "{attempts}");
    world.passes(200);
    assert_eq!(world.plan().len(), 1);
    world.attached("hub", "choir:all");
    world.passes(3600);
    world.held.clear();
    assert_eq!(world.plan().len(), 1, "this one was of use");
}

#[test]
fn a_device_that_another_one_has_is_due_when_it_is_free() {
    let mut world = World::new();
    world.offers("hub", &[("choir:all", FREE)]);
    world.plan();
    world.failed("hub", "choir:all");
    world.offers("hub", &[("choir:all", State::InUse)]);
    world.passes(3600);
    assert_eq!(world.plan(), [""; 0]);
    assert_eq!(world.state("hub", "choir:all"), Some(RuleState::Taken));
    world.offers("hub", &[("choir:all", State::Unavailable)]);
    assert_eq!(world.plan(), [""; 0]);
    world.offers("hub", &[("choir:all", FREE)]);
    assert_eq!(world.plan(), ["hub/choir:all"]);
}

#[test]
fn a_device_that_its_owner_still_counts_as_ours_is_asked_for() {
    let mut world = World::new();
    world.offers("hub", &[("choir:all", State::InUse)]);
    world.offers[0].devices[0].ours = true;
    assert_eq!(world.plan(), ["hub/choir:all"]);
}

#[test]
fn few_devices_are_attached_at_the_same_time_and_then_the_others() {
    let mut world = World::new();
    let names: Vec<_> = (0..20).map(|n| format!("choir:{n:02}")).collect();
    let devices: Vec<_> = names.iter().map(|name| (name.as_str(), FREE)).collect();
    world.offers("hub", &devices);
    assert_eq!(world.plan().len(), AT_ONCE);
    world.attached("hub", "choir:00");
    assert_eq!(world.plan(), ["hub/choir:08"]);
}

#[test]
fn what_is_no_longer_offered_is_forgotten() {
    let mut world = World::new();
    for n in 0..1000 {
        let name = format!("choir:{n}");
        world.offers("hub", &[(&name, FREE)]);
        assert_eq!(world.plan().len(), 1);
        world.failed("hub", &name);
    }
    assert_eq!(world.reconciler.known.len(), 1);
}
