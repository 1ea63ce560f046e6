//! Both halves of PWM, over a fake chip and a session in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "pwm/outage.rs"]
mod outage;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use myclerk::bus::fake::{self, FakeSession, here};
use myclerk::bus::pwm::client::PRESENTER;
use myclerk::bus::pwm::fake::FakePwm;
use myclerk::bus::pwm::hardware::State;
use myclerk::bus::pwm::op::{Configure, Configured, Polarity, Set};
use myclerk::bus::pwm::server::{self, Holder};
use myclerk::bus::{
    AttachError, BusStream, End, Ended, Grant, Inbound, Local, Opener, OperateError, Outgoing,
    Parameters, Wish,
};
use myclerk::wire::class::Class;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(10);
const RUNNING: State = State {
    period_ns: 20_000,
    duty_ns: 1_500,
    inversed: false,
    on: true,
};

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test hangs")
    })
}

/// Waits for what nothing tells the peer of.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn configure(hold: bool) -> Configure {
    Configure {
        dev: "pwm:pwmchip0".to_owned(),
        ch: 1,
        period_ns: 20_000,
        pol: Polarity::Normal,
        hold,
    }
}

async fn open(
    session: &FakeSession,
    request: &Configure,
) -> Result<(Configured, BusStream), String> {
    let payload = request.encode().unwrap();
    let opened = session
        .open(Opcode::GpioPwmConfigure, payload, PATIENCE)
        .await;
    let (answer, stream) = opened.map_err(|error| error.to_string())?;
    Ok((Configured::decode(&answer).unwrap(), stream))
}

async fn ask(stream: &mut BusStream, opcode: Opcode, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let outgoing = Outgoing {
        opcode,
        class: Class::Interactive,
        payload,
        reply_len: 64,
        timeout_ms: 0,
        deadline_ms: 0,
    };
    stream.outlet.request(outgoing).unwrap();
    match stream.inbound.recv().await {
        Some(Inbound::Response {
            status, payload, ..
        }) if status.is_success() => Ok(payload),
        Some(Inbound::Response { payload, .. }) => {
            let error = myclerk::wire::error::ErrorMap::decode(&payload).unwrap();
            Err(format!("{}: {}", error.sub, error.msg.unwrap_or_default()))
        }
        other => panic!("{other:?} instead of an answer"),
    }
}

async fn set(stream: &mut BusStream, duty_ns: u64, on: bool) -> Result<Set, String> {
    let payload = Set { duty_ns, on }.encode().unwrap();
    let answer = ask(stream, Opcode::GpioPwmSet, payload).await?;
    Ok(Set::decode(&answer).unwrap())
}

#[test]
fn a_channel_is_configured_run_and_given_back() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let (configured, mut stream) = open(&session, &configure(false)).await.unwrap();
        assert_eq!(
            (configured.period_ns, configured.pol),
            (20_000, Polarity::Normal)
        );
        assert!(
            !chip.state(1).unwrap().on,
            "it does not run before it is told to"
        );
        let running = Set {
            duty_ns: 1_500,
            on: true,
        };
        assert_eq!(set(&mut stream, 1_500, true).await, Ok(running));
        assert_eq!(chip.state(1), Some(RUNNING));
        let stopped = Set {
            on: false,
            ..running
        };
        assert_eq!(set(&mut stream, 1_500, false).await, Ok(stopped));
        ask(&mut stream, Opcode::GpioLineRelease, vec![])
            .await
            .unwrap();
        assert_eq!(chip.state(1), None, "it is free when that is answered");
    });
}

#[test]
fn a_channel_is_off_when_the_session_is_cut() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let (_, mut stream) = open(&session, &configure(false)).await.unwrap();
        set(&mut stream, 1_500, true).await.unwrap();
        session.cut();
        until(|| chip.state(1).is_none()).await;
    });
}

#[test]
fn a_channel_that_is_held_goes_on_and_can_be_had_again() {
    run(async {
        let chip = FakePwm::new(2);
        let holder = Arc::new(Holder::default());
        let session = chip.session_with(&holder);
        let (_, mut stream) = open(&session, &configure(true)).await.unwrap();
        set(&mut stream, 1_500, true).await.unwrap();
        session.cut();
        let session = chip.session_with(&holder);
        // The old stream ends on a thread of its own.
        let (_, mut stream) = loop {
            assert_eq!(chip.state(1).map(|state| state.on), Some(true));
            match open(&session, &configure(false)).await {
                Ok(opened) => break opened,
                Err(why) => assert!(why.contains("is in use"), "{why}"),
            }
        };
        set(&mut stream, 20_000, true).await.unwrap();
        ask(&mut stream, Opcode::GpioLineRelease, vec![])
            .await
            .unwrap();
        assert_eq!(chip.state(1), None);
    });
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        chip.occupy(0);
        let refused = open(
            &session,
            &Configure {
                ch: 0,
                ..configure(false)
            },
        )
        .await
        .err()
        .unwrap();
        assert!(
            refused.starts_with("channel 0 is in use at its owner"),
            "{refused}"
        );
        let refused = open(
            &session,
            &Configure {
                ch: 2,
                ..configure(false)
            },
        )
        .await
        .err()
        .unwrap();
        assert_eq!(refused, "there is no channel 2, the chip has 2");
        chip.fail(Errno::EINVAL);
        let refused = open(&session, &configure(true)).await.err().unwrap();
        assert_eq!(
            refused,
            "the hardware cannot do a period of 20000 ns with normal polarity"
        );
        assert_eq!(chip.state(1), None, "nothing stays taken");
    });
}

#[test]
fn a_stream_goes_on_after_what_cannot_be() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let (_, mut stream) = open(&session, &configure(false)).await.unwrap();
        let refused = set(&mut stream, 20_001, true).await.unwrap_err();
        assert_eq!(
            refused,
            "bad-payload: a duty cycle of 20001 ns is longer than the period of 20000 ns"
        );
        let refused = ask(&mut stream, Opcode::GpioLineSet, vec![0x92, 1, 1])
            .await
            .unwrap_err();
        assert!(refused.starts_with("unsupported"), "{refused}");
        for payload in [&b""[..], b"\x80", b"\x82\xa2on\xc3\xa7duty-ns\xff", b"\x90"] {
            assert!(
                ask(&mut stream, Opcode::GpioPwmSet, payload.to_vec())
                    .await
                    .is_err()
            );
        }
        chip.fail(Errno::EIO);
        let refused = set(&mut stream, 1, true).await.unwrap_err();
        assert!(
            refused.starts_with("device-io: cannot set the channel"),
            "{refused}"
        );
        assert!(
            set(&mut stream, 1, true).await.is_ok(),
            "the stream goes on"
        );
    });
}

#[test]
fn a_chip_that_is_pulled_out_ends_its_streams() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let (_, mut stream) = open(&session, &configure(false)).await.unwrap();
        chip.unplug();
        let refused = set(&mut stream, 1, true).await.unwrap_err();
        assert!(refused.starts_with("device-gone"), "{refused}");
        let gone = Inbound::Reset {
            status: Status::ServiceUnavailable,
        };
        assert_eq!(stream.inbound.recv().await, Some(gone));
        assert_eq!(
            open(&session, &configure(false)).await.err().unwrap(),
            "the device was unplugged"
        );
    });
}

#[test]
fn a_request_that_is_too_old_or_without_the_right_changes_nothing() {
    run(async {
        for (write, age_secs, on) in [(true, 11, false), (true, 10, true), (false, 0, false)] {
            let chip = FakePwm::new(2);
            let grant = Grant {
                corr: fake::OPENING,
                opcode: Opcode::GpioPwmConfigure,
                payload: configure(true).encode().unwrap(),
                present: chip.present(),
                write,
                quiet: true,
            };
            let (_peer, mut stream) = fake::pair();
            let (send, inbound) = tokio::sync::mpsc::unbounded_channel();
            stream.inbound = inbound;
            let payload = Set {
                duty_ns: 5,
                on: true,
            }
            .encode()
            .unwrap();
            let opcode = Opcode::GpioPwmSet;
            send.send(Inbound::Request {
                corr: 7,
                opcode,
                payload,
                age_secs,
            })
            .unwrap();
            drop(send);
            let end = server::serve(Arc::new(chip.clone()), Arc::default(), grant, stream).await;
            assert_eq!(end == End::PeerLeft, write);
            assert_eq!(chip.state(1).is_some_and(|state| state.on), on);
        }
    });
}

fn words(pairs: &[(&str, &str)]) -> Parameters {
    let owned = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    owned.collect()
}

fn servo(duty_ns: &str) -> Parameters {
    words(&[
        ("channel", "1"),
        ("period-ns", "20000"),
        ("duty-ns", duty_ns),
    ])
}

async fn attach(session: &Rc<FakeSession>, parameters: &Parameters) -> Result<Local, AttachError> {
    attach_for(Duration::ZERO, session, parameters).await
}

/// With an owner that is waited for.
async fn attach_for(
    grace: Duration,
    session: &Rc<FakeSession>,
    parameters: &Parameters,
) -> Result<Local, AttachError> {
    let options = parameters
        .iter()
        .map(|(key, value)| (key.clone(), vec![value.clone()]));
    let wish = Wish {
        device: "pwm:pwmchip0".to_owned(),
        node: "bench".to_owned(),
        options: options.collect::<BTreeMap<_, _>>(),
        grace,
        ..Wish::default()
    };
    (PRESENTER.attach)(Rc::clone(session) as Rc<dyn Opener>, wish, &here()).await
}

#[test]
fn a_chip_is_attached_while_a_channel_of_it_runs() {
    run(async {
        let chip = FakePwm::new(2);
        let local = attach(&chip.session(), &servo("1500")).await.unwrap();
        assert_eq!(chip.state(1), Some(RUNNING));
        assert_eq!(local.handle.files(), ["channel 1 (1500 of 20000 ns)"]);
        let done = local
            .handle
            .operate("set".to_owned(), servo("2000"))
            .await
            .unwrap();
        let expected = json!({
            "channel": 1, "period-ns": 20000, "duty-ns": 2000, "polarity": "normal",
            "hold": false, "on": true,
        });
        assert_eq!(done, expected);
        assert_eq!(
            chip.state(1),
            Some(State {
                duty_ns: 2000,
                ..RUNNING
            })
        );
        local
            .handle
            .operate("off".to_owned(), servo("0"))
            .await
            .unwrap();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!(chip.state(1), None);
    });
}

#[test]
fn a_second_channel_runs_beside_the_first_and_detaching_ends_both() {
    run(async {
        let chip = FakePwm::new(2);
        let local = attach(&chip.session(), &servo("1500")).await.unwrap();
        let mut other = servo("100");
        other.extend(words(&[("channel", "0"), ("polarity", "inversed")]));
        local.handle.operate("set".to_owned(), other).await.unwrap();
        let inversed = State {
            duty_ns: 100,
            inversed: true,
            ..RUNNING
        };
        assert_eq!(
            (chip.state(0), chip.state(1)),
            (Some(inversed), Some(RUNNING))
        );
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!((chip.state(0), chip.state(1)), (None, None));
    });
}

#[test]
fn another_period_takes_the_channel_anew() {
    run(async {
        let chip = FakePwm::new(2);
        let local = attach(&chip.session(), &servo("1500")).await.unwrap();
        let mut other = servo("500");
        other.extend(words(&[("period-ns", "1000")]));
        local.handle.operate("set".to_owned(), other).await.unwrap();
        let changed = State {
            period_ns: 1000,
            duty_ns: 500,
            ..RUNNING
        };
        assert_eq!(chip.state(1), Some(changed));
    });
}

#[test]
fn off_ends_a_channel_that_was_to_go_on() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let mut held = servo("1500");
        held.extend(words(&[("hold", "yes")]));
        let local = attach(&session, &held).await.unwrap();
        local
            .handle
            .operate("off".to_owned(), servo("0"))
            .await
            .unwrap();
        assert!(!chip.state(1).unwrap().on);
        assert_eq!(local.ended.await, Ended::Detached);

        let local = attach(&session, &held).await.unwrap();
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert!(chip.state(1).unwrap().on, "detaching lets it go on");
    });
}

#[test]
fn the_end_of_the_session_is_told() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let local = attach(&session, &servo("1500")).await.unwrap();
        session.cut();
        assert_eq!(local.ended.await, Ended::Session);
        until(|| chip.state(1).is_none()).await;
        let late = local.handle.operate("set".to_owned(), servo("1")).await;
        assert!(matches!(late, Err(OperateError::Ask(_))), "{late:?}");
    });
}

#[test]
fn wishes_that_cannot_be_are_told_before_anything_is_asked() {
    run(async {
        let chip = FakePwm::new(2);
        let session = chip.session();
        let refused = attach(&session, &Parameters::new()).await.err().unwrap();
        assert!(
            refused
                .to_string()
                .contains("myclerk pwm bench/pwm:pwmchip0"),
            "{refused}"
        );
        let refused = attach(&session, &servo("20001")).await.err().unwrap();
        assert!(matches!(refused, AttachError::Wish(_)), "{refused}");
        chip.occupy(1);
        let refused = attach(&session, &servo("1")).await.err().unwrap();
        assert!(matches!(refused, AttachError::Ask(_)), "{refused}");
        let local = attach(
            &session,
            &words(&[("channel", "0"), ("period-ns", "9"), ("duty-ns", "1")]),
        )
        .await
        .unwrap();
        let unknown = local
            .handle
            .operate("spin".to_owned(), Parameters::new())
            .await;
        assert!(matches!(unknown, Err(OperateError::Usage(_))));
        let idle = local.handle.operate("off".to_owned(), servo("0")).await;
        assert!(matches!(idle, Err(OperateError::Failed(_))));
    });
}
