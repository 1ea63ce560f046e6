//! The chip as Linux's driver uses it (drivers/w1/masters/ds2490.c) and that of
//! thermometers (`drivers/w1/slaves/w1_therm.c`), with chips on a bus behind it.

use core::cell::RefCell;

use tokio::task::LocalSet;

use super::*;
use crate::bus::adapter::fake::Host;
use crate::bus::onewire::fake::{Chip, FakeBus};
use crate::bus::onewire::op::crc8;

const IM: u16 = 0x0001;

/// The driver, function for function.
struct Driver {
    host: Host,
    bus: Rc<FakeBus>,
    pullup: bool,
}

impl Driver {
    async fn new(chips: impl IntoIterator<Item = Chip>) -> Self {
        let bus = Rc::new(FakeBus::new(chips));
        let chip = Ds2490::new(Default::default(), Rc::<FakeBus>::clone(&bus));
        let host = Host::plug_in(Rc::<Ds2490>::clone(&chip)).await;
        let alternate = [1, 11, 3, 0, 0, 0, 0, 0];
        assert_eq!(host.control(alternate, &[]).await, Ok(Vec::new()));
        assert!(!chip.is_used());
        let driver = Self {
            host,
            bus,
            pullup: false,
        };
        driver.command(CONTROL_CMD, RESET_DEVICE, 0).await;
        driver.command(MODE_CMD, 0, 2).await;
        assert!(chip.is_used());
        driver
    }

    async fn command(&self, request: u8, value: u16, index: u16) {
        assert_eq!(self.try_command(request, value, index).await, Ok(()));
    }

    async fn try_command(&self, request: u8, value: u16, index: u16) -> Result<(), i32> {
        let ([v, w], [x, y]) = (value.to_le_bytes(), index.to_le_bytes());
        let setup = [0x40, request, v, w, x, y, 0, 0];
        self.host.control(setup, &[]).await.map(|_| ())
    }

    async fn status(&self) -> Vec<u8> {
        self.host.interrupt(STATUS, 32).await.unwrap()
    }

    async fn wait_status(&self) {
        for _ in 0..100 {
            if self.status().await[8] & IDLE != 0 {
                return;
            }
        }
        panic!("the chip is never idle");
    }

    async fn receive(&self, length: u32) -> Vec<u8> {
        self.host.bulk(DATA_IN, length, &[]).await.unwrap()
    }

    async fn reset(&self) {
        self.command(COMM_CMD, ONE_WIRE_RESET | IM, 0).await;
    }

    async fn byte(&self, byte: u8) -> u8 {
        let pullup = if self.pullup { STRONG_PULLUP } else { 0 };
        self.command(COMM_CMD, BYTE_IO | IM | pullup, byte.into())
            .await;
        self.wait_status().await;
        self.receive(1).await[0]
    }

    async fn block(&self, bytes: &[u8]) -> Vec<u8> {
        self.host.bulk(DATA_OUT, 0, bytes).await.unwrap();
        let length = u16::try_from(bytes.len()).unwrap();
        self.command(COMM_CMD, BLOCK_IO | IM, length).await;
        self.wait_status().await;
        self.receive(length.into()).await
    }

    async fn bit(&self, bit: bool) -> u8 {
        let value = if bit { BIT_VALUE } else { 0 };
        self.command(COMM_CMD, BIT_IO | IM | value, 0).await;
        self.wait_status().await;
        self.receive(1).await[0]
    }

    /// `w1_touch_block`: what programs like owserver use.
    async fn touch(&self, bytes: &[u8]) -> Vec<u8> {
        let mut seen = Vec::new();
        for byte in bytes {
            let mut value = 0;
            for bit in 0..8 {
                value |= self.bit(byte >> bit & 1 != 0).await << bit;
            }
            seen.push(value);
        }
        seen
    }

    async fn search(&self, kind: u8, limit: u8) -> Vec<Rom> {
        self.host.bulk(DATA_OUT, 0, &[0; 8]).await.unwrap();
        let index = u16::from_le_bytes([kind, limit]);
        self.command(COMM_CMD, 0x49F5, index).await;
        let mut found = Vec::new();
        loop {
            let status = self.status().await;
            if status[13] > 0 {
                let bytes = self.receive(128).await;
                let roms = bytes
                    .chunks_exact(8)
                    .map(|code| Rom(code.try_into().unwrap()));
                found.extend(roms);
            }
            if status[8] & IDLE != 0 {
                return found;
            }
        }
    }

    async fn select(&self, rom: Rom) {
        self.reset().await;
        let bytes = [&[0x55][..], &rom.0].concat();
        assert_eq!(self.block(&bytes).await, bytes);
    }

    /// `convert_t`, without the time that it takes, in sixteenths of a degree.
    async fn temperature(&self, rom: Rom) -> i16 {
        self.select(rom).await;
        assert_eq!(self.byte(0x44).await, 0x44);
        self.scratchpad(rom).await
    }

    async fn scratchpad(&self, rom: Rom) -> i16 {
        self.select(rom).await;
        assert_eq!(self.byte(0xBE).await, 0xBE);
        let scratchpad = self.block(&[0xFF; 9]).await;
        assert_eq!(crc8(&scratchpad), 0);
        i16::from_le_bytes([scratchpad[0], scratchpad[1]])
    }
}

async fn played(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

fn written(rom: Rom, rest: &str) -> String {
    let code = crate::wire::hex::encode(&rom.0);
    format!("reset, write 55{code}{rest}")
}

#[tokio::test(start_paused = true)]
async fn a_temperature_is_two_transactions() {
    played(async {
        let (one, other) = (Chip::ds18b20(1), Chip::ds18b20(2));
        let rom = one.rom();
        let driver = Driver::new([one, other]).await;
        driver.bus.thermometer(rom, |chip| chip.warmth = -171);
        assert_eq!(driver.temperature(rom).await, -171);
        assert_eq!(
            driver.bus.log(),
            [written(rom, "44"), written(rom, "be, read 9")]
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_conversion_has_begun_when_its_command_is_over() {
    played(async {
        let chip = Chip::ds18b20(1);
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.select(rom).await;
        assert!(driver.bus.log().is_empty());
        driver.byte(0x44).await;
        let begun = driver.bus.thermometer(rom, |chip| chip.conversions);
        assert_eq!(begun, Some(1));
        // Without power of its own a thermometer is told to read slots that it is not done.
        assert_eq!(driver.byte(0xFF).await, 0xFF);
        assert_eq!(driver.bus.log().last().unwrap(), "read 1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_supply_of_power_is_one_bit() {
    played(async {
        let chip = Chip::ds18b20(1);
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        for powered in [true, false] {
            driver.bus.thermometer(rom, |chip| chip.powered = powered);
            driver.select(rom).await;
            driver.byte(0xB4).await;
            assert_eq!(driver.bit(true).await, u8::from(powered));
            assert_eq!(driver.bus.log(), [written(rom, "b4, read 1")]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn settings_are_written_whole_and_stored() {
    played(async {
        let chip = Chip::ds18b20(1);
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.select(rom).await;
        driver.byte(0x4E).await;
        // Ones are settings here, no reads.
        driver.block(&[0xFF, 0xFF, 0x3F]).await;
        driver.select(rom).await;
        driver.byte(0x48).await;
        assert_eq!(
            driver.bus.log(),
            [written(rom, "4effff3f"), written(rom, "48")]
        );
        let stored = driver.bus.thermometer(rom, |chip| chip.stored());
        assert_eq!(stored, Some([0xFF, 0xFF, 0x3F]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn all_thermometers_are_told_at_once_once_it_is_known_that_they_are() {
    played(async {
        let driver = Driver::new((1..=3).map(Chip::ds18b20)).await;
        assert_eq!(driver.search(SEARCH_ALL, 64).await.len(), 3);
        driver.bus.log();
        driver.reset().await;
        driver.byte(0xCC).await;
        driver.byte(0x44).await;
        driver.reset().await;
        driver.byte(0xCC).await;
        driver.byte(0xB4).await;
        assert_eq!(driver.bit(true).await, 1);
        assert_eq!(
            driver.bus.log(),
            ["reset, write cc44", "reset, write ccb4, read 1"]
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_search_finds_all_and_never_more_than_the_driver_has_room_for() {
    played(async {
        let driver = Driver::new((1..=40).map(Chip::ds18b20)).await;
        let found = driver.search(SEARCH_ALL, 64).await;
        assert_eq!(found.len(), 40);
        assert!(found.iter().all(|rom| rom.is_valid()));
        assert_eq!(driver.search(SEARCH_ALL, 10).await.len(), 10);
        // Hot ones only.
        let rom = found[7];
        driver.bus.thermometer(rom, |chip| chip.warmth = 80 * 16);
        driver.temperature(rom).await;
        let alarming = driver.search(SEARCH_ALARM, 64).await;
        // The others are at 85 degrees until their first conversion.
        assert_eq!(alarming.len(), 40);
        for other in &found {
            if *other != rom {
                driver.bus.thermometer(*other, |chip| chip.warmth = 72 * 16);
                driver.temperature(*other).await;
            }
        }
        assert_eq!(driver.search(SEARCH_ALARM, 64).await, [rom]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_touched_bit_by_bit_is_understood() {
    played(async {
        let chip = Chip::ds18b20(1);
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.bus.thermometer(rom, |chip| chip.warmth = 333);
        driver.reset().await;
        let select = [&[0x55][..], &rom.0].concat();
        assert_eq!(driver.touch(&select).await, select);
        assert_eq!(driver.touch(&[0x44]).await, [0x44]);
        driver.reset().await;
        let bytes = [&select[..], &[0xBE], &[0xFF; 9]].concat();
        let seen = driver.touch(&bytes).await;
        let scratchpad = seen.get(10..).unwrap();
        assert_eq!(crc8(scratchpad), 0);
        assert_eq!(scratchpad[..2], 333_i16.to_le_bytes());
        assert_eq!(
            driver.bus.log(),
            [written(rom, "44"), written(rom, "be, read 9")]
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn functions_of_other_devices_are_done_as_soon_as_they_are_there() {
    played(async {
        let chip = Chip::memory(9, b"abcdef");
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.select(rom).await;
        driver.block(&[0xF0, 2, 0]).await;
        assert_eq!(driver.bus.log(), [written(rom, "f00200")]);
        assert_eq!(driver.block(&[0xFF; 3]).await, b"cde");
        assert_eq!(driver.byte(0xFF).await, b'f');
        assert_eq!(driver.bus.log(), ["read 3", "read 1"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_code_of_an_only_device_is_read_in_one_go() {
    played(async {
        let chip = Chip::memory(9, b"");
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.reset().await;
        driver.byte(0x33).await;
        assert_eq!(driver.block(&[0xFF; 8]).await, rom.0);
        assert_eq!(driver.bus.log(), ["reset, write 33, read 8"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_does_not_answer_reads_as_an_empty_one() {
    played(async {
        let chip = Chip::ds18b20(1);
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.bus.unplug();
        driver.select(rom).await;
        driver.byte(0xBE).await;
        assert_eq!(driver.block(&[0xFF; 9]).await, [0xFF; 9]);
        assert!(driver.search(SEARCH_ALL, 64).await.is_empty());
        // Neither does a device that nobody has, or whose code is none.
        let mut none = rom;
        none.0[7] ^= 1;
        driver.select(none).await;
        driver.byte(0xBE).await;
        assert_eq!(driver.block(&[0xFF; 9]).await, [0xFF; 9]);
        assert!(driver.bus.log().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_back_ends_the_transaction() {
    played(async {
        let chip = Chip::memory(9, b"abcdef");
        let rom = chip.rom();
        let driver = Driver::new([chip]).await;
        driver.select(rom).await;
        driver.touch(&[0xF0, 0, 0]).await;
        driver.bus.log();
        // The first bit is a slot to read in; the second writes.
        assert_eq!(driver.touch(&[0x01]).await, [b'a' & 1]);
        assert_eq!(driver.touch(&[0xFF]).await, [0xFF]);
        driver.select(rom).await;
        driver.block(&[0xF0, 0, 0]).await;
        assert_eq!(driver.block(&[0xFF; 2]).await, b"ab");
    })
    .await;
}

/// A bus that keeps its answers until they are let go.
#[derive(Default)]
struct Slow {
    asked: RefCell<Vec<Transaction>>,
    go: Rc<Notify>,
}

impl OnewireBus for Slow {
    fn search(&self, _: bool) -> Answer<Vec<Rom>> {
        let go = Rc::clone(&self.go);
        Box::pin(async move {
            go.notified().await;
            Ok(vec![Rom::new(0x28, 1)])
        })
    }

    fn run(&self, transaction: Transaction) -> Answer<Vec<u8>> {
        let read = transaction.read;
        self.asked.borrow_mut().push(transaction);
        let go = Rc::clone(&self.go);
        Box::pin(async move {
            go.notified().await;
            Ok(vec![7; read])
        })
    }
}

async fn slow() -> (Rc<Slow>, Driver) {
    let bus = Rc::new(Slow::default());
    let chip = Ds2490::new(Default::default(), Rc::<Slow>::clone(&bus));
    let driver = Driver {
        host: Host::plug_in(chip).await,
        bus: Rc::default(),
        pullup: false,
    };
    (bus, driver)
}

#[tokio::test(start_paused = true)]
async fn the_status_is_answered_within_the_drivers_second_while_the_bus_is_far() {
    played(async {
        let (bus, driver) = slow().await;
        let index = u16::from_le_bytes([SEARCH_ALL, 64]);
        driver.command(COMM_CMD, 0x49F5, index).await;
        let began = tokio::time::Instant::now();
        assert_eq!(driver.status().await[8] & IDLE, 0);
        assert!(began.elapsed() < Duration::from_secs(1));
        bus.go.notify_one();
        let status = driver.status().await;
        assert_eq!((status[8] & IDLE, status[13]), (IDLE, 8));
        assert_eq!(driver.receive(128).await.len(), 8);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_strong_pull_up_is_asked_for_with_the_byte_before_it() {
    played(async {
        let (bus, mut driver) = slow().await;
        bus.go.notify_one();
        driver.command(COMM_CMD, SET_DURATION | IM, 47).await;
        driver.select(Rom::new(0x28, 1)).await;
        driver.pullup = true;
        driver.byte(0x44).await;
        let asked = bus.asked.take();
        let [transaction] = &*asked else {
            panic!("{asked:?}");
        };
        assert_eq!(
            (transaction.pullup_ms, &*transaction.write),
            (752, &[0x44][..])
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_before_the_chip_was_reset_is_not_told_after_it() {
    played(async {
        let (bus, driver) = slow().await;
        driver.select(Rom::new(0x28, 1)).await;
        driver.byte(0xBE).await;
        driver.host.bulk(DATA_OUT, 0, &[0xFF; 9]).await.unwrap();
        driver.command(COMM_CMD, BLOCK_IO | IM, 9).await;
        assert_eq!(driver.status().await[8] & IDLE, 0);
        driver.command(CONTROL_CMD, RESET_DEVICE, 0).await;
        let status = driver.status().await;
        assert_eq!((status[8] & IDLE, status[13]), (IDLE, 0));
        bus.go.notify_one();
        driver.select(Rom::new(0x28, 1)).await;
        assert_eq!(driver.status().await[13], 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn commands_that_the_chip_has_not_are_stalled_and_bounds_are_kept() {
    const STALLED: i32 = -libc::EPIPE;
    played(async {
        let driver = Driver::new([]).await;
        for (request, value, index) in [
            (CONTROL_CMD, 0x20, 0),
            (COMM_CMD, 0x0092, 0),
            // A block of which nothing was sent.
            (COMM_CMD, BLOCK_IO | IM, 1),
            (COMM_CMD, 0x49F5, 0x4000),
            (MODE_CMD, 8, 0),
            (9, 0, 0),
        ] {
            let answer = driver.try_command(request, value, index).await;
            assert_eq!(answer, Err(STALLED), "{request:x} {value:x} {index:x}");
        }
        let most = vec![0; MAX_WRITTEN];
        assert!(driver.host.bulk(DATA_OUT, 0, &most).await.is_ok());
        assert_eq!(driver.host.bulk(DATA_OUT, 0, &[0]).await, Err(STALLED));
    })
    .await;
}
