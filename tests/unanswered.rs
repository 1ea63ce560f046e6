//! What becomes of streams that nobody answers, over a whole session in memory.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod session_support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::{self, Inbound, Outgoing};
use myclerk::daemon::peer::{self, Asked, Incoming, Peer, PeerStream, Service};
use myclerk::kernel::clock;
use myclerk::link::connection::Connection;
use myclerk::session::Session;
use myclerk::transport::memory;
use myclerk::wire::class::Class;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use session_support::{Run, client, hub};
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// Only a hang takes this long.
const HANG: Duration = Duration::from_secs(60);

/// Takes every stream and answers no more than its opening.
#[derive(Default)]
struct Slow {
    taken: RefCell<Vec<PeerStream>>,
    asked: Notify,
    opens: bool,
}

struct Serving(Rc<Slow>);

impl Service for Serving {
    fn request(&self, peer: &Peer, request: Incoming) {
        let stream = peer.take_stream(request.stream);
        if self.0.opens {
            peer.respond(request.stream, request.corr, Status::Ok, vec![0x80]);
        }
        self.0.taken.borrow_mut().push(stream);
        self.0.asked.notify_one();
    }

    fn event(&self, _: &Peer, _: Opcode, _: &[u8]) {}
}

/// Begins to work on every call and never ends.
#[derive(Default)]
struct Working(RefCell<Vec<Asked>>, Notify);

struct Calling(Rc<Working>);

impl Service for Calling {
    fn request(&self, peer: &Peer, request: Incoming) {
        let asked = peer.asked(request.stream, request.corr);
        self.0.0.borrow_mut().push(asked);
        self.0.1.notify_one();
    }

    fn event(&self, _: &Peer, _: Opcode, _: &[u8]) {}
}

fn peers(owner: &Rc<Slow>) -> (Peer, Peer) {
    peers_with(|| Rc::new(Serving(Rc::clone(owner))))
}

fn peers_with<S: Service + 'static>(serving: impl Fn() -> Rc<S>) -> (Peer, Peer) {
    let (client, hub) = (client(), hub());
    let handshake = Run {
        now: clock::mono(),
        ..Run::new(&client, &hub)
    };
    let (ours, theirs) = handshake.sessions();
    let connect = |session: Session| {
        Connection::new(clock::mono(), session, true, false, bus::declared_reply)
    };
    let (near, far) = memory::pair(1 << 20);
    (
        peer::start(connect(ours), near, serving()),
        peer::start(connect(theirs), far, serving()),
    )
}

/// What the using side hears after it asked for something with this time limit, once `then` was done.
async fn heard(timeout_ms: u32, then: impl FnOnce(Peer)) -> Vec<Inbound> {
    let owner = Rc::new(Slow {
        opens: true,
        ..Slow::default()
    });
    let (near, far) = peers(&owner);
    let opening = near.open(Opcode::SerialPortOpen, vec![0x80], HANG);
    let (_, mut stream) = opening.await.expect("an open stream");
    let request = Outgoing {
        opcode: Opcode::SerialControlGet,
        class: Class::Interactive,
        payload: vec![0x80],
        reply_len: 100,
        timeout_ms,
        deadline_ms: 0,
    };
    stream.outlet.request(request).expect("a request");
    then(far);
    let mut heard = Vec::new();
    while let Ok(Some(inbound)) = tokio::time::timeout(HANG, stream.inbound.recv()).await {
        heard.push(inbound);
    }
    heard
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_lost_session_answers_nothing_and_closes_its_streams() {
    run(async {
        let end = |far: Peer| far.close(Status::ServiceUnavailable, sub::SHUTTING_DOWN);
        assert_eq!(heard(0, end).await, [Inbound::Closed]);
    });
}

#[test]
fn a_peer_that_answers_neither_a_request_nor_its_cancel_is_lost() {
    run(async {
        let kept = RefCell::new(None);
        let heard = heard(1, |far| drop(kept.replace(Some(far)))).await;
        // The request itself has timed out.
        let [Inbound::Response { status, .. }, end] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert_eq!((*status, end), (Status::Timeout, &Inbound::Closed));
    });
}

#[test]
fn who_works_on_a_call_learns_that_it_was_given_up() {
    run(async {
        let owner = Rc::new(Working::default());
        let (near, _far) = peers_with(|| Rc::new(Calling(Rc::clone(&owner))));
        let calls = [
            near.call(Opcode::I2cTransfer, vec![0x90], Duration::from_millis(1)),
            near.call(Opcode::I2cTransfer, vec![0x90], HANG),
        ];
        let [short, long] = calls;
        let learned = async {
            owner.1.notified().await;
            let left = || {
                let asked = owner.0.borrow();
                asked
                    .iter()
                    .map(|asked| asked.caller.has_left())
                    .collect::<Vec<_>>()
            };
            while left() != [true, false] {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(short, long) } => panic!("nobody answers"),
            learned = tokio::time::timeout(HANG, learned) => learned.expect("the owner is told"),
        }
    });
}

#[test]
fn an_opening_that_is_given_up_holds_nothing_at_the_owner() {
    run(async {
        let owner = Rc::new(Slow::default());
        let (near, _far) = peers(&owner);
        let opening = near.open(Opcode::CanInterfaceOpen, vec![0x80], HANG);
        tokio::select! {
            _ = opening => panic!("nobody answers"),
            () = owner.asked.notified() => {}
        }
        let mut stream = owner.taken.borrow_mut().pop().expect("a stream");
        let told = tokio::time::timeout(HANG, stream.inbound.recv()).await;
        let told = told.expect("the owner is told").expect("something");
        assert!(matches!(told, Inbound::Reset { .. }), "{told:?}");
    });
}
