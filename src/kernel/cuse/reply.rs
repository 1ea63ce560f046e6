//! What the kernel is answered (`include/uapi/linux/fuse.h`): typed answers to bytes.

use super::{Config, Piece};

/// `struct fuse_out_header`.
const HEADER: usize = 16;
const NOTIFY_POLL: i32 = 1;
const IOCTL_RETRY: u32 = 1 << 2;
const UNRESTRICTED_IOCTL: u32 = 1;
/// `spare` of `struct cuse_init_out`.
const INIT_SPARE: usize = 10 * 4;

/// A header, for a message whose other bytes are `payload` many; `None` when they are more than it
/// can say. `error` is 0, a negated errno, or of an unasked message its kind.
fn header(id: u64, error: i32, payload: usize) -> Option<Vec<u8>> {
    let length = u32::try_from(HEADER.checked_add(payload)?).ok()?;
    Some(
        [
            length.to_ne_bytes().as_slice(),
            &error.to_ne_bytes(),
            &id.to_ne_bytes(),
        ]
        .concat(),
    )
}

/// The first part of an answer whose second part is `payload`.
pub(super) fn answer(id: u64, fixed: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let mut message = header(id, 0, fixed.len().checked_add(payload.len())?)?;
    message.extend_from_slice(fixed);
    Some(message)
}

/// `errno` is positive.
pub(super) fn error(id: u64, errno: i32) -> Option<Vec<u8>> {
    header(id, errno.checked_neg()?, 0)
}

/// `struct fuse_notify_poll_wakeup_out`, which nobody asked for.
pub(super) fn notify_poll(kh: u64) -> Option<Vec<u8>> {
    let kh = kh.to_ne_bytes();
    let mut message = header(0, NOTIFY_POLL, kh.len())?;
    message.extend_from_slice(&kh);
    Some(message)
}

/// `struct fuse_open_out`; its flags mean nothing to a character device.
pub(super) fn open(fh: u64) -> Vec<u8> {
    [fh, 0].map(u64::to_ne_bytes).concat()
}

/// `struct fuse_write_out`.
pub(super) fn written(size: u32) -> Vec<u8> {
    words(&[size, 0])
}

/// `struct fuse_poll_out`.
pub(super) fn poll(revents: u32) -> Vec<u8> {
    words(&[revents, 0])
}

/// `struct fuse_ioctl_out` of a call that is done.
pub(super) fn ioctl(result: i32) -> Vec<u8> {
    words(&[result.cast_unsigned(), 0, 0, 0])
}

/// `struct fuse_ioctl_out` and the `struct fuse_ioctl_iovec`s of one that is not; `None` when they
/// are too many to count.
pub(super) fn retry(inputs: &[Piece], outputs: &[Piece]) -> Option<Vec<u8>> {
    let some = |pieces: &[Piece]| -> Vec<Piece> {
        let with_length = pieces.iter().filter(|piece| piece.len > 0);
        with_length.copied().collect()
    };
    let (inputs, outputs) = (some(inputs), some(outputs));
    let count = |pieces: &[Piece]| u32::try_from(pieces.len()).ok();
    let mut answer = words(&[0, IOCTL_RETRY, count(&inputs)?, count(&outputs)?]);
    for piece in inputs.iter().chain(&outputs) {
        answer.extend(piece.base.to_ne_bytes());
        answer.extend(u64::from(piece.len).to_ne_bytes());
    }
    Some(answer)
}

/// `struct cuse_init_out` and the device's properties. The kernel chooses its number.
pub(super) fn init(version: (u32, u32), config: &Config) -> Vec<u8> {
    let (major, minor) = version;
    let mut answer = words(&[
        major,
        minor,
        0,
        UNRESTRICTED_IOCTL,
        config.max_read,
        config.max_write,
        0,
        0,
    ]);
    answer.extend([0; INIT_SPARE]);
    answer.extend(b"DEVNAME=");
    answer.extend(config.name.as_bytes());
    answer.push(0);
    answer
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
