//! A session as the bus halves see it that make remote devices local.

use std::time::Duration;

use super::{CallError, WeakPeer};
use crate::bus::{AskError, BusStream, Opener, Pending};
use crate::wire::opcode::Opcode;

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { status, error } => Self::Refused { status, error },
            CallError::Ended(end) => Self::Ended(end.to_string()),
            CallError::Link(error) => Self::NotSent(error.to_string()),
        }
    }
}

fn over() -> AskError {
    AskError::Ended("it is over".to_owned())
}

impl Opener for WeakPeer {
    fn call(&self, opcode: Opcode, payload: Vec<u8>, timeout: Duration) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let peer = self.upgrade().ok_or_else(over)?;
            Ok(peer.call(opcode, payload, timeout).await?)
        })
    }

    fn open(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Pending<'_, (Vec<u8>, BusStream)> {
        Box::pin(async move {
            let peer = self.upgrade().ok_or_else(over)?;
            let (answer, stream) = peer.open(opcode, payload, timeout).await?;
            let stream = BusStream {
                outlet: stream.outlet,
                inbound: stream.inbound,
            };
            Ok((answer, stream))
        })
    }
}
