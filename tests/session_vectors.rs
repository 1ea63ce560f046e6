//! The state machines of the session against the test vectors of profile 20, byte for byte.
#![cfg(test)]

mod support;

use std::collections::VecDeque;
use std::time::Duration;

use myclerk::session::certificate::CertificateChain;
use myclerk::session::clock::{ClockQuality, SessionClock, WallClock};
use myclerk::session::handshake::messages::{CompletePayload, ResponsePayload};
use myclerk::session::identity::{Authority, NodeId, NodeKey};
use myclerk::session::nonce::{self};
use myclerk::session::open::{self, Opener};
use myclerk::session::psk::{Psk, PskUse};
use myclerk::session::schedule::{Direction, Secret, Traffic};
use myclerk::session::seal::{Heading, Sealer};
use myclerk::session::trust::Trust;
use myclerk::session::{
    Dial, Entropy, Established, Initiator, LocalNode, Offered, OpenErrorKind, Policy, Progress,
    Received, RecordBuf, Responder, Role, Session,
};
use myclerk::wire::flags::{Flags, Tier};
use myclerk::wire::limits::Limits;
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::time::Mono;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::vectors::{entries, hex, load};

const T0: u64 = 0x6962_0000;

/// Answers with exactly the bytes the vectors were made with.
struct Script(VecDeque<Vec<u8>>);

impl Script {
    fn new(parts: &[&[u8]]) -> Self {
        Self(parts.iter().map(|part| part.to_vec()).collect())
    }
}

impl Entropy for Script {
    fn fill(&mut self, out: &mut [u8]) {
        let next = self
            .0
            .pop_front()
            .unwrap_or_else(|| panic!("no bytes left"));
        assert_eq!(out.len(), next.len(), "another number of bytes is drawn");
        out.copy_from_slice(&next);
    }
}

fn named(name: &str) -> [u8; 32] {
    Sha256::digest(format!("mkb1 test {name}")).into()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value)
        .try_into()
        .unwrap_or_else(|_| panic!("{value} has not {N} bytes"))
}

fn secs(seconds: u64) -> Mono {
    Mono::from_secs(seconds)
}

fn node(key: [u8; 32], cert: &[u8], capabilities: &[u64], max_tier: Tier) -> LocalNode {
    let mut trust = Trust::new(T0);
    trust.pin(Authority::from_bytes(&named("root")).public());
    LocalNode {
        key: NodeKey::from_bytes(&key),
        chain: CertificateChain::decode(cert).unwrap_or_else(|error| panic!("{error}")),
        trust,
        capabilities: capabilities.to_vec(),
        max_tier,
        limits: Limits::DEFAULT,
        keepalive: Duration::from_secs(15),
    }
}

fn policy(quality: ClockQuality) -> Policy {
    Policy {
        floor: Tier::T3,
        psk_required: false,
        psk_first: false,
        ordered: true,
        wall: WallClock { secs: T0, quality },
    }
}

/// The two nodes of a vector; their certificates are in its payloads.
fn nodes(vector: &Value, tier: Tier) -> (LocalNode, LocalNode) {
    let (p4, p5) = (
        hex(&vector["kx_response_payload"]),
        hex(&vector["kx_complete_payload"]),
    );
    let p4: ResponsePayload = msgpack::decode(&p4).unwrap();
    let p5: CompletePayload = msgpack::decode(&p5).unwrap();
    let key = |name: &str| array(&vector[name]);
    (
        node(key("init_static_priv"), &p5.cert, &[2, 0, 4, 5], Tier::T5),
        node(key("resp_static_priv"), &p4.cert, &[0, 2, 4, 5], tier),
    )
}

/// The bytes that initiator and responder drew for a vector.
fn drawn(vector: &Value) -> (Script, Script) {
    let bytes = |name: &str| hex(&vector[name]);
    let (eph_i, eph_r) = (bytes("init_eph_priv"), bytes("resp_eph_priv"));
    let (nonce_i, nonce_r) = (bytes("nonce_i"), bytes("nonce_r"));
    (
        Script::new(&[&nonce_i, &eph_i, &[0xA1; 2], &[0xC3; 2]]),
        Script::new(&[&[0x4D, 0x43], &nonce_r, &eph_r, &[0xB2; 2]]),
    )
}

/// Both ends of a vector's handshake, every message compared with it.
fn handshake(vector: &Value) -> (Session, Session) {
    let psk = vector["psk"]
        .as_str()
        .map(|_| Psk::from_bytes(array(&vector["psk"])));
    let tier = if psk.is_some() { Tier::T5 } else { Tier::T4 };
    let usage = PskUse::Family {
        epoch: 1,
        current: true,
    };
    let (i, r) = nodes(vector, tier);
    let (mut rng_i, mut rng_r) = drawn(vector);
    let message = |name: &str| hex(&vector[name]);

    let expected = Some(NodeId(array(&vector["resp_node_id"])));
    let dial = Dial {
        expected,
        psk: psk.clone().map(|psk| (psk, usage)),
        tier,
    };
    let policy_i = policy(ClockQuality::Estimated);
    let started = Initiator::start(&i, dial, policy_i, secs(0), &mut rng_i);
    let (mut initiator, [m1, m3]) = started.unwrap();
    assert_eq!((&m1, &m3), (&message("session_init"), &message("kx_init")));

    let lookup = |id: u32| {
        psk.clone()
            .filter(|psk| psk.id() == id)
            .map(|psk| (psk, usage))
    };
    let mut offered = Offered {
        psks: &lookup,
        tickets: None,
    };
    let mut responder = Responder::new(policy(ClockQuality::Synchronised), secs(0));
    let mut ask = |message: &[u8], now| {
        responder
            .handle(&r, &mut offered, now, &mut rng_r, message)
            .unwrap()
    };
    let m2 = sent(ask(&m1, secs(0)));
    assert_eq!(m2, [message("session_ack")]);
    let m4 = sent(ask(&m3, secs(0)));
    assert_eq!(m4, [message("kx_response")]);

    let mut answer = |message: &[u8]| initiator.handle(&i, secs(1), &mut rng_i, message).unwrap();
    assert!(matches!(answer(&m2[0]), Progress::Wait));
    let ours = established(answer(&m4[0]));
    assert_eq!(ours.send, [message("kx_complete")]);
    let theirs = established(ask(&ours.send[0], secs(1)));
    assert_eq!(
        (ours.info.peer_time, ours.info.peer_clock),
        (T0, ClockQuality::Synchronised)
    );
    assert_eq!(theirs.info.peer_clock, ClockQuality::Estimated);
    assert_eq!(theirs.session.peer().roles(), ["client"]);
    assert_eq!(ours.session.peer().roles(), ["hub"]);
    (ours.session, theirs.session)
}

fn sent(progress: Progress) -> Vec<Vec<u8>> {
    match progress {
        Progress::Send(messages) => messages,
        other => panic!("{other}"),
    }
}

fn established(progress: Progress) -> Established {
    match progress {
        Progress::Established(established) => *established,
        other => panic!("{other}"),
    }
}

fn seal(session: &mut Session, now: u64, tier: Tier, opcode: Opcode, plaintext: &[u8]) -> Vec<u8> {
    let mut buf = RecordBuf::with_capacity(plaintext.len());
    buf.extend_from_slice(plaintext);
    session
        .seal(secs(now), tier, opcode, &mut buf)
        .unwrap_or_else(|error| panic!("{error}"));
    buf.message().to_vec()
}

fn control(session: &mut Session, now: u64, rng: &mut dyn Entropy) -> Vec<u8> {
    let mut buf = RecordBuf::with_capacity(64);
    let result = session.poll_control(secs(now), rng, &mut buf);
    assert_eq!(result, Some(Ok(())));
    buf.message().to_vec()
}

fn receive(session: &mut Session, now: u64, message: &[u8]) -> Result<Received, OpenErrorKind> {
    let mut message = message.to_vec();
    session
        .receive(secs(now), &mut Script::new(&[]), &mut message)
        .map_err(myclerk::session::OpenError::kind)
}

/// The traffic secrets of a handshake vector.
fn traffic(vector: &Value) -> Traffic {
    Traffic::new(&Secret(array(&vector["session_key"])))
}

#[test]
fn both_sides_write_the_five_messages_of_xx_and_the_first_records() {
    let vectors = load();
    let records = &vectors["records"];
    let plaintext = hex(&records["plaintext"]);
    let (mut initiator, mut responder) = handshake(&vectors["handshake_xx"]);
    assert_eq!(
        (initiator.selected_tier(), responder.selected_tier()),
        (Tier::T4, Tier::T4)
    );
    assert_eq!(responder.capabilities(), [0, 2, 4, 5]);
    assert!(!initiator.is_confirmed());

    let record = seal(&mut initiator, 2, Tier::T3, Opcode::Record, &plaintext);
    assert_eq!(record, hex(&records["tier3 ctr0"]));
    let direct = seal(
        &mut initiator,
        2,
        Tier::T3,
        Opcode::DeviceInfo,
        &hex(&vectors["direct"]["plaintext"]),
    );
    assert_eq!(direct, hex(&vectors["direct"]["tier3 op 0x0201 ctr1"]));

    let mut opened = record.clone();
    let received = responder.receive(secs(2), &mut Script::new(&[]), &mut opened);
    let Ok(Received::Record {
        tier: Tier::T3,
        age_secs: _,
        plaintext: range,
    }) = received
    else {
        panic!("{received:?}");
    };
    assert_eq!(opened[range], plaintext);
    let received = receive(&mut responder, 2, &direct);
    assert!(matches!(
        received,
        Ok(Received::Direct {
            opcode: Opcode::DeviceInfo,
            ..
        })
    ));
    let confirmation = control(&mut responder, 2, &mut Script::new(&[]));
    assert_eq!(
        receive(&mut initiator, 2, &confirmation),
        Ok(Received::Handled)
    );
    assert!(initiator.is_confirmed());
}

#[test]
fn tier_four_and_five_records_are_those_of_the_vectors() {
    let vectors = load();
    let records = &vectors["records"];
    let plaintext = hex(&records["plaintext"]);
    for (name, tier, record) in [
        ("handshake_xx", Tier::T4, "tier4 ctr0"),
        ("handshake_xxpsk3", Tier::T5, "tier5 ctr0"),
    ] {
        let (mut initiator, mut responder) = handshake(&vectors[name]);
        let sealed = seal(&mut initiator, 2, tier, Opcode::Record, &plaintext);
        assert_eq!(sealed, hex(&records[record]), "{record}");
        let mut opened = sealed.clone();
        let received = responder.receive(secs(2), &mut Script::new(&[]), &mut opened);
        let Ok(Received::Record {
            plaintext: range, ..
        }) = received
        else {
            panic!("{received:?}");
        };
        assert_eq!(opened[range], plaintext);
    }
}

#[test]
fn the_framed_record_carries_its_length() {
    let vectors = load();
    let (mut initiator, _) = handshake(&vectors["handshake_xx"]);
    let mut buf = RecordBuf::with_capacity(64);
    buf.extend_from_slice(&hex(&vectors["records"]["plaintext"]));
    initiator
        .seal(secs(2), Tier::T3, Opcode::Record, &mut buf)
        .unwrap();
    let expected = vectors["records"]["tcp framing of tier3 ctr0"]
        .as_str()
        .unwrap();
    let expected = hex(&Value::from(expected.trim_end_matches('.')));
    assert_eq!(buf.framed()[..expected.len()], expected);
    assert_eq!(buf.framed().len(), 4 + buf.message().len());
}

#[test]
fn a_keepalive_in_the_middle_of_the_counter_space_opens_on_both_kinds_of_path() {
    let vectors = load();
    let traffic = traffic(&vectors["handshake_xx"]);
    let expected = hex(&vectors["records"]["tier3 r2i KEEPALIVE ctr=0x01020304 empty"]);
    let ctr = 0x0102_0304;
    let mut sealer = Sealer::new(&traffic, Direction::R2i, 0x4D43, [0; 32]);
    sealer.skip_to(ctr);
    let timestamp = u32::try_from(T0 + 3).unwrap();
    let heading = Heading {
        flags: Flags::sealed(Tier::T3),
        opcode: Opcode::Keepalive,
        timestamp,
    };
    let mut buf = RecordBuf::with_capacity(0);
    sealer.seal(heading, None, &mut buf).unwrap();
    assert_eq!(buf.message(), expected);
    let nonce = nonce::aead_nonce(timestamp, traffic.random32(Direction::R2i), ctr);
    assert_eq!(
        nonce.to_vec(),
        hex(&vectors["records"]["nonce96 of previous"])
    );

    let clock = SessionClock::new(T0, Mono::ZERO);
    for (ordered, highest) in [(true, 0x0102_0303), (false, 0x0102_0000)] {
        let mut opener = Opener::new(&traffic, Direction::R2i, 0x4D43, [0; 32], ordered);
        opener.skip_to(highest + 1);
        let mut message = expected.clone();
        let sealed = open::parse(&message).unwrap();
        let opened = opener.open(&sealed, &clock, secs(3), &mut message).unwrap();
        assert_eq!((opened.counter, opened.opcode), (ctr, Opcode::Keepalive));
    }
}

fn kind(name: &str) -> OpenErrorKind {
    match name {
        "flags" => OpenErrorKind::Flags,
        "short" => OpenErrorKind::Short,
        "session" => OpenErrorKind::Session,
        "order" => OpenErrorKind::Order,
        "replay" => OpenErrorKind::Replay,
        "time" => OpenErrorKind::Time,
        "keyid" => OpenErrorKind::KeyId,
        "trailer" => OpenErrorKind::Trailer,
        "aead" => OpenErrorKind::Aead,
        other => panic!("{other} is no reason"),
    }
}

/// An opener of the vectors' initiator-to-responder direction that has seen everything to `passed`.
fn opener(vectors: &Value, ordered: bool, passed: Option<u32>) -> Opener {
    let traffic = traffic(&vectors["handshake_xx"]);
    let header = hex(&vectors["handshake_xx"]["kx_init"]);
    let public = header[16..48].try_into().unwrap_or([0; 32]);
    let mut opener = Opener::new(&traffic, Direction::I2r, 0x4D43, public, ordered);
    if let Some(passed) = passed {
        opener.skip_to(passed + 1);
    }
    opener
}

#[test]
fn the_sixteen_bad_openings_fail_for_the_reasons_of_the_vectors_and_change_nothing() {
    let vectors = load();
    let good = hex(&vectors["records"]["tier3 ctr0"]);
    let flipped = |index: usize, bit: u8| {
        let mut message = good.clone();
        message[index] ^= bit;
        message
    };
    let end = good.len();
    for (name, reason) in entries(&vectors["negative_tier3"]) {
        let message = match name {
            "flip flags tier bit" => flipped(0, 8),
            "flip opcode" => flipped(1, 1),
            "flip seq" => flipped(3, 1),
            "flip session" => flipped(4, 1),
            "flip timestamp" => flipped(9, 1),
            "flip nonce" => flipped(11, 1),
            "flip ct" => flipped(12, 1),
            "flip tag" => flipped(end - 5, 1),
            "flip trailer" => flipped(end - 1, 1),
            "truncated" => good[..31].to_vec(),
            "E cleared" => flipped(0, 1),
            _ => good.clone(),
        };
        let expected = kind(reason.as_str().unwrap());
        let (mut initiator, mut responder) = handshake(&vectors["handshake_xx"]);
        let found = match name {
            "replay ordered" => {
                assert!(receive(&mut responder, 2, &good).is_ok());
                receive(&mut responder, 2, &message)
            }
            "stale time" => receive(&mut responder, 2 + 302, &message),
            "reflected" => receive(&mut initiator, 2, &message),
            "replay unordered" | "old unordered" => {
                let passed = if name == "old unordered" { 5000 } else { 5 };
                let mut opener = opener(&vectors, false, Some(passed));
                let clock = SessionClock::new(T0, Mono::ZERO);
                let sealed = open::parse(&message).unwrap();
                if name == "replay unordered" {
                    assert!(
                        opener
                            .open(&sealed, &clock, secs(2), &mut message.clone())
                            .is_ok()
                    );
                }
                let again = opener.open(&sealed, &clock, secs(2), &mut message.clone());
                Err(again.unwrap_err())
            }
            _ => receive(&mut responder, 2, &message),
        };
        assert_eq!(found, Err(expected), "{name}");
        if !matches!(name, "replay ordered" | "reflected") {
            assert!(receive(&mut responder, 2, &good).is_ok(), "after {name}");
        }
    }
}

#[test]
fn a_rotation_is_that_of_the_vectors() {
    let vectors = load();
    let vector = &vectors["rotation"];
    let (mut initiator, mut responder) = handshake(&vectors["handshake_xx"]);
    for (opcode, plaintext) in [
        (Opcode::Record, &vectors["records"]["plaintext"]),
        (Opcode::DeviceInfo, &vectors["direct"]["plaintext"]),
    ] {
        let message = seal(&mut initiator, 2, Tier::T3, opcode, &hex(plaintext));
        assert!(receive(&mut responder, 2, &message).is_ok());
    }
    initiator.rotate();
    let mut rng = Script::new(&[&hex(&vector["eph_i_priv"])]);
    let offer = control(&mut initiator, 4, &mut rng);
    assert_eq!(offer, hex(&vector["offer sealed T4 ctr2"]));

    let mut rng = Script::new(&[&hex(&vector["new_sid"]), &hex(&vector["eph_r_priv"])]);
    let received = responder.receive(secs(4), &mut rng, &mut offer.clone());
    assert_eq!(received, Ok(Received::Handled));
    let accept = control(&mut responder, 4, &mut Script::new(&[]));
    assert_eq!(accept, hex(&vector["accept sealed T4 r2i ctr0"]));

    assert_eq!(receive(&mut initiator, 4, &accept), Ok(Received::Handled));
    let first = control(&mut initiator, 5, &mut Script::new(&[]));
    assert_eq!(first, hex(&vector["first new-epoch KEEPALIVE"]));
    assert_eq!(receive(&mut responder, 5, &first), Ok(Received::Handled));
    assert_eq!(
        (responder.epoch(), responder.session_id()),
        (Some(1), Some(0x5151))
    );
    let echo = control(&mut responder, 5, &mut Script::new(&[]));
    assert_eq!(receive(&mut initiator, 5, &echo), Ok(Received::Handled));
    assert_eq!(
        (initiator.epoch(), initiator.role()),
        (Some(1), Role::Initiator)
    );
}
