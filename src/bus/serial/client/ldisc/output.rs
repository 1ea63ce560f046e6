//! What is done with bytes on their way out (kernel `drivers/tty/n_tty.c`, `do_output_char`).

use crate::bus::serial::client::termios::{Termios, flag};

/// Columns from one tab stop to the next.
const TAB: usize = 8;

/// Where the next byte will stand.
#[derive(Debug, Default)]
pub(super) struct Output {
    column: usize,
    /// Where the line began that is being typed.
    line_begins: usize,
}

impl Output {
    /// Writes one byte as the settings want it.
    pub(super) fn put(&mut self, termios: &Termios, byte: u8, into: &mut Vec<u8>) {
        if !termios.output(flag::OPOST) {
            into.push(byte);
            return;
        }
        match byte {
            b'\n' => self.newline(termios, into),
            b'\r' => self.carriage_return(termios, into),
            b'\t' => {
                let spaces = TAB - self.column % TAB;
                self.column += spaces;
                if termios.oflag & flag::TABDLY == flag::XTABS {
                    into.extend(std::iter::repeat_n(b' ', spaces));
                } else {
                    into.push(b'\t');
                }
            }
            b'\x08' => {
                self.column = self.column.saturating_sub(1);
                into.push(byte);
            }
            _ => {
                let byte = if termios.output(flag::OLCUC) {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                };
                let continues = termios.input(flag::IUTF8) && is_continuation(byte);
                if !byte.is_ascii_control() && !continues {
                    self.column += 1;
                }
                into.push(byte);
            }
        }
    }

    fn newline(&mut self, termios: &Termios, into: &mut Vec<u8>) {
        if termios.output(flag::ONLRET) {
            self.begin_line();
        }
        if termios.output(flag::ONLCR) {
            self.begin_line();
            into.push(b'\r');
        }
        into.push(b'\n');
    }

    fn carriage_return(&mut self, termios: &Termios, into: &mut Vec<u8>) {
        if termios.output(flag::ONOCR) && self.column == 0 {
            return;
        }
        if termios.output(flag::OCRNL) {
            if termios.output(flag::ONLRET) {
                self.begin_line();
            }
            into.push(b'\n');
            return;
        }
        self.begin_line();
        into.push(b'\r');
    }

    const fn begin_line(&mut self) {
        self.column = 0;
        self.line_begins = 0;
    }

    /// Writes a byte that is not touched and takes a column.
    pub(super) fn put_printed(&mut self, byte: u8, into: &mut Vec<u8>) {
        self.column += 1;
        into.push(byte);
    }

    /// A line is being typed from here on.
    pub(super) const fn mark_line(&mut self) {
        self.line_begins = self.column;
    }

    /// Moves back from behind a tab that followed `line`: `shown` says how wide each byte of it is.
    pub(super) fn erase_tab(
        &mut self,
        line: impl Iterator<Item = u8>,
        shown: impl Fn(u8) -> usize,
        into: &mut Vec<u8>,
    ) {
        let mut column = self.line_begins;
        for byte in line {
            column += match byte {
                b'\t' => TAB - column % TAB,
                _ => shown(byte),
            };
        }
        let wide = TAB - column % TAB;
        into.extend(std::iter::repeat_n(b'\x08', wide));
        self.column = self.column.saturating_sub(wide);
    }
}

/// A byte of a UTF-8 character that is not its first.
pub(super) const fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(oflag: u32, bytes: &[u8]) -> Vec<u8> {
        let termios = Termios {
            oflag,
            ..Termios::FIRST
        };
        let (mut output, mut into) = (Output::default(), Vec::new());
        for &byte in bytes {
            output.put(&termios, byte, &mut into);
        }
        into
    }

    #[test]
    fn nothing_is_done_without_opost() {
        assert_eq!(put(flag::ONLCR | flag::OLCUC, b"a\n"), b"a\n");
    }

    #[test]
    fn a_newline_gets_its_carriage_return() {
        assert_eq!(put(flag::OPOST | flag::ONLCR, b"a\nb\r\n"), b"a\r\nb\r\r\n");
    }

    #[test]
    fn a_carriage_return_becomes_a_newline_or_is_left_out_at_the_margin() {
        assert_eq!(put(flag::OPOST | flag::OCRNL, b"a\r"), b"a\n");
        assert_eq!(put(flag::OPOST | flag::ONOCR, b"\ra\r\r"), b"a\r");
        let back = flag::OPOST | flag::ONOCR | flag::ONLRET;
        assert_eq!(put(back, b"a\n\rb"), b"a\nb");
    }

    #[test]
    fn tabs_are_filled_up_from_the_column_they_are_in() {
        assert_eq!(
            put(flag::OPOST | flag::XTABS, b"abc\tx\t."),
            b"abc     x       ."
        );
        assert_eq!(put(flag::OPOST, b"abc\tx"), b"abc\tx");
        assert_eq!(
            put(flag::OPOST | flag::XTABS, b"ab\x08\t."),
            b"ab\x08       ."
        );
    }

    #[test]
    fn letters_become_capitals() {
        assert_eq!(put(flag::OPOST | flag::OLCUC, b"aZ9\xE9"), b"AZ9\xE9");
    }
}
