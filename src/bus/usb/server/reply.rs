//! Answers: transfer replies, empty maps and refusals.

use nix::errno::Errno;

use crate::bus::Refused;
use crate::bus::usb::op::{IsoPacket, IsoReply, encode_empty};
use crate::wire::status::{Status, sub};

/// What went wrong when usbfs has no memory, and what mends it.
pub(super) const NO_MEMORY: &str = "the owner's kernel has no memory left for USB transfers \
    (usbfs_memory_mb): echo 256 > /sys/module/usbcore/parameters/usbfs_memory_mb, \
    permanently usbcore.usbfs_memory_mb=256 on its command line";

/// usbfs had no memory for a transfer.
pub(super) fn no_memory() -> Refused {
    Refused {
        errno: Some(Errno::ENOMEM),
        ..Refused::new(Status::InternalError, sub::DEVICE_IO, NO_MEMORY)
    }
}

/// `[status, start-frame, errors, [*[actual, status]], data]`; `data` is one piece of received
/// bytes after the other.
pub(super) fn isochronous<'a>(
    status: i32,
    start_frame: u32,
    packets: Vec<IsoPacket>,
    data: impl Iterator<Item = &'a [u8]> + Clone,
) -> Vec<u8> {
    // A packet takes at most 11 bytes.
    let length: usize = data.clone().map(<[u8]>::len).sum();
    let mut out = Vec::with_capacity(length + packets.len() * 11 + 32);
    let errors = packets.iter().filter(|packet| packet.status != 0).count();
    // INVARIANT: at most 1024 packets of together MAX_TRANSFER bytes, which fit.
    let fits = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let reply = IsoReply {
        status,
        start_frame,
        errors: fits(errors),
        packets,
        data: 0..0,
    };
    reply.encode(fits(length), &mut out);
    for piece in data {
        out.extend_from_slice(piece);
    }
    out
}

/// `{}`.
pub(super) fn empty() -> Vec<u8> {
    let mut out = Vec::with_capacity(1);
    encode_empty(&mut out);
    out
}
