//! A node as the bus halves see it, with everything counted that goes there for one device.

use core::future::Future;
use core::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::hub::Hub;
use crate::bus::{BusStream, Opener, Pending};
use crate::daemon::peer::meter::Meter;
use crate::kernel::clock;
use crate::wire::opcode::Opcode;

/// The node of a device.
pub(super) struct Measured {
    /// The node.
    pub(super) hub: Rc<Hub>,
    /// Of the device.
    pub(super) meter: Rc<Meter>,
}

impl Opener for Measured {
    fn call(&self, opcode: Opcode, payload: Vec<u8>, timeout: Duration) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let began = clock::mono();
            self.meter.went(payload.len());
            let answer = self.hub.call(opcode, payload, timeout).await?;
            let now = clock::mono();
            self.meter.came(answer.len());
            self.meter.took(now.since(began), now);
            Ok(answer)
        })
    }

    fn open(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Pending<'_, (Vec<u8>, BusStream)> {
        Box::pin(async move {
            let session = self.hub.session()?;
            let (answer, stream) = session.open(opcode, payload, timeout).await?;
            stream.measure(&self.meter);
            Ok((answer, stream.into()))
        })
    }

    fn lost(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.hub.lost()
    }

    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.hub.over()
    }

    fn returned(&self, within: Duration) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        self.hub.returned(within)
    }
}
