use super::*;

const TTL: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3_600);

fn id() -> DeviceId {
    "echo:one".parse().unwrap()
}

fn at(secs: u64) -> Mono {
    Mono::from_secs(1_000 + secs)
}

/// Node `n` in its session `n`.
fn claimant(n: u8) -> Claimant {
    Claimant {
        node: [n; 16],
        session: SessionKey(n.into()),
    }
}

struct World {
    table: LockTable,
    minted: u8,
    /// The node that has the device to itself.
    user: Option<u8>,
}

impl World {
    fn new() -> Self {
        let mut table = LockTable::new(100);
        table.reserve(1_000);
        Self {
            table,
            minted: 0,
            user: None,
        }
    }

    fn settle(&mut self, now: Mono) -> Vec<Happened> {
        let user = self.user;
        let minted = &mut self.minted;
        self.table.settle(
            now,
            |_, node| user.is_some_and(|user| [user; 16] != *node),
            || {
                *minted += 1;
                [*minted; 16]
            },
        )
    }

    fn ask(&mut self, now: Mono, n: u8, wait: Duration) -> WaiterId {
        let asked = self.table.ask(now, &id(), claimant(n), TTL, wait);
        asked.unwrap()
    }

    /// Asks and gets it at once.
    fn lock(&mut self, now: Mono, n: u8) -> Held {
        self.ask(now, n, LONG);
        match &self.settle(now)[..] {
            [Happened::Granted { lock, .. }] => lock.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn owner(&self) -> Option<u8> {
        self.table.holder(&id()).map(|lock| lock.node[0])
    }
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_came_and_told_their_place() {
    let mut world = World::new();
    let first = world.lock(at(0), 1);
    let [second, third] = [2, 3].map(|n| world.ask(at(1), n, LONG));
    assert_eq!(
        world.settle(at(1)),
        [
            Happened::Waits {
                waiter: second,
                place: 0
            },
            Happened::Waits {
                waiter: third,
                place: 1
            },
        ]
    );
    assert_eq!(world.settle(at(2)), [], "nothing is told twice");
    assert!(world.table.end(at(3), &id(), Why::Released).is_some());
    let happened = world.settle(at(3));
    let [
        Happened::Granted { waiter, lock, .. },
        Happened::Waits {
            waiter: next,
            place,
        },
    ] = &happened[..]
    else {
        panic!("{happened:?}");
    };
    assert_eq!((*waiter, *next, *place), (second, third, 0));
    assert!(lock.fence > first.fence && lock.token != first.token);
}

#[test]
fn a_lock_ends_when_it_is_not_renewed_and_lasts_when_it_is() {
    let mut world = World::new();
    let lock = world.lock(at(0), 1);
    let token = lock.token;
    let renewed = world
        .table
        .renew(at(50), &id(), claimant(1), token, TTL)
        .unwrap();
    assert_eq!((renewed.fence, renewed.until), (lock.fence, at(110)));
    assert_eq!(world.table.next_timeout(), Some(at(110)));
    assert_eq!(world.settle(at(109)), []);
    let happened = world.settle(at(110));
    assert!(matches!(
        &happened[..],
        [Happened::Ended {
            why: Why::Expired,
            ..
        }]
    ));
    let late = world.table.renew(at(110), &id(), claimant(1), token, TTL);
    assert_eq!(late, Err(Lost));
    assert!(world.table.has_lost(&id(), &[1; 16], at(111)));
}

#[test]
fn only_the_node_with_the_token_renews() {
    let mut world = World::new();
    let token = world.lock(at(0), 1).token;
    let wrong = LockToken([99; 16]);
    let table = &mut world.table;
    assert_eq!(
        table.renew(at(1), &id(), claimant(2), token, TTL),
        Err(Lost)
    );
    assert_eq!(
        table.renew(at(1), &id(), claimant(1), wrong, TTL),
        Err(Lost)
    );
    assert!(table.is_current(&id(), &[1; 16], token));
    assert!(!table.is_current(&id(), &[2; 16], token));
}

#[test]
fn a_lost_session_leaves_ten_seconds_to_come_back_with_the_token() {
    let mut world = World::new();
    let token = world.lock(at(0), 1).token;
    world.ask(at(0), 2, LONG);
    world.settle(at(0));
    world.table.session_over(at(5), SessionKey(1));
    assert_eq!(world.settle(at(14)), []);
    let again = Claimant {
        session: SessionKey(7),
        ..claimant(1)
    };
    world.table.renew(at(14), &id(), again, token, TTL).unwrap();
    assert_eq!(world.settle(at(60)), [], "the new session keeps it");
    world.table.session_over(at(60), SessionKey(1));
    assert_eq!(world.settle(at(73)), [], "the old one is not its own");
    world.table.session_over(at(73), SessionKey(7));
    // What is left of its time is less than the grace.
    let happened = world.settle(at(74));
    assert!(
        matches!(
            &happened[..],
            [
                Happened::Ended {
                    why: Why::SessionLost,
                    ..
                },
                Happened::Granted { .. }
            ]
        ),
        "{happened:?}"
    );
    assert_eq!(world.owner(), Some(2));
}

#[test]
fn a_lock_waits_for_the_end_of_a_use_by_another_node_but_not_of_one_s_own() {
    let mut world = World::new();
    world.user = Some(3);
    let second = world.ask(at(0), 2, LONG);
    assert_eq!(
        world.settle(at(0)),
        [Happened::Waits {
            waiter: second,
            place: 0
        }]
    );
    // Who has the device need not wait for itself behind whom it keeps waiting.
    world.ask(at(1), 3, LONG);
    world.settle(at(1));
    assert_eq!(world.owner(), Some(3));
    world.table.end(at(2), &id(), Why::Released);
    assert_eq!(world.settle(at(2)), []);
    world.user = None;
    world.settle(at(3));
    assert_eq!(world.owner(), Some(2));
}

#[test]
fn a_request_waits_as_long_as_it_wants_and_not_at_all_when_it_does_not() {
    let mut world = World::new();
    world.lock(at(0), 1);
    let hurried = world.ask(at(1), 2, Duration::ZERO);
    let patient = world.ask(at(1), 3, Duration::from_secs(5));
    // It is served if it can be, even by a settling that comes late.
    let waits = |waiter, place| Happened::Waits { waiter, place };
    assert_eq!(world.settle(at(1)), [waits(hurried, 0), waits(patient, 1)]);
    let in_vain = |waiter| Happened::InVain {
        device: id(),
        waiter,
    };
    assert_eq!(world.settle(at(1)), [in_vain(hurried), waits(patient, 0)]);
    assert_eq!(world.table.next_timeout(), Some(at(6)));
    assert_eq!(world.settle(at(6)), [in_vain(patient)]);
}

#[test]
fn who_goes_away_or_gives_up_waits_no_longer() {
    let mut world = World::new();
    world.lock(at(0), 1);
    let second = world.ask(at(1), 2, LONG);
    world.ask(at(1), 3, LONG);
    let fourth = world.ask(at(1), 4, LONG);
    world.settle(at(1));
    assert!(world.table.withdraw(second));
    assert!(!world.table.withdraw(second));
    world.table.session_over(at(2), SessionKey(3));
    assert_eq!(
        world.settle(at(2)),
        [Happened::Waits {
            waiter: fourth,
            place: 0
        }]
    );
}

#[test]
fn the_queue_and_what_one_node_has_are_bounded() {
    let mut world = World::new();
    world.lock(at(0), 255);
    for n in 0..u8::try_from(MAX_QUEUE).unwrap() {
        world.ask(at(0), n, LONG);
    }
    let table = &mut world.table;
    let more = table.ask(at(0), &id(), claimant(200), TTL, LONG);
    assert_eq!(more, Err(Full::Queue));
    let mut got = 0;
    for n in 0..=MAX_PER_NODE {
        let device = format!("echo:{n}").parse().unwrap();
        let asked = table.ask(at(0), &device, claimant(201), TTL, LONG);
        got += usize::from(asked.is_ok());
    }
    assert_eq!(got, MAX_PER_NODE);
}

#[test]
fn fences_grow_over_a_restart_and_none_is_given_before_it_is_reserved() {
    let mut world = World::new();
    let before = world.lock(at(0), 1).fence;
    let stored = world.table.reserved();
    assert!(before < stored);
    world.table = LockTable::new(stored);
    world.ask(at(0), 1, LONG);
    world.settle(at(0));
    assert_eq!(world.owner(), None, "nothing is reserved");
    world.table.reserve(stored + 1);
    world.settle(at(0));
    let lock = world.table.holder(&id()).unwrap().clone();
    assert!(lock.fence > before);
    assert_eq!(world.table.fences_left(), 0);
}

#[test]
fn who_gave_its_lock_back_has_not_lost_it() {
    let mut world = World::new();
    for (why, lost) in [(Why::Released, false), (Why::Broken, true)] {
        world.lock(at(0), 1);
        world.table.end(at(1), &id(), why);
        assert_eq!(world.table.has_lost(&id(), &[1; 16], at(2)), lost);
    }
    assert!(!world.table.has_lost(&id(), &[2; 16], at(2)));
    world.lock(at(3), 1);
    assert!(!world.table.has_lost(&id(), &[1; 16], at(3)));
    world.table.end(at(4), &id(), Why::Broken);
    let much_later = at(4).after(MEMORY);
    assert!(!world.table.has_lost(&id(), &[1; 16], much_later));
    world.settle(much_later);
    assert!(world.table.slots.is_empty(), "nothing is kept for ever");
}
