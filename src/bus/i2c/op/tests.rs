use proptest::prelude::*;

use super::*;

fn transfer(messages: Vec<Message>) -> Transfer {
    Transfer {
        dev: "i2c:b".to_owned(),
        messages,
    }
}

fn flagged(mut message: Message, flags: MessageFlags) -> Message {
    message.flags = flags;
    message
}

fn command(smbus: Smbus) -> SmbusCommand {
    SmbusCommand {
        dev: "i2c:b".to_owned(),
        addr: 0x48,
        ten_bit: false,
        force: false,
        pec: true,
        command: 7,
        smbus,
    }
}

#[test]
fn a_transaction_has_its_bytes() {
    let request = transfer(vec![
        Message::write(0x50, [0x10]),
        flagged(Message::read(0x3FF, 256), MessageFlags::TEN_BIT),
    ]);
    let bytes = b"\x92\xa5i2c:b\x92\x93\x50\x00\xc4\x01\x10\x93\xcd\x03\xff\x03\xcd\x01\x00";
    assert_eq!(request.encode(), bytes);
    assert_eq!(Transfer::decode(bytes), Ok(request));
}

#[test]
fn the_answer_to_a_transaction_is_what_was_asked_for() {
    let request = transfer(vec![
        Message::read(0x50, 2),
        Message::write(0x50, [1]),
        Message::read(0x51, 1),
    ]);
    let reads = vec![vec![1, 2], vec![3]];
    let answer = Transfer::encode_reply(&reads);
    assert_eq!(answer, b"\x91\x92\xc4\x02\x01\x02\xc4\x01\x03");
    assert_eq!(request.decode_reply(&answer), Ok(reads));
    for wrong in [
        vec![],
        vec![vec![1, 2]],
        vec![vec![1, 2, 3], vec![3]],
        vec![vec![1], vec![3]],
        vec![vec![1, 2], vec![3], vec![]],
    ] {
        let answer = Transfer::encode_reply(&wrong);
        assert!(request.decode_reply(&answer).is_err(), "{wrong:?}");
    }
    assert!(request.declared_reply() as usize >= answer.len());
}

#[test]
fn a_block_that_says_its_own_length_brings_at_most_32_bytes_more() {
    let read = flagged(Message::read(0x50, 2), MessageFlags::RECV_LEN);
    let request = transfer(vec![read.clone()]);
    assert_eq!(Transfer::decode(&request.encode()), Ok(request.clone()));
    for (len, fits) in [(1, false), (2, true), (34, true), (35, false)] {
        let answer = Transfer::encode_reply(&[vec![0; len]]);
        assert_eq!(request.decode_reply(&answer).is_ok(), fits, "{len}");
    }
    assert_eq!(read.flags.beyond(), MessageFlags::RECV_LEN);
    assert_eq!(MessageFlags::NO_START.beyond(), MessageFlags::NONE);
}

#[test]
fn transactions_that_cannot_be_are_refused() {
    let write = |len: usize| Message::write(1, vec![0; len]);
    let most = usize::from(MAX_LENGTH);
    for (messages, field) in [
        (vec![], "messages"),
        (vec![write(1); MAX_MESSAGES + 1], "messages"),
        (vec![write(most + 1)], "bin"),
        (vec![Message::read(1, MAX_LENGTH + 1)], "len"),
        (vec![Message::read(0x80, 1)], "addr"),
        (
            vec![flagged(Message::read(0x400, 1), MessageFlags::TEN_BIT)],
            "addr",
        ),
        (vec![flagged(write(1), MessageFlags::RECV_LEN)], "flags"),
        (
            vec![flagged(Message::read(1, 0), MessageFlags::RECV_LEN)],
            "len",
        ),
    ] {
        let bytes = transfer(messages).encode();
        assert_eq!(Transfer::decode(&bytes), Err(OpError::Field(field)));
    }
    let largest = transfer(vec![write(most); MAX_MESSAGES]);
    assert_eq!(Transfer::decode(&largest.encode()), Ok(largest));
    for dev in [String::new(), "d".repeat(65)] {
        let request = Transfer {
            dev,
            messages: vec![write(1)],
        };
        let decoded = Transfer::decode(&request.encode());
        assert_eq!(decoded, Err(OpError::Field("dev")));
    }
}

#[test]
fn who_may_only_read_may_say_from_which_register() {
    let (set, read) = (Message::write(0x50, [1]), Message::read(0x50, 4));
    for (messages, only_reads) in [
        (vec![read.clone()], true),
        (vec![set.clone(), read.clone()], true),
        (vec![read.clone(), read.clone()], true),
        (vec![Message::read(0x50, 0)], false),
        (vec![set.clone()], false),
        (vec![Message::write(0x50, [1, 2]), read.clone()], false),
        (vec![set.clone(), Message::read(0x51, 4)], false),
        (vec![set.clone(), read.clone(), read.clone()], false),
        (vec![set.clone(), Message::read(0x50, 0)], false),
        (vec![flagged(set, MessageFlags::STOP), read.clone()], false),
        (vec![flagged(read, MessageFlags::REVERSED)], false),
    ] {
        let request = transfer(messages);
        assert_eq!(request.only_reads(), only_reads, "{request:?}");
    }
}

#[test]
fn accesses_to_registers_have_their_bytes() {
    let (dev, addr) = ("b".to_owned(), 0x50);
    let request = WriteByte {
        dev: dev.clone(),
        addr,
        reg: Some(1),
        value: 200,
    };
    assert_eq!(request.encode(), b"\x94\xa1b\x50\x01\xcc\xc8");
    assert_eq!(WriteByte::decode(&request.encode()), Ok(request));
    let request = ReadByte {
        dev: dev.clone(),
        addr,
        reg: None,
    };
    assert_eq!(request.encode(), b"\x93\xa1b\x50\xc0");
    assert_eq!(ReadByte::decode(&request.encode()), Ok(request));
    assert_eq!(
        ReadByte::decode_reply(&ReadByte::encode_reply(255)),
        Ok(255)
    );
    assert!(ReadByte::decode_reply(b"\x91\xcd\x01\x00").is_err());
    let request = WriteBlock {
        dev: dev.clone(),
        addr,
        reg: None,
        data: vec![9],
    };
    assert_eq!(request.encode(), b"\x94\xa1b\x50\xc0\xc4\x01\x09");
    assert_eq!(WriteBlock::decode(&request.encode()), Ok(request.clone()));
    let most = WriteBlock {
        reg: Some(0),
        data: vec![0; usize::from(MAX_LENGTH)],
        ..request
    };
    assert_eq!(
        WriteBlock::decode(&most.encode()),
        Err(OpError::Field("bin"))
    );
    let request = ReadBlock {
        dev,
        addr,
        reg: Some(2),
        len: MAX_LENGTH,
    };
    assert_eq!(request.encode(), b"\x94\xa1b\x50\x02\xcd\x20\x00");
    assert_eq!(ReadBlock::decode(&request.encode()), Ok(request.clone()));
    let longer = ReadBlock {
        len: MAX_LENGTH + 1,
        ..request.clone()
    };
    assert_eq!(
        ReadBlock::decode(&longer.encode()),
        Err(OpError::Field("len"))
    );
    let elsewhere = ReadBlock {
        addr: 0x80,
        ..request
    };
    assert_eq!(
        ReadBlock::decode(&elsewhere.encode()),
        Err(OpError::Field("addr"))
    );
}

#[test]
fn every_smbus_protocol_survives_and_has_its_number() {
    let block = vec![1, 2, 3];
    for (smbus, rw, protocol, data) in [
        (Smbus::Quick { read: true }, 0, 0, &[][..]),
        (Smbus::Quick { read: false }, 1, 0, &[]),
        (Smbus::ReceiveByte, 0, 1, &[]),
        (Smbus::SendByte, 1, 1, &[]),
        (Smbus::ReadByte, 0, 2, &[]),
        (Smbus::WriteByte(5), 1, 2, &[5]),
        (Smbus::ReadWord, 0, 3, &[]),
        (Smbus::WriteWord(0x1234), 1, 3, &[0x34, 0x12]),
        (Smbus::ProcessCall(1), 1, 4, &[1, 0]),
        (Smbus::ReadBlock, 0, 5, &[]),
        (Smbus::WriteBlock(block.clone()), 1, 5, &[1, 2, 3]),
        (Smbus::BlockProcessCall(block.clone()), 1, 7, &[1, 2, 3]),
        (Smbus::ReadI2cBlock(32), 0, 8, &[32]),
        (Smbus::WriteI2cBlock(block.clone()), 1, 8, &[1, 2, 3]),
    ] {
        let request = command(smbus);
        let bytes = request.encode();
        let mut expected = b"\x96\xa5i2c:b\x48".to_vec();
        expected.extend([rw, 7, protocol | 16, 0xC4]);
        expected.push(u8::try_from(data.len()).unwrap());
        expected.extend(data);
        assert_eq!(bytes, expected);
        assert_eq!(SmbusCommand::decode(&bytes), Ok(request));
    }
}

#[test]
fn smbus_data_that_does_not_fit_the_protocol_is_refused() {
    let with = |rw: u8, protocol: u8, data: &[u8]| {
        let mut bytes = b"\x96\xa1b\x48".to_vec();
        bytes.extend([rw, 7, protocol, 0xC4]);
        bytes.push(u8::try_from(data.len()).unwrap());
        bytes.extend(data);
        SmbusCommand::decode(&bytes)
    };
    assert!(with(1, 5, &[0; MAX_BLOCK]).is_ok());
    for (rw, protocol, data, field) in [
        (0, 0, &[1][..], "data"),
        (1, 2, &[], "data"),
        (1, 2, &[1, 2], "data"),
        (0, 3, &[1, 2], "data"),
        (1, 3, &[1], "data"),
        (0, 4, &[1], "data"),
        (1, 5, &[0; MAX_BLOCK + 1], "data"),
        (0, 7, &[0; MAX_BLOCK + 1], "data"),
        (0, 8, &[33], "data"),
        (0, 8, &[], "data"),
        (1, 6, &[1], "protocol"),
        (1, 9, &[1], "protocol"),
        (2, 1, &[], "rw"),
    ] {
        assert_eq!(with(rw, protocol, data), Err(OpError::Field(field)));
    }
    let ten = SmbusCommand {
        addr: 0x3FF,
        ten_bit: true,
        force: true,
        ..command(Smbus::ReadByte)
    };
    assert_eq!(SmbusCommand::decode(&ten.encode()), Ok(ten.clone()));
    let seven = SmbusCommand {
        ten_bit: false,
        ..ten
    };
    assert_eq!(
        SmbusCommand::decode(&seven.encode()),
        Err(OpError::Field("addr"))
    );
}

#[test]
fn lists_and_scans_have_their_bytes_and_bounds() {
    let list = BusList {
        buses: vec![BusEntry {
            dev: "i2c:b".to_owned(),
            name: "adapter".to_owned(),
            funcs: 1,
            ext: 0,
        }],
    };
    let bytes = b"\x81\xa5buses\x91\x83\xa3dev\xa5i2c:b\xa4name\xa7adapter\xa5funcs\x01";
    assert_eq!(list.encode().unwrap(), bytes);
    assert_eq!(BusList::decode(bytes), Ok(list.clone()));
    for name in ["n".repeat(MAX_NAME + 1), "a\nb".to_owned()] {
        let mut wrong = list.clone();
        wrong.buses[0].name = name;
        let bytes = wrong.encode().unwrap();
        assert_eq!(BusList::decode(&bytes), Err(OpError::Field("name")));
    }
    let scan = |first, last| Scan {
        dev: "b".to_owned(),
        first,
        last,
        how: How::Read,
    };
    let bytes = b"\x84\xa3dev\xa1b\xa3how\x01\xa4last\x77\xa5first\x03";
    assert_eq!(scan(3, 0x77).encode().unwrap(), bytes);
    assert_eq!(Scan::decode(bytes), Ok(scan(3, 0x77)));
    for (scan, field) in [(scan(3, 0x80), "addr"), (scan(4, 3), "first")] {
        let bytes = scan.encode().unwrap();
        assert_eq!(Scan::decode(&bytes), Err(OpError::Field(field)));
    }
    for (addrs, fits) in [
        (vec![0, 3, 0x7F], true),
        (vec![3, 3], false),
        (vec![4, 3], false),
        (vec![0x80], false),
        (vec![0xFFFF], false),
    ] {
        let bytes = Scanned { addrs }.encode().unwrap();
        assert_eq!(Scanned::decode(&bytes).is_ok(), fits);
    }
}

#[test]
fn only_operations_that_bring_much_declare_how_much() {
    let read = ReadBlock {
        dev: "b".to_owned(),
        addr: 1,
        reg: None,
        len: 8192,
    };
    let declared = declared_reply(Opcode::I2cReadBlock, &read.encode());
    assert!(declared.unwrap() as usize >= encode_data(&[0; 8192]).len());
    let request = transfer(vec![Message::read(1, 8192); MAX_MESSAGES]);
    let declared = declared_reply(Opcode::I2cTransfer, &request.encode());
    let answer = Transfer::encode_reply(&vec![vec![0; 8192]; MAX_MESSAGES]);
    assert!(declared.unwrap() as usize >= answer.len());
    assert_eq!(declared_reply(Opcode::I2cTransfer, b"\x90"), None);
    assert_eq!(declared_reply(Opcode::I2cReadByte, b""), None);
}

fn any_message() -> impl Strategy<Value = Message> {
    let data = proptest::collection::vec(any::<u8>(), 0..300);
    let write = (0..=MAX_ADDRESS, data).prop_map(|(addr, data)| Message::write(addr, data));
    let read = (0..=MAX_ADDRESS, 0..=MAX_LENGTH).prop_map(|(addr, len)| Message::read(addr, len));
    let flags = (0..8_u8).prop_map(|bits| MessageFlags::from_bits(bits << 1));
    (prop_oneof![write, read], flags).prop_map(|(message, flags)| flagged(message, flags))
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_within_the_bounds(
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
    ) {
        if let Ok(request) = Transfer::decode(&bytes) {
            prop_assert!((1..=MAX_MESSAGES).contains(&request.messages.len()));
            let all_fit = request.messages.iter().all(|message| message.addr <= MAX_TEN_BIT_ADDRESS);
            prop_assert!(all_fit);
        }
        let _ = BusList::decode(&bytes);
        let _ = Scan::decode(&bytes);
        let _ = Scanned::decode(&bytes);
        let _ = WriteByte::decode(&bytes);
        let _ = ReadByte::decode(&bytes);
        let _ = ReadByte::decode_reply(&bytes);
        let _ = WriteBlock::decode(&bytes);
        let _ = ReadBlock::decode(&bytes);
        let _ = SmbusCommand::decode(&bytes);
        let _ = decode_data(&bytes, 0, 32);
    }

    #[test]
    fn any_transaction_survives_and_a_cut_one_is_refused(
        messages in proptest::collection::vec(any_message(), 1..=MAX_MESSAGES),
        cut in 1..1000_usize,
    ) {
        let request = transfer(messages);
        let bytes = request.encode();
        prop_assert_eq!(Transfer::decode(&bytes), Ok(request));
        let shorter = &bytes[..bytes.len().saturating_sub(cut)];
        prop_assert!(Transfer::decode(shorter).is_err());
    }

    #[test]
    fn any_answer_is_refused_or_as_long_as_asked_for(
        lengths in proptest::collection::vec(0..20_u16, 0..4),
        brought in proptest::collection::vec(0..20_usize, 0..4),
    ) {
        let messages = lengths.iter().map(|len| Message::read(1, *len)).collect();
        let answer = Transfer::encode_reply(
            &brought.iter().map(|len| vec![0; *len]).collect::<Vec<_>>(),
        );
        let same = lengths.iter().map(|len| usize::from(*len)).eq(brought.iter().copied());
        prop_assert_eq!(transfer(messages).decode_reply(&answer).is_ok(), same);
    }
}
