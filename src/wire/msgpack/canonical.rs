//! Sorts map entries by the bytes of the encoded key (profile 4.2, RFC 8949 section 4.2.1).

use core::ops::Range;

use super::DecodeError;
use super::head::Head;

/// Copies one object of our own serialiser with every map sorted.
pub(super) fn sorted(object: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(object.len());
    let mut rest = object;
    copy(&mut rest, &mut out)?;
    Ok(out)
}

fn copy(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let before = *rest;
    let head = Head::take(rest)?;
    out.extend_from_slice(before.get(..before.len() - rest.len()).unwrap_or_default());
    match head {
        Head::Nil
        | Head::Bool(_)
        | Head::Uint(_)
        | Head::Int(_)
        | Head::Float(_)
        | Head::Str(_)
        | Head::Bin(_) => Ok(()),
        Head::Array(count) => {
            for _ in 0..count {
                copy(rest, out)?;
            }
            Ok(())
        }
        Head::Map(count) => copy_map(rest, out, count),
    }
}

fn copy_map(rest: &mut &[u8], out: &mut Vec<u8>, count: usize) -> Result<(), DecodeError> {
    let start = out.len();
    let mut entries: Vec<(Range<usize>, Range<usize>)> = Vec::with_capacity(count);
    for _ in 0..count {
        let key = out.len();
        copy(rest, out)?;
        let value = out.len();
        copy(rest, out)?;
        entries.push((key - start..value - start, value - start..out.len() - start));
    }
    let loose = out.split_off(start);
    let part = |range: &Range<usize>| loose.get(range.clone()).unwrap_or_default();
    entries.sort_by(|(left, _), (right, _)| part(left).cmp(part(right)));
    if entries
        .windows(2)
        .any(|pair| part(&pair[0].0) == part(&pair[1].0))
    {
        return Err(DecodeError::DuplicateKey);
    }
    for (key, value) in &entries {
        out.extend_from_slice(part(key));
        out.extend_from_slice(part(value));
    }
    Ok(())
}
