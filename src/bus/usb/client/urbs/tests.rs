use std::cell::Cell;

use super::*;
use crate::bus::usb::op::{
    BulkTransfer, ControlTransfer, InterruptTransfer, OpError, TransferReply,
};
use crate::wire::opcode::Opcode;

/// A device with bulk 0x81 and 0x02, interrupt 0x83 and isochronous 0x84; alternate setting 1 of
/// interface 0 makes 0x81 an interrupt endpoint.
const DESCRIPTORS: &[u8] = &[
    18, 1, 0, 2, 0, 0, 0, 64, 1, 0, 2, 0, 0, 1, 0, 0, 0, 1, // device
    9, 2, 62, 0, 1, 1, 0, 0x80, 50, // configuration 1
    9, 4, 0, 0, 4, 255, 0, 0, 0, // interface 0
    7, 5, 0x81, 2, 0, 2, 0, // bulk
    7, 5, 0x02, 2, 0, 2, 0, // bulk
    7, 5, 0x83, 3, 8, 0, 10, // interrupt
    7, 5, 0x84, 1, 192, 0, 1, // isochronous
    9, 4, 0, 1, 1, 255, 0, 0, 0, // interface 0, alternate setting 1
    7, 5, 0x81, 3, 8, 0, 10, // interrupt
];

const GONE: &[u8] = b"\x81\xA3sub\xABdevice-gone";

/// Takes requests up to a limit and remembers everything.
struct Server {
    room: Cell<usize>,
    sent: RefCell<Vec<Outgoing>>,
    cancelled: RefCell<Vec<u32>>,
}

impl Outlet for Server {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        if outgoing.payload.len() > 100_000 {
            return Err(OutletError::TooLarge);
        }
        if self.room.get() == 0 {
            return Err(OutletError::WouldBlock(outgoing));
        }
        self.room.set(self.room.get() - 1);
        let mut sent = self.sent.borrow_mut();
        sent.push(outgoing);
        Ok(u32::try_from(sent.len()).expect("few requests"))
    }

    fn cancel(&self, corr: u32) {
        self.cancelled.borrow_mut().push(corr);
    }

    fn respond(&self, _: u32, _: Status, _: Vec<u8>) {}
    fn event(&self, _: Opcode, _: Vec<u8>) {}
    fn data(&self, _: Vec<u8>, _: bool) {}
    fn reset(&self, _: Status) {}
}

struct Bench {
    server: Rc<Server>,
    endpoints: Rc<RefCell<Endpoints>>,
    urbs: Urbs,
    start: Instant,
}

impl Bench {
    fn new(room: usize) -> Self {
        let server = Rc::new(Server {
            room: Cell::new(room),
            sent: RefCell::default(),
            cancelled: RefCell::default(),
        });
        let endpoints = Endpoints::parse(DESCRIPTORS, 1).expect("a device");
        let endpoints = Rc::new(RefCell::new(endpoints));
        let outlet: Rc<dyn Outlet> = server.clone();
        Self {
            server,
            urbs: Urbs::new(outlet, Rc::clone(&endpoints)),
            endpoints,
            start: Instant::now(),
        }
    }

    fn try_submit(&mut self, submit: Submit, data: &[u8], iso: &[u8]) -> Result<(), Fatal> {
        let mut incoming = Incoming::begin(submit, &self.endpoints.borrow());
        incoming.payload.extend_from_slice(data);
        incoming.iso.extend_from_slice(iso);
        self.urbs.hear(self.start, FromKernel::Submit(incoming))
    }

    fn read(&mut self, seqnum: u32, ep: u8, length: u32) {
        self.try_submit(submit(seqnum, ep, true, length), &[], &[])
            .expect("an accepted URB");
    }

    fn write(&mut self, seqnum: u32, ep: u8, length: usize) {
        let length32 = u32::try_from(length).expect("a short write");
        self.try_submit(submit(seqnum, ep, false, length32), &vec![7; length], &[])
            .expect("an accepted URB");
    }

    fn control(&mut self, seqnum: u32, setup: [u8; 8]) {
        let [request_type, .., l0, l1] = setup;
        let length = u32::from(u16::from_le_bytes([l0, l1]));
        let submit = Submit {
            setup,
            ..submit(seqnum, 0, request_type & 0x80 != 0, length)
        };
        self.try_submit(submit, &vec![0; submit.data_len() as usize], &[])
            .expect("an accepted URB");
    }

    fn unlink(&mut self, seqnum: u32, target: u32) {
        let unlink = FromKernel::Unlink(Unlink { seqnum, target });
        self.urbs
            .hear(self.start, unlink)
            .expect("an accepted unlink");
    }

    fn try_reply(&mut self, corr: u32, status: i32, data: &[u8]) -> Result<(), Fatal> {
        let mut payload = Vec::new();
        let length = u32::try_from(data.len()).expect("short data");
        TransferReply::encode(status, length, length, &mut payload);
        payload.extend_from_slice(data);
        self.urbs.response(corr, Status::Ok, payload, false)
    }

    fn reply(&mut self, corr: u32, status: i32, data: &[u8]) {
        self.try_reply(corr, status, data)
            .expect("an accepted reply");
    }

    fn expire(&mut self, after: Duration) {
        let now = self.start + after;
        self.urbs.expire(now).expect("an open stream");
    }

    fn requests(&self) -> Vec<(Opcode, Class)> {
        let sent = self.server.sent.borrow();
        sent.iter().map(|out| (out.opcode, out.class)).collect()
    }

    fn cancelled(&self) -> Vec<u32> {
        self.server.cancelled.borrow().clone()
    }

    /// What the kernel was told since the last call, in short.
    fn told(&mut self) -> Vec<Told> {
        self.urbs
            .messages()
            .map(|message| match message.parts() {
                (Return::Submit(ret), data) => Told::Submit(ret.seqnum, ret.status, data.to_vec()),
                (Return::Unlink(ret), _) => Told::Unlink(ret.seqnum, ret.status),
            })
            .collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Submit(u32, i32, Vec<u8>),
    Unlink(u32, i32),
}

const fn submit(seqnum: u32, ep: u8, input: bool, length: u32) -> Submit {
    Submit {
        seqnum,
        devid: 0x0001_0002,
        input,
        ep,
        transfer_flags: 0,
        length,
        start_frame: 0,
        packets: 0,
        interval: 10,
        setup: [0; 8],
    }
}

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
fn a_read_is_answered_with_what_came() {
    let mut bench = Bench::new(9);
    bench.read(5, 1, 512);
    bench.reply(1, 0, b"short");
    assert_eq!(bench.told(), [Told::Submit(5, 0, b"short".to_vec())]);
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
fn answers_of_one_endpoint_keep_the_order_of_its_urbs() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.read(2, 1, 8);
    bench.read(3, 3, 8);
    bench.reply(2, 0, b"b");
    bench.reply(3, 0, b"c");
    assert_eq!(bench.told(), [Told::Submit(3, 0, b"c".to_vec())]);
    bench.reply(1, 0, b"a");
    assert_eq!(
        bench.told(),
        [
            Told::Submit(1, 0, b"a".to_vec()),
            Told::Submit(2, 0, b"b".to_vec())
        ]
    );
}

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
    assert_eq!(bench.urbs.waiting_size, (0, 0));
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
fn a_urb_that_was_never_sent_is_unlinked_at_once() {
    let mut bench = Bench::new(0);
    bench.write(1, 2, 600);
    bench.unlink(2, 1);
    assert_eq!(bench.told(), [Told::Unlink(2, -104)]);
    assert_eq!(
        (bench.cancelled(), bench.urbs.waiting_size),
        (vec![], (0, 0))
    );
    bench.server.room.set(1);
    bench.expire(RETRY);
    assert_eq!(bench.requests(), []);
}

#[test]
fn no_more_is_taken_while_too_much_waits() {
    let mut bench = Bench::new(0);
    let mut seqnum = 0;
    while bench.urbs.wants_more() {
        seqnum += 1;
        bench.read(seqnum, 1, 8);
    }
    assert_eq!(bench.urbs.waiting_size.1, MAX_WAITING.1);
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
fn isochronous_urbs_fail_with_their_own_packets() {
    let mut bench = Bench::new(9);
    let mut iso = Vec::new();
    for offset in [0, 192] {
        IsoDescriptor {
            offset,
            length: 192,
            actual_length: 99,
            status: -115,
        }
        .write(&mut iso);
    }
    let submit = Submit {
        packets: 2,
        ..submit(1, 4, true, 384)
    };
    bench.try_submit(submit, &[], &iso).expect("a refused URB");
    assert_eq!(bench.requests(), []);
    let message = bench.urbs.messages().next().expect("an answer");
    let (Return::Submit(ret), data) = message.parts() else {
        panic!("a URB is answered with RET_SUBMIT");
    };
    assert_eq!(
        (ret.status, ret.actual_length, ret.packets, ret.error_count),
        (-libc::ESHUTDOWN, 0, 2, 2)
    );
    let packets = IsoDescriptor::parse_all(data, 384).expect("descriptors");
    assert_eq!(
        packets[1],
        IsoDescriptor {
            offset: 192,
            length: 192,
            actual_length: 0,
            status: -libc::ESHUTDOWN,
        }
    );
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
fn what_the_server_may_not_do_ends_the_attachment() {
    let fatal = |act: &dyn Fn(&mut Bench) -> Result<(), Fatal>| {
        let mut bench = Bench::new(9);
        bench.read(1, 1, 4);
        let result = act(&mut bench);
        assert_eq!(bench.told(), [], "the kernel is told nothing of it");
        result.expect_err("a violation")
    };
    assert!(matches!(
        fatal(&|bench| bench.try_reply(1, 0, b"12345")),
        Fatal::Violation(Violation::TooLong {
            asked: 4,
            actual: 5
        })
    ));
    assert!(matches!(
        fatal(&|bench| bench.try_reply(77, 0, b"")),
        Fatal::Violation(Violation::UnknownCorrelation(77))
    ));
    assert!(matches!(
        fatal(&|bench| bench.urbs.response(1, Status::Ok, vec![0xC1], false)),
        Fatal::Violation(Violation::Payload(OpError::Decode(_)))
    ));
    assert!(matches!(
        fatal(&|bench| bench.urbs.response(1, Status::Ok, vec![], true)),
        Fatal::Violation(Violation::Pieces)
    ));
    assert!(matches!(
        fatal(&|bench| {
            bench
                .urbs
                .response(1, Status::ServiceUnavailable, GONE.to_vec(), false)
        }),
        Fatal::DeviceGone
    ));
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

mod model;
