//! The structures of ioctls other than the settings (kernel `include/uapi/linux/serial.h`).

use crate::bus::serial::op;

/// Bytes of `struct serial_icounter_struct`.
pub const COUNTERS: usize = 80;
/// Bytes of `struct serial_struct`.
pub const SERIAL: usize = 72;
/// The same where a pointer has four bytes.
pub const SERIAL_COMPAT: usize = 60;
/// Bytes of `struct serial_rs485`.
pub const RS485: usize = 32;
/// Bytes of `struct winsize`.
pub const WINDOW: usize = 8;

/// Modem lines of `TIOCMGET` (`include/uapi/asm-generic/termios.h`).
pub mod line {
    /// Data terminal ready.
    pub const DTR: u32 = 0x002;
    /// Request to send.
    pub const RTS: u32 = 0x004;
    /// Clear to send.
    pub const CTS: u32 = 0x020;
    /// Carrier.
    pub const CD: u32 = 0x040;
    /// Ring.
    pub const RI: u32 = 0x080;
    /// Data set ready.
    pub const DSR: u32 = 0x100;
}

/// `TIOCMGET`.
pub const fn modem_bits(lines: &op::Lines) -> u32 {
    let mut bits = 0;
    if lines.dtr {
        bits |= line::DTR;
    }
    if lines.rts {
        bits |= line::RTS;
    }
    if lines.cts {
        bits |= line::CTS;
    }
    if lines.dcd {
        bits |= line::CD;
    }
    if lines.ri {
        bits |= line::RI;
    }
    if lines.dsr {
        bits |= line::DSR;
    }
    bits
}

/// `struct serial_icounter_struct`, in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes of the inputs.
    pub edges: op::Edges,
    /// Bytes received.
    pub rx: u32,
    /// Bytes sent.
    pub tx: u32,
    /// What went wrong.
    pub errors: op::Errors,
}

impl Counters {
    /// The structure.
    pub fn encode(&self) -> Vec<u8> {
        let (edges, errors) = (self.edges, self.errors);
        let fields = [
            edges.cts,
            edges.dsr,
            edges.ri,
            edges.dcd,
            self.rx,
            self.tx,
            errors.framing,
            errors.overrun,
            errors.parity,
            errors.brk,
        ];
        let mut bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_ne_bytes())
            .collect();
        bytes.resize(COUNTERS, 0);
        bytes
    }
}

/// What a program may change of `struct serial_struct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// The number in the name.
    pub line: u32,
    /// `ASYNC_*`.
    pub flags: u32,
    /// In hundredths of a second.
    pub close_delay: u16,
    /// In hundredths of a second.
    pub closing_wait: u16,
}

impl Serial {
    /// `ASYNC_USR_MASK` without the special speeds: what anybody may set.
    const SETTABLE: u32 = 0x2400;
    /// `PORT_16550A`, which is what adapters say.
    const TYPE: u32 = 4;
    /// What `custom_divisor` would divide.
    const BASE: u32 = 115_200;

    /// As it is before a program changes it.
    pub const fn new(line: u32) -> Self {
        Self {
            line,
            flags: 0,
            close_delay: 50,
            closing_wait: 3000,
        }
    }

    /// The structure.
    pub fn encode(&self, compat: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SERIAL);
        for field in [Self::TYPE, self.line, 0, 0, self.flags, 0, 0, Self::BASE] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(self.close_delay.to_ne_bytes());
        bytes.extend([0; 6]);
        bytes.extend(self.closing_wait.to_ne_bytes());
        bytes.resize(if compat { SERIAL_COMPAT } else { SERIAL }, 0);
        bytes
    }

    /// With what a program sets; `None` when its structure is too short.
    pub fn set(&self, bytes: &[u8]) -> Option<Self> {
        let flags = u32::from_ne_bytes(*bytes.get(16..)?.first_chunk()?);
        let close_delay = u16::from_ne_bytes(*bytes.get(32..)?.first_chunk()?);
        let closing_wait = u16::from_ne_bytes(*bytes.get(40..)?.first_chunk()?);
        Some(Self {
            line: self.line,
            flags: flags & Self::SETTABLE,
            close_delay,
            closing_wait,
        })
    }
}

const RS485_ENABLED: u32 = 1;
const RS485_RTS_ON_SEND: u32 = 1 << 1;
const RS485_RTS_AFTER_SEND: u32 = 1 << 2;
const RS485_RX_DURING_TX: u32 = 1 << 4;
const RS485_TERMINATE_BUS: u32 = 1 << 5;

/// `struct serial_rs485`.
pub fn encode_rs485(rs485: &op::Rs485) -> Vec<u8> {
    let flags = [
        (rs485.on, RS485_ENABLED),
        (rs485.rts_send, RS485_RTS_ON_SEND),
        (rs485.rts_after, RS485_RTS_AFTER_SEND),
        (rs485.rx, RS485_RX_DURING_TX),
        (rs485.term, RS485_TERMINATE_BUS),
    ];
    let set = flags.iter().filter(|(on, _)| *on);
    let flags = set.fold(0, |flags, (_, bit)| flags | bit);
    let fields = [flags, rs485.before_ms, rs485.after_ms];
    let mut bytes: Vec<u8> = fields
        .iter()
        .flat_map(|field| field.to_ne_bytes())
        .collect();
    bytes.resize(RS485, 0);
    bytes
}

/// What a program's `struct serial_rs485` asks for; delays that are too long become the longest
/// ones, as the kernel does. `None` when it is too short.
pub fn decode_rs485(bytes: &[u8]) -> Option<op::Rs485> {
    let field = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let flags = field(0)?;
    let has = |bit| flags & bit != 0;
    Some(op::Rs485 {
        on: has(RS485_ENABLED),
        rts_send: has(RS485_RTS_ON_SEND),
        rts_after: has(RS485_RTS_AFTER_SEND),
        rx: has(RS485_RX_DURING_TX),
        term: has(RS485_TERMINATE_BUS),
        before_ms: field(4)?.min(op::MAX_RS485_DELAY_MS),
        after_ms: field(8)?.min(op::MAX_RS485_DELAY_MS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_lengths_of_the_kernels() {
        assert_eq!(Counters::default().encode().len(), COUNTERS);
        assert_eq!(Serial::new(0).encode(false).len(), SERIAL);
        assert_eq!(Serial::new(0).encode(true).len(), SERIAL_COMPAT);
        assert_eq!(encode_rs485(&op::Rs485::default()).len(), RS485);
    }

    #[test]
    fn low_latency_can_be_asked_for_and_a_special_speed_cannot() {
        let mut bytes = Serial::new(3).encode(false);
        bytes[16..20].copy_from_slice(&0x2030_u32.to_ne_bytes());
        let set = Serial::new(3).set(&bytes).unwrap();
        assert_eq!(set.flags, 0x2000);
        assert_eq!((set.close_delay, set.closing_wait), (50, 3000));
        assert_eq!(Serial::new(3).set(&bytes[..41]), None);
    }

    #[test]
    fn rs485_settings_come_back_as_they_were_set() {
        let wanted = op::Rs485 {
            rts_after: true,
            rx: true,
            before_ms: 7,
            after_ms: 100,
            ..op::Rs485::default()
        };
        let mut bytes = encode_rs485(&wanted);
        assert_eq!(decode_rs485(&bytes), Some(wanted));
        bytes[8..12].copy_from_slice(&500_u32.to_ne_bytes());
        assert_eq!(decode_rs485(&bytes), Some(wanted));
        assert_eq!(decode_rs485(&bytes[..11]), None);
    }

    #[test]
    fn each_modem_line_has_its_bit() {
        let all = op::Lines {
            dtr: true,
            rts: true,
            cts: true,
            dsr: true,
            ri: true,
            dcd: true,
        };
        assert_eq!(modem_bits(&all), 0x1E6);
        assert_eq!(modem_bits(&op::Lines::default()), 0);
    }
}
