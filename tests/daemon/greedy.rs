//! Members that want everything, read nothing, and leave in the middle.

use myclerk::device::op::{LockRequest, LockResponse, SubscribeRequest, UnlockRequest};
use myclerk::kernel::clock;
use myclerk::link::{LinkEvent, Request, StreamId, Target};
use myclerk::wire::flags::Tier;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::machine::{Daemon, Machine, eventually};
use crate::member::{LAPTOP, OTHER};
use crate::wire::{Session, Who, request};

const CONTROL: Target = Target::On(StreamId::CONTROL);

fn lock(dev: &str, wait: u32) -> Vec<u8> {
    let request = LockRequest {
        dev: dev.to_owned(),
        ttl: 3_600_000,
        wait,
        lock: None,
        pos: true,
    };
    request.encode().unwrap()
}

fn hub() -> (Machine, Daemon, Machine, Machine) {
    let hub = Machine::founded();
    for n in 0..80 {
        hub.plug(&format!("echo:{n}"));
    }
    let server = hub.server();
    let greedy = hub.admit("greedy");
    let modest = hub.admit("modest");
    for name in ["greedy", "modest"] {
        hub.share("echo:*", name, "rw");
    }
    (hub, server, greedy, modest)
}

/// Takes the lock; what gives it back.
fn hold(session: &mut Session, dev: &str) -> Vec<u8> {
    let (status, answer) = session
        .ask(CONTROL, Opcode::DeviceLock, &lock(dev, 0))
        .unwrap();
    assert_eq!(status, Status::Ok);
    let unlock = UnlockRequest {
        dev: dev.to_owned(),
        lock: Some(LockResponse::decode(&answer).unwrap().lock),
    };
    unlock.encode().unwrap()
}

fn queues(hub: &Machine) -> usize {
    let who = hub.run(&["who", "--json"]).json();
    let devices = who.as_array().unwrap().iter();
    devices
        .map(|device| device["queue"].as_array().unwrap().len())
        .sum()
}

/// Reads its place in the queue, with more to come.
fn hears_its_place(session: &mut Session) {
    loop {
        if let LinkEvent::Response { more, .. } = session.next().unwrap() {
            assert!(more);
            return;
        }
    }
}

#[test]
fn who_leaves_in_the_middle_of_its_wait_is_no_ghost_in_the_queue() {
    let (hub, server, greedy, modest) = hub();
    let mut holder = Session::of(&modest, &server);
    let unlock = hold(&mut holder, "echo:0");
    let before = server.lines("session ended");
    for told in [true, false].repeat(10) {
        let mut waiting =
            Session::open(Who::member(&greedy.state()), server.address(), OTHER).unwrap();
        let wish = Request::new(CONTROL, Opcode::DeviceLock, lock("echo:0", 3_600_000));
        let link = waiting.connection.link();
        link.request(clock::mono(), wish).unwrap();
        waiting.flush().unwrap();
        if told {
            hears_its_place(&mut waiting);
        }
    }
    eventually("all are gone", || {
        (server.lines("session ended") == before + 20).then_some(())
    });
    assert_eq!(queues(&hub), 0);
    let (status, _) = holder.ask(CONTROL, Opcode::DeviceUnlock, &unlock).unwrap();
    assert_eq!(status, Status::Ok);
    hold(&mut holder, "echo:0");
}

#[test]
fn who_takes_everything_and_reads_nothing_is_bounded_and_leaves_the_rest_to_others() {
    let (hub, server, greedy, modest) = hub();
    let mut quiet = Session::open(Who::member(&modest.state()), server.address(), OTHER).unwrap();
    let unlock = hold(&mut quiet, "echo:0");
    let mut deaf = Session::of(&greedy, &server);
    deaf.stream
        .set_write_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    let before = server.memory();
    let subscribe = SubscribeRequest::default().encode().unwrap();
    let mut corr = 0;
    'all: for round in 0..100u32 {
        let mut all = Vec::new();
        for n in 0..100 {
            corr += 1;
            let stream = 2 * (round * 100 + n) + 1;
            all.extend(request(stream, corr, Opcode::DeviceSubscribe, &subscribe));
        }
        for n in 0..80 {
            corr += 1;
            let wish = lock(&format!("echo:{n}"), 3_600_000);
            all.extend(request(0, corr, Opcode::DeviceLock, &wish));
        }
        if deaf.send_raw(Tier::T3, &all).is_err() {
            break 'all;
        }
    }
    quiet.works();
    for _ in 0..200 {
        let (status, _) = quiet.ask(CONTROL, Opcode::DeviceUnlock, &unlock).unwrap();
        if status != Status::Ok {
            break;
        }
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    let who = hub.run(&["who", "--json"]).json();
    let held = |device: &&serde_json::Value| !device["lock"].is_null();
    let held = who.as_array().unwrap().iter().filter(held).count();
    assert!(held <= 65, "{held}");
    // There are more devices than one node can have locks.
    let free = (0..80).any(|n| {
        let wish = lock(&format!("echo:{n}"), 0);
        let (status, _) = quiet.ask(CONTROL, Opcode::DeviceLock, &wish).unwrap();
        status == Status::Ok
    });
    assert!(free);
    drop(deaf);
    eventually("its session is over", || {
        (server.lines("session ended") > 0).then_some(())
    });
    eventually("nothing waits", || (queues(&hub) == 0).then_some(()));
    Session::open(Who::member(&greedy.state()), server.address(), LAPTOP)
        .unwrap()
        .works();
}
