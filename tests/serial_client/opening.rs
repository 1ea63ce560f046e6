use myclerk::bus::chardev::Answer;
use myclerk::bus::serial::client::termios::flag;
use myclerk::bus::serial::op::{LineChange, LineEvent, Lines};
use myclerk::kernel::cuse::Body;
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;

use crate::rig::{Bench, NONBLOCK, data, failed, opened, run, settle};

const TIOCEXCL: u32 = 0x540C;
const TIOCNXCL: u32 = 0x540D;
const CARRIER: Lines = Lines {
    dtr: true,
    rts: true,
    cts: false,
    dsr: false,
    ri: false,
    dcd: true,
};

fn carrier(on: bool) -> LineEvent {
    LineEvent {
        lines: Lines { dcd: on, ..CARRIER },
        change: LineChange::default(),
    }
}

/// The last program has closed: the owner transmits what is left, then drops the lines.
async fn drop_lines(bench: &mut Bench) {
    let (corr, _) = bench.owner.request(Opcode::SerialDataWrite).await;
    bench.owner.respond(corr, vec![0x91, 0]);
    let set = bench.owner.lines_set().await;
    assert_eq!((set.dtr, set.rts), (Some(false), Some(false)));
}

#[test]
fn only_the_first_open_raises_the_lines_and_only_the_last_close_drops_them() {
    run(async {
        let mut bench = Bench::new().await;
        let first = bench.open().await;
        let second = bench.kernel.call(Body::Open { flags: 2 }).answer().await;
        let second = opened(second);
        assert_ne!(first, second);
        bench.owner.is_left_alone().await;
        bench.kernel.release(first);
        bench.owner.is_left_alone().await;
        bench.kernel.release(second);
        drop_lines(&mut bench).await;
        bench.owner.is_left_alone().await;
    });
}

#[test]
fn what_was_written_before_the_last_close_goes_out_before_the_lines_drop() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        bench.kernel.write(fh, b"last").answer().await;
        bench.kernel.release(fh);
        assert_eq!(bench.owner.data().await, b"last");
        let (corr, _) = bench.owner.request(Opcode::SerialDataWrite).await;
        let open = bench.kernel.call(Body::Open { flags: 2 });
        bench.owner.is_left_alone().await;
        assert!(!open.is_answered(), "the close is not over");
        bench.owner.respond(corr, vec![0x91, 0]);
        let set = bench.owner.lines_set().await;
        assert_eq!(set.dtr, Some(false));
        let set = bench.owner.lines_set().await;
        assert_eq!(set.dtr, Some(true));
        opened(open.answer().await);
    });
}

#[test]
fn lines_stay_up_where_the_settings_say_so() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let mut termios = bench.termios(fh).await;
        termios.cflag &= !flag::HUPCL;
        bench.set_termios(fh, &termios).await;
        bench.kernel.release(fh);
        bench.owner.is_left_alone().await;
        let open = bench.kernel.call(Body::Open { flags: 2 });
        let fh = opened(open.answer().await);
        assert_eq!(bench.termios(fh).await, termios, "settings outlive a close");
    });
}

#[test]
fn what_arrives_while_nobody_has_it_open_is_gone() {
    run(async {
        let mut bench = Bench::new().await;
        bench.owner.send(b"nobody hears it");
        settle().await;
        assert!(bench.owner.0.outlet.writable(myclerk::bus::fake::WINDOW));
        let fh = bench.open_raw(1, 0).await;
        bench.owner.send(b"heard");
        assert_eq!(bench.kernel.read(fh, 99).answer().await, data(b"heard"));
    });
}

#[test]
fn a_tty_that_one_program_keeps_is_busy_for_all_but_root() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        bench.kernel.control(fh, TIOCEXCL, 0).answer().await;
        assert_eq!(bench.kernel.number(fh, 0x8004_5440).await, 1);
        let open = |uid| bench.kernel.call_as(uid, Body::Open { flags: 2 }).answer();
        assert_eq!(open(1000).await, failed(Errno::EBUSY));
        let root = opened(open(0).await);
        bench.kernel.control(fh, TIOCNXCL, 0).answer().await;
        let other = opened(open(1000).await);
        bench.kernel.control(fh, TIOCEXCL, 0).answer().await;
        for fh in [fh, root, other] {
            bench.kernel.release(fh);
        }
        drop_lines(&mut bench).await;
        let fh = bench.open().await;
        assert_eq!(bench.kernel.number(fh, 0x8004_5440).await, 0);
    });
}

/// A tty that looks at carrier, closed again.
async fn with_carrier() -> Bench {
    let mut bench = Bench::new().await;
    let fh = bench.open_raw(1, 0).await;
    let mut termios = bench.termios(fh).await;
    termios.cflag &= !(flag::CLOCAL | flag::HUPCL);
    bench.set_termios(fh, &termios).await;
    bench.kernel.release(fh);
    bench
}

#[test]
fn an_open_waits_for_carrier_unless_it_does_not_want_to() {
    run(async {
        let mut bench = with_carrier().await;
        let open = bench.kernel.call(Body::Open { flags: 2 });
        bench.owner.lines_set().await;
        settle().await;
        assert!(!open.is_answered());
        let flags = 2 | NONBLOCK;
        let other = bench.kernel.call(Body::Open { flags }).answer().await;
        opened(other);
        assert!(!open.is_answered());
        bench.owner.event(&carrier(true));
        opened(open.answer().await);
    });
}

#[test]
fn a_signal_ends_an_open_that_waits() {
    run(async {
        let mut bench = with_carrier().await;
        let open = bench.kernel.call(Body::Open { flags: 2 });
        bench.owner.lines_set().await;
        bench.kernel.interrupt(&open);
        assert_eq!(open.answer().await, failed(Errno::EINTR));
    });
}

#[test]
fn the_end_of_carrier_hangs_up_and_the_tty_can_be_opened_again() {
    run(async {
        let mut bench = with_carrier().await;
        let open = bench.kernel.call(Body::Open { flags: 2 });
        bench.owner.lines_set().await;
        bench.owner.event(&carrier(true));
        let fh = opened(open.answer().await);
        let read = bench.kernel.read(fh, 9);
        settle().await;
        bench.owner.event(&carrier(false));
        assert_eq!(read.answer().await, data(b""));
        let write = bench.kernel.write(fh, b"x").answer().await;
        assert_eq!(write, failed(Errno::EIO));
        let flags = 2 | NONBLOCK;
        let open = bench.kernel.call(Body::Open { flags });
        bench.owner.lines_set().await;
        let fh = opened(open.answer().await);
        let write = bench.kernel.write(fh, b"x").answer().await;
        assert_eq!(write, Answer::Written(1));
    });
}
