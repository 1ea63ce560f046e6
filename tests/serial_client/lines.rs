use std::time::Duration;

use myclerk::bus::Handle as _;
use myclerk::bus::chardev::Answer;
use myclerk::bus::serial::client::termios::flag;
use myclerk::bus::serial::op::{ControlSet, Edges, Errors, LineChange, LineEvent, Lines};
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;
use tokio::time::advance;

use crate::rig::{
    Bench, DTR_RTS, TIOCMBIC, TIOCMBIS, TIOCMGET, TIOCMSET, data, failed, run, settle,
};

const DTR: u32 = 2;
const RTS: u32 = 4;
const CTS: u32 = 0x20;
const RI: u32 = 0x80;
const DSR: u32 = 0x100;
const TIOCMIWAIT: u32 = 0x545C;
const TIOCGICOUNT: u32 = 0x545D;

async fn change(bench: &Bench, fh: u64, cmd: u32, mask: u32) {
    let set = bench.kernel.pointed(fh, cmd, &mask.to_ne_bytes(), 0).await;
    assert_eq!(set.answer().await, Answer::Done(Vec::new()));
}

fn lines_of(set: &ControlSet) -> (Option<bool>, Option<bool>) {
    (set.dtr, set.rts)
}

#[test]
fn both_lines_change_in_one_request() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        change(&bench, fh, TIOCMSET, DTR).await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(true), Some(false)));
        change(&bench, fh, TIOCMBIC, DTR_RTS).await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(false), Some(false)));
        bench.owner.is_left_alone().await;
    });
}

#[test]
fn one_line_on_and_the_other_off_are_one_request() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        change(&bench, fh, TIOCMBIC, DTR).await;
        change(&bench, fh, TIOCMBIS, RTS).await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(false), Some(true)));
        bench.owner.is_left_alone().await;
    });
}

#[test]
fn a_change_of_one_line_alone_goes_out_soon() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        change(&bench, fh, TIOCMBIC, DTR).await;
        bench.owner.is_left_alone().await;
        advance(Duration::from_millis(10)).await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(false), None));
    });
}

#[test]
fn a_pulse_stays_a_pulse() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        change(&bench, fh, TIOCMBIC, DTR).await;
        change(&bench, fh, TIOCMBIS, DTR).await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(false), None));
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(true), None));
    });
}

#[test]
fn what_a_program_does_in_between_keeps_its_place() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(0, 0).await;
        change(&bench, fh, TIOCMBIC, DTR).await;
        bench.kernel.write(fh, b"x").answer().await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (Some(false), None));
        assert_eq!(bench.owner.data().await, b"x");
        change(&bench, fh, TIOCMBIC, RTS).await;
        bench.kernel.read(fh, 1).answer().await;
        let set = bench.owner.lines_set().await;
        assert_eq!(lines_of(&set), (None, Some(false)));
    });
}

#[test]
fn the_lines_are_read_at_the_owner_behind_what_was_changed() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        change(&bench, fh, TIOCMBIC, RTS).await;
        let get = bench.kernel.pointed(fh, TIOCMGET, &[], 4).await;
        bench.owner.lines_set().await;
        let (corr, _) = bench.owner.request(Opcode::SerialControlGet).await;
        let lines = Lines {
            dtr: true,
            cts: true,
            dsr: true,
            ..Lines::default()
        };
        bench.owner.respond(corr, lines.encode().unwrap());
        let bits = (DTR | CTS | DSR).to_ne_bytes();
        assert_eq!(get.answer().await, Answer::Done(bits.to_vec()));
    });
}

#[test]
fn a_change_wakes_who_waits_for_that_line() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let cts = bench.kernel.control(fh, TIOCMIWAIT, CTS.into());
        let ring = bench.kernel.control(fh, TIOCMIWAIT, RI.into());
        settle().await;
        bench.owner.event(&LineEvent {
            lines: Lines::default(),
            change: LineChange {
                edges: Some(Edges {
                    cts: 2,
                    ..Edges::default()
                }),
                ..LineChange::default()
            },
        });
        assert_eq!(cts.answer().await, Answer::Done(Vec::new()));
        assert!(!ring.is_answered());
        bench.kernel.interrupt(&ring);
        assert_eq!(ring.answer().await, failed(Errno::EINTR));
    });
}

#[test]
fn changes_and_errors_are_counted() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let event = |cts, parity| LineEvent {
            lines: Lines::default(),
            change: LineChange {
                edges: Some(Edges {
                    cts,
                    ..Edges::default()
                }),
                err: Some(Errors {
                    parity,
                    ..Errors::default()
                }),
                ..LineChange::default()
            },
        };
        bench.owner.event(&event(3, 1));
        bench.owner.event(&event(5, 4));
        bench.owner.send(b"four");
        bench.kernel.write(fh, b"12345").answer().await;
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b"four"));
        let counts = bench.kernel.get(fh, TIOCGICOUNT, 80).await;
        let count = |index: usize| {
            let bytes = counts[4 * index..][..4].try_into().unwrap();
            u32::from_ne_bytes(bytes)
        };
        assert_eq!((count(0), count(8)), (5, 4), "CTS and parity");
        assert_eq!((count(4), count(5)), (4, 5), "received and sent");
    });
}

#[test]
fn lines_that_the_driver_does_not_count_are_compared() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let wait = bench.kernel.control(fh, TIOCMIWAIT, DSR.into());
        settle().await;
        let lines = Lines {
            dsr: true,
            ..Lines::default()
        };
        bench.owner.event(&LineEvent {
            lines,
            change: LineChange::default(),
        });
        assert_eq!(wait.answer().await, Answer::Done(Vec::new()));
    });
}

#[test]
fn a_break_empties_the_queues_where_it_is_to_interrupt() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let mut termios = bench.termios(fh).await;
        termios.iflag |= flag::BRKINT;
        bench.set_termios(fh, &termios).await;
        bench.owner.send(b"lost");
        settle().await;
        bench.owner.event(&LineEvent {
            lines: Lines::default(),
            change: LineChange {
                err: Some(Errors {
                    brk: 1,
                    ..Errors::default()
                }),
                ..LineChange::default()
            },
        });
        bench.owner.request(Opcode::SerialPortConfigure).await;
        let read = bench.kernel.read_now(fh, 9).answer().await;
        assert_eq!(read, failed(Errno::EAGAIN));
    });
}

#[test]
fn a_pattern_runs_at_the_owner() {
    run(async {
        let mut bench = Bench::new().await;
        let parameters = [("steps".to_owned(), "dtr -rts 50ms, -dtr".to_owned())];
        let pulse = bench
            .steering
            .operate("pulse".to_owned(), parameters.into());
        let owner = &mut bench.owner;
        let (report, set) = tokio::join!(pulse, owner.lines_set());
        assert_eq!(report.unwrap()["dtr"], false);
        let steps: Vec<_> = set.seq.iter().map(|s| (s.dtr, s.rts, s.delay_us)).collect();
        assert_eq!(
            steps,
            [(Some(true), Some(false), 50_000), (Some(false), None, 0)]
        );
    });
}
