//! The half that makes a remote USB device a local one, by `vhci-hcd`.
//!
//! [`socket`] reads and writes the kernel's messages, [`urbs`] decides, [`pump`] joins both with the
//! session and ends the attachment in order, [`reattach`] moves it to another port before the
//! kernel's sequence numbers are used up, and [`reset`] tells the server of resets.

mod answer;
mod endpoints;
mod iso;
mod outage;
mod plug;
mod pump;
mod reattach;
mod request;
mod reset;
mod seqnum;
mod socket;
mod told;
mod urbs;

pub use answer::Violation;
pub use outage::{Line, Way};
pub use told::{Told, tell_udev};

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use tokio::sync::{Notify, mpsc, oneshot};

use self::endpoints::Endpoints;
use self::plug::Plug;
use self::pump::Pump;
use super::descriptor::{Descriptors, NoDevice};
use super::op::{AttachResponse, Speed};
use crate::bus::{self, Inbound, Outlet};
use crate::kernel::usbip_pdu::PduError;
use crate::kernel::vhci::{self, PortId, Vhci, VhciError};
use crate::wire::status::Status;

/// Mass storage, SCSI, USB attached SCSI: the class of an interface.
const ATTACHED_SCSI: [u8; 3] = [0x08, 0x06, 0x62];

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
    /// It is a disk that at its speed needs streams.
    #[error(
        "it is a disk for USB attached SCSI alone, which at super speed needs streams, and vhci-hcd \
         has none; at a USB 2 port of its owner it works"
    )]
    Streams,
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
    /// The session ended, and the device did not come back with another one.
    #[error("the session with the server ended, and the device did not come back: {0}")]
    NotBack(#[source] bus::Ended),
    /// The server has kept no device for us, or another one.
    #[error("the server did not keep the device")]
    Exchanged,
    /// The server ended the stream.
    #[error("the server ended the use of the device: {0}")]
    Reset(Status),
    /// The device was unplugged from the server.
    #[error("the device was unplugged")]
    DeviceGone,
    /// The server's answers could not be believed.
    #[error("the server broke the protocol")]
    Violation(#[from] Violation),
    /// The kernel's sequence numbers are used up on this port, and there is no other one.
    #[error("the device had to leave its port: {0}")]
    NoPort(#[source] VhciError),
    /// The device had to leave its port, and no socket could be made for another one.
    #[error("no socket pair for the kernel")]
    Socket(#[source] io::Error),
    /// The device had to leave its port, and the server did not let go of what was in flight.
    #[error("the server did not answer in time")]
    Silent,
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

/// An attached device. Dropping it leaves the device attached until a [`Handle`], the kernel or
/// the server ends it.
#[derive(Debug)]
pub struct Attachment {
    handle: Handle,
    ended: oneshot::Receiver<Ended>,
}

impl Attachment {
    /// The port that the device is attached to now.
    pub fn port(&self) -> PortId {
        self.handle.port()
    }

    /// Steers the attachment from elsewhere.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the port is free again and the server has been told.
    pub async fn ended(self) -> Ended {
        self.ended.await.unwrap_or(Ended::TornDown)
    }
}

/// Steers an attachment.
#[derive(Clone, Debug)]
pub struct Handle(Rc<Shared>);

impl Handle {
    /// The port that the device is attached to now: it changes when the hub's sequence numbers are
    /// used up.
    pub fn port(&self) -> PortId {
        self.0.port.get()
    }

    /// False while the device is here without a session with its owner.
    pub fn is_live(&self) -> bool {
        self.0.live.get()
    }

    /// Starts the detaching; [`Attachment::ended`] tells when it is done. More than one call is one.
    pub fn detach(&self) {
        self.0.stop.notify_one();
    }

    /// Says that this machine is about to reset the port, so that the server's device is reset as
    /// soon as the kernel looks at it, even if it does not answer any more. Until the notice is
    /// dropped.
    pub fn announce_reset(&self) -> ResetNotice {
        let announced = &self.0.announced;
        announced.set(announced.get() + 1);
        ResetNotice(Rc::clone(&self.0))
    }
}

/// A reset of the port that is under way.
#[derive(Debug)]
#[must_use]
pub struct ResetNotice(Rc<Shared>);

impl Drop for ResetNotice {
    fn drop(&mut self) {
        let announced = &self.0.announced;
        announced.set(announced.get().saturating_sub(1));
    }
}

/// What an attachment's task and its handles share.
#[derive(Debug)]
struct Shared {
    port: Cell<PortId>,
    stop: Notify,
    /// The port has changed.
    moved: Notify,
    /// There is a session with the owner.
    live: Cell<bool>,
    /// How many are resetting the port.
    announced: Cell<usize>,
}

impl Shared {
    const fn is_reset_announced(&self) -> bool {
        self.announced.get() > 0
    }
}

/// What is to be known of a device to plug it in.
struct Device {
    devno: u32,
    speed: vhci::Speed,
    endpoints: Rc<RefCell<Endpoints>>,
}

impl Device {
    fn parse(device: &AttachResponse) -> Result<Self, AttachError> {
        Ok(Self {
            devno: device.devno,
            speed: port_speed(device.spd)?,
            endpoints: Rc::new(RefCell::new(Endpoints::parse(
                &device.desc,
                device.cfg,
                device.spd,
            )?)),
        })
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
    attach_line(vhci, None, device, (outlet, inbound).into())
}

/// The same, to the port that a number stands for if it is free, and with a way back to the device when
/// its session is lost.
///
/// # Errors
/// As [`attach`].
pub fn attach_line(
    vhci: &Rc<Vhci>,
    pin: Option<u16>,
    device: &AttachResponse,
    line: Line,
) -> Result<Attachment, AttachError> {
    if needs_streams(&Descriptors::parse(&device.desc)?, port_speed(device.spd)?) {
        return Err(AttachError::Streams);
    }
    attach_pinned(vhci, pin, device, line)
}

/// The same, to the port that a number stands for if it is free ([`Vhci::attach_pinned`]). Whether a
/// driver would take the device is not asked.
///
/// # Errors
/// As [`attach`].
pub fn attach_pinned(
    vhci: &Rc<Vhci>,
    pin: Option<u16>,
    device: &AttachResponse,
    line: impl Into<Line>,
) -> Result<Attachment, AttachError> {
    let device = Device::parse(device)?;
    let (ours, kernels) = reattach::pair().map_err(AttachError::Socket)?;
    let port = vhci.attach_pinned(kernels.as_fd(), device.devno, device.speed, pin)?;
    tracing::info!(%port, speed = %device.speed, "device attached");
    Ok(start(ours, vhci, port, device, line.into()))
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
    line: impl Into<Line>,
) -> Result<Attachment, AttachError> {
    let device = Device::parse(device)?;
    let socket = socket
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(socket))
        .map_err(AttachError::Socket)?;
    Ok(start(socket, vhci, port, device, line.into()))
}

/// The stream of an attached device.
pub type Session = (Rc<dyn Outlet>, mpsc::UnboundedReceiver<Inbound>);

fn start(
    socket: tokio::net::UnixStream,
    vhci: &Rc<Vhci>,
    port: PortId,
    device: Device,
    line: Line,
) -> Attachment {
    let shared = Rc::new(Shared {
        port: Cell::new(port),
        stop: Notify::new(),
        moved: Notify::new(),
        live: Cell::new(true),
        announced: Cell::new(0),
    });
    let (done, ended) = oneshot::channel();
    let plug = Plug::new(socket, &device.endpoints);
    let pump = Pump::new(plug, Rc::clone(vhci), device, line, Rc::clone(&shared));
    let handle = Handle(shared);
    let of_task = handle.clone();
    tokio::task::spawn_local(async move {
        let end = pump.run().await;
        let reason: &(dyn std::error::Error + 'static) = &end;
        tracing::info!(port = %of_task.port(), reason, "device detached");
        // Nobody has to wait for the end.
        let _ = done.send(end);
    });
    Attachment { handle, ended }
}

/// Whether no driver would take the device because vhci-hcd has no streams (kernel
/// `drivers/usb/storage/uas-detect.h`). A disk with a bulk-only setting gets usb-storage instead.
fn needs_streams(device: &Descriptors, speed: vhci::Speed) -> bool {
    let mut settings = device.configurations.iter().flat_map(|c| &c.settings);
    matches!(speed, vhci::Speed::Super | vhci::Speed::SuperPlus)
        && device.configurations.iter().any(|c| !c.settings.is_empty())
        && settings.all(|setting| setting.class == ATTACHED_SCSI)
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
