//! The life of an established session (profile 14, TV-19): keepalive, close, revoke, tickets,
//! resumption, what is refused inside a keyed session.

mod session_support;

use std::collections::BTreeSet;
use std::time::Duration;

use myclerk::session::handshake::TIMEOUT_ORDERED;
use myclerk::session::identity::NodeKey;
use myclerk::session::negotiate::capability;
use myclerk::session::revocation::RevocationList;
use myclerk::session::{
    CloseReason, HandshakeError, HeldTicket, LIFETIME, LocalNode, Offered, OpenErrorKind, Progress,
    Received, RecordBuf, Responder, Resumer, SealError, Session, SessionDead, TicketError,
    TicketTable,
};
use myclerk::wire::flags::{Flags, Tier};
use myclerk::wire::limits::Limits;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::tier2;
use myclerk::wire::time::Mono;
use session_support::{
    Run, T0, client, control, hub, next_timeout, node, policy, pump, receive, rng, root, seal,
    secs, ticketed, try_receive,
};

const NOW: Mono = Mono::ZERO;

fn sessions() -> (Session, Session) {
    let (mut ours, mut theirs) = Run::new(&client(), &hub()).psk(Tier::T5).sessions();
    assert_eq!(pump(NOW, &mut ours, &mut theirs), []);
    (ours, theirs)
}

fn closed(status: Status, sub: &str, by_peer: bool) -> Received {
    Received::Closed {
        by_peer,
        reason: CloseReason::new(status, sub),
    }
}

#[test]
fn the_responder_confirms_the_keys_at_once() {
    let (mut ours, mut theirs) = Run::new(&client(), &hub()).sessions();
    assert!(!ours.is_confirmed() && theirs.is_confirmed());
    assert_eq!(control(&mut ours, NOW), None);
    let first = control(&mut theirs, NOW).expect("a first message");
    assert_eq!(first[..3], [0x19, 0, 1]);
    assert_eq!(receive(&mut ours, NOW, &first), Received::Handled);
    assert!(ours.is_confirmed());
}

#[test]
fn nothing_but_sealed_messages_is_accepted_inside_a_session() {
    let sid = |session: &Session| session.session_id().unwrap();
    let (mut ours, mut theirs) = sessions();
    let close = tier2::Header {
        opcode: Opcode::SessionClose,
        sequence: 0,
        session_id: sid(&theirs),
    };
    let mut handshake = vec![0x20, 0, 0x10, 1];
    handshake.extend(sid(&theirs).to_be_bytes());
    handshake.resize(60, 0);
    let mut unsealed = seal(&mut ours, NOW, Tier::T4, b"x");
    unsealed[0] &= !1;
    for (name, message) in [
        ("bare tier 0", vec![3, 0, 0x70, 0]),
        ("tier 1", vec![0x08, 0x02, 0x00, 0]),
        ("tier 2 close", close.message(&[])),
        ("handshake", handshake),
        ("E = 0", unsealed),
        ("tier 6", vec![0x31; 64]),
        ("version 1", vec![0x59; 64]),
    ] {
        assert_eq!(
            try_receive(&mut theirs, NOW, &message),
            Err(OpenErrorKind::Flags),
            "{name}"
        );
    }
    let empty = try_receive(&mut theirs, NOW, &[]);
    assert_eq!(empty, Err(OpenErrorKind::Short));
}

#[test]
fn an_unordered_path_drops_the_same_in_silence() {
    let (mut ours, mut theirs) = Run::new(&client(), &hub()).unordered().sessions();
    pump(NOW, &mut theirs, &mut ours);
    let dropped = receive(&mut theirs, NOW, &[3, 0, 0x70, 0]);
    assert_eq!(dropped, Received::Dropped(OpenErrorKind::Flags));
    let (first, second) = (
        seal(&mut ours, NOW, Tier::T3, b"1"),
        seal(&mut ours, NOW, Tier::T3, b"2"),
    );
    assert!(matches!(
        receive(&mut theirs, NOW, &second),
        Received::Record { .. }
    ));
    assert!(matches!(
        receive(&mut theirs, NOW, &first),
        Received::Record { .. }
    ));
    for message in [first, second] {
        let again = receive(&mut theirs, NOW, &message);
        assert_eq!(again, Received::Dropped(OpenErrorKind::Replay));
    }
}

#[test]
fn a_record_may_be_as_long_as_the_receiver_said_and_no_longer() {
    let mut small = hub();
    small.limits = Limits {
        rec: 4096,
        ..Limits::DEFAULT
    };
    let (mut ours, mut theirs) = Run::new(&client(), &small).sessions();
    let full = seal(&mut ours, NOW, Tier::T3, &[7; 4096]);
    assert!(matches!(
        receive(&mut theirs, NOW, &full),
        Received::Record { .. }
    ));
    let mut buf = RecordBuf::with_capacity(4097);
    buf.extend_from_slice(&[7; 4097]);
    assert_eq!(
        ours.seal(NOW, Tier::T3, Opcode::Record, &mut buf),
        Err(SealError::TooLong {
            length: 4097,
            limit: 4096
        })
    );
    let long = seal(&mut theirs, NOW, Tier::T3, &[7; 65536]);
    assert!(matches!(
        receive(&mut ours, NOW, &long),
        Received::Record { .. }
    ));
    let mut forged = full;
    forged.resize(4097 + Tier::T3.overhead(), 0);
    assert_eq!(
        try_receive(&mut theirs, NOW, &forged),
        Err(OpenErrorKind::Long)
    );
}

#[test]
fn only_tiers_up_to_the_selected_one_are_sealed_and_accepted() {
    let (mut ours, _) = Run::new(&client(), &hub()).sessions();
    for tier in [Tier::T0, Tier::T2, Tier::T5] {
        let mut buf = RecordBuf::with_capacity(0);
        let refused = ours.seal(NOW, tier, Opcode::Record, &mut buf);
        assert_eq!(
            refused,
            Err(SealError::Tier {
                tier,
                selected: Tier::T4
            })
        );
    }
    let mut buf = RecordBuf::with_capacity(0);
    let core = ours.seal(NOW, Tier::T3, Opcode::SessionRotate, &mut buf);
    assert_eq!(core, Err(SealError::Core(Opcode::SessionRotate)));
}

#[test]
fn direct_messages_keep_their_flags() {
    let (mut ours, mut theirs) = sessions();
    let flags = Flags {
        fragment: true,
        ..Flags::sealed(Tier::T4)
    };
    let mut buf = RecordBuf::with_capacity(3);
    buf.extend_from_slice(b"abc");
    ours.seal_flagged(NOW, flags, Opcode::DeviceInfo, &mut buf)
        .unwrap();
    let mut message = buf.message().to_vec();
    let received = theirs.receive(NOW, &mut rng(1), &mut message).unwrap();
    let Received::Direct {
        opcode,
        flags: got,
        age_secs: 0,
        plaintext,
    } = received
    else {
        panic!("{received:?}");
    };
    assert_eq!((opcode, got), (Opcode::DeviceInfo, flags));
    assert_eq!(&message[plaintext], b"abc");
}

#[test]
fn a_quiet_session_lives_on_keepalives() {
    let (mut ours, mut theirs) = sessions();
    let mut sent = 0;
    let mut now = NOW;
    while now < secs(600) {
        now = next_timeout(&ours, &theirs).unwrap();
        ours.handle_timeout(now).unwrap();
        theirs.handle_timeout(now).unwrap();
        while let Some(message) = control(&mut ours, now) {
            sent += 1;
            receive(&mut theirs, now, &message);
        }
        pump(now, &mut ours, &mut theirs);
    }
    assert!((38..=90).contains(&sent), "{sent}");
}

#[test]
fn three_periods_of_silence_are_the_end() {
    let (mut ours, _) = sessions();
    for second in (15..45).step_by(15) {
        assert_eq!(ours.next_timeout(), Some(secs(second)));
        assert_eq!(ours.handle_timeout(secs(second)), Ok(()));
        assert!(control(&mut ours, secs(second)).is_some());
    }
    assert_eq!(ours.next_timeout(), Some(secs(45)));
    assert_eq!(ours.handle_timeout(secs(45)), Err(SessionDead::Silent));
    assert!(ours.is_over());
    assert_eq!(ours.handle_timeout(secs(45)), Err(SessionDead::Closed));
    let mut buf = RecordBuf::with_capacity(0);
    let sealed = ours.seal(secs(45), Tier::T3, Opcode::Record, &mut buf);
    assert_eq!(sealed, Err(SealError::Closed));
}

#[test]
fn a_busy_sender_asks_a_peer_with_a_longer_period_before_it_takes_it_for_dead() {
    let mut patient = hub();
    patient.keepalive = Duration::from_secs(60);
    let (mut ours, mut theirs) = Run::new(&client(), &patient).sessions();
    pump(NOW, &mut ours, &mut theirs);
    for second in 1..300 {
        let now = secs(second);
        let record = seal(&mut ours, now, Tier::T3, b"data");
        receive(&mut theirs, now, &record);
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        pump(now, &mut ours, &mut theirs);
    }
}

#[test]
fn a_close_reaches_the_peer_and_is_acknowledged() {
    let (mut ours, mut theirs) = sessions();
    let reason = CloseReason::new(Status::BadRequest, sub::FLOW_CONTROL);
    ours.close(NOW, &reason);
    let mut buf = RecordBuf::with_capacity(0);
    let sealed = ours.seal(NOW, Tier::T3, Opcode::Record, &mut buf);
    assert_eq!(sealed, Err(SealError::Closed));
    // What was under way is not begun any more.
    let late = seal(&mut theirs, NOW, Tier::T3, b"late");
    assert_eq!(receive(&mut ours, NOW, &late), Received::Handled);
    let close = control(&mut ours, NOW).expect("a close");
    let heard = receive(&mut theirs, NOW, &close);
    assert_eq!(heard, closed(Status::BadRequest, sub::FLOW_CONTROL, true));
    let ack = control(&mut theirs, NOW).expect("an acknowledgement");
    assert!(theirs.is_over() && control(&mut theirs, NOW).is_none());
    assert!(matches!(
        receive(&mut ours, NOW, &ack),
        Received::Closed { by_peer: false, .. }
    ));
    assert!(ours.is_over());
}

#[test]
fn a_close_without_acknowledgement_takes_a_second() {
    let (mut ours, _) = sessions();
    ours.close(
        NOW,
        &CloseReason::new(Status::ServiceUnavailable, sub::SHUTTING_DOWN),
    );
    assert!(control(&mut ours, NOW).is_some());
    assert_eq!(ours.next_timeout(), Some(secs(1)));
    assert_eq!(
        ours.handle_timeout(secs(1)),
        Err(SessionDead::Unacknowledged)
    );
    assert!(ours.is_over());
}

#[test]
fn a_revocation_erases_both_ends_and_every_ticket() {
    let (client, hub) = (client(), hub());
    let (mut ours, mut theirs, mut table) = ticketed(&client, &hub);
    theirs.revoke(Some("stolen".to_owned()));
    theirs.forget_tickets(&mut table);
    let message = control(&mut theirs, NOW).expect("a revocation");
    assert_eq!(message[..3], [0x21, 0, 0x17]);
    let heard = receive(&mut ours, NOW, &message);
    assert_eq!(
        heard,
        Received::Revoked {
            reason: Some("stolen".to_owned())
        }
    );
    assert!(ours.is_over() && theirs.is_over() && table.is_empty());
    assert!(ours.take_ticket().is_none());
}

#[test]
fn a_peer_that_is_revoked_during_a_session_loses_it() {
    let (client, mut hub) = (client(), hub());
    let (mut ours, mut theirs) = Run::new(&client, &hub).sessions();
    let wall = policy(true).wall;
    assert!(!theirs.recheck(NOW, &hub.trust, wall));
    revoke(&mut hub, &client);
    assert!(theirs.recheck(NOW, &hub.trust, wall));
    let message = control(&mut theirs, NOW).expect("a revocation");
    assert!(matches!(
        receive(&mut ours, NOW, &message),
        Received::Revoked { .. }
    ));
}

#[test]
fn a_certificate_that_expires_ends_the_session() {
    let (client, mut hub) = (client(), hub());
    let body = myclerk::session::certificate::NodeBody {
        not_after: T0 + 3600,
        ..session_support::body(&root(1), &hub.key, "hub")
    };
    hub.chain =
        myclerk::session::certificate::CertificateChain::issue(&root(1), &body, None).unwrap();
    let (mut ours, mut theirs) = Run::new(&client, &hub).sessions();
    let mut now = NOW;
    let news = loop {
        now = next_timeout(&ours, &theirs).unwrap();
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        let news = pump(now, &mut ours, &mut theirs);
        if !news.is_empty() {
            break news;
        }
    };
    assert_eq!(now, secs(3600));
    assert_eq!(news[0], closed(Status::Unauthorized, sub::EXPIRED, true));
}

#[test]
fn a_message_that_was_held_back_for_more_than_five_minutes_is_refused() {
    let (mut ours, mut theirs) = sessions();
    let record = seal(&mut ours, NOW, Tier::T3, b"unlock");
    assert_eq!(
        try_receive(&mut theirs, secs(301), &record),
        Err(OpenErrorKind::Time)
    );
    let Received::Record { age_secs: 300, .. } = receive(&mut theirs, secs(300), &record) else {
        panic!("refused too early");
    };
}

fn revoke(judge: &mut LocalNode, node: &LocalNode) {
    let serial = node.chain.claims().unwrap().serial;
    let list = RevocationList::issue(&root(1), 1, T0, BTreeSet::from([serial]), 2).unwrap();
    judge
        .trust
        .offer_list(list.as_bytes(), root(1).public().family_id())
        .unwrap();
}

/// A resumption up to both sessions.
fn resume(
    (client, hub): (&LocalNode, &LocalNode),
    ticket: HeldTicket,
    table: &mut TicketTable,
    now: Mono,
) -> Result<(Session, Session), HandshakeError> {
    let (mut resumer, r1) = Resumer::start(client, ticket, policy(true), now, &mut rng(5))?;
    let theirs = answer(hub, table, now, &r1)?;
    let Progress::Established(ours) = resumer.handle(client, now, &theirs.0)? else {
        panic!("no session");
    };
    Ok((ours.session, theirs.1))
}

fn answer(
    hub: &LocalNode,
    table: &mut TicketTable,
    now: Mono,
    message: &[u8],
) -> Result<(Vec<u8>, Session), HandshakeError> {
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: Some(table),
    };
    let mut responder = Responder::new(policy(true), now);
    match responder.handle(hub, &mut offered, now, &mut rng(6), message)? {
        Progress::Established(mut made) => Ok((made.send.remove(0), made.session)),
        other => panic!("{other}"),
    }
}

fn same_keys(a: &mut Session, b: &mut Session, now: Mono) {
    let record = seal(a, now, Tier::T3, b"x");
    assert!(matches!(receive(b, now, &record), Received::Record { .. }));
}

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

/// Lets both ends live in virtual time until `until` or their end.
fn live(
    ours: &mut Session,
    theirs: &mut Session,
    from: Mono,
    until: Mono,
) -> (Mono, Vec<Received>) {
    let mut now = from;
    while let Some(next) = next_timeout(ours, theirs) {
        assert!(next >= now, "time goes backwards");
        if next > until {
            return (now, Vec::new());
        }
        now = next;
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        let news = pump(now, ours, theirs);
        if !news.is_empty() {
            return (now, news);
        }
    }
    (now, Vec::new())
}

#[test]
fn a_session_rotates_every_twelve_hours_and_ends_after_seven_days() {
    let (mut ours, mut theirs) = sessions();
    let (mut now, mut epochs) = (NOW, Vec::new());
    let end = loop {
        let until = now.after(Duration::from_secs(3600));
        let (reached, news) = live(&mut ours, &mut theirs, now, until);
        if !news.is_empty() {
            assert_eq!(news[0], closed(Status::Unauthorized, sub::EXPIRED, true));
            break reached;
        }
        now = until;
        epochs.push(ours.epoch().unwrap());
        same_keys(&mut ours, &mut theirs, now);
        same_keys(&mut theirs, &mut ours, now);
    };
    assert_eq!(end, NOW.after(LIFETIME));
    assert_eq!(epochs.last(), Some(&13));
    assert!(epochs.windows(2).all(|pair| pair[1] - pair[0] <= 1));
}

#[test]
fn a_year_passes_in_rotations_resumptions_and_full_handshakes() {
    const YEAR: u64 = 365 * 86400;
    const REACH: u64 = 9 * 3600;
    let (client, hub) = (client(), hub());
    let mut table = TicketTable::default();
    let (mut ours, mut theirs) = Run::new(&client, &hub).psk(Tier::T5).sessions();
    let (mut at, mut full, mut resumed, mut rotated, mut seed) = (0, 1, 0, 0, 0);
    let mut chain = 0;
    while at < YEAR {
        // The path breaks every few hours, now and then right before a rotation is due.
        let since = at;
        at += REACH + (at % 7) * 3600;
        let (_, news) = live(&mut ours, &mut theirs, secs(since), secs(at));
        rotated += ours.epoch().unwrap_or(0);
        seed += 1;
        let ticket = if news.is_empty() {
            let issued = theirs.issue_ticket(secs(at), &mut rng(seed), &mut table);
            assert_eq!(issued, Ok(()), "after {at} s");
            pump(secs(at), &mut ours, &mut theirs);
            ours.take_ticket()
        } else {
            None
        };
        let next = ticket.map(|ticket| resume((&client, &hub), ticket, &mut table, secs(at)));
        (ours, theirs) = match next {
            Some(Ok(sessions)) => {
                assert!(secs(at).since(secs(chain)) < LIFETIME);
                resumed += 1;
                sessions
            }
            Some(Err(_)) | None => {
                full += 1;
                chain = at;
                let mut run = Run::new(&client, &hub).psk(Tier::T5);
                run.now = secs(at);
                run.policies.0.wall.secs = T0 + at;
                run.policies.1.wall.secs = T0 + at;
                run.sessions()
            }
        };
        pump(secs(at), &mut ours, &mut theirs);
        same_keys(&mut ours, &mut theirs, secs(at));
    }
    assert!(
        full > 48 && resumed > 5 * full && rotated > 100,
        "{full} {resumed} {rotated}"
    );
}
