//! The session is lost, and comes back or does not.

use std::collections::BTreeMap;
use std::time::Duration;

use myclerk::bus::Ended;
use myclerk::bus::gpio::client::{Change, LineUse};
use myclerk::bus::gpio::op::{Bias, Direction, Edge, LineRequest};
use tokio::time::{sleep, timeout};

use crate::{Bench, GRACE, OUT, OUTPUT, Told, lines, on_this_thread, request, settle};

impl Bench {
    async fn cut(&self) {
        assert!(self.local.handle.is_live());
        self.session.cut();
        settle().await;
        assert!(!self.local.handle.is_live());
        assert!(!self.sim.removed.get());
        self.told();
        self.pulls();
    }

    async fn mend(&self) {
        self.session.mend();
        settle().await;
        assert!(self.local.handle.is_live());
    }
}

/// What an output that is used as [`OUTPUT`] is requested with.
fn output(line: u32, high: bool) -> LineRequest {
    LineRequest {
        dir: Direction::Output,
        val: u64::from(high),
        safe: vec![None],
        ..request(line)
    }
}

fn followed(line: u32) -> LineRequest {
    LineRequest {
        edge: Edge::Both,
        ..request(line)
    }
}

#[test]
fn lines_are_requested_again_as_they_are_used_by_then() {
    on_this_thread(async {
        let owner = lines(4);
        owner.levels.borrow_mut().insert(2, true);
        let bench = Bench::for_grace(GRACE, owner, &[("follow", "2,3")]).await;
        let used = Change::Used(Some(OUTPUT));
        bench.happens(0, &[Change::Set(true), OUT, used]).await;
        bench.cut().await;

        let pulses = [false, true, false].map(Change::Set);
        bench.happens(0, &pulses).await;
        let gone = [Change::Set(true), OUT, used, Change::Used(None)];
        bench.happens(1, &gone).await;
        let input = Change::Used(Some(LineUse {
            edge: Edge::Both,
            bias: Bias::PullUp,
            ..LineUse::default()
        }));
        bench.happens(3, &[input]).await;
        assert_eq!(bench.told(), []);
        assert_eq!(bench.pulls(), [(3, false)], "it keeps its level");

        *bench.owner.levels.borrow_mut() = BTreeMap::from([(2, false), (3, true)]);
        bench.mend().await;
        let mut told = bench.told();
        told.sort_by_key(|told| match told {
            Told::Request(request) => request.lines[0],
            Told::Set(line, _) | Told::Release(line) => *line,
        });
        let pulled_up = LineRequest {
            bias: Bias::PullUp,
            ..followed(3)
        };
        let requests = [output(0, false), followed(2), pulled_up];
        assert_eq!(told, requests.map(Told::Request));
        let mut pulls = bench.pulls();
        pulls.sort_unstable();
        assert_eq!(pulls, [(2, false), (3, true)]);

        bench.happens(0, &[Change::Set(true)]).await;
        assert_eq!(bench.told(), [Told::Set(0, true)]);
        bench.owner.edge(2, true);
        settle().await;
        assert_eq!(bench.pulls(), [(2, true)]);
        bench.cut().await;
        bench.mend().await;
        assert!(bench.told().contains(&Told::Request(output(0, true))));
    });
}

#[test]
fn an_owner_that_has_not_noticed_yet_is_asked_again() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(2), &[("follow", "1")]).await;
        let used = Change::Used(Some(OUTPUT));
        bench.happens(0, &[Change::Set(true), OUT, used]).await;
        bench.cut().await;
        *bench.owner.busy.borrow_mut() = vec![0, 1];
        bench.mend().await;
        assert_eq!(bench.told().len(), 2);
        bench.happens(0, &[Change::Set(false)]).await;
        assert_eq!(bench.told(), []);
        bench.owner.busy.borrow_mut().clear();
        sleep(Duration::from_secs(2)).await;
        let told = bench.told();
        assert_eq!(told.len(), 2);
        for request in [output(0, false), followed(1)] {
            assert!(told.contains(&Told::Request(request)), "{told:?}");
        }
        // That this one is not given does not end the others.
        bench.cut().await;
        *bench.owner.busy.borrow_mut() = vec![0];
        bench.mend().await;
        sleep(2 * GRACE).await;
        assert!(bench.local.handle.is_live());
    });
}

#[test]
fn a_loss_is_noticed_while_no_line_is_used() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(2), &[("follow", "none")]).await;
        bench.session.cut();
        sleep(Duration::from_secs(6)).await;
        assert!(!bench.local.handle.is_live());
        bench.mend().await;
    });
}

#[test]
fn another_chip_by_the_same_name_is_not_taken_for_the_first() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(2), &[]).await;
        bench.cut().await;
        bench.owner.replaced.set(true);
        bench.session.mend();
        let ended = timeout(GRACE, bench.local.ended).await.unwrap();
        assert!(matches!(&ended, Ended::Failed(why) if why.contains("another chip")));
        assert!(bench.sim.removed.get());
        assert_eq!(bench.owner.told.take(), []);
    });
}

#[test]
fn after_the_grace_time_the_chip_is_removed() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(2), &[]).await;
        bench.cut().await;
        assert_eq!(bench.local.ended.await, Ended::Session);
        assert!(bench.sim.removed.get());
    });
}

#[test]
fn a_chip_that_is_detached_meanwhile_is_gone_at_once() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(2), &[]).await;
        bench.cut().await;
        let began = tokio::time::Instant::now();
        bench.local.handle.detach();
        assert_eq!(bench.local.ended.await, Ended::Detached);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(bench.sim.removed.get());
    });
}

#[test]
fn an_idle_chip_waits_for_an_owner_that_does_not_answer() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(2), &[("follow", "none")]).await;
        bench.owner.silent.set(true);
        sleep(Duration::from_secs(20)).await;
        assert!(!bench.local.handle.is_live());
        assert!(!bench.sim.removed.get());
        bench.owner.silent.set(false);
        sleep(Duration::from_secs(5)).await;
        assert!(bench.local.handle.is_live());
        bench.owner.silent.set(true);
        let began = tokio::time::Instant::now();
        let ended = bench.local.ended.await;
        assert!(
            matches!(ended, Ended::Owner(_) | Ended::Session),
            "{ended:?}"
        );
        assert!(began.elapsed() >= GRACE);
    });
}
