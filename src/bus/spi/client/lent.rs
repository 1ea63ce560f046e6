//! The stream of a device that the owner lent: however it is left, the owner has its device back.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use crate::bus::spi::op::encode_empty;
use crate::bus::{AskError, BusStream, Inbound, Outgoing, Outlet};
use crate::wire::class::Class;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// How long the owner has to confirm that its device is given back.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the owner has to answer a request that no program waits for, in milliseconds.
const ANSWER_MS: u32 = 10_000;
/// A request that the link never cancels.
const UNLIMITED: u32 = 0;

/// An open stream. Unless it ended before, dropping it resets it.
pub struct Lent {
    stream: BusStream,
    over: bool,
}

impl Lent {
    /// A stream that the owner has just opened.
    pub const fn new(stream: BusStream) -> Self {
        Self {
            stream,
            over: false,
        }
    }

    /// What can be sent.
    pub(super) const fn outlet(&self) -> &Rc<dyn Outlet> {
        &self.stream.outlet
    }

    /// What arrives.
    pub(super) async fn recv(&mut self) -> Option<Inbound> {
        let inbound = self.stream.inbound.recv().await;
        self.over |= matches!(
            inbound,
            None | Some(Inbound::Reset { .. } | Inbound::Closed)
        );
        inbound
    }

    /// Asks for something that no program waits for.
    pub(super) async fn ask(
        &mut self,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, AskError> {
        self.ask_within(ANSWER_MS, opcode, payload).await
    }

    /// Gives the device back and waits a while until the owner has it. One that does not say so in time
    /// is told without asking: it finishes what is on the bus, and nothing else.
    pub(super) async fn close(&mut self) {
        if self.over {
            return;
        }
        let close = self.ask_within(UNLIMITED, Opcode::SpiDeviceClose, encode_empty());
        self.over |= matches!(timeout(FAREWELL, close).await, Ok(Ok(_)));
        self.reset();
    }

    async fn ask_within(
        &mut self,
        timeout_ms: u32,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, AskError> {
        let outgoing = Outgoing {
            opcode,
            class: Class::Interactive,
            payload,
            reply_len: 1024,
            timeout_ms,
            deadline_ms: 0,
        };
        let asked = self.stream.outlet.request(outgoing);
        let asked = asked.map_err(|error| AskError::NotSent(error.to_string()))?;
        loop {
            match self.recv().await {
                Some(Inbound::Response {
                    corr,
                    status,
                    payload,
                    more: false,
                }) if corr == asked => {
                    if status.is_success() {
                        return Ok(payload);
                    }
                    let error = ErrorMap::decode(&payload).unwrap_or_default();
                    return Err(AskError::Refused { status, error });
                }
                Some(Inbound::Data { payload, .. } | Inbound::Event { payload, .. }) => {
                    self.stream.outlet.consume(payload.len());
                }
                Some(Inbound::Reset { .. } | Inbound::Closed) | None => {
                    return Err(AskError::Ended("the owner ended the stream".to_owned()));
                }
                Some(
                    Inbound::Request { .. }
                    | Inbound::Response { .. }
                    | Inbound::Cancel { .. }
                    | Inbound::Writable
                    | Inbound::Dropped { .. },
                ) => {}
            }
        }
    }

    fn reset(&mut self) {
        if !self.over {
            self.over = true;
            self.stream.outlet.reset(Status::Ok);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.reset();
    }
}
