//! Answers: transfer replies, empty maps and refusals.

use nix::errno::Errno;

use crate::bus::usb::op::{IsoPacket, IsoReply, REPLY_OVERHEAD, TransferReply, encode_empty};
use crate::wire::error::ErrorMap;
use crate::wire::status::{Status, sub};

/// What went wrong when usbfs has no memory, and what mends it.
pub(super) const NO_MEMORY: &str = "the owner's kernel has no memory left for USB transfers \
    (usbfs_memory_mb): echo 256 > /sys/module/usbcore/parameters/usbfs_memory_mb, \
    permanently usbcore.usbfs_memory_mb=256 on its command line";

/// A request that was not performed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} ({sub}): {msg}")]
pub struct Refused {
    /// The status of the answer.
    pub status: Status,
    /// Its sub-code.
    pub sub: &'static str,
    /// For people.
    pub msg: String,
    /// The errno of a `device-io`.
    pub errno: Option<Errno>,
}

impl Refused {
    pub(super) fn new(status: Status, sub: &'static str, msg: impl Into<String>) -> Self {
        Self {
            status,
            sub,
            msg: msg.into(),
            errno: None,
        }
    }

    /// The payload does not fit the operation or the device.
    pub(super) fn bad(msg: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, sub::BAD_PAYLOAD, msg)
    }

    /// A valid request that is not served here.
    pub(super) fn unsupported(msg: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, sub::UNSUPPORTED, msg)
    }

    /// What the kernel or the device said to `what`.
    pub(super) fn io(what: &str, errno: Errno) -> Self {
        if errno == Errno::ENODEV {
            return Self::gone();
        }
        Self {
            errno: Some(errno),
            ..Self::new(
                Status::InternalError,
                sub::DEVICE_IO,
                format!("{what}: {}", errno.desc()),
            )
        }
    }

    /// usbfs had no memory for a transfer.
    pub(super) fn no_memory() -> Self {
        Self {
            errno: Some(Errno::ENOMEM),
            ..Self::new(Status::InternalError, sub::DEVICE_IO, NO_MEMORY)
        }
    }

    /// The device was unplugged.
    pub(super) fn gone() -> Self {
        Self::new(
            Status::ServiceUnavailable,
            sub::DEVICE_GONE,
            "the device was unplugged",
        )
    }

    /// The requester gave the request up before it was started.
    pub(super) fn cancelled() -> Self {
        Self::new(Status::Timeout, sub::CANCELLED, "cancelled")
    }

    /// The error map (profile 10.3).
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut map = ErrorMap::new(self.sub).with_msg(self.msg.as_str());
        if let Some(errno) = self.errno {
            map = map.with_detail(i64::from(errno as i32));
        }
        // Only a `detail` with a key twice cannot be encoded, and this one is a number.
        map.encode().unwrap_or_default()
    }
}

/// `[status, actual, data]`; `data` stays empty for what was sent to the device.
pub(super) fn transfer(status: i32, actual: usize, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + REPLY_OVERHEAD as usize);
    // INVARIANT: no transfer is longer than MAX_TRANSFER, which fits.
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    TransferReply::encode(status, length(actual), length(data.len()), &mut out);
    out.extend_from_slice(data);
    out
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
