//! Changes of the device as a whole: configuration, settings, halts, reset.

use myclerk::bus::usb::fake::Act;
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::bench::{ATTACH, Bench, ErrorMap, local};

#[test]
fn requests_wait_their_turn_while_the_device_is_being_changed() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        let change = bench.set_interface(1, 1);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        let read = bench.bulk(0x84, 2, &[]);
        let back = bench.set_interface(1, 0);
        let late = bench.bulk(0x84, 2, &[]);
        bench.device.let_calls_go();
        assert_eq!(bench.transfer(read).await, (0, 2, vec![0, 1]));
        assert_eq!(bench.answer(change).await.status, Status::Ok);
        assert_eq!(bench.answer(back).await.status, Status::Ok);
        assert_eq!(bench.answer(late).await.status, Status::BadRequest);
        assert_eq!(bench.answered(), [ATTACH, change, read, back, late]);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_halted_endpoint_stalls_until_the_halt_is_cleared_either_way() {
    local(async {
        let mut bench = Bench::attach().await;
        for by_control in [false, true] {
            bench.device.halt(0x82);
            let stalled = bench.bulk(0x82, 1, &[]);
            assert_eq!(bench.transfer(stalled).await.0, -32);
            if by_control {
                let clear = bench.control([0x02, 1, 0, 0, 0x82, 0, 0, 0], &[]);
                assert_eq!(bench.transfer(clear).await, (0, 0, vec![]));
            } else {
                let clear = bench.clear_halt(0x82);
                assert_eq!(bench.answer(clear).await.payload, [0x80]);
            }
            let read = bench.bulk(0x82, 1, &[]);
            assert_eq!(bench.transfer(read).await.0, 0);
        }
        let cleared = bench.device.acts();
        assert_eq!(
            cleared
                .iter()
                .filter(|act| **act == Act::ClearHalt(0x82))
                .count(),
            2
        );
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn setting_the_same_configuration_is_done_once_and_then_only_when_it_would_change_something() {
    local(async {
        let mut bench = Bench::attach().await;
        let same = [0x00, 9, 1, 0, 0, 0, 0, 0];
        for _ in 0..3 {
            let set = bench.control(same, &[]);
            assert_eq!(bench.transfer(set).await, (0, 0, vec![]));
        }
        let count = |bench: &Bench| {
            let acts = bench.device.acts();
            acts.iter()
                .filter(|act| **act == Act::SetConfiguration(1))
                .count()
        };
        assert_eq!(count(&bench), 1);
        assert_eq!(bench.device.claimed(), [0, 1]);
        let alternate = bench.set_interface(1, 1);
        bench.answer(alternate).await;
        let set = bench.control(same, &[]);
        bench.transfer(set).await;
        assert_eq!(count(&bench), 2);
        // The settings are back at 0 with it.
        let read = bench.bulk(0x84, 2, &[]);
        assert_eq!(bench.answer(read).await.status, Status::BadRequest);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn another_configuration_brings_its_endpoints_and_goes_back_at_the_end() {
    local(async {
        let mut bench = Bench::attach().await;
        let set = bench.set_configuration(2);
        assert_eq!(bench.answer(set).await.status, Status::Ok);
        assert_eq!(bench.device.claimed(), [0]);
        let write = bench.bulk(0x05, 1, b"x");
        assert_eq!(bench.transfer(write).await, (0, 1, vec![]));
        let old = bench.bulk(0x82, 1, &[]);
        assert_eq!(bench.answer(old).await.status, Status::BadRequest);
        bench.detach().await;
        assert_eq!(bench.device.configuration(), 1);
        assert_eq!(bench.device.driven(), [0, 1]);
        bench.end().await;
    });
}

#[test]
fn a_reset_lets_the_interfaces_go_before_and_takes_them_again_after() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        let reset = bench.request(Opcode::UsbReset, Vec::new());
        assert_eq!(bench.answer(reset).await.status, Status::Ok);
        assert_eq!(bench.transfer(waiting).await, (-2, 0, vec![]));
        assert_eq!(bench.device.claimed(), [0, 1]);
        bench.detach().await;
        bench.end().await;
    });
}

/// URBs on every endpoint that waits, some of them given up, and a change in their midst.
async fn change_under_load(bench: &mut Bench, change: fn(&mut Bench) -> u32, ends_all: bool) {
    let before: Vec<_> = (0..10)
        .flat_map(|_| [bench.interrupt(0x83, 8, 0, &[]), bench.bulk(0x81, 8, &[])])
        .collect();
    bench.until(|bench| bench.device.in_flight() == 20).await;
    bench.device.hold_calls();
    let changed = change(bench);
    bench.until(|bench| bench.device.waiting_calls() == 1).await;
    let behind: Vec<_> = (0..10).map(|_| bench.bulk(0x82, 4, &[])).collect();
    let again = change(bench);
    let last = bench.bulk(0x82, 4, &[]);
    let given_up = [behind[0], behind[5]];
    for corr in [before[3], before[4]].into_iter().chain(given_up) {
        bench.cancel(corr);
    }
    for corr in given_up {
        assert_eq!(bench.transfer(corr).await, (-2, 0, vec![]));
    }
    bench.device.let_calls_go();
    assert_eq!(bench.answer(changed).await.status, Status::Ok);
    assert_eq!(bench.answer(again).await.status, Status::Ok);
    bench.answer(last).await;
    let ended = if ends_all { before.len() } else { 0 };
    for corr in before.iter().take(ended) {
        bench.answer(*corr).await;
    }
    let kept = behind.iter().filter(|corr| !given_up.contains(corr));
    let kept: Vec<_> = kept.collect();
    for corr in &kept {
        assert_eq!(bench.transfer(**corr).await.0, 0);
    }
    let order = bench.answered();
    let at = |corr: &u32| order.iter().position(|other| other == corr).unwrap();
    assert!(
        kept.iter()
            .all(|corr| at(&changed) < at(corr) && at(corr) < at(&again))
    );
    assert!(kept.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    assert!(at(&again) < at(&last));
}

#[test]
fn changes_of_the_whole_device_under_load_lose_no_answer_and_keep_the_order() {
    let changes: [fn(&mut Bench) -> u32; 2] = [
        |bench| {
            // Something to undo, or nothing would be done.
            bench.control([0x40, 1, 0, 0, 0, 0, 0, 0], &[]);
            bench.control([0x00, 9, 1, 0, 0, 0, 0, 0], &[])
        },
        |bench| bench.request(Opcode::UsbReset, Vec::new()),
    ];
    for change in changes {
        local(async {
            let mut bench = Bench::attach().await;
            change_under_load(&mut bench, change, true).await;
            assert_eq!(bench.device.in_flight(), 0);
            assert_eq!(bench.device.claimed(), [0, 1]);
            bench.detach().await;
            bench.end().await;
        });
    }
}

#[test]
fn a_setting_changed_under_load_leaves_other_interfaces_alone() {
    local(async {
        let mut bench = Bench::attach().await;
        // Those before the change wait on interface 0, to which nothing happens.
        change_under_load(&mut bench, |bench| bench.set_interface(1, 1), false).await;
        assert_eq!(bench.device.in_flight(), 18);
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_change_that_fails_is_answered_in_the_form_of_its_request() {
    local(async {
        let mut bench = Bench::attach().await;
        let halt = Act::ClearHalt(0x82);
        bench.device.fail_next(halt, Errno::EPIPE);
        let clear = bench.control([0x02, 1, 0, 0, 0x82, 0, 0, 0], &[]);
        assert_eq!(bench.transfer(clear).await, (-32, 0, vec![]));
        bench.device.fail_next(halt, Errno::EPIPE);
        let clear = bench.clear_halt(0x82);
        let answer = bench.answer(clear).await;
        assert_eq!(
            answer.error(),
            (Status::InternalError, "device-io".to_owned())
        );
        let map: ErrorMap = msgpack::decode(&answer.payload).unwrap();
        assert_eq!(map.detail, Some(32));
        bench.detach().await;
        bench.end().await;
    });
}
