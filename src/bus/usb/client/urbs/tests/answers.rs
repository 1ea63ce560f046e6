//! Which answer the kernel gets.

use super::*;

#[test]
fn a_read_is_answered_with_what_came() {
    let mut bench = Bench::new(9);
    bench.read(5, 1, 512);
    bench.reply(1, 0, b"short");
    assert_eq!(bench.told(), [Told::Submit(5, 0, b"short".to_vec())]);
}

#[test]
fn answers_of_one_endpoint_keep_the_order_of_its_urbs() {
    let mut bench = Bench::new(9);
    bench.read(1, 1, 8);
    bench.read(2, 1, 8);
    bench.read(3, 3, 8);
    bench.reply(2, 0, b"b");
    bench.reply(3, 0, b"c");
    assert_eq!(bench.told(), [Told::Submit(3, 0, b"c".to_vec())]);
    bench.reply(1, 0, b"a");
    assert_eq!(
        bench.told(),
        [
            Told::Submit(1, 0, b"a".to_vec()),
            Told::Submit(2, 0, b"b".to_vec())
        ]
    );
}

#[test]
fn what_the_server_may_not_do_ends_the_attachment() {
    let fatal = |act: &dyn Fn(&mut Bench) -> Result<(), Fatal>| {
        let mut bench = Bench::new(9);
        bench.read(1, 1, 4);
        let result = act(&mut bench);
        assert_eq!(bench.told(), [], "the kernel is told nothing of it");
        result.expect_err("a violation")
    };
    assert!(matches!(
        fatal(&|bench| bench.try_reply(1, 0, b"12345")),
        Fatal::Violation(Violation::TooLong {
            asked: 4,
            actual: 5
        })
    ));
    assert!(matches!(
        fatal(&|bench| bench.try_reply(77, 0, b"")),
        Fatal::Violation(Violation::UnknownCorrelation(77))
    ));
    assert!(matches!(
        fatal(&|bench| bench.respond(1, Status::Ok, vec![0xC1])),
        Fatal::Violation(Violation::Payload(OpError::Decode(_)))
    ));
    assert!(matches!(
        fatal(&|bench| {
            let start = bench.start;
            bench.urbs.response(start, 1, Status::Ok, vec![], true)
        }),
        Fatal::Violation(Violation::Pieces)
    ));
    assert!(matches!(
        fatal(&|bench| bench.respond(1, Status::ServiceUnavailable, GONE.to_vec())),
        Fatal::DeviceGone
    ));
}
