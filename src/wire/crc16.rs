//! CRC-16/IBM-3740, the trailer of Tier 2 messages (profile 3.3, A-16). It detects accidents, not
//! attackers.

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut index = 0u16;
    while index < 256 {
        let mut crc = index << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
};

/// The checksum of `bytes`: polynomial 0x1021, initial value 0xFFFF, no reflection, no final xor.
pub fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ TABLE[usize::from(high ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn the_catalogue_check_value_holds() {
        assert_eq!(checksum(b"123456789"), 0x29B1);
        assert_eq!(checksum(b""), 0xFFFF);
    }
}
