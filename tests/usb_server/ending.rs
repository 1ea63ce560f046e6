//! However a stream ends, the device goes back to its owner.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::rc::Rc;

use myclerk::bus::Inbound;
use myclerk::bus::usb::enumerate::Location;
use myclerk::bus::usb::fake::{Act, Fake, FakeHost};
use myclerk::bus::usb::hardware::UsbPort;
use myclerk::bus::usb::server::{End, mend, reconnect};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::mpsc;

use crate::bench::{Bench, local};

#[test]
fn pulling_the_plug_answers_everything_and_resets_the_stream() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = bench.interrupt(0x83, 8, 0, &[]);
        bench.until(|bench| bench.device.in_flight() == 1).await;
        bench.device.hold_calls();
        let change = bench.clear_halt(0x82);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        let queued = bench.bulk(0x82, 1, &[]);
        let detach = bench.request(Opcode::UsbDeviceDetach, Vec::new());
        bench.device.unplug();
        assert_eq!(bench.transfer(waiting).await, (-108, 0, vec![]));
        let gone = (Status::ServiceUnavailable, "device-gone".to_owned());
        assert_eq!(bench.answer(change).await.error(), gone);
        assert_eq!(bench.transfer(queued).await, (-19, 0, vec![]));
        assert_eq!(bench.answer(detach).await.error(), gone);
        let outlet = Rc::clone(&bench.outlet);
        assert_eq!(bench.end().await, End::DeviceGone);
        assert_eq!(*outlet.resets.borrow(), [Status::ServiceUnavailable]);
    });
}

#[test]
fn an_idle_device_that_is_unplugged_ends_its_stream() {
    local(async {
        let bench = Bench::attach().await;
        bench.device.unplug();
        assert_eq!(bench.end().await, End::DeviceGone);
    });
}

#[test]
fn detaching_ends_what_is_under_way_and_resets_the_device_before_its_drivers_come_back() {
    local(async {
        let mut bench = Bench::attach().await;
        let waiting = [bench.interrupt(0x83, 8, 0, &[]), bench.bulk(0x81, 8, &[])];
        let detach = bench.detach().await;
        for corr in waiting {
            assert_eq!(bench.transfer(corr).await, (-108, 0, vec![]));
        }
        assert_eq!(bench.answered().last(), Some(&detach));
        let acts = bench.device.acts();
        let at = |act| acts.iter().rposition(|other| *other == act).unwrap();
        assert!(at(Act::Release(1)) < at(Act::Reset));
        assert!(at(Act::Reset) < at(Act::Connect(0)));
        assert_eq!(bench.device.driven(), [0, 1]);
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_peer_that_vanishes_leaves_the_device_as_it_was_found() {
    local(async {
        for message in [
            Some(Inbound::Closed),
            Some(Inbound::Reset {
                status: Status::ServiceUnavailable,
            }),
            None,
        ] {
            let mut bench = Bench::attach().await;
            bench.interrupt(0x83, 8, 0, &[]);
            bench.until(|bench| bench.device.in_flight() == 1).await;
            match message {
                Some(message) => bench.send(message),
                None => bench.inbound = mpsc::unbounded_channel().0,
            }
            let device = bench.device.clone();
            assert_eq!(bench.end().await, End::PeerLeft);
            assert!(device.acts().contains(&Act::Reset));
            assert_eq!((device.driven(), device.in_flight()), (vec![0, 1], 0));
        }
    });
}

#[test]
fn a_peer_that_vanishes_during_a_change_still_gives_the_device_back() {
    local(async {
        let mut bench = Bench::attach().await;
        bench.device.hold_calls();
        bench.set_configuration(2);
        bench.until(|bench| bench.device.waiting_calls() == 1).await;
        bench.send(Inbound::Closed);
        tokio::task::yield_now().await;
        bench.device.let_calls_go();
        let device = bench.device.clone();
        assert_eq!(bench.end().await, End::PeerLeft);
        assert_eq!((device.configuration(), device.driven()), (1, vec![0, 1]));
    });
}

#[test]
fn a_task_that_is_dropped_gives_the_device_back_all_the_same() {
    local(async {
        let bench = Bench::attach().await;
        bench.task.abort();
        assert!(bench.task.await.unwrap_err().is_cancelled());
        assert_eq!(bench.device.driven(), [0, 1]);
        assert_eq!(bench.device.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_device_that_a_killed_daemon_left_behind_gets_its_drivers_back() {
    local(async {
        let device = Fake::new();
        device.disconnect_claim(0).unwrap();
        device.release(0).unwrap();
        assert_eq!(device.driven(), [1]);
        let host = FakeHost::default().with(1, 2, device.clone());
        let mut location = Location {
            bus: 1,
            address: 2,
            sysfs: PathBuf::new(),
        };
        reconnect(&host, &location).await.unwrap();
        assert_eq!(device.driven(), [0, 1]);
        location.address = 3;
        let error = reconnect(&host, &location).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

/// What a daemon leaves that was killed while a peer had the device in configuration 2.
fn left_behind() -> Fake {
    let device = Fake::new();
    device.disconnect_claim(0).unwrap();
    device.disconnect_claim(1).unwrap();
    device.release(0).unwrap();
    device.release(1).unwrap();
    device.set_configuration(2).unwrap();
    device.disconnect_claim(0).unwrap();
    device.release(0).unwrap();
    device
}

#[test]
fn a_device_of_a_killed_daemon_is_mended_with_configuration_reset_and_drivers() {
    let device = left_behind();
    mend(&device, 1).unwrap();
    assert_eq!((device.configuration(), device.driven()), (1, vec![0, 1]));
    assert!(device.acts().contains(&Act::Reset));
    assert_eq!(device.complaints(), Vec::<String>::new());
}

#[test]
fn a_device_that_a_program_has_is_not_mended_yet() {
    let device = left_behind();
    device.disconnect_claim(0).unwrap();
    let acts = device.acts().len();
    let error = mend(&device, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EBUSY as i32));
    assert_eq!(device.acts().len(), acts);
    device.release(0).unwrap();
    mend(&device, 1).unwrap();
}

#[test]
fn a_device_that_has_drivers_already_is_not_reset_under_them() {
    let device = Fake::new();
    device.disconnect_claim(1).unwrap();
    device.release(1).unwrap();
    mend(&device, 1).unwrap();
    assert_eq!(device.driven(), [0, 1]);
    assert!(!device.acts().contains(&Act::Reset));
    mend(&device, 1).unwrap();
    assert!(!device.acts().contains(&Act::Reset));
}

#[test]
fn a_device_that_is_gone_is_not_mended() {
    let device = left_behind();
    device.unplug();
    assert!(mend(&device, 1).is_err());
}
