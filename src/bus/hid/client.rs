//! The half that makes a device of another machine a device of this one, by uinput.

mod bridge;
mod effects;
mod filter;

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::{Notify, oneshot};

use super::hardware::Maker;
use super::hardware::real::{UINPUT, UinputMaker};
use super::op::{Start, StartPar, Started};
use crate::bus::names::{self, NAMES, NameFile};
use crate::bus::outage::{Returning, again};
use crate::bus::{
    AttachError, Attaching, BusStream, Ended, Handle, Local, Opener, Presenter, Wish,
};
use crate::kernel::evdev::Description;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

use bridge::Bridge;

/// How long the owner may take to give the device.
const OPENING: Duration = Duration::from_secs(30);
/// Longest `phys` that is made, in bytes.
const MAX_PHYS: usize = 200;

/// How input devices become local.
pub const PRESENTER: Presenter = Presenter {
    class: "hid",
    ways: &["uinput"],
    named: true,
    options: &[
        (
            "grab",
            "false: the owner's own programs go on seeing what the device does (default true)",
        ),
        (
            "back",
            "false: no LEDs, sounds and force feedback back to the device (default true)",
        ),
    ],
    check,
    operate: None,
    attach: |opener, wish, _| -> Attaching {
        Box::pin(async move { attach(&UinputMaker::default(), opener, wish).await })
    },
};

fn check() -> Result<(), AttachError> {
    if Path::new(UINPUT).exists() {
        return Ok(());
    }
    Err(AttachError::Here {
        what: format!("cannot make input devices: there is no {UINPUT}"),
        cause: io::ErrorKind::NotFound.into(),
        mend: Some("modprobe uinput".to_owned()),
    })
}

/// Makes a device local.
///
/// # Errors
/// [`AttachError`]: the owner did not give it, what it said of it cannot be, or uinput refused.
pub async fn attach(
    maker: &dyn Maker,
    opener: Rc<dyn Opener>,
    wish: Wish,
) -> Result<Local, AttachError> {
    let given = open(&*opener, &wish).await?;
    let phys = phys(&wish);
    // The kernel tells of it before its event device has a number here.
    let key = names::of_phys(&phys);
    let file = key.and_then(|key| NameFile::try_write(Path::new(NAMES), &key, &wish.label()));
    let made = maker.make(given.device.clone(), phys).await;
    let made = made.map_err(cannot_make).inspect_err(|_| {
        // The owner gets its device back.
        given.stream.outlet.reset(Status::Ok);
    })?;
    let node = made.node();
    let detach = Rc::new(Notify::new());
    let live = Rc::new(Cell::new(true));
    let (tell, ended) = oneshot::channel();
    let owner = Owner {
        opener,
        wish,
        live: live.clone(),
    };
    let bridge = Bridge::new(made, given, owner);
    let asked = detach.clone();
    tokio::task::spawn_local(async move {
        let why = bridge.run(&asked).await;
        drop(file);
        // Nobody may wait for it.
        let _ = tell.send(why);
    });
    Ok(Local {
        handle: Rc::new(Steering { node, detach, live }),
        ended: Box::pin(async move {
            ended
                .await
                .unwrap_or_else(|_| Ended::Failed("the attachment was torn down".to_owned()))
        }),
    })
}

/// What the owner gives.
struct Given {
    /// As it is made here.
    device: Description,
    /// It takes something back.
    back: bool,
    stream: BusStream,
}

/// Asks the owner for the device.
async fn open(opener: &dyn Opener, wish: &Wish) -> Result<Given, AttachError> {
    let start = Start {
        dev: wish.device.clone(),
        par: options(wish)?,
    };
    let payload = start.encode().map_err(senseless)?;
    let (answer, stream) = opener.open(Opcode::StreamStart, payload, OPENING).await?;
    let (device, back) = described(&answer, wish).inspect_err(|_| {
        stream.outlet.reset(Status::Ok);
    })?;
    Ok(Given {
        device,
        back,
        stream,
    })
}

/// The device that the owner describes, and whether it takes something back.
fn described(answer: &[u8], wish: &Wish) -> Result<(Description, bool), AttachError> {
    let started = Started::decode(answer).map_err(senseless)?;
    let back = started.par.back;
    let mut device = filter::presentable(started.device, back).map_err(senseless)?;
    if let Some(name) = wish.name.as_deref().filter(|name| !name.is_empty()) {
        name.clone_into(&mut device.name);
    }
    Ok((device, back))
}

/// Where the device comes from, and how it is asked for again.
struct Owner {
    opener: Rc<dyn Opener>,
    wish: Wish,
    /// There is a session.
    live: Rc<Cell<bool>>,
}

impl Owner {
    fn grace(&self) -> Duration {
        self.wish.grace
    }

    fn again(&self) -> Returning<Given> {
        let wish = Rc::new(self.wish.clone());
        again(self.opener.clone(), self.grace(), move |opener| {
            let wish = wish.clone();
            async move { open(&*opener, &wish).await }
        })
    }
}

struct Steering {
    node: String,
    detach: Rc<Notify>,
    live: Rc<Cell<bool>>,
}

impl Handle for Steering {
    fn files(&self) -> Vec<String> {
        vec![self.node.clone()]
    }

    fn detach(&self) {
        self.detach.notify_one();
    }

    fn is_live(&self) -> bool {
        self.live.get()
    }
}

fn options(wish: &Wish) -> Result<StartPar, AttachError> {
    let flag = |name: &str| match wish.options.get(name).map(Vec::as_slice) {
        None | Some([]) => Ok(true),
        Some([word]) if matches!(word.as_str(), "true" | "yes" | "on") => Ok(true),
        Some([word]) if matches!(word.as_str(), "false" | "no" | "off") => Ok(false),
        Some(_) => Err(AttachError::Here {
            what: format!("the option {name} is true or false"),
            cause: io::ErrorKind::InvalidInput.into(),
            mend: None,
        }),
    };
    Ok(StartPar {
        back: flag("back")?,
        grab: flag("grab")?,
    })
}

fn senseless(error: impl std::fmt::Display) -> AttachError {
    AttachError::Answer(error.to_string())
}

/// `myclerk/NODE/ID`, by which everybody sees where the device comes from.
fn phys(wish: &Wish) -> String {
    let phys: String = format!("myclerk/{}/{}", wish.node, wish.device)
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '_' })
        .take(MAX_PHYS)
        .collect();
    phys
}

fn cannot_make(cause: io::Error) -> AttachError {
    let (what, mend) = match cause.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV) => (
            format!("cannot make input devices: there is no {UINPUT}"),
            Some("modprobe uinput".to_owned()),
        ),
        Some(Errno::EACCES | Errno::EPERM) => {
            (format!("{UINPUT} may not be used by this program"), None)
        }
        Some(_) | None => ("uinput does not make this device".to_owned(), None),
    };
    AttachError::Here { what, cause, mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_true_or_false_and_true_by_themselves() {
        let wish = |value: Option<&str>| Wish {
            options: value
                .map(|value| ("grab".to_owned(), vec![value.to_owned()]))
                .into_iter()
                .collect(),
            ..Wish::default()
        };
        assert!(options(&wish(None)).unwrap().grab);
        assert!(!options(&wish(Some("false"))).unwrap().grab);
        assert!(options(&wish(Some("maybe"))).is_err());
    }

    #[test]
    fn the_place_of_a_device_names_its_owner_and_is_plain() {
        let wish = Wish {
            node: "hub".to_owned(),
            device: "hid:0001:0002:a b".to_owned(),
            ..Wish::default()
        };
        assert_eq!(phys(&wish), "myclerk/hub/hid:0001:0002:a_b");
        let long = Wish {
            node: "x\0".repeat(500),
            ..Wish::default()
        };
        assert_eq!(phys(&long).len(), MAX_PHYS);
    }
}
