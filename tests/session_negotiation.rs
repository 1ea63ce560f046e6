//! The handshake on the wire: offers, hints, sizes, timers, lossy paths, garbage.
#![cfg(test)]

mod session_support;

use myclerk::session::negotiate::{self, SessionInit};
use myclerk::session::{CloseReason, HandshakeError, Initiator, Offered, Progress, Responder};
use myclerk::wire::flags::Tier;
use myclerk::wire::limits::Limits;
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::tier2;
use myclerk::wire::time::Mono;
use session_support::{Run, T0, client, dial, hub, policy, pump, rng, secs};

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

    let draft_only = |init: &mut SessionInit| {
        init.profile = Vec::new();
        init.tier = 0;
        init.device_id = Some(vec![0; 16].into());
    };
    assert_eq!(refused(draft_only), HandshakeError::Profile);
    assert_eq!(
        refused(|init| init.capabilities = vec![0]),
        HandshakeError::Capabilities
    );
    assert_eq!(
        refused(|init| init.capabilities = [2, 4].repeat(17)),
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
    let repeated = session_support::control(&mut ours.session, secs(10)).unwrap();
    assert_eq!(repeated, ours.send[0]);
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
