//! Who is no member: nothing useful comes back, the log stays short, the service goes on.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use myclerk::daemon::system::SystemEntropy;
use myclerk::kernel::clock;
use myclerk::session::Initiator;
use myclerk::session::psk::{Psk, PskUse};

use crate::machine::{Daemon, Machine, eventually};
use crate::member::OTHER;
use crate::wire::{Session, Who, dial_from, read_message, rest, write_message};

/// The server is as it was, and a member is served.
fn untouched(server: &mut Daemon, laptop: &Machine, files: usize) {
    assert!(server.is_running());
    Session::of(laptop, server).works();
    eventually("all connections are closed again", || {
        (server.open_files() <= files).then_some(())
    });
}

fn family() -> (Machine, Daemon, Machine) {
    let hub = Machine::founded();
    let server = hub.serve();
    let laptop = hub.admit("laptop");
    (hub, server, laptop)
}

/// The number of open files when nobody is connected.
fn settled(server: &Daemon) -> usize {
    server.says("session ended");
    let mut last = 0;
    eventually("nothing changes", || {
        let now = server.open_files();
        std::thread::sleep(Duration::from_millis(20));
        (std::mem::replace(&mut last, now) == now).then_some(now)
    })
}

#[test]
fn other_protocols_and_garbage_get_no_answer_and_one_line_each() {
    let (_hub, mut server, laptop) = family();
    let files = settled(&server);
    let greetings: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0, 0, 0, 0],
        &[0, 0, 0x10, 0x01],
        &[0xff; 64],
        &[0, 0, 0, 4, 1, 2, 3, 4],
        &[0, 0, 0, 64, 0],
    ];
    for (count, greeting) in (1..).zip(greetings) {
        let mut stream = dial_from(OTHER, server.address());
        stream.write_all(greeting).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = rest(&mut stream);
        assert_eq!(answer.as_deref(), Some(&[][..]), "{greeting:?}");
        eventually("a line about it", || {
            (server.lines("source=") >= count).then_some(())
        });
        assert_eq!(server.lines("source="), count, "{}", server.log());
    }
    untouched(&mut server, &laptop, files);
}

#[test]
fn a_flood_of_garbage_leaves_a_bounded_number_of_lines() {
    let (_hub, mut server, laptop) = family();
    let files = settled(&server);
    for _ in 0..300 {
        let mut stream = dial_from(OTHER, server.address());
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        rest(&mut stream);
    }
    let lines = server.lines("source=");
    assert!((1..=17).contains(&lines), "{lines} lines");
    untouched(&mut server, &laptop, files);
}

#[test]
fn those_who_connect_and_say_nothing_have_four_places_and_ten_seconds() {
    let (_hub, mut server, laptop) = family();
    let files = settled(&server);
    let mut idle: Vec<TcpStream> = (0..100)
        .map(|_| dial_from(OTHER, server.address()))
        .collect();
    // One of them drips, which must not help.
    let _ = idle[0].write_all(&[0]);
    // The others are turned away at once, and a member is let in beside them.
    Session::of(&laptop, &server).works();
    eventually("all but four are closed", || {
        (server.open_files() <= files + 4).then_some(())
    });
    assert_eq!(server.lines("too many"), 1);
    let mut drip = idle[0].try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while drip.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    for mut stream in idle {
        assert_eq!(rest(&mut stream).as_deref(), Some(&[][..]));
    }
    dripping.join().unwrap();
    assert!(server.lines("source=") <= 8, "{}", server.log());
    untouched(&mut server, &laptop, files);
}

#[test]
fn a_handshake_without_the_family_key_ends_in_silence_or_a_hint() {
    let (_hub, mut server, laptop) = family();
    let files = settled(&server);
    let stranger = Machine::founded();
    let other_psk = Psk::from_bytes([9; 32]);
    let current = true;
    let attempts = [
        (Who::member(&laptop.state()), None),
        (Who::member(&stranger.state()), None),
        (
            Who::member(&laptop.state()),
            Some((other_psk, PskUse::Family { epoch: 1, current })),
        ),
    ];
    for (mut who, psk) in attempts {
        who.dial.psk = psk;
        assert!(Session::open(who, server.address(), OTHER).is_err());
    }
    let foreign = Who::member(&stranger.state());
    assert!(Session::open(foreign, server.address(), OTHER).is_err());
    // With this family's key, but another family's certificate.
    let mut mixed = Who::member(&stranger.state());
    mixed.dial.psk = Who::member(&laptop.state()).dial.psk;
    let mixed = Session::open(mixed, server.address(), OTHER);
    assert!(mixed.is_err() || mixed.unwrap().end().is_some());
    eventually("a line for each", || {
        (server.lines("source=") >= 5).then_some(())
    });
    assert_eq!(server.lines("source="), 5, "{}", server.log());
    assert_eq!(server.lines("session opened"), 1, "{}", server.log());
    untouched(&mut server, &laptop, files);
}

#[test]
fn a_recorded_handshake_opens_nothing() {
    let (_hub, mut server, laptop) = family();
    let mut session = Session::of(&laptop, &server);
    session.works();
    let recorded = std::mem::take(&mut session.sent);
    drop(session);
    let files = settled(&server);
    let opened = server.lines("session opened");
    let mut thief = dial_from(OTHER, server.address());
    for message in &recorded {
        let _ = write_message(&mut thief, message);
    }
    assert!(rest(&mut thief).is_some());
    assert_eq!(server.lines("session opened"), opened);
    untouched(&mut server, &laptop, files);
}

#[test]
fn half_a_handshake_then_nothing_is_cut() {
    let (_hub, mut server, laptop) = family();
    let files = settled(&server);
    let Who { node, dial } = Who::member(&laptop.state());
    let (_, first) = Initiator::start(
        &node,
        dial,
        myclerk::daemon::handshake::policy(),
        clock::mono(),
        &mut SystemEntropy,
    )
    .unwrap();
    let mut stream = dial_from(Ipv4Addr::new(127, 0, 0, 4), server.address());
    for message in &first {
        write_message(&mut stream, message.as_ref()).unwrap();
    }
    read_message(&mut stream).unwrap();
    assert!(rest(&mut stream).is_some(), "it must be cut");
    untouched(&mut server, &laptop, files);
}
