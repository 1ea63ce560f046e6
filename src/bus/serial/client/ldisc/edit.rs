//! Editing the line that is being typed.

use super::output::is_continuation;
use super::{Discipline, flag};
use crate::bus::serial::client::termios::Termios;
use crate::bus::serial::client::termios::flag::Control;

/// What one key erases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
}

impl Discipline {
    /// Does what a byte means in canonical mode; false when it is just a byte.
    pub(super) fn is_editing(&mut self, termios: &Termios, byte: u8) -> bool {
        let is = |which| termios.control(which) == Some(byte);
        let extended = termios.local(flag::IEXTEN);
        if is(Control::Erase) {
            self.erase(termios, Erase::Character);
        } else if is(Control::Kill) {
            self.kill(termios, byte);
        } else if is(Control::Werase) && extended {
            self.erase(termios, Erase::Word);
        } else if is(Control::Lnext) && extended {
            self.literal_next(termios);
        } else if is(Control::Reprint) && extended && termios.local(flag::ECHO) {
            self.reprint(termios, byte);
        } else if byte == b'\n' {
            if termios.local(flag::ECHO | flag::ECHONL) {
                self.echo_raw(termios, byte);
            }
            self.queue.push(byte);
            self.queue.end_line(false);
        } else if is(Control::Eof) {
            self.queue.end_line(true);
        } else if is(Control::Eol) || (is(Control::Eol2) && extended) {
            if termios.local(flag::ECHO) {
                self.echo_typed(termios, byte);
            }
            self.queue.push(byte);
            self.queue.end_line(false);
        } else {
            return false;
        }
        true
    }

    fn literal_next(&mut self, termios: &Termios) {
        self.literal = true;
        if termios.local(flag::ECHO) {
            self.finish_erasing();
            if termios.local(flag::ECHOCTL) {
                self.echo_raw(termios, b'^');
                self.echo_raw(termios, b'\x08');
            }
        }
    }

    fn reprint(&mut self, termios: &Termios, key: u8) {
        self.finish_erasing();
        self.echo_shown(termios, key);
        self.echo_raw(termios, b'\n');
        let line: Vec<u8> = self.queue.line().collect();
        for byte in line {
            self.echo_shown(termios, byte);
        }
    }

    fn kill(&mut self, termios: &Termios, key: u8) {
        if self.queue.typed() == 0 {
            return;
        }
        if !termios.local(flag::ECHO) {
            self.queue.kill();
            return;
        }
        let by_erasing = [flag::ECHOE, flag::ECHOK, flag::ECHOKE];
        if by_erasing.iter().all(|&wanted| termios.local(wanted)) {
            self.erase(termios, Erase::Line);
            return;
        }
        self.queue.kill();
        self.finish_erasing();
        self.echo_shown(termios, key);
        if termios.local(flag::ECHOK) {
            self.echo_raw(termios, b'\n');
        }
    }

    fn erase(&mut self, termios: &Termios, what: Erase) {
        let mut in_word = false;
        while let Some(character) = self.last_character(termios) {
            let Some(&first) = character.first() else {
                break;
            };
            if what == Erase::Word {
                let letter = first.is_ascii_alphanumeric() || first == b'_' || first >= 0xC0;
                if in_word && !letter {
                    break;
                }
                in_word |= letter;
            }
            for _ in &character {
                self.queue.erase();
            }
            if termios.local(flag::ECHO) {
                self.show_erased(termios, what, &character);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.queue.typed() == 0 && termios.local(flag::ECHO) {
            self.finish_erasing();
        }
    }

    /// The bytes of the last character of the line; `None` at its beginning.
    fn last_character(&self, termios: &Termios) -> Option<Vec<u8>> {
        let mut character = Vec::new();
        for byte in self.queue.line().rev() {
            character.insert(0, byte);
            if !(termios.input(flag::IUTF8) && is_continuation(byte)) {
                return Some(character);
            }
        }
        None
    }

    fn show_erased(&mut self, termios: &Termios, what: Erase, character: &[u8]) {
        let (Some(&first), Some(&last)) = (character.first(), character.last()) else {
            return;
        };
        if termios.local(flag::ECHOPRT) {
            if !std::mem::replace(&mut self.erasing, true) {
                self.output.put_printed(b'\\', &mut self.echo);
            }
            self.echo_shown(termios, first);
            for &byte in character.iter().skip(1) {
                self.echo_raw(termios, byte);
            }
        } else if what == Erase::Character && !termios.local(flag::ECHOE) {
            let key = termios.setting(Control::Erase);
            self.echo_shown(termios, key);
        } else if last == b'\t' {
            let shown = |byte| width(termios, byte);
            self.output
                .erase_tab(self.queue.line(), shown, &mut self.echo);
        } else {
            for _ in 0..width(termios, first) {
                for byte in *b"\x08 \x08" {
                    self.echo_raw(termios, byte);
                }
            }
        }
    }
}

/// How many columns a byte took when it was sent back.
fn width(termios: &Termios, byte: u8) -> usize {
    match (byte.is_ascii_control(), termios.local(flag::ECHOCTL)) {
        (true, true) => 2,
        (true, false) => 0,
        (false, _) if termios.input(flag::IUTF8) && is_continuation(byte) => 0,
        (false, _) => 1,
    }
}
