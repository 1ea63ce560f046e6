//! The access list over the wire, what happens to those whom it lets in no longer, and what those
//! whom it lets in may set.

use std::time::Duration;

use myclerk::device::acl::{Entry, MAX_ENTRIES, Mode, Subject};
use myclerk::device::op::{
    AclGetResponse, AclGrantRequest, AclRevokeRequest, AclSetRequest, AclVersion,
    CapabilitiesResponse, ConfigureRequest, ConfigureResponse, DeviceRequest, Info, PatternRequest,
    WireEntry,
};
use myclerk::kernel::clock;
use myclerk::link::{LinkEvent, Request, StreamId, Target};
use myclerk::wire::error::ErrorMap;
use myclerk::wire::flags::Tier;
use myclerk::wire::msgpack::{self, Value};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::echo::Start;
use crate::machine::{Daemon, Machine, eventually};
use crate::member::{LAPTOP, OTHER};
use crate::wire::{Session, Who, request, write_message};

const CONTROL: Target = Target::On(StreamId::CONTROL);

/// A hub with `echo:one`, an administrator and a guest that may use it.
struct Lab {
    hub: Machine,
    server: Daemon,
    boss: Machine,
    guest: Machine,
}

impl Lab {
    fn new() -> Self {
        let hub = Machine::founded();
        hub.plug("echo:one");
        let server = hub.server();
        let boss = Machine::new();
        let invite = hub.invite(&["--yes", "--role", "admin"]);
        let joined = boss.run(&["join", &invite.token, "--name", "boss"]);
        assert_eq!(joined.code, 0, "{joined:?}");
        assert_eq!(invite.end().code, 0);
        let guest = hub.admit("guest");
        hub.share("echo:one", "guest", "rw");
        Self {
            hub,
            server,
            boss,
            guest,
        }
    }

    fn boss(&self) -> Session {
        Session::open(
            Who::member(&self.boss.state()),
            self.server.address(),
            OTHER,
        )
        .unwrap()
    }

    fn guest(&self) -> Session {
        Session::of(&self.guest, &self.server)
    }

    fn subject(&self) -> Subject {
        Subject::Node(Who::member(&self.guest.state()).node.key.node_id().0)
    }

    fn entry(&self, mode: Mode) -> Entry {
        Entry::new("echo:one".parse().unwrap(), self.subject(), mode)
    }

    fn grant(&self, mode: Mode, until: Option<u64>) -> Vec<u8> {
        let entry = Entry {
            until,
            ..self.entry(mode)
        };
        let entry = entry.into();
        AclGrantRequest { entry }.encode().unwrap()
    }

    fn revoke(&self) -> Vec<u8> {
        let dev = "echo:one".parse().unwrap();
        let sub = self.subject();
        AclRevokeRequest { dev, sub }.encode().unwrap()
    }
}

fn get() -> Vec<u8> {
    let dev = "echo:one".parse().unwrap();
    PatternRequest { dev }.encode().unwrap()
}

fn set(entries: &[Entry], ver: u64) -> Vec<u8> {
    let request = AclSetRequest {
        dev: "echo:one".parse().unwrap(),
        entries: entries.iter().cloned().map(WireEntry::from).collect(),
        ver,
    };
    request.encode().unwrap()
}

fn list(session: &mut Session) -> (Vec<Entry>, u64) {
    let (status, answer) = session.ask(CONTROL, Opcode::AclGet, &get()).unwrap();
    assert_eq!(status, Status::Ok);
    let AclGetResponse { entries, ver } = AclGetResponse::decode(&answer).unwrap();
    let entries = entries.into_iter().map(|entry| entry.try_into().unwrap());
    (entries.collect(), ver)
}

/// Changes the list; its version then.
fn change(session: &mut Session, opcode: Opcode, payload: &[u8]) -> Result<u64, ErrorMap> {
    match session.ask(CONTROL, opcode, payload).unwrap() {
        (Status::Ok, answer) => Ok(AclVersion::decode(&answer).unwrap().ver),
        (_, error) => Err(ErrorMap::decode(&error).unwrap()),
    }
}

#[test]
fn only_an_administrator_sees_the_list_and_sets_it_on_what_it_knew() {
    let mut lab = Lab::new();
    let mut guest = lab.guest();
    let everything = [
        (Opcode::AclGet, get()),
        (Opcode::AclSet, set(&[], 1)),
        (Opcode::AclGrant, lab.grant(Mode::ReadWrite, None)),
        (Opcode::AclRevoke, lab.revoke()),
    ];
    for (opcode, payload) in everything {
        assert_eq!(guest.refused(CONTROL, opcode, &payload), "acl", "{opcode}");
    }
    guest.works();

    let mut boss = lab.boss();
    let (entries, ver) = list(&mut boss);
    assert_eq!(entries, [lab.entry(Mode::ReadWrite)]);
    let read = [lab.entry(Mode::Read)];
    let late = change(&mut boss, Opcode::AclSet, &set(&read, ver - 1)).unwrap_err();
    assert_eq!((&*late.sub, late.detail), ("busy", Some(Value::Uint(ver))));
    assert_eq!(list(&mut boss), (entries, ver));
    let after = change(&mut boss, Opcode::AclSet, &set(&read, ver));
    assert_eq!(after, Ok(ver + 1));
    let same = change(&mut boss, Opcode::AclSet, &set(&read, ver + 1));
    assert_eq!(same, Ok(ver + 1), "nothing is different");
    let granted = change(&mut boss, Opcode::AclGrant, &lab.grant(Mode::Write, None));
    assert_eq!(granted, Ok(ver + 2));
    lab.server = {
        drop(lab.server);
        lab.hub.server()
    };
    let mut boss = lab.boss();
    assert_eq!(
        list(&mut boss),
        (vec![lab.entry(Mode::Write)], ver + 2),
        "it is stored"
    );
    let revoked = change(&mut boss, Opcode::AclRevoke, &lab.revoke());
    assert_eq!(revoked, Ok(ver + 3));
    assert_eq!(list(&mut boss), (vec![], ver + 3));
    for opcode in [
        Opcode::AclGet,
        Opcode::AclSet,
        Opcode::AclGrant,
        Opcode::AclRevoke,
    ] {
        for wrong in [&b"\xc1"[..], b"\x80", b"\x81\xa3dev\x01"] {
            assert_eq!(boss.refused(CONTROL, opcode, wrong), "bad-payload");
        }
    }
    let audit = lab.hub.run(&["audit", "-n", "100", "--json"]).out;
    let by_boss = |line: &&str| line.contains("acl-changed") && line.contains("boss");
    assert_eq!(audit.lines().filter(by_boss).count(), 3, "{audit}");
}

#[test]
fn the_list_is_filled_over_the_wire_and_no_further() {
    let lab = Lab::new();
    let mut boss = lab.boss();
    let (_, ver) = list(&mut boss);
    let role = |n: usize| Entry {
        subject: Subject::Role(format!("{n:064}")),
        ops: (0..64).map(|low| (low, low)).collect(),
        ..lab.entry(Mode::Read)
    };
    let roles = |count| (0..count).map(role).collect::<Vec<Entry>>();
    let many = set(&roles(MAX_ENTRIES + 1), ver);
    let many = change(&mut boss, Opcode::AclSet, &many).unwrap_err();
    assert_eq!(&*many.sub, "bad-payload");
    let full = roles(MAX_ENTRIES);
    assert_eq!(
        change(&mut boss, Opcode::AclSet, &set(&full, ver)),
        Ok(ver + 1)
    );
    let more = change(&mut boss, Opcode::AclGrant, &lab.grant(Mode::Read, None)).unwrap_err();
    assert_eq!(&*more.sub, "limit");
    assert_eq!(list(&mut boss), (full, ver + 1));
    assert_eq!(
        change(&mut boss, Opcode::AclSet, &set(&[], ver + 1)),
        Ok(ver + 2)
    );
}

#[test]
fn a_change_at_too_low_a_tier_is_refused_and_repeated_at_the_one_that_it_needs() {
    let lab = Lab::new();
    let mut low = Who::member(&lab.boss.state());
    low.dial.tier = Tier::T3;
    low.node.max_tier = Tier::T3;
    let mut session = Session::open(low, lab.server.address(), LAPTOP).unwrap();
    let mut ask = |session: &mut Session| {
        let mut request = Request::new(CONTROL, Opcode::AclRevoke, lab.revoke());
        request.min_tier = Tier::T3;
        let (_, corr) = session
            .connection
            .link()
            .request(clock::mono(), request)
            .unwrap();
        answer(session, corr.0)
    };
    let (status, payload) = ask(&mut session);
    assert_eq!(status, Status::Forbidden);
    let error = ErrorMap::decode(&payload).unwrap();
    assert_eq!((&*error.sub, error.required_tier), ("tier", Some(4)));

    let mut boss = lab.boss();
    let (entries, ver) = list(&mut boss);
    assert_eq!(entries.len(), 1, "it was not done");
    assert_eq!(ask(&mut boss).0, Status::Ok);
    assert_eq!(list(&mut boss), (vec![], ver + 1), "it was done once");
}

fn answer(session: &mut Session, wanted: u32) -> (Status, Vec<u8>) {
    loop {
        if let LinkEvent::Response {
            corr,
            status,
            payload,
            ..
        } = session.next().unwrap()
            && corr.0 == wanted
        {
            return (status, payload);
        }
    }
}

fn open(session: &mut Session) {
    let start = Start::payload("echo:one", 4);
    let opened = session.ask(Target::New, Opcode::StreamStart, &start);
    assert_eq!(opened.unwrap().0, Status::Ok);
}

/// Why the stream ended.
fn reset(session: &mut Session) -> String {
    loop {
        if let LinkEvent::Reset { payload, .. } = session.next().unwrap() {
            return ErrorMap::decode(&payload).unwrap().sub.into_owned();
        }
    }
}

#[test]
fn an_open_stream_ends_with_the_right_to_it() {
    let lab = Lab::new();
    let (mut boss, mut guest) = (lab.boss(), lab.guest());
    open(&mut guest);
    change(&mut boss, Opcode::AclGrant, &lab.grant(Mode::Read, None)).unwrap();
    assert_eq!(reset(&mut guest), "acl");
    let start = Start::payload("echo:one", 4);
    let refused = guest.refused(Target::New, Opcode::StreamStart, &start);
    assert_eq!(refused, "acl");

    let soon = wall() + 1;
    let limited = lab.grant(Mode::ReadWrite, Some(soon));
    change(&mut boss, Opcode::AclGrant, &limited).unwrap();
    open(&mut guest);
    assert_eq!(reset(&mut guest), "acl");
    assert!(wall() > soon, "not before");
    let refused = guest.refused(Target::New, Opcode::StreamStart, &start);
    assert_eq!(refused, "device", "it knows of it no longer");
}

fn wall() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_change_that_somebody_held_back_is_not_made_any_longer() {
    let lab = Lab::new();
    let mut boss = lab.boss();
    let (_, ver) = list(&mut boss);
    let sealed = |session: &mut Session, corr| {
        let record = request(0, corr, Opcode::AclRevoke, &lab.revoke());
        session.sealed(Tier::T4, &record).unwrap()
    };
    let held_back = sealed(&mut boss, 1_000);
    // The limit is about the age, so it has to grow old.
    std::thread::sleep(Duration::from_secs(12));
    write_message(&mut boss.stream, &held_back).unwrap();
    // An answer to what the link did not ask ends the session on this side.
    boss.end();
    let mut again = lab.boss();
    assert_eq!(list(&mut again).1, ver, "it is not done");
    let fresh = sealed(&mut again, 1_000);
    write_message(&mut again.stream, &fresh).unwrap();
    let mut third = lab.boss();
    eventually("done", || (list(&mut third).1 == ver + 1).then_some(()));
}

fn configure(session: &mut Session, key: &str, value: Value) -> Result<Value, ErrorMap> {
    let request = ConfigureRequest {
        dev: "echo:one".to_owned(),
        set: [(key.to_owned(), value)].into(),
    };
    let payload = request.encode().unwrap();
    match session
        .ask(CONTROL, Opcode::DeviceConfigure, &payload)
        .unwrap()
    {
        (Status::Ok, answer) => {
            let response = ConfigureResponse::decode(&answer).unwrap();
            Ok(response.set["title"].clone())
        }
        (_, error) => Err(ErrorMap::decode(&error).unwrap()),
    }
}

fn name(session: &mut Session) -> String {
    let dev = "echo:one".to_owned();
    let payload = msgpack::encode(&DeviceRequest { dev }).unwrap();
    let (status, answer) = session.ask(CONTROL, Opcode::DeviceInfo, &payload).unwrap();
    assert_eq!(status, Status::Ok);
    msgpack::decode::<Info>(&answer).unwrap().name
}

#[test]
fn a_title_stays_until_it_is_taken_away_and_is_not_written_without_end() {
    let mut lab = Lab::new();
    let mut guest = lab.guest();
    let title = |text: &str| Value::from(text);
    assert_eq!(
        configure(&mut guest, "title", title("the left one")),
        Ok(title("the left one"))
    );
    assert_eq!(name(&mut guest), "the left one");
    let unknown = configure(&mut guest, "colour", title("red")).unwrap_err();
    assert_eq!(&*unknown.sub, "bad-payload");
    assert!(unknown.msg.unwrap().contains("\"colour\""));
    lab.server = {
        drop(lab.server);
        lab.hub.server()
    };
    let mut guest = lab.guest();
    assert_eq!(name(&mut guest), "the left one");
    assert_eq!(
        configure(&mut guest, "title", Value::Nil),
        Ok(Value::Nil),
        "its own again"
    );
    assert_eq!(name(&mut guest), "Voice one");
    for _ in 0..100 {
        let same = configure(&mut guest, "title", Value::Nil);
        assert_eq!(same, Ok(Value::Nil), "nothing to write");
    }
    let refused = (0..100)
        .find_map(|n| configure(&mut guest, "title", title(&format!("the {n}th"))).err())
        .unwrap();
    assert_eq!(&*refused.sub, "busy");
    let kept = name(&mut guest);
    assert_eq!(kept, "the 14th", "fifteen changes after the first");
    assert_eq!(
        lab.hub
            .run(&["acl", "grant", "echo:one", "guest", "--mode", "r"])
            .code,
        0
    );
    let reader = configure(&mut guest, "title", title("mine")).unwrap_err();
    assert_eq!(&*reader.sub, "acl");
}

#[test]
fn what_can_be_done_with_a_device_is_told_by_its_class() {
    let lab = Lab::new();
    lab.hub.plug("choir:all");
    lab.hub.share("choir:all", "guest", "r");
    let mut guest = lab.guest();
    let mut caps = |dev: &str| {
        let dev = dev.to_owned();
        let payload = msgpack::encode(&DeviceRequest { dev }).unwrap();
        let (status, answer) = guest
            .ask(CONTROL, Opcode::DeviceCapabilities, &payload)
            .unwrap();
        assert_eq!(status, Status::Ok);
        CapabilitiesResponse::decode(&answer).unwrap().caps
    };
    let (echo, choir) = (caps("echo:one"), caps("choir:all"));
    let start = Value::Uint(Opcode::StreamStart.to_u16().into());
    let call = Value::Uint(Opcode::GpioLineInfo.to_u16().into());
    assert_eq!(echo["open"], Value::Array(vec![start]));
    assert_eq!(echo["call"], Value::Array(vec![call]));
    assert_eq!(echo["set"], Value::Array(vec!["title".into()]));
    assert_eq!(echo["pitch"], Value::Uint(440), "what its bus tells");
    assert_eq!(echo["shared"], Value::Bool(false));
    assert_eq!(choir["shared"], Value::Bool(true));
    lab.hub.plug("echo:secret");
    let dev = "echo:secret".to_owned();
    let secret = msgpack::encode(&DeviceRequest { dev }).unwrap();
    let refused = guest.refused(CONTROL, Opcode::DeviceCapabilities, &secret);
    assert_eq!(refused, "device");
}
