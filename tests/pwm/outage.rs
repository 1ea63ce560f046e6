//! The session is lost, and comes back or does not.

use std::time::Duration;

use myclerk::bus::fake::FakeSession;
use myclerk::bus::pwm::fake::FakePwm;
use myclerk::bus::pwm::hardware::State;
use myclerk::bus::{Ended, Local, OperateError};
use myclerk::wire::status::Status;

use crate::{RUNNING, attach, attach_for, run, servo, until, words};

/// Shorter than a test may take.
const GRACE: Duration = Duration::from_secs(5);

/// The session is lost, and both sides know; the owner has switched the channels off.
async fn cut(chip: &FakePwm, session: &FakeSession, local: &Local) {
    session.cut();
    until(|| !local.handle.is_live()).await;
    until(|| !chip.state(1).is_some_and(|state| state.on)).await;
}

#[test]
fn channels_run_as_before_when_their_owner_is_back() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let local = attach_for(GRACE, &session, &servo("1500")).await.unwrap();
        let operate = |name: &str, parameters| local.handle.operate(name.to_owned(), parameters);
        let mut other = servo("100");
        other.extend(words(&[("channel", "0"), ("polarity", "inversed")]));
        operate("set", other).await.unwrap();
        operate("set", servo("2000")).await.unwrap();
        assert!(local.handle.is_live());
        for _ in 0..2 {
            cut(&chip, &session, &local).await;
            for name in ["set", "off"] {
                let refused = operate(name, servo("1")).await;
                let Err(OperateError::Failed(why)) = refused else {
                    panic!("{refused:?}");
                };
                assert!(why.contains("cannot be reached"), "{why}");
            }
            until(|| chip.state(0).is_none() && chip.state(1).is_none()).await;
            session.mend();
            until(|| local.handle.is_live()).await;
            let inversed = State {
                duty_ns: 100,
                inversed: true,
                ..RUNNING
            };
            let longer = State {
                duty_ns: 2000,
                ..RUNNING
            };
            assert_eq!(
                (chip.state(0), chip.state(1)),
                (Some(inversed), Some(longer))
            );
        }
        operate("set", servo("1500")).await.unwrap();
        assert_eq!(chip.state(1), Some(RUNNING));
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!((chip.state(0), chip.state(1)), (None, None));
    });
}

#[test]
fn a_channel_that_is_held_is_ours_again_when_its_owner_is_back() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let mut held = servo("1500");
        held.extend(words(&[("hold", "yes")]));
        let local = attach_for(GRACE, &session, &held).await.unwrap();
        session.cut();
        until(|| !local.handle.is_live()).await;
        assert_eq!(chip.state(1), Some(RUNNING));
        session.mend();
        until(|| local.handle.is_live()).await;
        assert_eq!(chip.state(1), Some(RUNNING));
        let off = local.handle.operate("off".to_owned(), servo("0")).await;
        off.unwrap();
        assert!(!chip.state(1).unwrap().on);
        assert_eq!(local.ended.await, Ended::Detached);
    });
}

#[test]
fn an_owner_that_does_not_come_back_is_told_after_a_while() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let local = attach_for(GRACE, &session, &servo("1500")).await.unwrap();
        cut(&chip, &session, &local).await;
        tokio::time::pause();
        assert_eq!(local.ended.await, Ended::Session);
        let late = local.handle.operate("set".to_owned(), servo("1")).await;
        assert!(matches!(late, Err(OperateError::Ask(_))), "{late:?}");
    });
}

#[test]
fn a_channel_that_somebody_else_has_by_then_is_not_ours_any_more() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let local = attach_for(GRACE, &session, &servo("1500")).await.unwrap();
        cut(&chip, &session, &local).await;
        until(|| chip.state(1).is_none()).await;
        chip.occupy(1);
        session.mend();
        tokio::time::pause();
        assert_eq!(local.ended.await, Ended::Owner(Status::ServiceUnavailable));
        assert_eq!(chip.state(1), Some(State::default()));
    });
}

#[test]
fn a_chip_that_is_detached_while_its_owner_is_lost_is_gone_at_once() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let local = attach_for(GRACE, &session, &servo("1500")).await.unwrap();
        cut(&chip, &session, &local).await;
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
    });
}

#[test]
fn a_channel_that_cannot_run_otherwise_is_no_longer_attached() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let local = attach(&session, &servo("1500")).await.unwrap();
        let mut wrong = servo("1");
        wrong.extend(words(&[("period-ns", "7")]));
        session.cut();
        let refused = local.handle.operate("set".to_owned(), wrong).await;
        assert!(matches!(refused, Err(OperateError::Ask(_))), "{refused:?}");
        assert_eq!(local.ended.await, Ended::Session);
    });
}
