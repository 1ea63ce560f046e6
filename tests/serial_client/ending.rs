use myclerk::bus::chardev::Answer;
use myclerk::bus::{Ended, Handle as _, Inbound};
use myclerk::kernel::cuse::Body;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::rig::{Bench, TIOCMGET, data, failed, run, settle};

/// `POLLIN`, `POLLOUT`, `POLLERR` and `POLLHUP`.
const HUNG_UP: u32 = 0x1D;

#[test]
fn a_port_that_is_unplugged_hangs_up_until_the_last_close() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let read = bench.kernel.read(fh, 9);
        let lines = bench.kernel.pointed(fh, TIOCMGET, &[], 4).await;
        let wait = bench.kernel.control(fh, 0x545C, 0x20);
        bench.kernel.poll(fh, 3).await;
        bench.owner.request(Opcode::SerialControlGet).await;
        bench.owner.0.outlet.reset(Status::ServiceUnavailable);
        assert_eq!(read.answer().await, data(b""));
        assert_eq!(lines.answer().await, failed(Errno::EIO));
        assert_eq!(wait.answer().await, failed(Errno::EIO));
        settle().await;
        assert_eq!(*bench.kernel.woken.borrow(), [3]);
        assert!(bench.left.get());
        assert_eq!(bench.kernel.poll(fh, 3).await & HUNG_UP, HUNG_UP);
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b""));
        let write = bench.kernel.write(fh, b"x").answer().await;
        assert_eq!(write, failed(Errno::EIO));
        let ioctl = bench.kernel.control(fh, 0x5401, 1).answer().await;
        assert_eq!(ioctl, failed(Errno::EIO));
        let open = bench.kernel.call(Body::Open { flags: 2 }).answer().await;
        assert_eq!(open, failed(Errno::EIO));
        assert!(!bench.ended.is_finished(), "a program has it open");
        bench.kernel.release(fh);
        let ended = bench.ended.await.unwrap();
        assert_eq!(ended, Ended::Owner(Status::ServiceUnavailable));
    });
}

#[test]
fn a_write_that_waits_ends_with_what_was_taken() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let write = bench.kernel.write(fh, &vec![0; 100_000]);
        settle().await;
        bench.owner.0.outlet.reset(Status::Ok);
        assert!(matches!(write.answer().await, Answer::Written(1..100_000)));
    });
}

#[test]
fn a_port_given_back_is_closed_at_its_owner_although_a_program_has_it_open() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        bench.steering.detach();
        let (corr, _) = bench.owner.request(Opcode::SerialPortClose).await;
        bench.owner.respond(corr, Vec::new());
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b""));
        bench.kernel.release(fh);
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
    });
}

#[test]
fn a_silent_owner_does_not_keep_a_tty() {
    run(async {
        let mut bench = Bench::new().await;
        bench.steering.detach();
        bench.owner.request(Opcode::SerialPortClose).await;
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
    });
}

#[test]
fn a_close_does_not_wait_for_the_owner() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        bench.kernel.release(fh);
        bench.owner.request(Opcode::SerialDataWrite).await;
        bench.steering.detach();
        let (corr, _) = bench.owner.request(Opcode::SerialPortClose).await;
        bench.owner.respond(corr, Vec::new());
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
    });
}

#[test]
fn an_owner_that_asks_for_something_is_refused() {
    run(async {
        let mut bench = Bench::new().await;
        let asked = myclerk::bus::serial::client::pump::outgoing(Opcode::UsbReset, Vec::new());
        let corr = bench.owner.0.outlet.request(asked).unwrap();
        match bench.owner.next().await {
            Inbound::Response {
                corr: of, status, ..
            } => assert_eq!((of, status), (corr, Status::BadRequest)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn answers_without_sense_are_errors_and_no_more() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open_raw(1, 0).await;
        let lines = bench.kernel.pointed(fh, TIOCMGET, &[], 4).await;
        let (corr, _) = bench.owner.request(Opcode::SerialControlGet).await;
        bench.owner.respond(corr, b"\xC1".to_vec());
        bench.owner.respond(corr, b"\x80".to_vec());
        bench.owner.respond(4711, b"\x80".to_vec());
        let garbage = b"\x81".to_vec();
        bench
            .owner
            .0
            .outlet
            .event(Opcode::SerialControlGet, garbage);
        assert_eq!(lines.answer().await, failed(Errno::EIO));
        bench.owner.send(b"alive");
        assert_eq!(bench.kernel.read(fh, 9).answer().await, data(b"alive"));
    });
}
