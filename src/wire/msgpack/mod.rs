//! MessagePack as profile 4 restricts it: one object per payload, deterministic when written,
//! checked against fixed limits before anything is built from it when read.
//!
//! Control payloads go through serde ([`encode`], [`decode`]); the hot fixed-shape arrays of the
//! buses go through [`Reader`] and [`Writer`], which neither copy nor build a tree.

mod canonical;
mod check;
mod de;
mod head;
mod reader;
mod value;
mod writer;

pub use check::{Rules, check};
pub use reader::Reader;
pub use value::Value;
pub use writer::Writer;

use serde::{Deserialize, Serialize};

/// Why bytes are not an acceptable payload (profile 4.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value, or a declared length is larger than the bytes left.
    #[error("the payload ends inside a value")]
    Truncated,
    /// Bytes follow the one object of a payload.
    #[error("{0} bytes follow the payload's object")]
    Trailing(usize),
    /// The byte 0xC1, which MessagePack never uses.
    #[error("0xc1 is not MessagePack")]
    Reserved,
    /// Extension types are not allowed.
    #[error("an extension type")]
    Ext,
    /// Arrays and maps nest deeper than the rules allow.
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// A map has more entries than the rules allow.
    #[error("a map with {0} entries")]
    MapEntries(usize),
    /// An array has more elements than the rules allow.
    #[error("an array with {0} elements")]
    ArrayElements(usize),
    /// A string is longer than the rules allow.
    #[error("a string of {0} bytes")]
    StrBytes(usize),
    /// A string is not UTF-8.
    #[error("a string that is not UTF-8")]
    Utf8,
    /// A map has the same key twice.
    #[error("a duplicate map key")]
    DuplicateKey,
    /// A map key is itself an array or a map.
    #[error("a map key that is an array or a map")]
    CompositeKey,
    /// A value of another type was required.
    #[error("expected {0}")]
    Expected(&'static str),
    /// An integer outside the range of its field.
    #[error("an integer out of range")]
    Range,
    /// The object is well formed but not what the operation defines.
    #[error("wrong shape: {0}")]
    Shape(String),
}

/// Why a value cannot be written as a payload.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The type's own serialisation failed.
    #[error("the value cannot be serialised")]
    Serialize(#[from] rmp_serde::encode::Error),
    /// The serialisation used something that profile 4 does not allow.
    #[error("the value is not allowed in a payload")]
    NotAllowed(#[source] DecodeError),
}

/// Encodes a value in the deterministic form of profile 4.2: shortest integers and lengths, structs
/// as maps, map entries sorted by the bytes of the encoded key whatever the order of the fields.
///
/// Byte strings need `#[serde(with = "serde_bytes")]`.
///
/// # Errors
/// [`EncodeError`] when the value's `Serialize` fails, writes a duplicate key or an extension type.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let loose = rmp_serde::to_vec_named(value)?;
    canonical::sorted(&loose).map_err(EncodeError::NotAllowed)
}

/// Decodes a payload that must be exactly one object within [`Rules::DEFAULT`].
///
/// Structs are read from maps with text keys only, in any order; unknown keys are ignored, and so
/// are extra trailing elements of tuples (profile 4.2).
///
/// # Errors
/// [`DecodeError`] when a rule of profile 4.2 is broken or the object has another shape.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    decode_with(bytes, &Rules::DEFAULT)
}

/// Reads `{}`, which may also be no bytes at all (profile 4.2). Unknown keys are ignored.
///
/// # Errors
/// [`DecodeError`] when it is anything but a map.
pub fn decode_empty(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(bytes);
    reader.clone().map_header()?;
    reader.skip_value()?;
    reader.finish()
}

/// [`decode`] for operations that set their own limits.
///
/// # Errors
/// As [`decode`].
pub fn decode_with<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    rules: &Rules,
) -> Result<T, DecodeError> {
    check(bytes, rules)?;
    let mut reader = de::Deserializer::new(bytes);
    T::deserialize(&mut reader)
}

/// [`decode`] where zero bytes mean "no parameters" (profile 4.2).
///
/// # Errors
/// As [`decode`], for a payload that is not empty.
pub fn decode_or_default<'a, T: Deserialize<'a> + Default>(
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    if bytes.is_empty() {
        Ok(T::default())
    } else {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests;
