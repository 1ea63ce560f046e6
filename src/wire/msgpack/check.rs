//! The rules of profile 4.2, enforced before anything is built from a payload.

use super::DecodeError;
use super::head::Head;

/// Limits on one payload (profile 4.2 and 18). Byte strings are bounded by the payload itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Arrays and maps inside each other, the outermost counted.
    pub depth: usize,
    /// Entries of one map.
    pub map: usize,
    /// Elements of one array.
    pub array: usize,
    /// Bytes of one string.
    pub str: usize,
}

impl Rules {
    /// The limits that hold unless an operation says otherwise.
    pub const DEFAULT: Self = Self {
        depth: 8,
        map: 64,
        array: 4096,
        str: 4096,
    };

    pub(super) const fn array_allowed(&self, count: usize) -> Result<usize, DecodeError> {
        if count > self.array {
            return Err(DecodeError::ArrayElements(count));
        }
        Ok(count)
    }

    pub(super) const fn map_allowed(&self, count: usize) -> Result<usize, DecodeError> {
        if count > self.map {
            return Err(DecodeError::MapEntries(count));
        }
        Ok(count)
    }

    pub(super) fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, DecodeError> {
        if bytes.len() > self.str {
            return Err(DecodeError::StrBytes(bytes.len()));
        }
        core::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Verifies that `bytes` are exactly one object within the rules of profile 4.2.
///
/// # Errors
/// The first [`DecodeError`] found; never `Expected`, `Range` or `Shape`.
pub fn check(bytes: &[u8], rules: &Rules) -> Result<(), DecodeError> {
    let mut rest = bytes;
    value(&mut rest, rules, 0)?;
    match rest.len() {
        0 => Ok(()),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// A scalar as a map key. Comparing values, not encodings, finds a key repeated in another width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'a> {
    Nil,
    Bool(bool),
    Uint(u64),
    Int(i64),
    Float(u64),
    Str(&'a str),
    Bin(&'a [u8]),
}

/// Takes one value off the front that stands inside `outer` containers; returns it when it is a
/// scalar.
pub(super) fn value<'a>(
    rest: &mut &'a [u8],
    rules: &Rules,
    outer: usize,
) -> Result<Option<Key<'a>>, DecodeError> {
    let head = Head::take(rest)?;
    if matches!(head, Head::Array(_) | Head::Map(_)) && outer >= rules.depth {
        return Err(DecodeError::Depth(rules.depth));
    }
    Ok(Some(match head {
        Head::Nil => Key::Nil,
        Head::Bool(value) => Key::Bool(value),
        Head::Uint(value) => Key::Uint(value),
        Head::Int(value) => Key::Int(value),
        Head::Float(value) => Key::Float(value.to_bits()),
        Head::Str(bytes) => Key::Str(rules.text(bytes)?),
        Head::Bin(bytes) => Key::Bin(bytes),
        Head::Array(count) => {
            for _ in 0..rules.array_allowed(count)? {
                value(rest, rules, outer + 1)?;
            }
            return Ok(None);
        }
        Head::Map(count) => {
            map(rest, rules, rules.map_allowed(count)?, outer + 1)?;
            return Ok(None);
        }
    }))
}

fn map(rest: &mut &[u8], rules: &Rules, count: usize, outer: usize) -> Result<(), DecodeError> {
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        keys.push(value(rest, rules, outer)?.ok_or(DecodeError::CompositeKey)?);
        value(rest, rules, outer)?;
    }
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(DecodeError::DuplicateKey);
    }
    Ok(())
}
