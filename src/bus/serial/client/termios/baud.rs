//! Speeds and the codes that stand for them in `c_cflag` (kernel `drivers/tty/tty_baudrate.c`).

/// The bits of the code.
pub const CBAUD: u32 = 0o10017;
/// The bit of the second half of the codes.
const CBAUDEX: u32 = 0o10000;
/// The code of a speed that stands in its own field.
pub const BOTHER: u32 = 0o10000;
/// The code of 9600 bit/s.
pub const B9600: u32 = 0o15;
/// How far to the left the code of the input's speed stands.
pub const IBSHIFT: u32 = 16;

/// Bits per second, by the code's low bits; then those of the second half, from 1.
const SLOW: [u32; 16] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400,
];
const FAST: [u32; 15] = [
    57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
    2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

/// The speed of a code; `other` where the code says that it stands elsewhere.
pub fn speed(code: u32, other: u32) -> u32 {
    if code == BOTHER {
        return other;
    }
    let low = usize::try_from(code & 0o17).unwrap_or_default();
    let speed = if code & CBAUDEX == 0 {
        SLOW.get(low)
    } else {
        low.checked_sub(1).and_then(|index| FAST.get(index))
    };
    speed.copied().unwrap_or(other)
}

/// The code of the speed that is within 2 % of the given one, or [`BOTHER`].
pub fn code(speed: u32) -> u32 {
    let near = |&of: &u32| of.abs_diff(speed) <= speed / 50;
    if let Some(index) = SLOW.iter().position(near) {
        return u32::try_from(index).unwrap_or(BOTHER);
    }
    let index = FAST.iter().position(near);
    index
        .and_then(|index| u32::try_from(index + 1).ok())
        .map_or(BOTHER, |low| CBAUDEX | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_speed() {
        for code_of in (0..16).chain(0o10001..=0o10017) {
            assert_eq!(code(speed(code_of, 1)), code_of, "{code_of:o}");
        }
        assert_eq!(speed(B9600, 1), 9600);
        assert_eq!(speed(0o10002, 1), 115_200);
        assert_eq!(speed(0o10017, 1), 4_000_000);
    }

    #[test]
    fn a_speed_between_the_codes_has_the_other_one() {
        assert_eq!(code(250_000), BOTHER);
        assert_eq!(speed(BOTHER, 250_000), 250_000);
        assert_eq!(code(115_384), 0o10002);
    }
}
