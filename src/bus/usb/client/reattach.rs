//! Another port for a device whose hub is worn out.
//!
//! The kernel cannot move a device: to its drivers this is an unplugging and a plugging in. The
//! server notices nothing but cancelled transfers and a reset, so its grant and its claims stay.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use tokio::time::timeout;

use super::Ended;
use super::plug::Plug;
use super::pump::Pump;
use super::seqnum::{Age, Seqnums};
use super::urbs::UNLINK_PATIENCE;
use crate::kernel::vhci::{PortId, VhciError};

impl Pump {
    /// Whether the device must leave its port, judged by a sequence number that the kernel has just
    /// used; what it used it for is lost then.
    pub(super) fn must_leave(&mut self, seqnum: u32) -> Result<bool, Ended> {
        let port = self.port();
        match self.seqnums.see(seqnum) {
            Age::Young => return Ok(false),
            Age::Old => {
                tracing::warn!(
                    %port,
                    seqnum,
                    limit = self.vhci.seqnum_limit(),
                    "this port's hub nears the end of the kernel's sequence numbers: the device will \
                     move to another port, which programs see as unplugged and plugged in again; \
                     detach and attach it at a quiet moment to avoid that"
                );
                return Ok(false);
            }
            Age::Worn | Age::Over => {}
        }
        match self.room_elsewhere(port) {
            Ok(()) => Ok(true),
            Err(error) if self.seqnums.see(seqnum) == Age::Over => Err(Ended::NoPort(error)),
            Err(error) => {
                self.seqnums.stay(seqnum);
                tracing::error!(%port, seqnum, %error, "the device stays on a worn-out port for now");
                Ok(false)
            }
        }
    }

    fn room_elsewhere(&self, port: PortId) -> Result<(), VhciError> {
        self.vhci.wear_out(port)?;
        self.vhci.has_room(self.device.speed)
    }

    /// Takes the device from its port to one of another hub.
    pub(super) async fn change_port(&mut self) -> Result<(), Ended> {
        let old = self.port();
        self.unplug().await;
        match timeout(UNLINK_PATIENCE, self.drain()).await {
            Ok(drained) => drained?,
            Err(_) => return Err(Ended::Silent),
        }
        // On its new port the device must be as if it had just been plugged in.
        self.reset_device().await?;
        let (ours, kernels) = pair().map_err(Ended::Socket)?;
        let device = &self.device;
        let port = self
            .vhci
            .attach(kernels.as_fd(), device.devno, device.speed)
            .map_err(Ended::NoPort)?;
        self.seqnums = Seqnums::new(self.vhci.seqnum_limit());
        self.plug_in(Plug::new(ours, &self.device.endpoints), port);
        tracing::warn!(%old, %port, "the device moved to a port of another hub");
        Ok(())
    }

    /// Gives up what is in flight and waits for every answer: after that the server has nothing
    /// that belongs to the old port.
    async fn drain(&mut self) -> Result<(), Ended> {
        self.urbs.cancel_all();
        while !self.urbs.is_idle() {
            let inbound = self.inbound.recv().await;
            self.hear_server(inbound)?;
        }
        Ok(())
    }
}

/// A socket pair: our end, and the one for the kernel.
pub(super) fn pair() -> io::Result<(tokio::net::UnixStream, UnixStream)> {
    let (ours, kernels) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((tokio::net::UnixStream::from_std(ours)?, kernels))
}
