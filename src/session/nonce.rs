//! The message counter: on the wire, reconstructed, and in the AEAD nonce (profile 8.1, 8.2).

/// A sender stops before its counter reaches this value (profile 8.1).
pub const COUNTER_LIMIT: u32 = u32::MAX - 65535;

/// What the header carries of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireCounter {
    /// Sequence: counter bits 0–7.
    pub sequence: u8,
    /// Nonce: counter bits 8–23, masked.
    pub nonce: u16,
}

/// Low half of `Random32`.
const fn mask(random32: u32) -> u32 {
    random32 & 0xFFFF
}

/// The header fields of counter `ctr`.
pub fn to_wire(ctr: u32, random32: u32) -> WireCounter {
    let [_, high, middle, low] = ctr.to_be_bytes();
    let [_, _, mask_high, mask_low] = random32.to_be_bytes();
    WireCounter {
        sequence: low,
        nonce: u16::from_be_bytes([high ^ mask_high, middle ^ mask_low]),
    }
}

/// The 24 counter bits that a header carries.
pub fn from_wire(wire: WireCounter, random32: u32) -> u32 {
    ((u32::from(wire.nonce) ^ mask(random32)) << 8) | u32::from(wire.sequence)
}

/// The counter nearest to the one after `highest` whose low 24 bits are `low24` (RFC 9000
/// appendix A.3). `None` when it would not fit 32 bits.
pub fn reconstruct(low24: u32, highest: Option<u32>) -> Option<u32> {
    const WINDOW: i64 = 1 << 24;
    const HALF: i64 = WINDOW / 2;
    let next = highest.map_or(0, |highest| i64::from(highest) + 1);
    let candidate = (next & !(WINDOW - 1)) | i64::from(low24 & 0x00FF_FFFF);
    let nearest = if candidate <= next - HALF && candidate + WINDOW < 1 << 32 {
        candidate + WINDOW
    } else if candidate > next + HALF && candidate >= WINDOW {
        candidate - WINDOW
    } else {
        candidate
    };
    u32::try_from(nearest).ok()
}

/// The 96-bit AEAD nonce of draft section 4.
pub fn aead_nonce(timestamp: u32, random32: u32, ctr: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&timestamp.to_be_bytes());
    nonce[4..8].copy_from_slice(&random32.to_be_bytes());
    nonce[8..].copy_from_slice(&ctr.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_the_counter_space_is_not_wrapped() {
        assert_eq!(reconstruct(0, Some(u32::MAX)), None);
        assert_eq!(reconstruct(0x00FF_FFFF, Some(u32::MAX - 1)), Some(u32::MAX));
    }

    proptest! {
        #[test]
        fn any_counter_within_half_a_window_is_found_again(
            ctr in any::<u32>(), random32 in any::<u32>(), ahead in -(1i64 << 23) + 1..(1i64 << 23),
        ) {
            let highest = i64::from(ctr) - 1 + ahead;
            prop_assume!((-1..1 << 32).contains(&highest));
            let highest = u32::try_from(highest).ok();
            let low24 = from_wire(to_wire(ctr, random32), random32);
            prop_assert_eq!(reconstruct(low24, highest), Some(ctr));
        }
    }
}
