//! Locks of devices between machines that compete for one.

use myclerk::device::op::{LockRequest, LockResponse, LockToken, UnlockRequest};
use myclerk::link::{LinkEvent, StreamId, Target};
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use serde_json::{Value, json};

use crate::echo::Start;
use crate::machine::{Daemon, Machine, Pending, eventually};
use crate::wire::Session;

const DEVICE: &str = "hub/echo:one";
const CONTROL: Target = Target::On(StreamId::CONTROL);

/// A hub with one device, and members that may use it in some mode.
struct Lab<const N: usize> {
    hub: Machine,
    server: Daemon,
    members: [Machine; N],
}

impl<const N: usize> Lab<N> {
    fn new(names: [&str; N], mode: &str) -> Self {
        let hub = Machine::founded();
        hub.plug("echo:one");
        let server = hub.server();
        let members = names.map(|name| {
            let member = hub.admit(name);
            hub.share("echo:one", name, mode);
            member
        });
        Self {
            hub,
            server,
            members,
        }
    }

    fn who(&self) -> Value {
        let who = self.hub.run(&["who", "--json"]).json();
        who.as_array().unwrap()[0].clone()
    }

    fn queue(&self) -> Vec<String> {
        let who = self.who();
        let queue = who["queue"].as_array().unwrap().iter();
        queue
            .map(|one| one["node"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn owner(&self) -> Option<String> {
        let who = self.who();
        who["lock"]["node"]["name"].as_str().map(str::to_owned)
    }
}

impl Machine {
    /// `myclerk lock` that waits.
    fn wait_for_lock(&self) -> Pending {
        self.begin(&["lock", DEVICE, "--wait", "5m", "--json"])
    }
}

#[test]
fn a_lock_keeps_others_out_until_it_is_given_back_in_the_order_of_the_queue() {
    let lab = Lab::new(["laptop", "desk", "shed"], "rw");
    let [laptop, desk, shed] = &lab.members;
    let _daemons = [laptop, desk, shed].map(Machine::user);
    let first = laptop.run(&["lock", DEVICE, "--json"]).json();
    assert_eq!(first["node"]["name"], "hub");
    assert_eq!(laptop.run(&["attach", DEVICE]).code, 0, "its own lock");

    let attach = desk.run(&["attach", DEVICE]);
    assert_eq!(attach.code, 4);
    assert!(
        attach.err.contains("is locked by another machine"),
        "{attach:?}"
    );
    assert!(
        attach.err.contains("myclerk lock hub/echo:one --wait"),
        "{attach:?}"
    );
    let refused = desk.run(&["lock", DEVICE]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let remote = desk.run(&["list", "--json"]).json();
    let device = &remote["remote"][0]["devices"][0];
    assert_eq!(device["state"], "locked");

    let second = desk.wait_for_lock();
    second.says("this machine is next");
    eventually("desk waits", || (lab.queue() == ["desk"]).then_some(()));
    let third = shed.wait_for_lock();
    third.says("1 before this machine");
    assert_eq!(lab.queue(), ["desk", "shed"]);
    assert_eq!(lab.owner().as_deref(), Some("laptop"));

    assert_eq!(laptop.run(&["unlock", DEVICE]).code, 0);
    assert_eq!(lab.owner(), None, "it is still in use");
    assert_eq!(laptop.run(&["detach", DEVICE]).code, 0);
    let got = second.end().json();
    assert!(got["fence"].as_u64() > first["fence"].as_u64());
    third.says("this machine is next");
    assert_eq!(lab.owner().as_deref(), Some("desk"));
    let attach = laptop.run(&["attach", DEVICE]);
    assert_eq!(attach.code, 4, "{attach:?}");
    assert_eq!(desk.run(&["attach", DEVICE]).code, 0);
    assert_eq!(desk.run(&["detach", DEVICE]).code, 0);
    assert_eq!(desk.run(&["unlock", DEVICE]).code, 0);
    assert_eq!(third.end().code, 0);
    assert_eq!(desk.run(&["unlock", DEVICE]).code, 5, "there is none of it");
}

#[test]
fn who_gives_up_waiting_leaves_the_queue() {
    let lab = Lab::new(["laptop", "desk"], "rw");
    let [laptop, desk] = &lab.members;
    let _daemons = [laptop, desk].map(Machine::user);
    assert_eq!(laptop.run(&["lock", DEVICE]).code, 0);
    let waiting = desk.wait_for_lock();
    waiting.says("this machine is next");
    waiting.interrupt();
    assert_eq!(waiting.end().code, 130);
    eventually("the queue is empty", || {
        lab.queue().is_empty().then_some(())
    });
    assert_eq!(laptop.run(&["unlock", DEVICE]).code, 0);
    assert_eq!(lab.owner(), None);
    let short = desk.run(&["lock", DEVICE, "--wait", "1s"]);
    assert_eq!(short.code, 0);
    let in_vain = laptop.run(&["lock", DEVICE, "--wait", "1s"]);
    assert_eq!(in_vain.code, 4, "{in_vain:?}");
}

#[test]
fn the_lock_of_a_machine_that_was_killed_is_free_after_its_grace() {
    let lab = Lab::new(["laptop", "desk"], "rw");
    let [laptop, desk] = &lab.members;
    let holder = laptop.user();
    let _other = desk.user();
    let before = laptop.run(&["lock", DEVICE, "--json"]).json();
    assert_eq!(laptop.run(&["attach", DEVICE]).code, 0);
    let waiting = desk.wait_for_lock();
    waiting.says("this machine is next");
    // Killed.
    drop(holder);
    lab.server.says("session ended");
    assert_eq!(lab.owner().as_deref(), Some("laptop"), "it has its grace");
    let after = waiting.end().json();
    assert!(after["fence"].as_u64() > before["fence"].as_u64());
    assert_eq!(
        lab.server.lines("why=SessionLost"),
        1,
        "{}",
        lab.server.log()
    );
}

#[test]
fn fences_grow_over_a_crash_of_the_owner() {
    let mut lab = Lab::new(["laptop"], "rw");
    let mut fences = Vec::new();
    for _ in 0..2 {
        let mut session = Session::of(&lab.members[0], &lab.server);
        fences.push(lock(&mut session, 60_000, None).unwrap().fence);
        lab.server = {
            drop(lab.server);
            lab.hub.server()
        };
    }
    assert!(fences[1] > fences[0], "{fences:?}");
}

#[test]
fn an_administrator_breaks_a_lock_and_its_owner_is_told() {
    let lab = Lab::new(["laptop", "desk"], "rw");
    let [laptop, desk] = &lab.members;
    let holder = laptop.user();
    let _other = desk.user();
    assert_eq!(laptop.run(&["lock", DEVICE]).code, 0);
    assert_eq!(laptop.run(&["attach", DEVICE]).code, 0);
    let waiting = desk.wait_for_lock();
    eventually("desk waits", || (lab.queue() == ["desk"]).then_some(()));
    let broken = lab.hub.run(&["unlock", "echo:one", "--break", "--json"]);
    assert_eq!(broken.json()["node"]["name"], "laptop");
    assert_eq!(waiting.end().code, 0, "what was open by it is closed");
    holder.says("device is no longer attached");
    let attach = laptop.run(&["attach", DEVICE]);
    assert_eq!(attach.code, 4);
    assert!(
        attach.err.contains("lock of echo:one on hub is lost"),
        "{attach:?}"
    );
    assert_eq!(lab.hub.run(&["unlock", "echo:one", "--break"]).code, 0);
    assert_eq!(lab.hub.run(&["unlock", "echo:one", "--break"]).code, 5);
}

#[test]
fn exclusive_access_is_access_with_the_lock_and_ends_with_it() {
    let lab = Lab::new(["laptop"], "exclusive");
    let [laptop] = &lab.members;
    let client = laptop.user();
    let attach = laptop.run(&["attach", DEVICE]);
    assert_eq!(attach.code, 4);
    assert!(
        attach.err.contains("try: myclerk lock hub/echo:one"),
        "{attach:?}"
    );
    assert_eq!(laptop.run(&["lock", DEVICE]).code, 0);
    assert_eq!(laptop.run(&["attach", DEVICE]).code, 0);
    assert_eq!(laptop.attached().as_array().unwrap().len(), 1);
    assert_eq!(laptop.run(&["unlock", DEVICE]).code, 0);
    client.says("device is no longer attached");
    assert_eq!(laptop.attached(), json!([]));
    assert_eq!(laptop.run(&["attach", DEVICE]).code, 4);
}

#[test]
fn a_denial_outranks_a_lock() {
    let lab = Lab::new(["laptop", "desk"], "rw");
    let [laptop, desk] = &lab.members;
    let mut holder = Session::of(laptop, &lab.server);
    let lease = lock(&mut holder, 60_000, None).unwrap();
    let _other = desk.user();
    let waiting = desk.wait_for_lock();
    eventually("desk waits", || (lab.queue() == ["desk"]).then_some(()));
    let deny = |name: &str| {
        let deny = ["acl", "grant", "echo:one", name, "--mode", "none"];
        assert_eq!(lab.hub.run(&deny).code, 0);
    };
    deny("desk");
    assert_eq!(waiting.end().code, 4);
    deny("laptop");
    assert_eq!(lab.owner(), None);
    assert_eq!(
        lock(&mut holder, 60_000, Some(lease.lock)),
        Err("device".to_owned())
    );
}

/// `DEVICE_LOCK` without waiting.
fn lock(session: &mut Session, ttl: u32, token: Option<LockToken>) -> Result<LockResponse, String> {
    let request = LockRequest {
        dev: "echo:one".to_owned(),
        ttl,
        wait: 0,
        lock: token,
        pos: false,
    };
    let payload = request.encode().unwrap();
    match session.ask(CONTROL, Opcode::DeviceLock, &payload).unwrap() {
        (Status::Ok, answer) => Ok(LockResponse::decode(&answer).unwrap()),
        (_, error) => Err(ErrorMap::decode(&error).unwrap().sub.into_owned()),
    }
}

fn unlock(session: &mut Session, token: Option<LockToken>) -> Option<String> {
    let request = UnlockRequest {
        dev: "echo:one".to_owned(),
        lock: token,
    };
    let payload = request.encode().unwrap();
    match session
        .ask(CONTROL, Opcode::DeviceUnlock, &payload)
        .unwrap()
    {
        (Status::Ok, _) => None,
        (_, error) => Some(ErrorMap::decode(&error).unwrap().sub.into_owned()),
    }
}

#[test]
fn what_a_stranger_to_the_lock_may_not_do_with_it() {
    let lab = Lab::new(["laptop", "desk"], "rw");
    let [laptop, desk] = &lab.members;
    let mut holder = Session::of(laptop, &lab.server);
    let mut other = Session::of(desk, &lab.server);
    let lease = lock(&mut holder, 60_000, None).unwrap();
    let held = |session: &mut Session, more| lock(session, 60_000, more).unwrap_err();
    assert_eq!(held(&mut other, None), "lock-held");
    assert_eq!(held(&mut other, Some(lease.lock)), "lock-lost");
    assert_eq!(held(&mut holder, None), "lock-held", "it is not renewed so");
    assert_eq!(
        unlock(&mut other, Some(lease.lock)).as_deref(),
        Some("lock-lost")
    );
    assert_eq!(unlock(&mut other, None).as_deref(), Some("acl"));
    let call = Start::payload("echo:one", 0);
    let refused = other.refused(CONTROL, Opcode::GpioLineInfo, &call);
    assert_eq!(refused, "lock-held");
    assert_eq!(
        holder.ask(CONTROL, Opcode::GpioLineInfo, &call).unwrap().0,
        Status::Ok
    );
    // In another session, by the token.
    drop(holder);
    let mut again = Session::of(laptop, &lab.server);
    let renewed = lock(&mut again, 90_000, Some(lease.lock)).unwrap();
    assert_eq!((renewed.fence, renewed.ttl), (lease.fence, 90_000));
    assert_eq!(unlock(&mut again, Some(lease.lock)), None);
    assert_eq!(
        unlock(&mut again, Some(lease.lock)).as_deref(),
        Some("lock")
    );
    assert_eq!(held(&mut again, Some(lease.lock)), "lock-lost");
    for payload in [&b"\xc1"[..], b"\x80", b"\x82\xa3dev\xa8echo:one\xa3ttl\x00"] {
        let refused = again.refused(CONTROL, Opcode::DeviceLock, payload);
        assert_eq!(refused, "bad-payload");
    }
}

#[test]
fn a_lock_that_is_not_renewed_ends_and_takes_its_stream_along() {
    let lab = Lab::new(["laptop", "desk"], "rw");
    let [laptop, desk] = &lab.members;
    let mut holder = Session::of(laptop, &lab.server);
    let lease = lock(&mut holder, 300, None).unwrap();
    let start = Start::payload("echo:one", 4);
    let opened = holder
        .ask(Target::New, Opcode::StreamStart, &start)
        .unwrap();
    assert_eq!(opened.0, Status::Ok);
    let reset = loop {
        if let LinkEvent::Reset { payload, .. } = holder.next().unwrap() {
            break ErrorMap::decode(&payload).unwrap();
        }
    };
    assert_eq!(reset.sub, "lock-lost");
    assert_eq!(
        lock(&mut holder, 300, Some(lease.lock)),
        Err("lock-lost".to_owned())
    );
    let mut other = Session::of(desk, &lab.server);
    assert!(lock(&mut other, 60_000, None).is_ok());
    let refused = holder.refused(
        CONTROL,
        Opcode::GpioLineInfo,
        &Start::payload("echo:one", 0),
    );
    assert_eq!(refused, "lock-lost", "it is told what happened");
}
