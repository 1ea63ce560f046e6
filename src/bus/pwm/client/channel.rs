//! One channel that runs by our doing: a stream, and a task that looks after it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::{Settings, ended};
use crate::bus::pwm::op::{Configure, Configured, Set, encode_empty};
use crate::bus::{AskError, BusStream, Inbound, Opener, OperateError, Outgoing};
use crate::wire::class::Class;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// How long the owner may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What became of a channel without our doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The session ended.
    Session,
    /// The owner ended the stream.
    Owner(Status),
}

/// A channel; clones are the same.
#[derive(Clone)]
pub(super) struct Channel {
    /// Tells this use of the channel from the next.
    pub(super) id: u64,
    inner: Rc<Inner>,
}

struct Inner {
    wanted: Configure,
    actual: Configured,
    /// How long it is to be active in each cycle.
    duty_ns: Cell<u64>,
    set: Cell<Set>,
    asks: RefCell<Option<UnboundedSender<Ask>>>,
}

type Answer = Result<Vec<u8>, AskError>;

struct Ask {
    opcode: Opcode,
    payload: Vec<u8>,
    answer: oneshot::Sender<Answer>,
}

impl Channel {
    /// Takes a channel, which is off at first; `told` is called when it is lost.
    pub(super) async fn open(
        opener: &dyn Opener,
        device: &str,
        settings: &Settings,
        id: u64,
        told: impl FnOnce(Fate) + 'static,
    ) -> Result<Self, OperateError> {
        let wanted = Configure {
            dev: device.to_owned(),
            ..settings.configure.clone()
        };
        let payload = wanted.encode().map_err(|error| failed(&error))?;
        let opened = opener.open(Opcode::GpioPwmConfigure, payload, ANSWER).await;
        let (answer, stream) = opened?;
        let actual = Configured::decode(&answer).map_err(|error| failed(&error))?;
        let (asks, asked) = unbounded_channel();
        spawn_local(async move {
            if let Some(fate) = look_after(stream, asked).await {
                told(fate);
            }
        });
        Ok(Self {
            id,
            inner: Rc::new(Inner {
                wanted,
                actual,
                duty_ns: Cell::new(settings.duty_ns),
                set: Cell::new(Set {
                    duty_ns: 0,
                    on: false,
                }),
                asks: RefCell::new(Some(asks)),
            }),
        })
    }

    /// Whether only the duty cycle is another.
    pub(super) fn serves(&self, settings: &Settings) -> bool {
        let wanted = &self.inner.wanted;
        let same = |wish: &Configure| {
            (wish.period_ns, wish.pol, wish.hold) == (wanted.period_ns, wanted.pol, wanted.hold)
        };
        same(&settings.configure)
    }

    /// Changes the channel.
    pub(super) async fn set(&self, set: Set) -> Result<(), OperateError> {
        let payload = set.encode().map_err(|error| failed(&error))?;
        let answer = self.ask(Opcode::GpioPwmSet, payload).await?;
        self.inner.duty_ns.set(set.duty_ns);
        self.inner
            .set
            .set(Set::decode(&answer).map_err(|error| failed(&error))?);
        Ok(())
    }

    pub(super) fn is_on(&self) -> bool {
        self.inner.set.get().on
    }

    /// What was wanted of it.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            configure: self.inner.wanted.clone(),
            duty_ns: self.inner.duty_ns.get(),
        }
    }

    /// Whether its owner has it no more.
    pub(super) fn is_lost(&self) -> bool {
        let asks = self.inner.asks.borrow();
        asks.as_ref().is_none_or(UnboundedSender::is_closed)
    }

    /// Gives the channel back without waiting for its owner.
    pub(super) fn abandon(&self) {
        self.inner.asks.take();
    }

    /// Gives the channel back. Its owner switches it off, unless it is to be held.
    pub(super) async fn release(&self) -> Result<(), OperateError> {
        self.ask(Opcode::GpioLineRelease, encode_empty()).await?;
        self.inner.asks.take();
        Ok(())
    }

    /// Switches the channel off and gives it back.
    pub(super) async fn switch_off(&self) -> Result<(), OperateError> {
        let set = Set {
            on: false,
            ..self.inner.set.get()
        };
        self.set(set).await?;
        self.release().await
    }

    /// What the channel does, for programs.
    pub(super) fn json(&self, number: u32) -> Value {
        let (actual, set) = (self.inner.actual, self.inner.set.get());
        json!({
            "channel": number,
            "period-ns": actual.period_ns,
            "duty-ns": set.duty_ns,
            "polarity": actual.pol.to_string(),
            "hold": self.inner.wanted.hold,
            "on": set.on,
        })
    }

    /// What the channel does, for people.
    pub(super) fn told(&self) -> String {
        let (duty, period) = (self.inner.set.get().duty_ns, self.inner.actual.period_ns);
        let held = if self.inner.wanted.hold { ", held" } else { "" };
        format!("{duty} of {period} ns{held}")
    }

    async fn ask(&self, opcode: Opcode, payload: Vec<u8>) -> Result<Vec<u8>, OperateError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            opcode,
            payload,
            answer,
        };
        let sent = match &*self.inner.asks.borrow() {
            Some(asks) => asks.send(ask).is_ok(),
            None => false,
        };
        if !sent {
            return Err(ended());
        }
        Ok(answered.await.map_err(|_| ended())??)
    }
}

/// Asks one thing after the other until nobody asks any more; what ended the stream, if that came
/// first.
async fn look_after(mut stream: BusStream, mut asked: UnboundedReceiver<Ask>) -> Option<Fate> {
    loop {
        tokio::select! {
            ask = asked.recv() => {
                let Some(ask) = ask else {
                    // Dropped without a word: the owner brings it into its safe state.
                    stream.outlet.reset(Status::Ok);
                    return None;
                };
                let released = ask.opcode == Opcode::GpioLineRelease;
                match answer(&mut stream, ask.opcode, ask.payload).await {
                    Ok(answer) => {
                        let done = released && answer.is_ok();
                        // Whoever asked may have given up.
                        let _ = ask.answer.send(answer);
                        if done {
                            return None;
                        }
                    }
                    Err(fate) => return Some(fate),
                }
            }
            message = stream.inbound.recv() => {
                if let Some(fate) = fate(message.as_ref()) {
                    return Some(fate);
                }
            }
        }
    }
}

async fn answer(stream: &mut BusStream, opcode: Opcode, payload: Vec<u8>) -> Result<Answer, Fate> {
    let sent = stream.outlet.request(Outgoing {
        opcode,
        class: Class::Interactive,
        payload,
        reply_len: 64,
        timeout_ms: u32::try_from(ANSWER.as_millis()).unwrap_or(u32::MAX),
        deadline_ms: 0,
    });
    let asked = match sent {
        Ok(corr) => corr,
        Err(error) => return Ok(Err(AskError::NotSent(error.to_string()))),
    };
    loop {
        let message = stream.inbound.recv().await;
        if let Some(Inbound::Response {
            corr,
            status,
            payload,
            more: false,
        }) = &message
            && *corr == asked
        {
            return Ok(if status.is_success() {
                Ok(payload.clone())
            } else {
                Err(AskError::Refused {
                    status: *status,
                    error: ErrorMap::decode(payload).unwrap_or_default(),
                })
            });
        }
        if let Some(fate) = fate(message.as_ref()) {
            return Err(fate);
        }
    }
}

/// What a message says about the end of the stream.
fn fate(message: Option<&Inbound>) -> Option<Fate> {
    match message {
        Some(Inbound::Reset { status }) => Some(Fate::Owner(*status)),
        Some(Inbound::Closed) | None => Some(Fate::Session),
        Some(
            Inbound::Request { .. }
            | Inbound::Cancel { .. }
            | Inbound::Response { .. }
            | Inbound::Event { .. }
            | Inbound::Data { .. }
            | Inbound::Writable
            | Inbound::Dropped { .. },
        ) => None,
    }
}

fn failed(error: &dyn core::error::Error) -> OperateError {
    OperateError::Failed(format!("the owner answered without sense: {error}"))
}
