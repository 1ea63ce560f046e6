//! Who gets a session and who does not, and what each side learns of it.

mod session_support;

use std::collections::BTreeSet;

use myclerk::session::certificate::{CertificateChain, CertificateError};
use myclerk::session::clock::{ClockQuality, WallClock};
use myclerk::session::identity::{FamilyId, NodeId, NodeKey, Serial};
use myclerk::session::negotiate::{self, SessionInit, capability};
use myclerk::session::psk::{Psk, PskStore, PskUse, Token};
use myclerk::session::revocation::RevocationList;
use myclerk::session::trust::Trust;
use myclerk::session::{
    CloseReason, HandshakeError, Initiator, LocalNode, Offered, Progress, Received, Responder,
    Restriction, Session,
};
use myclerk::wire::flags::Tier;
use myclerk::wire::limits::Limits;
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::tier2;
use myclerk::wire::time::Mono;
use session_support::{
    Run, T0, YEAR, body, client, dial, family_psk, hub, node, policy, pump, receive, rng, root,
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

/// Revokes a node in the eyes of another.
fn revoke(judge: &mut LocalNode, node: &LocalNode) {
    let serial = node.chain.claims().unwrap().serial;
    let list = RevocationList::issue(&root(1), 1, T0, BTreeSet::from([serial]), 2).unwrap();
    judge
        .trust
        .offer_list(list.as_bytes(), root(1).public().family_id())
        .unwrap();
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

/// What a responder answers to a `SESSION_INIT` with one field changed.
fn init(change: impl FnOnce(&mut SessionInit)) -> Result<Progress, HandshakeError> {
    let mut init = SessionInit {
        nonce: [1; 8],
        timestamp: T0,
        capabilities: negotiate::supported(false),
        device_id: None,
        tier: 4,
        profile: vec![1],
    };
    change(&mut init);
    let header = tier2::Header {
        opcode: Opcode::SessionInit,
        sequence: 0,
        session_id: 0,
    };
    let message = header.message(&msgpack::encode(&init).unwrap());
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: None,
    };
    let mut responder = Responder::new(policy(true), Mono::ZERO);
    responder.handle(&hub(), &mut offered, Mono::ZERO, &mut rng(1), &message)
}

#[test]
fn an_unacceptable_offer_is_refused_with_a_hint_where_one_helps() {
    assert!(matches!(init(|_| ()), Ok(Progress::Send(_))));
    let refused = |change: fn(&mut SessionInit)| init(change).map(|_| ()).unwrap_err();
    let profile = refused(|init| init.profile = vec![2, 7]);
    assert_eq!(profile, HandshakeError::Profile);
    let hint = profile.hint().unwrap();
    let (mut initiator, _) = Initiator::start(
        &client(),
        dial(None, Tier::T4),
        policy(true),
        Mono::ZERO,
        &mut rng(1),
    )
    .unwrap();
    let heard = initiator.handle(&client(), Mono::ZERO, &mut rng(1), &hint);
    let reason = CloseReason::new(Status::BadRequest, sub::PROFILE_REQUIRED);
    assert_eq!(heard.map(|_| ()), Err(HandshakeError::Refused(reason)));

    assert_eq!(
        refused(|init| init.profile = Vec::new()),
        HandshakeError::Profile
    );
    assert_eq!(
        refused(|init| init.capabilities = vec![0]),
        HandshakeError::Capabilities
    );
    assert_eq!(
        refused(|init| init.profile = vec![1; 33]),
        HandshakeError::Malformed
    );
    assert_eq!(refused(|init| init.tier = 2), HandshakeError::Malformed);
    assert_eq!(refused(|init| init.tier = 6), HandshakeError::Malformed);
    let device = |init: &mut SessionInit| init.device_id = Some(vec![0; 16].into());
    assert_eq!(refused(device), HandshakeError::Malformed);
    assert!(HandshakeError::Malformed.hint().is_none());
}

#[test]
fn whatever_a_peer_announces_as_limits_is_clamped() {
    let mut greedy = client();
    let huge = u32::MAX;
    greedy.limits = Limits {
        cr: huge,
        msg: huge,
        rec: huge,
        req: huge,
        rqb: huge,
        scr: huge,
        str: huge,
    };
    let (_, theirs) = Run::new(&greedy, &hub()).ends().unwrap();
    assert_eq!(theirs.session.peer_limits(), greedy.limits.clamped());
    assert_eq!(theirs.session.peer_limits().rec, 1 << 20);
}

#[test]
fn messages_longer_than_4096_bytes_are_refused_before_they_are_read() {
    let (client, hub) = (client(), hub());
    for index in 1..=5 {
        let ends = Run::new(&client, &hub).through(|at, mut message| {
            if at == index {
                message.resize(4097, 0);
            }
            message
        });
        assert_eq!(ends.map(|_| ()), Err(HandshakeError::TooLong), "m{index}");
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_given_up_by_both() {
    let (client, hub) = (client(), hub());
    let (mut initiator, [m1, _]) = Initiator::start(
        &client,
        dial(None, Tier::T4),
        policy(true),
        Mono::ZERO,
        &mut rng(1),
    )
    .unwrap();
    assert_eq!(initiator.next_timeout(), secs(10));
    assert_eq!(initiator.handle_timeout(secs(9)), Ok(Vec::new()));
    assert_eq!(
        initiator.handle_timeout(secs(10)),
        Err(HandshakeError::Timeout)
    );
    let mut responder = Responder::new(policy(true), Mono::ZERO);
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: None,
    };
    assert_eq!(responder.deadline(), secs(10));
    let late = responder.handle(&hub, &mut offered, secs(10), &mut rng(1), &m1);
    assert_eq!(late.map(|_| ()), Err(HandshakeError::Timeout));
}

#[test]
fn a_lossy_path_gets_repetitions_and_identical_answers() {
    let (client, hub) = (client(), hub());
    let (mut rng_i, mut rng_r) = (rng(1), rng(2));
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: None,
    };
    let policy = policy(false);
    let (mut initiator, first) = Initiator::start(
        &client,
        dial(None, Tier::T4),
        policy,
        Mono::ZERO,
        &mut rng_i,
    )
    .unwrap();
    let [m1, m3] = &first;
    for at in [1, 3, 7] {
        assert_eq!(initiator.next_timeout(), secs(at));
        assert_eq!(initiator.handle_timeout(secs(at)), Ok(first.to_vec()));
    }
    assert_eq!(initiator.next_timeout(), secs(60));

    let mut responder = Responder::new(policy, secs(7));
    let mut ask = |at, message: &[u8]| {
        responder
            .handle(&hub, &mut offered, secs(at), &mut rng_r, message)
            .unwrap()
    };
    assert!(matches!(ask(7, m3), Progress::Wait));
    let Progress::Send(answers) = ask(8, m1) else {
        panic!("no answers")
    };
    assert_eq!(answers.len(), 2);
    let Progress::Send(again) = ask(9, m3) else {
        panic!("no answer")
    };
    assert_eq!(again, answers[1..]);
    let Progress::Send(again) = ask(9, m1) else {
        panic!("no answer")
    };
    assert_eq!(again[0], answers[0]);

    let mut hear = |message: &[u8]| {
        initiator
            .handle(&client, secs(9), &mut rng_i, message)
            .unwrap()
    };
    assert!(matches!(hear(&answers[1]), Progress::Wait));
    let Progress::Established(ours) = hear(&answers[0]) else {
        panic!("no session")
    };
    let mut ours = *ours;
    let lost = ours.send.remove(0);
    let repeated = session_support::control(&mut ours.session, secs(10)).unwrap();
    assert_eq!(repeated, lost);
    let Progress::Established(theirs) = ask(10, &repeated) else {
        panic!("no session")
    };
    let mut theirs = theirs.session;
    assert_eq!(pump(secs(10), &mut theirs, &mut ours.session), []);
    assert!(ours.session.is_confirmed());
    assert_eq!(session_support::control(&mut ours.session, secs(20)), None);
}

#[test]
fn an_early_key_exchange_is_held_for_two_seconds_only() {
    let (client, hub) = (client(), hub());
    let policy = policy(false);
    let (_, [m1, m3]) = Initiator::start(
        &client,
        dial(None, Tier::T4),
        policy,
        Mono::ZERO,
        &mut rng(1),
    )
    .unwrap();
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: None,
    };
    let mut responder = Responder::new(policy, Mono::ZERO);
    let mut ask = |at, message: &[u8]| {
        responder
            .handle(&hub, &mut offered, secs(at), &mut rng(2), message)
            .unwrap()
    };
    assert!(matches!(ask(0, &m3), Progress::Wait));
    let Progress::Send(answers) = ask(3, &m1) else {
        panic!("no answer")
    };
    assert_eq!(answers.len(), 1);
}

#[test]
fn a_serial_is_drawn_at_random() {
    assert_ne!(Serial::generate(&mut rng(1)), Serial::generate(&mut rng(2)));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_establish_anything(
        head in proptest::prop_oneof![
            proptest::prelude::Just(vec![0x10, 0, 3, 0, 0, 0]),
            proptest::prelude::Just(vec![0x10, 0, 4, 0, 1, 1]),
            proptest::prelude::Just(vec![0x20, 0, 0x10, 1, 0, 0]),
            proptest::prelude::Just(vec![0x20, 0, 7, 0, 0, 0]),
            proptest::prelude::Just(vec![]),
        ],
        tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        ordered in proptest::prelude::any::<bool>(),
    ) {
        let (client, hub) = (client(), hub());
        let message = [head, tail].concat();
        let (mut initiator, _) =
            Initiator::start(&client, dial(None, Tier::T4), policy(ordered), Mono::ZERO, &mut rng(1))
                .unwrap();
        let heard = initiator.handle(&client, Mono::ZERO, &mut rng(1), &message);
        proptest::prop_assert!(matches!(heard, Err(_) | Ok(Progress::Wait)));
        let nothing = |_| None;
        let mut table = myclerk::session::TicketTable::default();
        let mut offered = Offered { psks: &nothing, tickets: Some(&mut table) };
        let mut responder = Responder::new(policy(ordered), Mono::ZERO);
        let heard = responder.handle(&hub, &mut offered, Mono::ZERO, &mut rng(1), &message);
        let keyed = matches!(heard, Ok(Progress::Established(_) | Progress::Refused { .. }));
        proptest::prop_assert!(!keyed);
    }
}
