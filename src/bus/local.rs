//! What the halves that make remote devices local have in common.

use core::future::Future;
use core::pin::Pin;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::names::{Access, Label};
use super::{Inbound, Outlet};
use crate::kernel::vhci::Vhci;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, AskError>> + 'a>>;

/// The session with the owner, for operations outside of any stream and for opening streams.
pub trait Opener {
    /// Performs an operation on stream 0 and waits for its answer.
    fn call(&self, opcode: Opcode, payload: Vec<u8>, timeout: Duration) -> Pending<'_, Vec<u8>>;

    /// Performs an operation that opens a stream; its answer, and the stream.
    fn open(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Pending<'_, (Vec<u8>, BusStream)>;

    /// Waits until the session that there is now has ended; at once when there is none.
    fn lost(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;

    /// Waits until it is known that the owner keeps nothing for another session: the last one was ended in
    /// order, or the owner's program does not run any more.
    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;

    /// Waits until there is a session with the owner, at most so long. False when there is none then,
    /// or when there will be none without somebody's doing.
    fn returned(&self, within: Duration) -> Pin<Box<dyn Future<Output = bool> + '_>>;
}

/// An open stream.
pub struct BusStream {
    /// What can be sent.
    pub outlet: Rc<dyn Outlet>,
    /// What arrives; ends with [`Inbound::Reset`] or [`Inbound::Closed`].
    pub inbound: UnboundedReceiver<Inbound>,
}

/// One way to make devices of a bus local: its line in [`super::PRESENTERS`].
pub struct Presenter {
    /// The class of the devices.
    pub class: &'static str,
    /// What `--as` may say, the default first.
    pub ways: &'static [&'static str],
    /// A name that is a plain word can be chosen: `--name`.
    pub named: bool,
    /// What `--option` may name, each with what it means.
    pub options: &'static [(&'static str, &'static str)],
    /// Why this machine cannot do it now, with the command that mends it: a module is not loaded.
    pub check: fn() -> Result<(), AttachError>,
    /// Makes a device local.
    pub attach: fn(Rc<dyn Opener>, Wish, &Here) -> Attaching,
    /// Performs an operation on a device that is not local; `None` where it has to be.
    pub operate: Option<Operate>,
}

/// What this machine has for all devices that are to be local.
#[derive(Clone, Debug)]
pub struct Here {
    /// The ports for USB devices; which of them are worn out is known to this one only.
    pub vhci: Rc<Vhci>,
}

/// A device on its way to being local.
pub type Attaching = Pin<Box<dyn Future<Output = Result<Local, AttachError>>>>;

/// Performs an operation on the device of the wish.
pub type Operate = fn(Rc<dyn Opener>, Wish, String, Parameters) -> Operating<'static>;

/// What an operation of a subcommand is given, by the names that its bus chose.
pub type Parameters = BTreeMap<String, String>;

/// An operation of a subcommand on its way; what comes of it is shown to the person.
pub type Operating<'a> =
    Pin<Box<dyn Future<Output = Result<serde_json::Value, OperateError>> + 'a>>;

/// What a person wants to have, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The device's id at its owner.
    pub device: String,
    /// What the owner calls it.
    pub title: String,
    /// The owner's name.
    pub node: String,
    /// What it is to be called here; `None` leaves that to the presenter.
    pub name: Option<String>,
    /// One of [`Presenter::ways`]; `None` is the first.
    pub way: Option<String>,
    /// By [`Presenter::options`].
    pub options: BTreeMap<String, Vec<String>>,
    /// How long the device stays on this machine without a session; zero ends it with the session.
    pub grace: Duration,
    /// What its link below `/dev/myclerk` is called; `None` leaves that to [`Wish::label`].
    pub link: Option<String>,
    /// Whose its device files are.
    pub access: Access,
}

impl Wish {
    /// What udev is told of the device: its link is called as somebody chose, as its owner calls it,
    /// or by its id.
    pub fn label(&self) -> Label {
        let titled = Some(&self.title).filter(|title| !title.is_empty());
        let name = self.link.as_ref().or(titled).unwrap_or(&self.device);
        Label {
            node: self.node.clone(),
            name: name.clone(),
            access: self.access.clone(),
        }
    }
}

/// Why the owner gave no answer, or not the wanted one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskError {
    /// It refused.
    #[error("{}", .error.msg.clone().unwrap_or_else(|| format!("{status} ({})", .error.sub)))]
    Refused {
        /// Its code.
        status: Status,
        /// Its error map; empty fields when it sent none.
        error: ErrorMap,
    },
    /// The session ended first.
    #[error("the session ended: {0}")]
    Ended(String),
    /// It was not sent.
    #[error("the request was not sent: {0}")]
    NotSent(String),
}

/// Why a remote device did not become a local one.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The owner did not give it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// What the owner answered cannot be.
    #[error("the owner answered without sense: {0}")]
    Answer(String),
    /// The person asked for what cannot be: the value of an option, a name that is taken.
    #[error("{0}")]
    Wish(String),
    /// This machine did not take it.
    #[error("{what}")]
    Here {
        /// What was tried: "cannot make a CUSE device".
        what: String,
        /// What the kernel said.
        #[source]
        cause: io::Error,
        /// The command that mends it.
        mend: Option<String>,
    },
}

/// Why an operation of a subcommand was not performed.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// There is no such operation, or not with these parameters.
    #[error("{0}")]
    Usage(String),
    /// The owner did not perform it.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It could not be asked for, or the answer cannot be.
    #[error("{0}")]
    Failed(String),
}

/// A remote device that is local now. Its tasks run until it has ended.
pub struct Local {
    /// Steers it.
    pub handle: Rc<dyn Handle>,
    /// Done once nothing of it is left on this machine.
    pub ended: Pin<Box<dyn Future<Output = Ended>>>,
}

/// Steers a device that is local.
pub trait Handle {
    /// What it is on this machine now: `/dev/ttyMC0`, `mc-can0`, `/dev/input/event7`.
    fn files(&self) -> Vec<String>;

    /// Starts giving it back; [`Local::ended`] tells when that is done.
    fn detach(&self);

    /// False while the device is here without a session with its owner.
    fn is_live(&self) -> bool {
        true
    }

    /// Performs an operation of a subcommand, such as `pulse` of `myclerk serial`.
    fn operate(&self, operation: String, _parameters: Parameters) -> Operating<'_> {
        Box::pin(async move {
            Err(OperateError::Usage(format!(
                "this device has no operation {operation:?}"
            )))
        })
    }
}

/// Why a device is no longer local.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It was given back.
    #[error("detached")]
    Detached,
    /// The owner took it back, or it was unplugged there.
    #[error("the owner ended it ({0})")]
    Owner(Status),
    /// The session with the owner ended.
    #[error("the session ended")]
    Session,
    /// This machine failed.
    #[error("{0}")]
    Failed(String),
}
