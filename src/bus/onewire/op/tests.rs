use proptest::prelude::*;

use super::*;

fn some_rom() -> Rom {
    Rom::new(0x28, 0x0000_055C_4E1F)
}

#[test]
fn a_crc_is_that_of_the_application_note() {
    // Maxim application note 27: the ROM code 02 1C B8 01 00 00 00 has the CRC A2.
    let bytes = [0x02, 0x1C, 0xB8, 0x01, 0x00, 0x00, 0x00];
    assert_eq!(crc8(&bytes), 0xA2);
    assert_eq!(crc8(&[&bytes[..], &[0xA2]].concat()), 0);
}

#[test]
fn an_empty_bus_never_reads_as_a_valid_scratchpad() {
    assert_ne!(crc8(&[0xFF; 8]), 0xFF);
    // Zeros do: they must not be made up for what could not be read.
    assert_eq!(crc8(&[0; 8]), 0);
}

#[test]
fn a_rom_is_named_as_the_kernel_names_it() {
    let rom = some_rom();
    assert_eq!(rom.to_string(), "28-0000055c4e1f");
    assert_eq!(rom.0[..7], [0x28, 0x1F, 0x4E, 0x5C, 0x05, 0x00, 0x00]);
    assert!(rom.is_valid());
    let mut broken = rom;
    broken.0[3] ^= 1;
    assert!(!broken.is_valid());
}

#[test]
fn a_ds28e04_may_have_another_address_than_its_crc_says() {
    let mut rom = Rom::new(0x1C, 0x1234_567F);
    rom.0[1] = 0x03;
    assert!(rom.is_valid());
    rom.0[1] = 0x80;
    assert!(!rom.is_valid());
    let mut other = Rom::new(0x28, 0x1234_567F);
    other.0[1] = 0x03;
    assert!(!other.is_valid());
}

#[test]
fn the_operations_have_their_bytes() {
    let dev = "onewire:a".to_owned();
    let name = b"\xa9onewire:a";
    let rom = some_rom();
    let code = [&b"\xc4\x08"[..], &rom.0].concat();
    let bytes = |parts: &[&[u8]]| parts.concat();

    let search = Search {
        dev: dev.clone(),
        alarm: true,
    };
    let expected = bytes(&[b"\x92", name, b"\xc3"]);
    assert_eq!(search.encode(), expected);
    assert_eq!(Search::decode(&expected), Ok(search));

    let found = Found { roms: vec![rom] };
    let expected = bytes(&[b"\x91\x91", &code]);
    assert_eq!(found.encode(), expected);
    assert_eq!(Found::decode(&expected), Ok(found));

    let read = Read {
        dev: dev.clone(),
        count: 9,
        select: Some(Select::Rom(rom)),
        before: vec![0xBE],
    };
    let expected = bytes(&[b"\x94", name, b"\x09", &code, b"\xc4\x01\xbe"]);
    assert_eq!(read.encode(), expected);
    assert_eq!(Read::decode(&expected), Ok(read));

    let write = Write {
        dev: dev.clone(),
        data: vec![0x44],
        select: Some(Select::Skip),
        pullup_ms: 750,
    };
    let expected = bytes(&[b"\x94", name, b"\xc4\x01\x44\xc3\xcd\x02\xee"]);
    assert_eq!(write.encode(), expected);
    assert_eq!(Write::decode(&expected), Ok(write));

    let matched = MatchRom {
        dev: dev.clone(),
        rom,
    };
    let expected = bytes(&[b"\x92", name, &code]);
    assert_eq!(matched.encode(), expected);
    assert_eq!(MatchRom::decode(&expected), Ok(matched));

    let reset = BusRequest { dev };
    let expected = bytes(&[b"\x91", name]);
    assert_eq!(reset.encode(), expected);
    assert_eq!(BusRequest::decode(&expected), Ok(reset));
    assert_eq!(Presence { present: true }.encode(), b"\x91\xc3");
    assert_eq!(
        Presence::decode(b"\x91\xc2"),
        Ok(Presence { present: false })
    );
    assert_eq!(RomAnswer { rom }.encode(), bytes(&[b"\x91", &code]));
}

#[test]
fn what_is_not_needed_is_not_sent() {
    let read = Read {
        dev: "onewire:a".to_owned(),
        count: 1,
        select: None,
        before: Vec::new(),
    };
    assert_eq!(read.encode(), b"\x92\xa9onewire:a\x01");
    assert_eq!(Read::decode(&read.encode()), Ok(read.clone()));
    // Bytes without an address continue a transaction.
    let read = Read {
        before: vec![1],
        ..read
    };
    assert_eq!(read.encode(), b"\x94\xa9onewire:a\x01\xc0\xc4\x01\x01");
    assert_eq!(Read::decode(&read.encode()), Ok(read));
    let write = Write {
        dev: "onewire:a".to_owned(),
        data: vec![1],
        select: None,
        pullup_ms: 0,
    };
    assert_eq!(write.encode(), b"\x92\xa9onewire:a\xc4\x01\x01");
    assert_eq!(Write::decode(&write.encode()), Ok(write));
}

#[test]
fn the_list_says_what_an_owner_can_do_only_if_it_can() {
    let mut list = BusList {
        buses: vec![BusEntry {
            dev: "onewire:a".to_owned(),
            name: "w1".to_owned(),
            wr: true,
        }],
    };
    let bytes = list.encode().unwrap();
    assert_eq!(BusList::decode(&bytes), Ok(list.clone()));
    list.buses[0].wr = false;
    let bytes = list.encode().unwrap();
    assert!(!bytes.windows(2).any(|window| window == b"wr"));
    assert_eq!(BusList::decode(&bytes), Ok(list.clone()));
    list.buses[0].name = "a\nb".to_owned();
    let bytes = list.encode().unwrap();
    assert_eq!(BusList::decode(&bytes), Err(OpError::Field("name")));
}

#[test]
fn a_wrong_crc_is_refused_wherever_a_code_stands() {
    let mut rom = some_rom();
    rom.0[7] ^= 0x10;
    let dev = "onewire:a".to_owned();
    let found = Found { roms: vec![rom] };
    assert_eq!(Found::decode(&found.encode()), Err(OpError::Crc(rom)));
    let matched = MatchRom {
        dev: dev.clone(),
        rom,
    };
    assert_eq!(MatchRom::decode(&matched.encode()), Err(OpError::Crc(rom)));
    let answer = RomAnswer { rom };
    assert_eq!(RomAnswer::decode(&answer.encode()), Err(OpError::Crc(rom)));
    let read = Read {
        dev,
        count: 1,
        select: Some(Select::Rom(rom)),
        before: Vec::new(),
    };
    assert_eq!(Read::decode(&read.encode()), Err(OpError::Crc(rom)));
}

#[test]
fn fields_outside_their_range_are_named() {
    let read = |dev: &str, count, before: usize| Read {
        dev: dev.to_owned(),
        count,
        select: None,
        before: vec![0; before],
    };
    for (field, request) in [
        ("dev", read("", 1, 0)),
        ("dev", read(&"d".repeat(65), 1, 0)),
        ("n", read("onewire:a", 0, 0)),
        ("n", read("onewire:a", MAX_DATA + 1, 0)),
        ("bin", read("onewire:a", 1, MAX_DATA + 1)),
    ] {
        let decoded = Read::decode(&request.encode());
        assert_eq!(decoded, Err(OpError::Field(field)));
    }
    let write = |count, pullup_ms| Write {
        dev: "onewire:a".to_owned(),
        data: vec![0; count],
        select: None,
        pullup_ms,
    };
    for (field, request) in [
        ("bin", write(0, 0)),
        ("bin", write(MAX_DATA + 1, 0)),
        ("pullup-ms", write(1, MAX_PULLUP_MS + 1)),
    ] {
        let decoded = Write::decode(&request.encode());
        assert_eq!(decoded, Err(OpError::Field(field)));
    }
    let no_select = b"\x93\xa9onewire:a\x01\xc2";
    assert_eq!(Read::decode(no_select), Err(OpError::Field("select")));
    let short_code = b"\x93\xa9onewire:a\x01\xc4\x01\x28";
    assert_eq!(Read::decode(short_code), Err(OpError::Field("rom")));
}

#[test]
fn an_answer_of_another_length_is_none() {
    let data = Data {
        data: vec![1, 2, 3],
    };
    let bytes = data.encode();
    assert_eq!(bytes, b"\x91\xc4\x03\x01\x02\x03");
    assert_eq!(Data::decode(&bytes, 3), Ok(data));
    assert_eq!(Data::decode(&bytes, 2), Err(OpError::Field("bin")));
    assert_eq!(Data::decode(&bytes, 4), Err(OpError::Field("bin")));
}

#[test]
fn more_devices_than_a_bus_can_have_are_refused() {
    let roms = vec![some_rom(); MAX_FOUND + 1];
    let mut bytes = b"\x91\xdc\x04\x01".to_vec();
    for rom in &roms {
        bytes.extend_from_slice(b"\xc4\x08");
        bytes.extend_from_slice(&rom.0);
    }
    assert_eq!(Found::decode(&bytes), Err(OpError::Field("roms")));
    // Our own are cut.
    let cut = Found::decode(&Found { roms }.encode()).unwrap();
    assert_eq!(cut.roms.len(), MAX_FOUND);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_within_the_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
    ) {
        if let Ok(read) = Read::decode(&bytes) {
            prop_assert!(read.count <= MAX_DATA && read.before.len() <= MAX_DATA);
        }
        if let Ok(write) = Write::decode(&bytes) {
            prop_assert!(!write.data.is_empty());
        }
        if let Ok(found) = Found::decode(&bytes) {
            prop_assert!(found.roms.into_iter().all(Rom::is_valid));
        }
        let _ = (Search::decode(&bytes), MatchRom::decode(&bytes), BusRequest::decode(&bytes));
        let _ = (Presence::decode(&bytes), RomAnswer::decode(&bytes), Data::decode(&bytes, 4));
        let _ = BusList::decode(&bytes);
    }

    #[test]
    fn any_transfer_survives(
        count in 1..=MAX_DATA,
        before in proptest::collection::vec(any::<u8>(), 0..32),
        number in 0..1_u64 << 48,
        how in 0..3,
    ) {
        let select = match how {
            0 => None,
            1 => Some(Select::Skip),
            _ => Some(Select::Rom(Rom::new(0x28, number))),
        };
        let dev = "onewire:a".to_owned();
        let read = Read { dev, count, select, before };
        prop_assert_eq!(Read::decode(&read.encode()), Ok(read));
    }
}
