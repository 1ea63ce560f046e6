//! What the programs of the user tell the device.

use myclerk::bus::hid::op::{Configure, Configured};
use myclerk::bus::{MAX_AGE_SECS, Outgoing};
use myclerk::kernel::evdev::codes::{EV_FF, EV_REP, EV_SND, FF_AUTOCENTER, FF_GAIN};
use myclerk::kernel::evdev::{Effect, Event, Kind, Wave};
use myclerk::kernel::uinput::Wish;
use myclerk::wire::class::Class;
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;

use crate::hostile::Peer;
use crate::rig::{KEY_A, LED_CAPS, Rig, key, led, run, until};

pub(crate) fn rumble(id: i16, strong: u16) -> Effect {
    Effect {
        id,
        direction: 0x4000,
        trigger: [0x130, 5],
        replay: [1000, 10],
        kind: Kind::Rumble { strong, weak: 7 },
    }
}

pub(crate) async fn answers(rig: &Rig, wanted: &[(u32, Result<(), Errno>)]) {
    until(
        || rig.maker.answers() == wanted,
        || format!("{:?} instead of {wanted:?}", rig.maker.answers()),
    )
    .await;
}

#[test]
fn lights_sounds_and_rates_reach_the_device_once() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        let told = [
            led(LED_CAPS, 1),
            Event::new(EV_SND, 2, 440),
            Event::new(EV_REP, 0, 500),
            led(LED_CAPS, 0),
        ];
        for event in told {
            rig.maker.wish(Wish::Event(event));
        }
        rig.written(&told).await;
        // What the device was told it tells its readers: none of it comes back to the user.
        rig.input.events(&[key(KEY_A, 1), Event::REPORT]);
        rig.seen(&[key(KEY_A, 1), Event::REPORT]).await;
        assert_eq!(rig.events(), [key(KEY_A, 1), Event::REPORT]);
        rig.written(&told).await;
    });
}

#[test]
fn a_light_that_the_owner_sets_is_lit_for_the_user_and_not_told_back() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        rig.input.events(&[led(LED_CAPS, 1), Event::REPORT]);
        rig.seen(&[led(LED_CAPS, 1), Event::REPORT]).await;
        rig.maker.wish(Wish::Event(led(0, 1)));
        rig.written(&[led(0, 1)]).await;
    });
}

#[test]
fn an_effect_is_uploaded_played_changed_and_erased_by_the_owners_number() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        let upload = |request, effect| rig.maker.wish(Wish::Upload { request, effect });
        upload(0, Some(rumble(0, 1)));
        answers(&rig, &[(0, Ok(()))]).await;
        assert_eq!(rig.input.effects(), [rumble(11, 1)]);
        let wave = Effect {
            kind: Kind::Periodic {
                wave: Wave::Square,
                period: 20,
                magnitude: -300,
                offset: 4,
                phase: 5,
                envelope: [1, 2, 3, 4],
            },
            ..rumble(1, 0)
        };
        upload(1, Some(wave));
        answers(&rig, &[(0, Ok(())), (1, Ok(()))]).await;
        assert_eq!(rig.input.effects()[1], Effect { id: 12, ..wave });
        upload(0, Some(rumble(0, 9)));
        answers(&rig, &[(0, Ok(())), (1, Ok(())), (0, Ok(()))]).await;
        assert_eq!(rig.input.effects()[0], rumble(11, 9));

        let play = |code, value| Wish::Event(Event::new(EV_FF, code, value));
        rig.maker.wish(play(FF_GAIN, 0x8000));
        rig.maker.wish(play(FF_AUTOCENTER, 3));
        rig.maker.wish(play(1, 2));
        // Nobody has uploaded this one.
        rig.maker.wish(play(3, 1));
        rig.maker.wish(play(0, 1));
        rig.written(&[
            Event::new(EV_FF, FF_GAIN, 0x8000),
            Event::new(EV_FF, FF_AUTOCENTER, 3),
            Event::new(EV_FF, 12, 2),
            Event::new(EV_FF, 11, 1),
        ])
        .await;

        rig.maker.wish(Wish::Erase { request: 2, id: 0 });
        until(|| rig.maker.answers().len() == 4, || "no answer".to_owned()).await;
        assert_eq!(rig.maker.answers()[3], (2, Ok(())));
        assert_eq!(rig.input.effects().len(), 1);
    });
}

#[test]
fn the_devices_refusal_is_the_programs() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        for id in 0..4 {
            let effect = Some(rumble(id, 1));
            rig.maker.wish(Wish::Upload { request: 0, effect });
        }
        until(|| rig.maker.answers().len() == 4, || "no answer".to_owned()).await;
        let fifth = Some(rumble(4, 1));
        rig.maker.wish(Wish::Upload {
            request: 7,
            effect: fifth,
        });
        until(|| rig.maker.answers().len() == 5, || "no answer".to_owned()).await;
        assert_eq!(rig.maker.answers()[4], (7, Err(Errno::ENOSPC)));
        // One of a kind that this crate does not know, and one of a kind that the device has not.
        rig.maker.wish(Wish::Upload {
            request: 8,
            effect: None,
        });
        let spring = Effect {
            kind: Kind::Condition {
                by: myclerk::kernel::evdev::By::Position,
                axes: Default::default(),
            },
            ..rumble(-1, 0)
        };
        rig.maker.wish(Wish::Upload {
            request: 9,
            effect: Some(spring),
        });
        until(|| rig.maker.answers().len() == 7, || "no answer".to_owned()).await;
        assert_eq!(
            rig.maker.answers()[5..],
            [(8, Err(Errno::EINVAL)), (9, Err(Errno::EINVAL))]
        );
    });
}

#[test]
fn without_a_way_back_nothing_reaches_the_device() {
    run(async {
        let rig = Rig::with(crate::rig::everything(), false);
        let refused = rig.try_attach(&[]).await.err().unwrap();
        assert!(refused.to_string().contains("watch"), "{refused}");
        let options = [("back", "false"), ("grab", "false")];
        let _local = rig
            .try_attach(&options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(rig.maker.made().unwrap().0.ff.is_empty());
        rig.maker.wish(Wish::Event(led(LED_CAPS, 1)));
        rig.input.events(&[key(KEY_A, 1), Event::REPORT]);
        rig.seen(&[key(KEY_A, 1), Event::REPORT]).await;
        assert!(rig.input.written().is_empty());
        assert!(!rig.input.grabbed());
    });
}

#[test]
fn an_effect_of_another_stream_is_not_touched() {
    run(async {
        let mut peer = Peer::open().await;
        let theirs = myclerk::bus::hid::hardware::InputPort::upload(&peer.input, rumble(-1, 1));
        let id = theirs.unwrap();
        for change in [Configure::Erase(id), Configure::Upload(rumble(id, 9))] {
            let outgoing = change.encode().unwrap();
            let answer = peer.ask(Opcode::StreamConfigure, outgoing).await;
            assert_eq!(answer.unwrap_err(), "device-io");
        }
        assert_eq!(peer.input.effects(), [rumble(id, 1)]);
        let own = Configure::Upload(rumble(-1, 2)).encode().unwrap();
        let answer = peer.ask(Opcode::StreamConfigure, own).await;
        let own = Configured::decode(&answer.unwrap()).unwrap().effect;
        assert_ne!(own, Some(id));
    });
}

#[test]
fn what_changes_the_device_is_not_done_late() {
    run(async {
        let mut peer = Peer::open().await;
        let own = Configure::Upload(rumble(-1, 1)).encode().unwrap();
        let own = peer.ask(Opcode::StreamConfigure, own).await.unwrap();
        let id = Configured::decode(&own).unwrap().effect.unwrap();
        for change in [
            Configure::Upload(rumble(id, 2)),
            Configure::Grab(false),
            Configure::Erase(id),
        ] {
            let payload = change.encode().unwrap();
            let configure = Opcode::StreamConfigure;
            let late = peer.ask_late(configure, payload.clone(), MAX_AGE_SECS + 1);
            assert_eq!(late.await.unwrap_err(), "too-old");
            assert_eq!(peer.input.effects().len(), 1);
            assert!(peer.input.grabbed());
            if !matches!(change, Configure::Grab(_)) {
                let just = peer.ask_late(configure, payload, MAX_AGE_SECS).await;
                just.unwrap();
            }
        }
        assert_eq!(peer.input.effects(), []);
    });
}

#[test]
fn a_late_request_gives_the_device_to_its_owner_but_does_not_take_it() {
    run(async {
        let mut peer = Peer::open().await;
        let late = MAX_AGE_SECS + 1;
        let pause = peer.ask_late(Opcode::StreamPause, vec![], late).await;
        pause.unwrap();
        assert!(!peer.input.grabbed());
        let resume = peer.ask_late(Opcode::StreamResume, vec![], late).await;
        assert_eq!(resume.unwrap_err(), "too-old");
        assert!(!peer.input.grabbed());
        peer.ask(Opcode::StreamResume, vec![]).await.unwrap();
        assert!(peer.input.grabbed());
    });
}

#[test]
fn effects_and_sounds_do_not_begin_late_but_end_so() {
    run(async {
        let mut peer = Peer::open().await;
        let effect = Configure::Upload(rumble(-1, 1)).encode().unwrap();
        let effect = peer.ask(Opcode::StreamConfigure, effect).await.unwrap();
        let id = Configured::decode(&effect).unwrap().effect.unwrap();
        let play = |value| Event::new(EV_FF, u16::try_from(id).unwrap(), value);
        let beep = |value| Event::new(EV_SND, 1, value);
        // A clock of its own, which says nothing but how much time went by.
        let sent = 1 << 40;
        peer.tell_at(sent, &[play(1), beep(1)]);
        let held_back = sent - 11_000_000;
        peer.tell_at(held_back, &[play(2), beep(2), led(LED_CAPS, 1)]);
        peer.tell_at(held_back, &[play(0), beep(0)]);
        peer.tell_at(sent - 5_000_000, &[play(3)]);
        let wanted = [
            play(1),
            beep(1),
            led(LED_CAPS, 1),
            play(0),
            beep(0),
            play(3),
        ];
        until(
            || peer.input.written() == wanted,
            || format!("{:?}", peer.input.written()),
        )
        .await;
    });
}

pub(crate) fn outgoing(opcode: Opcode, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        opcode,
        class: Class::Interactive,
        payload,
        reply_len: 1024,
        timeout_ms: 0,
        deadline_ms: 0,
    }
}
