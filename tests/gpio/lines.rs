//! Requesting, setting and reading lines.

use myclerk::bus::gpio::fake::{FakeChip, FakeGpio, Keeper};
use myclerk::bus::gpio::op::{Bias, ChipList, Direction, Drive, LineInfo, LineRequest};
use myclerk::bus::gpio::server;
use myclerk::bus::{AskError, End, Grant, Inbound, Opener, Refused, fake};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;

use crate::rig::{Lines, PATIENCE, info, inputs, machine, outputs, run, until};

#[test]
fn chips_with_the_same_label_are_known_by_their_numbers() {
    run(async {
        let chips = [
            FakeChip::new("twin", &["a"]),
            FakeChip::new("twin", &[]),
            FakeChip::new("only", &["a", "b"]),
            FakeChip::new("with space", &[]),
        ];
        let session = FakeGpio::new(&chips).session();
        let answer = session.call(Opcode::GpioChipList, vec![], PATIENCE).await;
        let list = ChipList::decode(&answer.unwrap()).unwrap();
        let told = list
            .chips
            .iter()
            .map(|chip| (&*chip.dev, &*chip.label, chip.lines));
        let expected = [
            ("gpio:gpiochip0", "twin", 1),
            ("gpio:gpiochip1", "twin", 0),
            ("gpio:only", "only", 2),
            ("gpio:gpiochip3", "with space", 0),
        ];
        assert!(told.eq(expected));
    });
}

#[test]
fn a_line_tells_its_name_and_how_it_is_used() {
    run(async {
        let (chip, session) = machine();
        let free = LineInfo {
            name: "a".to_owned(),
            ..LineInfo::default()
        };
        assert_eq!(info(&session, 0).await, free);
        let request = LineRequest {
            bias: Bias::PullUp,
            drive: Drive::OpenDrain,
            low: true,
            ..outputs(&[0], 0, &[None])
        };
        let _lines = Lines::request(&session, &request).await.unwrap();
        let used = LineInfo {
            name: "a".to_owned(),
            used: true,
            dir: Direction::Output,
            bias: Bias::PullUp,
            drive: Drive::OpenDrain,
            low: true,
        };
        assert_eq!(info(&session, 0).await, used);
        chip.occupy(1, "kernel");
        assert!(info(&session, 1).await.used);
    });
}

#[test]
fn outputs_begin_with_their_values_and_are_set_by_mask() {
    run(async {
        let (chip, session) = machine();
        let request = outputs(&[7, 2, 3], 0b011, &[None, None, None]);
        let mut lines = Lines::request(&session, &request).await.unwrap();
        assert_eq!(lines.val, 0b011);
        let levels = || [7, 2, 3].map(|line| chip.output(line));
        assert_eq!(levels(), [Some(true), Some(true), Some(false)]);
        assert_eq!(lines.set(0b101, 0b110).await, Ok(0b100));
        assert_eq!(levels(), [Some(false), Some(true), Some(true)]);
        assert_eq!(lines.get(0b111).await, Ok(0b110));
        assert_eq!(lines.get(0b010).await, Ok(0b010));
    });
}

#[test]
fn lines_with_and_without_a_safe_state_are_one_set_for_the_peer() {
    run(async {
        let (chip, session) = machine();
        let safe = [Some(false), None, Some(true), None];
        let mut lines = Lines::request(&session, &outputs(&[0, 1, 2, 3], 0b0110, &safe))
            .await
            .unwrap();
        assert_eq!(lines.val, 0b0110);
        assert_eq!(lines.set(0b1111, 0b1001).await, Ok(0b1001));
        let levels = [0, 1, 2, 3].map(|line| chip.output(line));
        assert_eq!(levels, [Some(true), Some(false), Some(false), Some(true)]);
    });
}

#[test]
fn active_low_outputs_are_driven_the_other_way() {
    run(async {
        let (chip, session) = machine();
        let request = LineRequest {
            low: true,
            ..outputs(&[0], 1, &[None])
        };
        let mut lines = Lines::request(&session, &request).await.unwrap();
        assert_eq!((lines.val, chip.output(0)), (1, Some(false)));
        assert_eq!(lines.set(1, 0).await, Ok(0));
        assert_eq!(chip.output(0), Some(true));
    });
}

#[test]
fn an_open_drain_output_that_is_pulled_down_reads_back_what_it_is() {
    run(async {
        let (chip, session) = machine();
        chip.drive(0, false);
        let request = LineRequest {
            drive: Drive::OpenDrain,
            bias: Bias::PullUp,
            ..outputs(&[0], 1, &[None])
        };
        let mut lines = Lines::request(&session, &request).await.unwrap();
        assert_eq!(lines.val, 0);
        assert_eq!(lines.set(1, 1).await, Ok(0));
        chip.drive(0, true);
        assert_eq!(lines.get(1).await, Ok(1));
    });
}

#[test]
fn inputs_read_what_drives_or_pulls_them() {
    run(async {
        let (chip, session) = machine();
        chip.drive(1, true);
        let request = LineRequest {
            bias: Bias::PullUp,
            ..inputs(&[0, 1, 2])
        };
        let mut lines = Lines::request(&session, &request).await.unwrap();
        chip.drive(2, false);
        assert_eq!((lines.val, lines.get(0b111).await), (0b111, Ok(0b011)));
    });
}

#[test]
fn a_line_in_use_is_refused_and_its_user_named() {
    run(async {
        let (chip, session) = machine();
        chip.occupy(2, "leds");
        let refused = Lines::request(&session, &inputs(&[1, 2]))
            .await
            .err()
            .unwrap();
        let AskError::Refused { status, error } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(
            (status, &*error.sub),
            (Status::ServiceUnavailable, sub::BUSY)
        );
        assert_eq!(error.msg.as_deref(), Some("line 2 is in use by \"leds\""));
        assert!(!info(&session, 1).await.used, "nothing stays requested");
    });
}

#[test]
fn two_streams_share_a_chip_but_no_line() {
    run(async {
        let (_chip, session) = machine();
        let _one = Lines::request(&session, &inputs(&[0])).await.unwrap();
        let _other = Lines::request(&session, &inputs(&[1])).await.unwrap();
        let refused = Lines::request(&session, &inputs(&[2, 0]))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.to_string(), "line 0 is in use by \"myclerk\"");
    });
}

#[test]
fn a_line_that_the_chip_does_not_have_is_named() {
    run(async {
        let (_chip, session) = machine();
        let refused = Lines::request(&session, &inputs(&[0, 8]))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.to_string(), "there is no line 8, the chip has 8");
    });
}

#[test]
fn what_the_chip_refuses_is_answered_with_its_errno() {
    run(async {
        let (chip, session) = machine();
        let mut lines = Lines::request(&session, &outputs(&[0], 0, &[None]))
            .await
            .unwrap();
        chip.fail(Errno::EIO);
        let (status, text) = lines.set(1, 1).await.unwrap_err();
        assert_eq!(status, Status::InternalError);
        assert!(
            text.starts_with("device-io: cannot set the lines"),
            "{text}"
        );
        assert_eq!(lines.set(1, 1).await, Ok(1), "the stream goes on");
        chip.fail(Errno::ENXIO);
        let refused = Lines::request(&session, &inputs(&[1])).await.err().unwrap();
        assert_eq!(
            refused.to_string(),
            "the chip cannot tell of changes on these lines"
        );
    });
}

#[test]
fn inputs_are_not_set_and_outputs_not_watched() {
    run(async {
        let (_chip, session) = machine();
        let mut lines = Lines::request(&session, &inputs(&[0])).await.unwrap();
        let (_, text) = lines.set(1, 1).await.unwrap_err();
        assert_eq!(text, "unsupported: these lines are inputs");
        let mut lines = Lines::request(&session, &outputs(&[1], 0, &[None]))
            .await
            .unwrap();
        let watch = b"\x82\xa4edge\x03\xa4mask\x01".to_vec();
        let (_, text) = lines.ask(Opcode::GpioLineWatch, watch).await.unwrap_err();
        assert_eq!(text, "unsupported: these lines are outputs");
    });
}

/// Serves a request of a peer with only some rights, whose requests have a certain age.
async fn served(
    chip: &FakeChip,
    request: &LineRequest,
    write: bool,
    age_secs: u32,
) -> (End, Vec<Inbound>) {
    let host = FakeGpio::new(std::slice::from_ref(chip));
    let grant = Grant {
        corr: fake::OPENING,
        opcode: Opcode::GpioLineRequest,
        payload: request.encode().unwrap(),
        present: host.look().remove(0),
        write,
        quiet: true,
    };
    let (mut peer, mut stream) = fake::pair();
    let (send, inbound) = tokio::sync::mpsc::unbounded_channel();
    stream.inbound = inbound;
    let set = Inbound::Request {
        corr: 7,
        opcode: Opcode::GpioLineSet,
        payload: vec![0x92, 1, 1],
        age_secs,
    };
    send.send(set).unwrap();
    drop(send);
    let keeper = std::sync::Arc::new(Keeper::default());
    let end = server::serve(std::sync::Arc::new(host), keeper, grant, stream).await;
    let mut answers = Vec::new();
    while let Ok(answer) = peer.inbound.try_recv() {
        answers.push(answer);
    }
    (end, answers)
}

#[test]
fn outputs_need_the_right_to_write_and_inputs_do_not() {
    run(async {
        let (chip, _) = machine();
        let (end, _) = served(&chip, &outputs(&[0], 1, &[None]), false, 0).await;
        assert!(matches!(
            end,
            End::Refused(Refused {
                status: Status::Forbidden,
                sub: sub::ACL,
                ..
            })
        ));
        assert!(chip.history(0).is_empty(), "it was never driven");
        let (end, _) = served(&chip, &inputs(&[0]), false, 0).await;
        assert_eq!(end, End::PeerLeft);
    });
}

#[test]
fn a_line_is_not_set_by_a_request_that_is_too_old() {
    run(async {
        let (chip, _) = machine();
        let request = outputs(&[0], 0, &[None]);
        for (age_secs, status) in [(11, Status::Forbidden), (10, Status::Ok)] {
            let (_, answers) = served(&chip, &request, true, age_secs).await;
            let answered = answers.iter().find_map(|answer| match answer {
                Inbound::Response {
                    corr: 7, status, ..
                } => Some(*status),
                _ => None,
            });
            assert_eq!(answered, Some(status));
        }
        let driven: Vec<_> = chip.history(0).into_iter().flatten().collect();
        assert_eq!(driven, [false, false, true]);
    });
}

#[test]
fn released_lines_are_free_when_that_is_answered() {
    run(async {
        let (chip, session) = machine();
        let mut lines = Lines::request(&session, &outputs(&[0], 1, &[None]))
            .await
            .unwrap();
        lines.ask(Opcode::GpioLineRelease, vec![]).await.unwrap();
        assert_eq!(chip.output(0), None);
        Lines::request(&session, &inputs(&[0])).await.unwrap();
    });
}

#[test]
fn a_chip_that_is_pulled_out_ends_its_streams() {
    run(async {
        let (chip, session) = machine();
        let mut watched = Lines::request(&session, &inputs(&[0])).await.unwrap();
        let mut driven = Lines::request(&session, &outputs(&[1], 0, &[Some(true)]))
            .await
            .unwrap();
        chip.unplug();
        assert_eq!(watched.reset().await, Status::ServiceUnavailable);
        assert_eq!(driven.reset().await, Status::ServiceUnavailable);
        let refused = Lines::request(&session, &inputs(&[2])).await.err().unwrap();
        assert_eq!(refused.to_string(), "the device was unplugged");
        until(|| chip.history(1) == [Some(false), None]).await;
    });
}
