//! A remote bus as a character device: what programs call, and what they must not be able to do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use myclerk::bus::fake::FakeSession;
use myclerk::bus::i2c::client::cuse::node::{Node, Steering};
use myclerk::bus::i2c::fake::chips::{Checked, Eeprom, Lm75, Strict};
use myclerk::bus::i2c::fake::{FakeBus, FakeI2c};
use myclerk::bus::i2c::op::{BusEntry, ext};
use myclerk::bus::i2c::server::Turns;
use myclerk::bus::remote::Remote;
use myclerk::bus::{Caller, Ended, Handle, Opener, Refused, Wish};
use myclerk::kernel::i2c_dev::func;
use myclerk::wire::opcode::Opcode;
use nix::errno::Errno;
use tokio::task::{JoinHandle, spawn_local};

use crate::kernel::{
    ARGUMENT, DATA, FUNCS, Kernel, MESSAGES, Msg, PEC, Program, RDWR, RETRIES, SLAVE, SLAVE_FORCE,
    SMBUS, TENBIT, TIMEOUT, WILD,
};
use crate::rig::{CHECKED, EEPROM, LM75, STRICT, run};

const READ: u16 = 1;
const RECV_LEN: u16 = 0x0400;
/// Sizes of `I2C_SMBUS`.
const BYTE_DATA: u32 = 2;
const BLOCK: u32 = 34;

/// A device and what is at its ends.
struct Bench {
    kernel: Rc<Kernel>,
    session: Rc<FakeSession>,
    steering: Steering,
    ended: JoinHandle<Ended>,
    /// Questions to the owner so far.
    asked: Rc<Cell<usize>>,
}

type Owner = Box<dyn Fn(Opcode, &[u8]) -> Result<Vec<u8>, Refused>>;

impl Bench {
    /// On a machine with this bus.
    fn on(bus: &FakeBus) -> Self {
        Self::with_ext(bus, ext::ALL)
    }

    fn with_ext(bus: &FakeBus, ext: u32) -> Self {
        let funcs = myclerk::bus::i2c::hardware::I2cBus::functionality(bus).unwrap();
        let machine = FakeI2c::new(std::slice::from_ref(bus));
        let turns = Arc::new(Turns::default());
        let caller = Caller::default();
        let owner = move |opcode, payload: &[u8]| machine.call(&turns, &caller, opcode, payload);
        Self::over(Box::new(owner), funcs, ext)
    }

    fn over(owner: Owner, funcs: u32, ext: u32) -> Self {
        let asked = Rc::new(Cell::new(0));
        let counted = Rc::clone(&asked);
        let session = FakeSession::new(
            |_| (),
            move |opcode, payload| {
                counted.set(counted.get() + 1);
                owner(opcode, payload)
            },
        );
        let wish = Wish {
            device: "i2c:fake".to_owned(),
            grace: Duration::from_secs(5),
            ..Wish::default()
        };
        let remote = Remote::new(Rc::clone(&session) as Rc<dyn Opener>, &wish);
        let entry = BusEntry {
            dev: "i2c:fake".to_owned(),
            name: "fake".to_owned(),
            funcs,
            ext,
        };
        let (kernel, cuse) = Kernel::with_device();
        let (node, steering) = Node::new(Rc::new(cuse), remote, entry, "/dev/i2c-1000".to_owned());
        Self {
            kernel,
            session,
            steering,
            ended: spawn_local(node.serve()),
            asked,
        }
    }

    async fn program(&self, compat: bool) -> Program {
        let mut program = self.kernel.open().await.unwrap();
        program.compat = compat;
        program
    }

    /// A program that speaks to a chip.
    async fn speaking_to(&self, addr: u16, compat: bool) -> Program {
        let program = self.program(compat).await;
        assert_eq!(program.ioctl(SLAVE, addr.into()).await, Ok(0));
        program
    }
}

fn chips() -> FakeBus {
    FakeBus::new("fake")
        .with_functionality(func::I2C | func::SMBUS_EMUL | func::SMBUS_READ_BLOCK_DATA)
        .with(EEPROM, Eeprom::new(&[1, 2, 3, 4]))
        .with(LM75, Lm75::new(0x1980))
        .with(STRICT, Strict::default())
        .with(CHECKED, Checked::new(CHECKED))
}

const fn msg(addr: u16, flags: u16, len: u16, buf: u64) -> Msg {
    Msg {
        addr,
        flags,
        len,
        buf,
    }
}

#[test]
fn a_combined_transaction_is_one_question_and_has_no_stop_in_between() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        for compat in [false, true] {
            let program = bench.program(compat).await;
            let before = (bench.asked.get(), bench.kernel.rounds.get());
            let read = program.combined(STRICT, &[7], 3).await;
            assert_eq!(read, Ok([7, 8, 9].map(Strict::value).to_vec()));
            // The number alone, then with the header, the messages and what they point to.
            let after = (bench.asked.get(), bench.kernel.rounds.get());
            assert_eq!(after, (before.0 + 1, before.1 + 4));
        }
        assert_eq!((bus.transactions(), bus.interleaved()), (2, 0));
    });
}

#[test]
fn every_smbus_call_is_one_question_and_answers_as_the_kernel() {
    run(async {
        let bench = Bench::on(&chips());
        for compat in [false, true] {
            let program = bench.speaking_to(EEPROM, compat).await;
            let before = bench.asked.get();
            // Write byte 0x20 = 9, read it back; byte by pointer; words; blocks.
            assert_eq!(program.smbus(0, 0x20, 2, &[9]).await, Ok(vec![9]));
            assert_eq!(program.smbus(1, 0x20, 2, &[0]).await, Ok(vec![9]));
            assert_eq!(program.smbus_at(0, 0x20, 1, 0).await, Ok(0));
            assert_eq!(program.smbus(1, 0, 1, &[0]).await, Ok(vec![9]));
            let word = 0x1234_u16.to_ne_bytes();
            program.smbus(0, 0x28, 3, &word).await.unwrap();
            assert_eq!(program.smbus(1, 0x28, 3, &[0, 0]).await, Ok(word.to_vec()));
            let mut block = vec![0xAA; 34];
            block[..4].copy_from_slice(&[3, 5, 6, 7]);
            program.smbus(0, 0x30, 8, &block).await.unwrap();
            let mut room = vec![0xAA; 34];
            room[0] = 3;
            assert_eq!(program.smbus(1, 0x30, 8, &room).await, Ok(block));
            let all = program.smbus(1, 0x30, 6, &[0xAA; 34]).await.unwrap();
            assert_eq!(all[..4], [32, 5, 6, 7]);
            assert_eq!(
                program.smbus_at(1, 0, 0, WILD).await,
                Ok(0),
                "quick has no data"
            );
            assert_eq!(bench.asked.get(), before + 10);
        }
    });
}

#[test]
fn a_checked_chip_is_read_and_written_with_pec_and_blocks_say_their_length() {
    run(async {
        let bus = chips().with(CHECKED + 1, Checked::new(CHECKED + 1).broken());
        let bench = Bench::on(&bus);
        let program = bench.speaking_to(CHECKED, false).await;
        assert_eq!(program.ioctl(PEC, 1).await, Ok(0));
        program.smbus(0, 4, 2, &[0x66]).await.unwrap();
        assert_eq!(program.smbus(1, 4, 2, &[0]).await, Ok(vec![0x66]));
        let block = program.smbus(1, 0x85, 5, &[0xAA; 34]).await.unwrap();
        assert_eq!(block[..6], [5, 1, 2, 3, 4, 5]);
        assert_eq!(block[6..], [0; 28], "nothing but what the kernel has");
        program.ioctl(SLAVE, (CHECKED + 1).into()).await.unwrap();
        let broken = program.smbus(1, 4, 2, &[0]).await;
        assert_eq!(broken, Err(Errno::EBADMSG));
        assert_eq!(program.ioctl(PEC, 0).await, Ok(0));
        assert_eq!(program.smbus(1, 4, 2, &[0]).await, Ok(vec![0]));
    });
}

#[test]
fn read_and_write_are_messages_to_the_chosen_chip() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        let program = bench.speaking_to(EEPROM, false).await;
        assert_eq!(program.write(&[0]).await, Ok(1));
        assert_eq!(program.read(4).await, Ok(vec![1, 2, 3, 4]));
        program.write(&[0]).await.unwrap();
        let long = program.read(100_000).await.unwrap();
        assert_eq!(long.len(), 8192, "as much as the kernel reads at a time");
        assert_eq!(program.write(&[0; 9000]).await, Ok(8192));
        assert_eq!(program.ioctl(SLAVE, 0x11).await, Ok(0));
        assert_eq!(program.read(1).await, Err(Errno::ENXIO));
        assert_eq!(program.write(&[1]).await, Err(Errno::ENXIO));
        // Another open file has its own chip.
        let other = bench.speaking_to(LM75, false).await;
        assert_eq!(other.read(2).await, Ok(vec![0x19, 0x80]));
        let bus = bus.with_functionality(func::SMBUS_EMUL);
        let bench = Bench::on(&bus);
        let program = bench.speaking_to(EEPROM, false).await;
        assert_eq!(program.read(1).await, Err(Errno::EOPNOTSUPP));
        assert_eq!(program.write(&[1]).await, Err(Errno::EOPNOTSUPP));
        let raw = program.combined(EEPROM, &[0], 1).await;
        assert_eq!(raw, Err(Errno::EOPNOTSUPP), "as i2c-dev says it");
    });
}

#[test]
fn the_functionality_is_the_owners_in_both_widths() {
    run(async {
        let bench = Bench::on(&chips().with_functionality(0x8123_4567));
        let program = bench.program(false).await;
        program.put(ARGUMENT, &[0xAA; 8]);
        assert_eq!(program.ioctl(FUNCS, ARGUMENT).await, Ok(0));
        assert_eq!(program.bytes(ARGUMENT, 8), 0x8123_4567_u64.to_ne_bytes());
        let program = bench.program(true).await;
        program.put(ARGUMENT, &[0xAA; 8]);
        program.ioctl(FUNCS, ARGUMENT).await.unwrap();
        assert_eq!(program.bytes(ARGUMENT, 4), 0x8123_4567_u32.to_ne_bytes());
        assert_eq!(program.bytes(ARGUMENT + 4, 4), [0xAA; 4]);
        assert_eq!(program.ioctl(FUNCS, WILD).await, Err(Errno::EFAULT));
        assert_eq!(bench.asked.get(), 0);
    });
}

#[test]
fn addresses_and_numbers_are_refused_as_by_the_kernel() {
    run(async {
        let bench = Bench::on(&chips());
        let program = bench.program(false).await;
        for (cmd, arg, answer) in [
            (SLAVE, 0x7F, Ok(0)),
            (SLAVE, 0x80, Err(Errno::EINVAL)),
            (SLAVE_FORCE, 0x80, Err(Errno::EINVAL)),
            (TENBIT, 1, Ok(0)),
            (SLAVE, 0x3FF, Ok(0)),
            (SLAVE_FORCE, 0x400, Err(Errno::EINVAL)),
            (SLAVE, u64::MAX, Err(Errno::EINVAL)),
            (TENBIT, 0, Ok(0)),
            (RETRIES, 3, Ok(0)),
            (RETRIES, 0x8000_0000, Err(Errno::EINVAL)),
            (TIMEOUT, 0x7FFF_FFFF / 10, Ok(0)),
            (TIMEOUT, 0x7FFF_FFFF / 10 + 1, Err(Errno::EINVAL)),
            (0x0709, 0, Err(Errno::ENOTTY)),
            (0x5401, ARGUMENT, Err(Errno::ENOTTY)),
        ] {
            assert_eq!(program.ioctl(cmd, arg).await, answer, "{cmd:#x} {arg:#x}");
        }
        assert_eq!(bench.asked.get(), 0);
    });
}

#[test]
fn wild_pointers_and_counts_reach_nobody() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        for compat in [false, true] {
            let program = bench.program(compat).await;
            let fault = Err(Errno::EFAULT);
            let invalid = Err(Errno::EINVAL);
            assert_eq!(program.ioctl(RDWR, WILD).await, fault);
            assert_eq!(program.ioctl(RDWR, 0).await, fault);
            for (messages, count, answer) in [
                (WILD, 1, fault),
                (0, 1, invalid),
                (MESSAGES, 0, invalid),
                (MESSAGES, 43, invalid),
                (MESSAGES, u32::MAX, invalid),
            ] {
                program.put_header(messages, count);
                assert_eq!(program.ioctl(RDWR, ARGUMENT).await, answer, "{count}");
            }
            program.put(DATA, &[0xAA; 16]);
            let read = |len, buf| msg(EEPROM, READ, len, buf);
            for (msgs, answer) in [
                (vec![msg(EEPROM, 0, 1, WILD)], fault),
                (vec![read(1, WILD)], fault),
                (vec![read(17, DATA)], fault),
                (vec![read(8193, DATA)], invalid),
                (vec![msg(EEPROM, 0, 8193, DATA)], invalid),
                (vec![msg(0x80, READ, 1, DATA)], invalid),
                (vec![msg(0x400, READ | 0x10, 1, DATA)], invalid),
                // The first is good, and is not done either.
                (vec![msg(EEPROM, 0, 1, DATA), read(1, WILD)], fault),
                (vec![msg(EEPROM, RECV_LEN, 16, DATA)], invalid),
                (vec![msg(EEPROM, READ | RECV_LEN, 0, DATA)], invalid),
                // No room for the longest block.
                (vec![msg(EEPROM, READ | RECV_LEN, 16, DATA)], invalid),
            ] {
                assert_eq!(program.rdwr(&msgs).await, answer);
            }
        }
        assert_eq!(bus.transactions(), 0);
    });
}

#[test]
fn wild_smbus_calls_reach_nobody() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        for compat in [false, true] {
            let program = bench.program(compat).await;
            let (fault, invalid) = (Err(Errno::EFAULT), Err(Errno::EINVAL));
            assert_eq!(program.ioctl(SMBUS, WILD).await, fault);
            program.put(DATA, &[0xAA; 16]);
            for (read, size, data, answer) in [
                (0, BYTE_DATA, WILD, fault),
                (1, BYTE_DATA, 0, invalid),
                (2, BYTE_DATA, DATA, invalid),
                (1, 9, DATA, invalid),
                (1, u32::MAX, DATA, invalid),
                // The union is longer than what is mapped.
                (0, 5, DATA, fault),
                (1, 8, DATA, fault),
            ] {
                assert_eq!(
                    program.smbus_at(read, 0, size, data).await,
                    answer,
                    "{size}"
                );
            }
            for size in [5, 7, 8] {
                let longer = program.smbus(0, 0, size, &[33; 34]).await;
                assert_eq!(longer, Err(Errno::EINVAL), "a block of 33");
            }
        }
        assert_eq!(bus.transactions(), 0);
        // As at a local bus, where the answer goes is looked at when there is one.
        let program = bench.speaking_to(EEPROM, false).await;
        let read = program.smbus_at(1, 0, BYTE_DATA, WILD).await;
        assert_eq!((read, bus.transactions()), (Err(Errno::EFAULT), 1));
    });
}

#[test]
fn memory_that_changes_between_rounds_is_judged_anew() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        let program = bench.program(false).await;
        let array: Vec<u8> = [0x50_u16, READ, 4, 0]
            .iter()
            .flat_map(|field| field.to_ne_bytes())
            .chain(DATA.to_ne_bytes())
            .collect();
        program.put(MESSAGES, &array);
        program.put(DATA, &[0xAA; 4]);
        program.put_header(MESSAGES, 1);
        // Another thread of the program makes the message longer as soon as it was read.
        let longer = async {
            while bench.kernel.rounds.get() < 3 {
                tokio::task::yield_now().await;
            }
            let mut changed = array.clone();
            changed[4..6].copy_from_slice(&8000_u16.to_ne_bytes());
            program.put(MESSAGES, &changed);
        };
        let (answer, ()) = tokio::join!(program.ioctl(RDWR, ARGUMENT), longer);
        assert_eq!(answer, Err(Errno::EFAULT));
        assert_eq!(program.bytes(DATA, 4), [0xAA; 4]);
    });
}

#[test]
fn more_than_cuse_moves_is_refused_before_anything_happens() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        let program = bench.program(false).await;
        program.put(DATA, &[0; 8192]);
        let most = vec![msg(EEPROM, READ, 8192, DATA); 16];
        assert_eq!(program.rdwr(&most).await, Ok(16));
        let more = vec![msg(EEPROM, READ, 8192, DATA); 17];
        assert_eq!(program.rdwr(&more).await, Err(Errno::ENOMEM));
        let all = vec![msg(EEPROM, READ, 1, DATA); 42];
        assert_eq!(program.rdwr(&all).await, Ok(42));
        assert_eq!(bus.transactions(), 2);
    });
}

#[test]
fn an_owner_that_answers_more_or_less_changes_nothing_of_the_program() {
    run(async {
        let answers = [
            &b"\x91\x91\xc4\x03\x01\x02\x03"[..],
            b"\x91\x91\xc4\x01\x01",
            b"\x91\x90",
            b"\x91\x92\xc4\x02\x01\x02\xc4\x00",
            b"\x91\xc4\x02\x01\x02",
            b"\x91\xc4\x00",
            b"",
            b"\xc1",
        ];
        let next = RefCell::new(answers.into_iter().cycle());
        let owner = move |opcode, _: &[u8]| match opcode {
            Opcode::DeviceInfo => Ok(vec![0x80]),
            _ => Ok(next.borrow_mut().next().unwrap().to_vec()),
        };
        let bench = Bench::over(Box::new(owner), func::I2C, ext::ALL);
        let program = bench.speaking_to(EEPROM, false).await;
        for _ in answers {
            program.put(DATA, &[0xAA; 8]);
            let read = program.rdwr(&[msg(EEPROM, READ, 2, DATA + 2)]).await;
            assert_eq!(read, Err(Errno::EPROTO));
            assert_eq!(program.bytes(DATA, 8), [0xAA; 8]);
        }
        for _ in answers {
            program.put(DATA, &[0xAA; 8]);
            let read = program.smbus_at(1, 0, BYTE_DATA, DATA + 2).await;
            assert_eq!(read, Err(Errno::EPROTO));
            assert_eq!(program.bytes(DATA, 8), [0xAA; 8]);
        }
        let block = vec![0xC4, 33];
        let long = [vec![0x91], block, vec![7; 33]].concat();
        let owner = move |_, _: &[u8]| Ok(long.clone());
        let bench = Bench::over(Box::new(owner), func::I2C, ext::ALL);
        let program = bench.speaking_to(EEPROM, false).await;
        program.put(DATA, &vec![0xAA; BLOCK as usize + 8]);
        assert_eq!(program.smbus_at(1, 0, 5, DATA).await, Err(Errno::EPROTO));
        assert_eq!(program.bytes(DATA, 42), [0xAA; 42]);
    });
}

#[test]
fn a_block_that_says_its_length_comes_by_messages_too() {
    run(async {
        let bench = Bench::on(&chips());
        let program = bench.program(false).await;
        let mut room = vec![0xAA; 33];
        room[0] = 1;
        program.put(DATA, &[0x83]);
        program.put(DATA + 8, &room);
        let msgs = [
            msg(CHECKED, 0, 1, DATA),
            msg(CHECKED, READ | RECV_LEN, 33, DATA + 8),
        ];
        assert_eq!(program.rdwr(&msgs).await, Ok(2));
        let read = program.bytes(DATA + 8, 33);
        assert_eq!(read[..4], [3, 1, 2, 3]);
        assert_eq!(read[4..], [0xAA; 29], "what did not come stays");
        // An owner that has not said that it knows this is not asked.
        let bench = Bench::with_ext(&chips(), 0);
        let program = bench.program(false).await;
        program.put(DATA, &[0x83]);
        program.put(DATA + 8, &room);
        assert_eq!(program.rdwr(&msgs).await, Err(Errno::EOPNOTSUPP));
        program.ioctl(TENBIT, 1).await.unwrap();
        let ten = program.smbus(1, 0, BYTE_DATA, &[0]).await;
        assert_eq!(ten, Err(Errno::EOPNOTSUPP));
        assert_eq!(bench.asked.get(), 0);
    });
}

#[test]
fn what_the_bus_says_is_what_the_program_is_told() {
    run(async {
        let bus = chips();
        bus.drive(EEPROM);
        let bench = Bench::on(&bus);
        let program = bench.speaking_to(EEPROM, false).await;
        let read = || program.smbus(1, 0, BYTE_DATA, &[0]);
        assert_eq!(read().await, Err(Errno::EBUSY), "a driver has it");
        program.ioctl(SLAVE_FORCE, EEPROM.into()).await.unwrap();
        assert_eq!(read().await, Ok(vec![1]));
        for errno in [Errno::EBUSY, Errno::EAGAIN, Errno::EREMOTEIO, Errno::EIO] {
            bus.fail(errno);
            assert_eq!(read().await, Err(errno));
        }
        assert_eq!(program.combined(0x11, &[0], 1).await, Err(Errno::ENXIO));
    });
}

#[test]
fn during_an_outage_calls_time_out_and_after_it_there_is_no_device() {
    run(async {
        let bench = Bench::on(&chips());
        let program = bench.speaking_to(EEPROM, false).await;
        bench.session.cut();
        while bench.steering.is_live() {
            tokio::task::yield_now().await;
        }
        let read = || program.smbus(1, 0, BYTE_DATA, &[0]);
        assert_eq!(read().await, Err(Errno::ETIMEDOUT));
        let tenth = program.combined(EEPROM, &[0], 1).await;
        assert_eq!(tenth, Err(Errno::ETIMEDOUT));
        bench.session.mend();
        while !bench.steering.is_live() {
            tokio::task::yield_now().await;
        }
        assert_eq!(read().await, Ok(vec![1]), "and the chip is still chosen");
        bench.session.cut();
        tokio::time::pause();
        while read().await != Err(Errno::ENODEV) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let refused = bench.kernel.open().await;
        assert!(matches!(refused, Err(Errno::ENODEV)));
        assert_eq!(program.ioctl(SLAVE, 1).await, Err(Errno::ENODEV));
        assert!(!bench.ended.is_finished(), "a program has it open");
        program.close();
        assert_eq!(bench.ended.await.unwrap(), Ended::Session);
    });
}

#[test]
fn a_device_that_is_given_back_ends_when_the_last_program_closes_it() {
    run(async {
        let bus = chips();
        let bench = Bench::on(&bus);
        let program = bench.speaking_to(EEPROM, false).await;
        bench.steering.detach();
        while program.read(1).await != Err(Errno::ENODEV) {}
        program.close();
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
        // One that is unplugged at its owner ends by the next call.
        let bench = Bench::on(&bus);
        let program = bench.speaking_to(EEPROM, false).await;
        bus.unplug();
        assert_eq!(program.read(1).await, Err(Errno::ENODEV));
        program.close();
        assert!(matches!(bench.ended.await.unwrap(), Ended::Owner(_)));
    });
}

/// A session whose owner never answers.
struct Silence;

impl Opener for Silence {
    fn call(&self, _: Opcode, _: Vec<u8>, _: Duration) -> myclerk::bus::Pending<'_, Vec<u8>> {
        Box::pin(core::future::pending())
    }

    fn open(
        &self,
        _: Opcode,
        _: Vec<u8>,
        _: Duration,
    ) -> myclerk::bus::Pending<'_, (Vec<u8>, myclerk::bus::BusStream)> {
        Box::pin(core::future::pending())
    }

    fn lost(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(core::future::pending())
    }

    fn over(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(core::future::pending())
    }

    fn returned(&self, _: Duration) -> std::pin::Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(core::future::ready(true))
    }
}

#[test]
fn a_program_that_is_killed_does_not_wait_for_a_silent_owner() {
    run(async {
        let wish = Wish {
            device: "i2c:fake".to_owned(),
            ..Wish::default()
        };
        let remote = Remote::new(Rc::new(Silence), &wish);
        let entry = BusEntry {
            dev: wish.device.clone(),
            funcs: func::I2C,
            ..BusEntry::default()
        };
        let (kernel, cuse) = Kernel::with_device();
        let (node, _steering) = Node::new(Rc::new(cuse), remote, entry, String::new());
        spawn_local(node.serve());
        let program = kernel.open().await.unwrap();
        let call = program.start_read(1);
        tokio::time::pause();
        kernel.interrupt(&call);
        assert_eq!(kernel.finish(call).await, Err(Errno::EINTR));
    });
}
