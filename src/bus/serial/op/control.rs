//! `SERIAL_CONTROL_SET`, `SERIAL_CONTROL_GET` with its event, and `SERIAL_BREAK`.

use serde::{Deserialize, Serialize};

use super::{OpEncodeError, OpError, check_range};
use crate::wire::msgpack;

/// Most steps of a sequence.
pub const MAX_STEPS: usize = 32;
/// Longest delay after one step, in microseconds.
pub const MAX_STEP_US: u32 = 5_000_000;
/// Longest sequence, in microseconds. It is answered when it has run, and holds everything else that
/// is asked of the port meanwhile; 10 s leave room below the 30 s after which a request without a
/// timeout of its own is given up (profile 10.4).
pub const MAX_SEQUENCE_US: u32 = 10_000_000;
/// Longest break, in milliseconds.
pub const MAX_BREAK_MS: u32 = 10_000;

/// One step of a sequence: `[dtr or nil, rts or nil, break or nil, delay-us]`. What is nil stays as it
/// is; DTR and RTS change in one call of the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StepTuple", into = "StepTuple")]
pub struct Step {
    /// The new state of DTR.
    pub dtr: Option<bool>,
    /// The new state of RTS.
    pub rts: Option<bool>,
    /// A break begins (true) or ends (false).
    pub brk: Option<bool>,
    /// How long to wait after that, at most [`MAX_STEP_US`].
    pub delay_us: u32,
}

type StepTuple = (Option<bool>, Option<bool>, Option<bool>, u32);

impl From<StepTuple> for Step {
    fn from((dtr, rts, brk, delay_us): StepTuple) -> Self {
        Self {
            dtr,
            rts,
            brk,
            delay_us,
        }
    }
}

impl From<Step> for StepTuple {
    fn from(step: Step) -> Self {
        (step.dtr, step.rts, step.brk, step.delay_us)
    }
}

/// `SERIAL_CONTROL_SET`. What is `None` stays as it is; DTR and RTS change in one call of the driver.
///
/// The profile has the two lines only. A board is reset into its boot loader by a pattern on them whose
/// times a network would blur, hence `seq`: steps that run next to the hardware, after `dtr` and
/// `rts` are set. The answer comes when all of them have run. A break begun by a step ends with the
/// stream at the latest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlSet {
    /// The new state of DTR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtr: Option<bool>,
    /// The new state of RTS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rts: Option<bool>,
    /// At most [`MAX_STEPS`] steps of together at most [`MAX_SEQUENCE_US`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seq: Vec<Step>,
}

impl ControlSet {
    /// The encoded request.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, or the sequence too many steps or too long a time.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode_or_default(payload)?;
        request.check()?;
        Ok(request)
    }

    /// Whether this is within the bounds of an operation.
    ///
    /// # Errors
    /// [`OpError::Field`] names what is not.
    pub fn check(&self) -> Result<(), OpError> {
        check_range("seq", &self.seq.len(), &0, &MAX_STEPS)?;
        for step in &self.seq {
            check_range("delay-us", &step.delay_us, &0, &MAX_STEP_US)?;
        }
        let total: u32 = self.seq.iter().map(|step| step.delay_us).sum();
        check_range("seq", &total, &0, &MAX_SEQUENCE_US)
    }
}

/// The modem lines: the answer to `SERIAL_CONTROL_SET` and `SERIAL_CONTROL_GET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "six wires")]
pub struct Lines {
    /// Data terminal ready, an output.
    pub dtr: bool,
    /// Request to send, an output.
    pub rts: bool,
    /// Clear to send, an input.
    pub cts: bool,
    /// Data set ready, an input.
    pub dsr: bool,
    /// Ring indicator, an input.
    pub ri: bool,
    /// Data carrier detect, an input.
    pub dcd: bool,
}

impl Lines {
    /// The encoded answer.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(msgpack::decode(payload)?)
    }
}

/// What went wrong on the line since the port was opened; each wraps around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Characters whose parity bit was wrong.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parity: u32,
    /// Characters without a stop bit.
    #[serde(rename = "frame", default, skip_serializing_if = "is_zero")]
    pub framing: u32,
    /// Characters lost because nobody took them in time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overrun: u32,
    /// Breaks.
    #[serde(rename = "break", default, skip_serializing_if = "is_zero")]
    pub brk: u32,
}

/// How often an input changed since the port was opened, for what happened between two events; each
/// wraps around. Of the ring indicator only its end counts, as in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edges {
    /// Of [`Lines::cts`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cts: u32,
    /// Of [`Lines::dsr`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dsr: u32,
    /// Of [`Lines::ri`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ri: u32,
    /// Of [`Lines::dcd`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dcd: u32,
}

/// The event 0x0617: a line changed, or errors were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LineEvent {
    /// The lines as they are now.
    #[serde(flatten)]
    pub lines: Lines,
    /// What follows [`LineEvent::lines`].
    #[serde(flatten)]
    pub change: LineChange,
}

/// What of [`LineEvent`] are not the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineChange {
    /// When it was seen, in microseconds of the owner's monotonic clock.
    pub us: u64,
    /// `None` when the driver does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err: Option<Errors>,
    /// `None` when the driver does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<Edges>,
    /// Events before this one that the peer was not sent, for lack of credit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
}

impl LineEvent {
    /// The encoded event.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads an event.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(Self {
            lines: msgpack::decode(payload)?,
            change: msgpack::decode(payload)?,
        })
    }
}

/// `SERIAL_BREAK`, answered when the break is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// How long, in milliseconds, 1 to [`MAX_BREAK_MS`].
    pub ms: u32,
}

impl Break {
    /// The encoded request.
    ///
    /// # Errors
    /// [`OpEncodeError`] when serialisation fails, which no value of this type causes.
    pub fn encode(&self) -> Result<Vec<u8>, OpEncodeError> {
        msgpack::encode(self)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape or the break no length or too great a one.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        check_range("ms", &request.ms, &1, &MAX_BREAK_MS)?;
        Ok(request)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "what serde calls it with"
)]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}
