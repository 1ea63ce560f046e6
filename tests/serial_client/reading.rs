use std::time::Duration;

use myclerk::bus::fake::WINDOW;
use nix::errno::Errno;
use tokio::time::{Instant, advance};

use crate::rig::{Bench, FIONREAD, data, failed, run, settle};

const POLLIN: u32 = 1;
const DECISECOND: Duration = Duration::from_millis(100);

#[test]
fn a_line_wakes_the_program_that_reads_and_is_sent_back() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let read = bench.kernel.read(fh, 100);
        bench.owner.send(b"hel");
        settle().await;
        assert!(!read.is_answered());
        bench.owner.send(b"lo\r");
        assert_eq!(read.answer().await, data(b"hello\n"));
        assert_eq!(bench.owner.data().await, b"hel");
        assert_eq!(bench.owner.data().await, b"lo\r\n");
    });
}

#[test]
fn a_read_waits_for_as_many_bytes_as_vmin_says() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(4, 0).await;
        let read = bench.kernel.read(fh, 100);
        bench.owner.send(b"abc");
        advance(Duration::from_secs(3600)).await;
        assert!(!read.is_answered());
        bench.owner.send(b"de");
        assert_eq!(read.answer().await, data(b"abcde"));
        let read = bench.kernel.read(fh, 2);
        bench.owner.send(b"xyz");
        assert_eq!(read.answer().await, data(b"xy"), "no more than asked for");
    });
}

#[test]
fn a_pause_between_two_bytes_ends_a_read() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(10, 2).await;
        let read = bench.kernel.read(fh, 100);
        advance(Duration::from_secs(3600)).await;
        assert!(!read.is_answered(), "the first byte is waited for");
        bench.owner.send(b"a");
        settle().await;
        advance(DECISECOND).await;
        bench.owner.send(b"b");
        settle().await;
        advance(DECISECOND).await;
        settle().await;
        assert!(!read.is_answered(), "each byte begins the time anew");
        let start = Instant::now();
        assert_eq!(read.answer().await, data(b"ab"));
        assert_eq!(start.elapsed(), DECISECOND);
    });
}

#[test]
fn a_read_with_a_time_alone_ends_with_the_first_byte_or_with_it() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(0, 5).await;
        let start = Instant::now();
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b""));
        assert_eq!(start.elapsed(), DECISECOND * 5);
        let read = bench.kernel.read(fh, 9);
        bench.owner.send(b"a");
        assert_eq!(read.answer().await, data(b"a"));
    });
}

#[test]
fn a_read_without_vmin_and_vtime_never_waits() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(0, 0).await;
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b""));
        assert_eq!(bench.kernel.read_now(fh, 9).answer().await, data(b""));
        bench.owner.send(b"a");
        settle().await;
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b"a"));
    });
}

#[test]
fn a_program_that_does_not_want_to_wait_gets_what_there_is() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(5, 0).await;
        let read = bench.kernel.read_now(fh, 9).answer().await;
        assert_eq!(read, failed(Errno::EAGAIN));
        bench.owner.send(b"ab");
        settle().await;
        assert_eq!(bench.kernel.read_now(fh, 9).answer().await, data(b"ab"));
        let waits = bench.kernel.read(fh, 9);
        settle().await;
        let read = bench.kernel.read_now(fh, 9).answer().await;
        assert_eq!(read, failed(Errno::EAGAIN), "another one is before it");
        bench.owner.send(b"abcde");
        assert_eq!(waits.answer().await, data(b"abcde"));
    });
}

#[test]
fn a_signal_ends_a_read_and_leaves_the_bytes_to_the_next() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(3, 0).await;
        let read = bench.kernel.read(fh, 9);
        bench.kernel.interrupt(&read);
        assert_eq!(read.answer().await, failed(Errno::EINTR));
        let read = bench.kernel.read(fh, 9);
        bench.owner.send(b"ab");
        settle().await;
        bench.kernel.interrupt(&read);
        assert_eq!(read.answer().await, data(b"ab"));
        let read = bench.kernel.read(fh, 9);
        bench.owner.send(b"cde");
        assert_eq!(read.answer().await, data(b"cde"));
    });
}

#[test]
fn reads_of_several_programs_take_turns() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let first = bench.kernel.read(fh, 2);
        let second = bench.kernel.read(fh, 9);
        bench.owner.send(b"abc");
        assert_eq!(first.answer().await, data(b"ab"));
        assert_eq!(second.answer().await, data(b"c"));
    });
}

#[test]
fn a_program_that_does_not_read_stops_the_owner_and_loses_nothing() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let bytes: Vec<u8> = (0..WINDOW).map(|n| n.to_le_bytes()[1]).collect();
        bench.owner.send(&bytes);
        settle().await;
        assert!(
            !bench.owner.0.outlet.writable(8192),
            "what nobody has read was used up"
        );
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            match bench.kernel.read(fh, 1000).answer().await {
                myclerk::bus::chardev::Answer::Data(bytes) => got.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, bytes);
        settle().await;
        assert!(bench.owner.0.outlet.writable(WINDOW));
    });
}

#[test]
fn what_waits_is_counted_and_seen_by_poll() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(3, 0).await;
        assert_eq!(bench.kernel.poll(fh, 70).await & POLLIN, 0);
        bench.owner.send(b"ab");
        settle().await;
        assert_eq!(bench.kernel.number(fh, FIONREAD).await, 2);
        assert_eq!(*bench.kernel.woken.borrow(), [] as [u64; 0]);
        bench.owner.send(b"c");
        settle().await;
        assert_eq!(*bench.kernel.woken.borrow(), [70]);
        assert_ne!(bench.kernel.poll(fh, 70).await & POLLIN, 0);
    });
}

/// As `epoll(7)` does with `EPOLLET`: it asks when it is woken, and not before it waits again.
#[test]
fn who_watches_for_edges_is_woken_for_whatever_comes() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        assert_eq!(bench.kernel.poll(fh, 70).await & POLLIN, 0);
        bench.owner.send(b"one");
        settle().await;
        assert_eq!(bench.kernel.woken.borrow().len(), 1);
        assert_ne!(bench.kernel.poll(fh, 70).await & POLLIN, 0);
        // All is read and more comes; then some is left and more comes.
        for (read, rest) in [(99, 0), (2, 1)] {
            let woken = bench.kernel.woken.borrow().len();
            bench.kernel.read_now(fh, read).answer().await;
            assert_eq!(bench.kernel.number(fh, FIONREAD).await, rest);
            assert_eq!(bench.kernel.woken.borrow().len(), woken);
            bench.owner.send(b"two");
            settle().await;
            assert_eq!(bench.kernel.woken.borrow().len(), woken + 1);
            assert_ne!(bench.kernel.poll(fh, 70).await & POLLIN, 0);
        }
    });
}

#[test]
fn input_is_thrown_away_here_and_on_its_way() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        bench.owner.send(b"old");
        settle().await;
        let flush = bench.kernel.control(fh, 0x540B, 0);
        let opcode = myclerk::wire::opcode::Opcode::SerialPortConfigure;
        let (corr, payload) = bench.owner.request(opcode).await;
        let change = myclerk::bus::serial::op::Change::decode(&payload).unwrap();
        assert_eq!(change.flush, Some(myclerk::bus::serial::op::Flush::Input));
        bench.owner.send(b"on its way");
        settle().await;
        assert_eq!(bench.kernel.number(fh, FIONREAD).await, 0);
        // What comes to the port once this has ended is not thrown away.
        assert!(!flush.is_answered());
        bench.owner.respond(corr, Vec::new());
        assert_eq!(
            flush.answer().await,
            myclerk::bus::chardev::Answer::Done(Vec::new())
        );
        bench.owner.send(b"new");
        assert_eq!(bench.kernel.read(fh, 99).answer().await, data(b"new"));
        let wrong = bench.kernel.control(fh, 0x540B, 3).answer().await;
        assert_eq!(wrong, failed(Errno::EINVAL));
    });
}
