//! The ROM code that each device has, and the CRC of the bus.

use core::fmt;

/// A DS28E04, whose lowest address bits are set by pins that its CRC does not cover.
const DS28E04: u8 = 0x1C;

/// A ROM code as it goes over the bus: family, six bytes of serial number with the lowest first, CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rom(pub [u8; 8]);

impl Rom {
    /// The code of that family and number, of which the lowest 48 bits count.
    pub fn new(family: u8, number: u64) -> Self {
        let mut code = number.to_le_bytes();
        code.rotate_right(1);
        code[0] = family;
        code[7] = crc8(&code[..7]);
        Self(code)
    }

    /// The kind of device.
    pub const fn family(self) -> u8 {
        self.0[0]
    }

    /// Whether the CRC is that of the other bytes, by the rule of the kernel (drivers/w1/w1.c
    /// `w1_addr_crc_is_valid`).
    pub fn is_valid(self) -> bool {
        let Self([mut bytes @ .., crc]) = self;
        if bytes[0] == DS28E04 && crc8(&bytes) != crc {
            bytes[1] |= 0x7F;
        }
        crc8(&bytes) == crc
    }
}

impl fmt::Display for Rom {
    /// As the kernel names its devices: `28-0000055c4e1f`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [family, number @ .., _] = self.0;
        write!(formatter, "{family:02x}-")?;
        let mut digits = number.iter().rev();
        digits.try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The CRC-8 of the bus: x^8 + x^5 + x^4 + 1, lowest bit first, from 0 (Maxim application note 27). That
/// of data with its CRC behind it is 0.
pub const fn crc8(bytes: &[u8]) -> u8 {
    let mut crc = 0;
    let mut at = 0;
    while at < bytes.len() {
        crc ^= bytes[at];
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0x8C
            };
            bit += 1;
        }
        at += 1;
    }
    crc
}
