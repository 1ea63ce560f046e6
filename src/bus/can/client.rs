//! The half that makes a remote CAN interface a local one, by `vcan` or `vxcan`.
//!
//! [`options`] reads what the person wants, [`interface`] makes and removes the local interface, and
//! [`pump`] carries the frames. One socket does both directions: a socket does not hear itself, so no
//! frame goes round.

mod interface;
mod operations;
mod options;
mod outage;
mod pump;
mod remote;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::info;

use super::hardware::CanHost;
use super::hardware::kernel::KernelCan;
use super::op::{InterfaceList, encode_empty};
use crate::bus::{
    AttachError, Attaching, Ended, Handle, Local, Opener, OperateError, Operating, Parameters,
    Presenter, Wish,
};
use crate::kernel::can::Options;
use crate::kernel::can::is_supported;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

use interface::{Interface, Plan};
use operations::{Ask, Operation};
use options::Wanted;
use outage::Outage;
use pump::Pump;
use remote::{PATIENCE, Remote};

/// CAN as the client's daemon sees it.
pub const PRESENTER: Presenter = Presenter {
    class: "can",
    ways: &["vcan", "vxcan"],
    named: true,
    options: &[
        (
            "filter",
            "ID:MASK in hexadecimal, as candump's; only such frames cross the link; repeatable",
        ),
        ("errors", "true: error frames of the remote controller too"),
        (
            "own",
            "true: frames sent from here once more, when they were on the remote bus",
        ),
        (
            "bitrate",
            "bits per second of the remote controller while it is attached, which also restarts one that \
             is off the bus",
        ),
        (
            "sample",
            "with bitrate: where in a bit it is sampled, in tenths of a percent",
        ),
        (
            "dbitrate",
            "with bitrate: bits per second of the data of FD frames; FD is off without it",
        ),
        (
            "mode",
            "with bitrate: loopback, listen-only, one-shot, separated by commas",
        ),
    ],
    check,
    attach: |opener, wish, _| -> Attaching { Box::pin(attach(Arc::new(KernelCan), opener, wish)) },
    operate: None,
};

fn check() -> Result<(), AttachError> {
    is_supported().map_err(|cause| AttachError::Here {
        what: "this kernel has no CAN sockets".to_owned(),
        mend: (cause.kind() != io::ErrorKind::PermissionDenied)
            .then(|| "modprobe can-raw && modprobe vcan".to_owned()),
        cause,
    })
}

/// Opens the remote interface and makes the local one. Must be called inside a `LocalSet` of a runtime
/// with time and I/O.
///
/// # Errors
/// [`AttachError`]; nothing is left on this machine then.
pub async fn attach(
    host: Arc<dyn CanHost>,
    opener: Rc<dyn Opener>,
    wish: Wish,
) -> Result<Local, AttachError> {
    let wanted = Wanted::read(&wish)?;
    let remote = Remote {
        device: wish.device.clone(),
        wanted: wanted.clone(),
    };
    let (opened, way) = remote.open(&*opener).await?;
    let fd = match wanted.configure {
        Some(configure) => configure.dbitrate.is_some(),
        None => opened.dbitrate > 0 || lists_fd(&*opener, &wish.device).await,
    };
    let plan = Plan::new(&wish, &wanted, fd);
    let made = Interface::make(Arc::clone(&host), plan).await;
    let made = made.and_then(|interface| {
        let port = host.open(interface.port(), Options::default());
        port.map(|port| (interface, port))
            .map_err(|cause| here("cannot open the new interface", cause))
    });
    let (interface, port) = match made {
        Ok(made) => made,
        Err(error) => {
            way.stream.outlet.reset(Status::InternalError);
            return Err(error);
        }
    };
    let name = interface.name().to_owned();
    info!(
        device = wish.device,
        interface = name,
        bitrate = opened.bitrate,
        "CAN interface attached"
    );
    let (asks, asked) = mpsc::unbounded_channel();
    let (outage, live) = Outage::new(opener, remote, wish.grace);
    let pump = Pump::new(port, way, asked, outage);
    let ended = tokio::task::spawn_local(serve(pump, interface, wish.device));
    if let Some(configure) = wanted.configure
        && let Err(error) = Operation::Configure(configure).perform(&asks).await
    {
        // Once it has ended there is nothing to detach; nothing else is waited for than that end.
        let _ = asks.send(Ask::Detach);
        let _ = ended.await;
        return Err(unset(error));
    }
    Ok(Local {
        handle: Rc::new(CanHandle { name, asks, live }),
        ended: Box::pin(async move {
            let torn = |_| Ended::Failed("the attachment was torn down".to_owned());
            ended.await.unwrap_or_else(torn)
        }),
    })
}

/// Carries frames until it ends, and takes the interface away.
async fn serve(pump: Pump, interface: Interface, device: String) -> Ended {
    let (end, counts) = pump.run().await;
    let removed = interface.remove().await;
    let end = match removed {
        Ok(()) => end,
        Err(error) => Ended::Failed(format!("the interface could not be removed: {error}")),
    };
    let (reason, unsent, unheard) = (end.to_string(), counts.unsent, counts.unheard);
    info!(device, reason, unsent, unheard, "CAN interface detached");
    end
}

/// Why the owner's controller was not set.
fn unset(error: OperateError) -> AttachError {
    match error {
        OperateError::Usage(text) => AttachError::Wish(text),
        OperateError::Ask(error) => AttachError::Ask(error),
        OperateError::Failed(text) => AttachError::Answer(text),
    }
}

/// Whether the owner lists the interface as one with FD. One that it does not list has none.
async fn lists_fd(opener: &dyn Opener, device: &str) -> bool {
    let mut payload = Vec::new();
    encode_empty(&mut payload);
    let listed = opener.call(Opcode::CanInterfaceList, payload, PATIENCE);
    let list = match listed.await {
        Ok(answer) => InterfaceList::decode(&answer).unwrap_or_default(),
        Err(_) => InterfaceList::default(),
    };
    list.ifs.iter().any(|entry| entry.dev == device && entry.fd)
}

fn here(what: &str, cause: io::Error) -> AttachError {
    use nix::errno::Errno;
    let mend = match cause.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EOPNOTSUPP) => Some("modprobe vcan && modprobe vxcan"),
        Some(Errno::EPERM) => Some("run the client as root"),
        _ => None,
    };
    AttachError::Here {
        what: what.to_owned(),
        cause,
        mend: mend.map(str::to_owned),
    }
}

struct CanHandle {
    name: String,
    asks: mpsc::UnboundedSender<Ask>,
    live: Rc<Cell<bool>>,
}

impl Handle for CanHandle {
    fn files(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn detach(&self) {
        // Once it has ended there is nothing to detach.
        let _ = self.asks.send(Ask::Detach);
    }

    fn is_live(&self) -> bool {
        self.live.get()
    }

    fn operate(&self, operation: String, parameters: Parameters) -> Operating<'_> {
        let asks = self.asks.clone();
        Box::pin(async move {
            let operation = Operation::read(&operation, &parameters)?;
            operation.perform(&asks).await
        })
    }
}
