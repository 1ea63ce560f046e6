//! A caller's memory, read and written in rounds as the kernel does it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Some stretches of memory by their addresses.
type Memory = BTreeMap<u64, Vec<u8>>;

fn first(cmd: u32, arg: u64) -> Ioctl {
    Ioctl {
        fh: 1,
        cmd,
        arg,
        input: vec![],
        out_size: 0,
        compat: false,
    }
}

/// The next round of a call, as fs/fuse/ioctl.c makes it.
fn next(call: &Ioctl, memory: &Memory, inputs: &[Piece], outputs: &[Piece]) -> Ioctl {
    let mut input = vec![];
    for piece in inputs {
        let bytes = memory.get(&piece.base).map_or(&[][..], Vec::as_slice);
        let mut bytes = bytes.to_vec();
        bytes.resize(usize::try_from(piece.len).unwrap(), 0);
        input.extend(bytes);
    }
    Ioctl {
        input,
        out_size: outputs.iter().map(|piece| piece.len).sum(),
        ..call.clone()
    }
}

/// Plays rounds until `serve` has all it wants; its result and how many rounds it took.
fn play<T>(
    memory: &Memory,
    arg: u64,
    serve: impl Fn(&Ioctl) -> Result<T, Pause>,
) -> Result<(T, usize), Pause> {
    let mut call = first(0, arg);
    for round in 1.. {
        match serve(&call) {
            Ok(result) => return Ok((result, round)),
            Err(Pause::Again { inputs, outputs }) => {
                call = next(&call, memory, &inputs, &outputs);
            }
            Err(pause) => return Err(pause),
        }
    }
    unreachable!()
}

/// `struct i2c_rdwr_ioctl_data` and `struct i2c_msg` of a 64-bit caller: what is written, and how
/// much is read.
fn i2c_rdwr(call: &Ioctl) -> Result<(Vec<Vec<u8>>, u32), Pause> {
    let u64_at = |bytes: &[u8], at: usize| {
        u64::from_ne_bytes(bytes.get(at..at + 8).unwrap().try_into().unwrap())
    };
    let u16_at = |bytes: &[u8], at: usize| {
        u32::from(u16::from_ne_bytes(
            bytes.get(at..at + 2).unwrap().try_into().unwrap(),
        ))
    };
    let mut rounds = call.rounds();
    let header = rounds.take(Piece::at(call.arg, 16))?;
    let count = u16_at(header, 8);
    let messages = rounds.take(Piece::at(u64_at(header, 0), count * 16))?;
    let mut writes = vec![];
    let mut reads = 0;
    for message in messages.chunks_exact(16) {
        let buffer = Piece::at(u64_at(message, 8), u16_at(message, 4));
        if u16_at(message, 2) & 1 == 0 {
            writes.push(buffer);
        } else {
            reads += buffer.len;
            rounds.give(buffer);
        }
    }
    let data = rounds.take_all(&writes)?;
    rounds.complete()?;
    Ok((data.into_iter().map(<[u8]>::to_vec).collect(), reads))
}

fn i2c_message(flags: u16, length: u16, buffer: u64) -> Vec<u8> {
    let mut message = vec![];
    for field in [0x50, flags, length, 0] {
        message.extend(field.to_ne_bytes());
    }
    message.extend(buffer.to_ne_bytes());
    message
}

fn i2c_header(messages: u64, count: u32) -> Vec<u8> {
    let mut header = messages.to_ne_bytes().to_vec();
    header.extend(count.to_ne_bytes());
    header.extend([0; 4]);
    header
}

#[test]
fn a_structure_that_is_written_takes_two_rounds() {
    let serve = |call: &Ioctl| call.argument(0, 36).map(<[u8]>::len);
    assert_eq!(play(&Memory::new(), 0x1000, serve), Ok((0, 2)));
    let outputs = vec![Piece::at(0x1000, 36)];
    let Err(Pause::Again {
        outputs: asked,
        inputs,
    }) = first(0, 0x1000).argument(0, 36)
    else {
        panic!("no second round");
    };
    assert_eq!(asked, outputs);
    assert!(inputs.iter().all(|piece| piece.len == 0));
}

#[test]
fn a_structure_that_is_read_and_written_takes_two_rounds() {
    let memory = Memory::from([(0x1000, vec![7; 32])]);
    let serve = |call: &Ioctl| call.argument(32, 32).map(<[u8]>::to_vec);
    assert_eq!(play(&memory, 0x1000, serve), Ok((vec![7; 32], 2)));
}

#[test]
fn an_argument_of_no_bytes_is_served_at_once() {
    let serve = |call: &Ioctl| call.argument(0, 0).map(<[u8]>::len);
    assert_eq!(play(&Memory::new(), 5, serve), Ok((0, 1)));
}

#[test]
fn pointers_within_pointers_take_a_round_each() {
    let messages = [
        i2c_message(0, 2, 0x3000),
        i2c_message(1, 9, 0x4000),
        i2c_message(0, 0, 0),
        i2c_message(0, 3, 0x5000),
    ];
    let memory = Memory::from([
        (0x1000, i2c_header(0x2000, 4)),
        (0x2000, messages.concat()),
        (0x3000, vec![1, 2]),
        (0x5000, vec![3, 4, 5]),
    ]);
    let writes = vec![vec![1, 2], vec![], vec![3, 4, 5]];
    assert_eq!(play(&memory, 0x1000, i2c_rdwr), Ok(((writes, 9), 4)));
}

#[test]
fn memory_that_shrank_between_two_rounds_is_noticed() {
    let mut call = first(0, 0x1000);
    // Two messages at first; a round later the header says one.
    call.input = [
        i2c_header(0x2000, 1),
        i2c_message(1, 4, 0x4000),
        i2c_message(1, 4, 0x4000),
    ]
    .concat();
    assert_eq!(i2c_rdwr(&call), Err(Pause::Changed));
    call.input = [i2c_header(0x2000, 1), i2c_message(1, 4, 0x4000)].concat();
    call.out_size = 5;
    assert_eq!(i2c_rdwr(&call), Err(Pause::Changed));
}

#[test]
fn memory_that_grew_between_two_rounds_is_asked_for_again() {
    let mut call = first(0, 0x1000);
    call.input = [i2c_header(0x2000, 2), i2c_message(1, 4, 0x4000)].concat();
    let inputs = vec![Piece::at(0x1000, 16), Piece::at(0x2000, 32)];
    let outputs = vec![];
    assert_eq!(i2c_rdwr(&call), Err(Pause::Again { inputs, outputs }));
}

#[test]
fn more_than_the_kernel_moves_is_refused() {
    let most = [
        (Piece::at(0, MAX_TRANSFER), true),
        (Piece::at(0, MAX_TRANSFER + 1), false),
        (Piece::at(0, u32::MAX), false),
    ];
    for (piece, fits) in most {
        let call = first(0, 0);
        let taken = call.rounds().take(piece);
        assert_eq!(matches!(taken, Err(Pause::Again { .. })), fits, "{piece:?}");
        let mut rounds = call.rounds();
        rounds.give(piece);
        let given = rounds.complete();
        assert_eq!(matches!(given, Err(Pause::Again { .. })), fits, "{piece:?}");
    }
    let pieces = vec![Piece::at(0, 1); MAX_PIECES];
    let call = first(0, 0);
    let mut rounds = call.rounds();
    assert!(matches!(rounds.take_all(&pieces), Err(Pause::Again { .. })));
    let mut rounds = call.rounds();
    rounds.give(Piece::at(0, 1));
    assert_eq!(rounds.take_all(&pieces), Err(Pause::TooMuch));
}

proptest! {
    /// Every round wants more than the one before, or is the last.
    #[test]
    fn rounds_end_whatever_the_memory_holds(
        memory in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20),
        arg: u64,
    ) {
        let mut call = first(0, arg);
        for held in memory.iter().cycle() {
            let Err(Pause::Again { inputs, outputs }) = i2c_rdwr(&call) else {
                break;
            };
            prop_assert!(super::super::rounds::fits(&inputs, &outputs));
            // Every byte of the caller's memory changes from round to round.
            let changing = inputs.iter().map(|piece| (piece.base, held.clone())).collect();
            let next = next(&call, &changing, &inputs, &outputs);
            prop_assert!(
                (next.input.len(), next.out_size) > (call.input.len(), call.out_size)
            );
            call = next;
        }
    }
}
