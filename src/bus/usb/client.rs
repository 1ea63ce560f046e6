//! The half that makes a remote USB device a local one, by `vhci-hcd`.
//!
//! [`socket`] reads and writes the kernel's messages, [`urbs`] decides, [`pump`] joins both with the
//! session and ends the attachment in order.

mod answer;
mod endpoints;
mod iso;
mod pump;
mod request;
mod socket;
mod urbs;

pub use answer::Violation;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use self::endpoints::Endpoints;
use self::pump::Pump;
use super::descriptor::NoDevice;
use super::op::{AttachResponse, Speed};
use crate::bus::{Inbound, Outlet};
use crate::kernel::usbip_pdu::PduError;
use crate::kernel::vhci::{self, PortId, Vhci, VhciError};
use crate::wire::status::Status;

/// Why a device that the server has given us cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// vhci-hcd has no port for it.
    #[error(transparent)]
    Vhci(#[from] VhciError),
    /// The server names no speed that a port could have.
    #[error("the device runs at an unknown {0}")]
    Speed(Speed),
    /// What the server sent does not begin with a device descriptor.
    #[error("the server's description of the device is unusable")]
    Descriptors(#[from] NoDevice),
    /// No socket could be made.
    #[error("no socket pair for the kernel")]
    Socket(#[source] io::Error),
}

/// Why an attachment ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// [`Detacher::detach`] was called.
    #[error("detached")]
    Detached,
    /// The kernel closed its end: another program freed the port, or the module was unloaded.
    #[error("the kernel freed the port")]
    Kernel,
    /// The kernel's messages could not be followed.
    #[error("the kernel's messages cannot be followed")]
    KernelFault(#[from] KernelFault),
    /// The session ended.
    #[error("the session with the server ended")]
    SessionClosed,
    /// The server ended the stream.
    #[error("the server ended the use of the device: {0}")]
    Reset(Status),
    /// The device was unplugged from the server.
    #[error("the device was unplugged")]
    DeviceGone,
    /// The server's answers could not be believed.
    #[error("the server broke the protocol")]
    Violation(#[from] Violation),
    /// The runtime ended before the attachment did; the kernel frees the port by itself.
    #[error("the attachment was torn down")]
    TornDown,
}

/// What is wrong with the kernel's end of the socket.
#[derive(Debug, thiserror::Error)]
pub enum KernelFault {
    /// Bytes that are no message.
    #[error(transparent)]
    Pdu(#[from] PduError),
    /// A URB has the name of one that is still outstanding.
    #[error("two URBs with the sequence number {0}")]
    DuplicateSeqnum(u32),
}

/// An attached device. Dropping it leaves the device attached until a [`Detacher`], the kernel or
/// the server ends it.
#[derive(Debug)]
pub struct Attachment {
    port: PortId,
    detacher: Detacher,
    ended: oneshot::Receiver<Ended>,
}

impl Attachment {
    /// The port that the device is attached to.
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// Ends the attachment from elsewhere.
    pub fn detacher(&self) -> Detacher {
        self.detacher.clone()
    }

    /// Waits until the port is free again and the server has been told.
    pub async fn ended(self) -> Ended {
        self.ended.await.unwrap_or(Ended::TornDown)
    }
}

/// Asks an attachment to end.
#[derive(Clone, Debug)]
pub struct Detacher(Arc<Notify>);

impl Detacher {
    /// Starts the detaching; [`Attachment::ended`] tells when it is done. More than one call is one.
    pub fn detach(&self) {
        self.0.notify_one();
    }
}

/// Attaches a device to a free port and starts the task that serves it.
///
/// `device` is the answer to our `USB_DEVICE_ATTACH`; `outlet` and `inbound` are the stream that it
/// opened. The task ends that stream itself, with `USB_DEVICE_DETACH` or a reset. Must be called
/// inside a `LocalSet` of a runtime with time and I/O.
///
/// # Errors
/// [`AttachError`]; no port is in use then, and the stream is the caller's to close.
pub fn attach(
    vhci: &Rc<Vhci>,
    device: &AttachResponse,
    outlet: Rc<dyn Outlet>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
) -> Result<Attachment, AttachError> {
    let endpoints = Endpoints::parse(&device.desc, device.cfg, device.spd)?;
    let speed = port_speed(device.spd)?;
    let (ours, kernels) = UnixStream::pair().map_err(AttachError::Socket)?;
    let ours = to_tokio(ours)?;
    let port = vhci.attach(kernels.as_fd(), device.devno, speed)?;
    tracing::info!(%port, %speed, "device attached");
    let session = (outlet, inbound);
    Ok(start(ours, vhci, port, endpoints, session))
}

/// Serves a device on a port that is attached already, through our end of its socket.
///
/// # Errors
/// As [`attach`].
pub fn serve(
    socket: UnixStream,
    vhci: &Rc<Vhci>,
    port: PortId,
    device: &AttachResponse,
    outlet: Rc<dyn Outlet>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
) -> Result<Attachment, AttachError> {
    let endpoints = Endpoints::parse(&device.desc, device.cfg, device.spd)?;
    let session = (outlet, inbound);
    Ok(start(to_tokio(socket)?, vhci, port, endpoints, session))
}

type Session = (Rc<dyn Outlet>, mpsc::UnboundedReceiver<Inbound>);

fn start(
    socket: tokio::net::UnixStream,
    vhci: &Rc<Vhci>,
    port: PortId,
    endpoints: Endpoints,
    session: Session,
) -> Attachment {
    let stop = Arc::new(Notify::new());
    let (done, ended) = oneshot::channel();
    let endpoints = Rc::new(RefCell::new(endpoints));
    let pump = Pump::new(socket, endpoints, session, Arc::clone(&stop));
    let vhci = Rc::clone(vhci);
    tokio::task::spawn_local(async move {
        let end = pump.run(&vhci, port).await;
        let reason: &(dyn std::error::Error + 'static) = &end;
        tracing::info!(%port, reason, "device detached");
        // Nobody has to wait for the end.
        let _ = done.send(end);
    });
    Attachment {
        port,
        detacher: Detacher(stop),
        ended,
    }
}

fn to_tokio(socket: UnixStream) -> Result<tokio::net::UnixStream, AttachError> {
    socket
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(socket))
        .map_err(AttachError::Socket)
}

fn port_speed(speed: Speed) -> Result<vhci::Speed, AttachError> {
    match speed {
        Speed::Low => Ok(vhci::Speed::Low),
        Speed::Full => Ok(vhci::Speed::Full),
        Speed::High => Ok(vhci::Speed::High),
        Speed::Super => Ok(vhci::Speed::Super),
        Speed::SuperPlus | Speed::SuperPlusBy2 => Ok(vhci::Speed::SuperPlus),
        Speed::Unknown(_) => Err(AttachError::Speed(speed)),
    }
}
