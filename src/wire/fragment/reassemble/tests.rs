use proptest::prelude::*;

use super::*;
use crate::wire::flags::Tier;
use crate::wire::fragment::HEADER_LEN;

const FLAGS: Flags = Flags {
    fragment: true,
    ..Flags::plain(Tier::T0)
};
const START: Mono = Mono::from_secs(1000);

fn header(message_id: u32, index: u16, count: u16, total: u32) -> Header {
    Header {
        message_id,
        index,
        count,
        total,
    }
}

fn offer(
    reassembler: &mut Reassembler,
    header: Header,
    piece: &[u8],
) -> Result<Option<Unit>, FragmentError> {
    reassembler.accept(START, FLAGS, header, piece)
}

#[test]
fn an_ordered_unit_comes_back_without_the_fragment_flag() {
    let mut ordered = Reassembler::new(true, 1000);
    assert_eq!(offer(&mut ordered, header(1, 0, 2, 5), b"abc"), Ok(None));
    assert_eq!(ordered.unfinished(), 1);
    let unit = offer(&mut ordered, header(1, 1, 2, 5), b"de")
        .unwrap()
        .unwrap();
    assert_eq!(
        (unit.flags, &unit.bytes[..]),
        (Flags::plain(Tier::T0), &b"abcde"[..])
    );
    assert_eq!(ordered.unfinished(), 0);
}

#[test]
fn ordered_units_may_interleave_but_their_pieces_ascend() {
    let mut ordered = Reassembler::new(true, 1000);
    assert_eq!(offer(&mut ordered, header(1, 0, 3, 3), b"a"), Ok(None));
    assert_eq!(offer(&mut ordered, header(2, 0, 2, 2), b"x"), Ok(None));
    assert_eq!(offer(&mut ordered, header(1, 1, 3, 3), b"b"), Ok(None));
    assert!(
        offer(&mut ordered, header(2, 1, 2, 2), b"y")
            .unwrap()
            .is_some()
    );
    assert_eq!(
        offer(&mut ordered, header(1, 1, 3, 3), b"b"),
        Err(FragmentError::Order {
            message_id: 1,
            index: 1
        })
    );
}

#[test]
fn an_ordered_unit_starts_with_piece_0_and_a_higher_id() {
    let mut ordered = Reassembler::new(true, 1000);
    assert!(offer(&mut ordered, header(5, 1, 2, 2), b"a").is_err());
    assert_eq!(offer(&mut ordered, header(5, 0, 2, 2), b"a"), Ok(None));
    assert_eq!(
        offer(&mut ordered, header(4, 0, 2, 2), b"a"),
        Err(FragmentError::Order {
            message_id: 4,
            index: 0
        })
    );
    assert!(
        offer(&mut ordered, header(5, 1, 2, 2), b"b")
            .unwrap()
            .is_some()
    );
    assert!(offer(&mut ordered, header(5, 0, 2, 2), b"a").is_err());
}

#[test]
fn reassemblies_8_is_the_limit() {
    let mut ordered = Reassembler::new(true, 1000);
    let mut unordered = Reassembler::new(false, 1000);
    for id in 0..8 {
        assert_eq!(offer(&mut ordered, header(id, 0, 2, 2), b"a"), Ok(None));
        assert_eq!(offer(&mut unordered, header(id, 0, 2, 2), b"a"), Ok(None));
    }
    assert_eq!(
        offer(&mut ordered, header(8, 0, 2, 2), b"a"),
        Err(FragmentError::TooManyUnits)
    );
    assert_eq!(offer(&mut unordered, header(8, 0, 2, 2), b"a"), Ok(None));
    assert_eq!(unordered.unfinished(), 8);
    assert!(
        offer(&mut unordered, header(1, 1, 2, 2), b"b")
            .unwrap()
            .is_some()
    );
    assert_eq!(offer(&mut unordered, header(0, 1, 2, 2), b"b"), Ok(None));
}

#[test]
fn msg_is_the_limit_of_a_reassembled_unit() {
    for ordered in [true, false] {
        let mut reassembler = Reassembler::new(ordered, 1000);
        assert_eq!(
            offer(&mut reassembler, header(1, 0, 2, 1001), b"a"),
            Err(FragmentError::TooLarge {
                total: 1001,
                limit: 1000
            })
        );
        assert_eq!(
            offer(&mut reassembler, header(1, 0, 2, 1000), b"a"),
            Ok(None)
        );
    }
}

#[test]
fn a_declared_total_is_not_allocated() {
    let mut ordered = Reassembler::new(true, 16 << 20);
    assert_eq!(
        offer(&mut ordered, header(1, 0, 2, 16 << 20), b"a"),
        Ok(None)
    );
    let Pieces::Ordered { bytes, .. } = &ordered.units[0].pieces else {
        panic!("not ordered");
    };
    assert!(bytes.capacity() < 64);
}

#[test]
fn pieces_that_contradict_each_other_are_refused() {
    for ordered in [true, false] {
        let second = |flags, header, piece: &[u8]| {
            let mut reassembler = Reassembler::new(ordered, 1000);
            reassembler
                .accept(START, FLAGS, self::header(1, 0, 3, 9), b"abc")
                .unwrap();
            reassembler.accept(START, flags, header, piece)
        };
        let contradiction = Err(FragmentError::Contradiction(1));
        let compressed = Flags {
            compressed: true,
            ..FLAGS
        };
        assert_eq!(second(FLAGS, header(1, 1, 3, 9), b"def"), Ok(None));
        assert_eq!(
            second(compressed, header(1, 1, 3, 9), b"def"),
            contradiction
        );
        assert_eq!(second(FLAGS, header(1, 1, 4, 9), b"def"), contradiction);
        assert_eq!(second(FLAGS, header(1, 1, 3, 8), b"def"), contradiction);
        assert_eq!(second(FLAGS, header(1, 1, 3, 9), b"defghij"), contradiction);
        assert_eq!(second(FLAGS, header(1, 1, 3, 9), b"defghi"), contradiction);
    }
}

#[test]
fn a_unit_shorter_than_its_total_is_refused() {
    for ordered in [true, false] {
        let mut reassembler = Reassembler::new(ordered, 1000);
        assert_eq!(offer(&mut reassembler, header(1, 0, 2, 9), b"a"), Ok(None));
        assert_eq!(
            offer(&mut reassembler, header(1, 1, 2, 9), b"b"),
            Err(FragmentError::Contradiction(1))
        );
    }
}

#[test]
fn unordered_duplicates_are_ignored_unless_they_differ() {
    let mut unordered = Reassembler::new(false, 1000);
    assert_eq!(offer(&mut unordered, header(1, 1, 2, 2), b"b"), Ok(None));
    assert_eq!(offer(&mut unordered, header(1, 1, 2, 2), b"b"), Ok(None));
    assert_eq!(
        offer(&mut unordered, header(1, 1, 2, 2), b"x"),
        Err(FragmentError::Contradiction(1))
    );
    assert!(
        offer(&mut unordered, header(1, 0, 2, 2), b"a")
            .unwrap()
            .is_some()
    );
    assert_eq!(offer(&mut unordered, header(1, 0, 2, 2), b"a"), Ok(None));
    assert_eq!(unordered.unfinished(), 0);
}

#[test]
fn an_unordered_unit_expires_after_30_seconds() {
    let mut unordered = Reassembler::new(false, 1000);
    assert_eq!(unordered.next_timeout(), None);
    assert_eq!(offer(&mut unordered, header(1, 0, 2, 2), b"a"), Ok(None));
    let end = START.after(REASSEMBLY_TIME);
    assert_eq!(unordered.next_timeout(), Some(end));
    unordered.expire(Mono(end.0 - 1));
    assert_eq!(unordered.unfinished(), 1);
    unordered.expire(end);
    assert_eq!(unordered.unfinished(), 0);

    let mut ordered = Reassembler::new(true, 1000);
    assert_eq!(offer(&mut ordered, header(1, 0, 2, 2), b"a"), Ok(None));
    ordered.expire(Mono(u64::MAX));
    assert_eq!((ordered.unfinished(), ordered.next_timeout()), (1, None));
}

proptest! {
    #[test]
    fn any_unit_survives_in_any_order_of_an_unordered_path(
        whole in proptest::collection::vec(any::<u8>(), 100..400),
        piece in 1usize..100,
        seed in any::<u64>(),
    ) {
        let mut pieces = cut(&whole, piece);
        let mut ordered = Reassembler::new(true, 1000);
        let in_order = feed(&mut ordered, &pieces);
        let rotation = usize::try_from(seed % 1000).unwrap() % pieces.len();
        pieces.rotate_left(rotation);
        pieces.reverse();
        let mut unordered = Reassembler::new(false, 1000);
        let out_of_order = feed(&mut unordered, &pieces);
        prop_assert_eq!(in_order.as_ref().map(|unit| &unit.bytes), Some(&whole));
        prop_assert_eq!(out_of_order.map(|unit| unit.bytes), Some(whole));
    }

    #[test]
    fn arbitrary_pieces_never_panic_and_never_exceed_the_limits(
        ordered in any::<bool>(),
        pieces in proptest::collection::vec(
            (0u32..12, 0u16..4, 0u16..5, 0u32..40, proptest::collection::vec(any::<u8>(), 0..20)),
            0..100,
        ),
    ) {
        let mut reassembler = Reassembler::new(ordered, 30);
        for (id, index, count, total, piece) in pieces {
            let mut bytes = Vec::new();
            header(id, index, count, total).emit(&mut bytes);
            bytes.extend(piece);
            if let Ok((header, piece)) = Header::parse(&bytes)
                && let Ok(Some(unit)) = reassembler.accept(START, FLAGS, header, piece)
            {
                prop_assert!(unit.bytes.len() <= 30);
            }
            prop_assert!(reassembler.unfinished() <= REASSEMBLIES);
        }
    }
}

/// The unit in pieces of that length, each behind its header.
fn cut(unit: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let count = u16::try_from(unit.len().div_ceil(piece)).unwrap();
    let total = u32::try_from(unit.len()).unwrap();
    (0..count)
        .zip(unit.chunks(piece))
        .map(|(index, piece)| {
            let mut out = Vec::new();
            header(0, index, count, total).emit(&mut out);
            out.extend_from_slice(piece);
            out
        })
        .collect()
}

fn feed(reassembler: &mut Reassembler, pieces: &[Vec<u8>]) -> Option<Unit> {
    let mut complete = None;
    for bytes in pieces {
        assert!(bytes.len() > HEADER_LEN && complete.is_none());
        let (header, piece) = Header::parse(bytes).unwrap();
        complete = offer(reassembler, header, piece).unwrap();
    }
    complete
}
