use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ack {
    session_id: u16,
    #[serde(with = "serde_bytes")]
    nonce: Vec<u8>,
    selected_tier: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

fn ack() -> Ack {
    Ack {
        session_id: 0x4D43,
        nonce: vec![1, 2, 3],
        selected_tier: 4,
        name: None,
    }
}

const ACK: &[u8] =
    b"\x83\xa5nonce\xc4\x03\x01\x02\x03\xaasession-id\xcd\x4d\x43\xadselected-tier\x04";

#[test]
fn maps_are_sorted_by_encoded_key_whatever_the_field_order() {
    assert_eq!(encode(&ack()).unwrap(), ACK);
    assert_eq!(decode::<Ack>(ACK).unwrap(), ack());
}

#[test]
fn integers_and_lengths_are_written_in_their_shortest_form() {
    for (value, bytes) in [
        (0i64, &[0x00][..]),
        (127, &[0x7F]),
        (128, &[0xCC, 0x80]),
        (256, &[0xCD, 1, 0]),
        (65536, &[0xCE, 0, 1, 0, 0]),
        (1 << 32, &[0xCF, 0, 0, 0, 1, 0, 0, 0, 0]),
        (-1, &[0xFF]),
        (-32, &[0xE0]),
        (-33, &[0xD0, 0xDF]),
        (-129, &[0xD1, 0xFF, 0x7F]),
        (-32769, &[0xD2, 0xFF, 0xFF, 0x7F, 0xFF]),
    ] {
        assert_eq!(encode(&value).unwrap(), bytes);
    }
    assert_eq!(encode("x").unwrap(), b"\xa1x");
}

#[test]
fn any_order_and_any_integer_width_is_read() {
    let loose = b"\x83\xaasession-id\xce\x00\x00\x4d\x43\xadselected-tier\xd3\0\0\0\0\0\0\0\x04\xa5nonce\xc5\x00\x03\x01\x02\x03";
    assert_eq!(decode::<Ack>(loose).unwrap(), ack());
}

#[test]
fn unknown_keys_are_ignored_even_when_they_are_numbers() {
    let more = b"\x85\x00\x01\xa5nonce\xc4\x03\x01\x02\x03\xa5newer\x91\x80\xaasession-id\xcd\x4d\x43\xadselected-tier\x04";
    assert_eq!(decode::<Ack>(more).unwrap(), ack());
}

#[test]
fn trailing_elements_of_a_tuple_are_ignored() {
    assert_eq!(
        decode::<(u8, u8)>(&[0x94, 1, 2, 3, 0x91, 0x80]).unwrap(),
        (1, 2)
    );
    assert!(decode::<(u8, u8)>(&[0x91, 1]).is_err());
}

#[test]
fn a_struct_is_read_from_a_map_only() {
    assert_eq!(
        decode::<Ack>(b"\x94\xcd\x4d\x43\xc4\x00\x04\xc0"),
        Err(DecodeError::Expected("a map"))
    );
}

#[test]
fn text_is_no_byte_string_and_bytes_are_no_text() {
    let with_text = b"\x83\xa5nonce\xa3abc\xaasession-id\x01\xadselected-tier\x04";
    assert_eq!(
        decode::<Ack>(with_text),
        Err(DecodeError::Expected("a byte string"))
    );
    assert_eq!(
        decode::<String>(b"\xc4\x01a"),
        Err(DecodeError::Expected("a string"))
    );
}

#[test]
fn an_integer_out_of_its_fields_range_is_refused() {
    assert!(decode::<u8>(&[0xCD, 1, 0]).is_err());
    assert!(decode::<u32>(&[0xFF]).is_err());
    assert_eq!(decode::<u64>(&[0xCF; 9]), Ok(0xCFCF_CFCF_CFCF_CFCF));
}

#[test]
fn an_empty_payload_is_the_default_only_where_it_is_allowed() {
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Page {
        max: u32,
    }
    assert_eq!(decode_or_default::<Page>(&[]), Ok(Page { max: 0 }));
    assert_eq!(
        decode_or_default::<Page>(b"\x81\xa3max\x05"),
        Ok(Page { max: 5 })
    );
    assert_eq!(decode::<Page>(&[]), Err(DecodeError::Truncated));
}

#[test]
fn unit_variants_are_their_names() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Speed {
        Low,
        High,
    }
    assert_eq!(encode(&Speed::High).unwrap(), b"\xa4high");
    assert_eq!(decode::<Speed>(b"\xa3low"), Ok(Speed::Low));
    assert!(decode::<Speed>(b"\xa4warp").is_err());
}

#[test]
fn a_payload_is_exactly_one_object() {
    assert_eq!(
        check(&[0xC0, 0xC0, 0xC0], &Rules::DEFAULT),
        Err(DecodeError::Trailing(2))
    );
    assert_eq!(check(&[], &Rules::DEFAULT), Err(DecodeError::Truncated));
}

#[test]
fn depth_8_is_the_limit() {
    let nested = |depth: usize| {
        let mut bytes = vec![0x91; depth];
        bytes.push(0xC0);
        bytes
    };
    assert_eq!(check(&nested(8), &Rules::DEFAULT), Ok(()));
    assert_eq!(
        check(&nested(9), &Rules::DEFAULT),
        Err(DecodeError::Depth(8))
    );
    assert_eq!(
        check(&nested(4000), &Rules::DEFAULT),
        Err(DecodeError::Depth(8))
    );
}

#[test]
fn map_64_is_the_limit() {
    let map = |entries: u8| {
        let mut bytes = vec![0xDE, 0, entries];
        for key in 0..entries {
            bytes.extend([key, 0xC0]);
        }
        bytes
    };
    assert_eq!(check(&map(64), &Rules::DEFAULT), Ok(()));
    assert_eq!(
        check(&map(65), &Rules::DEFAULT),
        Err(DecodeError::MapEntries(65))
    );
    let roomy = Rules {
        map: 65,
        ..Rules::DEFAULT
    };
    assert_eq!(check(&map(65), &roomy), Ok(()));
}

#[test]
fn array_4096_is_the_limit() {
    let array = |count: u16| {
        let mut bytes = vec![0xDC];
        bytes.extend(count.to_be_bytes());
        bytes.resize(3 + usize::from(count), 0);
        bytes
    };
    assert_eq!(check(&array(4096), &Rules::DEFAULT), Ok(()));
    assert_eq!(
        check(&array(4097), &Rules::DEFAULT),
        Err(DecodeError::ArrayElements(4097))
    );
    let roomy = Rules {
        array: 65535,
        ..Rules::DEFAULT
    };
    assert_eq!(
        decode_with::<Vec<u8>>(&array(4097), &roomy).unwrap().len(),
        4097
    );
    assert_eq!(
        Reader::new(&array(4097)).array_header(),
        Err(DecodeError::ArrayElements(4097))
    );
}

#[test]
fn str_4096_is_the_limit() {
    let text = |length: usize| encode(&"x".repeat(length)).unwrap();
    assert_eq!(check(&text(4096), &Rules::DEFAULT), Ok(()));
    assert_eq!(
        check(&text(4097), &Rules::DEFAULT),
        Err(DecodeError::StrBytes(4097))
    );
    assert_eq!(
        Reader::new(&text(4097)).str(),
        Err(DecodeError::StrBytes(4097))
    );
}

#[test]
fn extensions_reserved_bytes_and_bad_text_are_refused() {
    for ext in [0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8] {
        assert_eq!(
            check(&[0x91, ext, 0, 0, 0], &Rules::DEFAULT),
            Err(DecodeError::Ext)
        );
    }
    assert_eq!(check(&[0xC1], &Rules::DEFAULT), Err(DecodeError::Reserved));
    assert_eq!(
        check(&[0xA2, 0xC3, 0x28], &Rules::DEFAULT),
        Err(DecodeError::Utf8)
    );
}

#[test]
fn a_key_repeated_in_another_width_is_a_duplicate() {
    assert_eq!(
        check(b"\x82\xa1a\x01\xd9\x01a\x02", &Rules::DEFAULT),
        Err(DecodeError::DuplicateKey)
    );
    assert_eq!(
        check(&[0x82, 0x05, 0xC0, 0xD0, 0x05, 0xC0], &Rules::DEFAULT),
        Err(DecodeError::DuplicateKey)
    );
    assert_eq!(
        check(b"\x82\xa1a\x01\xc4\x01a\x02", &Rules::DEFAULT),
        Ok(())
    );
    assert_eq!(
        check(&[0x81, 0x90, 0], &Rules::DEFAULT),
        Err(DecodeError::CompositeKey)
    );
}

#[test]
fn a_length_beyond_the_rest_is_refused_before_anything_is_allocated() {
    for claim in [
        &[0xC6, 0xFF, 0xFF, 0xFF, 0xFF, 0][..],
        &[0xDB, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF, 0],
        &[0xDF, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0],
        &[0xDC, 0, 2, 0],
        &[0x82, 0, 0, 0],
        &[0xCF, 0],
    ] {
        assert_eq!(check(claim, &Rules::DEFAULT), Err(DecodeError::Truncated));
    }
}

#[test]
fn a_bulk_request_is_read_without_a_copy() {
    let bytes = [
        0x95, 0xCC, 0x81, 0x00, 0xCD, 0x03, 0xE8, 0xCD, 0x02, 0x00, 0xC4, 0x02, 7, 8,
    ];
    let mut reader = Reader::new(&bytes);
    let extra = reader.fixed_array(5).unwrap();
    assert_eq!(reader.u8(), Ok(0x81));
    assert_eq!(reader.u8(), Ok(0));
    assert_eq!(reader.u16(), Ok(1000));
    assert_eq!(reader.u32(), Ok(512));
    let data = reader.bin().unwrap();
    assert!(core::ptr::eq(data, &raw const bytes[12..]));
    assert_eq!(reader.finish_fixed(extra), Ok(()));

    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    writer.array(5);
    writer.uint(0x81u8);
    writer.uint(0u8);
    writer.uint(1000u32);
    writer.uint(512u32);
    writer.bin(data);
    assert_eq!(out, bytes);
}

#[test]
fn a_fixed_array_tolerates_more_elements_but_not_fewer() {
    let mut reader = Reader::new(&[0x93, 1, 0xC0, 0x81, 1, 2]);
    let extra = reader.fixed_array(1).unwrap();
    assert_eq!(reader.u8(), Ok(1));
    assert_eq!(reader.finish_fixed(extra), Ok(()));
    assert!(Reader::new(&[0x91, 1]).fixed_array(2).is_err());
    let mut reader = Reader::new(&[0x92, 1, 0xD4]);
    let extra = reader.fixed_array(1).unwrap();
    assert_eq!(reader.u8(), Ok(1));
    assert!(reader.finish_fixed(extra).is_err());
}

#[test]
fn the_reader_names_the_type_it_wanted() {
    assert_eq!(
        Reader::new(&[0xC0]).uint(),
        Err(DecodeError::Expected("an unsigned integer"))
    );
    assert_eq!(Reader::new(&[0xFF]).uint(), Err(DecodeError::Range));
    assert_eq!(Reader::new(&[0xCD, 1, 0]).u8(), Err(DecodeError::Range));
    assert_eq!(Reader::new(&[0xCF; 9]).int(), Err(DecodeError::Range));
    assert_eq!(Reader::new(&[0xD0, 0x9C]).i32(), Ok(-100));
    assert_eq!(Reader::new(&[0xC3]).bool(), Ok(true));
    assert_eq!(Reader::new(&[0xC0]).nil(), Ok(()));
    assert_eq!(Reader::new(b"\xa1a\x00").str(), Ok("a"));
    assert_eq!(Reader::new(&[0x81, 0, 0]).map_header(), Ok(1));
    assert!(!Reader::new(&[0xC2]).take_nil());
    assert_eq!(
        Reader::new(&[0xC0, 0]).finish(),
        Err(DecodeError::Trailing(2))
    );
}

#[test]
fn a_duplicate_or_an_extension_is_not_encoded() {
    assert!(encode(&Pairs(&[("a", 1), ("a", 2)])).is_err());
    assert_eq!(
        encode(&Pairs(&[("b", 1), ("a", 2)])).unwrap(),
        b"\x82\xa1a\x02\xa1b\x01"
    );
}

struct Pairs(&'static [(&'static str, u8)]);

impl Serialize for Pairs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

fn object() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Map, Value};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-z]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,8}", inner, 0..20)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Walks an object with the reader and writes it again with the writer.
fn rewrite(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), DecodeError> {
    let mut ahead = reader.clone();
    if reader.take_nil() {
        writer.nil();
    } else if let Ok(count) = ahead.array_header() {
        writer.array(u32::try_from(count).unwrap());
        *reader = ahead;
        for _ in 0..count {
            rewrite(reader, writer)?;
        }
    } else {
        let mut ahead = reader.clone();
        if let Ok(count) = ahead.map_header() {
            writer.map(u32::try_from(count).unwrap());
            *reader = ahead;
            for _ in 0..2 * count {
                rewrite(reader, writer)?;
            }
        } else if let Ok(value) = reader.clone().uint() {
            writer.uint(value);
            reader.skip_value()?;
        } else if let Ok(value) = reader.clone().int() {
            writer.int(value);
            reader.skip_value()?;
        } else if let Ok(value) = reader.clone().bool() {
            writer.bool(value);
            reader.skip_value()?;
        } else {
            writer.str(reader.str()?);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = check(&bytes, &Rules::DEFAULT);
        let _ = decode::<Ack>(&bytes);
        let _ = decode::<Vec<(u8, String, Option<bool>)>>(&bytes);
        let _ = Reader::new(&bytes).skip_value();
    }

    #[test]
    fn a_checked_object_is_a_valid_object_to_another_decoder(
        bytes in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        if check(&bytes, &Rules::DEFAULT).is_ok() {
            rmp_serde::from_slice::<serde::de::IgnoredAny>(&bytes).unwrap();
        }
    }

    #[test]
    fn objects_survive_and_encode_the_same_twice(value in object()) {
        let bytes = encode(&value).unwrap();
        prop_assert_eq!(check(&bytes, &Rules::DEFAULT), Ok(()));
        prop_assert_eq!(decode::<serde_json::Value>(&bytes).unwrap(), value);

        let mut out = Vec::new();
        let mut reader = Reader::new(&bytes);
        rewrite(&mut reader, &mut Writer::new(&mut out)).unwrap();
        prop_assert_eq!(reader.finish(), Ok(()));
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn every_cut_of_an_object_is_refused(value in object()) {
        let bytes = encode(&value).unwrap();
        for end in 0..bytes.len() {
            prop_assert_eq!(check(&bytes[..end], &Rules::DEFAULT), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn binary_headers_have_the_shortest_length(length in 0usize..70_000) {
        let data = vec![0; length];
        let mut out = Vec::new();
        Writer::new(&mut out).bin(&data);
        let mut expected = Vec::new();
        rmp::encode::write_bin(&mut expected, &data).unwrap();
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(Reader::new(&out).bin().unwrap(), &data);
    }
}
