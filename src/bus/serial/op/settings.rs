//! `SERIAL_PORT_OPEN` and `SERIAL_PORT_CONFIGURE`.

use serde::{Deserialize, Serialize};

use super::numbered::numbered;
use super::{OpEncodeError, OpError, check_device_id, check_range};
use crate::wire::msgpack;

/// Highest line speed, in baud: above what any UART does.
pub const MAX_BAUD: u32 = 100_000_000;
/// Longest time for which received bytes are gathered before they are sent, in microseconds.
pub const MAX_GAP_US: u32 = 1_000_000;
/// Longest delay of RTS around a transmission, in milliseconds (kernel
/// `drivers/tty/serial/serial_core.c`, `RS485_MAX_RTS_DELAY`).
pub const MAX_RS485_DELAY_MS: u32 = 100;

numbered! {
    /// How a port is used: `mode` (profile 17.2).
    Mode {
        /// Only looked at: no writes, no control lines.
        1 Read,
        /// Written to; what it receives is not sent.
        2 Write,
        /// Both.
        3 ReadWrite,
        /// Both, while holding the lock.
        4 Exclusive,
    }
}

impl Mode {
    /// What the port receives is wanted.
    pub const fn reads(self) -> bool {
        match self {
            Self::Read | Self::ReadWrite | Self::Exclusive => true,
            Self::Write => false,
        }
    }

    /// The port may be written to, and its lines and settings changed.
    pub const fn writes(self) -> bool {
        match self {
            Self::Write | Self::ReadWrite | Self::Exclusive => true,
            Self::Read => false,
        }
    }
}

numbered! {
    /// Bits of a character.
    DataBits {
        /// 5
        5 Five,
        /// 6
        6 Six,
        /// 7
        7 Seven,
        /// 8
        8 Eight,
    }
}

numbered! {
    /// The parity bit.
    Parity {
        /// There is none.
        0 None,
        /// An odd number of ones.
        1 Odd,
        /// An even number of ones.
        2 Even,
        /// Always 1.
        3 Mark,
        /// Always 0.
        4 Space,
    }
}

numbered! {
    /// Stop bits. Linux has one and a half exactly where two are asked for at five data bits.
    StopBits {
        /// 1
        1 One,
        /// 2
        2 Two,
        /// 1.5
        3 OneAndHalf,
    }
}

numbered! {
    /// What holds a sender.
    Flow {
        /// Nothing.
        0 None,
        /// The lines RTS and CTS.
        1 RtsCts,
        /// The characters XON (0x11) and XOFF (0x13), which the port then takes out of the data.
        2 XonXoff,
    }
}

numbered! {
    /// Bytes to be thrown away: `flush`, not in the profile.
    Flush {
        /// What was received and not sent to the peer.
        1 Input,
        /// What was written and not transmitted.
        2 Output,
        /// Both.
        3 Both,
    }
}

impl Flush {
    /// What was received is thrown away.
    pub const fn input(self) -> bool {
        matches!(self, Self::Input | Self::Both)
    }

    /// What was not transmitted is thrown away.
    pub const fn output(self) -> bool {
        matches!(self, Self::Output | Self::Both)
    }
}

/// How RTS steers an RS-485 transceiver. The profile names only the map; `{}` switches it on as most
/// transceivers want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "five switches of a driver")]
pub struct Rs485 {
    /// The port drives RTS by itself.
    #[serde(default = "yes")]
    pub on: bool,
    /// The level of RTS while it transmits.
    #[serde(default = "yes")]
    pub rts_send: bool,
    /// The level of RTS after that.
    #[serde(default)]
    pub rts_after: bool,
    /// It receives while it transmits.
    #[serde(default)]
    pub rx: bool,
    /// The bus is terminated here.
    #[serde(default)]
    pub term: bool,
    /// From RTS to the first bit, in milliseconds, at most [`MAX_RS485_DELAY_MS`].
    #[serde(default)]
    pub before_ms: u32,
    /// From the last bit to RTS, in milliseconds, at most [`MAX_RS485_DELAY_MS`].
    #[serde(default)]
    pub after_ms: u32,
}

impl Default for Rs485 {
    fn default() -> Self {
        Self {
            on: true,
            rts_send: true,
            rts_after: false,
            rx: false,
            term: false,
            before_ms: 0,
            after_ms: 0,
        }
    }
}

impl Rs485 {
    fn check(&self) -> Result<(), OpError> {
        check_range("before-ms", &self.before_ms, &0, &MAX_RS485_DELAY_MS)?;
        check_range("after-ms", &self.after_ms, &0, &MAX_RS485_DELAY_MS)
    }
}

/// How a port works: asked for in `SERIAL_PORT_OPEN`, and as it really is in its answer and in that
/// to `SERIAL_PORT_CONFIGURE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Line speed, 1 to [`MAX_BAUD`].
    pub baud: u32,
    /// Bits of a character.
    pub bits: DataBits,
    /// The parity bit.
    #[serde(rename = "par")]
    pub parity: Parity,
    /// Stop bits.
    pub stop: StopBits,
    /// What holds a sender.
    pub flow: Flow,
    /// RS-485: asked for, `None` leaves it as it is; in an answer, `None` when the port has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rs485: Option<Rs485>,
    /// What is received comes as DATA; otherwise it is to be asked for with `SERIAL_DATA_READ`.
    #[serde(default = "yes")]
    pub push: bool,
    /// For so many microseconds after the first byte more is gathered before it is sent, at most
    /// [`MAX_GAP_US`]; with 0 it is sent at once.
    #[serde(rename = "gap-us", default)]
    pub gap_us: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            baud: 115_200,
            bits: DataBits::Eight,
            parity: Parity::None,
            stop: StopBits::One,
            flow: Flow::None,
            rs485: None,
            push: true,
            gap_us: 0,
        }
    }
}

impl Settings {
    /// These settings with what `change` names changed; everything else stays.
    #[must_use]
    pub fn with(&self, change: &Change) -> Self {
        Self {
            baud: change.baud.unwrap_or(self.baud),
            bits: change.bits.unwrap_or(self.bits),
            parity: change.parity.unwrap_or(self.parity),
            stop: change.stop.unwrap_or(self.stop),
            flow: change.flow.unwrap_or(self.flow),
            rs485: change.rs485.or(self.rs485),
            push: change.push.unwrap_or(self.push),
            gap_us: change.gap_us.unwrap_or(self.gap_us),
        }
    }

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
    /// [`OpError`] when it has another shape or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let settings: Self = msgpack::decode(payload)?;
        settings.check()?;
        Ok(settings)
    }

    pub(super) fn check(&self) -> Result<(), OpError> {
        check_range("baud", &self.baud, &1, &MAX_BAUD)?;
        check_range("gap-us", &self.gap_us, &0, &MAX_GAP_US)?;
        self.rs485.as_ref().map_or(Ok(()), Rs485::check)
    }
}

/// `SERIAL_PORT_OPEN`, which opens the stream of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenRequest {
    /// Stable id, at most [`super::MAX_DEVICE_ID`] bytes.
    pub dev: String,
    /// How it is used.
    pub mode: Mode,
    /// How it is to work.
    #[serde(flatten)]
    pub settings: Settings,
}

/// What of [`OpenRequest`] are not settings.
#[derive(Deserialize)]
struct Head {
    dev: String,
    mode: Mode,
}

impl OpenRequest {
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
    /// [`OpError`] when it has another shape, or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let Head { dev, mode } = msgpack::decode(payload)?;
        check_device_id(&dev)?;
        Ok(Self {
            dev,
            mode,
            settings: Settings::decode(payload)?,
        })
    }
}

/// `SERIAL_PORT_CONFIGURE`: fields of [`Settings`]; those that are not named stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// [`Settings::baud`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baud: Option<u32>,
    /// [`Settings::bits`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<DataBits>,
    /// [`Settings::parity`]
    #[serde(rename = "par", default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// [`Settings::stop`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopBits>,
    /// [`Settings::flow`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// [`Settings::rs485`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rs485: Option<Rs485>,
    /// [`Settings::push`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<bool>,
    /// [`Settings::gap_us`]
    #[serde(rename = "gap-us", default, skip_serializing_if = "Option::is_none")]
    pub gap_us: Option<u32>,
    /// Bytes that are thrown away first. DATA that the peer sent before this request and that the
    /// port has not transmitted counts as written, DATA that arrives before the answer to this
    /// request as received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush: Option<Flush>,
}

impl Change {
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
    /// [`OpError`] when it has another shape, or a field is out of range.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let change: Self = msgpack::decode(payload)?;
        change.check()?;
        Ok(change)
    }

    pub(super) fn check(&self) -> Result<(), OpError> {
        Settings::default().with(self).check()
    }
}

impl From<Settings> for Change {
    fn from(settings: Settings) -> Self {
        Self {
            baud: Some(settings.baud),
            bits: Some(settings.bits),
            parity: Some(settings.parity),
            stop: Some(settings.stop),
            flow: Some(settings.flow),
            rs485: settings.rs485,
            push: Some(settings.push),
            gap_us: Some(settings.gap_us),
            flush: None,
        }
    }
}

const fn yes() -> bool {
    true
}
