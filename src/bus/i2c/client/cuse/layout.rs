//! The structures of programs, of 64 bits and of 32 (include/uapi/linux/i2c-dev.h).

/// `struct i2c_rdwr_ioctl_data`: where the messages are, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) messages: u64,
    pub(super) count: u32,
}

/// `struct i2c_msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) addr: u16,
    pub(super) flags: u16,
    pub(super) len: u16,
    pub(super) buf: u64,
}

/// `struct i2c_smbus_ioctl_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SmbusCall {
    pub(super) read_write: u8,
    pub(super) command: u8,
    pub(super) size: u32,
    pub(super) data: u64,
}

/// Bytes of `unsigned long` and of a pointer.
pub(super) const fn word(compat: bool) -> u32 {
    if compat || size_of::<usize>() == 4 {
        4
    } else {
        8
    }
}

/// Bytes of a [`Header`], and of a [`SmbusCall`] with four more.
pub(super) const fn header(compat: bool) -> u32 {
    2 * word(compat)
}

/// Bytes of an [`Entry`].
pub(super) const fn entry(compat: bool) -> u32 {
    8 + word(compat)
}

/// Bytes of a [`SmbusCall`].
pub(super) const fn smbus(compat: bool) -> u32 {
    8 + word(compat)
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let messages = fields.pointer(bytes.len() / 2)?;
        Some(Self {
            messages,
            count: fields.u32()?,
        })
    }
}

impl Entry {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (addr, flags, len) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let _padding = fields.u16()?;
        Some(Self {
            addr,
            flags,
            len,
            buf: fields.pointer(bytes.len().checked_sub(8)?)?,
        })
    }
}

impl SmbusCall {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let [read_write, command] = fields.take::<2>()?;
        let _padding = fields.u16()?;
        Some(Self {
            read_write,
            command,
            size: fields.u32()?,
            data: fields.pointer(bytes.len().checked_sub(8)?)?,
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn pointer(&mut self, bytes: usize) -> Option<u64> {
        match bytes {
            4 => self.u32().map(u64::from),
            8 => self.take().map(u64::from_ne_bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_of_a_program_of_32_bits_have_four_bytes() {
        let bytes: Vec<u8> = (1..=16).collect();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let short = |at: usize| u64::from(word(at));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let header = Header::parse(&bytes[..8]).unwrap();
        assert_eq!((header.messages, header.count), (short(0), word(4)));
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.messages, header.count), (long(0), word(8)));
        assert_eq!(Entry::parse(&bytes[..12]).unwrap().buf, short(8));
        assert_eq!(Entry::parse(&bytes).unwrap().buf, long(8));
        assert_eq!(SmbusCall::parse(&bytes[..12]).unwrap().data, short(8));
        let call = SmbusCall::parse(&bytes).unwrap();
        assert_eq!((call.size, call.data), (word(4), long(8)));
        assert_eq!((call.read_write, call.command), (1, 2));
    }

    #[test]
    fn the_sizes_are_those_of_both_kinds_of_programs() {
        assert_eq!([header(true), entry(true), smbus(true)], [8, 12, 12]);
        #[cfg(target_pointer_width = "64")]
        assert_eq!([header(false), entry(false), smbus(false)], [16; 3]);
    }

    #[test]
    fn what_is_too_short_is_nothing() {
        for len in 0..8 {
            assert_eq!(Header::parse(&vec![0; len]), None);
            assert_eq!(Entry::parse(&vec![0; len]), None);
            assert_eq!(SmbusCall::parse(&vec![0; len]), None);
        }
    }
}
