//! A log of opened frames as JSON lines, for whoever looks for a fault. Frames are known only above
//! the session, so the driver of a peer calls [`FrameLog::record`]; sealed messages are recorded
//! below it by [`super::pcapng`].
//!
//! Payloads appear only when asked for. Those of HID and serial streams are keystrokes and
//! passwords and need to be asked for twice (profile 18); those that carry keys, tickets or tokens
//! never appear.

use std::io::{self, Write};

use serde::Serialize;

use crate::wire::flags::Tier;
use crate::wire::opcode::Opcode;
use crate::wire::time::Mono;

/// Which way a frame or a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// How much of the payloads is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payloads {
    /// None, only their lengths.
    Omit,
    /// Those that hold no personal input.
    Harmless,
    /// Also HID and serial data. Keys and tokens are left out even then.
    Forced,
}

/// One frame after opening or before sealing.
#[derive(Clone, Copy, Debug)]
pub struct FrameRecord<'a> {
    /// When it was opened or sealed.
    pub at: Mono,
    /// Which way it went.
    pub direction: Direction,
    /// The tier of the record that held it.
    pub tier: Tier,
    /// The kind's name (profile 9.3).
    pub kind: &'a str,
    /// The operation: its own, or that of the request or stream it belongs to. Without one the
    /// payload is taken for personal input.
    pub opcode: Option<Opcode>,
    /// The stream.
    pub stream: u64,
    /// The correlation number, where the kind has one.
    pub corr: Option<u64>,
    /// What the frame carries.
    pub payload: &'a [u8],
}

/// Writes one JSON object a line.
pub struct FrameLog<W> {
    out: W,
    payloads: Payloads,
}

#[derive(Serialize)]
struct Line<'a> {
    us: u64,
    dir: Direction,
    tier: u8,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<String>,
    stream: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    corr: Option<u64>,
    len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

impl<W: Write> FrameLog<W> {
    /// A log into `out`, which had better be buffered.
    pub fn new(out: W, payloads: Payloads) -> Self {
        Self { out, payloads }
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// What the sink says; the caller ends the capture then, never the session.
    pub fn record(&mut self, frame: &FrameRecord<'_>) -> io::Result<()> {
        let shown = needed(frame.opcode).is_some_and(|needed| self.payloads >= needed);
        let line = Line {
            us: frame.at.0,
            dir: frame.direction,
            tier: frame.tier.to_u8(),
            kind: frame.kind,
            op: frame.opcode.map(name),
            stream: frame.stream,
            corr: frame.corr,
            len: frame.payload.len(),
            payload: shown.then(|| hex(frame.payload)),
        };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// What the sink says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What must be asked for before the payloads of an operation are shown; `None`: never.
fn needed(opcode: Option<Opcode>) -> Option<Payloads> {
    let Some(opcode) = opcode else {
        return Some(Payloads::Forced);
    };
    match opcode.to_u16() {
        // Sessions and their keys; the profile's own block with tickets and enrolment tokens.
        0x0000..=0x01FF | 0xF000..=0xFFFF => None,
        // Streams (HID and media), USB transfers, behind which a keyboard or a serial adapter may
        // be, and serial ports.
        0x0210..=0x021F | 0x0603..=0x0606 | 0x0610..=0x061F => Some(Payloads::Forced),
        _ if opcode.name().is_some() => Some(Payloads::Harmless),
        _ => Some(Payloads::Forced),
    }
}

fn name(opcode: Opcode) -> String {
    opcode.name().map_or_else(
        || format!("0x{:04x}", opcode.to_u16()),
        std::borrow::ToOwned::to_owned,
    )
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| DIGITS.get(usize::from(nibble)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(payloads: Payloads, opcode: Option<Opcode>) -> serde_json::Value {
        let mut out = Vec::new();
        let mut log = FrameLog::new(&mut out, payloads);
        log.record(&FrameRecord {
            at: Mono(1_500_000),
            direction: Direction::In,
            tier: Tier::T3,
            kind: "request",
            opcode,
            stream: 4,
            corr: Some(7),
            payload: &[0x0f, 0xa0],
        })
        .unwrap();
        log.flush().unwrap();
        assert_eq!(out.last(), Some(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    fn shows(payloads: Payloads, opcode: Option<Opcode>) -> bool {
        line(payloads, opcode).get("payload").is_some()
    }

    #[test]
    fn a_line_names_time_direction_tier_kind_operation_stream_and_length() {
        assert_eq!(
            line(Payloads::Harmless, Some(Opcode::I2cTransfer)),
            serde_json::json!({
                "us": 1_500_000, "dir": "in", "tier": 3, "kind": "request",
                "op": "I2C_TRANSFER", "stream": 4, "corr": 7, "len": 2, "payload": "0fa0",
            })
        );
        assert_eq!(
            line(Payloads::Omit, Some(Opcode::Unknown(0x7abc))),
            serde_json::json!({
                "us": 1_500_000, "dir": "in", "tier": 3, "kind": "request",
                "op": "0x7abc", "stream": 4, "corr": 7, "len": 2,
            })
        );
    }

    #[test]
    fn personal_input_is_shown_only_when_forced() {
        for opcode in [
            Some(Opcode::SerialDataWrite),
            Some(Opcode::StreamData),
            Some(Opcode::UsbInterruptTransfer),
            Some(Opcode::UsbBulkTransfer),
            Some(Opcode::UsbControlTransfer),
            Some(Opcode::Unknown(0x0700)),
            None,
        ] {
            assert!(!shows(Payloads::Omit, opcode));
            assert!(!shows(Payloads::Harmless, opcode));
            assert!(shows(Payloads::Forced, opcode));
        }
        assert!(shows(Payloads::Harmless, Some(Opcode::GpioLineInfo)));
        assert!(!shows(Payloads::Omit, Some(Opcode::GpioLineInfo)));
    }

    #[test]
    fn keys_tickets_and_tokens_are_never_shown() {
        for opcode in [
            Opcode::KeyExchangeInit,
            Opcode::SessionResume,
            Opcode::SessionRotate,
            Opcode::Ticket,
            Opcode::Enrol,
            Opcode::FamilyUpdate,
            Opcode::Record,
        ] {
            assert!(!shows(Payloads::Forced, Some(opcode)), "{opcode:?}");
        }
    }
}
