//! Both halves of a serial port: a program's calls at one end, a port without hardware at the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::chardev::Answer;
use myclerk::bus::fake::{OPENING, pair};
use myclerk::bus::serial::client::pump::{Pump, Steering};
use myclerk::bus::serial::fake::{Act, Fake};
use myclerk::bus::serial::op::{Lines, Mode, OpenRequest, Settings};
use myclerk::bus::serial::server;
use myclerk::bus::{End, Ended, Grant, Handle as _, Inbound, Present};
use myclerk::kernel::cuse::Body;
use myclerk::wire::opcode::Opcode;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::rig::{Kernel, TCGETS2, TCSETS2, TIOCMBIC, TIOCMBIS, TIOCMGET, Termios, data, opened};

/// Longer than any test takes.
const TOO_LONG: Duration = Duration::from_secs(60);

const RAISED: Act = Act::Lines(Some(true), Some(true));
const DROPPED: Act = Act::Lines(Some(false), Some(false));

struct Both {
    fake: Fake,
    kernel: Rc<Kernel>,
    steering: Steering,
    ended: JoinHandle<Ended>,
    serving: JoinHandle<End>,
}

impl Both {
    async fn new() -> Self {
        let fake = Fake::new();
        let (mut mine, theirs) = pair();
        let request = OpenRequest {
            dev: "serial:fake".to_owned(),
            mode: Mode::ReadWrite,
            settings: Settings::default(),
        };
        let grant = Grant {
            corr: OPENING,
            opcode: Opcode::SerialPortOpen,
            payload: request.encode().unwrap(),
            present: Present {
                id: "serial:fake".to_owned(),
                name: "a port".to_owned(),
                place: "fake".to_owned(),
                hazard: None,
                props: BTreeMap::new(),
            },
            write: true,
            quiet: true,
        };
        let host = fake.clone();
        let serving = spawn_local(async move { server::serve(&host, grant, theirs).await });
        let Some(Inbound::Response { payload, .. }) = mine.inbound.recv().await else {
            panic!("the port does not open");
        };
        let actual = Settings::decode(&payload).unwrap();
        let kernel = Kernel::new();
        let device = Rc::clone(&kernel);
        let (pump, steering) = Pump::new(device, mine, actual, "/dev/ttyMC0".into());
        let ended = spawn_local(pump.run(|| ()));
        Self {
            fake,
            kernel,
            steering,
            ended,
            serving,
        }
    }

    async fn open(&self) -> u64 {
        let open = self.kernel.call(Body::Open { flags: 2 });
        opened(open.answer().await)
    }

    async fn open_raw(&self) -> u64 {
        let fh = self.open().await;
        let mut termios = self.termios(fh).await;
        (termios.iflag, termios.oflag, termios.lflag) = (0, 0, 0);
        self.set(fh, &termios).await;
        fh
    }

    async fn termios(&self, fh: u64) -> Termios {
        Termios::set2(&self.kernel.get(fh, TCGETS2, 44).await).unwrap()
    }

    async fn set(&self, fh: u64, termios: &Termios) {
        let bytes = termios.encode2();
        let set = self.kernel.pointed(fh, TCSETS2, &bytes, 0).await;
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
    }

    async fn change(&self, fh: u64, cmd: u32, mask: u32) {
        let mask = mask.to_ne_bytes();
        self.kernel.pointed(fh, cmd, &mask, 0).await.answer().await;
    }

    /// Waits until that was done to the port, after the first `skip` acts.
    async fn done(&self, skip: usize, act: Act) {
        until(|| self.fake.acts().iter().skip(skip).any(|done| *done == act)).await;
    }
}

async fn until(come: impl Fn() -> bool) {
    while !come() {
        sleep(Duration::from_millis(1)).await;
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(TOO_LONG, test).await.expect("the test ends");
    });
}

#[test]
fn what_a_program_writes_comes_back_through_a_loop() {
    run(async {
        let both = Both::new().await;
        both.fake.loop_back();
        let fh = both.open_raw().await;
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let write = both.kernel.write(fh, &bytes);
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let Answer::Data(more) = both.kernel.read(fh, 4096).answer().await else {
                panic!("the tty does not read");
            };
            got.extend(more);
        }
        assert_eq!(got, bytes);
        assert_eq!(write.answer().await, Answer::Written(bytes.len()));
    });
}

#[test]
fn a_program_that_does_not_read_stops_the_far_end_without_loss() {
    run(async {
        let both = Both::new().await;
        let fh = both.open_raw().await;
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
        let mut sent = 0;
        // So long as somewhere on the way there is room.
        let mut idle = 0;
        while idle < 100 {
            let now = both.fake.receive(&bytes[sent..]);
            sent += now;
            idle = if now == 0 { idle + 1 } else { 0 };
            sleep(Duration::from_millis(1)).await;
        }
        assert!(sent < bytes.len(), "nobody stopped it");
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            sent += both.fake.receive(&bytes[sent..]);
            let Answer::Data(more) = both.kernel.read(fh, 4096).answer().await else {
                panic!("the tty does not read");
            };
            got.extend(more);
        }
        assert!(got == bytes, "the bytes are others");
    });
}

#[test]
fn a_drain_ends_when_the_last_byte_has_left_the_port() {
    run(async {
        let both = Both::new().await;
        let fh = both.open_raw().await;
        both.fake.hold();
        both.kernel.write(fh, b"slowly").answer().await;
        let drain = both.kernel.control(fh, 0x5409, 1);
        until(|| both.fake.unsent() == 6).await;
        both.fake.take(5);
        // Requests behind it are answered.
        both.kernel
            .pointed(fh, TIOCMGET, &[], 4)
            .await
            .answer()
            .await;
        assert!(!drain.is_answered());
        both.fake.let_go();
        assert_eq!(drain.answer().await, Answer::Done(Vec::new()));
        assert_eq!(both.fake.sent(), b"slowly");
    });
}

#[test]
fn the_lines_follow_the_first_open_and_the_last_close() {
    run(async {
        let both = Both::new().await;
        let before = both.fake.acts().len();
        let fh = both.open_raw().await;
        both.done(before, RAISED).await;
        both.fake.hold();
        both.kernel.write(fh, b"bye").answer().await;
        both.kernel.release(fh);
        until(|| both.fake.unsent() == 3).await;
        assert!(!both.fake.acts()[before..].contains(&DROPPED));
        both.fake.let_go();
        both.done(before, DROPPED).await;
        assert_eq!(both.fake.sent(), b"bye");
    });
}

#[test]
fn settings_and_lines_reach_the_port_and_come_back() {
    run(async {
        let both = Both::new().await;
        let fh = both.open_raw().await;
        let mut termios = both.termios(fh).await;
        termios.actual_speed(3_000_000);
        both.set(fh, &termios).await;
        assert_eq!(both.termios(fh).await, termios);
        let speeds: Vec<u32> = (both.fake.acts().iter())
            .filter_map(|act| match act {
                Act::Configure(settings) => Some(settings.baud),
                _ => None,
            })
            .collect();
        assert_eq!(speeds.last(), Some(&3_000_000));
        let before = both.fake.acts().len();
        both.change(fh, TIOCMBIC, 2).await;
        both.change(fh, TIOCMBIS, 4).await;
        both.done(before, Act::Lines(Some(false), Some(true))).await;
        let wait = both.kernel.control(fh, 0x545C, 0x20);
        both.kernel.number(fh, TIOCMGET).await;
        both.fake.set_inputs(Lines {
            cts: true,
            ..Lines::default()
        });
        assert_eq!(wait.answer().await, Answer::Done(Vec::new()));
        assert_eq!(both.kernel.number(fh, TIOCMGET).await, 0x24, "RTS and CTS");
    });
}

#[test]
fn a_pattern_runs_next_to_the_port() {
    run(async {
        let both = Both::new().await;
        let before = both.fake.acts().len();
        let steps = "-dtr rts 2ms, dtr -rts 1ms, -dtr";
        let parameters = [("steps".to_owned(), steps.to_owned())].into();
        let report = both.steering.operate("pulse".to_owned(), parameters).await;
        assert_eq!(report.unwrap()["dtr"], false);
        let lines: Vec<Act> = (both.fake.acts().into_iter().skip(before))
            .filter(|act| matches!(act, Act::Lines(..)))
            .collect();
        let expected = [
            Act::Lines(Some(false), Some(true)),
            Act::Lines(Some(true), Some(false)),
            Act::Lines(Some(false), None),
        ];
        assert_eq!(lines, expected);
    });
}

#[test]
fn an_unplugged_port_hangs_up() {
    run(async {
        let both = Both::new().await;
        let fh = both.open_raw().await;
        let read = both.kernel.read(fh, 9);
        both.fake.unplug();
        assert_eq!(read.answer().await, data(b""));
        both.kernel.release(fh);
        assert!(matches!(both.ended.await.unwrap(), Ended::Owner(_)));
        assert_eq!(both.serving.await.unwrap(), End::DeviceGone);
    });
}

#[test]
fn a_port_given_back_is_what_it_was_before() {
    run(async {
        let both = Both::new().await;
        let fh = both.open_raw().await;
        both.steering.detach();
        assert_eq!(both.serving.await.unwrap(), End::Detached);
        assert!(both.fake.acts().contains(&Act::Release));
        assert!(!both.fake.is_open());
        assert_eq!(both.kernel.read(fh, 9).answer().await, data(b""));
        both.kernel.release(fh);
        assert_eq!(both.ended.await.unwrap(), Ended::Detached);
    });
}
