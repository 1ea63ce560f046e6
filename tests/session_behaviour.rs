//! An established session (profile 14, TV-19): what it accepts, how it ends.
#![cfg(test)]

mod session_support;

use myclerk::session::{
    CloseReason, OpenErrorKind, Received, RecordBuf, SealError, Session, SessionDead,
};
use myclerk::wire::flags::{Flags, Tier};
use myclerk::wire::limits::Limits;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::tier2;
use myclerk::wire::time::Mono;
use session_support::{
    Run, client, control, hub, policy, pump, receive, revoke, rng, seal, secs, ticketed,
    try_receive,
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
    let long = seal(&mut theirs, NOW, Tier::T3, &vec![7; 65536]);
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
