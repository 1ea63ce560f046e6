//! Events of inputs.

use myclerk::bus::gpio::op::{Edge, EdgeEvent, LineRequest, Watch};
use myclerk::wire::opcode::Opcode;

use crate::rig::{Lines, inputs, machine, run, until};

async fn watch(lines: &mut Lines, mask: u64, edge: Edge, debounce_us: Option<u32>) {
    let watch = Watch {
        mask,
        edge,
        debounce_us,
    };
    lines
        .ask(Opcode::GpioLineWatch, watch.encode().unwrap())
        .await
        .unwrap();
}

fn brief(event: EdgeEvent) -> (u8, bool, u32, u32) {
    (event.index, event.rising, event.seq, event.lost)
}

#[test]
fn changes_come_with_line_edge_number_and_time() {
    run(async {
        let (chip, session) = machine();
        let request = LineRequest {
            edge: Edge::Both,
            ..inputs(&[5, 0])
        };
        let mut lines = Lines::request(&session, &request).await.unwrap();
        chip.drive(0, true);
        chip.drive(5, true);
        chip.drive(0, false);
        let first = lines.event().await;
        let second = lines.event().await;
        assert_eq!(brief(first), (1, true, 1, 0));
        assert_eq!(brief(second), (0, true, 2, 0));
        assert_eq!(brief(lines.event().await), (1, false, 3, 0));
        assert!(first.time_ns < second.time_ns);
    });
}

#[test]
fn edges_of_active_low_lines_are_those_of_the_value() {
    run(async {
        let (chip, session) = machine();
        let request = LineRequest {
            edge: Edge::Rising,
            low: true,
            ..inputs(&[0])
        };
        chip.drive(0, true);
        let mut lines = Lines::request(&session, &request).await.unwrap();
        chip.drive(0, false);
        assert_eq!(brief(lines.event().await), (0, true, 1, 0));
        assert_eq!(lines.get(1).await, Ok(1));
    });
}

#[test]
fn only_what_is_watched_is_told() {
    run(async {
        let (chip, session) = machine();
        let mut lines = Lines::request(&session, &inputs(&[0, 1, 2])).await.unwrap();
        chip.drive(0, true);
        lines.get(1).await.unwrap();
        assert_eq!(lines.unread(), 0, "nothing is watched from the beginning");
        watch(&mut lines, 0b110, Edge::Rising, Some(300)).await;
        let (setup, _) = chip.usage(0).unwrap();
        assert_eq!(setup.debounce_us, [0, 300, 300]);
        chip.drive(0, false);
        chip.drive(1, true);
        chip.drive(1, false);
        chip.drive(2, true);
        assert_eq!(brief(lines.event().await), (1, true, 1, 0));
        assert_eq!(brief(lines.event().await), (2, true, 2, 0));
        watch(&mut lines, 0b001, Edge::Falling, None).await;
        let (setup, _) = chip.usage(0).unwrap();
        assert_eq!(
            setup.debounce_us,
            [0, 300, 300],
            "a time stays with its line"
        );
        chip.drive(1, true);
        chip.drive(0, true);
        chip.drive(0, false);
        assert_eq!(brief(lines.event().await), (0, false, 3, 0));
        watch(&mut lines, 0, Edge::Both, None).await;
        chip.drive(0, true);
        lines.get(1).await.unwrap();
        assert_eq!(lines.unread(), 0);
    });
}

#[test]
fn events_that_the_kernel_dropped_are_counted_in_the_next() {
    run(async {
        let (chip, session) = machine();
        let request = LineRequest {
            edge: Edge::Both,
            ..inputs(&[0])
        };
        let mut lines = Lines::request(&session, &request).await.unwrap();
        chip.lose(3);
        for high in [true, false, true, false, true] {
            chip.drive(0, high);
        }
        assert_eq!(brief(lines.event().await), (0, false, 4, 3));
        assert_eq!(brief(lines.event().await), (0, true, 5, 0));
    });
}

/// The peer takes nothing, so that the window becomes full.
#[test]
fn events_for_which_there_is_no_credit_leave_a_gap_and_are_counted_in_the_next() {
    run(async {
        let (chip, session) = machine();
        let request = LineRequest {
            edge: Edge::Both,
            ..inputs(&[0])
        };
        let mut lines = Lines::request(&session, &request).await.unwrap();
        let changes: u32 = 20_000;
        for number in 0..changes {
            chip.drive(0, number % 2 == 0);
        }
        until(|| chip.unread(0) == 0).await;
        // Answered behind what was said of dropped events.
        lines.get(1).await.unwrap();
        let received = u32::try_from(lines.unread()).unwrap();
        assert!(received < changes, "there was credit for all of them");
        let (mut last, mut lost) = (0, 0);
        for _ in 0..received {
            let event = lines.event().await;
            assert!(event.seq > last);
            (last, lost) = (event.seq, lost + event.lost);
        }
        chip.drive(0, true);
        let event = lines.event().await;
        assert_eq!(event.seq, changes + 1, "the numbers show every loss");
        // What a dropped event told of those before it is lost with it.
        assert!((1..=changes - received).contains(&(lost + event.lost)));
    });
}
