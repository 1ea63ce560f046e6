//! The pure functions of the session against the test vectors of profile 20.
#![cfg(test)]

mod support;

use myclerk::session::handshake::messages::{Fields, key_exchange};
use myclerk::session::identity::{Authority, NodeId, NodeKey};
use myclerk::session::noise::{Noise, Side};
use myclerk::session::nonce::{self, WireCounter};
use myclerk::session::psk::{Psk, Token};
use myclerk::session::replay::ReplayWindow;
use myclerk::session::schedule::{self, Direction, RotationInputs, Secret, Traffic, Transcript};
use myclerk::session::ticket;
use myclerk::wire::flags::Tier;
use myclerk::wire::msgpack;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::tier2;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::vectors::{elements, hex, hex_u64, load};
use zeroize::Zeroizing;

const T0: u64 = 0x6962_0000;

fn named(name: &str) -> [u8; 32] {
    Sha256::digest(format!("mkb1 test {name}")).into()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value)
        .try_into()
        .unwrap_or_else(|_| panic!("{value} has not {N} bytes"))
}

#[test]
fn every_secret_of_the_schedule_is_that_of_the_vectors() {
    let vectors = load();
    for name in ["handshake_xx", "handshake_xxpsk3"] {
        let vector = &vectors[name];
        let mut transcript = Transcript::full();
        for message in [
            "session_init",
            "session_ack",
            "kx_init",
            "kx_response",
            "kx_complete",
        ] {
            transcript.add(&hex(&vector[message]));
        }
        let th = transcript.finish();
        assert_eq!(th, array(&vector["th"]), "{name}");
        let split = (
            Secret(array(&vector["split"][0])),
            Secret(array(&vector["split"][1])),
        );
        let shared = schedule::shared_secret(&th, &split);
        assert_eq!(shared.0, array(&vector["shared_secret"]));
        let (nonce_i, nonce_r) = (array(&vector["nonce_i"]), array(&vector["nonce_r"]));
        let key = schedule::session_key(&shared, &nonce_i, &nonce_r);
        assert_eq!(key.0, array(&vector["session_key"]));

        let traffic = Traffic::new(&key);
        for (label, direction) in [("i2r", Direction::I2r), ("r2i", Direction::R2i)] {
            assert_eq!(traffic.aead(direction).0, array(&vector["aead"][label]));
            for (number, tier) in [(3, Tier::T3), (4, Tier::T4), (5, Tier::T5)] {
                let expected = array(&vector["mac"][format!("{number} {label}")]);
                assert_eq!(traffic.mac(tier, direction).0, expected);
            }
            assert_eq!(
                u64::from(traffic.random32(direction)),
                hex_u64(&vector["r32"][label])
            );
        }
        assert_eq!(
            u64::from(traffic.key_id()),
            hex_u64(&vector["epoch_key_id"])
        );
        assert_eq!(traffic.resumption().0, array(&vector["rms"]));
        assert_eq!(traffic.exporter().0, array(&vector["exporter"]));

        let psk = vector["psk"]
            .as_str()
            .map(|_| Secret(array(&vector["psk"])));
        let key_id = psk.as_ref().map_or(0, schedule::psk_id);
        assert_eq!(u64::from(key_id), hex_u64(&vector["key_id"]));
        assert_eq!(
            schedule::handshake_mac_key(psk.as_ref()).0,
            array(&vector["hs_mac_key"])
        );
    }
}

#[test]
fn identities_are_those_of_the_vectors() {
    let vector = &load()["handshake_xx"];
    let id = |name: &str| NodeKey::from_bytes(&array(&vector[name])).node_id();
    assert_eq!(
        id("init_static_priv"),
        NodeId(array(&vector["init_node_id"]))
    );
    assert_eq!(
        id("resp_static_priv"),
        NodeId(array(&vector["resp_node_id"]))
    );
    let root = Authority::from_bytes(&named("root")).public();
    assert_eq!(
        root.family_id().to_string(),
        vector["family_id"].as_str().unwrap()
    );
}

#[test]
fn wire_nonces_reconstruction_and_the_window_are_those_of_the_vectors() {
    let vectors = load();
    for case in elements(&vectors["wire_nonce"]) {
        let random32 = u32::try_from(hex_u64(&case["r32"])).unwrap();
        let ctr = u32::try_from(case["counter"].as_u64().unwrap()).unwrap();
        let wire = WireCounter {
            sequence: u8::try_from(hex_u64(&case["seq"])).unwrap(),
            nonce: u16::try_from(hex_u64(&case["nonce16"])).unwrap(),
        };
        assert_eq!(nonce::to_wire(ctr, random32), wire);
        assert_eq!(nonce::from_wire(wire, random32), ctr & 0x00FF_FFFF);
    }
    for case in elements(&vectors["reconstruct"]) {
        let low24 = u32::try_from(hex_u64(&case["wire24"])).unwrap();
        let highest = u32::try_from(case["highest"].as_i64().unwrap()).ok();
        let counter = u32::try_from(case["counter"].as_u64().unwrap()).ok();
        assert_eq!(nonce::reconstruct(low24, highest), counter, "{case}");
    }
    let mut window = ReplayWindow::new();
    for step in elements(&vectors["replay_window"]) {
        let ctr = u32::try_from(step[0].as_u64().unwrap()).unwrap();
        assert_eq!(window.commit(ctr), step[1].as_bool().unwrap(), "{step}");
    }
}

#[test]
fn the_secrets_of_a_rotation_are_those_of_the_vectors() {
    let vectors = load();
    let vector = &vectors["rotation"];
    let (eph_i, eph_r) = (array(&vector["eph_i_priv"]), array(&vector["eph_r_priv"]));
    let (public_i, public_r) = (
        *NodeKey::from_bytes(&eph_i).public(),
        *NodeKey::from_bytes(&eph_r).public(),
    );
    let dh = schedule::x25519(&Zeroizing::new(eph_i), &public_r).unwrap();
    assert_eq!(dh.0, array(&vector["dh"]));
    let old = Secret(array(&vectors["handshake_xx"]["session_key"]));
    assert_eq!(
        schedule::rotation_mid(&old, 1).0,
        array(&vector["mid (draft 5.2)"])
    );
    let inputs = RotationInputs {
        number: 1,
        old_sid: u16::try_from(hex_u64(&vector["old_sid"])).unwrap(),
        new_sid: u16::try_from(hex_u64(&vector["new_sid"])).unwrap(),
        initiator: &public_i,
        responder: &public_r,
    };
    let key = schedule::next_session_key(&old, &dh, &inputs);
    assert_eq!(key.0, array(&vector["new_session_key"]));
}

#[test]
fn a_ticket_is_that_of_the_vectors() {
    let vectors = load();
    let vector = &vectors["resumption"];
    let rms = Secret(array(&vectors["handshake_xx"]["rms"]));
    let ticket_nonce: [u8; 8] = array(&vector["ticket_nonce"]);
    let psk = schedule::ticket_psk(&rms, &ticket_nonce);
    assert_eq!(psk.0, array(&vector["resumption_psk"]));
    let (key, device) = (array(&vector["stk"]), NodeId(array(&vector["device_id"])));
    let issued = u32::try_from(T0).unwrap();
    let sealed = ticket::seal(&key, device, &psk, issued, issued + 86400, &ticket_nonce);
    assert_eq!(sealed.to_vec(), hex(&vector["ticket"]));
    assert_eq!(
        u64::from(ticket::key_id(&sealed)),
        hex_u64(&vector["key_id"])
    );
    let (opened, expires) = ticket::open(&key, device, &sealed).unwrap();
    assert_eq!((opened.0, expires), (psk.0, issued + 86400));
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(ticket::open(&key, device, &changed).is_none(), "bit {bit}");
    }
    assert!(ticket::open(&key, NodeId([0; 16]), &sealed).is_none());
}

#[test]
fn a_resumption_is_that_of_the_vectors() {
    let vectors = load();
    let vector = &vectors["resumption"];
    let psk = Secret(array(&vector["resumption_psk"]));
    let ticket = hex(&vector["ticket"]);
    let prologue = [b"MKB1R", &Sha256::digest(&ticket)[..], &[0x4D, 0x43]].concat();
    let eph = |name: &str| Zeroizing::new(named(name));
    let mut initiator =
        Noise::resumption(Side::Initiator(eph("init eph 2")), &prologue, &psk).unwrap();
    let mut responder =
        Noise::resumption(Side::Responder(eph("resp eph 2")), &prologue, &psk).unwrap();
    let mac_key = schedule::handshake_mac_key(Some(&psk));

    // The payloads of the vector are partial, so they are taken out of it and put back.
    let r1 = hex(&vector["session_resume"]);
    let body: KeyExchange = msgpack::decode(&r1[48..r1.len() - 8]).unwrap();
    let noise = body.noise;
    let p1 = responder.read(&[&r1[16..48], &noise[..]].concat()).unwrap();
    let again = initiator.write(&p1).unwrap();
    assert_eq!(again, [&r1[16..48], &noise[..]].concat());
    let rebuilt = Fields {
        opcode: Opcode::SessionResume,
        sequence: 0,
        session_id: 0,
        timestamp: u32::try_from(T0 + 100).unwrap(),
        noise16: 0xD4D4,
        key_id: u32::try_from(hex_u64(&vector["key_id"])).unwrap(),
        public: again.first_chunk().unwrap(),
    };
    assert_eq!(rebuilt.message(&r1[48..r1.len() - 8], &mac_key), r1);

    let r2 = hex(&vector["session_resumed"]);
    let inner: KeyExchange = msgpack::decode(&r2[48..r2.len() - 8]).unwrap();
    assert_eq!(key_exchange(&inner.noise), r2[48..r2.len() - 8]);
    let p2 = initiator
        .read(&[&r2[16..48], &inner.noise[..]].concat())
        .unwrap();
    let again = responder.write(&p2).unwrap();
    assert_eq!(again, [&r2[16..48], &inner.noise[..]].concat());

    let mut transcript = Transcript::resumption();
    transcript.add(&r1);
    transcript.add(&r2);
    let th = transcript.finish();
    assert_eq!(th, array(&vector["th"]));
    let shared = schedule::shared_secret(&th, &initiator.split().unwrap());
    let nonce = |name: &str| *named(name).first_chunk::<8>().unwrap();
    let key = schedule::session_key(&shared, &nonce("nonce i2"), &nonce("nonce r2"));
    assert_eq!(key.0, array(&vector["session_key"]));
}

/// The part of both payloads of a resumption that is not in their headers.
#[derive(serde::Deserialize)]
struct KeyExchange {
    #[serde(with = "serde_bytes")]
    noise: Vec<u8>,
}

#[test]
fn the_psk_of_an_enrolment_token_is_that_of_the_vectors() {
    let vector = &load()["enrol"];
    let token = Token::from_bytes(array(&vector["token"]));
    let family = vector["family_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        *Psk::from_token(&token, family).to_bytes(),
        array(&vector["psk"])
    );
}

#[test]
fn the_noise_handshake_has_the_hash_and_split_of_the_vectors() {
    let vectors = load();
    for name in ["handshake_xx", "handshake_xxpsk3"] {
        let vector = &vectors[name];
        let psk = vector["psk"]
            .as_str()
            .map(|_| Psk::from_bytes(array(&vector["psk"])));
        let prologue = [b"MKB1", &Sha256::digest(hex(&vector["session_init"]))[..]].concat();
        let key = |name: &str| NodeKey::from_bytes(&array(&vector[name]));
        let (si, sr) = (key("init_static_priv"), key("resp_static_priv"));
        let eph = |name: &str| Zeroizing::new(array(&vector[name]));
        let (ei, er) = (
            Side::Initiator(eph("init_eph_priv")),
            Side::Responder(eph("resp_eph_priv")),
        );
        let mut initiator = Noise::full(ei, &prologue, &si, psk.as_ref()).unwrap();
        let mut responder = Noise::full(er, &prologue, &sr, psk.as_ref()).unwrap();
        responder.read(&initiator.write(&[]).unwrap()).unwrap();
        let p4 = hex(&vector["kx_response_payload"]);
        assert_eq!(initiator.read(&responder.write(&p4).unwrap()).unwrap(), p4);
        let p5 = hex(&vector["kx_complete_payload"]);
        assert_eq!(responder.read(&initiator.write(&p5).unwrap()).unwrap(), p5);
        assert_eq!(initiator.hash(), hex(&vector["noise_h"]));
        let (first, second) = responder.split().unwrap();
        assert_eq!(
            [first.0, second.0],
            [array(&vector["split"][0]), array(&vector["split"][1])]
        );
    }
}

#[test]
fn a_negotiation_message_is_rebuilt_from_its_parts() {
    let vector = &load()["handshake_xx"];
    let m1 = hex(&vector["session_init"]);
    let (header, payload) = tier2::Header::parse(&m1).unwrap();
    let init: myclerk::session::negotiate::SessionInit = msgpack::decode(payload).unwrap();
    assert_eq!(header.message(&msgpack::encode(&init).unwrap()), m1);
}
