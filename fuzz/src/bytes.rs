//! Reads decisions out of a fuzzer's bytes. When they are used up everything is 0.

/// What is left of an input.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// All of it.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// True when nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Two bytes, the low one first.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Four bytes, the low one first.
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// A length: mostly short, sometimes up to 16 bits, rarely more than anything may have.
    pub fn length(&mut self) -> u32 {
        match self.u8() {
            short @ 0..=0xdf => short.into(),
            0xe0..=0xfd => self.u16().into(),
            0xfe => 16 << 20,
            0xff => self.u32(),
        }
    }

    /// True for an odd byte.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// Up to that many bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One of several things; `None` when there are none.
    pub fn pick<'t, T>(&mut self, things: &'t [T]) -> Option<&'t T> {
        let at = usize::from(self.u8());
        things.get(at.checked_rem(things.len())?)
    }
}
