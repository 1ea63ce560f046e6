//! Resets of the server's device.

mod watch;

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Ended;
use super::pump::Pump;
use crate::bus::usb::op;
use crate::bus::{Inbound, Outgoing, OutletError};
use crate::wire::class::Class;
use crate::wire::error::ErrorMap;
use crate::wire::limits::UNDECLARED_REPLY;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

pub(super) use watch::ResetWatch;

/// How long the server may take to reset the device: a few tries of the host controller.
const RESET: Duration = Duration::from_secs(30);
/// When a request that did not fit is tried again.
const RETRY: Duration = Duration::from_millis(10);

impl Pump {
    /// Resets the server's device, now or as soon as there is a session again. One that cannot be reset is
    /// used as it is.
    pub(super) async fn reset_device(&mut self) -> Result<(), Ended> {
        self.reset_due = true;
        if self.returning.is_some() {
            self.device.endpoints.borrow_mut().reset();
            return Ok(());
        }
        let mut payload = Vec::new();
        op::encode_empty(&mut payload);
        let Ok(answer) = timeout(RESET, self.ask(Opcode::UsbReset, payload)).await else {
            return Err(Ended::Silent);
        };
        let (status, payload) = answer?;
        self.reset_due = false;
        if status.is_success() {
            self.device.endpoints.borrow_mut().reset();
            return Ok(());
        }
        let error = ErrorMap::decode(&payload).ok();
        let sub_code = error.as_ref().map(|error| error.sub.as_ref());
        if sub_code == Some(sub::DEVICE_GONE) {
            return Err(Ended::DeviceGone);
        }
        let reason = error.and_then(|error| error.msg).unwrap_or_default();
        tracing::warn!(port = %self.port(), %status, reason, "the server did not reset the device");
        Ok(())
    }

    /// One request beside those of the URBs, and its answer.
    pub(super) async fn ask(
        &mut self,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<(Status, Vec<u8>), Ended> {
        let mut outgoing = Outgoing {
            opcode,
            class: Class::Interactive,
            payload,
            reply_len: UNDECLARED_REPLY,
            timeout_ms: 0,
            deadline_ms: 0,
        };
        let asked = loop {
            match self.outlet.request(outgoing) {
                Ok(corr) => break corr,
                Err(OutletError::WouldBlock(again)) => outgoing = again,
                Err(OutletError::TooLarge | OutletError::Closed) => {
                    return Err(Ended::SessionClosed);
                }
            }
            sleep(RETRY).await;
        };
        loop {
            let inbound = tokio::select! {
                biased;
                () = self.shared.stop.notified() => return Err(Ended::Detached),
                inbound = self.inbound.recv() => inbound,
            };
            match inbound {
                Some(Inbound::Response {
                    corr,
                    status,
                    payload,
                    ..
                }) if corr == asked => return Ok((status, payload)),
                other => self.hear_server(other)?,
            }
        }
    }
}
