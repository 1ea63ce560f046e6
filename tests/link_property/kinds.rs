//! The streams that are opened and what runs on them.

use myclerk::wire::opcode::Opcode;

/// Openers, an operation of their streams, the event, and the operation that closes them.
pub(crate) const KINDS: [(Opcode, &[u8], Opcode, Opcode, Opcode); 5] = [
    (
        Opcode::UsbDeviceAttach,
        b"\x80",
        Opcode::UsbBulkTransfer,
        Opcode::UsbReset,
        Opcode::UsbDeviceDetach,
    ),
    (
        Opcode::SerialPortOpen,
        b"\x80",
        Opcode::SerialPortConfigure,
        Opcode::SerialControlGet,
        Opcode::SerialPortClose,
    ),
    (
        Opcode::CanInterfaceOpen,
        b"\x80",
        Opcode::CanFilterSet,
        Opcode::CanFrameReceive,
        Opcode::CanInterfaceClose,
    ),
    (
        Opcode::StreamStart,
        b"\x81\xa4type\x01",
        Opcode::StreamQuality,
        Opcode::StreamData,
        Opcode::StreamStop,
    ),
    (
        Opcode::DeviceSubscribe,
        b"\x80",
        Opcode::DeviceInfo,
        Opcode::DeviceSubscribe,
        Opcode::DeviceUnsubscribe,
    ),
];

pub(crate) fn kind_of(opener: Opcode) -> &'static (Opcode, &'static [u8], Opcode, Opcode, Opcode) {
    KINDS.iter().find(|kind| kind.0 == opener).unwrap()
}
