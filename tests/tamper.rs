//! An active attacker on the five handshake messages (TV-18 of profile 20): every single bit is
//! flipped, and CRC or trailer computed anew with what the attacker knows, or flipped themselves.
#![cfg(test)]

mod session_support;

use myclerk::session::schedule::{self, Secret};
use myclerk::wire::crc16;
use myclerk::wire::flags::Tier;
use myclerk::wire::time::Mono;
use ring::hmac;
use session_support::{Ends, Run, client, family_psk, hub, seal, try_receive};

/// Bytes at the end of a message that the attacker computes anew.
fn tail(index: usize) -> usize {
    if index <= 2 { 2 } else { 8 }
}

/// Gives a changed message a correct CRC, or a trailer under the attacker's key.
fn mend(index: usize, message: &mut [u8], mac_key: &Secret) {
    let (covered, tail) = message.split_at_mut(message.len() - tail(index));
    if index <= 2 {
        tail.copy_from_slice(&crc16::checksum(covered).to_be_bytes());
    } else {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &mac_key.0);
        tail.copy_from_slice(&hmac::sign(&key, covered).as_ref()[..8]);
    }
}

/// True when both ends have the same keys although a message was changed.
fn undetected(ends: Ends) -> bool {
    let Ok((mut ours, mut theirs)) = ends else {
        return false;
    };
    let now = Mono::ZERO;
    let record = seal(&mut ours.session, now, Tier::T3, b"first");
    try_receive(&mut theirs.session, now, &record).is_ok()
}

/// Flips every bit of message `index` and returns how many there were.
fn attack(psk: bool, index: usize, mac_key: &Secret) -> usize {
    let (client, hub) = (client(), hub());
    let run = || {
        let run = Run::new(&client, &hub);
        if psk { run.psk(Tier::T5) } else { run }
    };
    let mut bits = 0;
    assert!(undetected(run().through(|at, message| {
        if at == index {
            bits = message.len() * 8;
        }
        message
    })));
    for bit in 0..bits {
        let ends = run().through(|at, mut message| {
            if at == index {
                message[bit / 8] ^= 0x80 >> (bit % 8);
                if bit / 8 < message.len() - tail(index) {
                    mend(index, &mut message, mac_key);
                }
            }
            message
        });
        assert!(!undetected(ends), "bit {bit} of m{index}");
    }
    bits
}

#[test]
fn an_outsider_cannot_change_a_bit_of_a_handshake_without_a_psk() {
    let public = schedule::handshake_mac_key(None);
    let bits: usize = (1..=5).map(|index| attack(false, index, &public)).sum();
    assert!(bits > 8000, "{bits}");
}

#[test]
fn an_insider_with_the_psk_cannot_change_a_bit_either() {
    let psk = Secret(*family_psk().0.to_bytes());
    let insider = schedule::handshake_mac_key(Some(&psk));
    let bits: usize = (1..=5).map(|index| attack(true, index, &insider)).sum();
    assert!(bits > 8000, "{bits}");
}

#[test]
fn the_negotiation_cannot_be_talked_down() {
    let (client, hub) = (client(), hub());
    let public = schedule::handshake_mac_key(None);
    for (index, from, to) in [
        (1, &b"\xa4tier\x04"[..], &b"\xa4tier\x03"[..]),
        (2, b"selected-tier\x04", b"selected-tier\x03"),
        (1, b"\x94\x02\x00\x04\x05", b"\x94\x02\x02\x04\x05"),
        (2, b"\x94\x00\x02\x04\x05", b"\x94\x02\x02\x04\x05"),
    ] {
        let mut changed = false;
        let ends = Run::new(&client, &hub).through(|at, mut message| {
            if at == index
                && let Some(place) = message.windows(from.len()).position(|part| part == from)
            {
                message[place..place + to.len()].copy_from_slice(to);
                mend(index, &mut message, &public);
                changed = true;
            }
            message
        });
        assert!(changed && !undetected(ends), "m{index} {from:?}");
    }
}
