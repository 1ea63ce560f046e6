//! The session is lost, and comes back or does not.

use std::time::Duration;

use myclerk::bus::{End, Ended, Inbound, Local};
use myclerk::kernel::evdev::codes::{
    ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_FF, EV_SND, EV_SW, FF_GAIN,
};
use myclerk::kernel::evdev::{Description, Event};
use myclerk::kernel::uinput::Wish;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::back::{answers, rumble};
use crate::ending::{press, released};
use crate::hostile::{owner_for, started};
use crate::rig::{
    BTN_TOUCH, KEY_A, LED_CAPS, Rig, abs, codes, everything, key, led, looked, run, until,
};

const GRACE: Duration = Duration::from_secs(60);

/// The session is lost, and both sides know.
async fn cut(rig: &mut Rig, local: &Local) {
    rig.session.cut();
    assert_eq!(rig.end().await, End::PeerLeft);
    let lost = || !local.handle.is_live();
    until(lost, || "nobody noticed".to_owned()).await;
    assert!(!rig.maker.removed());
}

/// There is a session again, and the owner's device was looked at.
async fn mend(rig: &Rig, local: &Local) {
    let looks = rig.input.looks();
    rig.session.mend();
    looked(&rig.input, looks + 2).await;
    let live = || local.handle.is_live();
    until(live, || "it did not come back".to_owned()).await;
}

#[test]
fn a_cut_releases_everything_at_once_and_the_device_stays() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        assert!(local.handle.is_live());
        let tone = Event::new(EV_SND, 2, 440);
        rig.maker.wish(Wish::Event(tone));
        rig.written(&[tone]).await;
        press(&rig).await;
        cut(&mut rig, &local).await;
        let mut silent = released();
        silent.insert(silent.len() - 1, Event::new(EV_SND, 2, 0));
        rig.seen(&silent).await;
    });
}

#[test]
fn a_device_that_is_back_goes_on_in_its_present_state() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[("grab", "false")]).await;
        let lid = |closed| Event::new(EV_SW, 5, closed);
        rig.input.events(&[lid(1), abs(0, 9), Event::REPORT]);
        press(&rig).await;
        cut(&mut rig, &local).await;
        rig.input.events(&[
            abs(ABS_MT_SLOT, 0),
            abs(ABS_MT_TRACKING_ID, -1),
            abs(ABS_MT_SLOT, 2),
            abs(ABS_MT_TRACKING_ID, -1),
            key(BTN_TOUCH, 0),
            lid(0),
            abs(0, 50),
            Event::REPORT,
        ]);
        mend(&rig, &local).await;
        // Only the key is still held.
        let mut told = released();
        told.extend([key(KEY_A, 1), lid(0), abs(0, 50), Event::REPORT]);
        rig.seen(&told).await;
        let more = [abs(ABS_MT_TRACKING_ID, 7), key(KEY_A, 0), Event::REPORT];
        rig.input.events(&more);
        told.extend(more);
        rig.seen(&told).await;
        cut(&mut rig, &local).await;
        mend(&rig, &local).await;
        rig.input.events(&[key(31, 1), Event::REPORT]);
        rig.seen(&[key(31, 1), Event::REPORT]).await;
    });
}

#[test]
fn a_device_that_is_back_in_its_first_state_is_so_here() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        let lid = |closed| [Event::new(EV_SW, 5, closed), Event::REPORT];
        rig.input.events(&lid(1));
        rig.seen(&lid(1)).await;
        cut(&mut rig, &local).await;
        rig.input.events(&lid(0));
        mend(&rig, &local).await;
        rig.seen(&lid(0)).await;
    });
}

#[test]
fn lights_of_this_machines_programs_are_lit_again_and_sounds_are_not_heard() {
    run(async {
        let mut rig = Rig::new();
        rig.input.events(&[led(2, 1), Event::REPORT]);
        let local = rig.attach_for(GRACE, &[]).await;
        rig.seen(&[led(2, 1), Event::REPORT]).await;
        let input = rig.input.clone();
        let lit = || -> Vec<u16> { input.state().leds.iter().collect() };
        for event in [led(LED_CAPS, 1), led(2, 0)] {
            rig.maker.wish(Wish::Event(event));
        }
        until(|| lit() == [LED_CAPS], || format!("{:?}", lit())).await;
        rig.session.cut();
        let lost = || !local.handle.is_live() && lit() == [2];
        until(lost, || format!("{:?}", lit())).await;
        assert_eq!(rig.end().await, End::PeerLeft);

        for event in [
            Event::new(EV_SND, 2, 440),
            led(0, 1),
            led(LED_CAPS, 0),
            led(LED_CAPS, 1),
            Event::new(EV_FF, FF_GAIN, 0x7000),
        ] {
            rig.maker.wish(Wish::Event(event));
        }
        let before = rig.input.written().len();
        let shown = rig.maker.events().len();
        mend(&rig, &local).await;
        until(|| lit() == [0, LED_CAPS], || format!("{:?}", lit())).await;
        let written = rig.input.written().split_off(before);
        let gain = Event::new(EV_FF, FF_GAIN, 0x7000);
        let wanted = [led(0, 1), led(LED_CAPS, 1), led(2, 0), gain];
        assert!(written.starts_with(&wanted), "{written:?}");
        rig.input.events(&[key(KEY_A, 1), Event::REPORT]);
        rig.seen(&[key(KEY_A, 1), Event::REPORT]).await;
        let since = rig.maker.events().split_off(shown);
        assert!(!since.contains(&led(2, 1)), "{since:?}");
    });
}

#[test]
fn effects_are_uploaded_again_as_the_programs_have_them_by_then() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        let maker = rig.maker.clone();
        let upload = |request, effect| {
            let effect = Some(effect);
            maker.wish(Wish::Upload { request, effect });
        };
        for id in 0..3 {
            upload(0, rumble(id, 1));
        }
        let ok = (0, Ok(()));
        answers(&rig, &[ok; 3]).await;
        cut(&mut rig, &local).await;
        assert_eq!(rig.input.effects(), []);
        rig.maker.wish(Wish::Erase { request: 1, id: 1 });
        upload(2, rumble(3, 4));
        upload(3, rumble(0, 9));
        let meanwhile = [ok, ok, ok, (1, Ok(())), (2, Ok(())), (3, Ok(()))];
        answers(&rig, &meanwhile).await;
        rig.maker.wish(Wish::Event(Event::new(EV_FF, 0, 1)));
        let before = rig.input.written().len();
        mend(&rig, &local).await;
        // By the numbers that the owner gives next.
        let again = [rumble(14, 9), rumble(15, 1), rumble(16, 4)];
        until(
            || rig.input.effects() == again,
            || format!("{:?}", rig.input.effects()),
        )
        .await;
        // Only then it is known here by which numbers.
        upload(4, rumble(2, 5));
        let all: Vec<_> = meanwhile.into_iter().chain([(4, Ok(()))]).collect();
        answers(&rig, &all).await;
        let changed = || rig.input.effects()[1] == rumble(15, 5);
        until(changed, || format!("{:?}", rig.input.effects())).await;
        rig.maker.wish(Wish::Event(Event::new(EV_FF, 3, 1)));
        let play = Event::new(EV_FF, 16, 1);
        let played = || rig.input.written().split_off(before) == [play];
        until(played, || format!("{:?}", rig.input.written())).await;
        rig.maker.wish(Wish::Erase { request: 5, id: 0 });
        let erased = || rig.input.effects().len() == 2;
        until(erased, || format!("{:?}", rig.input.effects())).await;
    });
}

#[test]
fn a_program_that_waits_for_the_owner_when_that_is_lost_is_answered() {
    run(async {
        let (local, maker, stream, session) = owner_for(GRACE, started(everything())).await;
        let local = local.unwrap_or_else(|error| panic!("{error}"));
        let mut stream = stream.unwrap();
        let effect = Some(rumble(0, 1));
        maker.wish(Wish::Upload { request: 6, effect });
        let asked = stream.inbound.recv().await;
        assert!(matches!(asked, Some(Inbound::Request { .. })), "{asked:?}");
        session.cut();
        let answered = || maker.answers() == [(6, Err(Errno::EIO))];
        until(answered, || format!("{:?}", maker.answers())).await;
        assert!(!local.handle.is_live());
    });
}

#[test]
fn another_device_by_the_same_name_is_not_taken_for_the_first() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        cut(&mut rig, &local).await;
        rig.input.replace(Description {
            keys: codes(&[KEY_A]),
            ..everything()
        });
        rig.session.mend();
        let ended = local.ended.await;
        assert!(matches!(&ended, Ended::Failed(why) if why.contains("another device")));
        assert!(rig.maker.removed());
        assert_eq!(rig.end().await, End::PeerLeft);
        assert!(!rig.input.grabbed());
    });
}

#[test]
fn after_the_grace_time_the_device_is_removed() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        cut(&mut rig, &local).await;
        tokio::time::pause();
        assert_eq!(local.ended.await, Ended::Session);
        assert!(rig.maker.removed());
    });
}

#[test]
fn a_device_that_is_detached_meanwhile_is_gone_at_once() {
    run(async {
        let mut rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        cut(&mut rig, &local).await;
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert!(rig.maker.removed());
    });
}

#[test]
fn what_the_owner_ends_is_not_waited_for() {
    run(async {
        let rig = Rig::new();
        let local = rig.attach_for(GRACE, &[]).await;
        rig.input.unplug();
        assert_eq!(local.ended.await, Ended::Owner(Status::ServiceUnavailable));
        assert!(rig.maker.removed());
    });
}
