//! Settings: a program's become the owner's, and the owner's actual ones are what a program reads
//! back.

use nix::errno::Errno;

use super::{Answer, Ask, Purpose, Question, Tty};
use crate::bus::serial::client::asks::Then;
use crate::bus::serial::client::ioctl::{Layout, When};
use crate::bus::serial::client::settings;
use crate::bus::serial::client::structs;
use crate::bus::serial::client::termios::Termios;
use crate::bus::serial::op::{
    Break, Change, ControlSet, Flow, Flush, MAX_BREAK_MS, Settings, Step,
};
use crate::wire::opcode::Opcode;

impl Tty {
    pub(super) fn encoded(&self, layout: Layout) -> Vec<u8> {
        match layout {
            Layout::Termios => self.termios.encode(),
            Layout::Termios2 => self.termios.encode2(),
            Layout::Termio => self.termios.encode_old(),
        }
    }

    /// `TCSETS` and its kin.
    pub(super) fn configure(
        &mut self,
        id: u64,
        layout: Layout,
        when: When,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let wanted = match layout {
            Layout::Termios => self.termios.set(bytes),
            Layout::Termios2 => Termios::set2(bytes),
            Layout::Termio => self.termios.set_old(bytes),
        };
        let wanted = wanted.ok_or(Errno::EFAULT)?;
        let flush = match when {
            When::Now => {
                self.apply(Some(id), wanted, false);
                return Ok(());
            }
            When::Drained => false,
            When::Flushed => true,
        };
        self.drain(id, Then::Configure { wanted, flush });
        Ok(())
    }

    /// Waits until all output is transmitted.
    pub(super) fn drain(&mut self, id: u64, then: Then) {
        self.mark_now();
        let question = Question::after_writes(true, 0);
        self.ask(question, Ask::of(Some(id), Purpose::Drain(then)));
    }

    /// All output is transmitted.
    pub(super) fn drained(&mut self, call: Option<u64>, then: Then) {
        match then {
            Then::Finish => self.finish(call),
            Then::Configure { wanted, flush } => {
                if flush {
                    self.flush_input();
                }
                self.apply(call, wanted, flush);
            }
            Then::Break(ms) => self.send_break(call, ms),
            Then::Nothing => {}
        }
    }

    /// Makes these settings the tty's, after the owner has made them its port's where they concern
    /// it; with `flush` the owner throws its input away first.
    fn apply(&mut self, call: Option<u64>, wanted: Termios, flush: bool) {
        match (
            settings::is_hung_up(&self.termios),
            settings::is_hung_up(&wanted),
        ) {
            (false, true) => self.raise(false),
            (true, false) => self.raise(true),
            (false, false) | (true, true) => {}
        }
        let Some(change) = settings::difference(&self.termios, &wanted) else {
            self.become_settings(wanted);
            if flush {
                return self.flush_owner(call, Flush::Input);
            }
            return self.finish(call);
        };
        if flush {
            self.flush_owner(None, Flush::Input);
        }
        self.ask_change(&change, Ask::of(call, Purpose::Configure(wanted)));
    }

    /// The owner's port is like this now.
    pub(super) fn configured(
        &mut self,
        call: Option<u64>,
        mut wanted: Termios,
        actual: Result<Settings, Errno>,
    ) {
        match actual {
            Ok(actual) => {
                settings::tell(&mut wanted, &actual);
                self.actual = actual;
                self.become_settings(wanted);
                self.finish(call);
            }
            Err(errno) => self.finish_with(call, errno),
        }
    }

    fn become_settings(&mut self, new: Termios) {
        let old = std::mem::replace(&mut self.termios, new);
        let at_owner = self.actual.flow == Flow::XonXoff;
        self.discipline.flow_at_owner(at_owner);
        self.discipline.change(&old, &new);
    }

    pub(super) fn ask_change(&mut self, change: &Change, ask: Ask) {
        let Ok(payload) = change.encode() else {
            return self.unanswered(ask);
        };
        let question = Question {
            opcode: Opcode::SerialPortConfigure,
            payload,
            timeout_ms: 0,
        };
        self.ask(question, ask);
    }

    /// `TCFLSH`.
    pub(super) fn flush(&mut self, id: u64, which: u64) -> Result<(), Errno> {
        let flush = match which {
            0 => Flush::Input,
            1 => Flush::Output,
            2 => Flush::Both,
            _ => return Err(Errno::EINVAL),
        };
        if flush.input() {
            self.flush_input();
        }
        if flush.output() {
            self.discipline.flush_echo();
        }
        self.flush_owner(Some(id), flush);
        Ok(())
    }

    pub(super) fn send_break(&mut self, call: Option<u64>, ms: u32) {
        let ask = Ask::of(call, Purpose::Finish);
        let of = Break {
            ms: ms.clamp(1, MAX_BREAK_MS),
        };
        let Ok(payload) = of.encode() else {
            return self.unanswered(ask);
        };
        let question = Question {
            opcode: Opcode::SerialBreak,
            payload,
            timeout_ms: 0,
        };
        self.ask(question, ask);
    }

    /// `TIOCSBRK`, `TIOCCBRK`.
    pub(super) fn hold_break(&mut self, id: u64, on: bool) {
        let step = Step {
            brk: Some(on),
            ..Step::default()
        };
        let set = ControlSet {
            seq: vec![step],
            ..ControlSet::default()
        };
        self.ask_control(&set, Ask::of(Some(id), Purpose::Finish));
    }

    /// `TIOCSRS485`.
    pub(super) fn set_rs485(&mut self, id: u64, bytes: &[u8]) -> Result<(), Errno> {
        if self.actual.rs485.is_none() {
            return Err(Errno::ENOTTY);
        }
        let change = Change {
            rs485: Some(structs::decode_rs485(bytes).ok_or(Errno::EFAULT)?),
            ..Change::default()
        };
        self.ask_change(&change, Ask::of(Some(id), Purpose::Rs485));
        Ok(())
    }

    /// The owner's answer to that.
    pub(super) fn rs485_set(&mut self, call: Option<u64>, actual: Result<Settings, Errno>) {
        match actual {
            Ok(actual) => {
                self.actual = actual;
                if let Some(id) = call {
                    let rs485 = self.actual.rs485.as_ref().map(structs::encode_rs485);
                    self.answer(id, &Answer::Done(rs485.unwrap_or_default()));
                }
            }
            Err(errno) => self.finish_with(call, errno),
        }
    }

    /// An ioctl without output ends well.
    pub(super) fn finish(&self, call: Option<u64>) {
        if let Some(id) = call {
            self.answer(id, &Answer::Done(Vec::new()));
        }
    }

    pub(super) fn finish_with(&self, call: Option<u64>, errno: Errno) {
        if let Some(id) = call {
            self.fail(id, errno);
        }
    }
}
