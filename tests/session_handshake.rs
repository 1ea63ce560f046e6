//! Who gets a session and who does not, and what each side learns of it.
#![cfg(test)]

mod session_support;

use myclerk::session::certificate::{CertificateChain, CertificateError};
use myclerk::session::clock::{ClockQuality, WallClock};
use myclerk::session::identity::{FamilyId, NodeId, NodeKey};
use myclerk::session::negotiate::{self, capability};
use myclerk::session::psk::{Psk, PskStore, PskUse, Token};
use myclerk::session::trust::Trust;
use myclerk::session::{
    CloseReason, HandshakeError, Initiator, LocalNode, Offered, Progress, Received, Responder,
    Restriction, Session,
};
use myclerk::wire::flags::Tier;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::time::Mono;
use session_support::{
    Run, T0, YEAR, body, client, dial, family_psk, hub, node, policy, receive, revoke, rng, root,
    seal, secs,
};

/// What the responder refused for, and the reason that reached the initiator sealed.
fn refusal(run: Run<'_>) -> (HandshakeError, CloseReason) {
    let (client, hub) = (run.initiator, run.responder);
    let (mut session, progress) = unfinished(run, client, hub);
    let Ok(Progress::Refused { close, reason }) = progress else {
        panic!("{progress:?}");
    };
    let Received::Closed {
        by_peer: true,
        reason: told,
    } = receive(&mut session, Mono::ZERO, &close)
    else {
        panic!("no close");
    };
    (reason, told)
}

/// The initiator's session and what the responder made of its last message.
fn unfinished(
    run: Run<'_>,
    client: &LocalNode,
    hub: &LocalNode,
) -> (Session, Result<Progress, HandshakeError>) {
    let (mut rng_i, mut rng_r) = (rng(1), rng(2));
    let known = run.known;
    let lookup = |id: u32| known.iter().find(|(psk, _)| psk.id() == id).cloned();
    let mut offered = Offered {
        psks: &lookup,
        tickets: None,
    };
    let (policy_i, policy_r) = run.policies;
    let now = run.now;
    let (mut initiator, [m1, m3]) =
        Initiator::start(client, run.dial, policy_i, now, &mut rng_i).unwrap();
    let mut responder = Responder::new(policy_r, now);
    let mut ask = |message: &[u8]| responder.handle(hub, &mut offered, now, &mut rng_r, message);
    let Ok(Progress::Send(m2)) = ask(&m1) else {
        panic!("m2")
    };
    let Ok(Progress::Send(m4)) = ask(&m3) else {
        panic!("m4")
    };
    initiator.handle(client, now, &mut rng_i, &m2[0]).unwrap();
    let Ok(Progress::Established(ours)) = initiator.handle(client, now, &mut rng_i, &m4[0]) else {
        panic!("m5");
    };
    let progress = ask(&ours.send[0]);
    (ours.session, progress)
}

fn told(status: Status, sub: &str) -> (Status, Option<String>) {
    (status, Some(sub.to_owned()))
}

#[test]
fn two_members_of_a_family_know_each_other_afterwards() {
    let (client, hub) = (client(), hub());
    let (ours, theirs) = Run::new(&client, &hub).psk(Tier::T5).ends().unwrap();
    assert_eq!(ours.session.peer().node_id, hub.key.node_id());
    assert_eq!(theirs.session.peer().node_id, client.key.node_id());
    assert_eq!(theirs.session.peer().name(), Some("client"));
    assert_eq!(theirs.session.peer().roles(), ["client"]);
    assert_eq!(theirs.session.peer().family(), hub.trust.own_family());
    assert_eq!(
        theirs.info.psk.map(|(_, usage)| usage),
        Some(family_psk().1)
    );
    assert_eq!(ours.session.selected_tier(), Tier::T5);
    assert_eq!(ours.session.session_id(), theirs.session.session_id());
    assert_eq!(ours.session.restricted(), Restriction::None);
    let loses =
        |session: &Session, own: &LocalNode| session.loses_to_its_reverse(own.key.node_id());
    assert_eq!(loses(&ours.session, &client), loses(&theirs.session, &hub));
    assert_eq!(
        loses(&ours.session, &client),
        client.key.node_id() < hub.key.node_id()
    );
}

#[test]
fn a_revoked_initiator_is_told_so_sealed() {
    let (client, mut hub) = (client(), hub());
    revoke(&mut hub, &client);
    let (error, reason) = refusal(Run::new(&client, &hub));
    assert!(matches!(
        error,
        HandshakeError::Certificate(CertificateError::Revoked(_))
    ));
    assert_eq!(
        (reason.status, reason.sub),
        told(Status::Unauthorized, sub::REVOKED)
    );
    assert!(error.hint().is_none());
}

#[test]
fn a_revoked_responder_never_sees_the_initiators_certificate() {
    let (mut client, hub) = (client(), hub());
    revoke(&mut client, &hub);
    let mut last = 0;
    let ends = Run::new(&client, &hub).through(|index, message| {
        last = index;
        message
    });
    assert!(matches!(
        ends,
        Err(HandshakeError::Certificate(CertificateError::Revoked(_)))
    ));
    assert_eq!(last, 4);
}

#[test]
fn an_expired_initiator_is_told_so_sealed() {
    let (client, hub) = (client(), hub());
    let mut run = Run::new(&client, &hub);
    run.policies.1.wall.secs = T0 + 4 * YEAR;
    run.policies.0.wall.quality = ClockQuality::Estimated;
    // The hub's own certificate has expired as well, which a client without a clock cannot know.
    let (error, reason) = refusal(run);
    assert!(matches!(
        error,
        HandshakeError::Certificate(CertificateError::Expired { .. })
    ));
    assert_eq!(
        (reason.status, reason.sub),
        told(Status::Unauthorized, sub::EXPIRED)
    );
}

#[test]
fn synchronised_clocks_that_differ_are_told_so_sealed() {
    let (client, hub) = (client(), hub());
    let skewed = |secs, quality| {
        let mut run = Run::new(&client, &hub);
        run.policies.0.wall = WallClock { secs, quality };
        run
    };
    let (error, reason) = refusal(skewed(T0 + 301, ClockQuality::Synchronised));
    assert_eq!(error, HandshakeError::ClockSkew(301));
    assert_eq!(
        (reason.status, reason.sub),
        told(Status::BadRequest, sub::CLOCK_SKEW)
    );
    assert!(skewed(T0 + 300, ClockQuality::Synchronised).ends().is_ok());
    assert!(skewed(T0 + 99_999, ClockQuality::Estimated).ends().is_ok());
}

#[test]
fn nodes_whose_clocks_differ_by_years_still_understand_each_others_records() {
    let (client, hub) = (client(), hub());
    let mut run = Run::new(&client, &hub);
    run.policies.0.wall = WallClock {
        secs: 7,
        quality: ClockQuality::None,
    };
    let (mut ours, mut theirs) = run.sessions();
    let record = seal(&mut ours, secs(3), Tier::T3, b"x");
    let Received::Record { age_secs, .. } = receive(&mut theirs, secs(15), &record) else {
        panic!("no record");
    };
    assert_eq!(age_secs, 12);
}

#[test]
fn a_stranger_is_refused_by_whoever_sees_the_certificate_first() {
    let (member, stranger) = (hub(), node(&root(9), 0x33, "stranger"));
    let family = stranger.trust.own_family().unwrap();
    assert_eq!(
        Run::new(&member, &stranger).ends().map(|_| ()),
        Err(HandshakeError::Certificate(
            CertificateError::UnknownFamily(family)
        ))
    );
    let mut naive = node(&root(9), 0x33, "stranger");
    naive.trust.pin(root(1).public());
    naive.capabilities.push(capability::FEDERATION);
    let mut federated = hub();
    federated.capabilities.push(capability::FEDERATION);
    let (error, reason) = refusal(Run::new(&naive, &federated));
    assert_eq!(
        error,
        HandshakeError::Certificate(CertificateError::UnknownFamily(family))
    );
    assert_eq!(
        (reason.status, reason.sub),
        told(Status::Unauthorized, sub::UNKNOWN_FAMILY)
    );
}

#[test]
fn families_that_pinned_each_other_need_the_capability() {
    let federate = |mut node: LocalNode, other: u8, capable: bool| {
        node.trust.pin(root(other).public());
        node.capabilities = negotiate::supported(capable);
        node
    };
    for capable in [true, false] {
        let ours = federate(client(), 9, capable);
        let theirs = federate(node(&root(9), 0x33, "theirs"), 1, true);
        let ends = Run::new(&ours, &theirs).ends();
        assert_eq!(ends.is_ok(), capable);
        if let Err(error) = ends {
            assert_eq!(error, HandshakeError::Federation);
        }
    }
}

#[test]
fn members_without_the_familys_psk_are_told_so_where_it_is_required() {
    let (client, hub) = (client(), hub());
    let mut run = Run::new(&client, &hub);
    run.policies.1.psk_required = true;
    let (error, reason) = refusal(run);
    assert_eq!(error, HandshakeError::PskRequired);
    assert_eq!(
        (reason.status, reason.sub),
        told(Status::Unauthorized, sub::PSK_REQUIRED)
    );
    let mut run = Run::new(&client, &hub).psk(Tier::T4);
    run.policies.1.psk_required = true;
    assert!(run.ends().is_ok());
}

#[test]
fn a_stranger_without_a_psk_meets_silence_where_one_is_wanted_first() {
    let (client, hub) = (client(), hub());
    let mut run = Run::new(&client, &hub);
    run.policies.1.psk_first = true;
    let mut answered = Vec::new();
    let error = run.through(|index, message| {
        answered.push(index);
        message
    });
    let error = error.map(|_| ()).unwrap_err();
    assert_eq!(error, HandshakeError::PskRequired);
    assert!(error.hint().is_none() && !answered.contains(&4));
    let mut run = Run::new(&client, &hub).psk(Tier::T4);
    run.policies.1.psk_first = true;
    assert!(run.ends().is_ok());
}

#[test]
fn a_wrong_psk_meets_silence_before_any_key_is_computed() {
    let (client, hub) = (client(), hub());
    let wrong = Psk::from_bytes([0x78; 32]);
    let mut run = Run::new(&client, &hub);
    run.dial = dial(Some((wrong.clone(), family_psk().1)), Tier::T4);
    let error = run.ends().map(|_| ()).unwrap_err();
    assert_eq!(error, HandshakeError::UnknownPsk(wrong.id()));
    assert!(error.hint().is_none());
    // The right id with another key is a wrong trailer, even when the rest is untouched.
    let forged = |index: usize, mut message: Vec<u8>| {
        if index == 3 {
            message[12..16].copy_from_slice(&family_psk().0.id().to_be_bytes());
        }
        message
    };
    let mut run = Run::new(&client, &hub);
    run.dial = dial(Some((wrong, family_psk().1)), Tier::T4);
    let error = run.through(forged).map(|_| ()).unwrap_err();
    assert_eq!(error, HandshakeError::Trailer);
    assert!(error.hint().is_none());
}

#[test]
fn tier_five_needs_a_psk_on_both_sides() {
    let (client, hub) = (client(), hub());
    let mut run = Run::new(&client, &hub);
    run.dial = dial(None, Tier::T5);
    assert_eq!(run.ends().map(|_| ()), Err(HandshakeError::TierNeedsPsk));

    let mut responder = Responder::new(policy(true), Mono::ZERO);
    let (_, [m1, _]) = Initiator::start(
        &client,
        dial(Some(family_psk()), Tier::T5),
        policy(true),
        Mono::ZERO,
        &mut rng(1),
    )
    .unwrap();
    let (_, [_, m3]) = Initiator::start(
        &client,
        dial(None, Tier::T4),
        policy(true),
        Mono::ZERO,
        &mut rng(1),
    )
    .unwrap();
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: None,
    };
    let mut ask =
        |message: &[u8]| responder.handle(&hub, &mut offered, Mono::ZERO, &mut rng(2), message);
    assert!(ask(&m1).is_ok());
    assert_eq!(ask(&m3).map(|_| ()), Err(HandshakeError::TierNeedsPsk));
}

#[test]
fn the_tier_of_a_session_is_bounded_by_floors_and_certificates() {
    let hub = hub();
    let mut weak = client();
    let certified = |tier| {
        let body = myclerk::session::certificate::NodeBody {
            tier,
            ..body(&root(1), &weak.key, "weak")
        };
        CertificateChain::issue(&root(1), &body, None).unwrap()
    };
    let (three, five) = (certified(3), certified(5));
    weak.chain = three;
    let (ours, _) = Run::new(&weak, &hub).sessions();
    assert_eq!(ours.selected_tier(), Tier::T3);

    let mut run = Run::new(&weak, &hub);
    run.policies.1.floor = Tier::T4;
    let (error, reason) = refusal(run);
    assert!(matches!(error, HandshakeError::Tier { .. }));
    assert_eq!(
        (reason.status, reason.sub),
        told(Status::Forbidden, sub::TIER)
    );

    let mut run = Run::new(&weak, &hub);
    run.policies.0.floor = Tier::T4;
    assert!(matches!(run.ends(), Err(HandshakeError::Tier { .. })));

    weak.chain = five;
    let mut low = session_support::hub();
    low.max_tier = Tier::T3;
    let mut run = Run::new(&weak, &low);
    run.policies.0.floor = Tier::T4;
    assert!(matches!(
        run.ends(),
        Err(HandshakeError::Tier {
            selected: Tier::T3,
            ..
        })
    ));
}

#[test]
fn another_node_than_the_one_dialled_is_noticed() {
    let (client, hub) = (client(), hub());
    let mut run = Run::new(&client, &hub);
    let expected = NodeId([0; 16]);
    run.dial.expected = Some(expected);
    let found = hub.key.node_id();
    assert_eq!(
        run.ends().map(|_| ()),
        Err(HandshakeError::WrongPeer { expected, found })
    );
}

#[test]
fn a_member_with_the_old_psk_may_only_fetch_the_new_one() {
    let (client, hub) = (client(), hub());
    let old = PskUse::Family {
        epoch: 1,
        current: false,
    };
    let mut run = Run::new(&client, &hub).psk(Tier::T4);
    run.known = vec![(family_psk().0, old)];
    let (_, theirs) = run.ends().unwrap();
    assert_eq!(theirs.session.restricted(), Restriction::UpdateOnly);
    assert_eq!(theirs.info.psk.map(|(_, usage)| usage), Some(old));
    let mut session = theirs.session;
    let mut table = myclerk::session::TicketTable::default();
    assert!(
        session
            .issue_ticket(Mono::ZERO, &mut rng(1), &mut table)
            .is_err()
    );
}

/// A node that has nothing but the content of a QR code.
fn newcomer() -> LocalNode {
    let mut trust = Trust::new(T0);
    trust.pin(root(1).public());
    let chain = CertificateChain::empty();
    LocalNode {
        key: NodeKey::from_bytes(&[0x44; 32]),
        chain,
        trust,
        ..client()
    }
}

#[test]
fn a_token_admits_a_node_without_certificate_to_enrolment_only() {
    let (newcomer, hub) = (newcomer(), hub());
    let family: FamilyId = root(1).public().family_id();
    let token = Token::from_bytes([6; 16]);
    let mut store = PskStore::default();
    let id = store.add_token(Mono::ZERO, &token, family).unwrap();
    let psk = Psk::from_token(&token, family);
    let mut run = Run::new(&newcomer, &hub);
    run.known = vec![(psk.clone(), PskUse::Enrol)];
    run.dial = dial(Some((psk.clone(), PskUse::Enrol)), Tier::T4);
    run.dial.expected = Some(hub.key.node_id());
    let (ours, theirs) = run.ends().unwrap();
    assert_eq!(theirs.session.restricted(), Restriction::EnrolOnly);
    assert_eq!(ours.session.restricted(), Restriction::EnrolOnly);
    assert_eq!(theirs.session.peer().key, *newcomer.key.public());
    assert_eq!(theirs.session.peer().certificate, None);
    assert_eq!(theirs.info.psk, Some((id, PskUse::Enrol)));
    assert_eq!(ours.session.peer().name(), Some("hub"));

    let mut run = Run::new(&newcomer, &hub);
    run.dial = dial(Some((psk, PskUse::Enrol)), Tier::T4);
    assert_eq!(run.ends().map(|_| ()), Err(HandshakeError::EnrolNeedsPeer));
}

#[test]
fn a_node_without_certificate_gets_nothing_without_a_token() {
    let (newcomer, hub) = (newcomer(), hub());
    for run in [
        Run::new(&newcomer, &hub),
        Run::new(&newcomer, &hub).psk(Tier::T4),
    ] {
        let (error, reason) = refusal(run);
        assert_eq!(
            error,
            HandshakeError::Certificate(CertificateError::Missing)
        );
        assert_eq!(
            (reason.status, reason.sub),
            told(Status::Unauthorized, sub::UNKNOWN_FAMILY)
        );
    }
}
