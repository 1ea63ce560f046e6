//! A server that breaks the protocol, against the client half: the kernel hears nothing that it did
//! not ask for.

use myclerk::bus::Inbound;
use myclerk::bus::usb::client::{Ended, Violation};
use myclerk::bus::usb::op::{IsoPacket, IsoReply, TransferReply};
use myclerk::kernel::usbip_pdu::{Command, IsoDescriptor, Submit};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::fuzz::kernel::Kernel;
use crate::fuzz::rig::{DESCRIPTORS, Rig, run};
use crate::memory::Peak;

const READ: Submit = Submit {
    seqnum: 1,
    devid: 0x0001_0002,
    input: true,
    ep: 1,
    transfer_flags: 0,
    length: 64,
    start_frame: 0,
    packets: 0,
    interval: 0,
    setup: [0; 8],
};

fn rig() -> Rig {
    Rig::new(DESCRIPTORS, Kernel::default()).expect("a device")
}

fn submit(rig: &mut Rig, submit: Submit) {
    rig.kernel.submitted(submit, Vec::new());
    let mut bytes = Command::Submit(submit).to_bytes().to_vec();
    bytes.resize(bytes.len() + submit.data_len() as usize, 1);
    rig.say(&bytes);
}

/// Waits until that many requests were sent.
async fn asked(rig: &mut Rig, count: usize) {
    while rig.server.asked.borrow().len() < count {
        rig.settle(1).await;
    }
}

/// Waits until the kernel waits for no more than that.
async fn answered(rig: &mut Rig, waiting: usize) {
    while rig.kernel.waiting() > waiting {
        rig.settle(1).await;
    }
}

fn reply(actual: u32, length: u32, data: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    TransferReply::encode(0, actual, length, &mut payload);
    payload.resize(payload.len() + data, 0x11);
    payload
}

const fn response(corr: u32, payload: Vec<u8>, more: bool) -> Inbound {
    Inbound::Response {
        corr,
        status: Status::Ok,
        payload,
        more,
    }
}

/// What becomes of a read of 64 bytes and a write of 64 that are answered so; `true` when the kernel
/// still waits for both.
fn answer_with(what: &str, answers: &[Inbound]) -> (Ended, bool) {
    run(async {
        let mut rig = rig();
        submit(&mut rig, READ);
        let write = Submit {
            seqnum: 2,
            input: false,
            ep: 2,
            ..READ
        };
        submit(&mut rig, write);
        asked(&mut rig, 2).await;
        assert_eq!(rig.server.asked.borrow()[0].corr, 1, "{what}");
        for answer in answers {
            rig.send(answer.clone());
        }
        rig.settle(32).await;
        let both = rig.kernel.waiting() == 2;
        (rig.end().await, both)
    })
}

#[test]
fn an_answer_that_does_not_fit_ends_the_attachment_before_the_kernel_hears_of_it() {
    let wrong = [
        ("a byte too much", response(1, reply(65, 65, 65), false)),
        ("all there is", response(1, reply(u32::MAX, 0, 0), false)),
        ("bytes but no data", response(1, reply(64, 0, 0), false)),
        ("less data than said", response(1, reply(64, 63, 63), false)),
        ("more data than said", response(1, reply(1, 2, 2), false)),
        ("cut off", response(1, reply(64, 64, 63), false)),
        ("a rest", response(1, reply(4, 4, 5), false)),
        ("data of a write", response(2, reply(4, 4, 4), false)),
        ("a write too long", response(2, reply(65, 0, 0), false)),
        ("nothing", response(1, Vec::new(), false)),
        ("a map", response(1, vec![0x80], false)),
        ("in pieces", response(1, reply(1, 1, 1), true)),
        ("an unknown number", response(3, reply(1, 1, 1), false)),
        ("the number 0", response(0, reply(1, 1, 1), false)),
        ("the last number", response(u32::MAX, reply(1, 1, 1), false)),
    ];
    for (what, answer) in wrong {
        let (ended, both) = answer_with(what, &[answer]);
        assert!(matches!(ended, Ended::Violation(_)), "{what}: {ended:?}");
        assert!(both, "{what}: the kernel was told something");
    }
}

/// The descriptors of three packets of 10 bytes, with a gap behind each.
fn three_packets() -> Vec<IsoDescriptor> {
    let packet = |offset| IsoDescriptor {
        offset,
        length: 10,
        actual_length: 99,
        status: -1,
    };
    [0, 16, 32].map(packet).to_vec()
}

/// An answer with so many bytes in each packet, and so much data.
fn iso_reply(packets: &[u32], data: usize) -> Vec<u8> {
    let packet = |actual: &u32| IsoPacket {
        actual: *actual,
        status: 0,
    };
    let reply = IsoReply {
        status: 0,
        start_frame: u32::MAX,
        errors: u32::MAX,
        packets: packets.iter().map(packet).collect(),
        data: 0..0,
    };
    let mut payload = Vec::new();
    reply.encode(u32::try_from(data).expect("little data"), &mut payload);
    payload.resize(payload.len() + data, 0x22);
    payload
}

/// What becomes of an isochronous URB that is answered so; `true` when it was answered to the kernel.
fn answer_packets_with(input: bool, answer: Vec<u8>) -> (Ended, bool) {
    run(async {
        let mut rig = rig();
        let urb = Submit {
            ep: if input { 5 } else { 6 },
            input,
            length: 48,
            packets: 3,
            interval: 8,
            ..READ
        };
        let mut bytes = Command::Submit(urb).to_bytes().to_vec();
        bytes.resize(bytes.len() + urb.data_len() as usize, 1);
        for packet in three_packets() {
            packet.write(&mut bytes);
        }
        rig.kernel.submitted(urb, three_packets());
        rig.say(&bytes);
        asked(&mut rig, 1).await;
        rig.send(response(1, answer, false));
        rig.settle(32).await;
        let told = rig.kernel.waiting() == 0;
        (rig.end().await, told)
    })
}

#[test]
fn packets_that_were_not_asked_for_end_the_attachment_before_the_kernel_hears_of_them() {
    let wrong: [(&str, bool, &[u32], usize); 10] = [
        ("one packet less", true, &[10, 10], 20),
        ("one packet more", true, &[10, 10, 10, 0], 30),
        ("1024 packets", true, &[0; 1024], 0),
        ("a byte too much in one", true, &[1, 11, 1], 13),
        ("all there is in one", true, &[u32::MAX, 0, 0], 0),
        ("a sum that wraps", true, &[u32::MAX, 1, 10], 0),
        ("no data", true, &[10, 10, 10], 0),
        ("data of a write", false, &[10, 10, 10], 30),
        ("a write too long", false, &[10, 10, 11], 0),
        ("packets of a write missing", false, &[10], 0),
    ];
    for (what, input, packets, data) in wrong {
        let (ended, told) = answer_packets_with(input, iso_reply(packets, data));
        assert!(matches!(ended, Ended::Violation(_)), "{what}: {ended:?}");
        assert!(!told, "{what}: the kernel was told something");
    }
    let (ended, told) = answer_packets_with(true, reply(30, 30, 30));
    assert!(matches!(ended, Ended::Violation(_)), "{ended:?}");
    assert!(!told, "the kernel was told something");
}

#[test]
fn numbers_of_the_server_that_the_kernel_has_itself_are_replaced() {
    // The kernel's end checks the packets, their sum and the number of errors.
    for (input, data) in [(true, 13), (false, 0)] {
        let (ended, told) = answer_packets_with(input, iso_reply(&[10, 0, 3], data));
        assert!(matches!(ended, Ended::Kernel), "{ended:?}");
        assert!(told, "the kernel was told nothing");
    }
}

#[test]
fn an_answer_after_the_final_one_ends_the_attachment() {
    let first = response(1, reply(64, 64, 64), false);
    for second in [
        first.clone(),
        response(1, Vec::new(), false),
        Inbound::Response {
            corr: 1,
            status: Status::InternalError,
            payload: Vec::new(),
            more: false,
        },
    ] {
        let (ended, _) = answer_with("twice", &[first.clone(), second]);
        let unknown = matches!(ended, Ended::Violation(Violation::UnknownCorrelation(1)));
        assert!(unknown, "{ended:?}");
    }
}

#[test]
fn pieces_for_ever_end_with_the_first() {
    let pieces = vec![response(1, reply(0, 0, 0), true); 10_000];
    let (ended, both) = answer_with("pieces", &pieces);
    assert!(matches!(ended, Ended::Violation(Violation::Pieces)));
    assert!(both, "the kernel was told something");
}

#[test]
fn a_reset_in_the_middle_leaves_the_kernel_with_whole_messages_only() {
    for end in [
        Inbound::Closed,
        Inbound::Reset {
            status: Status::Forbidden,
        },
    ] {
        run(async move {
            let mut rig = rig();
            // Larger than a socket takes at once.
            let length = 4 << 20;
            for seqnum in 1..=4 {
                let read = Submit {
                    seqnum,
                    length,
                    ..READ
                };
                submit(&mut rig, read);
            }
            asked(&mut rig, 4).await;
            for corr in 1..=2 {
                rig.send(response(
                    corr,
                    reply(length, length, length as usize),
                    false,
                ));
            }
            rig.settle(2).await;
            rig.send(end.clone());
            rig.send(response(3, reply(1, 1, 1), false));
            // The kernel's end checks what it hears until the stream ends.
            let ended = rig.end().await;
            match end {
                Inbound::Closed => assert!(matches!(ended, Ended::SessionClosed), "{ended:?}"),
                _ => assert!(
                    matches!(ended, Ended::Reset(Status::Forbidden)),
                    "{ended:?}"
                ),
            }
        });
    }
}

#[test]
fn endless_events_neither_hold_up_the_kernel_nor_stay_in_memory() {
    run(async {
        let mut rig = rig();
        rig.settle(4).await;
        let peak = Peak::begin();
        for round in 1..=50 {
            submit(
                &mut rig,
                Submit {
                    seqnum: round,
                    ..READ
                },
            );
            for _ in 0..1000 {
                rig.send(Inbound::Event {
                    opcode: Opcode::UsbReset,
                    payload: vec![0; 64],
                    age_secs: 0,
                });
                rig.send(Inbound::Data {
                    payload: vec![0; 64],
                    fin: false,
                });
                rig.send(Inbound::Cancel { corr: round });
            }
            asked(&mut rig, 1).await;
            let asked = rig.server.asked.borrow_mut().pop().expect("a request");
            rig.send(response(asked.corr, reply(64, 64, 64), false));
            answered(&mut rig, 0).await;
        }
        // One round's messages, not those of all.
        assert!(peak.bytes() < 2 << 20, "{} bytes", peak.bytes());
        assert!(peak.left() < 256 << 10, "{} bytes are left", peak.left());
        assert!(matches!(rig.end().await, Ended::Kernel));
    });
}

#[test]
fn a_server_that_asks_is_refused_every_time_and_remembered_never() {
    run(async {
        let mut rig = rig();
        rig.settle(4).await;
        let peak = Peak::begin();
        for corr in 0..20_000 {
            rig.send(Inbound::Request {
                corr,
                opcode: Opcode::UsbDeviceAttach,
                payload: vec![0x80],
                age_secs: 0,
            });
            if corr % 100 == 0 {
                rig.settle(8).await;
            }
        }
        rig.settle(64).await;
        assert!(peak.left() < 256 << 10, "{} bytes are left", peak.left());
        assert!(matches!(rig.end().await, Ended::Kernel));
    });
}

#[test]
fn no_room_for_requests_holds_back_the_kernel_instead_of_filling_memory() {
    run(async {
        let mut rig = rig();
        rig.server.room.set(0);
        let peak = Peak::begin();
        let write = Submit {
            input: false,
            ep: 2,
            length: 1 << 20,
            ..READ
        };
        for seqnum in 1..=40 {
            submit(&mut rig, Submit { seqnum, ..write });
            rig.settle(40).await;
        }
        // What waits (16 MiB), what is read ahead, and what this end has not been able to write.
        let unwritten = i64::try_from(rig.unwritten()).expect("a small number");
        let held = peak.left() - unwritten;
        assert!(held < 40 << 20, "{held} bytes");
        assert!(unwritten > 0, "everything was taken");
        rig.server.room.set(u32::MAX);
        asked(&mut rig, 40).await;
        rig.end().await;
    });
}
