//! The half that has the device: one task for each attached device, from the request that opened
//! the stream until the device is back with its kernel drivers.

mod check;
mod held;
mod iso;
mod lease;
mod mend;
mod outstanding;
mod reply;
mod spare;
mod stream;

use std::io;
use std::rc::Rc;

use nix::errno::Errno;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::info;

use super::enumerate::{Location, UsbDeviceInfo};
use super::hardware::UsbHost;
use super::hostuse::{self, Roots};
use super::op::{AttachRequest, AttachResponse, DeviceEntry, Speed};
use crate::bus::waiting;
use crate::bus::{Inbound, Outlet};
use crate::wire::status::{Status, sub};

pub use crate::bus::{End, Refused};
pub use lease::{LONGEST, Lease, Return, Session};
pub use mend::{mend, reconnect};

use held::{Claimed, Held};
use stream::Stream;

/// What the daemon hands over once it decided that the peer may have the device and nobody else
/// has it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Number of the `USB_DEVICE_ATTACH` request, which the task answers.
    pub corr: u32,
    /// That request.
    pub request: AttachRequest,
    /// Where the device is plugged in.
    pub location: Location,
    /// Give it away although this machine is using it.
    pub force: bool,
    /// Where to look whether it does.
    pub roots: Roots,
    /// The log has heard enough of this peer for now.
    pub quiet: bool,
}

/// The entry of a device in the answer to `USB_DEVICE_LIST`; `state` as in profile 19.2.
pub fn entry(device: &UsbDeviceInfo, state: u8) -> DeviceEntry {
    let [cls, sub, proto] = device.class;
    DeviceEntry {
        dev: device.id.clone(),
        vid: device.vendor,
        pid: device.product,
        bcd: device.release,
        cls,
        sub,
        proto,
        spd: Speed::from(device.speed.unwrap_or(0)),
        ifs: device.interfaces.clone(),
        mfr: device.manufacturer.clone(),
        prod: device.product_name.clone(),
        ser: device.serial.clone(),
        state,
    }
}

/// Answers the attach request and, if the device can be had, serves it until the stream ends. The
/// device is back with its owner when this returns.
///
/// Do not drop the future half-way when it can be helped: the device is given back all the same,
/// but on the spot, and that waits for the hardware. `inbound` closing counts as
/// [`Inbound::Closed`].
pub async fn serve(
    host: &dyn UsbHost,
    grant: Grant,
    outlet: Rc<dyn Outlet>,
    inbound: UnboundedReceiver<Inbound>,
) -> End {
    serve_leased(host, grant, Session::plain(outlet, inbound), None).await
}

/// As [`serve`], for a peer that may come back after it has lost its session.
pub async fn serve_leased(
    host: &dyn UsbHost,
    grant: Grant,
    session: Session,
    lease: Option<Lease>,
) -> End {
    let (corr, outlet) = (grant.corr, Rc::clone(&session.outlet));
    let (id, told) = (grant.request.dev.clone(), !grant.quiet);
    let (stream, mut response) = match attach(host, grant).await {
        Ok(attached) => attached,
        Err(refused) => {
            if told {
                info!(device = id, reason = refused.msg, "USB device refused");
            }
            return refuse(&*outlet, corr, refused);
        }
    };
    response.kept = lease.as_ref().map(|lease| lease.kept(false));
    match response.encode() {
        Ok(payload) => {
            if told {
                info!(device = id, "USB device attached");
            }
            outlet.respond(corr, Status::Ok, payload);
            let end = stream.run(session, lease, response).await;
            if told {
                info!(device = id, ?end, "USB device detached");
            }
            end
        }
        Err(error) => refuse(
            &*outlet,
            corr,
            Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()),
        ),
    }
}

fn refuse(outlet: &dyn Outlet, corr: u32, refused: Refused) -> End {
    outlet.respond(corr, refused.status, refused.payload());
    End::Refused(refused)
}

async fn attach(host: &dyn UsbHost, grant: Grant) -> Result<(Stream, AttachResponse), Refused> {
    let Location { bus, address, .. } = grant.location;
    let (roots, sysfs) = (grant.roots, grant.location.sysfs.clone());
    let in_use = waiting(move || hostuse::check(&roots, &sysfs)).await?;
    if let Some(reason) = in_use.filter(|reason| !(grant.force && reason.is_forcible())) {
        let text = format!("the device is not given away: {reason}");
        return Err(Refused::new(Status::ServiceUnavailable, sub::BUSY, text));
    }
    let device = host
        .open(&grant.location)
        .await
        .map_err(|error| cannot_open(&error))?;
    let port = device.port();
    let wanted = grant.request.ifs;
    let Claimed { held, raw, speed } = waiting(move || Held::claim(port, wanted)).await??;
    let response = AttachResponse {
        desc: raw,
        spd: kernel_speed(speed),
        cfg: held.configuration(),
        devno: u32::from(bus) << 16 | u32::from(address),
        kept: None,
    };
    Ok((Stream::new(device, held), response))
}

fn cannot_open(error: &io::Error) -> Refused {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV) => Refused::gone(),
        Some(errno @ Errno::EMFILE) => Refused::io(
            "cannot open the device: the owner's daemon has too many open files; \
            raise LimitNOFILE= of its service or ulimit -n",
            errno,
        ),
        Some(errno @ Errno::ENFILE) => Refused::io(
            "cannot open the device: the owner's machine has too many open files; \
            raise them with sysctl fs.file-max=",
            errno,
        ),
        Some(errno) => Refused::io("cannot open the device", errno),
        None => Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()),
    }
}

/// `enum usb_device_speed` (include/uapi/linux/usb/ch9.h) as `spd`.
fn kernel_speed(speed: u8) -> Speed {
    match speed {
        1 => Speed::Low,
        2 => Speed::Full,
        // Wireless USB (4) behaves like high speed.
        3 | 4 => Speed::High,
        5 => Speed::Super,
        6 => Speed::SuperPlus,
        other => Speed::Unknown(other),
    }
}
