//! A stream between its opening request and the answer, over a whole session in memory.
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod session_support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::{self, Inbound};
use myclerk::daemon::peer::{self, Incoming, Peer, PeerStream, Service};
use myclerk::kernel::clock;
use myclerk::link::connection::Connection;
use myclerk::session::Session;
use myclerk::transport::memory;
use myclerk::wire::opcode::Opcode;
use session_support::{Run, client, hub};
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// Only a hang takes this long.
const HANG: Duration = Duration::from_secs(60);

/// Takes every stream and answers nothing.
#[derive(Default)]
struct Slow {
    taken: RefCell<Vec<PeerStream>>,
    asked: Notify,
}

struct Serving(Rc<Slow>);

impl Service for Serving {
    fn request(&self, peer: &Peer, request: Incoming) {
        let stream = peer.take_stream(request.stream);
        self.0.taken.borrow_mut().push(stream);
        self.0.asked.notify_one();
    }

    fn event(&self, _: &Peer, _: Opcode, _: &[u8]) {}
}

fn peers(owner: &Rc<Slow>) -> (Peer, Peer) {
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
    let serving = || Rc::new(Serving(Rc::clone(owner)));
    (
        peer::start(connect(ours), near, serving()),
        peer::start(connect(theirs), far, serving()),
    )
}

#[test]
fn an_opening_that_is_given_up_holds_nothing_at_the_owner() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
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
