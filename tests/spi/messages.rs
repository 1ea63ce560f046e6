//! `SPI_IOC_MESSAGE`, read and write as programs call them.

use myclerk::bus::spi::fake::FakeSpi;
use myclerk::bus::spi::op::Transfer;
use nix::errno::Errno;

use crate::program::{ARGUMENT, ROOM, SENT, Xfer, message};
use crate::rig::{Bench, run, until};

#[test]
fn what_is_sent_is_received_and_the_ioctl_counts_the_bytes() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        assert_eq!(program.exchange(b"hello").await, Ok(b"hello".to_vec()));
        let sent: Vec<u8> = (0..4096)
            .map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
            .collect();
        assert_eq!(program.exchange(&sent).await, Ok(sent));
        assert_eq!(chip.messages().len(), 2);
    });
}

#[test]
fn every_field_of_a_transfer_reaches_the_chip_and_all_are_one_message() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        program.put(SENT, &[1, 2, 3, 4]);
        program.put(ROOM, &[0; 8]);
        let xfers = [
            Xfer {
                tx: SENT,
                len: 4,
                hz: 1234,
                delay: 65_535,
                bits: 9,
                ..Xfer::default()
            },
            Xfer {
                rx: ROOM,
                len: 8,
                cs_change: 7,
                rx_nbits: 4,
                word_delay: 3,
                ..Xfer::default()
            },
            Xfer {
                len: 5,
                tx_nbits: 2,
                ..Xfer::default()
            },
            Xfer::new(SENT, ROOM, 2),
        ];
        let rounds = bench.kernel.rounds.get();
        assert_eq!(program.message(&xfers).await, Ok(19));
        assert_eq!(bench.kernel.rounds.get() - rounds, 3);
        assert_eq!(chip.messages(), [as_sent()]);
    });
}

/// What the chip sees of it.
fn as_sent() -> Vec<Transfer> {
    let default = Transfer::default;
    vec![
        Transfer {
            tx: vec![1, 2, 3, 4],
            hz: 1234,
            delay_us: 65_535,
            bits: 9,
            ..default()
        },
        Transfer {
            rx_len: 8,
            cs_change: true,
            rx_nbits: 4,
            word_delay_us: 3,
            ..default()
        },
        Transfer {
            idle_len: 5,
            tx_nbits: 2,
            ..default()
        },
        Transfer {
            tx: vec![1, 2],
            rx_len: 2,
            ..default()
        },
    ]
}

#[test]
fn a_message_of_127_transfers_both_ways_is_one() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        let sent: Vec<u8> = (0..127 * 32).map(|n: u32| n.to_le_bytes()[0]).collect();
        // Apart from each other: 254 pieces of memory and the structures.
        let mut xfers = Vec::new();
        for (n, piece) in (0..).zip(sent.chunks(32)) {
            let (tx, rx) = (SENT + n * 0x100, ROOM + n * 0x100);
            program.put(tx, piece);
            program.put(rx, &[0; 32]);
            xfers.push(Xfer::new(tx, rx, 32));
        }
        assert_eq!(program.message(&xfers).await, Ok(127 * 32));
        let received: Vec<_> = xfers
            .iter()
            .flat_map(|one| program.bytes(one.rx, 32))
            .collect();
        assert_eq!(received, sent);
        assert_eq!(chip.messages().len(), 1);
        // One more is more than CUSE names pieces for.
        xfers.push(xfers[0]);
        assert_eq!(program.message(&xfers).await, Err(Errno::EMSGSIZE));
    });
}

#[test]
fn transfers_side_by_side_in_memory_are_limited_by_the_kernels_number_alone() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        let sent: Vec<u8> = (0..511 * 4).map(|n: u32| n.to_le_bytes()[0]).collect();
        program.put(SENT, &sent);
        program.put(ROOM, &vec![0; sent.len()]);
        let xfer = |n: u64| Xfer::new(SENT + n * 4, ROOM + n * 4, 4);
        let xfers: Vec<_> = (0..511).map(xfer).collect();
        assert_eq!(program.message(&xfers).await, Ok(511 * 4));
        assert_eq!(program.bytes(ROOM, sent.len()), sent);
        assert_eq!(chip.messages()[0].len(), 511);
    });
}

#[test]
fn a_message_of_none_does_nothing_and_succeeds() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        // So does one of 512, whose number the kernel's header makes of it.
        assert_eq!(program.ioctl(message(0), 0).await, Ok(0));
        assert_eq!(chip.messages(), Vec::<Vec<Transfer>>::new());
    });
}

#[test]
fn too_much_is_too_much_as_in_the_kernel() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        program.put(SENT, &vec![1; 1 << 17]);
        program.put(ROOM, &vec![0; 1 << 17]);
        let (tx, rx) = (SENT, ROOM);
        // Nothing of it is read from the program: these addresses are not its own.
        let wild = u64::MAX - 5;
        for xfers in [
            vec![Xfer::new(tx, 0, 4097)],
            vec![Xfer::new(0, rx, 4097)],
            vec![Xfer::new(tx, 0, 4096), Xfer::new(tx, 0, 1)],
            vec![Xfer::new(wild, wild, u32::MAX)],
            vec![Xfer::new(0, 0, u32::MAX), Xfer::new(0, 0, 2)],
            vec![Xfer::new(0, 0, 1 << 30), Xfer::new(0, 0, 1 << 30)],
        ] {
            assert_eq!(program.message(&xfers).await, Err(Errno::EMSGSIZE));
        }
        assert_eq!(program.read(4097).await, Err(Errno::EMSGSIZE));
        assert_eq!(program.write(&[0; 4097]).await, Err(Errno::EMSGSIZE));
        assert_eq!(chip.messages(), Vec::<Vec<Transfer>>::new());
        // As much both ways, and what is clocked besides, does not count together.
        let most = [Xfer::new(tx, rx, 4096), Xfer::new(0, 0, 9000)];
        assert_eq!(program.message(&most).await, Ok(4096 + 9000));
    });
}

#[test]
fn a_larger_buffer_at_the_owner_is_used_as_far_as_cuse_goes() {
    run(async {
        let chip = FakeSpi::loopback();
        chip.set_bufsiz(1 << 20);
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        let sent: Vec<u8> = (0..120_000).map(|n: u32| n.to_le_bytes()[0]).collect();
        assert_eq!(program.exchange(&sent).await, Ok(sent.clone()));
        assert_eq!(program.write(&sent).await, Ok(120_000));
        let more = program.exchange(&vec![0; 1 << 17]).await;
        assert_eq!(more, Err(Errno::EMSGSIZE));
        assert_eq!(program.read(1 << 17).await, Err(Errno::EMSGSIZE));
    });
}

#[test]
fn read_and_write_are_messages_of_one_transfer() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        assert_eq!(program.write(&[1, 2, 3]).await, Ok(3));
        assert_eq!(program.read(5).await, Ok(vec![0; 5]));
        let [written, read] = &*chip.messages() else {
            panic!("{:?}", chip.messages());
        };
        assert_eq!(written[0].tx, [1, 2, 3]);
        assert_eq!((read[0].tx.len(), read[0].rx_len), (0, 5));
        assert_eq!(bench.kernel.poll(program.fh).await, 0x145);
    });
}

#[test]
fn what_the_controller_says_is_what_the_program_is_told() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        for errno in [Errno::EIO, Errno::ETIMEDOUT, Errno::EINVAL, Errno::EPROTO] {
            chip.fail(errno);
            assert_eq!(program.exchange(&[1]).await, Err(errno));
        }
        // Three bytes are no whole words of 16 bits.
        program.put(SENT, &[1, 2, 3]);
        let odd = Xfer {
            tx: SENT,
            len: 3,
            bits: 16,
            ..Xfer::default()
        };
        assert_eq!(program.message(&[odd]).await, Err(Errno::EINVAL));
        assert_eq!(program.exchange(&[1]).await, Ok(vec![1]));
    });
}

#[test]
fn of_several_programs_one_is_served_after_the_other() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let (one, other) = (bench.program().await, bench.program().await);
        chip.hold();
        let first = bench.kernel.start_read(one.fh, 1);
        until(|| chip.waiting() == 1).await;
        let second = bench.kernel.start_read(other.fh, 2);
        let third = bench.kernel.start_read(one.fh, 3);
        tokio::task::yield_now().await;
        // A signal ends what has not begun, and nothing else.
        bench.kernel.interrupt(&first);
        bench.kernel.interrupt(&second);
        assert_eq!(bench.kernel.finish_read(second).await, Err(Errno::EINTR));
        chip.release();
        assert_eq!(bench.kernel.finish_read(first).await, Ok(vec![0]));
        assert_eq!(bench.kernel.finish_read(third).await, Ok(vec![0; 3]));
        let lengths: Vec<_> = chip.messages().iter().map(|one| one[0].rx_len).collect();
        assert_eq!(lengths, [1, 3]);
    });
}

#[test]
fn a_program_of_32_bits_is_served_by_the_lower_half_of_its_pointers() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let mut program = bench.program().await;
        program.compat = true;
        assert_eq!(program.exchange(b"small").await, Ok(b"small".to_vec()));
        let high = 0xDEAD_0000_0000_0000;
        program.put(SENT, b"high");
        program.put(ROOM, &[0; 4]);
        let xfer = Xfer::new(SENT | high, ROOM | high, 4);
        assert_eq!(program.message(&[xfer]).await, Ok(4));
        assert_eq!(program.bytes(ROOM, 4), b"high");
        // Whose lower half is nothing, is nothing.
        let none = Xfer::new(high, 0, 4);
        assert_eq!(program.message(&[none]).await, Ok(4));
        assert_eq!(chip.messages().last().unwrap()[0].idle_len, 4);
    });
}

#[test]
fn wild_pointers_are_the_programs_own_fault() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        program.put(SENT, &[1; 8]);
        program.put(ROOM, &[0; 8]);
        for wild in [1, SENT - 100, SENT + 6, u64::MAX, u64::MAX - 7, 1 << 63] {
            let tx = Xfer::new(wild, 0, 4);
            assert_eq!(
                program.message(&[tx]).await,
                Err(Errno::EFAULT),
                "{wild:#x}"
            );
            let rx = Xfer::new(0, wild, 4);
            let good = Xfer::new(0, ROOM, 4);
            assert_eq!(
                program.message(&[good, rx]).await,
                Err(Errno::EFAULT),
                "{wild:#x}"
            );
        }
        assert_eq!(program.ioctl(message(1), 7).await, Err(Errno::EFAULT));
        // One byte of the last structure is missing.
        program.put(ARGUMENT, &[0; 63]);
        assert_eq!(
            program.ioctl(message(2), ARGUMENT).await,
            Err(Errno::EFAULT)
        );
        for wrong in [message(1) + (1 << 16), message(1) - (1 << 16)] {
            assert_eq!(program.ioctl(wrong, ARGUMENT).await, Err(Errno::EINVAL));
        }
        assert_eq!(program.ioctl(0x5401, ARGUMENT).await, Err(Errno::ENOTTY));
        assert_eq!(program.exchange(b"fine").await, Ok(b"fine".to_vec()));
    });
}
