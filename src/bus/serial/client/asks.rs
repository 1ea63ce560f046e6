//! What was asked of the owner, and for which call of a program.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::oneshot;

use super::termios::Termios;
use crate::bus::serial::op::{DataWrite, Lines};
use crate::bus::{AskError, Outgoing, Outlet, OutletError};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;

/// Longest answer: six lines, or the settings, or an error with its text.
const REPLY: u32 = 1024;

/// Why something was asked.
#[derive(Debug)]
pub enum Purpose {
    /// These settings are wanted.
    Configure(Termios),
    /// RS-485 settings are wanted.
    Rs485,
    /// A program wants to know the lines.
    Lines,
    /// The lines change; nobody waits for it.
    SetLines,
    /// To know when the port has taken what was sent.
    Taken {
        /// So much, behind the mark before.
        bytes: usize,
    },
    /// All output shall be transmitted first.
    Drain(Then),
    /// The call ends with this answer, which has no content.
    Finish,
    /// Bytes are thrown away; what arrives before the answer as well, if it is input.
    Flush {
        /// Input, or only output.
        input: bool,
    },
    /// The last program has closed the tty: its output is to be transmitted, then the lines drop.
    Close,
    /// A subcommand wants it.
    Operate(oneshot::Sender<Result<Lines, AskError>>),
}

impl Purpose {
    /// Whether to ask for it a second time does no more than to ask once.
    const fn repeats(&self) -> bool {
        match self {
            Self::Configure(_) | Self::Rs485 | Self::Lines => true,
            // What was on its way is lost: that all of it was transmitted would not be true.
            Self::Drain(_)
            | Self::SetLines
            | Self::Taken { .. }
            | Self::Finish
            | Self::Flush { .. }
            | Self::Close
            | Self::Operate(_) => false,
        }
    }
}

/// What follows when all output is transmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The call ends.
    Finish,
    /// Settings take effect; input is thrown away with `flush`.
    Configure {
        /// The settings.
        wanted: Termios,
        /// `TCSETSF`.
        flush: bool,
    },
    /// A break of so many milliseconds.
    Break(u32),
    /// Nothing: the call was interrupted.
    Nothing,
}

/// A request that has no answer yet.
#[derive(Debug)]
pub struct Ask {
    /// The call that waits for it.
    pub call: Option<u64>,
    /// Why.
    pub purpose: Purpose,
}

/// What is to be sent.
#[derive(Debug)]
pub struct Question {
    /// The operation.
    pub opcode: Opcode,
    /// Its parameters.
    pub payload: Vec<u8>,
    /// Milliseconds after which it is given up; 0 is never.
    pub timeout_ms: u32,
}

impl Question {
    /// To know when the port has taken what was sent before or, with `drain`, transmitted it.
    pub fn after_writes(drain: bool, timeout_ms: u32) -> Self {
        let nothing = DataWrite { data: &[], drain };
        Self {
            opcode: Opcode::SerialDataWrite,
            payload: nothing.encode(),
            timeout_ms,
        }
    }
}

/// The requests to the owner.
pub struct Asks {
    outlet: Rc<dyn Outlet>,
    outstanding: BTreeMap<u32, Sent>,
    /// The peer had no room for these.
    waiting: VecDeque<(Outgoing, Ask)>,
    /// There is no session; what may wait for the next one does.
    paused: bool,
    /// Bytes that came before the outage and are not used up: no credit of this stream.
    stale: usize,
    closed: bool,
}

/// What waited for a session.
#[must_use]
pub struct Later(VecDeque<(Outgoing, Ask)>);

/// A request that was sent.
struct Sent {
    ask: Ask,
    /// What is sent once more on another stream, where that does no harm.
    again: Option<Outgoing>,
}

impl Asks {
    /// None yet.
    pub const fn new(outlet: Rc<dyn Outlet>) -> Self {
        Self {
            outlet,
            outstanding: BTreeMap::new(),
            waiting: VecDeque::new(),
            paused: false,
            stale: 0,
            closed: false,
        }
    }

    /// The stream.
    pub fn outlet(&self) -> &dyn Outlet {
        self.outlet.as_ref()
    }

    /// Asks. The ask comes back when the stream is closed.
    ///
    /// # Errors
    /// It cannot be sent any more.
    pub fn send(&mut self, question: Question, ask: Ask) -> Result<(), Ask> {
        let urgent = matches!(
            question.opcode,
            Opcode::SerialControlSet | Opcode::SerialControlGet
        );
        let outgoing = Outgoing {
            opcode: question.opcode,
            class: if urgent {
                Class::Interrupt
            } else {
                Class::Interactive
            },
            payload: question.payload,
            reply_len: REPLY,
            timeout_ms: question.timeout_ms,
            deadline_ms: 0,
        };
        if self.closed {
            return Err(ask);
        }
        self.waiting.push_back((outgoing, ask));
        self.flush()
    }

    /// Sends what waits, as far as there is room.
    fn flush(&mut self) -> Result<(), Ask> {
        if self.paused {
            return Ok(());
        }
        while let Some((outgoing, ask)) = self.waiting.pop_front() {
            let again = ask.purpose.repeats().then(|| outgoing.clone());
            match self.outlet.request(outgoing) {
                Ok(corr) => {
                    self.outstanding.insert(corr, Sent { ask, again });
                }
                Err(OutletError::WouldBlock(outgoing)) => {
                    self.waiting.push_front((outgoing, ask));
                    break;
                }
                Err(OutletError::TooLarge | OutletError::Closed) => return Err(ask),
            }
        }
        Ok(())
    }

    /// What an answer is for, once it is the final one.
    pub fn answered(&mut self, corr: u32) -> Option<Ask> {
        self.outstanding.remove(&corr).map(|sent| sent.ask)
    }

    /// Sends more after an answer came; what cannot be sent any more comes back.
    pub fn go_on(&mut self) -> Vec<Ask> {
        let mut failed = Vec::new();
        while let Err(ask) = self.flush() {
            failed.push(ask);
        }
        failed
    }

    /// A call does not wait any longer. What it asked for happens all the same, unless it was only
    /// to wait. Whether there was such a call.
    pub fn forget(&mut self, call: u64) -> bool {
        for (&corr, Sent { ask, .. }) in &mut self.outstanding {
            if ask.call == Some(call) {
                ask.call = None;
                if let Purpose::Drain(then) = &mut ask.purpose {
                    *then = Then::Nothing;
                    self.outlet.cancel(corr);
                }
                return true;
            }
        }
        let waits = |(_, ask): &(Outgoing, Ask)| ask.call == Some(call);
        let Some(index) = self.waiting.iter().position(waits) else {
            return false;
        };
        if let Some((_, ask)) = self.waiting.get_mut(index) {
            ask.call = None;
            if matches!(ask.purpose, Purpose::Drain(_)) {
                self.waiting.remove(index);
            }
        }
        true
    }

    /// Nothing is answered any more.
    pub fn close(&mut self) -> Vec<Ask> {
        self.closed = true;
        let waiting = std::mem::take(&mut self.waiting);
        let outstanding = std::mem::take(&mut self.outstanding);
        let waiting = waiting.into_iter().map(|(_, ask)| ask);
        let outstanding = outstanding.into_values().map(|sent| sent.ask);
        outstanding.chain(waiting).collect()
    }

    /// True during an outage.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// The session was lost; `unused` bytes of it were not looked at yet. What was asked for and may
    /// not be asked for again comes back, the rest waits.
    pub fn pause(&mut self, unused: usize) -> Vec<Ask> {
        (self.paused, self.stale) = (true, unused);
        let (again, failed): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, ask)| ask.purpose.repeats());
        self.waiting = again;
        let mut failed: Vec<_> = failed.into_iter().map(|(_, ask)| ask).collect();
        for Sent { ask, again } in std::mem::take(&mut self.outstanding).into_values().rev() {
            match again {
                Some(outgoing) => self.waiting.push_front((outgoing, ask)),
                None => failed.push(ask),
            }
        }
        failed
    }

    /// There is another stream. What waits is to be [asked for later](Asks::later): the port is made
    /// what it was first.
    pub fn resume(&mut self, outlet: Rc<dyn Outlet>) -> Later {
        (self.outlet, self.paused) = (outlet, false);
        Later(std::mem::take(&mut self.waiting))
    }

    /// Asks for what waited; what cannot be sent any more comes back.
    pub fn later(&mut self, Later(waiting): Later) -> Vec<Ask> {
        self.waiting.extend(waiting);
        self.go_on()
    }

    /// So many of the bytes that came are used up, the oldest first.
    pub fn consume(&mut self, bytes: usize) {
        let stale = bytes.min(self.stale);
        self.stale -= stale;
        self.outlet.consume(bytes - stale);
    }
}
