//! Which request a URB becomes.

use super::*;

#[test]
fn each_kind_of_endpoint_has_its_operation_and_class() {
    let mut bench = Bench::new(9);
    bench.control(1, [0x80, 6, 0, 1, 0, 0, 18, 0]);
    bench.read(2, 1, 4096);
    bench.write(3, 2, 4097);
    bench.read(4, 3, 8);
    assert_eq!(
        bench.requests(),
        [
            (Opcode::UsbControlTransfer, Class::Interactive),
            (Opcode::UsbBulkTransfer, Class::Interactive),
            (Opcode::UsbBulkTransfer, Class::Bulk),
            (Opcode::UsbInterruptTransfer, Class::Interrupt),
        ]
    );
    let sent = bench.server.sent.borrow();
    let (control, _) = ControlTransfer::decode(&sent[0].payload).expect("a control transfer");
    assert_eq!((control.len, sent[0].reply_len), (18, 18 + REPLY_OVERHEAD));
    let (write, data) = BulkTransfer::decode(&sent[2].payload).expect("a bulk transfer");
    assert_eq!((write.ep.to_u8(), data), (0x02, &[7; 4097][..]));
    assert_eq!(sent[2].reply_len, REPLY_OVERHEAD);
    let (poll, _) = InterruptTransfer::decode(&sent[3].payload).expect("an interrupt transfer");
    assert_eq!((poll.interval, poll.timeout_ms), (10, 0));
}

#[test]
fn flags_go_only_where_they_mean_something() {
    let mut bench = Bench::new(9);
    for (seqnum, ep, input) in [(1, 1, true), (2, 2, false)] {
        let both = Submit {
            transfer_flags: 0x0041,
            ..submit(seqnum, ep, input, 0)
        };
        bench.try_submit(both, &[], &[]).expect("an accepted URB");
    }
    let sent = bench.server.sent.borrow();
    let flags: Vec<_> = sent
        .iter()
        .map(|out| {
            BulkTransfer::decode(&out.payload)
                .expect("a bulk transfer")
                .0
        })
        .map(|transfer| (transfer.flags.short_not_ok, transfer.flags.zero_packet))
        .collect();
    assert_eq!(flags, [(true, false), (false, true)]);
}

#[test]
fn a_class_is_kept_while_an_endpoint_is_busy() {
    let mut bench = Bench::new(9);
    bench.write(1, 2, 31);
    bench.write(2, 2, 8192);
    bench.reply(1, 0, &[]);
    assert_eq!(bench.requests()[1].1, Class::Interactive);
    let mut bench = Bench::new(9);
    bench.write(1, 2, 8192);
    bench.write(2, 2, 31);
    assert_eq!(bench.requests()[1].1, Class::Bulk);
}

#[test]
fn alternate_settings_change_what_an_endpoint_is_once_accepted() {
    let mut bench = Bench::new(9);
    bench.control(1, [1, 11, 1, 0, 0, 0, 0, 0]);
    bench.reply(1, -32, &[]);
    bench.read(2, 1, 8);
    assert_eq!(bench.requests()[1].0, Opcode::UsbBulkTransfer);
    bench.reply(2, 0, &[]);
    bench.control(3, [1, 11, 1, 0, 0, 0, 0, 0]);
    bench.reply(3, 0, &[]);
    bench.read(4, 1, 8);
    assert_eq!(bench.requests()[3].0, Opcode::UsbInterruptTransfer);
}

#[test]
fn urbs_that_make_no_sense_are_refused_here() {
    let mut bench = Bench::new(9);
    bench.read(1, 5, 8);
    let contradiction = Submit {
        setup: [0x80, 6, 0, 1, 0, 0, 18, 0],
        ..submit(2, 0, true, 17)
    };
    bench
        .try_submit(contradiction, &[], &[])
        .expect("a refused URB");
    let backwards = Submit {
        setup: [0x80, 6, 0, 1, 0, 0, 2, 0],
        ..submit(3, 0, false, 2)
    };
    bench
        .try_submit(backwards, b"ab", &[])
        .expect("a refused URB");
    assert_eq!(
        bench.told(),
        [
            Told::Submit(1, -libc::ESHUTDOWN, vec![]),
            Told::Submit(2, -libc::EPROTO, vec![]),
            Told::Submit(3, -libc::EPROTO, vec![]),
        ]
    );
    assert_eq!(bench.requests(), []);
}

#[test]
fn two_urbs_of_one_name_are_the_kernels_fault() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 4);
    assert!(matches!(
        bench.try_submit(submit(1, 3, true, 4), &[], &[]),
        Err(Fatal::Kernel(KernelFault::DuplicateSeqnum(1)))
    ));
}
