//! Variable-length integers of RFC 9000 section 16: 1, 2, 4 or 8 bytes, the two top bits of the
//! first byte tell which. Non-minimal forms are legal (profile 9.2).

/// The largest value a varint can hold: 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Reads a varint from the front of `bytes` and returns it with the rest; `None` when the bytes end
/// before it does.
pub fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let (head, rest) = bytes.split_at_checked(length)?;
    let value = head[1..]
        .iter()
        .fold(u64::from(first & 0x3F), |value, byte| {
            (value << 8) | u64::from(*byte)
        });
    Some((value, rest))
}

/// The length in bytes of the shortest form of `value`; 8 also for values above [`MAX`].
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3F => 1,
        0x40..=0x3FFF => 2,
        0x4000..=0x3FFF_FFFF => 4,
        _ => 8,
    }
}

/// Appends the shortest form of `value`; values above [`MAX`] are capped to it.
pub fn write(out: &mut Vec<u8>, value: u64) {
    let value = value.min(MAX);
    let bytes = value.to_be_bytes();
    let start = out.len();
    let (tag, from) = match len(value) {
        1 => (0x00, 7),
        2 => (0x40, 6),
        4 => (0x80, 4),
        _ => (0xC0, 0),
    };
    out.extend_from_slice(&bytes[from..]);
    out[start] |= tag;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn boundaries_have_the_length_of_the_table_in_rfc_9000() {
        for (value, length) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16383, 2),
            (16384, 4),
            ((1 << 30) - 1, 4),
            (1 << 30, 8),
            (MAX, 8),
        ] {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!((out.len(), len(value)), (length, length));
            assert_eq!(read(&out), Some((value, &[][..])));
        }
    }

    #[test]
    fn longer_forms_of_small_values_are_read() {
        assert_eq!(read(&[0x40, 5, 9]), Some((5, &[9][..])));
        assert_eq!(read(&[0x80, 0, 0, 5]), Some((5, &[][..])));
        assert_eq!(read(&[0xC0, 0, 0, 0, 0, 0, 0, 5]), Some((5, &[][..])));
    }

    #[test]
    fn a_cut_varint_is_none() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x40]), None);
        assert_eq!(read(&[0xC0, 0, 0, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_value_survives(value in 0..=MAX, tail in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut out = Vec::new();
            write(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend_from_slice(&tail);
            prop_assert_eq!(read(&out), Some((value, tail.as_slice())));
        }
    }
}
