//! A peer that sends nonsense gets errors, and the stream goes on.

use myclerk::bus::Opener;
use myclerk::wire::opcode::Opcode;
use proptest::prelude::*;

use crate::rig::{Lines, PATIENCE, inputs, machine, outputs, run};

const ON_LINES: [Opcode; 4] = [
    Opcode::GpioLineSet,
    Opcode::GpioLineGet,
    Opcode::GpioLineWatch,
    Opcode::GpioPwmSet,
];

#[test]
fn payloads_that_fit_no_operation_are_refused() {
    run(async {
        let (chip, session) = machine();
        let mut lines = Lines::request(&session, &outputs(&[0, 1], 0, &[None; 2]))
            .await
            .unwrap();
        for (opcode, payload) in [
            (Opcode::GpioLineSet, &b"\x92\x04\x04"[..]),
            (Opcode::GpioLineSet, b"\x92\x00\x00"),
            (Opcode::GpioLineSet, b"\x91\x01"),
            (Opcode::GpioLineSet, b"\x92\xff\x00"),
            (
                Opcode::GpioLineGet,
                b"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            ),
            (Opcode::GpioLineGet, b""),
            (Opcode::GpioLineRelease, b"\x90"),
            (Opcode::GpioPwmSet, b"\x80"),
            (Opcode::GpioLineRequest, b"\x80"),
        ] {
            assert!(
                lines.ask(opcode, payload.to_vec()).await.is_err(),
                "{opcode}"
            );
        }
        assert_eq!(lines.get(3).await, Ok(0));
        assert_eq!(chip.history(0), [Some(false)]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_leave_the_stream_usable(
        messages in proptest::collection::vec(
            (0usize..4, proptest::collection::vec(any::<u8>(), 0..24)),
            1..20,
        ),
        opening in proptest::collection::vec(any::<u8>(), 0..48),
    ) {
        run(async {
            let (_chip, session) = machine();
            let _ = session.open(Opcode::GpioLineRequest, opening.clone(), PATIENCE).await;
            let _ = session.call(Opcode::GpioLineInfo, opening, PATIENCE).await;
            let mut driven = Lines::request(&session, &outputs(&[0, 1], 0, &[None; 2])).await.unwrap();
            let mut read = Lines::request(&session, &inputs(&[2, 3])).await.unwrap();
            for (index, payload) in messages {
                let _ = driven.ask(ON_LINES[index], payload.clone()).await;
                let _ = read.ask(ON_LINES[index], payload).await;
            }
            driven.get(3).await.unwrap();
            read.get(3).await.unwrap();
        });
    }
}
