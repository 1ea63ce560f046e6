//! Profile 17.1 and 19 as a table: what the link must know of each operation.

use crate::wire::{flags::Tier, opcode::Opcode};

use super::class::Class;

/// How an operation relates to streams (profile 19, column "Fl").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// Needs no stream of its own; runs on stream 0 or on any open stream.
    Free,
    /// O: opens the fresh stream it is sent on.
    Opens,
    /// S: runs on a stream that an operation of the same group of 16 opcodes opened.
    Bound,
    /// S C: as `Bound`, and its success closes the stream.
    Closes,
}

/// The link's view of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its relation to streams.
    pub role: StreamRole,
    /// Class of the request and its answers, unless the size decides ([`Class::of_request`]).
    pub class: Class,
    facts: u8,
}

/// I: idempotent.
const I: u8 = 1;
/// T: needs an ordered reliable path.
const T: u8 = 2;
/// The class varies with the size.
const V: u8 = 4;
/// The answer may be compressed (profile 13.2): one source, no secrets beside chosen data.
const Z: u8 = 8;
/// Administrative: Tier 4 at least.
const A: u8 = 16;

impl Operation {
    /// The entry of `opcode`. A code without one is free and interactive, so that a request with it
    /// can be answered.
    pub fn of(opcode: Opcode) -> Self {
        let (role, class, facts) = TABLE
            .binary_search_by_key(&opcode.to_u16(), |row| row.0.to_u16())
            .ok()
            .and_then(|index| TABLE.get(index))
            .map_or((StreamRole::Free, Class::Interactive, 0), |row| {
                (row.1, row.2, row.3)
            });
        Self { role, class, facts }
    }

    /// I: may be repeated after a path broke (profile 10.4).
    pub const fn idempotent(self) -> bool {
        self.facts & I != 0
    }

    /// T: refused on an unordered path (profile 15.4).
    pub const fn ordered_only(self) -> bool {
        self.facts & T != 0
    }

    /// The class depends on the size. The order of such requests on one stream carries meaning (the
    /// URBs of an endpoint), so that those of one stream must never be spread over two classes.
    pub const fn sized(self) -> bool {
        self.facts & V != 0
    }

    /// Its answer may be compressed where compression was negotiated (profile 13.2).
    pub const fn compressible(self) -> bool {
        self.facts & Z != 0
    }

    /// The minimum tier of profile 17.1 for a peer of the own family.
    pub const fn tier(self) -> Tier {
        if self.facts & A != 0 {
            Tier::T4
        } else {
            Tier::T3
        }
    }
}

/// True when an operation of role `Bound` or `Closes` belongs on a stream that `opener` opened:
/// both stand in the same group of 16 opcodes.
pub const fn belongs(opcode: Opcode, opener: Opcode) -> bool {
    opcode.to_u16() >> 4 == opener.to_u16() >> 4
}

use Class::{Bulk, Control, Interactive, Interrupt, Media};
use Opcode::{
    AclGet, AclGrant, AclRevoke, AclSet, CanConfigure, CanErrorStatus, CanFilterSet,
    CanFrameReceive, CanFrameSend, CanInterfaceClose, CanInterfaceList, CanInterfaceOpen,
    DeviceCapabilities, DeviceConfigure, DeviceInfo, DeviceList, DeviceLock, DeviceSubscribe,
    DeviceUnlock, DeviceUnsubscribe, Enrol, FamilyUpdate, GpioChipList, GpioEvent, GpioLineGet,
    GpioLineInfo, GpioLineRelease, GpioLineRequest, GpioLineSet, GpioLineWatch, GpioPwmConfigure,
    GpioPwmSet, GpuCancel, GpuQueueInfo, GpuRequest, GpuResponse, GpuStatus, I2cBusList,
    I2cBusScan, I2cReadBlock, I2cReadByte, I2cSmbusCommand, I2cTransfer, I2cWriteBlock,
    I2cWriteByte, OnewireBusList, OnewireMatchRom, OnewireRead, OnewireReadRom, OnewireReset,
    OnewireSearch, OnewireSkipRom, OnewireWrite, RelayOpen, RouteCreate, RouteDelete, RouteList,
    RouteModify, RoutePriority, SerialBreak, SerialControlGet, SerialControlSet, SerialDataRead,
    SerialDataWrite, SerialPortClose, SerialPortConfigure, SerialPortList, SerialPortOpen,
    SpiBusList, SpiConfigure, SpiDeviceClose, SpiDeviceOpen, SpiRead, SpiTransfer, SpiWrite,
    StreamConfigure, StreamData, StreamPause, StreamQuality, StreamResume, StreamStart, StreamStop,
    Ticket, UsbBulkTransfer, UsbClearHalt, UsbControlTransfer, UsbDeviceAttach, UsbDeviceDetach,
    UsbDeviceList, UsbGetDescriptor, UsbInterruptTransfer, UsbIsochronousTransfer, UsbReset,
    UsbSetConfiguration, UsbSetInterface,
};
use StreamRole::{Bound, Closes, Free, Opens};

/// Ascending by opcode.
#[rustfmt::skip]
const TABLE: &[(Opcode, StreamRole, Class, u8)] = &[
    (DeviceList, Free, Interactive, I | Z),
    (DeviceInfo, Free, Interactive, I | Z),
    (DeviceSubscribe, Opens, Interactive, 0),
    (DeviceUnsubscribe, Closes, Interactive, 0),
    (DeviceLock, Free, Interactive, 0),
    (DeviceUnlock, Free, Interactive, I),
    (DeviceConfigure, Free, Interactive, I),
    (DeviceCapabilities, Free, Interactive, I | Z),
    (StreamStart, Opens, Interactive, 0),
    (StreamStop, Closes, Control, 0),
    (StreamData, Bound, Interactive, 0),
    (StreamConfigure, Bound, Interactive, 0),
    (StreamQuality, Bound, Interactive, I),
    (StreamPause, Bound, Interactive, I),
    (StreamResume, Bound, Interactive, I),
    (GpuRequest, Opens, Bulk, 0),
    (GpuResponse, Free, Bulk, 0),
    (GpuStatus, Free, Interactive, I),
    (GpuCancel, Free, Interactive, I),
    (GpuQueueInfo, Free, Interactive, I),
    (RouteCreate, Free, Interactive, A),
    (RouteDelete, Free, Interactive, A),
    (RouteList, Free, Interactive, I),
    (RouteModify, Free, Interactive, A),
    (AclSet, Free, Interactive, A),
    (AclGet, Free, Interactive, I),
    (AclGrant, Free, Interactive, A),
    (AclRevoke, Free, Interactive, A),
    (RoutePriority, Free, Interactive, A),
    (UsbDeviceList, Free, Interactive, I | Z),
    (UsbDeviceAttach, Opens, Interactive, T),
    (UsbDeviceDetach, Closes, Interactive, T),
    (UsbControlTransfer, Bound, Interactive, T),
    (UsbBulkTransfer, Bound, Interactive, T | V),
    (UsbInterruptTransfer, Bound, Interrupt, T),
    (UsbIsochronousTransfer, Bound, Media, T),
    (UsbGetDescriptor, Bound, Interactive, T | I | Z),
    (UsbSetConfiguration, Bound, Interactive, T | I),
    (UsbSetInterface, Bound, Interactive, T | I),
    (UsbClearHalt, Bound, Interactive, T | I),
    (UsbReset, Bound, Interactive, T | I),
    (SerialPortList, Free, Interactive, I | Z),
    (SerialPortOpen, Opens, Interactive, T),
    (SerialPortClose, Closes, Interactive, 0),
    (SerialPortConfigure, Bound, Interactive, I),
    (SerialDataWrite, Bound, Interactive, T),
    (SerialDataRead, Bound, Interactive, T),
    (SerialControlSet, Bound, Interrupt, I),
    (SerialControlGet, Bound, Interrupt, I),
    (SerialBreak, Bound, Interactive, 0),
    (GpioChipList, Free, Interactive, I | Z),
    (GpioLineInfo, Free, Interactive, I),
    (GpioLineRequest, Opens, Interactive, 0),
    (GpioLineRelease, Closes, Interactive, 0),
    (GpioLineSet, Bound, Interactive, I),
    (GpioLineGet, Bound, Interactive, I),
    (GpioLineWatch, Bound, Interactive, I),
    (GpioEvent, Bound, Interrupt, 0),
    (GpioPwmConfigure, Opens, Interactive, I),
    (GpioPwmSet, Bound, Interactive, I),
    (I2cBusList, Free, Interactive, Z),
    (I2cBusScan, Free, Interactive, 0),
    (I2cTransfer, Free, Interactive, 0),
    (I2cWriteByte, Free, Interactive, 0),
    (I2cReadByte, Free, Interactive, 0),
    (I2cWriteBlock, Free, Interactive, 0),
    (I2cReadBlock, Free, Interactive, 0),
    (I2cSmbusCommand, Free, Interactive, 0),
    (SpiBusList, Free, Interactive, T | Z),
    (SpiDeviceOpen, Opens, Interactive, T),
    (SpiDeviceClose, Closes, Interactive, T),
    (SpiConfigure, Bound, Interactive, T | I),
    (SpiTransfer, Bound, Interactive, T | V),
    (SpiWrite, Bound, Interactive, T | V),
    (SpiRead, Bound, Interactive, T | V),
    (CanInterfaceList, Free, Interrupt, Z),
    (CanInterfaceOpen, Opens, Interrupt, 0),
    (CanInterfaceClose, Closes, Interrupt, 0),
    (CanConfigure, Bound, Interrupt, 0),
    (CanFrameSend, Bound, Interrupt, 0),
    (CanFrameReceive, Bound, Interrupt, 0),
    (CanFilterSet, Bound, Interrupt, 0),
    (CanErrorStatus, Bound, Interrupt, 0),
    (OnewireBusList, Free, Interactive, Z),
    (OnewireSearch, Free, Interactive, 0),
    (OnewireReset, Free, Interactive, 0),
    (OnewireReadRom, Free, Interactive, 0),
    (OnewireMatchRom, Free, Interactive, 0),
    (OnewireSkipRom, Free, Interactive, 0),
    (OnewireRead, Free, Interactive, 0),
    (OnewireWrite, Free, Interactive, 0),
    (Ticket, Free, Interactive, 0),
    (Enrol, Free, Interactive, A),
    (FamilyUpdate, Free, Interactive, A),
    (RelayOpen, Opens, Interactive, 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_and_has_every_operation() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].0.to_u16() < pair[1].0.to_u16(), "{}", pair[1].0);
        }
        for op in Opcode::ALL {
            let listed = TABLE.iter().any(|row| row.0 == *op);
            assert_ne!(listed, op.is_core() || *op == Opcode::Record, "{op}");
        }
    }

    #[test]
    fn a_bound_operation_stands_in_the_group_of_an_opener() {
        let openers: Vec<_> = TABLE.iter().filter(|row| row.1 == Opens).collect();
        assert_eq!(openers.len(), 10);
        for row in TABLE {
            let bound = matches!(row.1, Bound | Closes);
            let housed = openers.iter().any(|opener| belongs(row.0, opener.0));
            assert!(!bound || housed, "{} has no opener", row.0);
        }
    }

    #[test]
    fn every_usb_operation_but_the_list_needs_an_ordered_path() {
        for op in Opcode::ALL {
            if op.to_u16() & 0xFFF0 == 0x0600 {
                let list = *op == Opcode::UsbDeviceList;
                assert_eq!(Operation::of(*op).ordered_only(), !list, "{op}");
            }
        }
    }

    #[test]
    fn administrative_acts_need_tier_4() {
        for (op, tier) in [
            (Opcode::AclGet, Tier::T3),
            (Opcode::AclGrant, Tier::T4),
            (Opcode::RouteList, Tier::T3),
            (Opcode::RoutePriority, Tier::T4),
            (Opcode::Enrol, Tier::T4),
            (Opcode::UsbDeviceAttach, Tier::T3),
        ] {
            assert_eq!(Operation::of(op).tier(), tier, "{op}");
        }
    }

    #[test]
    fn a_code_without_an_entry_is_free_and_interactive() {
        let operation = Operation::of(Opcode::Unknown(0x0777));
        assert_eq!((operation.role, operation.class), (Free, Interactive));
    }
}
