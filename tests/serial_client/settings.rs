use myclerk::bus::Refused;
use myclerk::bus::chardev::Answer;
use myclerk::bus::serial::client::termios::flag;
use myclerk::bus::serial::op::{Change, Flow, Flush, Rs485, Settings};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::rig::{Bench, TCSETS2, TCSETSF2, TCSETSW2, failed, run, settle};

#[test]
fn settings_that_concern_the_line_are_the_owners_first() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let mut wanted = bench.termios(fh).await;
        wanted.actual_speed(250_000);
        wanted.cflag |= flag::CRTSCTS;
        wanted.lflag = 0;
        let bytes = wanted.encode2();
        let set = bench.kernel.pointed(fh, TCSETS2, &bytes, 0).await;
        let (corr, payload) = bench.owner.request(Opcode::SerialPortConfigure).await;
        let change = Change::decode(&payload).unwrap();
        assert_eq!(change.baud, Some(250_000));
        assert_eq!(change.flow, Some(Flow::RtsCts));
        assert_eq!((change.bits, change.parity), (None, None));
        settle().await;
        assert!(!set.is_answered());
        let actual = Settings {
            baud: 250_100,
            flow: Flow::None,
            ..Settings::default()
        };
        bench.owner.respond(corr, actual.encode().unwrap());
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
        let now = bench.termios(fh).await;
        assert_eq!(now.ospeed, 250_100, "as the port really is");
        assert!(!now.line_has(flag::CRTSCTS));
        assert_eq!(now.lflag, 0);
    });
}

#[test]
fn a_port_that_refuses_stays_as_it_is() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let before = bench.termios(fh).await;
        let mut wanted = before;
        wanted.actual_speed(4_000_000);
        let bytes = wanted.encode2();
        let set = bench.kernel.pointed(fh, TCSETS2, &bytes, 0).await;
        let (corr, _) = bench.owner.request(Opcode::SerialPortConfigure).await;
        let outlet = &bench.owner.0.outlet;
        outlet.respond(corr, Status::BadRequest, Vec::new());
        assert_eq!(set.answer().await, failed(Errno::EINVAL));
        assert_eq!(bench.termios(fh).await, before);
    });
}

#[test]
fn settings_can_wait_for_output() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let mut wanted = bench.termios(fh).await;
        wanted.lflag = 0;
        let bytes = wanted.encode2();
        let set = bench.kernel.pointed(fh, TCSETSW2, &bytes, 0).await;
        let (corr, _) = bench.owner.request(Opcode::SerialDataWrite).await;
        assert_ne!(bench.termios(fh).await.lflag, 0, "not yet");
        bench.owner.respond(corr, vec![0x91, 0]);
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
        assert_eq!(bench.termios(fh).await.lflag, 0);
    });
}

#[test]
fn settings_that_throw_input_away_end_when_the_owner_has_done_it() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let mut wanted = bench.termios(fh).await;
        wanted.lflag = 0;
        let bytes = wanted.encode2();
        let set = bench.kernel.pointed(fh, TCSETSF2, &bytes, 0).await;
        let (corr, _) = bench.owner.request(Opcode::SerialDataWrite).await;
        bench.owner.respond(corr, vec![0x91, 0]);
        let (corr, payload) = bench.owner.request(Opcode::SerialPortConfigure).await;
        let change = Change::decode(&payload).unwrap();
        assert_eq!(change.flush, Some(Flush::Input));
        assert!(!set.is_answered());
        bench.owner.respond(corr, Vec::new());
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
    });
}

#[test]
fn the_speed_0_drops_the_lines_and_another_one_raises_them() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let before = bench.termios(fh).await;
        let mut wanted = before;
        wanted.cflag &= !0o10017;
        bench.set_termios(fh, &wanted).await;
        let set = bench.owner.lines_set().await;
        assert_eq!((set.dtr, set.rts), (Some(false), Some(false)));
        bench
            .kernel
            .pointed(fh, TCSETS2, &before.encode2(), 0)
            .await;
        let set = bench.owner.lines_set().await;
        assert_eq!((set.dtr, set.rts), (Some(true), Some(true)));
    });
}

/// Its driver knows RS-485, which is off.
async fn with_rs485() -> (Bench, u64) {
    let mut bench = Bench::with(Settings {
        rs485: Some(Rs485 {
            on: false,
            ..Rs485::default()
        }),
        ..Settings::default()
    })
    .await;
    let fh = bench.open().await;
    (bench, fh)
}

#[test]
fn a_port_with_rs485_tells_and_takes_its_settings() {
    run(async {
        let (mut bench, fh) = with_rs485().await;
        let bytes = bench.kernel.get(fh, 0x542E, 32).await;
        assert_eq!(bytes[..4], 2_u32.to_ne_bytes());
        let mut wanted = bytes;
        wanted[..4].copy_from_slice(&3_u32.to_ne_bytes());
        let set = bench.kernel.pointed(fh, 0x542F, &wanted, 32).await;
        let (corr, payload) = bench.owner.request(Opcode::SerialPortConfigure).await;
        let change = Change::decode(&payload).unwrap();
        assert_eq!(change.rs485, Some(Rs485::default()));
        let actual = Settings::default().with(&change);
        bench.owner.respond(corr, actual.encode().unwrap());
        assert_eq!(set.answer().await, Answer::Done(wanted));
    });
}

#[test]
fn what_the_owners_driver_cannot_do_is_no_ioctl_of_the_tty() {
    run(async {
        let (mut bench, fh) = with_rs485().await;
        let mut wanted = bench.kernel.get(fh, 0x542E, 32).await;
        wanted[..4].copy_from_slice(&3_u32.to_ne_bytes());
        let set = bench.kernel.pointed(fh, 0x542F, &wanted, 32).await;
        let (corr, _) = bench.owner.request(Opcode::SerialPortConfigure).await;
        let refused = Refused::unsupported("no RS-485");
        let outlet = &bench.owner.0.outlet;
        outlet.respond(corr, refused.status, refused.payload());
        assert_eq!(set.answer().await, failed(Errno::ENOTTY));
    });
}

#[test]
fn a_port_without_rs485_has_no_such_ioctl_and_no_other_unknown_one() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let get = bench.kernel.pointed(fh, 0x542E, &[], 32).await;
        assert_eq!(get.answer().await, failed(Errno::ENOTTY));
        for number in [libc::TIOCSCTTY, libc::TIOCGSID, libc::TIOCGPGRP] {
            let number = u32::try_from(number).unwrap();
            let call = bench.kernel.control(fh, number, 0).answer().await;
            assert_eq!(call, failed(Errno::ENOTTY), "{number:#x}");
        }
    });
}

#[test]
fn the_size_of_a_window_is_kept() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        assert_eq!(bench.kernel.get(fh, 0x5413, 8).await, [0; 8]);
        let size = [24, 0, 80, 0, 0, 0, 0, 0];
        let set = bench.kernel.pointed(fh, 0x5414, &size, 0).await;
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
        assert_eq!(bench.kernel.get(fh, 0x5413, 8).await, size);
    });
}

#[test]
fn low_latency_can_be_switched_on() {
    run(async {
        let mut bench = Bench::new().await;
        let fh = bench.open().await;
        let mut serial = bench.kernel.get(fh, 0x541E, 72).await;
        assert_eq!(serial[4..8], 7_u32.to_ne_bytes(), "the number of the name");
        serial[16..20].copy_from_slice(&0x2000_u32.to_ne_bytes());
        let set = bench.kernel.pointed(fh, 0x541F, &serial, 0).await;
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
        assert_eq!(bench.kernel.get(fh, 0x541E, 72).await, serial);
    });
}
