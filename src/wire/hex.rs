//! Lower-case hexadecimal, the form in which ids and keys stand in files and on screens.

/// The bytes as lower-case hexadecimal digits.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    encode_into(bytes, &mut out);
    out
}

/// Appends the digits; does not move `out` when it has room for two digits a byte.
pub fn encode_into(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0x0f] {
            out.push(char::from(DIGITS[usize::from(nibble)]));
        }
    }
}

/// Exactly `N` bytes from `2 * N` hexadecimal digits of either case; anything else is `None`.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    decode_into(text, &mut out).then_some(out)
}

/// Any whole number of bytes; `None` on an odd count or a foreign character.
pub fn decode_vec(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![0; text.len() / 2];
    decode_into(text, &mut out).then_some(out)
}

/// Fills `out` from exactly twice as many digits; false when the text does not fit, in which case
/// the content of `out` is unspecified.
pub fn decode_into(text: &str, out: &mut [u8]) -> bool {
    if text.len() != out.len() * 2 {
        return false;
    }
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return false };
        let (Some(high), Some(low)) = (nibble(high), nibble(low)) else {
            return false;
        };
        *slot = high << 4 | low;
    }
    true
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        0..=b'/' | b':'..=b'@' | b'G'..=b'`' | b'g'..=u8::MAX => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_both_ways() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(decode_vec(&encode(&all)), Some(all));
    }

    #[test]
    fn a_wrong_length_or_letter_is_refused() {
        assert_eq!(decode::<2>("00ff"), Some([0x00, 0xff]));
        assert_eq!(decode::<2>("00FF"), Some([0x00, 0xff]));
        assert_eq!(decode::<2>("00f"), None);
        assert_eq!(decode::<2>("00fg"), None);
        assert_eq!(decode::<2>("00ff0"), None);
        assert_eq!(decode_vec("abc"), None);
        assert_eq!(decode_vec("é0"), None);
    }
}
