//! The half that has the bus.

use std::time::Duration;

use myclerk::bus::Caller;
use myclerk::bus::onewire::fake::Chip;
use myclerk::bus::onewire::op::{
    BusList, Found, MAX_PULLUP_MS, Rom, RomAnswer, Search, Select, Write, crc8,
};
use myclerk::bus::onewire::server::{OWNED, listing, wanted};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;

use crate::rig::{Bench, DEV, bus, present};

fn thermometers(count: u64) -> (Bench, Vec<Rom>) {
    let chips: Vec<_> = (1..=count).map(Chip::ds18b20).collect();
    let roms = chips.iter().map(Chip::rom).collect();
    (Bench::new(chips), roms)
}

fn search(bench: &Bench, caller: &Caller, alarm: bool) -> Vec<Rom> {
    let dev = DEV.to_owned();
    let request = Search { dev, alarm }.encode();
    let answer = bench.call(caller, Opcode::OnewireSearch, &request);
    Found::decode(&answer.unwrap()).unwrap().roms
}

#[test]
fn a_scratchpad_is_read_in_one_operation() {
    let (bench, roms) = thermometers(3);
    let caller = Caller::default();
    let select = Some(Select::Rom(roms[1]));
    bench.bus.thermometer(roms[1], |chip| chip.warmth = 500);
    bench.write(&caller, select, &[0x44]).unwrap();
    let scratchpad = bench.read(&caller, select, &[0xBE], 9).unwrap();
    assert_eq!(crc8(&scratchpad), 0);
    assert_eq!(scratchpad[..2], 500_i16.to_le_bytes());
    assert_eq!(bench.bus.log().len(), 2);
}

#[test]
fn a_transaction_is_the_sessions_until_a_second_has_passed() {
    let (bench, roms) = thermometers(2);
    let (one, other) = (Caller::default(), Caller::default());
    assert_eq!(bench.reset(&one), Ok(true));
    for _ in 0..3 {
        bench.passes(Duration::from_millis(900));
        let busy = bench.reset(&other).unwrap_err();
        assert_eq!(
            (busy.status, busy.sub),
            (Status::ServiceUnavailable, sub::BUSY)
        );
        let select = Some(Select::Rom(roms[0]));
        assert_eq!(
            bench.read(&other, select, &[0xBE], 9).unwrap_err().sub,
            sub::BUSY
        );
        // Each operation of its own makes it go on.
        bench.address(&one, roms[0]).unwrap();
    }
    bench.passes(Duration::from_millis(1001));
    // It is over for both.
    assert_eq!(bench.write(&one, None, &[0x44]).unwrap_err().sub, sub::BUSY);
    assert_eq!(bench.reset(&other), Ok(true));
    assert_eq!(bench.write(&one, None, &[0x44]).unwrap_err().sub, sub::BUSY);
}

#[test]
fn a_transaction_ends_with_its_session() {
    let (bench, _) = thermometers(1);
    let (one, other) = (Caller::default(), Caller::default());
    bench.reset(&one).unwrap();
    assert!(bench.reset(&other).is_err());
    one.leave();
    assert_eq!(bench.reset(&other), Ok(true));
}

#[test]
fn step_by_step_is_the_same() {
    let (bench, roms) = thermometers(2);
    let caller = Caller::default();
    bench.reset(&caller).unwrap();
    bench.address(&caller, roms[0]).unwrap();
    bench.write(&caller, None, &[0xBE]).unwrap();
    let scratchpad = bench.read(&caller, None, &[], 9).unwrap();
    assert_eq!(crc8(&scratchpad), 0);
    // All at once: only what they agree on can be read.
    bench.reset(&caller).unwrap();
    bench.call(&caller, Opcode::OnewireSkipRom, &bus()).unwrap();
    bench.write(&caller, None, &[0xB4]).unwrap();
    assert_eq!(bench.read(&caller, None, &[], 1), Ok(vec![0xFF]));
}

#[test]
fn what_an_operation_with_an_address_began_goes_on_while_nobody_else_does_anything() {
    let chip = Chip::memory(1, b"abcdef");
    let rom = chip.rom();
    let bench = Bench::new([chip]);
    let (one, other) = (Caller::default(), Caller::default());
    let select = Some(Select::Rom(rom));
    bench.write(&one, select, &[0xF0, 0, 0]).unwrap();
    assert_eq!(bench.read(&one, None, &[], 2).unwrap(), b"ab");
    // It keeps nobody out ...
    let read = bench.read(&other, select, &[0xF0, 4, 0], 2);
    assert_eq!(read.unwrap(), b"ef");
    // ... and is over then.
    assert_eq!(bench.read(&one, None, &[], 1).unwrap_err().sub, sub::BUSY);
    bench.write(&one, select, &[0xF0, 0, 0]).unwrap();
    search(&bench, &other, false);
    assert_eq!(bench.read(&one, None, &[], 1).unwrap_err().sub, sub::BUSY);
}

#[test]
fn searches_find_all_or_those_with_an_alarm() {
    let (bench, roms) = thermometers(4);
    let caller = Caller::default();
    assert_eq!(search(&bench, &caller, false), roms);
    for (rom, warmth) in roms.iter().zip([72 * 16, 72 * 16, 99 * 16, 72 * 16]) {
        bench.bus.thermometer(*rom, |chip| chip.warmth = warmth);
        let select = Some(Select::Rom(*rom));
        bench.write(&caller, select, &[0x44]).unwrap();
    }
    assert_eq!(search(&bench, &caller, true), [roms[2]]);
}

#[test]
fn an_only_device_says_who_it_is_and_several_are_told_apart_from_it() {
    let (bench, roms) = thermometers(1);
    let caller = Caller::default();
    bench.reset(&caller).unwrap();
    let answer = bench.call(&caller, Opcode::OnewireReadRom, &bus()).unwrap();
    assert_eq!(RomAnswer::decode(&answer).unwrap().rom, roms[0]);
    bench.bus.add(Chip::ds18b20(6));
    bench.reset(&caller).unwrap();
    let refused = bench.call(&caller, Opcode::OnewireReadRom, &bus());
    assert_eq!(refused.unwrap_err().errno, Some(Errno::EIO));
}

#[test]
fn an_empty_bus_is_told_as_one() {
    let bench = Bench::new([]);
    let caller = Caller::default();
    assert_eq!(bench.reset(&caller), Ok(false));
    let refused = bench.read(&caller, Some(Select::Skip), &[0xBE], 9);
    assert_eq!(refused.unwrap_err().errno, Some(Errno::ENXIO));
    assert!(search(&bench, &caller, false).is_empty());
    bench.bus.unplug();
    let refused = bench.reset(&caller).unwrap_err();
    assert_eq!(refused.sub, sub::DEVICE_GONE);
}

#[test]
fn a_strong_pull_up_is_refused_before_anything_is_written() {
    let (bench, roms) = thermometers(1);
    let request = Write {
        dev: DEV.to_owned(),
        data: vec![0x44],
        select: Some(Select::Rom(roms[0])),
        pullup_ms: MAX_PULLUP_MS,
    };
    let refused = bench.call(&Caller::default(), Opcode::OnewireWrite, &request.encode());
    assert_eq!(refused.unwrap_err().sub, sub::UNSUPPORTED);
    assert!(bench.bus.log().is_empty());
}

#[test]
fn what_writes_needs_the_right_to_write() {
    let dev = || DEV.to_owned();
    let needs_write = |opcode, payload: &[u8]| wanted(opcode, payload).unwrap().write;
    let (alarm, rom) = (false, Rom::new(0x28, 1));
    assert!(!needs_write(
        Opcode::OnewireSearch,
        &Search { dev: dev(), alarm }.encode()
    ));
    assert!(!needs_write(Opcode::OnewireReadRom, &bus()));
    assert!(needs_write(Opcode::OnewireReset, &bus()));
    assert!(needs_write(Opcode::OnewireSkipRom, &bus()));
    let read = |before: &[u8]| {
        myclerk::bus::onewire::op::Read {
            dev: dev(),
            count: 1,
            select: Some(Select::Rom(rom)),
            before: before.to_vec(),
        }
        .encode()
    };
    assert!(!needs_write(Opcode::OnewireRead, &read(&[])));
    assert!(needs_write(Opcode::OnewireRead, &read(&[0xBE])));
}

#[test]
fn a_bus_is_listed_with_what_it_can_do() {
    let (list, _) = OWNED.list.unwrap();
    assert_eq!(list, Opcode::OnewireBusList);
    let list = BusList::decode(&listing(&[(present(), 0)])).unwrap();
    assert_eq!((&*list.buses[0].dev, list.buses[0].wr), (DEV, true));
}
