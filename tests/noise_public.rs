//! The public Noise vectors of the three patterns in use, through the same code as a handshake.
#![cfg(test)]

mod support;

use myclerk::session::identity::NodeKey;
use myclerk::session::noise::{Noise, Side};
use myclerk::session::psk::Psk;
use myclerk::session::schedule::Secret;
use ring::aead;
use serde_json::Value;
use support::vectors::{elements, hex};
use zeroize::Zeroizing;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/noise_public.json"))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn array(value: &Value) -> [u8; 32] {
    hex(value)
        .try_into()
        .unwrap_or_else(|_| panic!("{value} has not 32 bytes"))
}

fn side(vector: &Value, name: &str) -> Noise {
    let field = |suffix: &str| &vector[format!("{name}_{suffix}")];
    let ephemeral = Zeroizing::new(array(field("ephemeral")));
    let side = match name {
        "init" => Side::Initiator(ephemeral),
        _ => Side::Responder(ephemeral),
    };
    let prologue = hex(field("prologue"));
    let psk = field("psks").as_array().map(|psks| array(&psks[0]));
    let built = match field("static") {
        Value::Null => Noise::resumption(side, &prologue, &Secret(psk.unwrap_or_default())),
        private => {
            let key = NodeKey::from_bytes(&array(private));
            Noise::full(side, &prologue, &key, psk.map(Psk::from_bytes).as_ref())
        }
    };
    built.unwrap_or_else(|error| panic!("{error}"))
}

/// A message of Noise's transport phase; the profile does not use it, but the vectors prove the
/// keys of `Split()` with it.
fn transport(key: &Secret, counter: u64, plaintext: &[u8]) -> Vec<u8> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &key.0);
    let key = aead::LessSafeKey::new(key.unwrap_or_else(|error| panic!("{error}")));
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    let mut message = plaintext.to_vec();
    key.seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut message)
        .unwrap_or_else(|error| panic!("{error}"));
    message
}

#[test]
fn all_three_patterns_reproduce_the_public_vectors() {
    let vectors = vectors();
    let mut seen = Vec::new();
    for vector in elements(&vectors["vectors"]) {
        seen.push(vector["protocol_name"].as_str().unwrap());
        let (mut initiator, mut responder) = (side(vector, "init"), side(vector, "resp"));
        let messages = elements(&vector["messages"]);
        let rounds = if vector["init_static"].is_null() {
            2
        } else {
            3
        };
        for (index, message) in messages[..rounds].iter().enumerate() {
            let (payload, ciphertext) = (hex(&message["payload"]), hex(&message["ciphertext"]));
            let (from, to) = match index % 2 {
                0 => (&mut initiator, &mut responder),
                _ => (&mut responder, &mut initiator),
            };
            assert_eq!(
                from.write(&payload).unwrap(),
                ciphertext,
                "{} {index}",
                seen.len()
            );
            assert_eq!(to.read(&ciphertext).unwrap(), payload);
        }
        assert_eq!(initiator.hash(), hex(&vector["handshake_hash"]));
        assert_eq!(responder.hash(), hex(&vector["handshake_hash"]));
        let keys = initiator.split().unwrap();
        assert_eq!(keys.0.0, responder.split().unwrap().0.0);
        let mut sent = [0; 2];
        for (index, message) in messages.iter().enumerate().skip(rounds) {
            let (key, direction) = if index % 2 == 0 {
                (&keys.0, 0)
            } else {
                (&keys.1, 1)
            };
            let sealed = transport(key, sent[direction], &hex(&message["payload"]));
            assert_eq!(sealed, hex(&message["ciphertext"]));
            sent[direction] += 1;
        }
    }
    assert_eq!(
        seen,
        [
            "Noise_XX_25519_ChaChaPoly_SHA256",
            "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
            "Noise_NNpsk0_25519_ChaChaPoly_SHA256"
        ]
    );
}

#[test]
fn a_wrong_psk_is_refused_by_the_side_that_reads_it() {
    let vectors = vectors();
    let mut vector = elements(&vectors["vectors"])[2].clone();
    let mut initiator = side(&vector, "init");
    vector["resp_psks"] = serde_json::json!(["00".repeat(32)]);
    let first = initiator.write(b"").unwrap();
    assert!(side(&vector, "resp").read(&first).is_err());
}
