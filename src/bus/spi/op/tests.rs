use proptest::prelude::*;

use super::*;
use crate::kernel::spidev::MAX_TRANSFERS;
use crate::wire::opcode::Opcode;

const SETTINGS: Settings = Settings {
    mode: mode::CPHA | mode::LSB_FIRST,
    bits: 16,
    hz: 1_000_000,
};

fn open() -> OpenRequest {
    OpenRequest {
        dev: "spi:s".to_owned(),
        settings: SETTINGS,
        keep: false,
    }
}

#[test]
fn opening_has_its_bytes() {
    let bytes =
        b"\x85\xa2hz\xce\x00\x0f\x42\x40\xa3dev\xa5spi:s\xa3lsb\xc3\xa4bits\x10\xa4mode\x01";
    assert_eq!(open().encode().unwrap(), bytes);
    assert_eq!(OpenRequest::decode(bytes), Ok(open()));
    let keep = OpenRequest {
        keep: true,
        ..open()
    };
    assert_eq!(OpenRequest::decode(&keep.encode().unwrap()), Ok(keep));
}

#[test]
fn an_answer_says_what_the_owner_takes_beyond_the_profile() {
    let profile = b"\x83\xa2hz\x01\xa4bits\x08\xa4mode\x03";
    let opened = Opened {
        settings: Settings {
            mode: 3,
            bits: 8,
            hz: 1,
        },
        ext: None,
    };
    assert_eq!(opened.encode().unwrap(), profile);
    assert_eq!(Opened::decode(profile), Ok(opened));
    let more = Opened {
        settings: Settings {
            mode: 0x800 | mode::CS_HIGH,
            ..SETTINGS
        },
        ext: Some(Extension {
            entries: 127,
            bufsiz: 4096,
            flags: 0xFF0,
        }),
    };
    assert_eq!(Opened::decode(&more.encode().unwrap()), Ok(more));
}

#[test]
fn an_owner_announces_no_more_than_there_is() {
    let ext = |ext| {
        Opened {
            settings: SETTINGS,
            ext: Some(ext),
        }
        .encode()
        .unwrap()
    };
    let all = Extension {
        entries: u32::MAX,
        bufsiz: u32::MAX,
        flags: u32::MAX,
    };
    let read = Opened::decode(&ext(all)).unwrap().ext.unwrap();
    assert_eq!(usize::try_from(read.entries), Ok(MAX_TRANSFERS));
    assert_eq!(read.flags, 0x3_EFF0);
    for nothing in [
        Extension { entries: 0, ..all },
        Extension { bufsiz: 0, ..all },
    ] {
        assert!(Opened::decode(&ext(nothing)).is_err());
    }
}

#[test]
fn fields_outside_their_range_are_named() {
    let long = OpenRequest {
        dev: "s".repeat(65),
        ..open()
    };
    let none = OpenRequest {
        dev: String::new(),
        ..open()
    };
    for wrong in [long, none] {
        let bytes = wrong.encode().unwrap();
        assert_eq!(OpenRequest::decode(&bytes), Err(OpError::Field("dev")));
    }
    let mode = b"\x84\xa2hz\x01\xa3dev\xa1s\xa4bits\x08\xa4mode\x04";
    assert_eq!(OpenRequest::decode(mode), Err(OpError::Field("mode")));
    let bits = b"\x84\xa2hz\x01\xa3dev\xa1s\xa4bits\xcd\x01\x00\xa4mode\x03";
    assert_eq!(OpenRequest::decode(bits), Err(OpError::Field("bits")));
    // Chip select among the flags.
    let flags = b"\x81\xa5flags\x04";
    assert_eq!(Change::decode(flags), Err(OpError::Field("flags")));
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let before = mode::CPOL | mode::LSB_FIRST | 0x100;
    let lsb = Change {
        lsb: Some(false),
        ..Change::default()
    };
    assert_eq!(lsb.mode_after(before), Some(mode::CPOL | 0x100));
    let plain = Change::of_mode(mode::CPHA, false);
    assert_eq!(plain.mode_after(before), Some(mode::CPHA | 0x100));
    let all = Change::of_mode(mode::CPHA | mode::CS_HIGH | 0x10, true);
    assert_eq!(
        all.mode_after(before),
        Some(mode::CPHA | mode::CS_HIGH | 0x10)
    );
    let bits = Change {
        bits: Some(7),
        ..Change::default()
    };
    assert_eq!(bits.mode_after(before), None);
    for change in [lsb, plain, all, bits] {
        assert_eq!(Change::decode(&change.encode().unwrap()), Ok(change));
    }
}

#[test]
fn a_transfer_that_the_profile_can_say_has_its_bytes() {
    let id = [
        Transfer {
            tx: vec![0x9F],
            ..Transfer::default()
        },
        Transfer {
            rx_len: 3,
            cs_change: true,
            hz: 1000,
            delay_us: 5,
            ..Transfer::default()
        },
    ];
    let bytes = b"\x91\x92\x95\xc4\x01\x9f\x00\x00\xc2\x00\x95\xc4\x00\x03\x05\xc3\xcd\x03\xe8";
    assert_eq!(encode_transfer(&id), bytes);
    assert_eq!(decode_transfer(bytes), Ok(id.to_vec()));
    let more = [Transfer {
        bits: 9,
        tx: vec![1, 2],
        ..Transfer::default()
    }];
    let bytes = b"\x91\x91\x9a\xc4\x02\x01\x02\x00\x00\xc2\x00\x09\x00\x00\x00\x00";
    assert_eq!(encode_transfer(&more), bytes);
    assert_eq!(decode_transfer(bytes), Ok(more.to_vec()));
}

#[test]
fn a_message_that_cannot_be_is_refused() {
    let uneven = Transfer {
        tx: vec![1],
        rx_len: 2,
        ..Transfer::default()
    };
    let beside = Transfer {
        tx: vec![1],
        idle_len: 1,
        ..Transfer::default()
    };
    for wrong in [uneven, beside] {
        let bytes = encode_transfer(&[wrong]);
        assert_eq!(decode_transfer(&bytes), Err(OpError::Field("rx-len")));
    }
    for count in [0, MAX_TRANSFERS + 1] {
        let bytes = encode_transfer(&vec![Transfer::default(); count]);
        assert_eq!(decode_transfer(&bytes), Err(OpError::Field("entries")));
    }
    // A delay of 65 536 us.
    let late = b"\x91\x91\x95\xc4\x00\x00\xce\x00\x01\x00\x00\xc2\x00";
    assert_eq!(decode_transfer(late), Err(OpError::Field("delay-us")));
}

#[test]
fn only_what_was_asked_for_is_received() {
    let answer = encode_received(&[vec![1, 2], vec![], vec![3]]);
    assert_eq!(decode_received(&answer, &[2, 0, 1]), Ok(vec![1, 2, 3]));
    for lengths in [
        &[2, 0][..],
        &[2, 1, 1],
        &[1, 0, 1],
        &[3, 0, 1],
        &[2, 0, 1, 0],
    ] {
        assert!(decode_received(&answer, lengths).is_err(), "{lengths:?}");
    }
    let answer = encode_read_answer(&[1, 2, 3]);
    assert_eq!(decode_read_answer(&answer, 3), Ok(&[1, 2, 3][..]));
    assert!(decode_read_answer(&answer, 2).is_err());
}

#[test]
fn answers_are_as_long_as_declared_at_most() {
    let transfers = vec![
        Transfer {
            rx_len: 70_000,
            ..Transfer::default()
        };
        40
    ];
    let declared = declared_reply(Opcode::SpiTransfer, &encode_transfer(&transfers)).unwrap();
    let answer = encode_received(&vec![vec![0; 70_000]; 40]);
    assert!(answer.len() <= usize::try_from(declared).unwrap());
    let declared = declared_reply(Opcode::SpiRead, &encode_read(70_000)).unwrap();
    assert!(encode_read_answer(&vec![0; 70_000]).len() <= usize::try_from(declared).unwrap());
    assert_eq!(declared_reply(Opcode::SpiWrite, &encode_write(&[1])), None);
    assert_eq!(
        declared_reply(Opcode::SpiTransfer, b"\x91\xdd\xff\xff\xff\xff"),
        None
    );
    assert_eq!(
        declared_reply(Opcode::SpiRead, b"\x91\xce\xff\xff\xff\xff"),
        Some(u32::MAX)
    );
}

#[test]
fn the_list_survives() {
    let list = DeviceList {
        devs: vec![DeviceEntry {
            dev: "spi:spidev0.0".to_owned(),
            name: "flash".to_owned(),
            state: 1,
        }],
    };
    assert_eq!(DeviceList::decode(&list.encode().unwrap()), Ok(list));
    let state = b"\x81\xa4devs\x91\x83\xa3dev\xa1s\xa4name\xa0\xa5state\x04";
    assert_eq!(DeviceList::decode(state), Err(OpError::Field("state")));
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let lengths = (
        proptest::collection::vec(any::<u8>(), 0..9),
        any::<bool>(),
        0..9_u32,
    );
    let numbers = (
        any::<u32>(),
        any::<u16>(),
        any::<u8>(),
        any::<bool>(),
        any::<[u8; 3]>(),
    );
    (lengths, numbers).prop_map(|((tx, both, len), (hz, delay_us, bits, cs_change, more))| {
        let sent = u32::try_from(tx.len()).unwrap();
        let [tx_nbits, rx_nbits, word_delay_us] = more;
        let (rx_len, idle_len) = match (tx.is_empty(), both) {
            (false, true) => (sent, 0),
            (false, false) => (0, 0),
            (true, true) => (len, 0),
            (true, false) => (0, len),
        };
        Transfer {
            tx,
            rx_len,
            idle_len,
            hz,
            delay_us,
            bits,
            cs_change,
            tx_nbits,
            rx_nbits,
            word_delay_us,
        }
    })
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_within_the_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        if let Ok(transfers) = decode_transfer(&bytes) {
            prop_assert!((1..=MAX_TRANSFERS).contains(&transfers.len()));
            prop_assert!(transfers.iter().all(Transfer::is_consistent));
        }
        if let Ok(opened) = Opened::decode(&bytes) {
            prop_assert!(opened.ext.is_none_or(|ext| ext.flags & !mode::ALL == 0));
        }
        let _ = OpenRequest::decode(&bytes);
        let _ = Change::decode(&bytes);
        let _ = DeviceList::decode(&bytes);
        let _ = decode_received(&bytes, &[1, 2]);
        for opcode in [Opcode::SpiTransfer, Opcode::SpiRead] {
            let _ = declared_reply(opcode, &bytes);
        }
    }

    #[test]
    fn any_message_survives(transfers in proptest::collection::vec(transfer(), 1..20)) {
        let bytes = encode_transfer(&transfers);
        prop_assert_eq!(decode_transfer(&bytes), Ok(transfers));
    }

    #[test]
    fn any_mode_survives(bits in 0..0x8_0000_u32, before in 0..0x8_0000_u32) {
        let change = Change::of_mode(bits, true);
        prop_assert_eq!(change.mode_after(before), Some(bits));
        prop_assert_eq!(Change::decode(&change.encode().unwrap()), Ok(change));
    }
}
