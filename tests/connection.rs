//! A session and its link as one machine: how the one follows the other to its end.
#![cfg(test)]

mod session_support;

use myclerk::link::connection::{Connection, End};
use myclerk::link::{LinkEvent, Request, Target};
use myclerk::session::certificate::{CertificateChain, NodeBody};
use myclerk::session::{CloseReason, LocalNode, RecordBuf};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::time::Mono;
use session_support::{Run, T0, client, hub, rng, root, secs};

fn connections(client: &LocalNode, hub: &LocalNode) -> (Connection, Connection) {
    let (ours, theirs) = Run::new(client, hub).sessions();
    let connect = |session| Connection::new(Mono::ZERO, session, true, false, |_, _| None);
    (connect(ours), connect(theirs))
}

/// Carries everything back and forth until both ends are quiet.
fn pump(now: Mono, a: &mut Connection, b: &mut Connection) {
    let mut rng = rng(now.0);
    let mut buf = RecordBuf::with_capacity(0);
    let mut quiet = false;
    while !quiet {
        quiet = true;
        while a.poll_transmit(now, &mut rng, &mut buf) {
            quiet = false;
            b.receive(now, &mut rng, &mut buf.message().to_vec());
        }
        while b.poll_transmit(now, &mut rng, &mut buf) {
            quiet = false;
            a.receive(now, &mut rng, &mut buf.message().to_vec());
        }
    }
}

#[test]
fn a_session_that_ends_itself_fails_what_is_outstanding_for_its_own_reason() {
    let mut hub = hub();
    let body = NodeBody {
        not_after: T0 + 3600,
        ..session_support::body(&root(1), &hub.key, "hub")
    };
    hub.chain = CertificateChain::issue(&root(1), &body, None).unwrap();
    let (mut ours, mut theirs) = connections(&client(), &hub);
    let mut now = Mono::ZERO;
    pump(now, &mut ours, &mut theirs);
    let request = Request::new(Target::New, Opcode::DeviceSubscribe, Vec::new());
    let request = request.with_timeout(None);
    ours.link().request(now, request).unwrap();
    while ours.end().is_none() {
        now = [ours.next_timeout(), theirs.next_timeout()]
            .into_iter()
            .flatten()
            .min()
            .unwrap();
        ours.handle_timeout(now);
        theirs.handle_timeout(now);
        if ours.end().is_none() {
            pump(now, &mut ours, &mut theirs);
        }
    }
    assert_eq!(now, secs(3600));
    let expired = CloseReason::new(Status::Unauthorized, sub::EXPIRED);
    assert_eq!(ours.end(), Some(&End::ClosedHere(expired.clone())));
    let failed = std::iter::from_fn(|| ours.poll_event()).any(|event| {
        matches!(
            event,
            LinkEvent::Response {
                status: Status::ServiceUnavailable,
                ..
            }
        )
    });
    assert!(failed, "the request has no answer");
    pump(now, &mut ours, &mut theirs);
    assert_eq!(theirs.end(), Some(&End::ClosedByPeer(expired)));
    assert!(ours.is_over() && theirs.is_over());
}
