//! The half that uses PWM channels of another machine. Linux cannot make such a chip out of nothing, so
//! there is no local device: a chip is attached while a channel of it runs by our doing, and `myclerk
//! pwm` changes that.

mod channel;
mod settings;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_local;

use super::op::Set;
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
    options: settings::OPTIONS,
    check: || Ok(()),
    attach: |opener, wish| Box::pin(attach(opener, wish)),
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
        channels: RefCell::default(),
        next: Cell::new(0),
        turn: Mutex::new(()),
        over: Cell::new(false),
        fates,
        stop: Notify::new(),
    });
    control.set(settings).await.map_err(|error| match error {
        OperateError::Usage(why) => AttachError::Wish(why),
        OperateError::Ask(error) => AttachError::Ask(error),
        OperateError::Failed(why) => AttachError::Answer(why),
    })?;
    let watched = Rc::clone(&control);
    let ended = spawn_local(async move {
        let end = watched.watch(ended).await;
        watched.over.set(true);
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

struct Attached(Rc<Control>);

/// The channels of one chip that run by our doing.
struct Control {
    opener: Rc<dyn Opener>,
    device: String,
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
    /// Lets a channel run so. One that already runs with the same period is not interrupted.
    async fn set(&self, settings: Settings) -> Result<Value, OperateError> {
        let _turn = self.turn.lock().await;
        if self.over.get() {
            return Err(ended());
        }
        let number = settings.configure.ch;
        let running = self.channels.borrow().get(&number).cloned();
        let channel = match running {
            Some(channel) if channel.serves(&settings) => channel,
            running => {
                if let Some(channel) = running {
                    self.forget(number, channel.id);
                    channel.switch_off().await?;
                }
                self.open(&settings).await?
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
        let _turn = self.turn.lock().await;
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

    /// Waits until no channel runs any more, or nobody wants one to.
    async fn watch(&self, mut fates: UnboundedReceiver<(u32, u64, Fate)>) -> Ended {
        loop {
            let (number, id, fate) = tokio::select! {
                () = self.stop.notified() => break,
                fate = fates.recv() => match fate {
                    Some(fate) => fate,
                    None => break,
                },
            };
            let ours = self
                .channels
                .borrow()
                .get(&number)
                .is_some_and(|channel| channel.id == id);
            if !ours {
                continue;
            }
            self.forget(number, id);
            match fate {
                Fate::Session => return Ended::Session,
                Fate::Owner(status) if self.channels.borrow().is_empty() => {
                    return Ended::Owner(status);
                }
                Fate::Owner(_) => {}
            }
        }
        let _turn = self.turn.lock().await;
        self.over.set(true);
        for channel in self.channels.take().into_values() {
            // When this does not reach the owner, the end of the session tells it.
            let _ = channel.release().await;
        }
        Ended::Detached
    }
}

/// The session ended before an answer came.
fn ended() -> OperateError {
    OperateError::Ask(AskError::Ended(
        "the stream of the channel is closed".to_owned(),
    ))
}
