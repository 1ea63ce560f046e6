//! What is asked of the owner, and for which call.

use nix::errno::Errno;

use crate::bus::Outgoing;
use crate::bus::spi::client::message::Message;
use crate::bus::spi::op::{
    Change, Extension, PROFILE_TRANSFERS, Settings, Transfer, bus_us, clocked_us, encode_read,
    encode_transfer, encode_write, is_profile,
};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;

/// Above this many bytes a request competes with bulk data (profile 19.8).
const BULK: u64 = 4096;
/// How long the owner may take besides the time on the bus, in milliseconds.
const PATIENCE_MS: u64 = 30_000;
/// Bytes of an answer besides its data.
const OVERHEAD: u64 = 1024;

/// One thing to be asked of the owner.
pub(super) struct Work {
    /// The call that waits for it.
    pub(super) call: Option<u64>,
    pub(super) kind: Kind,
}

/// What.
pub(super) enum Kind {
    Configure(Change),
    Message(Message),
    Read(u32),
    Write(Vec<u8>),
}

impl Work {
    pub(super) const fn configure(call: u64, change: Change) -> Self {
        Self::of(call, Kind::Configure(change))
    }

    pub(super) const fn message(call: u64, message: Message) -> Self {
        Self::of(call, Kind::Message(message))
    }

    pub(super) const fn read(call: u64, size: u32) -> Self {
        Self::of(call, Kind::Read(size))
    }

    pub(super) const fn write(call: u64, bytes: Vec<u8>) -> Self {
        Self::of(call, Kind::Write(bytes))
    }

    /// The clock of a device that nobody has open.
    pub(super) fn rest(hz: u32) -> Self {
        Self {
            call: None,
            kind: Kind::Configure(Change {
                hz: Some(hz),
                ..Change::default()
            }),
        }
    }

    const fn of(call: u64, kind: Kind) -> Self {
        Self {
            call: Some(call),
            kind,
        }
    }

    /// The request, for an owner that takes so much beyond the profile.
    ///
    /// # Errors
    /// `EMSGSIZE` for too many transfers, `EINVAL` for what the owner cannot be told.
    pub(super) fn outgoing(
        &self,
        settings: &Settings,
        ext: Option<&Extension>,
    ) -> Result<Outgoing, Errno> {
        let (opcode, payload) = match &self.kind {
            Kind::Configure(change) => {
                let payload = change.encode().map_err(|_| Errno::EIO)?;
                (Opcode::SpiConfigure, payload)
            }
            Kind::Message(message) => {
                let payload = match ext {
                    Some(ext) => encode(&message.transfers, ext.entries)?,
                    None => encode(&plain(&message.transfers, settings)?, PROFILE_ENTRIES)?,
                };
                (Opcode::SpiTransfer, payload)
            }
            Kind::Read(size) => (Opcode::SpiRead, encode_read(*size)),
            Kind::Write(bytes) => (Opcode::SpiWrite, encode_write(bytes)),
        };
        let (received, pieces) = self.received();
        let sent = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let bulk = sent.max(received) > BULK;
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Outgoing {
            opcode,
            class: if bulk {
                Class::Bulk
            } else {
                Class::Interactive
            },
            payload,
            reply_len: number(received.saturating_add(pieces * 5).saturating_add(OVERHEAD)),
            timeout_ms: number(self.bus_ms(settings).saturating_add(PATIENCE_MS)),
            deadline_ms: 0,
        })
    }

    /// Whether it changes settings.
    pub(super) const fn changes(&self) -> bool {
        matches!(self.kind, Kind::Configure(_))
    }

    /// Bytes that come back, and in how many pieces.
    fn received(&self) -> (u64, u64) {
        match &self.kind {
            Kind::Configure(_) | Kind::Write(_) => (0, 0),
            Kind::Read(size) => (u64::from(*size), 1),
            Kind::Message(message) => {
                let lengths = message.transfers.iter().map(|one| u64::from(one.rx_len));
                (lengths.sum(), message.transfers.iter().map(|_| 1).sum())
            }
        }
    }

    /// About so long it keeps the bus, in milliseconds.
    fn bus_ms(&self, settings: &Settings) -> u64 {
        let micros = match &self.kind {
            Kind::Configure(_) => 0,
            Kind::Read(size) => clocked_us((*size).into(), settings.hz),
            Kind::Write(bytes) => {
                let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                clocked_us(bytes, settings.hz)
            }
            Kind::Message(message) => bus_us(&message.transfers, settings),
        };
        micros.div_ceil(1000)
    }
}

/// [`PROFILE_TRANSFERS`], as an owner would announce it.
const PROFILE_ENTRIES: u32 = 16;
const _: () = assert!(PROFILE_ENTRIES as usize == PROFILE_TRANSFERS);

fn encode(transfers: &[Transfer], most: u32) -> Result<Vec<u8>, Errno> {
    match u32::try_from(transfers.len()) {
        Ok(count) if count <= most => Ok(encode_transfer(transfers)),
        Ok(_) | Err(_) => Err(Errno::EMSGSIZE),
    }
}

/// The same transfers for an owner that knows the profile only: what is said twice is left out.
fn plain(transfers: &[Transfer], settings: &Settings) -> Result<Vec<Transfer>, Errno> {
    let one_wire = |wires| if wires == 1 { 0 } else { wires };
    let plain = transfers.iter().map(|transfer| {
        let plain = Transfer {
            bits: if transfer.bits == settings.bits {
                0
            } else {
                transfer.bits
            },
            tx_nbits: one_wire(transfer.tx_nbits),
            rx_nbits: one_wire(transfer.rx_nbits),
            ..transfer.clone()
        };
        is_profile(&plain).then_some(plain).ok_or(Errno::EINVAL)
    });
    plain.collect()
}
