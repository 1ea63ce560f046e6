//! The session is lost, and comes back or does not; the device is given back.

use myclerk::bus::fake::FakeSession;
use myclerk::bus::spi::fake::{FIRST, FakeSpi};
use myclerk::bus::spi::op::Settings;
use myclerk::bus::{Ended, Handle as _};
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::lent::played;
use crate::program::{RD_HZ, RD_MODE32, WR_BITS, WR_HZ, WR_MODE32};
use crate::rig::{Bench, GRACE, request, run, until};

/// The session is lost, both sides know, and the owner has put its device to rest.
async fn cut(chip: &FakeSpi, session: &FakeSession, bench: &Bench) {
    session.cut();
    until(|| !bench.steering.is_live() && chip.opened() == 0).await;
}

#[test]
fn a_device_is_as_programs_had_it_when_its_owner_is_back() {
    run(async {
        let chip = FakeSpi::loopback();
        let session = chip.session();
        let bench = Bench::over(&session, GRACE).await;
        let program = bench.program().await;
        let settings = Settings {
            mode: 0x205,
            bits: 16,
            hz: 12_345,
        };
        program.set(WR_MODE32, settings.mode).await.unwrap();
        program.set(WR_BITS, 16).await.unwrap();
        program.set(WR_HZ, 12_345).await.unwrap();
        for _ in 0..2 {
            cut(&chip, &session, &bench).await;
            assert_eq!(chip.settings(), FIRST, "the owner's settings are put back");
            assert_eq!(program.exchange(&[1, 2]).await, Err(Errno::ETIMEDOUT));
            assert_eq!(program.read(2).await, Err(Errno::ETIMEDOUT));
            assert_eq!(program.write(&[1, 2]).await, Err(Errno::ETIMEDOUT));
            assert_eq!(program.set(WR_HZ, 1).await, Err(Errno::ETIMEDOUT));
            // What is known needs no owner.
            assert_eq!(program.get(RD_MODE32).await, Ok(settings.mode));
            let another = bench.program().await;
            assert_eq!(another.get(RD_HZ).await, Ok(settings.hz));
            another.close();
            session.mend();
            until(|| bench.steering.is_live()).await;
            assert_eq!(chip.settings(), settings);
            assert_eq!(program.exchange(&[1, 2]).await, Ok(vec![1, 2]));
        }
        program.close();
        // The clock of a device that nobody has open is its owner's.
        until(|| chip.settings().hz == FIRST.hz).await;
    });
}

#[test]
fn a_device_that_was_closed_meanwhile_rests_when_its_owner_is_back() {
    run(async {
        let chip = FakeSpi::loopback();
        let session = chip.session();
        let bench = Bench::over(&session, GRACE).await;
        let program = bench.program().await;
        program.set(WR_HZ, 12_345).await.unwrap();
        cut(&chip, &session, &bench).await;
        program.close();
        let next = bench.program().await;
        assert_eq!(next.get(RD_HZ).await, Ok(FIRST.hz));
        session.mend();
        until(|| bench.steering.is_live()).await;
        assert_eq!(chip.settings(), FIRST);
        assert_eq!(next.get(RD_HZ).await, Ok(FIRST.hz));
    });
}

#[test]
fn a_device_that_was_closed_while_it_was_opened_again_rests_all_the_same() {
    use myclerk::bus::fake::OPENING;
    use myclerk::bus::spi::op::{Change, OpenRequest, Opened};

    run(async {
        let (session, streams) = played();
        let opened = |hz| {
            let settings = Settings { hz, ..FIRST };
            Opened {
                settings,
                ext: None,
            }
        };
        let answers = async |hz| {
            until(|| !streams.borrow().is_empty()).await;
            let (asked, owner) = streams.borrow_mut().remove(0);
            let answer = opened(hz).encode().unwrap();
            let give = move || {
                owner.outlet.respond(OPENING, Status::Ok, answer);
                owner
            };
            (OpenRequest::decode(&asked).unwrap().settings.hz, give)
        };
        let first = async { answers(1000).await.1() };
        let (bench, mut owner) = tokio::join!(Bench::over(&session, GRACE), first);
        let program = bench.program().await;
        let configured = async {
            let (corr, ..) = request(&mut owner).await;
            let answer = opened(5).encode().unwrap();
            owner.outlet.respond(corr, Status::Ok, answer);
        };
        let (set, ()) = tokio::join!(program.set(WR_HZ, 5), configured);
        assert_eq!(set, Ok(0));
        session.cut();
        until(|| !bench.steering.is_live()).await;
        session.mend();
        let (asked, give) = answers(5).await;
        assert_eq!(asked, 5);
        program.close();
        let next = bench.program().await;
        assert_eq!(next.get(RD_HZ).await, Ok(1000));
        let mut owner = give();
        let (_, _, payload) = request(&mut owner).await;
        assert_eq!(Change::decode(&payload).unwrap().hz, Some(1000));
        assert_eq!(next.get(RD_HZ).await, Ok(1000));
    });
}

#[test]
fn what_was_on_its_way_when_the_session_was_lost_has_timed_out() {
    run(async {
        let chip = FakeSpi::loopback();
        let session = chip.session();
        let bench = Bench::over(&session, GRACE).await;
        let (one, other) = (bench.program().await, bench.program().await);
        chip.hold();
        let calls = [
            bench.kernel.start_read(one.fh, 1),
            bench.kernel.start_read(other.fh, 2),
        ];
        until(|| chip.waiting() == 1).await;
        session.cut();
        for call in calls {
            assert_eq!(bench.kernel.finish_read(call).await, Err(Errno::ETIMEDOUT));
        }
        // What is on the bus is finished, then the device is given back.
        assert_eq!(chip.opened(), 1);
        chip.release();
        until(|| chip.opened() == 0).await;
        assert_eq!(chip.messages().len(), 1, "the other one never began");
    });
}

#[test]
fn after_the_grace_time_there_is_no_device() {
    run(async {
        let chip = FakeSpi::loopback();
        let session = chip.session();
        let bench = Bench::over(&session, GRACE).await;
        let program = bench.program().await;
        cut(&chip, &session, &bench).await;
        tokio::time::pause();
        until(|| bench.left.get()).await;
        tokio::time::resume();
        assert_eq!(program.exchange(&[1]).await, Err(Errno::ENODEV));
        assert_eq!(program.get(RD_MODE32).await, Err(Errno::ENODEV));
        assert_eq!(bench.kernel.open().await, Err(Errno::ENODEV));
        program.close();
        assert_eq!(bench.ended.await.unwrap(), Ended::Session);
    });
}

#[test]
fn an_owner_whose_device_cannot_be_as_it_was_ends_it() {
    run(async {
        let chip = FakeSpi::loopback();
        let session = chip.session();
        let bench = Bench::over(&session, GRACE).await;
        let program = bench.program().await;
        program.set(WR_HZ, 12_345).await.unwrap();
        cut(&chip, &session, &bench).await;
        chip.fail(Errno::EINVAL);
        session.mend();
        until(|| bench.left.get()).await;
        assert_eq!(program.exchange(&[1]).await, Err(Errno::ENODEV));
        program.close();
        assert_eq!(
            bench.ended.await.unwrap(),
            Ended::Owner(Status::InternalError)
        );
    });
}

#[test]
fn a_device_that_is_given_back_is_as_it_was_before() {
    run(async {
        let chip = FakeSpi::loopback();
        let bench = Bench::on(&chip).await;
        let program = bench.program().await;
        program.set(WR_MODE32, 0).await.unwrap();
        program.set(WR_BITS, 16).await.unwrap();
        bench.steering.detach();
        until(|| bench.left.get()).await;
        assert_eq!(program.exchange(&[1, 2]).await, Err(Errno::ENODEV));
        program.close();
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
        assert_eq!((chip.settings(), chip.opened()), (FIRST, 0));
    });
}
