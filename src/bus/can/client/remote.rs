//! The owner's interface: how its stream is opened, the first time and after an outage.

use std::time::Duration;

use super::options::Wanted;
use crate::bus::can::op::{CanMode, Open, Opened};
use crate::bus::{AskError, AttachError, BusStream, Opener};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long the owner may take to open an interface.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An interface of another machine, as it is wanted here.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub(super) device: String,
    pub(super) wanted: Wanted,
}

/// The way to it.
pub(super) struct Way {
    pub(super) stream: BusStream,
    /// The owner lets us send.
    pub(super) writes: bool,
}

impl Remote {
    /// Opens the stream, for hearing alone where sending is not allowed.
    pub(super) async fn open(&self, opener: &dyn Opener) -> Result<(Opened, Way), AttachError> {
        let mut request = Open {
            dev: self.device.clone(),
            mode: CanMode::ReadWrite,
            fd: true,
            own: self.wanted.own,
            filters: self.wanted.filters.clone(),
            errors: self.wanted.errors,
        };
        let opcode = Opcode::CanInterfaceOpen;
        let (answer, stream) = match opener.open(opcode, encode(&request)?, PATIENCE).await {
            Err(AskError::Refused { status, error })
                if status == Status::Forbidden && error.sub == sub::ACL =>
            {
                request.mode = CanMode::Read;
                opener.open(opcode, encode(&request)?, PATIENCE).await?
            }
            other => other?,
        };
        match Opened::decode(&answer) {
            Ok(opened) => {
                let writes = request.mode.writes();
                Ok((opened, Way { stream, writes }))
            }
            Err(error) => {
                stream.outlet.reset(Status::BadRequest);
                Err(AttachError::Answer(error.to_string()))
            }
        }
    }
}

fn encode(request: &Open) -> Result<Vec<u8>, AttachError> {
    let encoded = request.encode();
    encoded.map_err(|error| AttachError::Wish(error.to_string()))
}
