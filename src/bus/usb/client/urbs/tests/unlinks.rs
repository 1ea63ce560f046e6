//! URBs that are given up, at every moment of their life.

use super::*;

#[test]
fn an_unlink_is_answered_when_the_server_has_given_up() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.unlink(2, 1);
    assert_eq!((bench.told(), bench.cancelled()), (vec![], vec![1]));
    bench.reply(1, -104, &[]);
    assert_eq!(bench.told(), [Told::Unlink(2, -104)]);
}

#[test]
fn a_transfer_that_completed_before_its_cancel_is_not_lost() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.unlink(2, 1);
    bench.reply(1, 0, b"data");
    assert_eq!(
        bench.told(),
        [Told::Submit(1, 0, b"data".to_vec()), Told::Unlink(2, 0)]
    );
}

#[test]
fn the_bytes_of_a_half_done_cancelled_read_are_kept() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.unlink(2, 1);
    bench.reply(1, -104, b"ha");
    assert_eq!(
        bench.told(),
        [Told::Submit(1, -104, b"ha".to_vec()), Told::Unlink(2, 0)]
    );
}

#[test]
fn an_unlink_after_completion_says_so() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.reply(1, 0, b"x");
    bench.unlink(2, 1);
    assert_eq!(
        bench.told(),
        [Told::Submit(1, 0, b"x".to_vec()), Told::Unlink(2, 0)]
    );
    assert!(bench.cancelled().is_empty());
}

#[test]
fn unlinking_a_held_answer_lets_it_go() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.read(2, 1, 8);
    bench.reply(2, 0, b"b");
    bench.unlink(3, 2);
    assert_eq!(
        bench.told(),
        [Told::Submit(2, 0, b"b".to_vec()), Told::Unlink(3, 0)]
    );
    bench.reply(1, 0, b"a");
    assert_eq!(bench.told(), [Told::Submit(1, 0, b"a".to_vec())]);
}

#[test]
fn an_unlinked_urb_lets_those_behind_it_go() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.read(2, 1, 8);
    bench.unlink(3, 1);
    bench.reply(2, 0, b"b");
    assert_eq!(bench.told(), []);
    bench.reply(1, -2, &[]);
    assert_eq!(
        bench.told(),
        [Told::Unlink(3, -104), Told::Submit(2, 0, b"b".to_vec())]
    );
}

#[test]
fn a_second_unlink_of_a_urb_is_answered_with_the_first() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.unlink(2, 1);
    bench.unlink(3, 1);
    assert_eq!(bench.cancelled(), [1]);
    bench.reply(1, -104, &[]);
    assert_eq!(bench.told(), [Told::Unlink(2, -104), Told::Unlink(3, -104)]);
}

#[test]
fn an_unlink_that_overtook_its_urb_waits_for_it() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.unlink(3, 2);
    assert_eq!(bench.told(), []);
    bench.read(2, 1, 8);
    assert_eq!(bench.told(), [Told::Unlink(3, -104)]);
    assert_eq!(bench.requests().len(), 1, "the URB was never sent");
}

#[test]
fn an_unlink_of_a_urb_that_never_comes_is_answered_in_the_end() {
    let mut bench = Bench::new(9);
    bench.unlink(3, 2);
    bench.expire(UNLINK_PATIENCE.saturating_sub(Duration::from_millis(1)));
    assert_eq!(bench.told(), []);
    bench.expire(UNLINK_PATIENCE);
    assert_eq!(bench.told(), [Told::Unlink(3, 0)]);
    assert_eq!(bench.urbs.next_deadline(bench.start), None);
}

#[test]
fn the_kernel_does_not_wait_for_ever_for_a_silent_server() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.unlink(2, 1);
    assert_eq!(
        bench.urbs.next_deadline(bench.start),
        Some(bench.start + UNLINK_PATIENCE)
    );
    bench.expire(UNLINK_PATIENCE);
    assert_eq!(bench.told(), [Told::Unlink(2, -104)]);
    bench.reply(1, 0, b"late");
    assert_eq!(bench.told(), [], "the URB is gone");
    assert!(
        bench.try_reply(1, 0, b"").is_err(),
        "a second late answer is one too many"
    );
}

#[test]
fn a_urb_that_was_never_sent_is_unlinked_at_once() {
    let mut bench = Bench::new(0);
    bench.write(1, 2, 600);
    bench.unlink(2, 1);
    assert_eq!(bench.told(), [Told::Unlink(2, -104)]);
    assert_eq!(
        (bench.cancelled(), bench.urbs.waiting.size()),
        (vec![], (0, 0))
    );
    bench.server.room.set(1);
    bench.expire(RETRY);
    assert_eq!(bench.requests(), []);
}
