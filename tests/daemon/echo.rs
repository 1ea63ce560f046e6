//! A bus for the tests: devices that are files in a directory and send back what they are told.
//! Both halves are served by the real daemons, which this test binary runs when it is started anew.
//!
//! `echo` devices have one user at a time, `choir` devices several. A device whose file says `busy`
//! is one that its machine needs itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::{
    AttachError, BusStream, Caller, End, Ended, Grant, Handle, Hazard, Inbound, Local, Opener,
    OperateError, Operating, Outlet, Owned, Parameters, Present, Presenter, Refused, Wanted, Wish,
};
use myclerk::wire::msgpack::{self, Value};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Notify, oneshot};

/// Where the devices are.
pub(crate) const HARDWARE: &str = "MYCLERK_TEST_HARDWARE";
/// Where local ones appear.
const RUN: &str = "MYCLERK_RUN";
const PATIENCE: Duration = Duration::from_secs(10);

/// The owner's lines.
pub(crate) const OWNED: &[&Owned] = &[
    &Owned {
        class: "echo",
        shared: false,
        openers: &[Opcode::StreamStart],
        calls: &[Opcode::GpioLineInfo],
        list: None,
        look: || look("echo"),
        wanted,
        serve: |grant, stream| Box::pin(serve(grant, stream)),
        call,
    },
    &Owned {
        class: "choir",
        shared: true,
        openers: &[Opcode::StreamStart],
        calls: &[Opcode::GpioLineInfo],
        list: Some((Opcode::CanInterfaceList, |devices| {
            let name = |(present, state): &(Present, u8)| (present.name.clone(), *state);
            msgpack::encode(&devices.iter().map(name).collect::<Vec<_>>()).unwrap()
        })),
        look: || look("choir"),
        wanted,
        serve: |grant, stream| Box::pin(serve(grant, stream)),
        call,
    },
];

/// The user's lines.
pub(crate) const PRESENTERS: &[&Presenter] = &[
    &Presenter {
        class: "echo",
        ways: &["speaker", "listener"],
        named: true,
        options: &[("word", "what is said first")],
        check: || Ok(()),
        attach: |opener, wish, _| Box::pin(attach(opener, wish)),
        operate: None,
    },
    &Presenter {
        class: "choir",
        ways: &["speaker"],
        named: true,
        options: &[],
        check: || match std::env::var_os("MYCLERK_TEST_MUTE") {
            None => Ok(()),
            Some(_) => Err(AttachError::Here {
                what: "there is no voice".to_owned(),
                cause: io::Error::from(io::ErrorKind::NotFound),
                mend: Some("modprobe voice".to_owned()),
            }),
        },
        attach: |opener, wish, _| Box::pin(attach(opener, wish)),
        operate: Some(|opener, wish, operation, parameters| {
            Box::pin(ask(opener, wish, operation, parameters))
        }),
    },
];

/// The parameters of every operation; with 4, the type of a byte stream, the asker may speak.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) dev: String,
    #[serde(rename = "type")]
    pub(crate) kind: u8,
}

impl Start {
    pub(crate) fn payload(dev: &str, kind: u8) -> Vec<u8> {
        let dev = dev.to_owned();
        msgpack::encode(&Self { dev, kind }).unwrap()
    }
}

fn look(class: &str) -> io::Result<Vec<Present>> {
    let Some(hardware) = std::env::var_os(HARDWARE) else {
        return Ok(Vec::new());
    };
    let entries = fs::read_dir(PathBuf::from(hardware).join(class))?;
    let present = entries.map(|entry| {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap();
        let busy = fs::read_to_string(entry.path())? == "busy";
        Ok(Present {
            id: format!("{class}:{name}"),
            name: format!("Voice {name}"),
            place: name,
            hazard: busy.then(|| Hazard {
                reason: "it sings already".to_owned(),
                forcible: true,
            }),
            props: BTreeMap::from([("pitch".to_owned(), Value::Uint(440))]),
        })
    });
    present.collect()
}

fn wanted(_: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    let start: Start = msgpack::decode(payload).map_err(|error| Refused::bad(error.to_string()))?;
    Ok(Wanted {
        device: start.dev,
        write: start.kind == 4,
    })
}

fn call(present: &Present, _: &Caller, _: Opcode, _: &[u8]) -> Result<Vec<u8>, Refused> {
    if present.place == "mute" {
        return Err(Refused::unsupported("it has no voice"));
    }
    Ok(present.name.clone().into_bytes())
}

async fn serve(grant: Grant, stream: BusStream) -> End {
    let BusStream {
        outlet,
        mut inbound,
    } = stream;
    outlet.respond(grant.corr, Status::Ok, grant.present.place.into_bytes());
    loop {
        match inbound.recv().await {
            Some(Inbound::Data { payload, .. }) => {
                outlet.consume(payload.len());
                outlet.data(payload, false);
            }
            // The end of the session resets its streams first.
            Some(
                Inbound::Reset {
                    status: Status::ServiceUnavailable,
                }
                | Inbound::Closed,
            )
            | None => return End::PeerLeft,
            Some(Inbound::Reset { .. }) => return End::Detached,
            Some(_) => {}
        }
    }
}

/// A device here: a file with its first echo.
struct Voice {
    file: PathBuf,
    outlet: Rc<dyn Outlet>,
    asked: RefCell<Option<oneshot::Sender<Vec<u8>>>>,
    detach: Notify,
}

impl Voice {
    async fn say(&self, text: &str) -> Option<String> {
        let (sender, echo) = oneshot::channel();
        *self.asked.borrow_mut() = Some(sender);
        self.outlet.data(text.as_bytes().to_vec(), false);
        String::from_utf8(echo.await.ok()?).ok()
    }

    async fn listen(
        self: Rc<Self>,
        mut inbound: tokio::sync::mpsc::UnboundedReceiver<Inbound>,
    ) -> Ended {
        let end = loop {
            let inbound = tokio::select! {
                inbound = inbound.recv() => inbound,
                () = self.detach.notified() => {
                    self.outlet.reset(Status::Ok);
                    break Ended::Detached;
                }
            };
            match inbound {
                Some(Inbound::Data { payload, .. }) => {
                    self.outlet.consume(payload.len());
                    if let Some(asked) = self.asked.take() {
                        let _ = asked.send(payload);
                    }
                }
                Some(Inbound::Reset { status }) => break Ended::Owner(status),
                Some(Inbound::Closed) | None => break Ended::Session,
                Some(_) => {}
            }
        };
        fs::remove_file(&self.file).unwrap();
        end
    }
}

impl Handle for Voice {
    fn files(&self) -> Vec<String> {
        vec![self.file.display().to_string()]
    }

    fn detach(&self) {
        self.detach.notify_one();
    }

    fn operate(&self, operation: String, parameters: Parameters) -> Operating<'_> {
        Box::pin(async move {
            let text = parameters.get("text").cloned();
            let Some(text) = text.filter(|_| operation == "say") else {
                return Err(OperateError::Usage(format!("nothing is {operation}ed")));
            };
            match self.say(&text).await {
                Some(echo) => Ok(json!({ "echo": echo })),
                None => Err(OperateError::Failed("silence".to_owned())),
            }
        })
    }
}

async fn attach(opener: Rc<dyn Opener>, wish: Wish) -> Result<Local, AttachError> {
    let listens = wish.way.as_deref() == Some("listener");
    let payload = Start::payload(&wish.device, if listens { 3 } else { 4 });
    let (place, stream) = opener.open(Opcode::StreamStart, payload, PATIENCE).await?;
    let place = String::from_utf8(place).map_err(|_| AttachError::Answer("no text".to_owned()))?;
    let name = wish.name.unwrap_or(place);
    let voice = Rc::new(Voice {
        file: PathBuf::from(std::env::var_os(RUN).unwrap()).join(name),
        outlet: stream.outlet,
        asked: RefCell::default(),
        detach: Notify::new(),
    });
    fs::write(&voice.file, "").unwrap();
    let (sender, ended) = oneshot::channel();
    let listening = Rc::clone(&voice).listen(stream.inbound);
    tokio::task::spawn_local(async move { sender.send(listening.await) });
    let words = wish.options.get("word").cloned().unwrap_or_default();
    for word in words {
        // What became of it does not matter; it is a request that takes its time.
        let question = Start::payload(&wish.device, 0);
        let _ = opener.call(Opcode::GpioLineInfo, question, PATIENCE).await;
        let echo = voice.say(&word).await.unwrap_or_default();
        fs::write(&voice.file, echo).unwrap();
    }
    Ok(Local {
        handle: voice,
        ended: Box::pin(async { ended.await.unwrap() }),
    })
}

async fn ask(
    opener: Rc<dyn Opener>,
    wish: Wish,
    operation: String,
    parameters: Parameters,
) -> Result<serde_json::Value, OperateError> {
    if !parameters.is_empty() {
        return Err(OperateError::Usage("say nothing".to_owned()));
    }
    let payload = Start::payload(&wish.device, 0);
    let answer = opener.call(Opcode::GpioLineInfo, payload, PATIENCE).await?;
    let text = String::from_utf8(answer).unwrap();
    Ok(json!({ operation: text }))
}
