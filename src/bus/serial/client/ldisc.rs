//! The line discipline of a tty, byte for byte as the kernel's own (`drivers/tty/n_tty.c`), except
//! that nobody is sent a signal.

mod edit;
mod output;
mod queue;

use self::output::Output;
use self::queue::Queue;
use super::termios::Termios;
use super::termios::flag::{self, Control};

/// Bytes of echo that wait to be sent; more are not kept (as in the kernel, which has 4096). With what
/// one more byte may add they fit into one write.
const ECHOES: usize = 4000;

/// What one received byte led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// It was taken, and everything not yet read or sent is to be forgotten.
    Flush,
    /// There is no room for it.
    Full,
}

/// The state of a line discipline.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the kernel's own flags, each for itself"
)]
pub struct Discipline {
    queue: Queue,
    output: Output,
    echo: Vec<u8>,
    /// The next byte has no special meaning.
    literal: bool,
    /// Erased characters are being printed.
    erasing: bool,
    /// STOP was received.
    stopped: bool,
    /// START and STOP are eaten by the owner already.
    flow_at_owner: bool,
}

impl Discipline {
    /// Other settings take effect.
    pub fn change(&mut self, old: &Termios, new: &Termios) {
        if old.canonical() != new.canonical() {
            self.queue.change_mode(new.canonical());
            (self.literal, self.erasing) = (false, false);
        }
        if !new.input(flag::IXON) {
            self.stopped = false;
        }
    }

    /// Whether the owner looks after START and STOP.
    pub const fn flow_at_owner(&mut self, so: bool) {
        self.flow_at_owner = so;
    }

    /// Output was stopped by a STOP from the line.
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A program starts output again.
    pub const fn start(&mut self) {
        self.stopped = false;
    }

    /// Forgets what was received.
    pub fn flush(&mut self) {
        self.queue.clear();
        (self.literal, self.erasing) = (false, false);
    }

    /// Forgets what was to be sent back.
    pub fn flush_echo(&mut self) {
        self.echo.clear();
    }

    /// What is to be sent back, at most 4 KiB.
    pub fn echo(&self) -> &[u8] {
        &self.echo
    }

    /// The same, to be sent.
    pub fn take_echo(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.echo)
    }

    /// Whether a read would end at once; outside of canonical mode, with at least so many bytes.
    pub fn readable(&self, termios: &Termios, least: usize) -> bool {
        self.queue.readable(termios.canonical(), least)
    }

    /// `FIONREAD`.
    pub fn count(&self, termios: &Termios) -> usize {
        self.queue.count(termios.canonical())
    }

    /// Takes up to `most` bytes, in canonical mode not beyond the end of a line.
    pub fn read(&mut self, termios: &Termios, most: usize, into: &mut Vec<u8>) -> bool {
        self.queue.read(termios.canonical(), most, into)
    }

    /// Bytes of a program as they go to the line.
    pub fn process(&mut self, termios: &Termios, bytes: &[u8], into: &mut Vec<u8>) {
        for &byte in bytes {
            self.output.put(termios, byte, into);
        }
    }

    /// Bytes came from the line. How many were taken, and what the last of those led to;
    /// [`Taken::Full`] when there is no room for the next one.
    pub fn receive_all(&mut self, termios: &Termios, bytes: &[u8]) -> (usize, Taken) {
        if self.is_plain(termios) {
            let count = self.queue.extend(bytes);
            let all = count == bytes.len();
            return (count, if all { Taken::Yes } else { Taken::Full });
        }
        for (index, &byte) in bytes.iter().enumerate() {
            match self.receive(termios, byte) {
                Taken::Yes => {}
                Taken::Flush => return (index + 1, Taken::Flush),
                Taken::Full => return (index, Taken::Full),
            }
        }
        (bytes.len(), Taken::Yes)
    }

    /// Bytes go into the queue as they are.
    const fn is_plain(&self, termios: &Termios) -> bool {
        termios.line_has(flag::CREAD)
            && !termios.local(flag::ICANON | flag::ISIG | flag::ECHO)
            && !termios.input(flag::ISTRIP | flag::INLCR | flag::IGNCR | flag::ICRNL)
            && !termios.input(flag::IUCLC | flag::IXON | flag::PARMRK)
            && !self.literal
    }

    /// A byte came from the line.
    pub fn receive(&mut self, termios: &Termios, byte: u8) -> Taken {
        if !termios.line_has(flag::CREAD) {
            return Taken::Yes;
        }
        if !self.make_room(termios) {
            return Taken::Full;
        }
        let mut byte = byte;
        if termios.input(flag::ISTRIP) {
            byte &= 0x7F;
        }
        if termios.input(flag::IUCLC) && termios.local(flag::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if std::mem::take(&mut self.literal) {
            self.keep(termios, byte);
            return Taken::Yes;
        }
        if self.is_flow_control(termios, byte) {
            return Taken::Yes;
        }
        if let Some(taken) = self.is_signal(termios, byte) {
            return taken;
        }
        if termios.input(flag::IXON) && termios.input(flag::IXANY) {
            self.stopped = false;
        }
        match byte {
            b'\r' if termios.input(flag::IGNCR) => return Taken::Yes,
            b'\r' if termios.input(flag::ICRNL) => byte = b'\n',
            b'\n' if termios.input(flag::INLCR) => byte = b'\r',
            _ => {}
        }
        if !(termios.canonical() && self.is_editing(termios, byte)) {
            self.keep(termios, byte);
        }
        Taken::Yes
    }

    fn make_room(&mut self, termios: &Termios) -> bool {
        let per_byte = if termios.input(flag::PARMRK) { 3 } else { 1 };
        self.queue.make_room(termios.canonical(), per_byte)
    }

    fn is_flow_control(&mut self, termios: &Termios, byte: u8) -> bool {
        if !termios.input(flag::IXON) || self.flow_at_owner {
            return false;
        }
        let is = |which| termios.control(which) == Some(byte);
        if is(Control::Start) {
            self.stopped = false;
        } else if is(Control::Stop) {
            self.stopped = true;
        } else {
            return false;
        }
        true
    }

    /// INTR, QUIT and SUSP are eaten as on a tty that is nobody's controlling terminal.
    fn is_signal(&mut self, termios: &Termios, byte: u8) -> Option<Taken> {
        let special = [Control::Intr, Control::Quit, Control::Susp];
        if !termios.local(flag::ISIG)
            || !special
                .iter()
                .any(|&which| termios.control(which) == Some(byte))
        {
            return None;
        }
        if termios.input(flag::IXON) {
            self.stopped = false;
        }
        if termios.local(flag::NOFLSH) {
            self.echo_input(termios, byte);
            return Some(Taken::Yes);
        }
        self.flush();
        self.flush_echo();
        self.echo_input(termios, byte);
        Some(Taken::Flush)
    }

    /// Puts a byte into the queue, and sends it back if that is wanted.
    fn keep(&mut self, termios: &Termios, byte: u8) {
        if termios.local(flag::ECHO) {
            self.finish_erasing();
            if byte == b'\n' {
                self.echo_raw(termios, byte);
            } else {
                self.echo_typed(termios, byte);
            }
        }
        if byte == 0xFF && termios.input(flag::PARMRK) {
            self.queue.push(byte);
        }
        self.queue.push(byte);
    }

    fn echo_typed(&mut self, termios: &Termios, byte: u8) {
        if self.queue.typed() == 0 {
            self.output.mark_line();
        }
        self.echo_shown(termios, byte);
    }

    fn echo_input(&mut self, termios: &Termios, byte: u8) {
        if termios.local(flag::ECHO) {
            self.echo_shown(termios, byte);
        }
    }

    /// Sends a byte back; a control character as ^X if that is wanted.
    fn echo_shown(&mut self, termios: &Termios, byte: u8) {
        if !termios.local(flag::ECHOCTL) || !byte.is_ascii_control() || byte == b'\t' {
            self.echo_raw(termios, byte);
        } else if self.echo.len() + 2 <= ECHOES {
            self.output.put_printed(b'^', &mut self.echo);
            self.output.put_printed(byte ^ 0o100, &mut self.echo);
        }
    }

    fn echo_raw(&mut self, termios: &Termios, byte: u8) {
        if self.echo.len() < ECHOES {
            self.output.put(termios, byte, &mut self.echo);
        }
    }

    fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.output.put_printed(b'/', &mut self.echo);
        }
    }
}

#[cfg(test)]
mod tests;
