//! Members that break the rules: their own session suffers, nobody else's.

use std::net::{Ipv4Addr, Shutdown};
use std::time::Duration;

use myclerk::bus::usb::op::{AttachRequest, Mode};
use myclerk::daemon::state::Invitation;
use myclerk::kernel::clock;
use myclerk::link::{LinkEvent, Request, StreamId, Target};
use myclerk::session::enrol::UpdateResponse;
use myclerk::wire::flags::Tier;
use myclerk::wire::frame::Body;
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::machine::{Daemon, Machine, eventually};
use crate::member::{LAPTOP, OTHER};
use crate::wire::{Session, Who, frame, request};

const CONTROL: Target = Target::On(StreamId::CONTROL);

fn family() -> (Machine, Daemon, Machine) {
    let hub = Machine::founded();
    let server = hub.serve();
    let laptop = hub.admit("laptop");
    (hub, server, laptop)
}

fn attach(device: &str) -> Vec<u8> {
    let request = AttachRequest {
        dev: device.to_owned(),
        mode: Mode::ReadWrite,
        lock: None,
        ifs: None,
        hold: None,
        token: None,
    };
    request.encode().unwrap()
}

#[test]
fn what_a_member_may_not_have_does_not_exist_for_it() {
    let (_hub, server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    for device in ["usb:1:2", "usb:1d6b:2", "nonsense", "usb:../../etc"] {
        let sub = session.refused(Target::New, Opcode::UsbDeviceAttach, &attach(device));
        assert_eq!(sub, "device", "{device:?}");
    }
    assert_eq!(
        session.refused(Target::New, Opcode::UsbDeviceAttach, b"\xc1"),
        "bad-payload"
    );
    assert_eq!(
        session.refused(CONTROL, Opcode::DeviceInfo, &[0xff; 9]),
        "bad-payload"
    );
    session.works();
}

#[test]
fn a_member_that_asks_for_a_device_without_end_does_not_fill_the_log() {
    let (hub, server, laptop) = family();
    let desk = hub.admit("desk");
    let said = || server.lines("use of a device refused");
    let ask = |session: &mut Session| {
        session.refused(Target::New, Opcode::UsbDeviceAttach, &attach("usb:1:2"));
    };
    let mut noisy = Session::of(&laptop, &server);
    for _ in 0..100 {
        ask(&mut noisy);
    }
    assert_eq!(said(), 16);
    ask(&mut Session::of(&desk, &server));
    assert_eq!(said(), 17);
    server.says("unsaid=84");
}

#[test]
fn a_member_cannot_enrol_again() {
    let (_hub, server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    assert_eq!(session.refused(CONTROL, Opcode::Enrol, &[]), "enrol-only");
    session.works();
}

#[test]
fn a_guest_with_a_token_may_only_enrol() {
    let (hub, server, laptop) = family();
    let invite = hub.invite(&["--yes"]);
    let invitation = Invitation::from_text(&invite.token).unwrap();
    let guest = Who::guest(&laptop.state(), &invitation);
    let mut session = Session::open(guest, server.address(), OTHER).unwrap();
    for opcode in [
        Opcode::DeviceList,
        Opcode::DeviceInfo,
        Opcode::UsbDeviceList,
    ] {
        assert_eq!(session.refused(CONTROL, opcode, &[]), "enrol-only");
    }
    let sub = session.refused(Target::New, Opcode::UsbDeviceAttach, &attach("usb:1:2"));
    assert_eq!(sub, "enrol-only");
    let (status, news) = session
        .ask(
            CONTROL,
            Opcode::FamilyUpdate,
            b"\x82\xa3crl\0\xa9psk-epoch\0",
        )
        .unwrap();
    assert_eq!(status, Status::Ok);
    let news: UpdateResponse = msgpack::decode(&news).unwrap();
    assert!(news.psk.is_none() && news.psk_epoch.is_none());
}

#[test]
fn three_guests_who_leave_without_joining_make_the_token_worthless() {
    let (hub, server, laptop) = family();
    let invite = hub.invite(&["--yes"]);
    let invitation = Invitation::from_text(&invite.token).unwrap();
    for _ in 0..3 {
        let guest = Who::guest(&laptop.state(), &invitation);
        Session::open(guest, server.address(), OTHER).unwrap();
    }
    let end = invite.end();
    assert_eq!(end.code, 1, "{end:?}");
    assert!(end.err.contains("worthless"), "{end:?}");
    let run = Machine::new().run(&["join", &invitation.to_text()]);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn more_than_a_hundred_unknown_operations_end_the_session() {
    let (_hub, server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    let all: Vec<u8> = (1..=101)
        .flat_map(|corr| request(0, corr, Opcode::Unknown(0x7777), &[]))
        .collect();
    session.send_raw(Tier::T3, &all).unwrap();
    let end = session.end().unwrap();
    assert!(end.contains("limit"), "{end}");
    Session::of(&laptop, &server).works();
}

#[test]
fn resets_of_nothing_are_counted() {
    let (_hub, server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    let reset = Body::Reset { status: Status::Ok };
    let storm: Vec<u8> = (0..2001u32)
        .flat_map(|n| frame(2 * n + 1, reset, &[]))
        .collect();
    session.send_raw(Tier::T3, &storm).unwrap();
    assert!(session.end().is_some());
    Session::of(&laptop, &server).works();
}

#[test]
fn a_length_that_is_not_there_ends_the_session() {
    let (_hub, server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    // A frame of 2^30 bytes in a record of five.
    session.send_raw(Tier::T3, &[0xC0, 0, 0, 0, 0x40]).unwrap();
    let end = session.end().unwrap();
    assert!(end.starts_with("closed by the other side"), "{end}");
    Session::of(&laptop, &server).works();
}

#[test]
fn a_flood_of_lists_makes_neither_threads_nor_memory() {
    let (_hub, server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    session.works();
    let before = (server.threads(), server.memory());
    let mut most = before.0;
    for _ in 0..4 {
        for _ in 0..1000 {
            let list = Request::new(CONTROL, Opcode::DeviceList, Vec::new());
            let link = session.connection.link();
            link.request(clock::mono(), list).unwrap();
        }
        let mut answers = 0;
        while answers < 1000 {
            if let LinkEvent::Response { status, .. } = session.next().unwrap() {
                assert_eq!(status, Status::Ok);
                answers += 1;
            }
            if answers % 100 == 0 {
                most = most.max(server.threads());
            }
        }
    }
    assert!(most <= before.0 + 4, "{most} threads");
    let memory = server.memory();
    assert!(
        memory < before.1 + 32 * 1024,
        "{memory} KiB after {} KiB",
        before.1
    );
    Session::of(&laptop, &server).works();
}

#[test]
fn a_peer_that_asks_and_never_reads_is_bounded() {
    let (hub, server, laptop) = family();
    let mut deaf = Session::of(&laptop, &server);
    deaf.stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let before = server.memory();
    let mut corr = 0;
    for _ in 0..400 {
        let mut all = Vec::new();
        for _ in 0..1000 {
            corr += 1;
            all.extend(request(0, corr, Opcode::DeviceList, &[]));
        }
        if deaf.send_raw(Tier::T3, &all).is_err() {
            break;
        }
    }
    eventually("its session is ended", || {
        (server.lines("session ended") >= 2).then_some(())
    });
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    let other = hub.admit("other");
    Session::open(Who::member(&other.state()), server.address(), OTHER)
        .unwrap()
        .works();
}

#[test]
fn a_revoked_node_that_does_not_read_is_cut_all_the_same() {
    let (hub, server, laptop) = family();
    let mut deaf = Session::of(&laptop, &server);
    deaf.works();
    deaf.stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    // Fills the way back, so that the last word cannot be sent.
    let mut corr = 100;
    for _ in 0..60 {
        let mut all = Vec::new();
        for _ in 0..1000 {
            corr += 1;
            all.extend(request(0, corr, Opcode::UsbDeviceList, &[]));
        }
        if deaf.send_raw(Tier::T3, &all).is_err() {
            break;
        }
    }
    assert_eq!(hub.run(&["revoke", "laptop"]).code, 0);
    eventually("its session is gone", || {
        let status = hub.run(&["status", "--json"]).json();
        let sessions = status["server"]["sessions"].as_array()?.len();
        (sessions == 0).then_some(())
    });
    drop(deaf);
}

#[test]
fn connections_that_end_in_any_way_leave_nothing_behind() {
    let (_hub, server, laptop) = family();
    Session::of(&laptop, &server).works();
    eventually("both sessions are over", || {
        (server.lines("session ended") >= 2).then_some(())
    });
    let files = server.open_files();
    for round in 0..24u32 {
        let who = Who::member(&laptop.state());
        let source = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(round).unwrap());
        let mut session = Session::open(who, server.address(), source).unwrap();
        let list = request(0, 7, Opcode::DeviceList, &[]);
        match round % 4 {
            // In the middle of a request.
            0 => session.send_raw(Tier::T3, &list).unwrap(),
            // In the middle of a message.
            1 => {
                use std::io::Write;
                session.stream.write_all(&[0, 0, 1, 0, 5, 5]).unwrap();
            }
            // Half-closed, and read to the end.
            2 => {
                session.stream.shutdown(Shutdown::Write).unwrap();
                session.end();
            }
            // Something that cannot be opened.
            _ => {
                use std::io::Write;
                session.stream.write_all(&[0, 0, 0, 40]).unwrap();
                session.stream.write_all(&[0x33; 40]).unwrap();
                session.end();
            }
        }
    }
    eventually("every file is closed", || {
        (server.open_files() <= files).then_some(())
    });
    eventually("every session is over", || {
        (server.lines("session ended") >= 26).then_some(())
    });
    assert_eq!(
        server.lines("session ended"),
        server.lines("session opened")
    );
}

#[test]
fn a_node_that_opens_more_and_more_sessions_loses_the_oldest() {
    let (_hub, server, laptop) = family();
    let mut first = Session::of(&laptop, &server);
    let mut kept = Vec::new();
    for _ in 0..64 {
        let who = Who::member(&laptop.state());
        kept.push(Session::open(who, server.address(), LAPTOP).unwrap());
    }
    let end = first.end().unwrap();
    assert!(end.contains("duplicate"), "{end}");
    kept.pop().unwrap().works();
}
