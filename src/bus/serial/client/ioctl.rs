//! The ioctls of a tty: their numbers, and what their argument is (kernel
//! `include/uapi/asm-generic/ioctls.h`). Nothing but this table decides how much of a caller's memory
//! is read and written.

use super::structs::{COUNTERS, RS485, SERIAL, SERIAL_COMPAT, WINDOW};
use super::termios::{TERMIO, TERMIOS, TERMIOS2};

/// Which structure a program's settings come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `struct termios`.
    Termios,
    /// `struct termios2`.
    Termios2,
    /// `struct termio`.
    Termio,
}

/// When settings take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// When all output is transmitted.
    Drained,
    /// The same, and input is thrown away.
    Flushed,
}

/// How the modem lines change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineChange {
    /// All of them.
    Assign,
    /// Those named go on.
    Raise,
    /// Those named go off.
    Lower,
}

/// What an ioctl asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Something that is known here.
    Get(Known),
    /// Something that concerns nobody but this tty.
    Set(Own),
    /// `TCSETS` and its kin.
    Configure(Layout, When),
    /// `TIOCMGET`.
    Lines,
    /// `TIOCMSET`, `TIOCMBIS`, `TIOCMBIC`.
    SetLines(LineChange),
    /// `TIOCMIWAIT`.
    AwaitLines,
    /// `TCFLSH`.
    Flush,
    /// `TCXONC`.
    Flow,
    /// `TCSBRK`.
    Break,
    /// `TCSBRKP`.
    BreakFor,
    /// `TIOCSBRK`, `TIOCCBRK`.
    SetBreak(bool),
    /// `TIOCSRS485`.
    SetRs485,
}

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// `TCGETS` and its kin.
    Settings(Layout),
    /// `TIOCGICOUNT`.
    Counters,
    /// `TIOCGSERIAL`.
    Serial,
    /// `TIOCGEXCL`.
    Exclusive,
    /// `FIONREAD`.
    Readable,
    /// `TIOCOUTQ`.
    Unsent,
    /// `TIOCGRS485`.
    Rs485,
    /// `TIOCGWINSZ`.
    Window,
    /// `TIOCGSOFTCAR`.
    IgnoresCarrier,
    /// `TIOCGETD`.
    Discipline,
}

/// What can be set without the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `TIOCSSERIAL`.
    Serial,
    /// `TIOCEXCL`, `TIOCNXCL`.
    Exclusive(bool),
    /// `TIOCSWINSZ`.
    Window,
    /// `TIOCSSOFTCAR`.
    IgnoreCarrier,
    /// `TIOCSETD`.
    Discipline,
}

/// An ioctl and the bytes that its argument points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u32,
    /// What it asks for.
    pub operation: Operation,
    /// Bytes that are read.
    pub input: usize,
    /// Bytes that are written.
    pub output: usize,
}

/// Bytes of an `int`.
const INT: usize = 4;

const fn entry(number: u32, operation: Operation, input: usize, output: usize) -> Entry {
    Entry {
        number,
        operation,
        input,
        output,
    }
}

const TABLE: &[Entry] = {
    use LineChange::{Assign, Lower, Raise};
    use Operation as Op;
    use When::{Drained, Flushed, Now};
    &[
        entry(
            0x5401,
            Op::Get(Known::Settings(Layout::Termios)),
            0,
            TERMIOS,
        ),
        entry(0x5402, Op::Configure(Layout::Termios, Now), TERMIOS, 0),
        entry(0x5403, Op::Configure(Layout::Termios, Drained), TERMIOS, 0),
        entry(0x5404, Op::Configure(Layout::Termios, Flushed), TERMIOS, 0),
        entry(0x5405, Op::Get(Known::Settings(Layout::Termio)), 0, TERMIO),
        entry(0x5406, Op::Configure(Layout::Termio, Now), TERMIO, 0),
        entry(0x5407, Op::Configure(Layout::Termio, Drained), TERMIO, 0),
        entry(0x5408, Op::Configure(Layout::Termio, Flushed), TERMIO, 0),
        entry(0x5409, Op::Break, 0, 0),
        entry(0x540A, Op::Flow, 0, 0),
        entry(0x540B, Op::Flush, 0, 0),
        entry(0x540C, Op::Set(Own::Exclusive(true)), 0, 0),
        entry(0x540D, Op::Set(Own::Exclusive(false)), 0, 0),
        entry(0x5411, Op::Get(Known::Unsent), 0, INT),
        entry(0x5413, Op::Get(Known::Window), 0, WINDOW),
        entry(0x5414, Op::Set(Own::Window), WINDOW, 0),
        entry(0x5415, Op::Lines, 0, INT),
        entry(0x5416, Op::SetLines(Raise), INT, 0),
        entry(0x5417, Op::SetLines(Lower), INT, 0),
        entry(0x5418, Op::SetLines(Assign), INT, 0),
        entry(0x5419, Op::Get(Known::IgnoresCarrier), 0, INT),
        entry(0x541A, Op::Set(Own::IgnoreCarrier), INT, 0),
        entry(0x541B, Op::Get(Known::Readable), 0, INT),
        entry(0x541E, Op::Get(Known::Serial), 0, SERIAL),
        entry(0x541F, Op::Set(Own::Serial), SERIAL, 0),
        entry(0x5423, Op::Set(Own::Discipline), INT, 0),
        entry(0x5424, Op::Get(Known::Discipline), 0, INT),
        entry(0x5425, Op::BreakFor, 0, 0),
        entry(0x5427, Op::SetBreak(true), 0, 0),
        entry(0x5428, Op::SetBreak(false), 0, 0),
        entry(0x542E, Op::Get(Known::Rs485), 0, RS485),
        entry(0x542F, Op::SetRs485, RS485, RS485),
        entry(0x545C, Op::AwaitLines, 0, 0),
        entry(0x545D, Op::Get(Known::Counters), 0, COUNTERS),
        entry(
            0x802C_542A,
            Op::Get(Known::Settings(Layout::Termios2)),
            0,
            TERMIOS2,
        ),
        entry(
            0x402C_542B,
            Op::Configure(Layout::Termios2, Now),
            TERMIOS2,
            0,
        ),
        entry(
            0x402C_542C,
            Op::Configure(Layout::Termios2, Drained),
            TERMIOS2,
            0,
        ),
        entry(
            0x402C_542D,
            Op::Configure(Layout::Termios2, Flushed),
            TERMIOS2,
            0,
        ),
        entry(0x8004_5440, Op::Get(Known::Exclusive), 0, INT),
    ]
};

/// The ioctl with that number, as a program of 32 bits on a kernel of 64 (`compat`) or any other
/// passes it; `None` when a tty without a controlling process has none such.
pub fn entry_of(number: u32, compat: bool) -> Option<Entry> {
    let mut entry = *TABLE.iter().find(|entry| entry.number == number)?;
    if compat {
        if entry.operation == Operation::Get(Known::Serial) {
            entry.output = SERIAL_COMPAT;
        } else if entry.operation == Operation::Set(Own::Serial) {
            entry.input = SERIAL_COMPAT;
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_once_and_says_its_own_size() {
        for (index, entry) in TABLE.iter().enumerate() {
            let later = &TABLE[index + 1..];
            assert!(later.iter().all(|other| other.number != entry.number));
            let size = (entry.number >> 16 & 0x3FFF) as usize;
            assert!(
                size == 0 || size == entry.input.max(entry.output),
                "{entry:x?}"
            );
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_c_library() {
        for (number, operation) in [
            (
                libc::TCGETS,
                Operation::Get(Known::Settings(Layout::Termios)),
            ),
            (
                libc::TCSETS2,
                Operation::Configure(Layout::Termios2, When::Now),
            ),
            (
                libc::TCGETS2,
                Operation::Get(Known::Settings(Layout::Termios2)),
            ),
            (libc::TIOCMGET, Operation::Lines),
            (libc::TIOCMBIC, Operation::SetLines(LineChange::Lower)),
            (libc::TIOCMBIS, Operation::SetLines(LineChange::Raise)),
            (libc::TIOCMIWAIT, Operation::AwaitLines),
            (libc::FIONREAD, Operation::Get(Known::Readable)),
            (libc::TIOCOUTQ, Operation::Get(Known::Unsent)),
            (libc::TIOCEXCL, Operation::Set(Own::Exclusive(true))),
            (libc::TCSBRK, Operation::Break),
            (libc::TCSBRKP, Operation::BreakFor),
            (libc::TIOCCBRK, Operation::SetBreak(false)),
            (libc::TIOCGSERIAL, Operation::Get(Known::Serial)),
            (libc::TIOCGWINSZ, Operation::Get(Known::Window)),
            (libc::TIOCGRS485, Operation::Get(Known::Rs485)),
            (libc::TCFLSH, Operation::Flush),
            (libc::TCXONC, Operation::Flow),
        ] {
            let entry = entry_of(u32::try_from(number).unwrap(), false);
            assert_eq!(entry.map(|entry| entry.operation), Some(operation));
        }
    }

    #[test]
    fn a_program_of_32_bits_has_a_smaller_serial_struct() {
        assert_eq!(entry_of(0x541E, true).unwrap().output, 60);
        assert_eq!(entry_of(0x541F, true).unwrap().input, 60);
        assert_eq!(entry_of(0x541E, false).unwrap().output, 72);
    }

    #[test]
    fn what_needs_a_controlling_terminal_is_not_there() {
        for number in [
            libc::TIOCSCTTY,
            libc::TIOCGSID,
            libc::TIOCGPGRP,
            libc::TIOCSTI,
        ] {
            assert_eq!(entry_of(u32::try_from(number).unwrap(), false), None);
        }
    }
}
