//! What becomes of outputs when their stream ends.

use std::sync::Arc;

use myclerk::bus::gpio::fake::{FakeChip, FakeGpio, Keeper};
use myclerk::bus::gpio::op::LineRequest;
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;

use crate::rig::{Lines, info, inputs, machine, outputs, run, until};

#[test]
fn outputs_take_their_safe_values_and_keep_them_when_the_session_is_cut() {
    run(async {
        let (chip, session) = machine();
        let safe = [Some(false), Some(true), None];
        let _lines = Lines::request(&session, &outputs(&[0, 1, 2], 0b101, &safe))
            .await
            .unwrap();
        session.cut();
        until(|| chip.output(2).is_none()).await;
        until(|| chip.output(1) == Some(true)).await;
        assert_eq!(chip.output(0), Some(false));
        assert_eq!(chip.history(0), [Some(true), Some(false)], "never let go");
        assert_eq!(chip.history(2), [Some(true), None]);
    });
}

#[test]
fn safe_values_of_active_low_lines_are_logical() {
    run(async {
        let (chip, session) = machine();
        let request = LineRequest {
            low: true,
            ..outputs(&[0], 1, &[Some(false)])
        };
        let _lines = Lines::request(&session, &request).await.unwrap();
        session.cut();
        until(|| chip.output(0) == Some(true)).await;
    });
}

#[test]
fn releasing_lines_brings_them_into_their_safe_state_too() {
    run(async {
        let (chip, session) = machine();
        let mut lines = Lines::request(&session, &outputs(&[0], 1, &[Some(false)]))
            .await
            .unwrap();
        lines
            .ask(Opcode::GpioLineRelease, vec![0x80])
            .await
            .unwrap();
        assert_eq!(chip.output(0), Some(false));
    });
}

#[test]
fn kept_lines_count_as_free_and_change_over_without_being_let_go() {
    run(async {
        let chip = FakeChip::new("board", &["a", "b", "c"]);
        let machine = FakeGpio::new(std::slice::from_ref(&chip));
        let keeper = Arc::new(Keeper::default());
        let session = machine.session_with(&keeper);
        let safe = [Some(false); 2];
        let _lines = Lines::request(&session, &outputs(&[0, 1], 0b11, &safe))
            .await
            .unwrap();
        session.cut();
        until(|| keeper.holds_any("gpio:board", &[0])).await;

        let session = machine.session_with(&keeper);
        assert!(!info(&session, 0).await.used);
        let again = Lines::request(&session, &outputs(&[0, 1], 0b10, &safe))
            .await
            .unwrap();
        assert_eq!(again.val, 0b10);
        assert!(info(&session, 0).await.used);
        assert_eq!(chip.history(1), [Some(true), Some(false), Some(true)]);
        assert!(!keeper.holds_any("gpio:board", &[0, 1]));
    });
}

#[test]
fn the_rest_of_kept_lines_stays_kept_when_one_is_wanted() {
    run(async {
        let chip = FakeChip::new("board", &["a", "b", "c"]);
        let machine = FakeGpio::new(std::slice::from_ref(&chip));
        let keeper = Arc::new(Keeper::default());
        let session = machine.session_with(&keeper);
        let safe = [Some(true), Some(false), Some(true)];
        let _lines = Lines::request(&session, &outputs(&[0, 1, 2], 0, &safe))
            .await
            .unwrap();
        session.cut();
        until(|| keeper.holds_any("gpio:board", &[0])).await;

        let session = machine.session_with(&keeper);
        let _one = Lines::request(&session, &inputs(&[1])).await.unwrap();
        assert_eq!(
            [0, 1, 2].map(|line| chip.output(line)),
            [Some(true), None, Some(true)]
        );
        assert!(keeper.holds_any("gpio:board", &[0]) && keeper.holds_any("gpio:board", &[2]));
        assert!(!keeper.holds_any("gpio:board", &[1]));
    });
}

#[test]
fn kept_lines_stay_safe_when_the_next_request_of_them_fails() {
    run(async {
        let chip = FakeChip::new("board", &["a", "b"]);
        let machine = FakeGpio::new(std::slice::from_ref(&chip));
        let keeper = Arc::new(Keeper::default());
        let session = machine.session_with(&keeper);
        let _lines = Lines::request(&session, &outputs(&[0], 0, &[Some(true)]))
            .await
            .unwrap();
        session.cut();
        until(|| keeper.holds_any("gpio:board", &[0])).await;

        let session = machine.session_with(&keeper);
        for lines in [&[0][..], &[0, 1]] {
            chip.fail(Errno::EIO);
            assert!(Lines::request(&session, &inputs(lines)).await.is_err());
            assert_eq!(chip.output(0), Some(true));
            assert!(keeper.holds_any("gpio:board", &[0]));
        }
    });
}
