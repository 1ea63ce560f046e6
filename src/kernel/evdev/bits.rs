//! Sets of event codes.

use std::collections::BTreeSet;

use core::ffi::c_ulong;

/// Bits of one word of a kernel bitmap.
const WORD: u16 = if size_of::<c_ulong>() == 8 { 64 } else { 32 };

/// A set of event codes of one kind, or of kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes(BTreeSet<u16>);

impl Codes {
    /// No code.
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether that code is in it.
    pub fn has(&self, code: u16) -> bool {
        self.0.contains(&code)
    }

    /// Puts a code in, or takes it out.
    pub fn set(&mut self, code: u16, on: bool) {
        if on {
            self.0.insert(code);
        } else {
            self.0.remove(&code);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The codes in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u16> + '_ {
        self.0.iter().copied()
    }

    /// Keeps only codes for which this is true.
    pub fn retain(&mut self, keep: impl FnMut(&u16) -> bool) {
        self.0.retain(keep);
    }

    /// From what the kernel wrote: words in its own order, the lowest codes in the first.
    pub(in crate::kernel) fn from_words(words: &[c_ulong]) -> Self {
        let bit = |code: u16| {
            let word = words.get(usize::from(code / WORD))?;
            Some(word >> (code % WORD) & 1 == 1)
        };
        (0..)
            .take_while(|code| bit(*code).is_some())
            .filter(|code| bit(*code) == Some(true))
            .collect()
    }

    /// As one bit for each code, code 8n+b in bit b of byte n, without zero bytes at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for code in self.iter() {
            let at = usize::from(code / 8);
            bytes.resize(bytes.len().max(at + 1), 0);
            if let Some(byte) = bytes.get_mut(at) {
                *byte |= 1 << (code % 8);
            }
        }
        bytes
    }

    /// The opposite of [`Codes::to_bytes`]; `None` when there is a byte for codes from `count` on.
    pub fn from_bytes(bytes: &[u8], count: u16) -> Option<Self> {
        if bytes.len() > usize::from(count).div_ceil(8) {
            return None;
        }
        let set = |code: &u16| {
            let byte = bytes.get(usize::from(code / 8)).copied();
            byte.unwrap_or(0) >> (code % 8) & 1 == 1
        };
        Some((0..count).filter(set).collect())
    }
}

impl FromIterator<u16> for Codes {
    fn from_iter<I: IntoIterator<Item = u16>>(codes: I) -> Self {
        Self(codes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_as_bytes() {
        let codes: Codes = [0, 7, 8, 30, 0x2FF].into_iter().collect();
        let bytes = codes.to_bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (96, 0x81, 0x01));
        assert_eq!(Codes::from_bytes(&bytes, 0x300), Some(codes));
        assert!(Codes::new().to_bytes().is_empty());
    }

    #[test]
    fn bytes_beyond_the_last_code_are_refused_and_bits_beyond_it_dropped() {
        assert_eq!(Codes::from_bytes(&[0; 4], 0x11), None);
        assert_eq!(
            Codes::from_bytes(&[0, 0, 0xFF], 0x11),
            Some([0x10].into_iter().collect())
        );
    }

    #[test]
    fn the_kernels_words_are_counted_from_their_lowest_bit() {
        let mut words = [0; 2];
        words[0] = 1 << 3;
        words[1] = 1 << 1;
        let wanted: Codes = [3, WORD + 1].into_iter().collect();
        assert_eq!(Codes::from_words(&words), wanted);
    }
}
