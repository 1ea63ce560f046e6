//! The client half of GPIO against an owner that is played, with a chip that is none of the kernel's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "gpio_client/outage.rs"]
mod outage;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::fake::{FakeSession, OPENING, Opened};
use myclerk::bus::gpio::client::{Change, LineChange, LineUse, Sim, attach_with};
use myclerk::bus::gpio::op::{
    Bias, ChipEntry, ChipList, Direction, Drive, Edge, EdgeEvent, LineInfo, LineInfoRequest,
    LineRequest, LineRequested, LineValues, SetLines, encode_empty,
};
use myclerk::bus::{Ended, Inbound, Local, Outlet, Refused, Wish};
use myclerk::kernel::gpio_sim::Plan;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use tokio::sync::mpsc::{self, Sender};
use tokio::task::{LocalSet, spawn_local, yield_now};

const CHIP: &str = "gpio:bench";

/// What the owner was asked to do.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Request(LineRequest),
    Set(u32, bool),
    Release(u32),
}

/// The owner's chip.
#[derive(Default)]
struct Owner {
    lines: Vec<LineInfo>,
    /// Levels of inputs, as they are told in answers: logical.
    levels: RefCell<BTreeMap<u32, bool>>,
    /// Lines whose requests are refused with `busy`.
    busy: RefCell<Vec<u32>>,
    /// Another chip is there now.
    replaced: Cell<bool>,
    /// It does not answer in time.
    silent: Cell<bool>,
    /// Lines that cannot be watched.
    deaf: RefCell<Vec<u32>>,
    told: RefCell<Vec<Told>>,
    streams: RefCell<BTreeMap<u32, Rc<dyn Outlet>>>,
}

impl Owner {
    fn call(&self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        match opcode {
            Opcode::GpioChipList => {
                let lines = u32::try_from(self.lines.len()).unwrap();
                let chip = ChipEntry {
                    dev: CHIP.to_owned(),
                    label: "bench".to_owned(),
                    lines,
                };
                ChipList { chips: vec![chip] }.encode().unwrap()
            }
            Opcode::GpioLineInfo => {
                let asked = LineInfoRequest::decode(payload).unwrap();
                let mut info = self.lines[asked.line as usize].clone();
                if self.replaced.get() {
                    info.name.push('2');
                }
                info.encode().unwrap()
            }
            other => panic!("{other} on stream 0"),
        }
    }

    fn answer(&self, request: &LineRequest) -> Result<LineRequested, Refused> {
        let line = request.lines[0];
        if self.busy.borrow().contains(&line) {
            let status = Status::ServiceUnavailable;
            return Err(Refused::new(status, sub::BUSY, "in use"));
        }
        if request.edge != Edge::None && self.deaf.borrow().contains(&line) {
            return Err(Refused::io("request", nix::errno::Errno::ENXIO));
        }
        let level = self.levels.borrow().get(&line).copied().unwrap_or(false);
        Ok(LineRequested {
            val: u64::from(level),
        })
    }

    async fn serve(self: Rc<Self>, opened: Opened) {
        assert_eq!(opened.opcode, Opcode::GpioLineRequest);
        let request = LineRequest::decode(&opened.payload).unwrap();
        let line = request.lines[0];
        let mut stream = opened.stream;
        let outlet = Rc::clone(&stream.outlet);
        let answer = self.answer(&request);
        self.told.borrow_mut().push(Told::Request(request));
        match answer {
            Ok(requested) => outlet.respond(OPENING, Status::Ok, requested.encode().unwrap()),
            Err(refused) => return outlet.respond(OPENING, refused.status, refused.payload()),
        }
        self.streams.borrow_mut().insert(line, Rc::clone(&outlet));
        while let Some(inbound) = stream.inbound.recv().await {
            let Inbound::Request {
                corr,
                opcode,
                payload,
                ..
            } = inbound
            else {
                continue;
            };
            if opcode == Opcode::GpioLineRelease {
                self.told.borrow_mut().push(Told::Release(line));
                return outlet.respond(corr, Status::Ok, encode_empty());
            }
            assert_eq!(opcode, Opcode::GpioLineSet);
            let set = SetLines::decode(&payload, 1).unwrap();
            self.told.borrow_mut().push(Told::Set(line, set.bits == 1));
            let mut answer = Vec::new();
            LineValues { bits: set.bits }.encode(&mut answer);
            outlet.respond(corr, Status::Ok, answer);
        }
    }

    fn edge(&self, line: u32, rising: bool) {
        let event = EdgeEvent {
            index: 0,
            rising,
            time_ns: 0,
            seq: 0,
            lost: 0,
        };
        let mut payload = Vec::new();
        event.encode(&mut payload);
        self.streams.borrow()[&line].event(Opcode::GpioEvent, payload);
    }

    fn requests(&self) -> Vec<u32> {
        let told = self.told.borrow();
        let lines = told.iter().filter_map(|told| match told {
            Told::Request(request) => Some(request.lines[0]),
            Told::Set(..) | Told::Release(_) => None,
        });
        lines.collect()
    }
}

/// The local chip.
#[derive(Default)]
struct FakeSim {
    pulls: RefCell<Vec<(u32, bool)>>,
    high: Cell<bool>,
    removed: Cell<bool>,
}

impl Sim for FakeSim {
    fn files(&self) -> Vec<String> {
        vec!["/dev/gpiochip9".to_owned(), "bench".to_owned()]
    }

    fn set_pull(&self, line: u32, high: bool) -> io::Result<()> {
        self.pulls.borrow_mut().push((line, high));
        Ok(())
    }

    fn value(&self, _: u32) -> io::Result<bool> {
        Ok(self.high.get())
    }

    fn remove(&self) -> Pin<Box<dyn Future<Output = io::Result<()>>>> {
        self.removed.set(true);
        Box::pin(async { Ok(()) })
    }
}

/// An attached chip and all that surrounds it.
struct Bench {
    owner: Rc<Owner>,
    session: Rc<FakeSession>,
    sim: Rc<FakeSim>,
    changes: Sender<Vec<LineChange>>,
    plan: Plan,
    local: Local,
}

impl Bench {
    async fn new(owner: Owner, options: &[(&str, &str)]) -> Self {
        Self::for_grace(Duration::ZERO, owner, options).await
    }

    /// With an owner that is waited for.
    async fn for_grace(grace: Duration, owner: Owner, options: &[(&str, &str)]) -> Self {
        let owner = Rc::new(owner);
        let (serving, called) = (Rc::clone(&owner), Rc::clone(&owner));
        let session = FakeSession::new(
            move |opened| drop(spawn_local(Rc::clone(&serving).serve(opened))),
            move |opcode, payload| {
                let silent = called.silent.get().then(Refused::cancelled);
                silent.map_or_else(|| Ok(called.call(opcode, payload)), Err)
            },
        );
        let mut wish = Wish {
            device: CHIP.to_owned(),
            node: "hub".to_owned(),
            grace,
            ..Wish::default()
        };
        for (name, value) in options {
            wish.options
                .entry((*name).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        let sim = Rc::new(FakeSim::default());
        let (changes, receiver) = mpsc::channel(16);
        let made = RefCell::new(Plan::default());
        let local = attach_with(session.clone(), wish, async |plan, _| {
            made.replace(plan);
            let sim: Rc<dyn Sim> = sim.clone();
            Ok((sim, receiver))
        })
        .await
        .unwrap();
        settle().await;
        let plan = made.into_inner();
        Self {
            owner,
            session,
            sim,
            changes,
            plan,
            local,
        }
    }

    /// As the kernel tells it, all at once.
    async fn happens(&self, line: u32, changes: &[Change]) {
        let batch = changes.iter().map(|change| (line, *change)).collect();
        self.changes.send(batch).await.unwrap();
        settle().await;
    }

    fn told(&self) -> Vec<Told> {
        self.owner.told.take()
    }

    fn pulls(&self) -> Vec<(u32, bool)> {
        self.sim.pulls.take()
    }
}

/// Lets every task run as far as it gets without time passing.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

fn lines(count: usize) -> Owner {
    Owner {
        lines: vec![LineInfo::default(); count],
        ..Owner::default()
    }
}

fn on_this_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

const OUTPUT: LineUse = LineUse {
    dir: Direction::Output,
    bias: Bias::AsIs,
    drive: Drive::PushPull,
    low: false,
    edge: Edge::None,
    debounce_us: 0,
};
const GRACE: Duration = Duration::from_secs(60);
const OUT: Change = Change::Direction { input: false };

fn request(line: u32) -> LineRequest {
    LineRequest {
        dev: CHIP.to_owned(),
        lines: vec![line],
        ..LineRequest::default()
    }
}

#[test]
fn the_local_chip_has_the_owners_names_and_its_used_lines() {
    on_this_thread(async {
        let mut owner = lines(3);
        owner.lines[0].name = "LED".to_owned();
        owner.lines[2].used = true;
        let bench = Bench::new(owner, &[]).await;
        assert_eq!((bench.plan.label.as_str(), bench.plan.lines), ("bench", 3));
        assert_eq!(bench.plan.names, BTreeMap::from([(0, "LED".to_owned())]));
        assert_eq!(
            bench.plan.taken,
            BTreeMap::from([(2, "used at hub".to_owned())])
        );
        assert_eq!(
            bench.owner.requests(),
            [0, 1],
            "only what nobody uses is followed"
        );
        assert_eq!(bench.local.handle.files(), ["/dev/gpiochip9", "bench"]);
    });
}

#[test]
fn an_output_is_requested_with_its_first_level_and_every_pulse_follows() {
    on_this_thread(async {
        let bench = Bench::new(lines(4), &[("follow", "none")]).await;
        let used = Change::Used(Some(OUTPUT));
        bench
            .happens(
                3,
                &[
                    Change::Set(true),
                    OUT,
                    used,
                    Change::Set(false),
                    Change::Set(true),
                ],
            )
            .await;
        bench
            .happens(
                3,
                &[Change::Set(true), Change::Set(false), Change::Used(None)],
            )
            .await;
        let wanted = LineRequest {
            dir: Direction::Output,
            val: 1,
            safe: vec![None],
            ..request(3)
        };
        assert_eq!(
            bench.told(),
            [
                Told::Request(wanted),
                Told::Set(3, false),
                Told::Set(3, true),
                Told::Set(3, false),
                Told::Release(3),
            ]
        );
    });
}

#[test]
fn active_low_bias_drive_and_the_safe_level_reach_the_owner() {
    on_this_thread(async {
        let options = [("follow", "none"), ("safe", "1:1")];
        let bench = Bench::new(lines(4), &options).await;
        let used = LineUse {
            bias: Bias::PullUp,
            drive: Drive::OpenDrain,
            low: true,
            ..OUTPUT
        };
        bench
            .happens(
                1,
                &[
                    Change::Set(false),
                    OUT,
                    Change::Used(Some(used)),
                    Change::Set(true),
                ],
            )
            .await;
        let wanted = LineRequest {
            dir: Direction::Output,
            val: 1,
            bias: Bias::PullUp,
            drive: Drive::OpenDrain,
            low: true,
            safe: vec![Some(false)],
            ..request(1)
        };
        assert_eq!(bench.told(), [Told::Request(wanted), Told::Set(1, false)]);
    });
}

#[test]
fn a_followed_input_has_the_owners_level_before_anybody_asks() {
    on_this_thread(async {
        let owner = lines(1);
        owner.levels.borrow_mut().insert(0, true);
        let bench = Bench::new(owner, &[]).await;
        assert_eq!(bench.pulls(), [(0, true)]);
        bench.owner.edge(0, false);
        settle().await;
        assert_eq!(bench.pulls(), [(0, false)]);
        bench.told();
        let used = LineUse {
            edge: Edge::Both,
            ..LineUse::default()
        };
        bench
            .happens(0, &[Change::Used(Some(used)), Change::Used(None)])
            .await;
        assert_eq!(bench.told(), [], "it is held already");
        assert_eq!(bench.pulls(), [(0, false)]);
    });
}

#[test]
fn an_input_that_is_to_be_another_way_is_requested_anew() {
    on_this_thread(async {
        let owner = lines(1);
        owner.levels.borrow_mut().insert(0, true);
        let bench = Bench::new(owner, &[]).await;
        bench.told();
        bench.pulls();
        let used = LineUse {
            bias: Bias::PullDown,
            low: true,
            debounce_us: 500,
            ..LineUse::default()
        };
        bench.happens(0, &[Change::Used(Some(used))]).await;
        let wanted = LineRequest {
            bias: Bias::PullDown,
            low: true,
            edge: Edge::Both,
            debounce_us: 500,
            ..request(0)
        };
        assert_eq!(bench.told(), [Told::Release(0), Told::Request(wanted)]);
        bench.owner.edge(0, false);
        settle().await;
        assert_eq!(bench.pulls(), [(0, false), (0, true)], "active is low");
    });
}

async fn edge_by_edge(edge: Edge) {
    let bench = Bench::new(lines(1), &[]).await;
    let used = LineUse {
        edge,
        ..LineUse::default()
    };
    bench.happens(0, &[Change::Used(Some(used))]).await;
    bench.pulls();
    for rising in [true, false, true] {
        bench.owner.edge(0, rising);
    }
    settle().await;
    assert_eq!(bench.pulls(), [(0, true)]);
    bench.happens(0, &[Change::Read]).await;
    assert_eq!(bench.pulls(), [(0, false)]);
    // One that is never read holds up nothing for ever.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(bench.pulls(), [(0, true)]);
}

#[test]
fn edge_detection_sees_each_edge_before_the_next() {
    on_this_thread(edge_by_edge(Edge::Both));
}

#[test]
fn edge_detection_that_the_kernel_does_not_tell_of_sees_each_edge_too() {
    on_this_thread(edge_by_edge(Edge::None));
}

#[test]
fn nobody_looks_at_a_line_that_is_only_followed() {
    on_this_thread(async {
        let bench = Bench::new(lines(1), &[]).await;
        bench.pulls();
        for rising in [true, false, true] {
            bench.owner.edge(0, rising);
        }
        settle().await;
        assert_eq!(bench.pulls(), [(0, true), (0, false), (0, true)]);
    });
}

#[test]
fn a_refused_line_leaves_the_others_alone() {
    on_this_thread(async {
        let owner = lines(2);
        owner.busy.borrow_mut().push(0);
        let bench = Bench::new(owner, &[("follow", "none")]).await;
        let used = Change::Used(Some(OUTPUT));
        bench
            .happens(0, &[Change::Set(true), OUT, used, Change::Set(false)])
            .await;
        bench
            .happens(1, &[Change::Set(false), OUT, used, Change::Set(true)])
            .await;
        assert_eq!(bench.owner.requests(), [0, 1]);
        assert_eq!(bench.told().last(), Some(&Told::Set(1, true)));
        assert!(!bench.sim.removed.get());
    });
}

#[test]
fn a_line_that_cannot_be_watched_is_read_once() {
    on_this_thread(async {
        let owner = lines(1);
        owner.deaf.borrow_mut().push(0);
        owner.levels.borrow_mut().insert(0, true);
        let bench = Bench::new(owner, &[]).await;
        let wanted = LineRequest {
            edge: Edge::Both,
            ..request(0)
        };
        assert_eq!(
            bench.told(),
            [Told::Request(wanted), Told::Request(request(0))]
        );
        assert_eq!(bench.pulls(), [(0, true)]);
    });
}

#[test]
fn detaching_gives_the_lines_back_and_removes_the_chip() {
    on_this_thread(async {
        let bench = Bench::new(lines(2), &[("follow", "1")]).await;
        bench
            .happens(0, &[Change::Set(true), OUT, Change::Used(Some(OUTPUT))])
            .await;
        bench.told();
        bench.local.handle.detach();
        assert_eq!(bench.local.ended.await, Ended::Detached);
        let mut told = bench.owner.told.take();
        told.sort_by_key(|told| matches!(told, Told::Release(1)));
        assert_eq!(told, [Told::Release(0), Told::Release(1)]);
        assert!(bench.sim.removed.get());
    });
}

#[test]
fn the_end_of_the_session_removes_the_chip() {
    on_this_thread(async {
        let bench = Bench::new(lines(2), &[]).await;
        bench.session.cut();
        assert_eq!(bench.local.ended.await, Ended::Session);
        assert!(bench.sim.removed.get());
    });
}

#[test]
fn a_chip_that_its_owner_takes_back_is_removed() {
    on_this_thread(async {
        let bench = Bench::for_grace(GRACE, lines(1), &[]).await;
        bench.owner.streams.borrow()[&0].reset(Status::Forbidden);
        assert_eq!(bench.local.ended.await, Ended::Owner(Status::Forbidden));
        assert!(bench.sim.removed.get());
    });
}

#[test]
fn a_chip_of_this_machine_that_disappears_ends_its_use() {
    on_this_thread(async {
        let bench = Bench::new(lines(1), &[]).await;
        drop(bench.changes);
        assert!(matches!(bench.local.ended.await, Ended::Failed(_)));
        assert_eq!(bench.owner.told.take().last(), Some(&Told::Release(0)));
    });
}
