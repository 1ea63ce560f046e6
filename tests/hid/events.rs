//! What the device does.

use myclerk::bus::fake::WINDOW;
use myclerk::kernel::evdev::codes::{
    ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_MSC, EV_REL, EV_REP, EV_SW,
};
use myclerk::kernel::evdev::{Description, Event, monotonic};

use crate::rig::{BTN_TOUCH, KEY_A, LED_CAPS, MT_X, Rig, abs, everything, key, led, run};

#[test]
fn the_device_of_the_user_is_that_of_the_owner() {
    run(async {
        let rig = Rig::new();
        let local = rig.attach().await;
        assert_eq!(local.handle.files(), ["/dev/input/event99"]);
        let (made, phys) = rig.maker.made().unwrap();
        // The noise is filtered at the owner.
        let mut wanted = everything();
        for (_, axis) in &mut wanted.abs {
            axis.fuzz = 0;
        }
        assert_eq!(made, wanted);
        assert_eq!(phys, "myclerk/hub/hid:1209:0001:E1");
        let seen = || rig.maker.events().len() == 3;
        crate::rig::until(seen, || format!("{:?}", rig.maker.events())).await;
        let rates: Vec<Event> = rig.maker.events().into_iter().take(3).collect();
        assert_eq!(
            rates,
            [
                Event::new(EV_REP, 0, 300),
                Event::new(EV_REP, 1, 40),
                Event::REPORT
            ]
        );
    });
}

#[test]
fn packets_arrive_whole_and_in_order() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        let packets = [
            Event::new(EV_MSC, 4, 458_756),
            key(KEY_A, 1),
            Event::REPORT,
            Event::new(EV_REL, 0, -5),
            Event::new(EV_REL, 1, 3),
            Event::REPORT,
            abs(ABS_MT_SLOT, 1),
            abs(ABS_MT_TRACKING_ID, 44),
            abs(MT_X, 500),
            key(BTN_TOUCH, 1),
            Event::REPORT,
            Event::new(EV_SW, 5, 1),
            Event::REPORT,
            key(KEY_A, 0),
            Event::REPORT,
        ];
        rig.input.events(&packets);
        rig.seen(&packets).await;
        assert_eq!(rig.events(), packets);
    });
}

#[test]
fn repetition_is_left_to_the_kernel_of_the_user() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        rig.input.events(&[key(KEY_A, 1), Event::REPORT]);
        rig.input.events(&[key(KEY_A, 2), Event::REPORT]);
        rig.input.events(&[key(KEY_A, 0), Event::REPORT]);
        rig.seen(&[key(KEY_A, 0), Event::REPORT]).await;
        assert!(!rig.events().contains(&key(KEY_A, 2)));
    });
}

#[test]
fn events_keep_their_distance_in_time() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        let now = monotonic();
        let at = |time, event: Event| Event { time, ..event };
        let packet = |time, value| [at(time, key(KEY_A, value)), at(time, Event::REPORT)];
        rig.input.events(&packet(now - 9000, 1));
        rig.input.events(&packet(now - 2000, 0));
        rig.seen(&[key(KEY_A, 0), Event::REPORT]).await;
        let times: Vec<u64> = rig
            .maker
            .events()
            .iter()
            .skip(3)
            .map(|event| event.time)
            .collect();
        assert!(times.is_sorted());
        assert!(*times.last().unwrap() <= monotonic());
        assert!(times[2] - times[1] <= 7000, "{times:?}");
    });
}

#[test]
fn what_was_pressed_before_is_pressed_from_the_beginning() {
    run(async {
        let rig = Rig::new();
        rig.input
            .events(&[key(KEY_A, 1), led(LED_CAPS, 1), abs(0, 50), Event::REPORT]);
        let _local = rig.try_attach(&[("grab", "false")]).await;
        rig.seen(&[key(KEY_A, 1), led(LED_CAPS, 1), abs(0, 50), Event::REPORT])
            .await;
    });
}

#[test]
fn a_key_that_is_down_is_released_for_the_owner_before_the_device_is_taken() {
    run(async {
        let rig = Rig::new();
        rig.input.events(&[key(KEY_A, 1), Event::REPORT]);
        let _local = rig.attach().await;
        assert!(rig.input.grabbed());
        rig.written(&[key(KEY_A, 0)]).await;
        rig.input.events(&[key(31, 1), Event::REPORT]);
        rig.seen(&[key(31, 1), Event::REPORT]).await;
        assert!(!rig.events().contains(&key(KEY_A, 1)));
    });
}

#[test]
fn after_an_overrun_of_the_kernels_buffer_the_state_is_right() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        rig.input.events(&[
            key(KEY_A, 1),
            abs(ABS_MT_TRACKING_ID, 1),
            abs(MT_X, 10),
            Event::REPORT,
        ]);
        rig.seen(&[Event::REPORT]).await;
        rig.input.overrun(&[
            key(KEY_A, 0),
            key(31, 1),
            abs(ABS_MT_TRACKING_ID, -1),
            abs(ABS_MT_TRACKING_ID, 2),
            abs(MT_X, 90),
            abs(ABS_MT_SLOT, 2),
            abs(ABS_MT_TRACKING_ID, 3),
            Event::REPORT,
        ]);
        rig.seen(&[
            abs(ABS_MT_TRACKING_ID, -1),
            Event::REPORT,
            key(KEY_A, 0),
            key(31, 1),
            abs(ABS_MT_TRACKING_ID, 2),
            abs(MT_X, 90),
            abs(ABS_MT_SLOT, 2),
            abs(ABS_MT_TRACKING_ID, 3),
            Event::REPORT,
        ])
        .await;
        rig.input.events(&[key(31, 0), Event::REPORT]);
        rig.seen(&[key(31, 0), Event::REPORT]).await;
    });
}

#[test]
fn without_credit_events_are_dropped_and_the_state_is_right_afterwards() {
    run(async {
        let rig = Rig::new();
        let _local = rig.attach().await;
        rig.seen(&[]).await;
        // In one go: the user cannot use up anything between them.
        let moves = WINDOW / 32 + 100;
        for _ in 0..moves {
            rig.input.events(&[Event::new(EV_REL, 0, 1), Event::REPORT]);
        }
        rig.input.events(&[key(KEY_A, 1), Event::REPORT]);
        rig.seen(&[key(KEY_A, 1), Event::REPORT]).await;
        let moved = rig
            .events()
            .iter()
            .filter(|event| event.kind == EV_REL)
            .count();
        assert!(moved < moves, "{moved}");
    });
}

#[test]
fn a_device_without_slots_and_lights_works_too() {
    run(async {
        let mouse = Description {
            name: "Mouse".to_owned(),
            ids: everything().ids,
            keys: [0x110].into_iter().collect(),
            rel: [0, 1].into_iter().collect(),
            ..Description::default()
        };
        let rig = Rig::with(mouse, true);
        let _local = rig.attach().await;
        rig.input
            .events(&[key(0x110, 1), Event::new(EV_REL, 1, 2), Event::REPORT]);
        let seen = || rig.maker.events().len() == 3;
        crate::rig::until(seen, || format!("{:?}", rig.maker.events())).await;
    });
}
