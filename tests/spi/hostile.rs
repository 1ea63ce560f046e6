//! Owners that answer what was not asked, and programs that race with themselves.

use myclerk::bus::spi::fake::{FIRST, FakeSpi};
use myclerk::bus::spi::op::{Change, Extension, Opened, encode_received, mode};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::program::{ARGUMENT, RD_MODE32, ROOM, SENT, WR_MODE32, Xfer};
use crate::rig::{Bench, request, run};

fn opened() -> Opened {
    Opened {
        settings: FIRST,
        ext: Some(Extension {
            entries: 127,
            bufsiz: 4096,
            flags: mode::ALL & !0xF,
        }),
    }
}

#[test]
fn an_owner_writes_only_what_the_program_named() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        let program = bench.program().await;
        for answer in [
            encode_received(&[vec![0x66; 4]]),
            encode_received(&[vec![0x66; 4], vec![0x66; 4], vec![]]),
            encode_received(&[vec![0x66; 5], vec![], vec![]]),
            encode_received(&[vec![0x66; 3], vec![], vec![0x66; 2]]),
            encode_received(&[vec![0x66; 6], vec![], vec![]]),
            encode_received(&[vec![0x66; 4], vec![0x66], vec![0x66; 2]]),
            encode_received(&[vec![0x66; 4], vec![], vec![0x66; 2], vec![0x66]]),
            encode_received(&vec![vec![0x66; 4096]; 40]),
            vec![],
            vec![0xC0],
            vec![0x91, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF],
            vec![0x91, 0x93, 0xC6, 0xFF, 0xFF, 0xFF, 0xFF],
        ] {
            program.put(SENT, &[1]);
            program.put(ROOM, &[0x55; 8]);
            program.put(ROOM + 0x100, &[0x55; 8]);
            let xfers = [
                Xfer::new(0, ROOM, 4),
                Xfer::new(SENT, 0, 1),
                Xfer::new(0, ROOM + 0x100, 2),
            ];
            let answers = async {
                let (corr, ..) = request(&mut owner).await;
                owner.outlet.respond(corr, Status::Ok, answer.clone());
            };
            let (result, ()) = tokio::join!(program.message(&xfers), answers);
            assert_eq!(result, Err(Errno::EIO), "{answer:?}");
            assert_eq!(program.bytes(ROOM, 8), [0x55; 8]);
            assert_eq!(program.bytes(ROOM + 0x100, 8), [0x55; 8]);
        }
        let answers = async {
            let (corr, ..) = request(&mut owner).await;
            let long = myclerk::bus::spi::op::encode_read_answer(&[0; 11]);
            owner.outlet.respond(corr, Status::Ok, long);
        };
        let (result, ()) = tokio::join!(program.read(10), answers);
        assert_eq!(result, Err(Errno::EIO));
    });
}

#[test]
fn settings_without_sense_are_no_settings() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        let program = bench.program().await;
        for answer in [
            &b""[..],
            b"\x80",
            b"\x83\xa2hz\x01\xa4bits\xcd\x01\x00\xa4mode\x03",
        ] {
            let answers = async {
                let (corr, opcode, payload) = request(&mut owner).await;
                assert_eq!(opcode, Opcode::SpiConfigure);
                assert_eq!(Change::decode(&payload), Ok(Change::of_mode(1, true)));
                owner.outlet.respond(corr, Status::Ok, answer.to_vec());
            };
            let (result, ()) = tokio::join!(program.set(WR_MODE32, 1), answers);
            assert_eq!(result, Err(Errno::EIO));
            assert_eq!(program.get(RD_MODE32).await, Ok(FIRST.mode));
        }
    });
}

#[test]
fn an_answer_to_nothing_and_a_request_of_the_owners_change_nothing() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        let program = bench.program().await;
        owner.outlet.respond(77, Status::Ok, vec![0x80]);
        owner.outlet.data(vec![1, 2, 3], false);
        owner.outlet.event(Opcode::SpiTransfer, vec![1]);
        let answers = async {
            let (corr, ..) = request(&mut owner).await;
            owner.outlet.respond(corr + 1, Status::Ok, vec![0x80]);
            owner.outlet.respond(corr, Status::Ok, vec![0x80]);
        };
        let (result, ()) = tokio::join!(program.write(&[1]), answers);
        assert_eq!(result, Ok(1));
    });
}

#[test]
fn an_errno_of_the_owner_is_one_or_none() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        let program = bench.program().await;
        for (detail, errno) in [
            (5, Errno::EIO),
            (-90, Errno::EMSGSIZE),
            (0, Errno::EIO),
            (1 << 40, Errno::EIO),
            (i64::MIN, Errno::EIO),
            (4095, Errno::EIO),
        ] {
            let error = myclerk::wire::error::ErrorMap::new("device-io").with_detail(detail);
            let answers = async {
                let (corr, ..) = request(&mut owner).await;
                let payload = error.encode().unwrap();
                owner.outlet.respond(corr, Status::InternalError, payload);
            };
            let (result, ()) = tokio::join!(program.write(&[1]), answers);
            assert_eq!(result, Err(errno), "{detail}");
        }
    });
}

/// The kernel keeps nothing between two rounds: each round is what the program's memory is then.
#[test]
fn a_program_that_changes_its_structures_meanwhile_harms_nobody_else() {
    use myclerk::bus::spi::client::message::{Message, Stop};
    use myclerk::kernel::cuse::{Ioctl, Pause, Piece};

    let xfer = |tx: u64, rx: u64, len: u32| {
        let mut bytes = [tx, rx].map(u64::to_ne_bytes).concat();
        bytes.extend(len.to_ne_bytes());
        bytes.resize(32, 0);
        bytes
    };
    let round = |input: Vec<u8>, out_size: u32| {
        let ioctl = Ioctl {
            fh: 1,
            cmd: 0,
            arg: ARGUMENT,
            input,
            out_size,
            compat: false,
        };
        Message::take(&ioctl, 1, 4096)
    };
    let sent = [xfer(SENT, ROOM, 4), vec![1, 2, 3, 4]].concat();
    assert!(round(sent.clone(), 4).is_ok());
    // The structure says less than the round before asked for, or nothing at all.
    for (len, tx, rx) in [(3, SENT, ROOM), (0, SENT, ROOM), (4, 0, ROOM), (4, SENT, 0)] {
        let input = [xfer(tx, rx, len), vec![1, 2, 3, 4]].concat();
        let again = round(input, 4);
        assert_eq!(
            again,
            Err(Stop::Pause(Pause::Changed)),
            "{len} {tx:#x} {rx:#x}"
        );
    }
    // More: it is asked for from the beginning.
    let input = [xfer(SENT, ROOM, 5), vec![1, 2, 3, 4]].concat();
    let more = Pause::Again {
        inputs: vec![Piece::at(ARGUMENT, 32), Piece::at(SENT, 5)],
        outputs: vec![Piece::at(ROOM, 5)],
    };
    assert_eq!(round(input, 4), Err(Stop::Pause(more)));
    // So much that it is refused.
    let input = [xfer(SENT, ROOM, 4097), vec![1, 2, 3, 4]].concat();
    assert_eq!(round(input, 4), Err(Stop::Failed(Errno::EMSGSIZE)));
}

#[test]
fn a_chip_that_leaves_in_the_middle_ends_the_device() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        chip.unplug();
        assert_eq!(program.exchange(&[1]).await, Err(Errno::ESHUTDOWN));
        crate::rig::until(|| bench.left.get()).await;
        assert_eq!(program.write(&[1]).await, Err(Errno::ESHUTDOWN));
        assert_eq!(program.get(RD_MODE32).await, Err(Errno::ESHUTDOWN));
        assert_eq!(bench.kernel.open().await, Err(Errno::ESHUTDOWN));
        program.close();
        let ended = bench.ended.await.unwrap();
        assert_eq!(
            ended,
            myclerk::bus::Ended::Owner(Status::ServiceUnavailable)
        );
    });
}
