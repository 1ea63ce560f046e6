//! How the use of a device ends.

use myclerk::bus::hid::op::Configure;
use myclerk::bus::{AttachError, End, Ended};
use myclerk::kernel::evdev::Event;
use myclerk::kernel::evdev::codes::{ABS_MT_SLOT, ABS_MT_TRACKING_ID};
use myclerk::kernel::uinput::Wish;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::hostile::Peer;
use crate::rig::{BTN_TOUCH, KEY_A, LED_CAPS, Rig, abs, key, led, run};

/// A key and two fingers are down.
pub(crate) async fn press(rig: &Rig) {
    let packet = [
        key(KEY_A, 1),
        key(BTN_TOUCH, 1),
        abs(ABS_MT_TRACKING_ID, 5),
        abs(ABS_MT_SLOT, 2),
        abs(ABS_MT_TRACKING_ID, 6),
        Event::REPORT,
    ];
    rig.input.events(&packet);
    rig.seen(&packet).await;
}

pub(crate) fn released() -> Vec<Event> {
    vec![
        abs(ABS_MT_SLOT, 0),
        abs(ABS_MT_TRACKING_ID, -1),
        abs(ABS_MT_SLOT, 2),
        abs(ABS_MT_TRACKING_ID, -1),
        key(KEY_A, 0),
        key(BTN_TOUCH, 0),
        Event::REPORT,
    ]
}

#[test]
fn a_cut_in_mid_press_releases_every_key_and_touch_before_the_device_goes() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach().await;
        press(&rig).await;
        rig.session.cut();
        assert_eq!(local.ended.await, Ended::Session);
        assert!(rig.events().ends_with(&released()), "{:?}", rig.events());
        assert!(rig.maker.removed());
        assert_eq!(rig.end().await, End::PeerLeft);
        assert!(!rig.input.grabbed());
    });
}

#[test]
fn a_device_that_is_given_back_is_as_it_was() {
    run(async {
        let mut rig = Rig::new();
        rig.input.events(&[led(0, 1), Event::REPORT]);
        let local = rig.attach().await;
        rig.maker.wish(Wish::Event(led(LED_CAPS, 1)));
        rig.written(&[led(LED_CAPS, 1)]).await;
        press(&rig).await;
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert!(rig.events().ends_with(&released()));
        assert_eq!(rig.end().await, End::Detached);
        assert!(!rig.input.grabbed());
        let lit: Vec<u16> = rig.input.state().leds.iter().collect();
        assert_eq!(lit, [0]);
    });
}

#[test]
fn an_unplugged_device_ends_at_both_sides() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach().await;
        press(&rig).await;
        rig.input.unplug();
        assert_eq!(rig.end().await, End::DeviceGone);
        assert_eq!(local.ended.await, Ended::Owner(Status::ServiceUnavailable));
        assert!(rig.events().ends_with(&released()));
    });
}

#[test]
fn a_device_that_another_program_has_taken_is_refused_but_can_be_watched() {
    run(async {
        let mut rig = Rig::new();
        for (programs, told) in [
            (&[][..], "another program of its owner has taken"),
            (
                &["evtest (process 7)"],
                "evtest (process 7) at its owner has taken",
            ),
            (
                &["a (process 7)", "b (process 8)"],
                "one of a (process 7), b (process 8) at",
            ),
        ] {
            rig.input.take(programs);
            let Err(AttachError::Ask(refused)) = rig.try_attach(&[]).await else {
                panic!("it was given");
            };
            let refused = refused.to_string();
            assert!(refused.contains(told), "{refused}");
            assert!(refused.contains("grab=false"), "{refused}");
            assert!(matches!(rig.end().await, End::Refused(_)));
        }
        assert!(rig.try_attach(&[("grab", "false")]).await.is_ok());
    });
}

#[test]
fn when_uinput_refuses_the_owner_gets_its_device_back() {
    run(async {
        let mut rig = Rig::new();
        rig.maker.refuse(Errno::ENOENT);
        let Err(AttachError::Here { mend, .. }) = rig.try_attach(&[]).await else {
            panic!("it was made");
        };
        assert_eq!(mend.as_deref(), Some("modprobe uinput"));
        assert_eq!(rig.end().await, End::PeerLeft);
        assert!(!rig.input.grabbed());
    });
}

#[test]
fn a_paused_device_is_its_owners_and_comes_back_in_its_present_state() {
    run(async {
        let mut peer = Peer::open().await;
        peer.input.events(&[key(KEY_A, 1), Event::REPORT]);
        peer.hears(&[key(KEY_A, 1), Event::REPORT]).await;
        peer.ask(Opcode::StreamPause, vec![0x80]).await.unwrap();
        assert_eq!(
            peer.heard.last_chunk(),
            Some(&[key(KEY_A, 0), Event::REPORT])
        );
        assert!(!peer.input.grabbed());
        peer.input
            .events(&[key(31, 1), Event::REPORT, abs(0, 9), Event::REPORT]);
        peer.ask(Opcode::StreamPause, vec![]).await.unwrap();
        peer.ask(Opcode::StreamResume, vec![]).await.unwrap();
        assert!(peer.input.grabbed());
        peer.hears(&[abs(0, 9), Event::REPORT]).await;
        peer.ask(Opcode::StreamResume, vec![]).await.unwrap();
    });
}

#[test]
fn the_grab_can_be_given_up_and_taken_again() {
    run(async {
        let mut peer = Peer::open().await;
        for on in [false, true] {
            let grab = Configure::Grab(on).encode().unwrap();
            peer.ask(Opcode::StreamConfigure, grab).await.unwrap();
            assert_eq!(peer.input.grabbed(), on);
        }
    });
}
