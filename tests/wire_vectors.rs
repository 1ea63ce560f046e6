//! The wire-level test vectors of profile 20, byte for byte.
#![cfg(test)]

mod support;

use myclerk::wire::compress::{self, Algorithm};
use myclerk::wire::crc16;
use myclerk::wire::direct;
use myclerk::wire::error::ErrorMap;
use myclerk::wire::flags::{Flags, Tier};
use myclerk::wire::fragment::{HEADER_LEN, Header, Reassembler};
use myclerk::wire::frame::{self, Body, Frame, FrameHead, RawFrame};
use myclerk::wire::header::HeaderError;
use myclerk::wire::limits::{FRAMES_PER_RECORD, Limits};
use myclerk::wire::message::{Message, SealedHeader};
use myclerk::wire::msgpack::{self, Reader, Rules, Value};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::time::Mono;
use myclerk::wire::varint;
use serde_json::Value as Json;
use support::vectors::{elements, entries, hex, hex_u64, load};

fn whole(plaintext: &[u8]) -> Vec<Frame<'_>> {
    frame::frames(plaintext, FRAMES_PER_RECORD.0)
        .map(|raw| match raw {
            Ok(RawFrame::Whole(frame)) => frame,
            other => panic!("{other:?} is no whole frame"),
        })
        .collect()
}

#[test]
fn tv_1_crc16_has_the_check_value() {
    let vectors = load();
    for (input, checksum) in entries(&vectors["crc16"]) {
        let input = if input == "empty" { "" } else { input };
        assert_eq!(
            u64::from(crc16::checksum(input.as_bytes())),
            hex_u64(checksum)
        );
    }
}

#[test]
fn tv_1_session_init_and_ack_are_tier_2_messages() {
    let vectors = load();
    for handshake in ["handshake_xx", "handshake_xxpsk3"] {
        for (name, opcode, session_id) in [
            ("session_init", Opcode::SessionInit, 0),
            ("session_ack", Opcode::SessionAck, 0x4D43),
        ] {
            let bytes = hex(&vectors[handshake][name]);
            let Ok(Message::Negotiation { header, payload }) = Message::parse(&bytes) else {
                panic!("{name} is no negotiation message");
            };
            assert_eq!((header.opcode, header.sequence), (opcode, 0));
            assert_eq!(header.session_id, session_id);
            assert_eq!(header.message(payload), bytes);
            reencodes(payload);
        }
    }
}

/// The vectors' payloads are in the deterministic form, so decoding and encoding restores them.
fn reencodes(payload: &[u8]) {
    msgpack::check(payload, &Rules::DEFAULT).unwrap();
    let value: Value = msgpack::decode(payload).unwrap();
    assert_eq!(msgpack::encode(&value).unwrap(), payload);
}

#[test]
fn tv_3_4_13_handshake_messages_are_open_tier_4_messages() {
    let vectors = load();
    for (group, name, opcode, sequence) in [
        ("handshake_xx", "kx_init", Opcode::KeyExchangeInit, 1),
        (
            "handshake_xx",
            "kx_response",
            Opcode::KeyExchangeResponse,
            1,
        ),
        (
            "handshake_xx",
            "kx_complete",
            Opcode::KeyExchangeComplete,
            2,
        ),
        ("handshake_xxpsk3", "kx_init", Opcode::KeyExchangeInit, 1),
        (
            "handshake_xxpsk3",
            "kx_response",
            Opcode::KeyExchangeResponse,
            1,
        ),
        (
            "handshake_xxpsk3",
            "kx_complete",
            Opcode::KeyExchangeComplete,
            2,
        ),
        ("resumption", "session_resume", Opcode::SessionResume, 0),
        ("resumption", "session_resumed", Opcode::SessionResumed, 0),
    ] {
        let bytes = hex(&vectors[group][name]);
        let Ok(Message::Handshake(parts)) = Message::parse(&bytes) else {
            panic!("{name} is no handshake message");
        };
        assert_eq!(parts.header.prefix.opcode, opcode);
        assert_eq!(parts.header.prefix.sequence, sequence);
        assert_eq!(
            u64::from(parts.header.key_id),
            hex_u64(&vectors[group]["key_id"])
        );
        assert_eq!(
            [&parts.header.to_bytes()[..], parts.payload, parts.trailer].concat(),
            bytes
        );
        reencodes(parts.payload);
    }
}

#[test]
fn tv_3_4_authenticated_payloads_and_their_limits_are_decoded() {
    let vectors = load();
    for group in ["handshake_xx", "handshake_xxpsk3"] {
        for name in ["kx_response_payload", "kx_complete_payload"] {
            #[derive(serde::Deserialize)]
            struct Payload {
                limits: Limits,
                #[serde(with = "serde_bytes")]
                cert: Vec<u8>,
            }
            let bytes = hex(&vectors[group][name]);
            reencodes(&bytes);
            let payload: Payload = msgpack::decode(&bytes).unwrap();
            assert_eq!(payload.limits, Limits::DEFAULT);
            reencodes(&payload.cert);
        }
    }
}

#[test]
fn tv_5_records_lie_as_their_tier_says() {
    let vectors = load();
    let records = &vectors["records"];
    let plaintext = hex(&records["plaintext"]);
    for (tier, key_id) in [
        (Tier::T3, None),
        (Tier::T4, Some("handshake_xx")),
        (Tier::T5, Some("handshake_xxpsk3")),
    ] {
        let bytes = hex(&records[format!("tier{} ctr0", tier.to_u8())]);
        assert_eq!(bytes.len(), plaintext.len() + tier.overhead());
        let Ok(Message::Sealed(sealed)) = Message::parse(&bytes) else {
            panic!("{tier} is no sealed message");
        };
        let prefix = sealed.header.prefix();
        assert_eq!((prefix.flags.tier, prefix.opcode), (tier, Opcode::Record));
        assert_eq!((prefix.sequence, prefix.session_id), (0, 0x4D43));
        assert_eq!(prefix.timestamp, 0x6962_0002);
        assert_eq!(
            sealed.header.key().map(|(key_id, _)| u64::from(key_id)),
            key_id.map(|group| hex_u64(&vectors[group]["epoch_key_id"]))
        );
        let header = match &sealed.header {
            SealedHeader::T3(header) => header.to_bytes().to_vec(),
            SealedHeader::T4(header) => header.to_bytes().to_vec(),
            SealedHeader::T5(header) => header.to_bytes().to_vec(),
        };
        assert_eq!(header, bytes[sealed.layout.aad.clone()]);
        assert_eq!(sealed.layout.ciphertext.len(), plaintext.len());
    }
}

#[test]
fn tv_5_the_plaintext_of_the_records_is_three_frames() {
    let vectors = load();
    let records = &vectors["records"];
    let plaintext = hex(&records["plaintext"]);
    let frames = whole(&plaintext);
    let expected = elements(&records["frames"]);
    assert_eq!(frames.len(), expected.len());
    let mut again = Vec::new();
    for (frame, expected) in frames.iter().zip(expected) {
        matches_reference(frame, expected);
        frame.emit(&mut again);
    }
    assert_eq!(again, plaintext);
}

/// Compares a frame with a line of the reference implementation's parser.
fn matches_reference(frame: &Frame<'_>, expected: &Json) {
    let number = |name: &str| expected[name].as_u64();
    assert_eq!(Some(u64::from(frame.head.flags().to_u8())), number("flags"));
    assert_eq!(
        Some(u64::from(frame.head.body.kind().to_nibble())),
        number("kind")
    );
    assert_eq!(Some(u64::from(frame.head.stream)), number("stream"));
    assert_eq!(frame.payload, hex(&expected["payload"]));
    let (opcode, corr, limit) = match frame.head.body {
        Body::Request { opcode, corr } => (Some(opcode), Some(corr), None),
        Body::Event { opcode } => (Some(opcode), None, None),
        Body::Credit { limit } => (None, None, Some(limit)),
        other => panic!("{other:?} is not in the vector"),
    };
    assert_eq!(
        opcode.map(|opcode| u64::from(opcode.to_u16())),
        number("op")
    );
    assert_eq!(corr.map(u64::from), number("corr"));
    assert_eq!(limit, number("off"));
}

#[test]
fn tv_5_a_bulk_request_is_read_in_place() {
    let plaintext = hex(&load()["records"]["plaintext"]);
    let mut reader = Reader::new(whole(&plaintext)[0].payload);
    let extra = reader.fixed_array(5).unwrap();
    assert_eq!(reader.u8(), Ok(0x81));
    assert_eq!(reader.u32(), Ok(0));
    assert_eq!(reader.u32(), Ok(1000));
    assert_eq!(reader.u32(), Ok(512));
    assert_eq!(reader.bin(), Ok(&[][..]));
    reader.finish_fixed(extra).unwrap();
}

#[test]
fn tv_7_the_direct_form_means_what_a_frame_means() {
    let vectors = load();
    let plaintext = hex(&vectors["direct"]["plaintext"]);
    let sealed = hex(&vectors["direct"]["tier3 op 0x0201 ctr1"]);
    let Ok(Message::Sealed(sealed)) = Message::parse(&sealed) else {
        panic!("no sealed message");
    };
    let opcode = sealed.header.prefix().opcode;
    let frame = direct::parse(opcode, &plaintext).unwrap();
    assert_eq!(
        frame.head,
        FrameHead::new(
            1,
            Body::Request {
                opcode: Opcode::DeviceInfo,
                corr: 7
            }
        )
    );
    assert_eq!(frame.payload, b"\x81\xa3dev\xa7usb-1-2");
    let mut again = Vec::new();
    direct::emit(&frame.head, frame.payload, &mut again).unwrap();
    assert_eq!(again, plaintext);
}

#[test]
fn tv_11_a_flipped_tier_a_cleared_e_and_a_cut_are_refused_by_the_header() {
    let vectors = load();
    let good = hex(&vectors["records"]["tier3 ctr0"]);
    let negative = &vectors["negative_tier3"];

    assert_eq!(negative["flip flags tier bit"], "flags");
    let mut flipped = good.clone();
    flipped[0] ^= 0x08;
    assert!(Message::parse(&flipped).is_err());

    assert_eq!(negative["E cleared"], "flags");
    let mut cleared = good.clone();
    cleared[0] &= !1;
    assert!(matches!(
        Message::parse(&cleared),
        Err(HeaderError::NotAllowed { .. })
    ));

    assert_eq!(negative["truncated"], "short");
    assert_eq!(
        Message::parse(&good[..31]),
        Err(HeaderError::Short {
            tier: Tier::T3,
            length: 31
        })
    );
}

#[test]
fn tv_14_varints_have_the_boundaries_of_rfc_9000() {
    for (value, bytes) in entries(&load()["varint"]) {
        let value: u64 = value.parse().unwrap();
        let bytes = hex(bytes);
        let mut out = Vec::new();
        varint::write(&mut out, value);
        assert_eq!(out, bytes);
        assert_eq!(varint::read(&bytes), Some((value, &[][..])));
    }
}

#[test]
fn tv_14_one_frame_of_each_kind() {
    let vectors = load();
    let listed = entries(&vectors["frames"]).count();
    let expected = one_of_each();
    assert_eq!(listed, expected.len());
    for (name, head, payload) in expected {
        let bytes = hex(&vectors["frames"][name]);
        assert_eq!(
            whole(&bytes),
            [Frame {
                head,
                payload: &payload
            }],
            "{name}"
        );
        let mut out = Vec::new();
        head.emit(&payload, &mut out);
        assert_eq!(out, bytes, "{name}");
    }
}

fn one_of_each() -> Vec<(&'static str, FrameHead, Vec<u8>)> {
    let response = |corr, status| Body::Response {
        corr,
        status,
        more: false,
    };
    let request = Body::Request {
        opcode: Opcode::DeviceList,
        corr: 1,
    };
    let event = Body::Event {
        opcode: Opcode::GpioEvent,
    };
    let tier = ErrorMap::new(sub::TIER).with_required_tier(Tier::T4);
    let numbered = FrameHead {
        sseq: Some(300),
        ..FrameHead::new(5, Body::Data { fin: false })
    };
    let plain =
        |name, stream, body, payload: &[u8]| (name, FrameHead::new(stream, body), payload.to_vec());
    vec![
        plain("DATA", 5, Body::Data { fin: false }, &[0xDE, 0xAD]),
        plain("DATA_FIN", 5, Body::Data { fin: true }, &[]),
        ("DATA_SSEQ", numbered, b"x".to_vec()),
        plain("REQUEST", 0, request, &[0x80]),
        plain("RESPONSE", 0, response(1, Status::Ok), b"\x81\xa4devs\x90"),
        plain(
            "RESPONSE_ERR",
            0,
            response(2, Status::Forbidden),
            &tier.encode().unwrap(),
        ),
        plain(
            "EVENT",
            7,
            event,
            &[0x95, 0x11, 1, 0xCE, 0, 0x0F, 0x42, 0x40, 1, 0],
        ),
        plain("CREDIT", 5, Body::Credit { limit: 524_288 }, &[]),
        plain("CANCEL", 1, Body::Cancel { corr: 7 }, &[]),
        plain(
            "RESET",
            5,
            Body::Reset {
                status: Status::Timeout,
            },
            &[],
        ),
        plain("PAD", 0, Body::Pad, &[0; 4]),
    ]
}

#[test]
fn tv_15_a_frame_is_cut_into_three_and_put_together() {
    let vectors = load();
    let vector = &vectors["fragmentation"];
    let unfragmented = hex(&vector["unfragmented"]);
    let frame = whole(&unfragmented)[0];
    let mut head = Vec::new();
    frame.head.emit_unit_head(&mut head);
    let whole_unit = [&head[..], frame.payload].concat();
    assert_eq!(whole_unit, hex(&vector["unit"]));

    let flags = Flags {
        fragment: true,
        ..frame.head.flags()
    };
    let mut reassembler = Reassembler::new(true, Limits::DEFAULT.msg);
    let mut unit = None;
    let fragments = elements(&vector["fragments"]);
    let count = u16::try_from(fragments.len()).unwrap();
    for (index, (expected, piece)) in (0..count).zip(fragments.iter().zip(whole_unit.chunks(48))) {
        let expected = hex(expected);
        let mut out = Vec::new();
        let length = 1 + HEADER_LEN + piece.len();
        varint::write(&mut out, u64::try_from(length).unwrap());
        out.push(flags.to_u8());
        Header {
            message_id: 1,
            index,
            count,
            total: u32::try_from(whole_unit.len()).unwrap(),
        }
        .emit(&mut out);
        out.extend_from_slice(piece);
        assert_eq!(out, expected);
        let Some(Ok(RawFrame::Fragment {
            flags,
            header,
            piece,
        })) = frame::frames(&expected, 1).next()
        else {
            panic!("no fragment");
        };
        assert_eq!(unit, None);
        unit = reassembler
            .accept(Mono::ZERO, flags, header, piece)
            .unwrap();
    }
    let unit = unit.unwrap();
    assert_eq!(frame::parse_unit(unit.flags, &unit.bytes), Ok(frame));
}

#[test]
fn tv_16_both_containers_are_unpacked() {
    let vectors = load();
    let vector = &vectors["compression"];
    let plaintext = hex(&vector["plaintext"]);
    for (name, algorithm) in [("lz4", Algorithm::Lz4), ("zstd", Algorithm::Zstd)] {
        let container = hex(&vector[name]);
        assert_eq!(
            compress::decompress(algorithm, &container, Limits::DEFAULT.msg),
            Ok(plaintext.clone())
        );
        let ours = compress::compress(algorithm, &plaintext, Limits::DEFAULT.msg).unwrap();
        assert_eq!(
            compress::decompress(algorithm, &ours, Limits::DEFAULT.msg),
            Ok(plaintext.clone())
        );
    }
}
