use myclerk::bus::chardev::Answer;
use myclerk::bus::fake::WINDOW;
use myclerk::bus::serial::op::{Break, DataWrite};
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;

use crate::rig::{Bench, failed, run, settle};

const POLLOUT: u32 = 4;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540A;
const TIOCOUTQ: u32 = 0x5411;
const TIOCSBRK: u32 = 0x5427;

#[test]
fn bytes_go_out_as_the_settings_want_them() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let write = bench.kernel.write(fh, b"a\nb").answer().await;
        assert_eq!(write, Answer::Written(3));
        assert_eq!(bench.owner.data().await, b"a\r\nb");
    });
}

#[test]
fn a_write_waits_while_the_owner_takes_nothing_and_nothing_is_lost() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let bytes: Vec<u8> = (0..2 * WINDOW).map(|n| n.to_le_bytes()[1]).collect();
        let write = bench.kernel.write(fh, &bytes);
        settle().await;
        assert!(!write.is_answered());
        assert_eq!(bench.kernel.poll(fh, 5).await & POLLOUT, 0);
        let again = bench.kernel.write_now(fh, b"x").answer().await;
        assert_eq!(again, failed(Errno::EAGAIN));
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            got.extend(bench.owner.data().await);
        }
        assert_eq!(got, bytes);
        assert_eq!(write.answer().await, Answer::Written(bytes.len()));
        settle().await;
        assert_eq!(*bench.kernel.woken.borrow(), [5]);
    });
}

#[test]
fn a_program_that_does_not_want_to_wait_writes_what_there_is_room_for() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let bytes = vec![7; 2 * WINDOW];
        let Answer::Written(count) = bench.kernel.write_now(fh, &bytes).answer().await else {
            panic!("nothing was written");
        };
        assert!((1..=WINDOW).contains(&count));
        let again = bench.kernel.write_now(fh, &bytes).answer().await;
        assert_eq!(again, failed(Errno::EAGAIN));
    });
}

/// A program that waits for the answer to what it wrote would otherwise give up before it is sent.
#[test]
fn no_more_is_on_its_way_than_the_port_soon_sends() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let write = bench.kernel.write_now(fh, &vec![7; 32768]).answer().await;
        assert_eq!(write, Answer::Written(8192));
        assert_eq!(bench.kernel.number(fh, TIOCOUTQ).await, 8192);
        let again = bench.kernel.write_now(fh, b"x").answer().await;
        assert_eq!(again, failed(Errno::EAGAIN));
        bench.owner.data().await;
        bench.owner.data().await;
        bench.owner.is_left_alone().await;
        assert_eq!(bench.kernel.number(fh, TIOCOUTQ).await, 0);
        let again = bench.kernel.write_now(fh, b"x").answer().await;
        assert_eq!(again, Answer::Written(1));
    });
}

#[test]
fn a_signal_ends_a_write_with_what_was_taken() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let write = bench.kernel.write(fh, &vec![7; 2 * WINDOW]);
        let behind = bench.kernel.write(fh, b"x");
        settle().await;
        bench.kernel.interrupt(&behind);
        assert_eq!(behind.answer().await, failed(Errno::EINTR));
        bench.kernel.interrupt(&write);
        let Answer::Written(count) = write.answer().await else {
            panic!("it was not said what was taken");
        };
        let mut got = 0;
        while got < count {
            got += bench.owner.data().await.len();
        }
        assert_eq!(got, count);
        bench.owner.is_left_alone().await;
    });
}

#[test]
fn the_line_and_a_program_stop_and_start_output() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        bench.owner.send(b"\x13");
        settle().await;
        let write = bench.kernel.write(fh, b"x");
        bench.owner.is_left_alone().await;
        bench.owner.send(b"\x11");
        assert_eq!(write.answer().await, Answer::Written(1));
        assert_eq!(bench.owner.data().await, b"x");
        bench.kernel.control(fh, TCXONC, 0).answer().await;
        let write = bench.kernel.write(fh, b"y");
        bench.owner.is_left_alone().await;
        bench.kernel.control(fh, TCXONC, 1).answer().await;
        assert_eq!(write.answer().await, Answer::Written(1));
        assert_eq!(bench.owner.data().await, b"y");
        bench.kernel.control(fh, TCXONC, 2).answer().await;
        assert_eq!(bench.owner.data().await, b"\x13");
    });
}

#[test]
fn a_drain_waits_for_the_owner_and_for_nobody_else() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        bench.kernel.write(fh, b"out").answer().await;
        let drain = bench.kernel.control(fh, TCSBRK, 1);
        assert_eq!(bench.owner.data().await, b"out");
        let (corr, payload) = bench.owner.request(Opcode::SerialDataWrite).await;
        let asked = DataWrite::decode(&payload).unwrap();
        assert_eq!((asked.data, asked.drain), (&[] as &[u8], true));
        bench.owner.send(b"in");
        let read = bench.kernel.read(fh, 9).answer().await;
        assert_eq!(read, crate::rig::data(b"in"));
        assert!(!drain.is_answered());
        bench.owner.respond(corr, vec![0x91, 0]);
        assert_eq!(drain.answer().await, Answer::Done(Vec::new()));
    });
}

#[test]
fn a_signal_ends_a_drain_and_what_should_have_followed_it() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let brk = bench.kernel.control(fh, TCSBRK, 0);
        let (corr, _) = bench.owner.request(Opcode::SerialDataWrite).await;
        bench.kernel.interrupt(&brk);
        assert_eq!(brk.answer().await, failed(Errno::EINTR));
        let cancel = bench.owner.next().await;
        assert_eq!(cancel, myclerk::bus::Inbound::Cancel { corr });
        bench.owner.respond(corr, vec![0x91, 0]);
        bench.owner.is_left_alone().await;
    });
}

#[test]
fn a_break_follows_what_was_written() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let brk = bench.kernel.control(fh, 0x5425, 7);
        let (corr, _) = bench.owner.request(Opcode::SerialDataWrite).await;
        bench.owner.respond(corr, vec![0x91, 0]);
        let (corr, payload) = bench.owner.request(Opcode::SerialBreak).await;
        assert_eq!(Break::decode(&payload).unwrap().ms, 700);
        assert!(!brk.is_answered());
        bench.owner.respond(corr, Vec::new());
        assert_eq!(brk.answer().await, Answer::Done(Vec::new()));
        let hold = bench.kernel.control(fh, TIOCSBRK, 0);
        let set = bench.owner.lines_set().await;
        let steps: Vec<_> = set.seq.iter().map(|step| step.brk).collect();
        assert_eq!(steps, [Some(true)]);
        assert_eq!(hold.answer().await, Answer::Done(Vec::new()));
    });
}
