//! The five traffic classes of the scheduler (profile 11.3).

use core::fmt;

/// What a frame competes as when a record is filled; a lower number goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// CREDIT, CANCEL, RESET and the core opcodes.
    Control = 0,
    /// USB interrupt transfers, HID streams, GPIO events, CAN, serial control lines.
    Interrupt = 1,
    /// USB isochronous transfers, audio and video streams.
    Media = 2,
    /// Requests on stream 0, I2C, SPI, 1-Wire, GPIO, serial data.
    Interactive = 3,
    /// USB bulk transfers above 4 KiB and other large payloads.
    Bulk = 4,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 5] = [
        Self::Control,
        Self::Interrupt,
        Self::Media,
        Self::Interactive,
        Self::Bulk,
    ];

    /// The number of profile 11.3, 0–4; also an index into a table of five.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Interrupt => "interrupt",
            Self::Media => "media",
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn the_order_is_that_of_the_profile_table() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(class.to_u8()), index);
        }
        assert!(Class::Interrupt < Class::Bulk);
    }
}
