//! The half that uses the bus, with an owner.

use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::Caller;
use myclerk::bus::adapter::ds2490::{Begin, OnewireBus, Transaction};
use myclerk::bus::onewire::client::owner::Owner;
use myclerk::bus::onewire::fake::Chip;
use myclerk::bus::onewire::op::{Rom, Select, crc8};
use myclerk::wire::opcode::Opcode::{
    self, OnewireBusList as List, OnewireMatchRom as Match, OnewireRead as Read,
    OnewireReadRom as ReadRom, OnewireReset as Reset, OnewireWrite as Write,
};
use nix::errno::Errno;

use crate::rig::{Bench, owner, remote};

async fn run(owner: &Owner, begin: Begin, write: &[u8], read: usize) -> Result<Vec<u8>, Errno> {
    let write = write.to_vec();
    let transaction = Transaction {
        begin,
        write,
        read,
        pullup_ms: 0,
    };
    owner.run(transaction).await
}

async fn temperature(owner: &Owner, rom: Rom) -> i16 {
    let select = Begin::Select(Select::Rom(rom));
    run(owner, select, &[0x44], 0).await.unwrap();
    let scratchpad = run(owner, select, &[0xBE], 9).await.unwrap();
    assert_eq!(crc8(&scratchpad), 0);
    i16::from_le_bytes([scratchpad[0], scratchpad[1]])
}

fn bench() -> (Bench, Rom) {
    let chips: Vec<_> = (1..=3).map(Chip::ds18b20).collect();
    let rom = chips[0].rom();
    let bench = Bench::new(chips);
    bench.bus.thermometer(rom, |chip| chip.warmth = 321);
    (bench, rom)
}

#[tokio::test(start_paused = true)]
async fn a_temperature_is_two_requests() {
    let (bench, rom) = bench();
    let (session, asked) = bench.session(true);
    let owner = owner(&session).await;
    assert_eq!(owner.search(false).await.unwrap().len(), 3);
    asked.take();
    assert_eq!(temperature(&owner, rom).await, 321);
    assert_eq!(asked.take(), [Write, Read]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_announced_nothing_is_asked_step_by_step() {
    let (bench, rom) = bench();
    let (session, asked) = bench.session(false);
    let owner = owner(&session).await;
    asked.take();
    assert_eq!(temperature(&owner, rom).await, 321);
    let expected: [Opcode; 7] = [Reset, Match, Write, Reset, Match, Write, Read];
    assert_eq!(asked.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_goes_on_and_the_code_of_an_only_device_is_one_request() {
    let chip = Chip::memory(9, b"abcdef");
    let rom = chip.rom();
    let bench = Bench::new([chip]);
    for joins in [true, false] {
        // The transaction of the session before is over.
        bench.passes(Duration::from_secs(2));
        let (session, asked) = bench.session(joins);
        let owner = owner(&session).await;
        let select = Begin::Select(Select::Rom(rom));
        run(&owner, select, &[0xF0, 1, 0], 0).await.unwrap();
        assert_eq!(run(&owner, Begin::GoOn, &[], 2).await.unwrap(), b"bc");
        asked.take();
        let code = run(&owner, Begin::Reset, &[0x33], 8).await.unwrap();
        assert_eq!(code, rom.0);
        assert_eq!(asked.take(), [Reset, ReadRom]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_sessions_transaction_is_waited_for() {
    let (bench, rom) = bench();
    let (session, _) = bench.session(true);
    let owner = owner(&session).await;
    let other = Caller::default();
    bench.reset(&other).unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        other.leave();
    };
    let (read, ()) = tokio::join!(temperature(&owner, rom), later);
    assert_eq!(read, 321);
    // But not for ever.
    bench.reset(&Caller::default()).unwrap();
    let select = Begin::Select(Select::Rom(rom));
    assert_eq!(run(&owner, select, &[0x44], 0).await, Err(Errno::EBUSY));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_back_is_asked_what_it_can_do() {
    let (bench, rom) = bench();
    let (session, asked) = bench.session(true);
    let remote = remote(&session);
    let owner = Owner::new(&*session, Rc::clone(&remote)).await.unwrap();
    let select = Begin::Select(Select::Rom(rom));
    let used = async {
        session.cut();
        assert_eq!(run(&owner, select, &[0xBE], 9).await, Err(Errno::ETIMEDOUT));
        session.mend();
        tokio::time::sleep(Duration::from_secs(2)).await;
        asked.take();
        run(&owner, select, &[0xBE], 9).await.unwrap();
        assert_eq!(asked.take(), [List, Read]);
    };
    tokio::select! {
        biased;
        end = remote.watch() => panic!("it ended: {end}"),
        () = used => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_refuses_is_the_errno_of_a_local_bus() {
    let bench = Bench::new([]);
    let (session, _) = bench.session(true);
    let owner = owner(&session).await;
    let select = Begin::Select(Select::Skip);
    assert_eq!(run(&owner, select, &[0xBE], 9).await, Err(Errno::ENXIO));
    let transaction = Transaction {
        begin: select,
        write: vec![0x44],
        read: 0,
        pullup_ms: 750,
    };
    assert_eq!(owner.run(transaction).await, Err(Errno::EOPNOTSUPP));
    bench.bus.unplug();
    assert_eq!(owner.search(false).await, Err(Errno::ENODEV));
}
