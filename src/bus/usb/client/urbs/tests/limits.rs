//! What happens when the server takes no more.

use super::*;

#[test]
fn requests_wait_in_order_for_the_servers_limits() {
    let mut bench = Bench::new(1);
    for seqnum in 1..=4 {
        bench.read(seqnum, 1, 8);
    }
    assert_eq!(bench.requests().len(), 1);
    assert!(bench.urbs.next_deadline(bench.start).is_some());
    for seqnum in 1..=4 {
        bench.server.room.set(1);
        bench.reply(seqnum, 0, &[0x40 + u8::try_from(seqnum).expect("few URBs")]);
        let told = bench.told();
        let [Told::Submit(answered, 0, _)] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(*answered, seqnum);
    }
    assert_eq!(bench.urbs.waiting.size(), (0, 0));
}

#[test]
fn a_waiting_bulk_request_does_not_hold_up_other_classes() {
    let mut bench = Bench::new(0);
    bench.write(1, 2, 8192);
    bench.server.room.set(1);
    bench.read(2, 3, 8);
    assert_eq!(
        bench.requests(),
        [(Opcode::UsbInterruptTransfer, Class::Interrupt)]
    );
    bench.server.room.set(1);
    bench.expire(RETRY);
    assert_eq!(bench.requests()[1], (Opcode::UsbBulkTransfer, Class::Bulk));
}

#[test]
fn no_more_is_taken_while_too_much_waits() {
    let mut bench = Bench::new(0);
    let mut seqnum = 0;
    while bench.urbs.wants_more() {
        seqnum += 1;
        bench.read(seqnum, 1, 8);
    }
    assert_eq!(bench.urbs.waiting.size().1, waiting::MOST.1);
    bench.unlink(seqnum + 1, seqnum);
    assert!(bench.urbs.wants_more());
}

#[test]
fn a_request_beyond_the_servers_limits_fails_alone() {
    let mut bench = Bench::new(9);
    bench.write(1, 2, 200_000);
    bench.read(2, 1, 8);
    bench.reply(1, 0, b"x");
    assert_eq!(
        bench.told(),
        [
            Told::Submit(1, -libc::EMSGSIZE, vec![]),
            Told::Submit(2, 0, b"x".to_vec())
        ]
    );
}
