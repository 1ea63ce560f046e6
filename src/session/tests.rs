//! What needs a look inside: counters near their limits, foreign ciphers, lossy paths.

use core::time::Duration;

use ::hmac::{Hmac, KeyInit as _, Mac as _};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, Payload};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::certificate::CertificateChain;
use super::clock::{ClockQuality, SessionClock, WallClock};
use super::epoch::Ephemerals;
use super::established::Agreed;
use super::identity::{NodeId, NodeKey};
use super::nonce::{self, COUNTER_LIMIT};
use super::open::Opener;
use super::schedule::{Direction, Secret, Traffic};
use super::seal::{Heading, Sealer};
use super::trust::Trust;
use super::*;
use crate::wire::flags::{Flags, Tier};
use crate::wire::limits::Limits;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&Sha256::digest(self.0.to_be_bytes())[..chunk.len()]);
        }
    }
}

fn session(role: Role, ordered: bool) -> Session {
    let wall = WallClock {
        secs: 1000,
        quality: ClockQuality::Synchronised,
    };
    let node = LocalNode {
        key: NodeKey::from_bytes(&[1; 32]),
        chain: CertificateChain::empty(),
        trust: Trust::new(0),
        capabilities: Vec::new(),
        max_tier: Tier::T5,
        limits: Limits::DEFAULT,
        keepalive: Duration::from_secs(15),
    };
    let peer = PeerIdentity {
        node_id: NodeId([2; 16]),
        key: [3; 32],
        certificate: None,
    };
    let agreed = Agreed {
        role,
        ordered,
        session_id: 0x4D43,
        session_key: Secret([9; 32]),
        ephemerals: Ephemerals {
            initiator: [4; 32],
            responder: [5; 32],
        },
        peer,
        peer_limits: Limits::DEFAULT,
        tier: Tier::T5,
        capabilities: vec![2, 4, 5],
        restriction: Restriction::None,
        clock: SessionClock::start(wall, Mono::ZERO),
        peer_clock: SessionClock::start(wall, Mono::ZERO),
        wall,
        full_handshake: Mono::ZERO,
        now: Mono::ZERO,
    };
    Session::new(&node, agreed, None)
}

fn pair(ordered: bool) -> (Session, Session) {
    (
        session(Role::Initiator, ordered),
        session(Role::Responder, ordered),
    )
}

fn record(session: &mut Session, now: Mono, plaintext: &[u8]) -> Vec<u8> {
    let mut buf = RecordBuf::with_capacity(plaintext.len());
    buf.extend_from_slice(plaintext);
    session
        .seal(now, Tier::T3, Opcode::Record, &mut buf)
        .unwrap();
    buf.message().to_vec()
}

fn control(session: &mut Session, now: Mono) -> Option<Vec<u8>> {
    let mut buf = RecordBuf::with_capacity(0);
    session
        .poll_control(now, &mut Seeded(now.0), &mut buf)?
        .unwrap();
    Some(buf.message().to_vec())
}

fn receive(session: &mut Session, now: Mono, message: &[u8]) -> Result<Received, OpenError> {
    session.receive(now, &mut Seeded(now.0 + 77), &mut message.to_vec())
}

fn skip(session: &mut Session, counter: u32) {
    session
        .keys
        .as_mut()
        .unwrap()
        .current
        .sealer
        .skip_to(counter);
}

fn pass(session: &mut Session, counter: u32) {
    session
        .keys
        .as_mut()
        .unwrap()
        .current
        .opener
        .skip_to(counter);
}

/// Carries control messages until both are quiet.
fn pump(now: Mono, a: &mut Session, b: &mut Session) {
    loop {
        let (from_a, from_b) = (control(a, now), control(b, now));
        if from_a.is_none() && from_b.is_none() {
            return;
        }
        for (message, to) in [(from_a, &mut *b), (from_b, &mut *a)] {
            if let Some(message) = message {
                assert!(receive(to, now, &message).is_ok());
            }
        }
    }
}

#[test]
fn half_of_the_counter_space_makes_either_end_rotate() {
    for worn in [Role::Initiator, Role::Responder] {
        let (mut i, mut r) = pair(true);
        pump(Mono::ZERO, &mut i, &mut r);
        let counter = (1 << 31) - 1;
        let (from, to) = if worn == Role::Initiator {
            (&mut i, &mut r)
        } else {
            (&mut r, &mut i)
        };
        skip(from, counter);
        pass(to, counter);
        assert!(receive(to, Mono::ZERO, &record(from, Mono::ZERO, b"x")).is_ok());
        pump(Mono::ZERO, &mut i, &mut r);
        assert_eq!((i.epoch(), r.epoch()), (Some(1), Some(1)), "{worn:?}");
        let keys = i.keys.as_ref().unwrap();
        assert!(keys.current.sealer.counter() < 10 && !keys.current.is_worn());
    }
}

#[test]
fn nothing_is_sealed_at_the_end_of_the_counter_space() {
    let (mut i, _) = pair(true);
    skip(&mut i, COUNTER_LIMIT - 1);
    record(&mut i, Mono::ZERO, b"last");
    let mut buf = RecordBuf::with_capacity(4);
    let result = i.seal(Mono::ZERO, Tier::T3, Opcode::Record, &mut buf);
    assert_eq!(result, Err(SealError::Exhausted));
}

#[test]
fn a_message_of_the_old_epoch_after_the_new_one_closes_an_ordered_path() {
    let (mut i, mut r) = pair(true);
    pump(Mono::ZERO, &mut i, &mut r);
    i.rotate();
    let offer = control(&mut i, Mono::ZERO).unwrap();
    let late = record(&mut i, Mono::ZERO, b"late");
    assert!(receive(&mut r, Mono::ZERO, &offer).is_ok());
    let accept = control(&mut r, Mono::ZERO).unwrap();
    assert!(receive(&mut i, Mono::ZERO, &accept).is_ok());
    let first = control(&mut i, Mono::ZERO).unwrap();
    assert_eq!(receive(&mut r, Mono::ZERO, &first), Ok(Received::Handled));
    let refused = receive(&mut r, Mono::ZERO, &late).unwrap_err();
    assert_eq!(refused.kind(), OpenErrorKind::Session);
    assert_eq!(refused.to_string(), "a message was not accepted");
}

#[test]
fn messages_in_flight_during_a_rotation_stay_readable() {
    let (mut i, mut r) = pair(true);
    pump(Mono::ZERO, &mut i, &mut r);
    i.rotate();
    let now = Mono::ZERO;
    let offer = control(&mut i, now).unwrap();
    let before = record(&mut i, now, b"before the accept");
    assert!(receive(&mut r, now, &offer).is_ok());
    let accept = control(&mut r, now).unwrap();
    let old = record(&mut r, now, b"still old");
    assert!(receive(&mut i, now, &accept).is_ok());
    assert!(receive(&mut i, now, &old).is_ok());
    let new = record(&mut i, now, b"new already");
    assert!(receive(&mut r, now, &before).is_ok());
    assert!(receive(&mut r, now, &new).is_ok());
    let newer = record(&mut r, now, b"new too");
    assert!(receive(&mut i, now, &newer).is_ok());
    assert_eq!((i.epoch(), r.epoch()), (Some(1), Some(1)));
}

/// A `SESSION_ROTATE` with the given body, sealed by `session`.
fn rotate(session: &mut Session, public: &[u8; 32], body: control::RotateBody) -> Vec<u8> {
    let mut buf = RecordBuf::with_capacity(0);
    session
        .seal_rotation(Mono::ZERO, &body, Some(public), &mut buf)
        .unwrap();
    buf.message().to_vec()
}

fn offer(rotation: Option<u32>) -> control::RotateBody {
    control::RotateBody {
        phase: 1,
        reason: None,
        rotation,
        session_id: None,
    }
}

#[test]
fn a_wrong_or_second_offer_closes_the_session() {
    for (ordered, bodies) in [
        (true, vec![offer(Some(2))]),
        (true, vec![offer(Some(0))]),
        (true, vec![offer(None)]),
        (
            true,
            vec![control::RotateBody {
                phase: 3,
                ..offer(Some(1))
            }],
        ),
        (
            true,
            vec![control::RotateBody {
                phase: 2,
                ..offer(Some(1))
            }],
        ),
        (true, vec![offer(Some(1)), offer(Some(1))]),
        (false, vec![offer(Some(1)), offer(Some(1))]),
    ] {
        let (mut i, mut r) = pair(ordered);
        for (index, body) in bodies.iter().enumerate() {
            let public = *NodeKey::from_bytes(&[u8::try_from(index).unwrap() + 1; 32]).public();
            let message = rotate(&mut i, &public, *body);
            assert_eq!(receive(&mut r, Mono::ZERO, &message), Ok(Received::Handled));
        }
        let close = control(&mut r, Mono::ZERO).unwrap();
        let Ok(Received::Closed {
            by_peer: true,
            reason,
        }) = receive(&mut i, Mono::ZERO, &close)
        else {
            panic!("not closed by {bodies:?}");
        };
        assert_eq!(
            reason,
            CloseReason::new(Status::BadRequest, sub::BAD_PAYLOAD)
        );
    }
}

#[test]
fn an_offer_of_a_low_order_key_closes_the_session() {
    let (mut i, mut r) = pair(true);
    let message = rotate(&mut i, &[0; 32], offer(Some(1)));
    assert_eq!(receive(&mut r, Mono::ZERO, &message), Ok(Received::Handled));
    assert!(matches!(r.state, established::State::Closing { .. }));
}

#[test]
fn a_foreign_public_key_or_key_id_is_refused_before_the_trailer() {
    for offset in [12, 20] {
        let (mut i, mut r) = pair(true);
        let mut buf = RecordBuf::with_capacity(0);
        i.seal(Mono::ZERO, Tier::T4, Opcode::Record, &mut buf)
            .unwrap();
        let mut message = buf.message().to_vec();
        message[offset] ^= 1;
        let error = receive(&mut r, Mono::ZERO, &message).unwrap_err();
        assert_eq!(error.kind(), OpenErrorKind::KeyId);
    }
}

#[test]
fn unknown_core_messages_are_ignored_a_hundred_times() {
    let (mut i, mut r) = pair(true);
    for _ in 0..100 {
        let mut buf = RecordBuf::with_capacity(0);
        i.seal_core(Mono::ZERO, Tier::T3, Opcode::Unknown(0x0013), &mut buf)
            .unwrap();
        let message = buf.message().to_vec();
        assert_eq!(receive(&mut r, Mono::ZERO, &message), Ok(Received::Handled));
    }
    assert_eq!(r.state, established::State::Open);
    let mut buf = RecordBuf::with_capacity(0);
    i.seal_core(Mono::ZERO, Tier::T3, Opcode::Unknown(0x0013), &mut buf)
        .unwrap();
    assert_eq!(
        receive(&mut r, Mono::ZERO, buf.message()),
        Ok(Received::Handled)
    );
    assert!(matches!(r.state, established::State::Closing { .. }));
}

#[test]
fn a_handshake_message_sealed_inside_a_session_closes_it() {
    for opcode in [
        Opcode::SessionInit,
        Opcode::KeyExchangeInit,
        Opcode::SessionResume,
    ] {
        let (mut i, mut r) = pair(true);
        let mut buf = RecordBuf::with_capacity(0);
        i.seal_core(Mono::ZERO, Tier::T3, opcode, &mut buf).unwrap();
        assert_eq!(
            receive(&mut r, Mono::ZERO, buf.message()),
            Ok(Received::Handled)
        );
        assert!(
            matches!(r.state, established::State::Closing { .. }),
            "{opcode}"
        );
    }
}

#[test]
fn too_many_failed_openings_close_an_unordered_session() {
    let (mut i, mut r) = pair(false);
    let mut message = record(&mut i, Mono::ZERO, b"x");
    let last = message.len() - 1;
    message[last] ^= 1;
    r.failures = (1 << 20) - 2;
    let dropped = Ok(Received::Dropped(OpenErrorKind::Trailer));
    assert_eq!(receive(&mut r, Mono::ZERO, &message), dropped);
    assert_eq!(r.state, established::State::Open);
    assert_eq!(receive(&mut r, Mono::ZERO, &message), dropped);
    assert!(matches!(r.state, established::State::Closing { .. }));
}

#[test]
fn a_ticket_of_an_epoch_that_ended_before_it_was_sent_is_not_sent() {
    let (mut i, mut r) = pair(true);
    pump(Mono::ZERO, &mut i, &mut r);
    let mut table = TicketTable::default();
    r.issue_ticket(Mono::ZERO, &mut Seeded(5), &mut table)
        .unwrap();
    i.rotate();
    let offer = control(&mut i, Mono::ZERO).unwrap();
    assert!(receive(&mut r, Mono::ZERO, &offer).is_ok());
    assert_eq!(
        r.issue_ticket(Mono::ZERO, &mut Seeded(6), &mut table),
        Err(TicketError::NotHere)
    );
    let accept = control(&mut r, Mono::ZERO).unwrap();
    assert!(receive(&mut i, Mono::ZERO, &accept).is_ok());
    let first = record(&mut i, Mono::ZERO, b"new epoch");
    assert!(receive(&mut r, Mono::ZERO, &first).is_ok());
    pump(Mono::ZERO, &mut i, &mut r);
    assert!(i.take_ticket().is_none());
    r.issue_ticket(Mono::ZERO, &mut Seeded(7), &mut table)
        .unwrap();
    pump(Mono::ZERO, &mut i, &mut r);
    assert!(i.take_ticket().is_some());
}

#[test]
fn debug_output_of_a_session_holds_no_secret() {
    let text = format!("{:?}", session(Role::Initiator, true));
    for secret in ["9, 9, 9", "0909", "[9"] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// Seals with the ciphers of another library, by the formulas of profile 8.4.
fn oracle(traffic: &Traffic, heading: Heading, ctr: u32, plaintext: &[u8]) -> Vec<u8> {
    let direction = Direction::I2r;
    let tier = heading.flags.tier;
    let random32 = traffic.random32(direction);
    let wire = nonce::to_wire(ctr, random32);
    let mut header = vec![heading.flags.to_u8()];
    header.extend(heading.opcode.to_u16().to_be_bytes());
    header.push(wire.sequence);
    header.extend(0x4D43u16.to_be_bytes());
    header.extend(heading.timestamp.to_be_bytes());
    header.extend(wire.nonce.to_be_bytes());
    if tier > Tier::T3 {
        header.extend(traffic.key_id().to_be_bytes());
        header.extend([4; 32]);
    }
    let key = ChaCha20Poly1305::new(&traffic.aead(direction).0.into());
    let nonce = nonce::aead_nonce(heading.timestamp, random32, ctr);
    let sealed = key
        .encrypt(
            &nonce.into(),
            Payload {
                msg: plaintext,
                aad: &header,
            },
        )
        .unwrap();
    let (ciphertext, tag) = sealed.split_at(plaintext.len());
    let mac_key = traffic.mac(tier, direction).0;
    let mac = |parts: &[&[u8]]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&mac_key).unwrap();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    };
    match tier {
        Tier::T3 => [&header, ciphertext, tag, &mac(&[&header, tag])[..4]].concat(),
        Tier::T4 => [
            &header,
            ciphertext,
            tag,
            &mac(&[&header, ciphertext, tag])[..8],
        ]
        .concat(),
        _ => [&header, tag, ciphertext, &mac(&[&header, tag, ciphertext])].concat(),
    }
}

proptest! {
    #[test]
    fn sealing_agrees_with_another_librarys_ciphers(
        key in any::<[u8; 32]>(),
        tier in prop_oneof![Just(Tier::T3), Just(Tier::T4), Just(Tier::T5)],
        (opcode, timestamp, ctr) in (any::<u16>(), any::<u32>(), 0..COUNTER_LIMIT),
        plaintext in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let traffic = Traffic::new(&Secret(key));
        let heading = Heading {
            flags: Flags::sealed(tier),
            opcode: Opcode::from_u16(opcode),
            timestamp,
        };
        let mut sealer = Sealer::new(&traffic, Direction::I2r, 0x4D43, [4; 32]);
        sealer.skip_to(ctr);
        let mut buf = RecordBuf::with_capacity(plaintext.len());
        buf.extend_from_slice(&plaintext);
        sealer.seal(heading, None, &mut buf).unwrap();
        prop_assert_eq!(buf.message(), oracle(&traffic, heading, ctr, &plaintext));

        let mut message = buf.message().to_vec();
        if let Ok(sealed) = open::parse(&message) {
            let mut opener = Opener::new(&traffic, Direction::I2r, 0x4D43, [4; 32], true);
            opener.skip_to(ctr);
            let clock = SessionClock::new(u64::from(timestamp), Mono::ZERO);
            let opened = opener.open(&sealed, &clock, Mono::ZERO, &mut message).unwrap();
            prop_assert_eq!(&message[opened.plaintext], &plaintext[..]);
        }
    }

    #[test]
    fn no_message_makes_a_session_panic_or_move(
        ordered in any::<bool>(),
        first in prop_oneof![any::<u8>(), Just(0x19), Just(0x21), Just(0x29), Just(0x20)],
        mut rest in proptest::collection::vec(any::<u8>(), 0..200),
        with_sid in any::<bool>(),
    ) {
        let (mut i, mut r) = pair(ordered);
        if with_sid && rest.len() > 5 {
            rest[3..5].copy_from_slice(&[0x4D, 0x43]);
        }
        let message = [&[first][..], &rest].concat();
        match receive(&mut r, Mono::ZERO, &message) {
            Ok(Received::Dropped(_)) => prop_assert!(!ordered),
            Err(_) => prop_assert!(ordered),
            Ok(other) => prop_assert!(false, "{other:?}"),
        }
        let good = record(&mut i, Mono::ZERO, b"x");
        prop_assert!(receive(&mut r, Mono::ZERO, &good).is_ok());
    }

    #[test]
    fn a_flipped_bit_is_never_opened(
        tier in prop_oneof![Just(Tier::T3), Just(Tier::T4), Just(Tier::T5)],
        ordered in any::<bool>(),
        bit in any::<prop::sample::Index>(),
        plaintext in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (mut i, mut r) = pair(ordered);
        let mut buf = RecordBuf::with_capacity(plaintext.len());
        buf.extend_from_slice(&plaintext);
        i.seal(Mono::ZERO, tier, Opcode::Record, &mut buf).unwrap();
        let mut message = buf.message().to_vec();
        let bit = bit.index(message.len() * 8);
        message[bit / 8] ^= 1 << (bit % 8);
        let opened = receive(&mut r, Mono::ZERO, &message);
        prop_assert!(matches!(opened, Err(_) | Ok(Received::Dropped(_))));
        prop_assert!(receive(&mut r, Mono::ZERO, buf.message()).is_ok());
    }
}
