//! The half that uses PWM channels of another machine. Linux cannot make such a chip out of nothing, so
//! there is no local device: a chip is attached while a channel of it runs by our doing, and `myclerk
//! pwm` changes that.

mod channel;
mod settings;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::task::spawn_local;

use super::op::Set;
use crate::bus::outage::{Returning, again, returned};
use crate::bus::{
    AskError, AttachError, Ended, Handle, Local, Opener, OperateError, Operating, Parameters,
    Presenter, Wish,
};

pub use settings::Settings;

use channel::{Channel, Fate};

/// Sets channels of PWM chips.
pub const PRESENTER: Presenter = Presenter {
    class: "pwm",
    ways: &[],
    named: false,
    options: settings::OPTIONS,
    check: || Ok(()),
    attach: |opener, wish, _| Box::pin(attach(opener, wish)),
    operate: Some(|_, _, operation, _| {
        Box::pin(async move {
            match &*operation {
                // Whoever asked attaches the chip then, with the same words as options.
                "set" => Ok(json!({ "attach": true })),
                "off" => Err(OperateError::Failed(
                    "nothing runs there from here".to_owned(),
                )),
                other => Err(unknown(other)),
            }
        })
    }),
};

fn unknown(operation: &str) -> OperateError {
    OperateError::Usage(format!("PWM chips have no operation {operation:?}"))
}

async fn attach(opener: Rc<dyn Opener>, wish: Wish) -> Result<Local, AttachError> {
    let one = |(key, values): (&String, &Vec<String>)| match &**values {
        [value] => Ok((key.clone(), value.clone())),
        _ => Err(AttachError::Wish(format!("{key} has one value"))),
    };
    let parameters = wish
        .options
        .iter()
        .map(one)
        .collect::<Result<Parameters, _>>()?;
    if parameters.is_empty() {
        return Err(AttachError::Wish(format!(
            "a PWM chip cannot be made a device of this machine; instead: \
            myclerk pwm {}/{} CHANNEL --period 20ms --duty 1.5ms",
            wish.node, wish.device
        )));
    }
    let settings = Settings::parse(&parameters).map_err(AttachError::Wish)?;
    let (fates, ended) = unbounded_channel();
    let control = Rc::new(Control {
        opener,
        device: wish.device,
        grace: wish.grace,
        live: Cell::new(true),
        channels: RefCell::default(),
        next: Cell::new(0),
        turn: Mutex::new(()),
        over: Cell::new(false),
        fates,
        stop: Notify::new(),
    });
    control.set(settings).await.map_err(not_attached)?;
    let watched = Rc::clone(&control);
    let ended = spawn_local(async move {
        let end = watched.watch(ended).await;
        watched.over.set(true);
        watched.channels.take();
        end
    });
    Ok(Local {
        handle: Rc::new(Attached(control)),
        ended: Box::pin(async move {
            ended
                .await
                .unwrap_or_else(|error| Ended::Failed(error.to_string()))
        }),
    })
}

fn not_attached(error: OperateError) -> AttachError {
    match error {
        OperateError::Usage(why) => AttachError::Wish(why),
        OperateError::Ask(error) => AttachError::Ask(error),
        OperateError::Failed(why) => AttachError::Answer(why),
    }
}

struct Attached(Rc<Control>);

/// The channels of one chip that run by our doing.
struct Control {
    opener: Rc<dyn Opener>,
    device: String,
    /// How long a lost owner is waited for.
    grace: Duration,
    /// There is a session.
    live: Cell<bool>,
    channels: RefCell<BTreeMap<u32, Channel>>,
    /// Tells one use of a channel from the next.
    next: Cell<u64>,
    /// Operations are performed one by one.
    turn: Mutex<()>,
    /// Nobody looks after further channels.
    over: Cell<bool>,
    fates: UnboundedSender<(u32, u64, Fate)>,
    stop: Notify,
}

impl Handle for Attached {
    fn files(&self) -> Vec<String> {
        let channels = self.0.channels.borrow();
        let told = channels
            .iter()
            .map(|(number, channel)| format!("channel {number} ({})", channel.told()));
        told.collect()
    }

    fn detach(&self) {
        self.0.stop.notify_one();
    }

    fn is_live(&self) -> bool {
        self.0.live.get()
    }

    fn operate(&self, operation: String, parameters: Parameters) -> Operating<'_> {
        Box::pin(async move {
            match &*operation {
                "set" => {
                    let settings = Settings::parse(&parameters).map_err(OperateError::Usage)?;
                    self.0.set(settings).await
                }
                "off" => {
                    let number = settings::channel(&parameters).map_err(OperateError::Usage)?;
                    self.0.off(number).await
                }
                other => Err(unknown(other)),
            }
        })
    }
}

impl Control {
    /// Waits for the operations before, while there is an owner to be asked.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, OperateError> {
        self.reachable()?;
        let turn = self.turn.lock().await;
        self.reachable()?;
        Ok(turn)
    }

    fn reachable(&self) -> Result<(), OperateError> {
        if self.over.get() {
            return Err(ended());
        }
        if !self.live.get() {
            let text = "the owner cannot be reached; when it can, what ran from here is set again";
            return Err(OperateError::Failed(text.to_owned()));
        }
        Ok(())
    }

    /// Lets a channel run so. One that already runs with the same period is not interrupted.
    async fn set(&self, settings: Settings) -> Result<Value, OperateError> {
        let _turn = self.turn().await?;
        let done = self.run(&settings).await;
        if done.is_err() && self.channels.borrow().is_empty() {
            self.stop.notify_one();
        }
        done
    }

    async fn run(&self, settings: &Settings) -> Result<Value, OperateError> {
        let number = settings.configure.ch;
        let running = self.channels.borrow().get(&number).cloned();
        let channel = match running {
            Some(channel) if channel.serves(settings) => channel,
            running => {
                if let Some(channel) = running {
                    channel.switch_off().await?;
                    self.forget(number, channel.id);
                }
                self.open(settings).await?
            }
        };
        let set = Set {
            duty_ns: settings.duty_ns,
            on: true,
        };
        let set = channel.set(set).await;
        if set.is_err() && !channel.is_on() {
            self.forget(number, channel.id);
            let _ = channel.release().await;
        }
        set?;
        Ok(channel.json(number))
    }

    async fn open(&self, settings: &Settings) -> Result<Channel, OperateError> {
        let id = self.next.replace(self.next.get() + 1);
        let (number, fates) = (settings.configure.ch, self.fates.clone());
        let told = move |fate| {
            // Nobody listens any more when everything ends at once.
            let _ = fates.send((number, id, fate));
        };
        let channel = Channel::open(&*self.opener, &self.device, settings, id, told).await?;
        self.channels.borrow_mut().insert(number, channel.clone());
        Ok(channel)
    }

    /// Switches a channel off, whether or not it was to go on.
    async fn off(&self, number: u32) -> Result<Value, OperateError> {
        let _turn = self.turn().await?;
        let running = self.channels.borrow().get(&number).cloned();
        let Some(channel) = running else {
            let text = format!("channel {number} does not run from here");
            return Err(OperateError::Failed(text));
        };
        channel.switch_off().await?;
        let told = channel.json(number);
        self.forget(number, channel.id);
        if self.channels.borrow().is_empty() {
            self.stop.notify_one();
        }
        Ok(told)
    }

    fn forget(&self, number: u32, id: u64) {
        let mut channels = self.channels.borrow_mut();
        if channels
            .get(&number)
            .is_some_and(|channel| channel.id == id)
        {
            channels.remove(&number);
        }
    }

    /// Whether the owner has all channels that run by our doing.
    fn is_whole(&self) -> bool {
        !self.channels.borrow().values().any(Channel::is_lost)
    }

    /// Takes the channels again that were lost with the session, and lets them run as they did.
    async fn resume(&self) -> Result<(), AttachError> {
        let _turn = self.turn.lock().await;
        let channels = self.channels.borrow().clone();
        for channel in channels.into_values().filter(Channel::is_lost) {
            let settings = channel.settings();
            let channel = self.open(&settings).await.map_err(not_attached)?;
            let set = Set {
                duty_ns: settings.duty_ns,
                on: true,
            };
            if let Err(error) = channel.set(set).await {
                channel.abandon();
                return Err(not_attached(error));
            }
        }
        Ok(())
    }

    /// Waits until no channel runs any more, or nobody wants one to.
    async fn watch(self: &Rc<Self>, mut fates: UnboundedReceiver<(u32, u64, Fate)>) -> Ended {
        let mut returning = None;
        loop {
            let fate = tokio::select! {
                () = self.stop.notified() => break,
                back = returned(&mut returning) => {
                    returning = None;
                    match back {
                        Ok(()) if self.is_whole() => self.live.set(true),
                        Ok(()) => returning = Some(self.again()),
                        Err(ended) => return ended,
                    }
                    continue;
                }
                fate = fates.recv() => fate,
            };
            let Some((number, id, fate)) = fate else {
                break;
            };
            let known = self
                .channels
                .borrow()
                .get(&number)
                .map(|channel| channel.id);
            if known != Some(id) {
                continue;
            }
            match fate {
                Fate::Session if self.grace.is_zero() => return Ended::Session,
                Fate::Session => {
                    self.live.set(false);
                    returning.get_or_insert_with(|| self.again());
                }
                Fate::Owner(status) => {
                    self.forget(number, id);
                    if self.channels.borrow().is_empty() {
                        return Ended::Owner(status);
                    }
                }
            }
        }
        // It may have its turn just now.
        drop(returning);
        let _turn = self.turn.lock().await;
        self.over.set(true);
        for channel in self.channels.take().into_values() {
            // When this does not reach the owner, the end of the session tells it.
            let _ = channel.release().await;
        }
        Ended::Detached
    }

    fn again(self: &Rc<Self>) -> Returning<()> {
        let control = Rc::clone(self);
        again(Rc::clone(&self.opener), self.grace, move |_| {
            let control = Rc::clone(&control);
            async move { control.resume().await }
        })
    }
}

/// The session ended before an answer came.
fn ended() -> OperateError {
    OperateError::Ask(AskError::Ended(
        "the stream of the channel is closed".to_owned(),
    ))
}
