//! Resumption with tickets (profile 14.5): once, in time, by the right node, without early data.
#![cfg(test)]

mod session_support;

use std::time::Duration;

use myclerk::session::handshake::TIMEOUT_ORDERED;
use myclerk::session::identity::NodeKey;
use myclerk::session::negotiate::capability;
use myclerk::session::{
    HandshakeError, Offered, Progress, Responder, Resumer, TicketError, TicketTable,
};
use myclerk::wire::flags::Tier;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::tier2;
use myclerk::wire::time::Mono;
use session_support::{
    Run, answer, client, hub, node, policy, pump, resume, revoke, rng, root, same_keys, seal, secs,
    ticketed, try_receive,
};

const NOW: Mono = Mono::ZERO;

#[test]
fn a_ticket_resumes_its_session_with_the_same_peer_under_new_keys() {
    let (client, hub) = (client(), hub());
    let (mut ours, theirs, mut table) = ticketed(&client, &hub);
    let ticket = ours.take_ticket().expect("a ticket");
    assert_eq!(ticket.peer().node_id, hub.key.node_id());
    let (mut i, mut r) = resume((&client, &hub), ticket, &mut table, secs(5)).unwrap();
    assert_eq!(r.peer(), theirs.peer());
    assert_eq!(i.peer(), ours.peer());
    assert_eq!(i.selected_tier(), Tier::T5);
    assert_eq!(r.capabilities(), [0, 2, 4, 5]);
    assert!(!i.is_confirmed() && !r.is_confirmed());
    same_keys(&mut i, &mut r, secs(5));
    same_keys(&mut r, &mut i, secs(5));
    assert!(table.is_empty());
}

#[test]
fn a_ticket_is_worth_nothing_the_second_time() {
    let (client, hub) = (client(), hub());
    let (mut ours, _, mut table) = ticketed(&client, &hub);
    let ticket = ours.take_ticket().expect("a ticket");
    let (_, r1) = Resumer::start(&client, ticket, policy(true), NOW, &mut rng(5)).unwrap();
    assert!(answer(&hub, &mut table, NOW, &r1).is_ok());
    let error = answer(&hub, &mut table, NOW, &r1).map(|_| ()).unwrap_err();
    assert_eq!(error, HandshakeError::Ticket(TicketError::Unknown));
    let hint = error.hint().expect("a hint");
    let (header, _) = tier2::Header::parse(&hint).unwrap();
    assert_eq!(header.opcode, Opcode::SessionClose);
}

#[test]
fn a_ticket_survives_a_forged_attempt_to_use_it() {
    let (client, hub) = (client(), hub());
    let (mut ours, _, mut table) = ticketed(&client, &hub);
    let ticket = ours.take_ticket().expect("a ticket");
    let (mut resumer, r1) =
        Resumer::start(&client, ticket, policy(true), NOW, &mut rng(5)).unwrap();
    for bit in (0..r1.len() * 8).step_by(7) {
        let mut forged = r1.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(answer(&hub, &mut table, NOW, &forged).is_err(), "bit {bit}");
        assert_eq!(table.len(), 1, "bit {bit}");
    }
    let (r2, mut theirs) = answer(&hub, &mut table, NOW, &r1).unwrap();
    let Progress::Established(mut made) = resumer.handle(&client, NOW, &r2).unwrap() else {
        panic!("no session");
    };
    same_keys(&mut made.session, &mut theirs, NOW);
}

#[test]
fn a_changed_answer_to_a_resumption_is_noticed() {
    let (client, hub) = (client(), hub());
    let (mut ours, _, mut table) = ticketed(&client, &hub);
    let ticket = ours.take_ticket().expect("a ticket");
    let (mut resumer, r1) =
        Resumer::start(&client, ticket, policy(true), NOW, &mut rng(5)).unwrap();
    let (mut r2, _) = answer(&hub, &mut table, NOW, &r1).unwrap();
    r2[60] ^= 1;
    assert!(resumer.handle(&client, NOW, &r2).is_err());
}

#[test]
fn tickets_end_with_their_lifetime_their_node_and_the_responders_memory() {
    let (client, mut hub) = (client(), hub());
    let start = |now| {
        let (mut ours, _, table) = ticketed(&client, &hub);
        let ticket = ours.take_ticket().expect("a ticket");
        (
            Resumer::start(&client, ticket, policy(true), now, &mut rng(5)),
            table,
        )
    };
    let day = Duration::from_secs(86400);
    let (late, _) = start(NOW.after(day));
    assert_eq!(
        late.map(|_| ()).unwrap_err(),
        HandshakeError::Ticket(TicketError::Unknown)
    );

    let (on_time, mut table) = start(secs(86399));
    let (_, r1) = on_time.unwrap();
    let unknown = Err(HandshakeError::Ticket(TicketError::Unknown));
    assert_eq!(
        answer(&hub, &mut table, NOW.after(day), &r1).map(|_| ()),
        unknown
    );
    assert_eq!(
        answer(&hub, &mut TicketTable::default(), NOW, &r1).map(|_| ()),
        unknown
    );

    revoke(&mut hub, &client);
    let refused = answer(&hub, &mut table, secs(86399), &r1)
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(
        refused,
        HandshakeError::Ticket(TicketError::Certificate(_))
    ));
    table.forget_node(client.key.node_id());
    assert!(table.is_empty());
}

#[test]
fn a_ticket_works_only_for_the_node_that_was_given_it_and_its_session() {
    let (client, hub) = (client(), hub());
    let (mut ours, _, mut table) = ticketed(&client, &hub);
    let ticket = ours.take_ticket().expect("a ticket");
    let thief = node(&root(1), 0x55, "thief");
    // The thief has the ticket's bytes and its secret, so it is the node as far as anyone can tell;
    // the session it gets is that node's, not the thief's.
    let (_, r1) = Resumer::start(&thief, ticket, policy(true), NOW, &mut rng(5)).unwrap();
    let (_, theirs) = answer(&hub, &mut table, NOW, &r1).unwrap();
    assert_eq!(theirs.peer().node_id, client.key.node_id());
    assert_ne!(
        theirs.peer().node_id,
        NodeKey::from_bytes(&[0x55; 32]).node_id()
    );
}

#[test]
fn a_session_has_four_tickets_at_most_and_a_node_sixteen() {
    let (client, hub) = (client(), hub());
    let mut table = TicketTable::default();
    let mut seed = 100;
    for round in 0..5 {
        let (mut ours, mut theirs) = Run::new(&client, &hub).sessions();
        for count in 0..5 {
            seed += 1;
            let issued = theirs.issue_ticket(NOW, &mut rng(seed), &mut table);
            let possible = count < 4 && round < 4;
            assert_eq!(issued.is_ok(), possible, "{round} {count}");
        }
        pump(NOW, &mut ours, &mut theirs);
        let held = std::iter::from_fn(|| ours.take_ticket()).count();
        assert_eq!(held, if round < 4 { 4 } else { 0 });
        assert!(ours.issue_ticket(NOW, &mut rng(seed), &mut table).is_err());
    }
    assert_eq!(table.len(), 16);
}

#[test]
fn no_request_is_accepted_before_a_resumption_is_answered() {
    let (client, hub) = (client(), hub());
    let (mut ours, _, mut table) = ticketed(&client, &hub);
    // 0-RTT: a record of the old session, in the same flight as the ticket.
    let record = seal(&mut ours, NOW, Tier::T3, b"unlock");
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: Some(&mut table),
    };
    let mut responder = Responder::new(policy(true), NOW);
    let early = responder.handle(&hub, &mut offered, NOW, &mut rng(6), &record);
    assert!(early.is_err());
    let ticket = ours.take_ticket().expect("a ticket");
    let (_, r1) = Resumer::start(&client, ticket, policy(true), NOW, &mut rng(5)).unwrap();
    let (_, mut theirs) = answer(&hub, &mut table, NOW, &r1).unwrap();
    assert!(!theirs.is_confirmed());
    assert!(try_receive(&mut theirs, NOW, &record).is_err());
}

#[test]
fn a_resumption_never_exceeds_the_session_of_its_ticket() {
    let (mut client, mut hub) = (client(), hub());
    client.max_tier = Tier::T3;
    let (mut ours, _, mut table) = {
        let (mut ours, mut theirs) = Run::new(&client, &hub).sessions();
        let mut table = TicketTable::default();
        theirs.issue_ticket(NOW, &mut rng(3), &mut table).unwrap();
        pump(NOW, &mut ours, &mut theirs);
        (ours, theirs, table)
    };
    client.max_tier = Tier::T5;
    for node in [&mut client, &mut hub] {
        node.capabilities.push(capability::FEDERATION);
    }
    let ticket = ours.take_ticket().expect("a ticket");
    let (i, r) = resume((&client, &hub), ticket, &mut table, NOW).unwrap();
    assert_eq!((i.selected_tier(), r.selected_tier()), (Tier::T3, Tier::T3));
    assert_eq!(i.capabilities(), [0, 2, 4, 5]);
}

#[test]
fn a_resumption_is_given_up_in_time() {
    let (client, hub) = (client(), hub());
    let (mut ours, _, _) = ticketed(&client, &hub);
    let ticket = ours.take_ticket().expect("a ticket");
    let (mut resumer, _) = Resumer::start(&client, ticket, policy(true), NOW, &mut rng(5)).unwrap();
    assert_eq!(resumer.next_timeout(), NOW.after(TIMEOUT_ORDERED));
    assert_eq!(resumer.handle_timeout(secs(1)), Ok(None));
    assert_eq!(
        resumer.handle_timeout(secs(10)),
        Err(HandshakeError::Timeout)
    );
}
