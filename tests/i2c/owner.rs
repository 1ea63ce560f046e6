//! What the owner does for a peer.

use std::sync::Arc;

use myclerk::bus::Caller;
use myclerk::bus::i2c::fake::chips::{Checked, Eeprom, Lm75, Strict};
use myclerk::bus::i2c::fake::{FakeBus, FakeI2c};
use myclerk::bus::i2c::op::{
    BusEntry, BusList, How, Message, MessageFlags, ReadBlock, ReadByte, Scan, Scanned, Smbus,
    SmbusCommand, Transfer, WriteBlock, WriteByte, decode_data, encode_empty, ext,
};
use myclerk::bus::i2c::server::{Turns, wanted};
use myclerk::kernel::i2c_dev::func;
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;

use crate::rig::{CHECKED, EEPROM, LM75, STRICT, Why, ask, command, run, smbus, transfer};

const DEV: &str = "i2c:fake";

fn machine(bus: &FakeBus) -> FakeI2c {
    FakeI2c::new(std::slice::from_ref(bus))
}

fn flagged(mut message: Message, flags: MessageFlags) -> Message {
    message.flags = flags;
    message
}

#[test]
fn a_bus_is_listed_with_what_its_adapter_can_do() {
    run(async {
        let bus = FakeBus::new("fake").with_functionality(func::I2C);
        let session = machine(&bus).session();
        let answer = ask(&session, Opcode::I2cBusList, encode_empty()).await;
        let entry = BusEntry {
            dev: DEV.to_owned(),
            name: "fake".to_owned(),
            funcs: func::I2C,
            ext: ext::ALL,
        };
        let list = BusList { buses: vec![entry] };
        assert_eq!(BusList::decode(&answer.unwrap()), Ok(list));
    });
}

#[test]
fn a_transaction_has_one_stop_at_its_end() {
    run(async {
        let bus = FakeBus::new("fake").with(STRICT, Strict::default());
        let session = machine(&bus).session();
        let (point, read) = (Message::write(STRICT, [7]), Message::read(STRICT, 2));
        let both = transfer(&session, vec![point.clone(), read.clone()]).await;
        assert_eq!(both, Ok(vec![vec![Strict::value(7), Strict::value(8)]]));
        assert_eq!(bus.transactions(), 1);
        transfer(&session, vec![point.clone()]).await.unwrap();
        let apart = transfer(&session, vec![read.clone()]).await;
        assert_eq!(apart, Ok(vec![vec![Strict::WRONG; 2]]));
        // The chip is one that would tell: a stop in the middle makes it forget.
        let bus = bus.with_functionality(func::I2C | func::PROTOCOL_MANGLING);
        let stop = flagged(point, MessageFlags::STOP);
        let stopped = transfer(&session, vec![stop, read]).await;
        assert_eq!(stopped, Ok(vec![vec![Strict::WRONG; 2]]));
        assert_eq!(bus.interleaved(), 0);
    });
}

#[test]
fn an_eeprom_is_written_by_pages_and_read_in_sequence() {
    run(async {
        let eeprom = Eeprom::new(&[1, 2, 3]);
        eeprom.set_write_cycle(1);
        let bus = FakeBus::new("fake").with(EEPROM, eeprom.clone());
        let session = machine(&bus).session();
        let write = vec![Message::write(EEPROM, [6, 10, 11, 12])];
        transfer(&session, write.clone()).await.unwrap();
        assert_eq!(
            eeprom.content()[..9],
            [12, 2, 3, 0xFF, 0xFF, 0xFF, 10, 11, 0xFF]
        );
        let busy = transfer(&session, write).await;
        assert_eq!(busy, Err(Why::Bus(Errno::ENXIO)), "it is writing");
        let read = vec![Message::write(EEPROM, [6]), Message::read(EEPROM, 3)];
        let read = transfer(&session, read).await;
        assert_eq!(read, Ok(vec![vec![10, 11, 0xFF]]));
    });
}

#[test]
fn registers_are_read_and_written() {
    run(async {
        let (eeprom, lm75) = (Eeprom::new(&[]), Lm75::new(0x1980));
        let bus = FakeBus::new("fake")
            .with(EEPROM, eeprom.clone())
            .with(LM75, lm75.clone());
        let session = machine(&bus).session();
        let dev = DEV.to_owned();
        let byte = WriteByte {
            dev: dev.clone(),
            addr: EEPROM,
            reg: Some(3),
            value: 9,
        };
        let written = ask(&session, Opcode::I2cWriteByte, byte.encode()).await;
        assert_eq!(written, Ok(encode_empty()));
        let block = WriteBlock {
            dev: dev.clone(),
            addr: EEPROM,
            reg: None,
            data: vec![16, 1, 2],
        };
        ask(&session, Opcode::I2cWriteBlock, block.encode())
            .await
            .unwrap();
        let content = eeprom.content();
        assert_eq!((content[3], &content[16..18]), (9, &[1, 2][..]));
        let byte = ReadByte {
            dev: dev.clone(),
            addr: EEPROM,
            reg: Some(17),
        };
        let read = ask(&session, Opcode::I2cReadByte, byte.encode()).await;
        assert_eq!(ReadByte::decode_reply(&read.unwrap()), Ok(2));
        for temperature in [0x1980, -0x0A80] {
            lm75.set(temperature);
            let block = ReadBlock {
                dev: dev.clone(),
                addr: LM75,
                reg: Some(0),
                len: 2,
            };
            let read = ask(&session, Opcode::I2cReadBlock, block.encode()).await;
            let expected = temperature.to_be_bytes();
            assert_eq!(decode_data(&read.unwrap(), 2, 2), Ok(&expected[..]));
        }
    });
}

#[test]
fn smbus_transactions_are_checked_where_that_is_wanted() {
    run(async {
        let bus = FakeBus::new("fake")
            .with_functionality(func::I2C | func::SMBUS_EMUL | func::SMBUS_READ_BLOCK_DATA)
            .with(CHECKED, Checked::new(CHECKED))
            .with(CHECKED + 1, Checked::new(CHECKED + 1).broken());
        let session = machine(&bus).session();
        let with_pec = |addr, code, smbus| SmbusCommand {
            pec: true,
            ..command(addr, code, smbus)
        };
        let set = with_pec(CHECKED, 5, Smbus::WriteByte(0x77));
        assert_eq!(smbus(&session, &set).await, Ok(vec![]));
        let get = with_pec(CHECKED, 5, Smbus::ReadByte);
        assert_eq!(smbus(&session, &get).await, Ok(vec![0x77]));
        let block = with_pec(CHECKED, 0x83, Smbus::ReadBlock);
        assert_eq!(smbus(&session, &block).await, Ok(vec![1, 2, 3]));
        let broken = with_pec(CHECKED + 1, 5, Smbus::ReadByte);
        let answer = smbus(&session, &broken).await;
        assert_eq!(answer, Err(Why::Bus(Errno::EBADMSG)));
        let unchecked = command(CHECKED + 1, 5, Smbus::ReadByte);
        assert_eq!(smbus(&session, &unchecked).await, Ok(vec![0]));
    });
}

#[test]
fn an_adapter_that_only_knows_smbus_does_what_is_the_same_there() {
    run(async {
        let eeprom = Eeprom::new(&[5, 6, 7]);
        let bus = FakeBus::new("fake")
            .with_functionality(func::SMBUS_EMUL)
            .with(EEPROM, eeprom.clone());
        let session = machine(&bus).session();
        let read = |len| vec![Message::write(EEPROM, [0]), Message::read(EEPROM, len)];
        for len in [1, 2, 3] {
            let expected = eeprom.content()[..usize::from(len)].to_vec();
            assert_eq!(transfer(&session, read(len)).await, Ok(vec![expected]));
        }
        let write = vec![Message::write(EEPROM, [0, 1, 2, 3, 4])];
        assert_eq!(transfer(&session, write).await, Ok(vec![]));
        assert_eq!(eeprom.content()[..4], [1, 2, 3, 4]);
        let before = bus.transactions();
        let long = transfer(&session, read(33)).await;
        assert_eq!(long, Err(Why::Bus(Errno::EOPNOTSUPP)));
        assert_eq!(bus.transactions(), before, "nothing was tried");
    });
}

#[test]
fn what_an_adapter_cannot_do_is_not_tried() {
    run(async {
        let bus = FakeBus::new("fake").with(STRICT, Strict::default());
        let session = machine(&bus).session();
        for flag in [
            MessageFlags::TEN_BIT,
            MessageFlags::NO_START,
            MessageFlags::IGNORE_NAK,
            MessageFlags::RECV_LEN,
            MessageFlags::NO_READ_ACK,
            MessageFlags::REVERSED,
            MessageFlags::STOP,
        ] {
            let message = flagged(Message::read(STRICT, 1), flag);
            let answer = transfer(&session, vec![message]).await;
            assert_eq!(answer, Err(Why::Bus(Errno::EOPNOTSUPP)), "{flag:?}");
        }
        assert_eq!(bus.transactions(), 0);
        let able = func::I2C | func::PROTOCOL_MANGLING | func::NOSTART;
        let bus = bus.with_functionality(able);
        let nobody = flagged(Message::read(0x11, 2), MessageFlags::IGNORE_NAK);
        assert_eq!(
            transfer(&session, vec![nobody]).await,
            Ok(vec![vec![0xFF; 2]])
        );
        let on = flagged(Message::write(STRICT, [4]), MessageFlags::NO_START);
        let split = vec![Message::write(STRICT, [9]), on, Message::read(STRICT, 1)];
        let answer = transfer(&session, split).await;
        assert_eq!(answer, Ok(vec![vec![Strict::value(4)]]));
        assert_eq!(bus.interleaved(), 0);
    });
}

#[test]
fn what_the_bus_says_is_told_as_its_errno() {
    run(async {
        let bus = FakeBus::new("fake");
        let session = machine(&bus).session();
        let read = || transfer(&session, vec![Message::read(0x50, 1)]);
        assert_eq!(read().await, Err(Why::Bus(Errno::ENXIO)));
        for errno in [
            Errno::EBUSY,
            Errno::EAGAIN,
            Errno::EREMOTEIO,
            Errno::ETIMEDOUT,
        ] {
            bus.fail(errno);
            assert_eq!(read().await, Err(Why::Bus(errno)));
        }
        bus.unplug();
        assert_eq!(read().await, Err(Why::Sub("device-gone".to_owned())));
    });
}

#[test]
fn a_chip_that_a_driver_has_is_left_alone_except_by_raw_messages_and_force() {
    run(async {
        let bus = FakeBus::new("fake").with(EEPROM, Eeprom::new(&[4]));
        bus.drive(EEPROM);
        let session = machine(&bus).session();
        let busy = Err(Why::Bus(Errno::EBUSY));
        let get = command(EEPROM, 0, Smbus::ReadByte);
        assert_eq!(smbus(&session, &get).await, busy);
        let forced = SmbusCommand { force: true, ..get };
        assert_eq!(smbus(&session, &forced).await, Ok(vec![4]));
        let byte = ReadByte {
            dev: DEV.to_owned(),
            addr: EEPROM,
            reg: Some(0),
        };
        let read = ask(&session, Opcode::I2cReadByte, byte.encode()).await;
        assert_eq!(read, Err(Why::Bus(Errno::EBUSY)));
        let raw = vec![Message::write(EEPROM, [0]), Message::read(EEPROM, 1)];
        assert_eq!(transfer(&session, raw).await, Ok(vec![vec![4]]));
    });
}

#[test]
fn a_scan_finds_who_answers_and_leaves_driven_chips_in_peace() {
    run(async {
        let bus = FakeBus::new("fake")
            .with(LM75, Lm75::new(0))
            .with(EEPROM, Eeprom::new(&[]));
        bus.drive(0x60);
        let session = machine(&bus).session();
        let scan = |how| Scan {
            dev: DEV.to_owned(),
            first: 3,
            last: 0x77,
            how,
        };
        for how in [How::Quick, How::Read] {
            let payload = scan(how).encode().unwrap();
            let answer = ask(&session, Opcode::I2cBusScan, payload).await.unwrap();
            let addrs = vec![LM75, EEPROM, 0x60];
            assert_eq!(Scanned::decode(&answer), Ok(Scanned { addrs }));
        }
        // A bus that hangs or is busy says nothing about its chips.
        for errno in [Errno::ETIMEDOUT, Errno::EBUSY] {
            bus.fail(errno);
            let payload = scan(How::Quick).encode().unwrap();
            let hung = ask(&session, Opcode::I2cBusScan, payload).await;
            assert_eq!(hung, Err(Why::Bus(errno)));
        }
        let ten_bit = SmbusCommand {
            ten_bit: true,
            ..command(0x150, 2, Smbus::WriteByte(1))
        };
        let refused = ask(&session, Opcode::I2cSmbusCommand, ten_bit.encode()).await;
        assert_eq!(refused, Err(Why::Bus(Errno::EOPNOTSUPP)));
        let bus = bus.with_functionality(func::SMBUS_READ_BYTE);
        let payload = scan(How::Quick).encode().unwrap();
        let cannot = ask(&session, Opcode::I2cBusScan, payload).await;
        assert_eq!(cannot, Err(Why::Bus(Errno::EOPNOTSUPP)));
        assert_eq!(bus.interleaved(), 0);
    });
}

#[test]
fn transactions_of_two_clients_never_mix() {
    let bus = FakeBus::new("fake").with(STRICT, Strict::default());
    let (machine, turns) = (machine(&bus), Arc::new(Turns::default()));
    std::thread::scope(|scope| {
        for client in 0..2_u8 {
            let (machine, turns) = (machine.clone(), Arc::clone(&turns));
            let caller = Caller::default();
            scope.spawn(move || {
                for round in 0..100_u8 {
                    let register = client * 100 + round;
                    let request = Transfer {
                        dev: DEV.to_owned(),
                        messages: vec![
                            Message::write(STRICT, [register]),
                            Message::read(STRICT, 1),
                        ],
                    };
                    let answer = machine
                        .call(&turns, &caller, Opcode::I2cTransfer, &request.encode())
                        .unwrap();
                    let read = request.decode_reply(&answer).unwrap();
                    assert_eq!(read, [[Strict::value(register)]]);
                }
            });
        }
    });
    assert_eq!((bus.transactions(), bus.interleaved()), (200, 0));
}

#[test]
fn whoever_may_only_read_may_not_probe_or_write() {
    let write = |opcode, payload: Vec<u8>| wanted(opcode, &payload).unwrap().write;
    let of = |messages| {
        let dev = DEV.to_owned();
        Transfer { dev, messages }.encode()
    };
    let scan = Scan {
        dev: DEV.to_owned(),
        first: 3,
        last: 4,
        how: How::Read,
    };
    assert!(write(Opcode::I2cBusScan, scan.encode().unwrap()));
    let read = of(vec![Message::read(1, 1)]);
    assert!(!write(Opcode::I2cTransfer, read));
    assert!(write(Opcode::I2cTransfer, of(vec![Message::write(1, [])])));
    let smbus = |smbus| command(1, 2, smbus).encode();
    assert!(!write(Opcode::I2cSmbusCommand, smbus(Smbus::ReadWord)));
    for changes in [
        Smbus::Quick { read: true },
        Smbus::SendByte,
        Smbus::ProcessCall(1),
        Smbus::WriteI2cBlock(vec![1]),
        Smbus::ReadI2cBlock(0),
    ] {
        assert!(write(Opcode::I2cSmbusCommand, smbus(changes)));
    }
    assert!(wanted(Opcode::I2cTransfer, b"\x90").is_err());
    assert!(wanted(Opcode::I2cBusList, b"").is_err());
}

#[test]
fn what_a_session_that_is_over_has_asked_for_is_not_begun() {
    let bus = FakeBus::new("fake").with(STRICT, Strict::default());
    let caller = Caller::default();
    let request = Transfer {
        dev: DEV.to_owned(),
        messages: vec![Message::write(STRICT, [1])],
    };
    let ask = || {
        let (machine, turns) = (machine(&bus), Turns::default());
        machine.call(&turns, &caller, Opcode::I2cTransfer, &request.encode())
    };
    assert!(ask().is_ok());
    caller.leave();
    assert_eq!(ask().map_err(|refused| refused.sub), Err("cancelled"));
    assert_eq!(bus.transactions(), 1);
}
