use proptest::prelude::*;

use super::*;
use crate::wire::limits::UNDECLARED_REPLY;
use crate::wire::msgpack::DecodeError;
use crate::wire::opcode::Opcode;

const READ_512: [u8; 12] = [
    0x95, 0xCC, 0x81, 0x00, 0xCD, 0x03, 0xE8, 0xCD, 0x02, 0x00, 0xC4, 0x00,
];

fn ep(address: u8) -> EndpointAddress {
    EndpointAddress::from_u8(address).expect("an endpoint's address")
}

#[test]
fn the_bulk_read_of_the_profile_vector_has_its_bytes() {
    let transfer = BulkTransfer {
        ep: ep(0x81),
        flags: TransferFlags::default(),
        timeout_ms: 1000,
        len: 512,
    };
    let mut out = Vec::new();
    transfer.encode(&mut out);
    assert_eq!(out, READ_512);
    assert_eq!(BulkTransfer::decode(&READ_512), Ok((transfer, &[][..])));
}

#[test]
fn a_bulk_write_carries_its_data_behind_its_header() {
    let transfer = BulkTransfer {
        ep: ep(0x02),
        flags: TransferFlags {
            short_not_ok: false,
            zero_packet: true,
        },
        timeout_ms: 0,
        len: 3,
    };
    let mut out = Vec::new();
    transfer.encode(&mut out);
    out.extend_from_slice(b"abc");
    assert_eq!(out, b"\x95\x02\x02\x00\x03\xC4\x03abc");
    assert_eq!(BulkTransfer::decode(&out), Ok((transfer, &b"abc"[..])));
}

#[test]
fn a_control_read_of_a_descriptor_has_its_bytes() {
    let setup = Setup::from_bytes([0x80, 6, 0, 1, 0, 0, 18, 0]);
    assert_eq!(
        (setup.value, setup.length, setup.is_in()),
        (0x0100, 18, true)
    );
    let transfer = ControlTransfer {
        flags: TransferFlags::default(),
        timeout_ms: 0,
        setup,
        len: 18,
    };
    let mut out = Vec::new();
    transfer.encode(&mut out);
    assert_eq!(
        out,
        b"\x96\x00\x00\x00\xC4\x08\x80\x06\x00\x01\x00\x00\x12\x00\x12\xC4\x00"
    );
    assert_eq!(ControlTransfer::decode(&out), Ok((transfer, &[][..])));
}

#[test]
fn an_interrupt_transfer_carries_its_interval_before_the_data() {
    let transfer = InterruptTransfer {
        ep: ep(0x83),
        flags: TransferFlags {
            short_not_ok: true,
            zero_packet: false,
        },
        timeout_ms: 0,
        len: 8,
        interval: 10,
    };
    let mut out = Vec::new();
    transfer.encode(&mut out);
    assert_eq!(out, b"\x96\xCC\x83\x01\x00\x08\x0A\xC4\x00");
    assert_eq!(InterruptTransfer::decode(&out), Ok((transfer, &[][..])));
}

#[test]
fn a_reply_names_where_its_data_stands() {
    let mut out = Vec::new();
    TransferReply::encode(0, 2, 2, &mut out);
    out.extend_from_slice(&[7, 8]);
    assert_eq!(out, [0x93, 0x00, 0x02, 0xC4, 0x02, 7, 8]);
    let reply = TransferReply::decode(&out).expect("a reply");
    assert_eq!((reply.status, reply.actual), (0, 2));
    assert_eq!(out.get(reply.data), Some(&[7, 8][..]));
    out.clear();
    TransferReply::encode(-32, 0, 0, &mut out);
    assert_eq!(out, [0x93, 0xE0, 0x00, 0xC4, 0x00]);
}

#[test]
fn the_longest_reply_header_is_the_overhead() {
    let mut out = Vec::new();
    TransferReply::encode(i32::MIN, u32::MAX, u32::MAX, &mut out);
    assert_eq!(u32::try_from(out.len()), Ok(REPLY_OVERHEAD));
}

#[test]
fn elements_of_a_later_version_are_passed_over() {
    let with_extra = b"\x94\x00\x01\xC4\x01\x09\xA3new";
    let reply = TransferReply::decode(with_extra).expect("a reply");
    assert_eq!(reply.data, 5..6);
}

#[test]
fn a_write_without_all_its_data_is_refused() {
    assert_eq!(
        BulkTransfer::decode(b"\x95\x02\x00\x00\x03\xC4\x02ab"),
        Err(OpError::Length)
    );
    assert_eq!(
        BulkTransfer::decode(b"\x95\x02\x00\x00\x03\xC4\x03ab"),
        Err(OpError::Decode(DecodeError::Truncated))
    );
}

#[test]
fn a_read_that_brings_data_is_refused() {
    assert_eq!(
        BulkTransfer::decode(b"\x95\xCC\x81\x00\x00\x01\xC4\x01a"),
        Err(OpError::Length)
    );
}

#[test]
fn fields_outside_their_range_are_named() {
    for (payload, field) in [
        (&b"\x95\x00\x00\x00\x00\xC4\x00"[..], "ep"),
        (b"\x95\x12\x00\x00\x00\xC4\x00", "ep"),
        (b"\x95\xCC\x80\x00\x00\x00\xC4\x00", "ep"),
        (b"\x95\x01\x04\x00\x00\xC4\x00", "flags"),
        (b"\x95\xCC\x81\x00\x00\xCE\x01\x00\x00\x01\xC4\x00", "len"),
    ] {
        assert_eq!(BulkTransfer::decode(payload), Err(OpError::Field(field)));
    }
    for (payload, field) in [
        (
            &b"\x96\x01\x00\x00\xC4\x08\0\0\0\0\0\0\0\0\x00\xC4\x00"[..],
            "ep",
        ),
        (
            b"\x96\x00\x00\x00\xC4\x07\0\0\0\0\0\0\0\x00\xC4\x00",
            "setup",
        ),
        (
            b"\x96\x00\x00\x00\xC4\x08\0\0\0\0\0\0\x02\0\x01\xC4\x01a",
            "len",
        ),
    ] {
        assert_eq!(ControlTransfer::decode(payload), Err(OpError::Field(field)));
    }
}

#[test]
fn an_isochronous_read_has_its_bytes() {
    let transfer = IsoTransfer {
        ep: ep(0x84),
        flags: TransferFlags::default(),
        start_frame: None,
        ttl_ms: 100,
        packets: vec![192, 0, 192],
    };
    let mut out = Vec::new();
    transfer.encode(&mut out);
    assert_eq!(
        out,
        b"\x96\xCC\x84\x00\xFF\x64\x93\xCC\xC0\x00\xCC\xC0\xC4\x00"
    );
    assert_eq!(transfer.total(), 384);
    assert_eq!(IsoTransfer::decode(&out), Ok((transfer, &[][..])));
}

#[test]
fn an_isochronous_reply_packs_its_data() {
    let mut out = Vec::new();
    let reply = IsoReply {
        status: 0,
        start_frame: 77,
        errors: 1,
        packets: vec![
            IsoPacket {
                actual: 2,
                status: 0,
            },
            IsoPacket {
                actual: 0,
                status: -71,
            },
        ],
        data: 14..16,
    };
    reply.encode(2, &mut out);
    out.extend_from_slice(b"xy");
    assert_eq!(
        out,
        b"\x95\x00\x4D\x01\x92\x92\x02\x00\x92\x00\xD0\xB9\xC4\x02xy"
    );
    assert_eq!(IsoReply::decode(&out), Ok(reply));
}

#[test]
fn isochronous_packets_are_bounded_in_number_and_bytes() {
    let transfer = |packets| IsoTransfer {
        ep: ep(0x84),
        flags: TransferFlags::default(),
        start_frame: Some(5),
        ttl_ms: 0,
        packets,
    };
    let decoded = |packets| {
        let mut out = Vec::new();
        transfer(packets).encode(&mut out);
        IsoTransfer::decode(&out).map(|(transfer, _)| transfer.packets.len())
    };
    assert_eq!(decoded(vec![3; MAX_ISO_PACKETS]), Ok(MAX_ISO_PACKETS));
    assert_eq!(decoded(vec![]), Err(OpError::Field("packets")));
    assert_eq!(
        decoded(vec![3; MAX_ISO_PACKETS + 1]),
        Err(OpError::Field("packets"))
    );
    assert_eq!(
        decoded(vec![u32::MAX; 2]),
        Err(OpError::Field("len")),
        "the sum does not wrap"
    );
}

#[test]
fn the_small_requests_have_their_bytes() {
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        encode(&mut out);
        out
    };
    let get = GetDescriptor {
        kind: 3,
        index: 2,
        lang: 0x0409,
        len: 255,
    };
    let bytes = encoded(&|out| get.encode(out));
    assert_eq!(bytes, b"\x94\x03\x02\xCD\x04\x09\xCC\xFF");
    assert_eq!(GetDescriptor::decode(&bytes), Ok(get));
    let set = SetConfiguration { configuration: 1 };
    assert_eq!(encoded(&|out| set.encode(out)), b"\x91\x01");
    assert_eq!(SetConfiguration::decode(b"\x91\x01"), Ok(set));
    let set = SetInterface {
        interface: 2,
        alternate: 1,
    };
    assert_eq!(encoded(&|out| set.encode(out)), b"\x92\x02\x01");
    assert_eq!(SetInterface::decode(b"\x92\x02\x01"), Ok(set));
    let clear = ClearHalt { ep: ep(0x81) };
    assert_eq!(encoded(&|out| clear.encode(out)), b"\x91\xCC\x81");
    assert_eq!(ClearHalt::decode(b"\x91\xCC\x81"), Ok(clear));
    assert_eq!(encoded(&encode_empty), b"\x80");
}

#[test]
fn a_descriptor_longer_than_asked_for_is_refused() {
    let reply = b"\x91\xC4\x03abc";
    assert_eq!(
        DescriptorReply::decode(reply, 3).map(|reply| reply.descriptor),
        Ok(&b"abc"[..])
    );
    assert_eq!(DescriptorReply::decode(reply, 2), Err(OpError::Length));
}

#[test]
fn no_parameters_are_an_empty_map_or_nothing() {
    assert_eq!(decode_empty(b""), Ok(()));
    assert_eq!(decode_empty(b"\x80"), Ok(()));
    assert_eq!(decode_empty(b"\x81\xA1x\x01"), Ok(()));
    assert!(decode_empty(b"\x90").is_err());
    assert!(decode_empty(b"\x80\x80").is_err());
}

#[test]
fn an_attach_request_has_its_bytes() {
    let request = AttachRequest {
        dev: "usb:0403:6001:A5".to_owned(),
        mode: Mode::Exclusive,
        lock: Some([7; 16]),
        ifs: Some(vec![0, 200]),
        hold: None,
        token: None,
    };
    let bytes = request.encode().expect("an encodable request");
    let mut expected =
        b"\x84\xA3dev\xB0usb:0403:6001:A5\xA3ifs\x92\x00\xCC\xC8\xA4lock\xC4\x10".to_vec();
    expected.extend_from_slice(&[7; 16]);
    expected.extend_from_slice(b"\xA4mode\x04");
    assert_eq!(bytes, expected);
    assert_eq!(AttachRequest::decode(&bytes), Ok(request));
}

#[test]
fn an_attach_request_needs_a_usable_mode_and_id() {
    for payload in [
        &b"\x82\xA3dev\xA1x\xA4mode\x02"[..],
        b"\x82\xA3dev\xA0\xA4mode\x03",
        b"\x82\xA3dev\xC4\x01x\xA4mode\x03",
        b"\x83\xA3dev\xA1x\xA4mode\x03\xA4lock\xC4\x02ab",
    ] {
        assert!(AttachRequest::decode(payload).is_err());
    }
    assert!(AttachRequest::decode(b"\x82\xA3dev\xA1x\xA4mode\x03").is_ok());
}

#[test]
fn an_attach_response_survives_and_needs_a_device_descriptor() {
    let response = AttachResponse {
        desc: vec![18; 18],
        spd: Speed::Unknown(9),
        cfg: 1,
        devno: 0x0001_0002,
        kept: None,
    };
    let bytes = response.encode().expect("an encodable response");
    assert_eq!(AttachResponse::decode(&bytes), Ok(response.clone()));
    let short = AttachResponse {
        desc: vec![18; 17],
        ..response
    };
    let bytes = short.encode().expect("an encodable response");
    assert_eq!(AttachResponse::decode(&bytes), Err(OpError::Field("desc")));
}

#[test]
fn a_device_list_survives_without_its_optional_strings() {
    let list = DeviceList {
        devs: vec![DeviceEntry {
            dev: "usb:0781:5567@1-1.4".to_owned(),
            vid: 0x0781,
            pid: 0x5567,
            bcd: 0x0100,
            cls: 0,
            sub: 0,
            proto: 0,
            spd: Speed::High,
            ifs: vec![[0, 0, 8, 6, 0x50]],
            mfr: None,
            prod: Some("Cruzer Blade".to_owned()),
            ser: None,
            state: 0,
        }],
    };
    let bytes = list.encode().expect("an encodable list");
    assert!(!bytes.windows(3).any(|window| window == b"ser"));
    assert_eq!(DeviceList::decode(&bytes), Ok(list));
}

#[test]
fn every_speed_and_every_address_survives() {
    for code in 0..=u8::MAX {
        assert_eq!(u8::from(Speed::from(code)), code);
        match EndpointAddress::from_u8(code) {
            Some(endpoint) => {
                assert_eq!(endpoint.to_u8(), code);
                assert_eq!(
                    EndpointAddress::new(endpoint.number(), endpoint.is_in()),
                    Some(endpoint)
                );
                assert!(endpoint.index() < 32);
            }
            None => assert_ne!(code & 0x70, 0),
        }
    }
    assert_eq!(EndpointAddress::new(16, true), None);
}

#[test]
fn a_request_declares_what_its_answer_may_bring() {
    let encoded = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = Vec::new();
        encode(&mut payload);
        payload
    };
    let flags = TransferFlags::default();
    let bulk = |address| {
        let ep = EndpointAddress::from_u8(address).unwrap();
        let transfer = BulkTransfer {
            ep,
            flags,
            timeout_ms: 0,
            len: 4,
        };
        let mut payload = encoded(&|out| transfer.encode(out));
        payload.resize(payload.len() + transfer.data_len() as usize, 0);
        declared_reply(Opcode::UsbBulkTransfer, &payload)
    };
    assert_eq!((bulk(0x81), bulk(0x01)), (Some(4), Some(0)));
    let isochronous = |count| {
        let transfer = IsoTransfer {
            ep: EndpointAddress::from_u8(0x81).unwrap(),
            flags,
            start_frame: None,
            ttl_ms: 0,
            packets: vec![3072; count],
        };
        let payload = encoded(&|out| transfer.encode(out));
        declared_reply(Opcode::UsbIsochronousTransfer, &payload)
    };
    assert_eq!(isochronous(1), Some(UNDECLARED_REPLY));
    assert_eq!(isochronous(1024), Some(1024 * 3072));
    assert_eq!(isochronous(0), None, "malformed");
    assert_eq!(declared_reply(Opcode::UsbReset, &[]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_within_the_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        if let Ok((transfer, data)) = BulkTransfer::decode(&bytes) {
            prop_assert!(transfer.len <= MAX_TRANSFER && data.len() <= bytes.len());
        }
        if let Ok((transfer, _)) = IsoTransfer::decode(&bytes) {
            prop_assert!(transfer.packets.len() <= MAX_ISO_PACKETS);
        }
        if let Ok(reply) = TransferReply::decode(&bytes) {
            prop_assert!(bytes.get(reply.data).is_some());
        }
        if let Ok(reply) = IsoReply::decode(&bytes) {
            prop_assert!(bytes.get(reply.data).is_some());
        }
        let _ = ControlTransfer::decode(&bytes);
        let _ = InterruptTransfer::decode(&bytes);
        let _ = GetDescriptor::decode(&bytes);
        let _ = DescriptorReply::decode(&bytes, 8);
        let _ = SetConfiguration::decode(&bytes);
        let _ = SetInterface::decode(&bytes);
        let _ = ClearHalt::decode(&bytes);
        let _ = decode_empty(&bytes);
        let _ = AttachRequest::decode(&bytes);
        let _ = AttachResponse::decode(&bytes);
        let _ = DeviceList::decode(&bytes);
    }

    #[test]
    fn a_bulk_request_with_any_one_byte_changed_never_exceeds_its_bounds(at in 0usize..12, to in any::<u8>()) {
        let mut bytes = READ_512;
        bytes[at] = to;
        if let Ok((transfer, data)) = BulkTransfer::decode(&bytes) {
            prop_assert!(transfer.len <= MAX_TRANSFER);
            prop_assert_eq!(u32::try_from(data.len()), Ok(transfer.data_len()));
        }
    }

    #[test]
    fn any_transfer_survives(
        number in 1u8..16,
        input in any::<bool>(),
        timeout_ms in any::<u32>(),
        interval in any::<u32>(),
        data in proptest::collection::vec(any::<u8>(), 0..600),
        want in 0..=MAX_TRANSFER,
    ) {
        let transfer = InterruptTransfer {
            ep: EndpointAddress::new(number, input).expect("an endpoint's number"),
            flags: TransferFlags { short_not_ok: input, zero_packet: !input },
            timeout_ms,
            len: if input { want } else { u32::try_from(data.len()).expect("a short vector") },
            interval,
        };
        let data = if input { &[][..] } else { data.as_slice() };
        let mut out = Vec::new();
        transfer.encode(&mut out);
        out.extend_from_slice(data);
        prop_assert_eq!(InterruptTransfer::decode(&out), Ok((transfer, data)));
    }
}
