//! Compression containers (profile 13.2).
//!
//! ```text
//! algorithm 1 (0 lz4 block, 1 zstd frame) | uncompressed length 4 | data
//! ```
//!
//! Which payloads may be compressed is decided far above; never USB, serial, HID, CAN or GPIO
//! traffic, keys or tickets.

use zstd::zstd_safe;

/// Bytes before the data.
pub const HEADER_LEN: usize = 5;
/// Largest uncompressed payload, whatever `limits.msg` says.
pub const MAX_UNCOMPRESSED: u32 = 1 << 20;
/// A payload is sent compressed only when that saves at least this many bytes.
pub const LEAST_SAVING: usize = 64;
/// Largest window of a zstd frame: 8 MiB (RFC 8878 section 3.1.1.1.2).
pub const MAX_WINDOW: u64 = 8 << 20;

const ZSTD_LEVEL: i32 = 3;
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// A compressor that both sides selected in `SESSION_ACK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 0: an lz4 block; capability 0.
    Lz4,
    /// 1: exactly one zstd frame; capability 1.
    Zstd,
}

impl Algorithm {
    /// The number in the container, which is also the capability.
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Lz4 => 0,
            Self::Zstd => 1,
        }
    }

    /// The compressor among the capabilities of a session (profile 6.3), of which at most one is.
    pub fn selected(capabilities: &[u64]) -> Option<Self> {
        [Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|algorithm| capabilities.contains(&u64::from(algorithm.to_u8())))
    }
}

/// Why a container cannot be unpacked: 0x10 "decompress".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// Shorter than its header.
    #[error("a compression container is cut")]
    Cut,
    /// Not the selected algorithm.
    #[error("compression algorithm {0} was not selected")]
    Algorithm(u8),
    /// Larger than 1 MiB or our `limits.msg`.
    #[error("{declared} uncompressed bytes where {limit} are allowed")]
    TooLarge {
        /// As announced.
        declared: u32,
        /// Ours.
        limit: u32,
    },
    /// More than 64 times the compressed length plus 1024.
    #[error("{declared} bytes from {compressed}")]
    Ratio {
        /// As announced.
        declared: u32,
        /// Bytes of data.
        compressed: usize,
    },
    /// The zstd frame is not one frame, has a dictionary, too large a window or another length.
    #[error("a zstd frame that the profile does not allow")]
    Frame,
    /// The data are damaged, or yield more or less than declared.
    #[error("the compressed data are damaged")]
    Damaged,
}

/// Packs a payload; `None` when that would not save [`LEAST_SAVING`] bytes, or when the receiver,
/// whose `limits.msg` is `limit`, would have to refuse it.
pub fn compress(algorithm: Algorithm, payload: &[u8], limit: u32) -> Option<Vec<u8>> {
    let declared = u32::try_from(payload.len()).ok()?;
    if declared > limit.min(MAX_UNCOMPRESSED) {
        return None;
    }
    let data = match algorithm {
        Algorithm::Lz4 => lz4_flex::block::compress(payload),
        Algorithm::Zstd => zstd::bulk::compress(payload, ZSTD_LEVEL).ok()?,
    };
    let length = HEADER_LEN + data.len();
    if length + LEAST_SAVING > payload.len() || !ratio_allowed(declared, data.len()) {
        return None;
    }
    let mut container = Vec::with_capacity(length);
    container.push(algorithm.to_u8());
    container.extend_from_slice(&declared.to_be_bytes());
    container.extend_from_slice(&data);
    Some(container)
}

/// Unpacks a container of the selected algorithm; `limit` is our `limits.msg`.
///
/// # Errors
/// [`DecompressError`]. Nothing is allocated before the declared length has passed the bounds, and
/// never more than 64 times the bytes received plus 1024.
pub fn decompress(
    selected: Algorithm,
    container: &[u8],
    limit: u32,
) -> Result<Vec<u8>, DecompressError> {
    let ([number, l0, l1, l2, l3], data) = container
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(DecompressError::Cut)?;
    if *number != selected.to_u8() {
        return Err(DecompressError::Algorithm(*number));
    }
    let declared = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
    let limit = limit.min(MAX_UNCOMPRESSED);
    if declared > limit {
        return Err(DecompressError::TooLarge { declared, limit });
    }
    if !ratio_allowed(declared, data.len()) {
        return Err(DecompressError::Ratio {
            declared,
            compressed: data.len(),
        });
    }
    let length = usize::try_from(declared).map_err(|_| DecompressError::Damaged)?;
    match selected {
        Algorithm::Lz4 => unlz4(data, length),
        Algorithm::Zstd => unzstd(data, length),
    }
}

fn ratio_allowed(declared: u32, compressed: usize) -> bool {
    let compressed = u64::try_from(compressed).unwrap_or(u64::MAX);
    u64::from(declared) <= compressed.saturating_mul(64).saturating_add(1024)
}

fn unlz4(data: &[u8], length: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = vec![0; length];
    match lz4_flex::block::decompress_into(data, &mut out) {
        Ok(produced) if produced == length => Ok(out),
        Ok(_) | Err(_) => Err(DecompressError::Damaged),
    }
}

fn unzstd(data: &[u8], length: usize) -> Result<Vec<u8>, DecompressError> {
    if !zstd_frame_allowed(data, length) {
        return Err(DecompressError::Frame);
    }
    match zstd_safe::find_frame_compressed_size(data) {
        Ok(first) if first == data.len() => {}
        Ok(_) => return Err(DecompressError::Frame),
        Err(_) => return Err(DecompressError::Damaged),
    }
    let mut out = vec![0; length];
    let mut decoder = zstd_safe::DCtx::try_create().ok_or(DecompressError::Damaged)?;
    match decoder.decompress(&mut out[..], data) {
        Ok(produced) if produced == length => Ok(out),
        Ok(_) | Err(_) => Err(DecompressError::Damaged),
    }
}

/// Looks at the frame header (RFC 8878 section 3.1.1.1): one-shot decoding, which needs no window
/// of its own, would not check any of this.
fn zstd_frame_allowed(data: &[u8], length: usize) -> bool {
    let Some((ZSTD_MAGIC, rest)) = data.split_first_chunk().map(|(magic, rest)| (*magic, rest))
    else {
        return false;
    };
    let Some((descriptor, rest)) = rest.split_first() else {
        return false;
    };
    if descriptor & 0x03 != 0 {
        return false;
    }
    let single_segment = descriptor & 0x20 != 0;
    let (window, rest) = match (single_segment, rest.split_first()) {
        (true, _) => (None, rest),
        (false, Some((window, rest))) => (Some(window_size(*window)), rest),
        (false, None) => return false,
    };
    let content = match (descriptor >> 6, single_segment) {
        (0, false) => return window.is_some_and(|window| window <= MAX_WINDOW),
        (0, true) => little_endian(rest, 1),
        (1, _) => little_endian(rest, 2).map(|content| content.saturating_add(256)),
        (2, _) => little_endian(rest, 4),
        (_, _) => little_endian(rest, 8),
    };
    content == u64::try_from(length).ok() && window.is_none_or(|window| window <= MAX_WINDOW)
}

fn window_size(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

fn little_endian(bytes: &[u8], width: usize) -> Option<u64> {
    let field = bytes.get(..width)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests;
