//! A member whose hub lies: the client daemon survives it and shows nothing harmful.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use myclerk::bus;
use myclerk::daemon::handshake::policy;
use myclerk::daemon::node;
use myclerk::daemon::state::{Peers, StateDir};
use myclerk::daemon::system::SystemEntropy;
use myclerk::device::op::{Brief, ListResponse};
use myclerk::kernel::clock;
use myclerk::link::LinkEvent;
use myclerk::link::connection::Connection;
use myclerk::session::{Offered, Progress, Responder};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::machine::Machine;
use crate::wire::{Session, read_message, write_message};

type Answers = dyn Fn(Opcode, &[u8]) -> (Status, Vec<u8>) + Send;

/// Answers one client with the identity of the hub.
fn answer(mut stream: TcpStream, hub: &std::path::Path, answers: &Answers) -> Option<()> {
    let loaded = node::load(&StateDir::new(hub)).unwrap();
    let mut responder = Responder::new(policy(), clock::mono());
    let session = loop {
        let message = read_message(&mut stream).ok()?;
        let now = clock::mono();
        let psks = loaded.psks.at(now);
        let mut offered = Offered {
            psks: &psks,
            tickets: None,
        };
        let progress = responder.handle(
            &loaded.node,
            &mut offered,
            now,
            &mut SystemEntropy,
            &message,
        );
        match progress.ok()? {
            Progress::Wait => {}
            Progress::Send(messages) => {
                for message in messages {
                    write_message(&mut stream, message.as_ref()).ok()?;
                }
            }
            Progress::Established(established) => {
                for message in &established.send {
                    write_message(&mut stream, message.as_ref()).ok()?;
                }
                break established.session;
            }
            Progress::Refused { .. } => return None,
        }
    };
    let now = clock::mono();
    let mut session = Session {
        stream,
        connection: Connection::new(now, session, true, false, bus::declared_reply),
        sent: Vec::new(),
    };
    while let Some(event) = session.next() {
        if let LinkEvent::Request {
            stream,
            corr,
            opcode,
            payload,
            ..
        } = event
        {
            let (status, payload) = answers(opcode, &payload);
            let link = session.connection.link();
            let _ = link.respond(stream, corr, status, payload, false);
        }
    }
    Some(())
}

/// A hub whose server is played by the test, and a member of it.
fn liar(answers: impl Fn(Opcode, &[u8]) -> (Status, Vec<u8>) + Send + 'static) -> Machine {
    let hub = Machine::founded();
    let server = hub.serve();
    let laptop = hub.admit("laptop");
    drop(server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    point_to(&laptop, listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let hub = hub;
        while let Ok((stream, _)) = listener.accept() {
            let _ = answer(stream, &hub.state(), &answers);
        }
    });
    laptop
}

pub(crate) fn point_to(machine: &Machine, address: SocketAddr) {
    let state = StateDir::new(machine.state());
    let mut peers: Peers = state.peers().unwrap();
    let mut peer = peers.all()[0].clone();
    peer.addresses = vec![address.to_string()];
    peers.put(peer);
    state.lock().unwrap().store_peers(&peers).unwrap();
}

fn brief(dev: &str, name: &str) -> Brief {
    Brief {
        dev: dev.to_owned(),
        class: "usb".to_owned(),
        name: name.to_owned(),
        state: 0,
        mode: 3,
        owner: None,
    }
}

#[test]
fn a_list_that_never_ends_is_cut_off() {
    let pages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pages);
    let laptop = liar(move |opcode, _| match opcode {
        Opcode::DeviceList => {
            let page = count.fetch_add(1, Ordering::Relaxed);
            let devs = (0..64).map(|n| brief(&format!("usb:{page:08}:{n:02}"), "x"));
            let list = ListResponse {
                devs: devs.collect(),
                more: Some(format!("usb:{page:08}:99")),
            };
            (Status::Ok, list.encode().unwrap())
        }
        _ => (Status::Ok, vec![0x80]),
    });
    let client = laptop.client();
    client.says(" connected");
    let list = laptop.run(&["list", "--json"]).json();
    let devices = list["remote"][0]["devices"].as_array().unwrap().len();
    assert!(devices <= 4096, "{devices}");
    assert!(pages.load(Ordering::Relaxed) <= 65);
}

#[test]
fn an_empty_list_with_more_behind_it_is_the_end() {
    let pages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pages);
    let laptop = liar(move |opcode, _| match opcode {
        Opcode::DeviceList => {
            let page = count.fetch_add(1, Ordering::Relaxed);
            let list = ListResponse {
                devs: Vec::new(),
                more: Some(format!("{page:020}")),
            };
            (Status::Ok, list.encode().unwrap())
        }
        _ => (Status::Ok, vec![0x80]),
    });
    let client = laptop.client();
    client.says(" connected");
    assert_eq!(laptop.run(&["list"]).code, 0);
    assert_eq!(pages.load(Ordering::Relaxed), 1);
}

#[test]
fn what_a_hub_says_cannot_move_the_cursor() {
    let laptop = liar(|opcode, _| match opcode {
        Opcode::DeviceList => {
            let list = ListResponse {
                devs: vec![
                    brief("usb:1:2", "Stick\u{1b}[2J\u{202e}\r\n\u{7}"),
                    brief("usb:\u{1b}[31m:1", "bad id"),
                    brief(&"u".repeat(4000), "long id"),
                ],
                more: None,
            };
            (Status::Ok, list.encode().unwrap())
        }
        Opcode::FamilyUpdate => (Status::Ok, vec![0x80]),
        _ => {
            let map = myclerk::wire::error::ErrorMap::new("weird\u{1b}[1m")
                .with_msg("no\u{1b}[31m\nway".to_owned());
            (Status::Forbidden, map.encode().unwrap())
        }
    });
    let client = laptop.client();
    client.says(" connected");
    let list = laptop.run(&["list"]);
    let harmful = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(
        !harmful(&list.out) && list.out.contains("usb:1:2"),
        "{list:?}"
    );
    assert_eq!(list.out.lines().count(), 2, "{list:?}");
    let attach = laptop.run(&["attach", "hub/usb:1:2"]);
    assert_ne!(attach.code, 0);
    assert!(!harmful(&attach.err), "{attach:?}");
    assert!(!harmful(&client.log()), "{}", client.log());
}

#[test]
fn answers_without_sense_are_told_as_such() {
    let laptop = liar(|_, _| (Status::Ok, vec![0xC1; 100]));
    let client = laptop.client();
    client.says(" connected");
    let list = laptop.run(&["list", "--json"]).json();
    let problem = list["remote"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("list without sense"), "{problem}");
    assert_eq!(laptop.run(&["attach", "hub/usb:1:2"]).code, 1);
}
