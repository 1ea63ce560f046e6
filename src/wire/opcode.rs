//! Operation codes: the whole registry of the draft (sections 6.1–6.3) and the profile's vendor
//! block (profile 19.1).
//!
//! An opcode that this build does not know survives decoding as [`Opcode::Unknown`], so that a
//! request with it can be *answered* (`BAD_REQUEST`, sub-code `unknown-op`, profile 10.3).

use core::fmt;

use super::flags::Tier;

macro_rules! opcodes {
    ($($(#[doc = $doc:literal])* $code:literal $variant:ident $name:literal;)*) => {
        /// A 16-bit operation code (draft section 6, big-endian on the wire).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Opcode {
            $($(#[doc = $doc])* $variant,)*
            /// A code without a meaning in the draft or in profile 1.
            Unknown(u16),
        }

        impl Opcode {
            /// Every named opcode, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The opcode with the given number.
            pub const fn from_u16(code: u16) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The number on the wire.
            pub const fn to_u16(self) -> u16 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// The name the draft or the profile gives, `None` for an unassigned number.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($name),)*
                    Self::Unknown(_) => None,
                }
            }
        }
    };
}

opcodes! {
    /// Ignored by the receiver; may serve as cover traffic.
    0x0000 Nop "NOP";
    /// Keeps a session alive (profile 14.1).
    0x0001 Keepalive "KEEPALIVE";
    /// Answers a keepalive and echoes its bytes.
    0x0002 KeepaliveAck "KEEPALIVE_ACK";
    /// Opens the negotiation, Tier 2.
    0x0003 SessionInit "SESSION_INIT";
    /// Answers `SESSION_INIT`, Tier 2.
    0x0004 SessionAck "SESSION_ACK";
    /// Ends a session; unsealed it is only a hint (profile 6.8).
    0x0005 SessionClose "SESSION_CLOSE";
    /// Confirms `SESSION_CLOSE`.
    0x0006 SessionCloseAck "SESSION_CLOSE_ACK";
    /// Resumes a session with a ticket (profile 14.5).
    0x0007 SessionResume "SESSION_RESUME";
    /// Answers `SESSION_RESUME`.
    0x0008 SessionResumed "SESSION_RESUMED";
    /// First Noise message.
    0x0010 KeyExchangeInit "KEY_EXCHANGE_INIT";
    /// Second Noise message.
    0x0011 KeyExchangeResponse "KEY_EXCHANGE_RESPONSE";
    /// Third Noise message.
    0x0012 KeyExchangeComplete "KEY_EXCHANGE_COMPLETE";
    /// Key rotation, the draft's `KEY_ROTATE` (profile 14.2).
    0x0016 SessionRotate "SESSION_ROTATE";
    /// Key material is suspected: erase at once (profile 14.4).
    0x0017 SessionRevoke "SESSION_REVOKE";
    /// List available devices.
    0x0200 DeviceList "DEVICE_LIST";
    /// Get device information.
    0x0201 DeviceInfo "DEVICE_INFO";
    /// Subscribe to device events.
    0x0202 DeviceSubscribe "DEVICE_SUBSCRIBE";
    /// Unsubscribe from device.
    0x0203 DeviceUnsubscribe "DEVICE_UNSUBSCRIBE";
    /// Lock device for exclusive use.
    0x0204 DeviceLock "DEVICE_LOCK";
    /// Release device lock.
    0x0205 DeviceUnlock "DEVICE_UNLOCK";
    /// Configure device parameters.
    0x0206 DeviceConfigure "DEVICE_CONFIGURE";
    /// Query device capabilities.
    0x0207 DeviceCapabilities "DEVICE_CAPABILITIES";
    /// Start data stream.
    0x0210 StreamStart "STREAM_START";
    /// Stop data stream.
    0x0211 StreamStop "STREAM_STOP";
    /// Stream data payload.
    0x0212 StreamData "STREAM_DATA";
    /// Configure stream parameters.
    0x0213 StreamConfigure "STREAM_CONFIGURE";
    /// Adjust quality settings.
    0x0214 StreamQuality "STREAM_QUALITY";
    /// Pause stream.
    0x0215 StreamPause "STREAM_PAUSE";
    /// Resume paused stream.
    0x0216 StreamResume "STREAM_RESUME";
    /// Submit GPU request.
    0x0220 GpuRequest "GPU_REQUEST";
    /// GPU response (streaming), direct form only.
    0x0221 GpuResponse "GPU_RESPONSE";
    /// Query service status.
    0x0222 GpuStatus "GPU_STATUS";
    /// Cancel pending request.
    0x0223 GpuCancel "GPU_CANCEL";
    /// Queue position and ETA.
    0x0224 GpuQueueInfo "GPU_QUEUE_INFO";
    /// Create device route.
    0x0240 RouteCreate "ROUTE_CREATE";
    /// Delete device route.
    0x0241 RouteDelete "ROUTE_DELETE";
    /// List active routes.
    0x0242 RouteList "ROUTE_LIST";
    /// Modify existing route.
    0x0243 RouteModify "ROUTE_MODIFY";
    /// Set access control.
    0x0244 AclSet "ACL_SET";
    /// Get access control.
    0x0245 AclGet "ACL_GET";
    /// Grant client access.
    0x0246 AclGrant "ACL_GRANT";
    /// Revoke client access.
    0x0247 AclRevoke "ACL_REVOKE";
    /// Set routing priority.
    0x0248 RoutePriority "ROUTE_PRIORITY";
    /// List USB devices.
    0x0600 UsbDeviceList "USB_DEVICE_LIST";
    /// Attach USB device.
    0x0601 UsbDeviceAttach "USB_DEVICE_ATTACH";
    /// Detach USB device.
    0x0602 UsbDeviceDetach "USB_DEVICE_DETACH";
    /// USB control transfer.
    0x0603 UsbControlTransfer "USB_CONTROL_TRANSFER";
    /// USB bulk transfer.
    0x0604 UsbBulkTransfer "USB_BULK_TRANSFER";
    /// USB interrupt transfer.
    0x0605 UsbInterruptTransfer "USB_INTERRUPT_TRANSFER";
    /// USB isochronous transfer.
    0x0606 UsbIsochronousTransfer "USB_ISOCHRONOUS_TRANSFER";
    /// Get USB descriptor.
    0x0607 UsbGetDescriptor "USB_GET_DESCRIPTOR";
    /// Set USB configuration.
    0x0608 UsbSetConfiguration "USB_SET_CONFIGURATION";
    /// Set USB interface.
    0x0609 UsbSetInterface "USB_SET_INTERFACE";
    /// Clear endpoint halt.
    0x060A UsbClearHalt "USB_CLEAR_HALT";
    /// Reset USB device.
    0x060B UsbReset "USB_RESET";
    /// List serial ports.
    0x0610 SerialPortList "SERIAL_PORT_LIST";
    /// Open serial port.
    0x0611 SerialPortOpen "SERIAL_PORT_OPEN";
    /// Close serial port.
    0x0612 SerialPortClose "SERIAL_PORT_CLOSE";
    /// Configure baud, parity, etc.
    0x0613 SerialPortConfigure "SERIAL_PORT_CONFIGURE";
    /// Write to serial port.
    0x0614 SerialDataWrite "SERIAL_DATA_WRITE";
    /// Read from serial port.
    0x0615 SerialDataRead "SERIAL_DATA_READ";
    /// Set control lines (DTR, RTS).
    0x0616 SerialControlSet "SERIAL_CONTROL_SET";
    /// Get control line status.
    0x0617 SerialControlGet "SERIAL_CONTROL_GET";
    /// Send break condition.
    0x0618 SerialBreak "SERIAL_BREAK";
    /// List GPIO chips.
    0x0620 GpioChipList "GPIO_CHIP_LIST";
    /// Get line information.
    0x0621 GpioLineInfo "GPIO_LINE_INFO";
    /// Request GPIO line.
    0x0622 GpioLineRequest "GPIO_LINE_REQUEST";
    /// Release GPIO line.
    0x0623 GpioLineRelease "GPIO_LINE_RELEASE";
    /// Set line value.
    0x0624 GpioLineSet "GPIO_LINE_SET";
    /// Get line value.
    0x0625 GpioLineGet "GPIO_LINE_GET";
    /// Watch for edge events.
    0x0626 GpioLineWatch "GPIO_LINE_WATCH";
    /// GPIO edge event notification.
    0x0627 GpioEvent "GPIO_EVENT";
    /// Configure PWM output.
    0x0628 GpioPwmConfigure "GPIO_PWM_CONFIGURE";
    /// Set PWM duty cycle.
    0x0629 GpioPwmSet "GPIO_PWM_SET";
    /// List I2C buses.
    0x0630 I2cBusList "I2C_BUS_LIST";
    /// Scan for devices on bus.
    0x0631 I2cBusScan "I2C_BUS_SCAN";
    /// I2C read/write transfer.
    0x0632 I2cTransfer "I2C_TRANSFER";
    /// Write single byte.
    0x0633 I2cWriteByte "I2C_WRITE_BYTE";
    /// Read single byte.
    0x0634 I2cReadByte "I2C_READ_BYTE";
    /// Write data block.
    0x0635 I2cWriteBlock "I2C_WRITE_BLOCK";
    /// Read data block.
    0x0636 I2cReadBlock "I2C_READ_BLOCK";
    /// `SMBus` protocol command.
    0x0637 I2cSmbusCommand "I2C_SMBUS_COMMAND";
    /// List SPI buses.
    0x0640 SpiBusList "SPI_BUS_LIST";
    /// Open SPI device.
    0x0641 SpiDeviceOpen "SPI_DEVICE_OPEN";
    /// Close SPI device.
    0x0642 SpiDeviceClose "SPI_DEVICE_CLOSE";
    /// Configure mode, speed, bits.
    0x0643 SpiConfigure "SPI_CONFIGURE";
    /// Full-duplex SPI transfer.
    0x0644 SpiTransfer "SPI_TRANSFER";
    /// SPI write-only.
    0x0645 SpiWrite "SPI_WRITE";
    /// SPI read-only.
    0x0646 SpiRead "SPI_READ";
    /// List CAN interfaces.
    0x0650 CanInterfaceList "CAN_INTERFACE_LIST";
    /// Open CAN interface.
    0x0651 CanInterfaceOpen "CAN_INTERFACE_OPEN";
    /// Close CAN interface.
    0x0652 CanInterfaceClose "CAN_INTERFACE_CLOSE";
    /// Configure bitrate, mode.
    0x0653 CanConfigure "CAN_CONFIGURE";
    /// Send CAN frame.
    0x0654 CanFrameSend "CAN_FRAME_SEND";
    /// Receive CAN frame.
    0x0655 CanFrameReceive "CAN_FRAME_RECEIVE";
    /// Set receive filter.
    0x0656 CanFilterSet "CAN_FILTER_SET";
    /// Get error counters.
    0x0657 CanErrorStatus "CAN_ERROR_STATUS";
    /// List 1-Wire buses.
    0x0660 OnewireBusList "ONEWIRE_BUS_LIST";
    /// Search for devices.
    0x0661 OnewireSearch "ONEWIRE_SEARCH";
    /// Reset bus.
    0x0662 OnewireReset "ONEWIRE_RESET";
    /// Read device ROM.
    0x0663 OnewireReadRom "ONEWIRE_READ_ROM";
    /// Select device by ROM.
    0x0664 OnewireMatchRom "ONEWIRE_MATCH_ROM";
    /// Skip ROM (single device).
    0x0665 OnewireSkipRom "ONEWIRE_SKIP_ROM";
    /// Read bytes.
    0x0666 OnewireRead "ONEWIRE_READ";
    /// Write bytes.
    0x0667 OnewireWrite "ONEWIRE_WRITE";
    /// Container of frames (profile 9.1).
    0xF000 Record "RECORD";
    /// Resumption ticket event (profile 14.5).
    0xF001 Ticket "TICKET";
    /// Enrolment of a new node (profile 5.4).
    0xF002 Enrol "ENROL";
    /// Revocation list and family PSK (profile 19.1).
    0xF003 FamilyUpdate "FAMILY_UPDATE";
    /// End-to-end relay stream (profile 9.4).
    0xF004 RelayOpen "RELAY_OPEN";
}

impl Opcode {
    /// True for the opcodes whose Tier 4 messages are not sealed, because they make the keys
    /// (profile 3.1).
    pub const fn is_handshake(self) -> bool {
        matches!(
            self,
            Self::KeyExchangeInit
                | Self::KeyExchangeResponse
                | Self::KeyExchangeComplete
                | Self::SessionResume
                | Self::SessionResumed
        )
    }

    /// The only tier at which the opcode may stand, where there is only one (profile 6.2 and 17.1).
    pub const fn exact_tier(self) -> Option<Tier> {
        if matches!(self, Self::SessionInit | Self::SessionAck) {
            Some(Tier::T2)
        } else if self.is_handshake() || matches!(self, Self::SessionRotate | Self::SessionRevoke) {
            Some(Tier::T4)
        } else {
            None
        }
    }

    /// True for the session and key management range 0x0000–0x00FF, which never travels as a frame
    /// (profile 9.1).
    pub const fn is_core(self) -> bool {
        self.to_u16() < 0x0100
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "opcode 0x{:04x}", self.to_u16()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_both_ways() {
        for code in 0..=u16::MAX {
            assert_eq!(Opcode::from_u16(code).to_u16(), code);
        }
    }

    #[test]
    fn the_registry_is_ascending_and_named() {
        for pair in Opcode::ALL.windows(2) {
            assert!(pair[0].to_u16() < pair[1].to_u16());
        }
        assert!(Opcode::ALL.iter().all(|op| op.name().is_some()));
        assert_eq!(Opcode::from_u16(0x0013).name(), None);
    }

    /// Draft 6.1 to 6.3 and profile 19.1.
    #[test]
    fn the_registry_has_every_operation_of_draft_and_profile_and_no_other() {
        let ranges = [
            0x0000..=0x0008,
            0x0010..=0x0012,
            0x0016..=0x0017,
            0x0200..=0x0207,
            0x0210..=0x0216,
            0x0220..=0x0224,
            0x0240..=0x0248,
            0x0600..=0x060B,
            0x0610..=0x0618,
            0x0620..=0x0629,
            0x0630..=0x0637,
            0x0640..=0x0646,
            0x0650..=0x0657,
            0x0660..=0x0667,
            0xF000..=0xF004,
        ];
        let registry: Vec<u16> = ranges.into_iter().flatten().collect();
        let ours: Vec<u16> = Opcode::ALL.iter().map(|opcode| opcode.to_u16()).collect();
        assert_eq!(ours, registry);
    }

    #[test]
    fn opcodes_that_make_keys_stand_at_tier_4_only() {
        for opcode in Opcode::ALL {
            if opcode.is_handshake() {
                assert_eq!(opcode.exact_tier(), Some(Tier::T4));
            }
        }
        assert_eq!(Opcode::SessionRotate.exact_tier(), Some(Tier::T4));
        assert_eq!(Opcode::SessionInit.exact_tier(), Some(Tier::T2));
        assert_eq!(Opcode::SessionClose.exact_tier(), None);
        assert_eq!(Opcode::UsbBulkTransfer.exact_tier(), None);
    }

    #[test]
    fn only_the_first_256_numbers_are_core() {
        assert!(Opcode::SessionRevoke.is_core());
        assert!(!Opcode::DeviceList.is_core());
        assert!(!Opcode::Record.is_core());
    }
}
