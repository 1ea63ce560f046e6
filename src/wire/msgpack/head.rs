//! The first bytes of a MessagePack value: its type with its value, or its type with its length.

use rmp::Marker;

use super::DecodeError;

/// A scalar with its value, or a container with its number of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Head<'a> {
    Nil,
    Bool(bool),
    /// Any integer that is not negative, in whatever form it came.
    Uint(u64),
    /// A negative integer.
    Int(i64),
    Float(f64),
    /// Not yet known to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Array(usize),
    /// Number of entries, each a key and a value.
    Map(usize),
}

/// An integer of either sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Integer {
    Unsigned(u64),
    Negative(i64),
}

impl<'a> Head<'a> {
    pub(super) const fn integer(&self) -> Option<Integer> {
        match self {
            Self::Uint(value) => Some(Integer::Unsigned(*value)),
            Self::Int(value) => Some(Integer::Negative(*value)),
            Self::Nil
            | Self::Bool(_)
            | Self::Float(_)
            | Self::Str(_)
            | Self::Bin(_)
            | Self::Array(_)
            | Self::Map(_) => None,
        }
    }

    /// Takes one head off the front; of `Array` and `Map` the elements remain in `rest`.
    ///
    /// # Errors
    /// `Truncated`, also when a container declares more elements than bytes are left; `Reserved`;
    /// `Ext`.
    pub(super) fn take(rest: &mut &'a [u8]) -> Result<Self, DecodeError> {
        let [marker] = *chunk(rest)?;
        Ok(match Marker::from_u8(marker) {
            Marker::FixPos(value) => Self::Uint(u64::from(value)),
            Marker::FixNeg(value) => Self::Int(i64::from(value)),
            Marker::Null => Self::Nil,
            Marker::False => Self::Bool(false),
            Marker::True => Self::Bool(true),
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
                Self::Uint(unsigned(rest, 1 << (marker & 3))?)
            }
            Marker::I8 => Self::signed(i64::from(i8::from_be_bytes(*chunk(rest)?))),
            Marker::I16 => Self::signed(i64::from(i16::from_be_bytes(*chunk(rest)?))),
            Marker::I32 => Self::signed(i64::from(i32::from_be_bytes(*chunk(rest)?))),
            Marker::I64 => Self::signed(i64::from_be_bytes(*chunk(rest)?)),
            Marker::F32 => Self::Float(f64::from(f32::from_be_bytes(*chunk(rest)?))),
            Marker::F64 => Self::Float(f64::from_be_bytes(*chunk(rest)?)),
            Marker::FixStr(length) => Self::Str(bytes(rest, u64::from(length))?),
            Marker::Str8 => Self::Str(sized(rest, 1)?),
            Marker::Str16 => Self::Str(sized(rest, 2)?),
            Marker::Str32 => Self::Str(sized(rest, 4)?),
            Marker::Bin8 => Self::Bin(sized(rest, 1)?),
            Marker::Bin16 => Self::Bin(sized(rest, 2)?),
            Marker::Bin32 => Self::Bin(sized(rest, 4)?),
            Marker::FixArray(count) => Self::Array(elements(rest, u64::from(count), 1)?),
            Marker::Array16 => Self::Array(counted(rest, 2, 1)?),
            Marker::Array32 => Self::Array(counted(rest, 4, 1)?),
            Marker::FixMap(count) => Self::Map(elements(rest, u64::from(count), 2)?),
            Marker::Map16 => Self::Map(counted(rest, 2, 2)?),
            Marker::Map32 => Self::Map(counted(rest, 4, 2)?),
            Marker::Reserved => return Err(DecodeError::Reserved),
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32 => return Err(DecodeError::Ext),
        })
    }

    const fn signed(value: i64) -> Self {
        if value < 0 {
            Self::Int(value)
        } else {
            Self::Uint(value.unsigned_abs())
        }
    }
}

fn chunk<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], DecodeError> {
    let (head, tail) = rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn bytes<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
    let (head, tail) = rest
        .split_at_checked(length)
        .ok_or(DecodeError::Truncated)?;
    *rest = tail;
    Ok(head)
}

/// A big-endian unsigned integer of `width` bytes, at most 8.
fn unsigned(rest: &mut &[u8], width: u64) -> Result<u64, DecodeError> {
    Ok(bytes(rest, width)?
        .iter()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

fn sized<'a>(rest: &mut &'a [u8], width: u64) -> Result<&'a [u8], DecodeError> {
    let length = unsigned(rest, width)?;
    bytes(rest, length)
}

fn counted(rest: &mut &[u8], width: u64, smallest: u64) -> Result<usize, DecodeError> {
    let count = unsigned(rest, width)?;
    elements(rest, count, smallest)
}

/// Every element takes at least `smallest` bytes, so a count that cannot fit is refused before
/// anybody allocates for it.
fn elements(rest: &[u8], count: u64, smallest: u64) -> Result<usize, DecodeError> {
    match usize::try_from(count.saturating_mul(smallest)) {
        Ok(least) if least <= rest.len() => {
            usize::try_from(count).map_err(|_| DecodeError::Truncated)
        }
        _ => Err(DecodeError::Truncated),
    }
}
