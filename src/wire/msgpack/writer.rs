//! Appends values in the shortest form, without a serde tree.

use rmp::Marker;

/// Appends values to a buffer, each in its shortest form (profile 4.2).
///
/// The order of map entries is the caller's business: ascending by encoded key.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// An array's header; `count` elements follow.
    pub fn array(&mut self, count: u32) {
        match (u8::try_from(count), u16::try_from(count)) {
            (Ok(small), _) if small < 16 => self.marker(Marker::FixArray(small)),
            (_, Ok(middle)) => self.with(Marker::Array16, &middle.to_be_bytes()),
            (_, Err(_)) => self.with(Marker::Array32, &count.to_be_bytes()),
        }
    }

    /// A map's header; `count` keys and values follow.
    pub fn map(&mut self, count: u32) {
        match (u8::try_from(count), u16::try_from(count)) {
            (Ok(small), _) if small < 16 => self.marker(Marker::FixMap(small)),
            (_, Ok(middle)) => self.with(Marker::Map16, &middle.to_be_bytes()),
            (_, Err(_)) => self.with(Marker::Map32, &count.to_be_bytes()),
        }
    }

    /// An integer that is not negative.
    pub fn uint(&mut self, value: impl Into<u64>) {
        let value = value.into();
        let [.., b4, b5, b6, b7] = value.to_be_bytes();
        match value {
            0..=0x7F => self.marker(Marker::FixPos(b7)),
            0x80..=0xFF => self.with(Marker::U8, &[b7]),
            0x100..=0xFFFF => self.with(Marker::U16, &[b6, b7]),
            0x1_0000..=0xFFFF_FFFF => self.with(Marker::U32, &[b4, b5, b6, b7]),
            0x1_0000_0000.. => self.with(Marker::U64, &value.to_be_bytes()),
        }
    }

    /// An integer.
    pub fn int(&mut self, value: impl Into<i64>) {
        let value = value.into();
        let [.., b4, b5, b6, b7] = value.to_be_bytes();
        match value {
            0.. => self.uint(value.unsigned_abs()),
            -0x20..=-1 => self.marker(Marker::FixNeg(i8::from_be_bytes([b7]))),
            -0x80..=-0x21 => self.with(Marker::I8, &[b7]),
            -0x8000..=-0x81 => self.with(Marker::I16, &[b6, b7]),
            -0x8000_0000..=-0x8001 => self.with(Marker::I32, &[b4, b5, b6, b7]),
            ..=-0x8000_0001 => self.with(Marker::I64, &value.to_be_bytes()),
        }
    }

    /// A byte string's header; `length` bytes follow, appended by the caller.
    pub fn bin_header(&mut self, length: u32) {
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(small), _) => self.with(Marker::Bin8, &[small]),
            (_, Ok(middle)) => self.with(Marker::Bin16, &middle.to_be_bytes()),
            (_, Err(_)) => self.with(Marker::Bin32, &length.to_be_bytes()),
        }
    }

    /// A byte string. MessagePack ends at 2^32 - 1 bytes; what lies beyond is cut off.
    pub fn bin(&mut self, bytes: &[u8]) {
        let (length, bytes) = fitting(bytes);
        self.bin_header(length);
        self.out.extend_from_slice(bytes);
    }

    /// A text string. MessagePack ends at 2^32 - 1 bytes; what lies beyond is cut off.
    pub fn str(&mut self, text: &str) {
        let (length, bytes) = fitting(text.as_bytes());
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(small), _) if small < 32 => self.marker(Marker::FixStr(small)),
            (Ok(small), _) => self.with(Marker::Str8, &[small]),
            (_, Ok(middle)) => self.with(Marker::Str16, &middle.to_be_bytes()),
            (_, Err(_)) => self.with(Marker::Str32, &length.to_be_bytes()),
        }
        self.out.extend_from_slice(bytes);
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.marker(if value { Marker::True } else { Marker::False });
    }

    /// Nil.
    pub fn nil(&mut self) {
        self.marker(Marker::Null);
    }

    /// Bytes that are already one encoded value.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    fn marker(&mut self, marker: Marker) {
        self.out.push(marker.to_u8());
    }

    fn with(&mut self, marker: Marker, bytes: &[u8]) {
        self.marker(marker);
        self.out.extend_from_slice(bytes);
    }
}

fn fitting(bytes: &[u8]) -> (u32, &[u8]) {
    match u32::try_from(bytes.len()) {
        Ok(length) => (length, bytes),
        Err(_) => (u32::MAX, bytes.get(..0xFFFF_FFFF).unwrap_or(bytes)),
    }
}
