use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::chardev::Answer;
use myclerk::bus::fake::{FakeSession, OPENING, Opened};
use myclerk::bus::serial::client::outage::Outage;
use myclerk::bus::serial::op::{Change, ControlSet, Lines, OpenRequest, Settings};
use myclerk::bus::{Ended, Handle as _, Opener, Parameters};
use myclerk::kernel::cuse::Body;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::rig::{Bench, Owner, TCSETS2, TIOCMBIC, TIOCMBIS, TIOCMGET, data, failed, run, settle};

const DTR: u32 = 2;
const TCSBRK: u32 = 0x5409;

/// A tty whose owner can be reached again.
struct Rig {
    bench: Bench,
    session: Rc<FakeSession>,
    opened: mpsc::UnboundedReceiver<Opened>,
}

impl Rig {
    async fn new() -> Self {
        let (to_test, mut opened) = mpsc::unbounded_channel();
        let serve = move |opened| to_test.send(opened).unwrap_or_default();
        let session = FakeSession::new(serve, |_, _| Ok(Vec::new()));
        let outage = Outage {
            opener: Rc::<FakeSession>::clone(&session),
            device: "serial:x".to_owned(),
            grace: Duration::from_secs(60),
        };
        let settings = Settings {
            baud: 9600,
            ..Settings::default()
        };
        let opening = Opener::open(
            &*session,
            Opcode::SerialPortOpen,
            Vec::new(),
            Duration::ZERO,
        );
        let answering = async {
            let opened = opened.recv().await.expect("an open");
            opened
                .stream
                .outlet
                .respond(OPENING, Status::Ok, Vec::new());
            opened.stream
        };
        let (mine, theirs) = tokio::join!(opening, answering);
        let (_, mine) = mine.expect("a stream");
        let bench = Bench::on(mine, theirs, settings, Some(outage)).await;
        Self {
            bench,
            session,
            opened,
        }
    }

    /// The session is lost.
    async fn cut(&mut self) {
        self.session.cut();
        settle().await;
        assert!(!self.bench.steering.is_live());
    }

    /// There is another one; what the port was opened with.
    async fn mend(&mut self) -> Settings {
        self.session.mend();
        let opened = self.opened.recv().await.expect("an open");
        let request = OpenRequest::decode(&opened.payload).unwrap();
        let owner = Owner(opened.stream);
        owner
            .0
            .outlet
            .respond(OPENING, Status::Ok, request.settings.encode().unwrap());
        self.bench.owner = owner;
        settle().await;
        assert!(self.bench.steering.is_live());
        request.settings
    }

    /// How the lines were restored.
    async fn restored(&mut self) -> ControlSet {
        let set = self.bench.owner.lines_set().await;
        let (corr, _) = self.bench.owner.request(Opcode::SerialControlGet).await;
        self.bench
            .owner
            .respond(corr, Lines::default().encode().unwrap());
        set
    }
}

#[test]
fn a_tty_outlives_an_outage_with_its_settings_and_lines() {
    run(async {
        let mut rig = Rig::new().await;
        let fh = rig.bench.open_raw(1, 0).await;
        rig.bench
            .kernel
            .pointed(fh, TIOCMBIC, &DTR.to_ne_bytes(), 0)
            .await;
        rig.bench.owner.lines_set().await;
        rig.cut().await;
        let read = rig.bench.kernel.read(fh, 9);
        let write = rig.bench.kernel.write(fh, b"held");
        settle().await;
        assert!(!read.is_answered() && !write.is_answered());
        let now = rig.bench.kernel.write_now(fh, b"x").answer().await;
        assert_eq!(now, failed(Errno::EAGAIN));
        let settings = rig.mend().await;
        assert_eq!(settings.baud, 9600);
        let lines = rig.restored().await;
        assert_eq!((lines.dtr, lines.rts), (Some(false), Some(true)));
        assert_eq!(rig.bench.owner.data().await, b"held");
        assert_eq!(write.answer().await, Answer::Written(4));
        rig.bench.owner.send(b"back");
        assert_eq!(read.answer().await, data(b"back"));
        assert!(!rig.bench.left.get());
    });
}

#[test]
fn what_programs_set_during_an_outage_is_set_when_the_owner_is_back() {
    run(async {
        let mut rig = Rig::new().await;
        let fh = rig.bench.open_raw(1, 0).await;
        rig.cut().await;
        let mut termios = rig.bench.termios(fh).await;
        termios.actual_speed(57_600);
        let bytes = termios.encode2();
        let set = rig.bench.kernel.pointed(fh, TCSETS2, &bytes, 0).await;
        for cmd in [TIOCMBIC, TIOCMBIS, TIOCMBIC] {
            rig.bench
                .kernel
                .pointed(fh, cmd, &DTR.to_ne_bytes(), 0)
                .await;
        }
        settle().await;
        assert!(!set.is_answered());
        let settings = rig.mend().await;
        assert_eq!(settings.baud, 9600, "as it was when the session was lost");
        let lines = rig.restored().await;
        assert_eq!((lines.dtr, lines.rts), (Some(false), Some(true)));
        let (corr, payload) = rig.bench.owner.request(Opcode::SerialPortConfigure).await;
        assert_eq!(Change::decode(&payload).unwrap().baud, Some(57_600));
        let settings = Settings {
            baud: 57_600,
            ..settings
        };
        rig.bench.owner.respond(corr, settings.encode().unwrap());
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
    });
}

#[test]
fn what_may_have_happened_already_is_not_asked_for_again() {
    run(async {
        let mut rig = Rig::new().await;
        let fh = rig.bench.open_raw(1, 0).await;
        let drain = rig.bench.kernel.control(fh, TCSBRK, 1);
        let lines = rig.bench.kernel.pointed(fh, TIOCMGET, &[], 4).await;
        settle().await;
        rig.cut().await;
        assert_eq!(
            drain.answer().await,
            failed(Errno::EIO),
            "bytes may be lost"
        );
        assert!(!lines.is_answered());
        let pulse = rig.bench.steering.operate("pulse".to_owned(), pulse());
        assert!(pulse.await.is_err());
        rig.mend().await;
        rig.restored().await;
        let (corr, _) = rig.bench.owner.request(Opcode::SerialControlGet).await;
        rig.bench
            .owner
            .respond(corr, Lines::default().encode().unwrap());
        assert!(matches!(lines.answer().await, Answer::Done(_)));
    });
}

fn pulse() -> Parameters {
    Parameters::from([("steps".to_owned(), "dtr".to_owned())])
}

#[test]
fn what_came_before_an_outage_is_read_and_gives_no_credit_twice() {
    run(async {
        let mut rig = Rig::new().await;
        let fh = rig.bench.open_raw(1, 0).await;
        rig.bench.owner.send(&vec![7; 50_000]);
        settle().await;
        rig.cut().await;
        rig.mend().await;
        rig.restored().await;
        let mut got = 0;
        while got < 50_000 {
            match rig.bench.kernel.read(fh, 4096).answer().await {
                Answer::Data(bytes) => got += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
        settle().await;
        assert!(
            rig.bench
                .owner
                .0
                .outlet
                .writable(myclerk::bus::fake::WINDOW)
        );
        assert!(
            !rig.bench
                .owner
                .0
                .outlet
                .writable(myclerk::bus::fake::WINDOW + 1)
        );
    });
}

#[test]
fn a_tty_hangs_up_when_the_outage_lasts() {
    run(async {
        let mut rig = Rig::new().await;
        let fh = rig.bench.open_raw(1, 0).await;
        let read = rig.bench.kernel.read(fh, 9);
        let began = Instant::now();
        rig.cut().await;
        assert_eq!(read.answer().await, data(b""));
        assert_eq!(began.elapsed().as_secs(), 60);
        rig.bench.kernel.release(fh);
        assert_eq!(rig.bench.ended.await.unwrap(), Ended::Session);
    });
}

#[test]
fn a_tty_can_be_given_back_and_closed_during_an_outage() {
    run(async {
        let mut rig = Rig::new().await;
        let fh = rig.bench.open_raw(1, 0).await;
        rig.cut().await;
        rig.bench.kernel.release(fh);
        let open = rig.bench.kernel.call(Body::Open { flags: 2 });
        let again = crate::rig::opened(open.answer().await);
        rig.bench.kernel.release(again);
        rig.bench.steering.detach();
        assert_eq!(rig.bench.ended.await.unwrap(), Ended::Detached);
    });
}

#[test]
fn a_last_close_at_the_moment_of_the_loss_lets_the_next_program_in() {
    for _ in 0..32 {
        run(async {
            let mut rig = Rig::new().await;
            let fh = rig.bench.open_raw(1, 0).await;
            rig.bench.kernel.release(fh);
            rig.cut().await;
            rig.mend().await;
            let open = rig.bench.kernel.call(Body::Open { flags: 2 });
            let answer = tokio::time::timeout(Duration::from_secs(50), open.answer());
            crate::rig::opened(answer.await.expect("the tty can be opened"));
        });
    }
}
