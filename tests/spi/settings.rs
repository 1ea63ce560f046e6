//! The settings of a device, as programs see and change them.

use myclerk::bus::spi::fake::{FIRST, FakeSpi};
use myclerk::bus::spi::op::{Opened, Settings};
use nix::errno::Errno;

use crate::program::{
    RD_BITS, RD_HZ, RD_LSB, RD_MODE, RD_MODE32, WR_BITS, WR_HZ, WR_LSB, WR_MODE, WR_MODE32,
};
use crate::rig::{Bench, request, run, until};

#[test]
fn a_device_is_as_its_owner_has_it_until_a_program_says_otherwise() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        for (what, value) in [
            (RD_MODE, 3),
            (RD_MODE32, 3),
            (RD_LSB, 0),
            (RD_BITS, 8),
            (RD_HZ, 10_000_000),
        ] {
            assert_eq!(program.get(what).await, Ok(value), "{what:#x}");
        }
        assert_eq!(chip.settings(), FIRST);
    });
}

#[test]
fn what_a_program_sets_is_so_at_the_owner_and_for_all_programs() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let (one, other) = (bench.program().await, bench.program().await);
        // Mode 1, chip select high, quad output.
        assert_eq!(one.set(WR_MODE32, 0x205).await, Ok(0));
        assert_eq!(one.set(WR_LSB, 9).await, Ok(0));
        assert_eq!(one.set(WR_BITS, 12).await, Ok(0));
        assert_eq!(one.set(WR_HZ, 123_456).await, Ok(0));
        let settings = Settings {
            mode: 0x20D,
            bits: 12,
            hz: 123_456,
        };
        assert_eq!(chip.settings(), settings);
        for (what, value) in [
            (RD_MODE, 0x0D),
            (RD_MODE32, 0x20D),
            (RD_LSB, 1),
            (RD_BITS, 12),
            (RD_HZ, 123_456),
        ] {
            assert_eq!(other.get(what).await, Ok(value), "{what:#x}");
        }
        // The short form clears what it has no bit for.
        assert_eq!(other.set(WR_MODE, 0x10).await, Ok(0));
        assert_eq!(chip.settings().mode, 0x10);
        assert_eq!(other.set(WR_BITS, 0).await, Ok(0));
        assert_eq!(one.get(RD_BITS).await, Ok(8));
    });
}

#[test]
fn what_the_controller_cannot_do_changes_nothing() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        for (what, value) in [
            (WR_HZ, 0),
            (WR_BITS, 33),
            (WR_BITS, 3),
            // The controller has no ready line, and nobody knows these bits.
            (WR_MODE, 0x80),
            (WR_MODE32, 0x1000),
            (WR_MODE32, 1 << 31),
        ] {
            assert_eq!(
                program.set(what, value).await,
                Err(Errno::EINVAL),
                "{what:#x}"
            );
        }
        assert_eq!(chip.settings(), FIRST);
        assert_eq!(program.get(RD_MODE32).await, Ok(3));
        assert_eq!(program.ioctl(WR_MODE32, 5).await, Err(Errno::EFAULT));
        assert_eq!(program.ioctl(RD_MODE32, 5).await, Err(Errno::EFAULT));
    });
}

#[test]
fn after_the_last_close_the_clock_rests_and_the_mode_stays() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let (one, other) = (bench.program().await, bench.program().await);
        one.set(WR_HZ, 1000).await.unwrap();
        one.set(WR_MODE, 0).await.unwrap();
        one.close();
        assert_eq!(other.get(RD_HZ).await, Ok(1000));
        other.close();
        until(|| chip.settings().hz == FIRST.hz).await;
        let next = bench.program().await;
        assert_eq!(next.get(RD_HZ).await, Ok(FIRST.hz));
        assert_eq!(next.get(RD_MODE).await, Ok(0));
    });
}

/// An owner that knows the profile and nothing else.
fn plain_owner() -> Opened {
    Opened {
        settings: Settings {
            mode: 0,
            bits: 8,
            hz: 1000,
        },
        ext: None,
    }
}

#[test]
fn an_owner_that_announced_nothing_is_asked_for_nothing_beyond_the_profile() {
    use crate::program::Xfer;
    run(async {
        let (bench, mut owner) = Bench::alone(plain_owner());
        let program = bench.program().await;
        for flags in [0x10, 0x100, 0x2_0000] {
            assert_eq!(program.set(WR_MODE32, flags).await, Err(Errno::EINVAL));
        }
        let default = Xfer::default;
        for beyond in [
            Xfer {
                bits: 9,
                ..default()
            },
            Xfer {
                tx_nbits: 2,
                ..default()
            },
            Xfer {
                rx_nbits: 4,
                ..default()
            },
            Xfer {
                word_delay: 1,
                ..default()
            },
            Xfer::new(0, 0, 5),
        ] {
            assert_eq!(program.message(&[beyond]).await, Err(Errno::EINVAL));
        }
        assert_eq!(
            program.message(&[default(); 17]).await,
            Err(Errno::EMSGSIZE)
        );
        assert_eq!(program.write(&[0; 4097]).await, Err(Errno::EMSGSIZE));
        assert!(owner.inbound.try_recv().is_err(), "nothing was asked");
        // What the settings say already, it need not be told.
        let same = Xfer {
            bits: 8,
            tx_nbits: 1,
            rx_nbits: 1,
            ..default()
        };
        let array = [same; 16];
        let answers = async {
            let (corr, opcode, payload) = request(&mut owner).await;
            assert_eq!(opcode, myclerk::wire::opcode::Opcode::SpiTransfer);
            assert_eq!(payload[..8], [0x91, 0xDC, 0, 16, 0x95, 0xC4, 0, 0]);
            let received = vec![Vec::new(); 16];
            let answer = myclerk::bus::spi::op::encode_received(&received);
            owner
                .outlet
                .respond(corr, myclerk::wire::status::Status::Ok, answer);
        };
        let (result, ()) = tokio::join!(program.message(&array), answers);
        assert_eq!(result, Ok(0));
    });
}

#[test]
fn who_opens_after_the_last_close_finds_the_resting_clock_before_the_owner_was_told() {
    use myclerk::wire::status::Status;
    run(async {
        let (bench, mut owner) = Bench::alone(plain_owner());
        let program = bench.program().await;
        let configured = async {
            let (corr, ..) = request(&mut owner).await;
            let mut opened = plain_owner();
            opened.settings.hz = 5;
            let answer = opened.encode().unwrap();
            owner.outlet.respond(corr, Status::Ok, answer);
        };
        let (set, ()) = tokio::join!(program.set(WR_HZ, 5), configured);
        assert_eq!(set, Ok(0));
        program.close();
        let next = bench.program().await;
        assert_eq!(next.get(RD_HZ).await, Ok(1000));
    });
}
