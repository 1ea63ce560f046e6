//! What a C compiler makes of `linux/fuse.h` on a little-endian machine.

#![cfg(target_endian = "little")]

use proptest::prelude::*;

use super::super::reply;
use super::super::request::Init;
use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The caller that all of them have: request 0x1122334455667788 of uid 1000, pid 4242.
const CALLER: &str = "8877665544332211 0900000000000000 e8030000 64000000 92100000 0000 0000";

fn parse(message: &[u8]) -> Result<Option<Body>, Malformed> {
    let (header, body) = Header::parse(message)?;
    assert_eq!((header.id, header.uid, header.pid), (ID, 1000, 4242));
    Body::parse(header.opcode, body)
}

fn kernel_says(length_and_opcode: &str, fields: &str) -> Result<Option<Body>, Malformed> {
    parse(&hex(&format!("{length_and_opcode} {CALLER} {fields}")))
}

#[test]
fn every_request_is_read_as_the_header_file_lays_it_out() {
    let requests = [
        ("30000000 0e000000", "02080000 00000000", {
            let flags = u32::try_from(libc::O_RDWR | libc::O_NONBLOCK).unwrap();
            Body::Open { flags }
        }),
        (
            "40000000 12000000",
            "0700000000000000 02000000 00000000 0300000000000000",
            Body::Release { fh: 7 },
        ),
        (
            "50000000 0f000000",
            "0700000000000000 0000000000000000 00000100 02000000 0300000000000000 00080000 00000000",
            Body::Read {
                fh: 7,
                size: 65_536,
                nonblock: true,
            },
        ),
        (
            "55000000 10000000",
            "0700000000000000 0000000000000000 05000000 02000000 0300000000000000 02000000 00000000 \
             68656c6c6f",
            Body::Write {
                fh: 7,
                data: b"hello".to_vec(),
                nonblock: false,
            },
        ),
        (
            "4c000000 27000000",
            "0700000000000000 0b000000 02540000 ccddeeff00000000 04000000 24000000 01020304",
            Body::Ioctl(Ioctl {
                fh: 7,
                cmd: 0x5402,
                arg: 0xffee_ddcc,
                input: vec![1, 2, 3, 4],
                out_size: 36,
                compat: true,
            }),
        ),
        (
            "40000000 28000000",
            "0700000000000000 4d00000000000000 01000000 45000000",
            Body::Poll {
                fh: 7,
                kh: 77,
                events: 0x45,
                schedule_notify: true,
            },
        ),
        (
            "30000000 24000000",
            "8877665544332211",
            Body::Interrupt { id: ID },
        ),
    ];
    for (start, fields, body) in requests {
        assert_eq!(kernel_says(start, fields), Ok(Some(body)), "{start}");
    }
}

#[test]
fn the_first_request_names_version_and_abilities() {
    let fields = hex("07000000 29000000 00000000 01000000");
    let init = Init {
        major: 7,
        minor: 41,
        flags: 1,
    };
    assert_eq!(Init::parse(&fields), Ok(init));
}

#[test]
fn extensions_after_a_request_are_no_part_of_it() {
    let caller = CALLER.replace("92100000 0000", "92100000 0100");
    let with_extension = format!("38000000 0e000000 {caller} 02000000 00000000 ffffffffffffffff");
    assert_eq!(
        parse(&hex(&with_extension)),
        Ok(Some(Body::Open { flags: 2 }))
    );
    // A write's data would end in them.
    let write = format!(
        "5d000000 10000000 {caller} 0700000000000000 0000000000000000 05000000 02000000 \
         0300000000000000 02000000 00000000 68656c6c6f ffffffffffffffff"
    );
    let Ok(Some(Body::Write { data, .. })) = parse(&hex(&write)) else {
        panic!("no write");
    };
    assert_eq!(data, b"hello");
}

#[test]
fn more_extensions_than_bytes_are_malformed() {
    let caller = CALLER.replace("92100000 0000", "92100000 ffff");
    let message = format!("30000000 0e000000 {caller} 02000000 00000000");
    let need = 40 + 0xffff * 8;
    assert_eq!(
        parse(&hex(&message)),
        Err(Malformed::Short { have: 48, need })
    );
}

#[test]
fn a_length_that_is_not_what_was_read_is_malformed() {
    for (said, start) in [(47, "2f000000"), (49, "31000000"), (0, "00000000")] {
        assert_eq!(
            kernel_says(&format!("{start} 0e000000"), "02000000 00000000"),
            Err(Malformed::Length { said, have: 48 })
        );
    }
}

#[test]
fn data_is_as_long_as_its_request_says_or_malformed() {
    let write = |size: &str, data: &str| {
        let length = 40 + 40 + data.len() / 2;
        kernel_says(
            &format!("{length:02x}000000 10000000"),
            &format!(
                "0700000000000000 0000000000000000 {size} 02000000 0300000000000000 02000000 \
                 00000000 {data}"
            ),
        )
    };
    assert!(write("02000000", "6869").is_ok());
    assert_eq!(
        write("03000000", "6869"),
        Err(Malformed::Length { said: 3, have: 2 })
    );
    assert_eq!(
        write("01000000", "6869"),
        Err(Malformed::Length { said: 1, have: 2 })
    );
    assert_eq!(
        write("ffffffff", ""),
        Err(Malformed::Length {
            said: 0xffff_ffff,
            have: 0
        })
    );
    let ioctl = kernel_says(
        "48000000 27000000",
        "0700000000000000 00000000 02540000 0000000000000000 01000000 00000000",
    );
    assert_eq!(ioctl, Err(Malformed::Length { said: 1, have: 0 }));
}

#[test]
fn a_request_cut_anywhere_is_malformed() {
    let fields = hex("0700000000000000 4d00000000000000 01000000 45000000");
    for length in 0..fields.len() {
        let cut = message(40, ID, fields.get(..length).unwrap());
        let (header, body) = Header::parse(&cut).unwrap();
        assert!(Body::parse(header.opcode, body).is_err(), "{length}");
    }
    let whole = message(40, ID, &fields);
    for length in 0..40 {
        assert!(Header::parse(whole.get(..length).unwrap()).is_err());
    }
}

#[test]
fn every_answer_is_laid_out_as_in_the_header_file() {
    let id = "8877665544332211";
    let answers = [
        (
            reply::answer(ID, &reply::open(7), &[]),
            format!("20000000 00000000 {id} 0700000000000000 00000000 00000000"),
        ),
        (
            reply::answer(ID, &reply::written(5), &[]),
            format!("18000000 00000000 {id} 05000000 00000000"),
        ),
        (
            reply::answer(ID, &reply::poll(0x45), &[]),
            format!("18000000 00000000 {id} 45000000 00000000"),
        ),
        (
            reply::answer(ID, &[], b"hello"),
            format!("15000000 00000000 {id}"),
        ),
        (
            reply::answer(ID, &reply::ioctl(-25), b"abcd"),
            format!("24000000 00000000 {id} e7ffffff 00000000 00000000 00000000"),
        ),
        (reply::error(ID, 4), format!("10000000 fcffffff {id}")),
        (
            reply::notify_poll(77),
            "18000000 01000000 0000000000000000 4d00000000000000".to_owned(),
        ),
    ];
    for (answer, golden) in answers {
        assert_eq!(answer, Some(hex(&golden)), "{golden}");
    }
}

#[test]
fn a_retry_lists_the_pieces_that_are_read_before_those_that_are_written() {
    let inputs = [Piece::at(0xffee_ddcc, 36), Piece::at(0x1000, 0)];
    let outputs = [Piece::at(0x7000, 4), Piece::at(0x8000, 131_068)];
    let retry = reply::retry(&inputs, &outputs).unwrap();
    assert_eq!(
        reply::answer(ID, &retry, &[]).unwrap(),
        hex(
            "50000000 00000000 8877665544332211 00000000 04000000 01000000 02000000 \
             ccddeeff00000000 2400000000000000 0070000000000000 0400000000000000 \
             0080000000000000 fcff010000000000"
        )
    );
}

#[test]
fn the_answer_to_the_first_request_names_the_device() {
    let config = Config {
        name: "ttyMC12".to_owned(),
        max_read: 131_072,
        max_write: 4096,
    };
    let fixed = reply::init((7, 38), &config);
    let spare = "00000000".repeat(12);
    assert_eq!(
        reply::answer(ID, &fixed, &[]).unwrap(),
        hex(&format!(
            "68000000 00000000 8877665544332211 07000000 26000000 00000000 01000000 00000200 \
             00100000 {spare} 4445564e414d453d7474794d43313200"
        ))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((header, body)) = Header::parse(&bytes) {
            drop(Body::parse(header.opcode, body));
        }
        prop_assert_eq!(Init::parse(&bytes).is_ok(), bytes.len() >= 16);
    }

    #[test]
    fn no_fields_make_the_parser_panic(
        opcode in prop_oneof![0..64_u32, any::<u32>()],
        extensions in 0..4_u16,
        fields in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut message = message(opcode, ID, &fields);
        message[36..38].copy_from_slice(&extensions.to_ne_bytes());
        if let Ok((header, body)) = Header::parse(&message) {
            prop_assert!(body.len() <= fields.len());
            if let Ok(Some(Body::Write { data, .. } | Body::Ioctl(Ioctl { input: data, .. }))) =
                Body::parse(header.opcode, body)
            {
                prop_assert!(data.len() < fields.len());
            }
        }
    }
}
