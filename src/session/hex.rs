//! Identifiers as text.

use core::fmt;

/// Writes bytes as lower-case hex.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes of hex in either case.
pub(crate) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = (*byte << 4) | u8::try_from(value).ok()?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hex_of_the_right_length_is_read() {
        assert_eq!(parse::<2>("00Fe"), Some([0x00, 0xfe]));
        assert_eq!(parse::<2>("00f"), None);
        assert_eq!(parse::<2>("00fe0"), None);
        assert_eq!(parse::<2>("0\u{e4}f"), None);
        assert_eq!(parse::<2>("+1+1"), None);
    }
}
