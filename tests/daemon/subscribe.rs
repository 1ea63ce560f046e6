//! Members that are told what happens to devices.

use std::collections::VecDeque;
use std::fs;

use myclerk::device::op::{
    DeviceEvent, EventKind, EventMask, LockRequest, LockResponse, SubscribeRequest, UnlockRequest,
};
use myclerk::kernel::clock;
use myclerk::link::{LinkEvent, Request, StreamId, Target};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::echo::Start;
use crate::machine::{Daemon, Machine};
use crate::wire::Session;

const CONTROL: Target = Target::On(StreamId::CONTROL);

/// A session with one subscription.
struct Listener {
    session: Session,
    stream: StreamId,
    heard: VecDeque<DeviceEvent>,
}

impl Listener {
    fn of(machine: &Machine, server: &Daemon, wanted: &SubscribeRequest) -> Self {
        let mut listener = Self {
            session: Session::of(machine, server),
            stream: StreamId::CONTROL,
            heard: VecDeque::new(),
        };
        let payload = wanted.encode().unwrap();
        let (stream, status, _) = listener.ask(Target::New, Opcode::DeviceSubscribe, payload);
        assert_eq!(status, Status::Ok);
        listener.stream = stream;
        listener
    }

    /// Asks and keeps what is heard meanwhile.
    fn ask(
        &mut self,
        target: Target,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> (StreamId, Status, Vec<u8>) {
        let link = self.session.connection.link();
        let request = Request::new(target, opcode, payload);
        let (stream, wanted) = link.request(clock::mono(), request).unwrap();
        loop {
            match self.session.next().unwrap() {
                LinkEvent::Response {
                    corr,
                    status,
                    payload,
                    ..
                } if corr == wanted => return (stream, status, payload),
                other => self.hear(other),
            }
        }
    }

    fn hear(&mut self, event: LinkEvent) {
        if let LinkEvent::Event { payload, .. } = event {
            self.heard.push_back(DeviceEvent::decode(&payload).unwrap());
        }
    }

    fn next(&mut self) -> DeviceEvent {
        loop {
            if let Some(event) = self.heard.pop_front() {
                return event;
            }
            let event = self.session.next().unwrap();
            self.hear(event);
        }
    }

    /// The next event, its device and the state that it tells of.
    fn hears(&mut self) -> (EventKind, String, Option<u8>) {
        let event = self.next();
        let state = event.brief().map(|brief| brief.state);
        (event.ev, event.dev.to_string(), state)
    }
}

fn heard(ev: EventKind, dev: &str, state: Option<u8>) -> (EventKind, String, Option<u8>) {
    (ev, dev.to_owned(), state)
}

fn lock(session: &mut Session) -> LockResponse {
    let request = LockRequest {
        dev: "echo:one".to_owned(),
        ttl: 60_000,
        wait: 0,
        lock: None,
        pos: false,
    };
    let payload = request.encode().unwrap();
    let (status, answer) = session.ask(CONTROL, Opcode::DeviceLock, &payload).unwrap();
    assert_eq!(status, Status::Ok);
    LockResponse::decode(&answer).unwrap()
}

#[test]
fn a_member_hears_what_happens_to_the_devices_that_it_may_know_of() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    hub.plug("echo:secret");
    let server = hub.server();
    let [laptop, desk] = ["laptop", "desk"].map(|name| hub.admit(name));
    hub.share("echo:*", "desk", "rw");
    hub.share("echo:one", "laptop", "r");
    let mut listener = Listener::of(&laptop, &server, &SubscribeRequest::default());
    let mut user = Session::of(&desk, &server);

    let start = |device| Start::payload(device, 4);
    let secret = user.ask(Target::New, Opcode::StreamStart, &start("echo:secret"));
    assert_eq!(secret.unwrap().0, Status::Ok);
    let one = user.ask(Target::New, Opcode::StreamStart, &start("echo:one"));
    assert_eq!(one.unwrap().0, Status::Ok);
    assert_eq!(
        listener.hears(),
        heard(EventKind::Changed, "echo:one", Some(1))
    );
    let lease = lock(&mut user);
    let locked = listener.next();
    assert_eq!((locked.ev, locked.lost), (EventKind::Locked, 0));
    let brief = locked.brief().unwrap();
    assert_eq!((brief.state, brief.mode), (2, 1));
    assert!(brief.owner.is_some());
    let unlock = UnlockRequest {
        dev: "echo:one".to_owned(),
        lock: Some(lease.lock),
    };
    let unlocked = user.ask(CONTROL, Opcode::DeviceUnlock, &unlock.encode().unwrap());
    assert_eq!(unlocked.unwrap().0, Status::Ok);
    assert_eq!(
        listener.hears(),
        heard(EventKind::Unlocked, "echo:one", Some(1))
    );
    drop(user);
    assert_eq!(
        listener.hears(),
        heard(EventKind::Changed, "echo:one", Some(0))
    );
}

#[test]
fn what_a_member_may_know_of_comes_and_goes_with_the_rules_and_the_hardware() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    let mut listener = Listener::of(&laptop, &server, &SubscribeRequest::default());
    hub.share("echo:one", "laptop", "rw");
    assert_eq!(
        listener.hears(),
        heard(EventKind::Added, "echo:one", Some(0))
    );
    let read = ["acl", "grant", "echo:one", "laptop", "--mode", "r"];
    assert_eq!(hub.run(&read).code, 0);
    let event = listener.next();
    assert_eq!((event.ev, event.brief().unwrap().mode), (EventKind::Acl, 1));
    assert_eq!(hub.run(&["unexport", "echo:one"]).code, 0);
    assert_eq!(
        listener.hears(),
        heard(EventKind::Removed, "echo:one", None)
    );
    assert_eq!(hub.run(&["export", "echo:one"]).code, 0);
    assert_eq!(listener.hears().0, EventKind::Added);
    let file = hub.path().join("hardware/echo/one");
    fs::write(&file, "busy").unwrap();
    assert_eq!(hub.run(&["list", "--local"]).code, 0);
    assert_eq!(
        listener.hears(),
        heard(EventKind::Changed, "echo:one", Some(3))
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(hub.run(&["list", "--local"]).code, 0);
    assert_eq!(
        listener.hears(),
        heard(EventKind::Removed, "echo:one", None)
    );
}

#[test]
fn a_subscription_is_for_some_devices_and_events_until_it_ends() {
    let hub = Machine::founded();
    for device in ["echo:one", "choir:all"] {
        hub.plug(device);
    }
    let server = hub.server();
    let laptop = hub.admit("laptop");
    let wanted = SubscribeRequest {
        dev: Some("choir:*".parse().unwrap()),
        mask: Some(EventMask::of(&[EventKind::Added])),
    };
    let mut listener = Listener::of(&laptop, &server, &wanted);
    hub.share("echo:one", "laptop", "rw");
    hub.share("choir:all", "laptop", "rw");
    assert_eq!(
        listener.hears(),
        heard(EventKind::Added, "choir:all", Some(0))
    );
    assert_eq!(hub.run(&["unexport", "choir:all"]).code, 0);
    assert_eq!(hub.run(&["export", "choir:all"]).code, 0);
    assert_eq!(listener.hears().0, EventKind::Added);

    let on = Target::On(listener.stream);
    let (_, status, _) = listener.ask(on, Opcode::DeviceUnsubscribe, vec![]);
    assert_eq!(status, Status::Ok);
    assert_eq!(hub.run(&["unexport", "choir:all"]).code, 0);
    assert_eq!(hub.run(&["export", "choir:all"]).code, 0);
    listener.session.works();
    assert!(listener.heard.is_empty());
}

#[test]
fn a_session_has_a_limited_number_of_subscriptions() {
    let hub = Machine::founded();
    let server = hub.server();
    let laptop = hub.admit("laptop");
    let mut session = Session::of(&laptop, &server);
    let mut open = 0;
    let refused = loop {
        let (status, payload) = session
            .ask(Target::New, Opcode::DeviceSubscribe, &[])
            .unwrap();
        if !status.is_success() {
            break myclerk::wire::error::ErrorMap::decode(&payload).unwrap();
        }
        open += 1;
    };
    assert_eq!((open, &*refused.sub), (16, "limit"));
    let wrong = session.refused(Target::New, Opcode::DeviceSubscribe, b"\xc1");
    assert_eq!(wrong, "bad-payload");
    session.works();
}
