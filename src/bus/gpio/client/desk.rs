//! What the board and the workers of its lines tell each other.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::inbox::{Inbox, Order};
use super::local::{LineUse, Sim};
use crate::bus::gpio::op::{LineInfo, LineInfoRequest};
use crate::bus::{AskError, Ended, Opener};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long the owner may take to give a line or to tell of one.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// What all lines of a chip share.
pub(super) struct Desk {
    pub(super) opener: Rc<dyn Opener>,
    pub(super) sim: Rc<dyn Sim>,
    /// The chip's id at the owner.
    pub(super) device: String,
    /// The levels that outputs get when the session ends.
    pub(super) safe: BTreeMap<u32, bool>,
    /// The lines that are watched at the owner while nobody here uses them.
    pub(super) follow: BTreeSet<u32>,
    /// How many lines are requested at the owner.
    pub(super) open: Cell<usize>,
    /// How long a lost owner is waited for.
    pub(super) grace: Duration,
    /// There is a session.
    pub(super) live: Cell<bool>,
    /// Which one, counted from 0.
    pub(super) session: Cell<u64>,
    pub(super) ends: UnboundedSender<Ended>,
}

impl Desk {
    pub(super) fn end(&self, ended: Ended) {
        // The board is ending already.
        let _ = self.ends.send(ended);
    }

    /// That session is lost. All lines notice, and it is told once.
    pub(super) fn lost(&self, session: u64) {
        if session == self.session.get() && self.live.replace(false) {
            self.end(Ended::Session);
        }
    }

    /// There is another session.
    pub(super) fn found(&self) {
        self.session.set(self.session.get() + 1);
        self.live.set(true);
    }

    /// Asks the owner about a line.
    pub(super) async fn info(&self, line: u32) -> Result<LineInfo, AskError> {
        line_info(&*self.opener, &self.device, line).await
    }
}

/// `GPIO_LINE_INFO`.
pub(super) async fn line_info(
    opener: &dyn Opener,
    device: &str,
    line: u32,
) -> Result<LineInfo, AskError> {
    let request = LineInfoRequest {
        dev: device.to_owned(),
        line,
    };
    let payload = request
        .encode()
        .map_err(|error| AskError::NotSent(error.to_string()))?;
    let answer = opener.call(Opcode::GpioLineInfo, payload, ANSWER).await?;
    LineInfo::decode(&answer).map_err(|error| AskError::Refused {
        status: Status::InternalError,
        error: crate::wire::error::ErrorMap::new(sub::BAD_PAYLOAD).with_msg(error.to_string()),
    })
}

/// How a program of this machine uses a line, and the level of an output.
pub(super) type Wanted = (LineUse, bool);

/// What a line is told by the board.
#[derive(Default)]
pub(super) struct Line {
    pub(super) number: u32,
    /// How it is used here, and the level of an output.
    pub(super) wanted: Cell<Option<Wanted>>,
    inbox: RefCell<Inbox>,
    wake: Notify,
    reads: Cell<u64>,
    read: Notify,
}

impl Line {
    pub(super) fn new(number: u32) -> Rc<Self> {
        Rc::new(Self {
            number,
            ..Self::default()
        })
    }

    /// Gives orders.
    pub(super) fn order(&self, give: impl FnOnce(&mut Inbox)) {
        let dropped = {
            let mut inbox = self.inbox.borrow_mut();
            give(&mut inbox);
            inbox.take_dropped()
        };
        if dropped > 0 {
            tracing::warn!(
                line = self.number,
                dropped,
                "a line changes faster than its owner is told"
            );
        }
        self.wake.notify_one();
    }

    /// Edge detection has looked at the line.
    pub(super) fn was_read(&self) {
        self.reads.set(self.reads.get().wrapping_add(1));
        self.read.notify_one();
    }

    /// How many looks there were.
    pub(super) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// An order that could not be carried out yet.
    pub(super) fn take_back(&self, order: Order) {
        self.inbox.borrow_mut().unpop(order);
    }

    pub(super) async fn next(&self) -> Order {
        loop {
            let order = self.inbox.borrow_mut().pop();
            match order {
                Some(order) => return order,
                None => self.wake.notified().await,
            }
        }
    }

    pub(super) async fn read_since(&self, reads: u64) {
        while self.reads.get() == reads {
            self.read.notified().await;
        }
    }
}
