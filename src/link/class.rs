//! Scheduling classes (profile 11.3) and which of them a request, an event or a stream falls into.

pub use crate::wire::class::Class;
use crate::wire::{msgpack::Reader, opcode::Opcode};

use super::operation::Operation;

/// Transfers up to this many bytes are interactive, longer ones bulk, for the operations whose
/// class depends on their size (profile 19.4 and 19.8).
pub const BULK_ABOVE: usize = 4096;

impl Class {
    /// The class of a request and of its answers. `size` is the larger of the request's payload and
    /// its declared answer, in bytes: a bulk read is small to ask for and large to answer.
    pub fn of_request(opcode: Opcode, size: usize) -> Self {
        let operation = Operation::of(opcode);
        if operation.sized() && size > BULK_ABOVE {
            Self::Bulk
        } else {
            operation.class
        }
    }

    /// The class of an EVENT with that opcode on a stream of class `stream`: serial control lines
    /// are urgent although the port's data is not.
    pub fn of_event(opcode: Opcode, stream: Self) -> Self {
        stream.min(Operation::of(opcode).class.max(Self::Interrupt))
    }

    /// True when DATA and EVENT payload of this class also counts against the session's credit
    /// (profile 11.2): bulk can then never consume the room of class 1.
    pub const fn uses_session_credit(self) -> bool {
        match self {
            Self::Control | Self::Interrupt => false,
            Self::Media | Self::Interactive | Self::Bulk => true,
        }
    }
}

/// How DATA frames of a stream may be cut (profile 11.3, 19.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataForm {
    /// A byte stream: cut anywhere into several DATA frames.
    Bytes,
    /// Every DATA frame is one unit (a video frame, an inner message): fragmented, never cut.
    Units,
}

/// What the opening request says about the DATA and EVENT frames of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKind {
    /// The operation that opened the stream.
    pub opener: Opcode,
    /// Class of its DATA and of its events, unless the event itself is more urgent.
    pub class: Class,
    /// Whether DATA is a byte stream.
    pub data: DataForm,
}

impl StreamKind {
    /// The kind of a stream opened by `opener`. Both ends derive it from the opening request alone
    /// and must agree, because it decides what counts against the session's credit.
    pub fn of(opener: Opcode, payload: &[u8]) -> Self {
        let (class, data) = match opener.to_u16() {
            STREAM_START => match stream_type(payload) {
                Some(1 | 2) => (Class::Media, DataForm::Units),
                Some(3) => (Class::Interrupt, DataForm::Units),
                Some(4) => (Class::Interactive, DataForm::Bytes),
                Some(_) | None => (Class::Interactive, DataForm::Units),
            },
            SERIAL_PORT_OPEN => (Class::Interactive, DataForm::Bytes),
            GPU_REQUEST => (Class::Bulk, DataForm::Bytes),
            GPIO_LINE_REQUEST | CAN_INTERFACE_OPEN => (Class::Interrupt, DataForm::Units),
            _ => (Class::Interactive, DataForm::Units),
        };
        Self {
            opener,
            class,
            data,
        }
    }

    /// Stream 0, which carries no DATA.
    pub(super) const CONTROL: Self = Self {
        opener: Opcode::Record,
        class: Class::Interactive,
        data: DataForm::Units,
    };
}

const STREAM_START: u16 = Opcode::StreamStart.to_u16();
const SERIAL_PORT_OPEN: u16 = Opcode::SerialPortOpen.to_u16();
const GPU_REQUEST: u16 = Opcode::GpuRequest.to_u16();
const GPIO_LINE_REQUEST: u16 = Opcode::GpioLineRequest.to_u16();
const CAN_INTERFACE_OPEN: u16 = Opcode::CanInterfaceOpen.to_u16();

/// `type` of a `STREAM_START`: 1 video, 2 audio, 3 HID, 4 serial (draft 6.2.2).
fn stream_type(payload: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(payload);
    let entries = reader.map_header().ok()?;
    for _ in 0..entries {
        if reader.str().ok()? == "type" {
            return reader.uint().ok();
        }
        reader.skip_value().ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_moves_a_transfer_to_bulk_and_nothing_else() {
        let bulk = Opcode::UsbBulkTransfer;
        assert_eq!(Class::of_request(bulk, 4096), Class::Interactive);
        assert_eq!(Class::of_request(bulk, 4097), Class::Bulk);
        let interrupt = Opcode::UsbInterruptTransfer;
        assert_eq!(Class::of_request(interrupt, 65536), Class::Interrupt);
        assert_eq!(
            Class::of_request(Opcode::DeviceList, 65536),
            Class::Interactive
        );
    }

    #[test]
    fn events_are_at_least_as_urgent_as_their_stream() {
        let of = Class::of_event;
        assert_eq!(
            of(Opcode::SerialControlGet, Class::Interactive),
            Class::Interrupt
        );
        assert_eq!(
            of(Opcode::DeviceSubscribe, Class::Interactive),
            Class::Interactive
        );
        assert_eq!(of(Opcode::DeviceSubscribe, Class::Media), Class::Media);
        assert_eq!(of(Opcode::StreamStop, Class::Bulk), Class::Interrupt);
    }

    #[test]
    fn the_stream_type_decides_the_class_of_a_media_stream() {
        let kind = |payload: &[u8]| {
            let kind = StreamKind::of(Opcode::StreamStart, payload);
            (kind.class, kind.data)
        };
        let typed = |number: u8| [b"\x82\xa3dev\xa3cam\xa4type".as_slice(), &[number]].concat();
        assert_eq!(kind(&typed(1)), (Class::Media, DataForm::Units));
        assert_eq!(kind(&typed(3)), (Class::Interrupt, DataForm::Units));
        assert_eq!(kind(&typed(4)), (Class::Interactive, DataForm::Bytes));
        assert_eq!(kind(b"\x80"), (Class::Interactive, DataForm::Units));
        assert_eq!(kind(b"\xc1"), (Class::Interactive, DataForm::Units));
    }
}
