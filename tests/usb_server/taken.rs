//! Somebody else on the owner's machine resets the device or takes it.

use myclerk::bus::usb::fake::{Act, Fake};
use myclerk::bus::usb::server::End;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::bench::{Bench, Setting, local};

const BROKEN: i32 = -71;

fn claims(bench: &Bench) -> usize {
    let acts = bench.device.acts();
    let claim = |act: &&Act| matches!(act, Act::Claim(_));
    acts.iter().filter(claim).count()
}

#[test]
fn a_reset_by_somebody_else_fails_what_is_in_flight_and_nothing_after_it() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = [
            bench.interrupt(0x83, 8, 0, &[]),
            bench.bulk(0x81, 8, &[]),
            bench.interrupt(0x83, 8, 0, &[]),
        ];
        bench.until(|bench| bench.device.in_flight() == 3).await;
        bench.device.reset_by_other();
        for corr in waiting {
            assert_eq!(bench.transfer(corr).await, (BROKEN, 0, vec![]));
        }
        // Nobody had to ask for it.
        bench.until(|bench| bench.device.claimed() == [0, 1]).await;
        let read = bench.bulk(0x82, 2, &[]);
        assert_eq!(bench.transfer(read).await, (0, 2, vec![0, 1]));
        assert_eq!(claims(&bench), 4);
        bench.detach().await;
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn an_idle_device_that_somebody_else_has_reset_is_taken_again_for_the_next_request() {
    for use_it in [
        |bench: &mut Bench| bench.bulk(0x82, 2, &[]),
        // A class request to the interface.
        |bench: &mut Bench| bench.control([0xa1, 3, 0, 0, 0, 0, 1, 0], &[]),
        |bench: &mut Bench| bench.set_interface(1, 1),
        |bench: &mut Bench| bench.clear_halt(0x82),
        |bench: &mut Bench| bench.set_configuration(2),
        |bench: &mut Bench| bench.request(Opcode::UsbReset, Vec::new()),
    ] {
        local(async {
            let mut bench = Bench::attach().await;
            let warm = bench.bulk(0x82, 1, &[]);
            bench.transfer(warm).await;
            bench.device.reset_by_other();
            assert_eq!(bench.device.driven(), [0, 1]);
            let corr = use_it(&mut bench);
            assert_eq!(bench.answer(corr).await.status, Status::Ok);
            bench.detach().await;
            bench.end().await;
        });
    }
}

#[test]
fn a_setting_that_the_peer_believes_in_is_chosen_again() {
    local(async {
        let mut bench = Bench::attach().await;
        let set = bench.set_interface(1, 1);
        bench.answer(set).await;
        for expected in [vec![0, 1], vec![2, 3]] {
            let read = bench.bulk(0x84, 2, &[]);
            assert_eq!(bench.transfer(read).await, (0, 2, expected));
            bench.device.reset_by_other();
        }
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_device_that_another_program_keeps_is_asked_for_once_in_a_request() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.reset_by_other();
        bench.device.give_to_program(0);
        for _ in 0..3 {
            let read = bench.bulk(0x82, 1, &[]);
            assert_ne!(bench.answer(read).await.status, Status::Ok);
        }
        // The other interface is ours.
        let set = bench.set_interface(1, 1);
        assert_eq!(bench.answer(set).await.status, Status::Ok);
        assert!(claims(&bench) <= 4, "{:?}", bench.device.acts());
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn an_interface_that_a_driver_takes_again_and_again_is_fought_for_once_in_a_request() {
    local(async {
        let mut bench = Bench::attach().await;
        let in_flight = bench.bulk(0x81, 8, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.contest(0);
        bench.device.reset_by_other();
        assert_eq!(bench.transfer(in_flight).await.0, BROKEN);
        let corrs: Vec<_> = (0..10).map(|_| bench.bulk(0x82, 1, &[])).collect();
        for corr in corrs {
            assert_eq!(bench.answer(corr).await.error().1, "device-io");
        }
        // Two at first, two for what was in flight, one for each request.
        assert_eq!(claims(&bench), 2 + 2 + 10);
        // The other interface is ours.
        let set = bench.set_interface(1, 1);
        assert_eq!(bench.answer(set).await.status, Status::Ok);
        bench.detach().await;
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn an_endpoint_that_is_not_there_is_looked_for_once_more_in_each_request() {
    local(async {
        let mut bench = Bench::attach().await;
        for _ in 0..9 {
            bench.device.refuse_submission(0, Errno::ENOENT);
        }
        // Two tries for each request.
        for _ in 0..4 {
            let read = bench.bulk(0x82, 1, &[]);
            assert_ne!(bench.answer(read).await.status, Status::Ok);
        }
        let read = bench.bulk(0x82, 1, &[]);
        assert_eq!(bench.transfer(read).await, (0, 1, vec![0]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn an_idle_device_may_be_reset_again_and_again() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.reset_by_other();
        assert_eq!(bench.transfer(waiting).await.0, BROKEN);
        bench.until(|bench| bench.device.claimed() == [0, 1]).await;
        bench.device.reset_by_other();
        bench.device.reset_by_other();
        let read = bench.bulk(0x82, 1, &[]);
        assert_eq!(bench.transfer(read).await, (0, 1, vec![0]));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn resets_under_load_lose_no_answer() {
    local(async {
        let mut bench = Bench::attach().await;
        for _ in 0..20 {
            let mut corrs: Vec<_> = (0..8).map(|_| bench.bulk(0x81, 8, &[])).collect();
            corrs.extend((0..8).map(|_| bench.interrupt(0x83, 8, 0, &[])));
            bench.until(|bench| bench.device.in_flight() == 16).await;
            bench.device.reset_by_other();
            corrs.extend((0..8).map(|_| bench.bulk(0x82, 4, &[])));
            for corr in &corrs {
                let (status, ..) = bench.transfer(*corr).await;
                assert!(matches!(status, 0 | BROKEN), "{status}");
            }
        }
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn only_the_attached_interfaces_are_taken_again() {
    local(async {
        let setting = Setting {
            ifs: Some(vec![1]),
            ..Setting::default()
        };
        let mut bench = Bench::attach_with(Fake::new(), &setting).await;
        bench.device.reset_by_other();
        let set = bench.set_interface(1, 1);
        assert_eq!(bench.answer(set).await.status, Status::Ok);
        assert_eq!(bench.device.claimed(), [1]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_device_that_comes_back_different_from_a_reset_is_gone() {
    for errno in [Errno::ENODEV, Errno::EIO] {
        local(async {
            let mut bench = Bench::attach().await;
            bench.device.fail_next(Act::Reset, errno);
            let waiting = bench.interrupt(0x83, 8, 0, &[]);
            let reset = bench.request(Opcode::UsbReset, Vec::new());
            assert_ne!(bench.answer(reset).await.status, Status::Ok);
            bench.answer(waiting).await;
            assert_eq!(bench.end().await, End::DeviceGone);
        });
    }
}
