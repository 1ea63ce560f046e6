//! What the server's answers mean to the kernel. Nothing is handed on: every number is either one
//! that a host controller could have given, or replaced.

use core::ops::Range;

use crate::bus::usb::op::{OpError, TransferReply};
use crate::wire::error::ErrorMap;
use crate::wire::status::{Status, sub};

/// Why the server's answers can no longer be believed. The device is detached then.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// An answer to nothing that is outstanding.
    #[error("an answer to request {0}, which is not outstanding")]
    UnknownCorrelation(u32),
    /// A transfer has exactly one answer.
    #[error("an answer in pieces")]
    Pieces,
    /// The payload is no transfer reply.
    #[error("a malformed transfer reply")]
    Payload(#[from] OpError),
    /// More bytes were moved than we asked for.
    #[error("{actual} bytes moved where {asked} were asked for")]
    TooLong {
        /// The length of the transfer buffer, or of the packet.
        asked: u32,
        /// What the server says.
        actual: u32,
    },
    /// The results of other packets than those that we asked for.
    #[error("results of {found} packets instead of {asked}")]
    Packets {
        /// Packets of the request.
        asked: u32,
        /// Packets of the answer.
        found: u32,
    },
    /// A read without its data, or a write with some.
    #[error("a reply with {found} bytes of data instead of {expected}")]
    Data {
        /// What belongs there.
        expected: u32,
        /// What was there.
        found: usize,
    },
}

/// The end of one transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The transfer ended on the device, well or badly.
    Ended {
        /// 0 or a negative errno that a host controller gives.
        status: i32,
        /// Never more than was asked for.
        actual: u32,
        /// Where a read's data stands in the payload.
        data: Range<usize>,
    },
    /// It was given up before it moved anything.
    Cancelled,
    /// There is no device any more.
    DeviceGone,
}

/// Judges the final answer to a transfer of `asked` bytes; `unlinked` tells whether the kernel has
/// given it up.
pub(super) fn judge(
    status: Status,
    payload: &[u8],
    input: bool,
    asked: u32,
    unlinked: bool,
) -> Result<Outcome, Violation> {
    if !status.is_success() {
        return Ok(failure(status, payload, unlinked));
    }
    let TransferReply {
        status,
        actual,
        data,
    } = TransferReply::decode(payload)?;
    if actual > asked {
        return Err(Violation::TooLong { asked, actual });
    }
    let expected = if input { actual } else { 0 };
    if u32::try_from(data.len()) != Ok(expected) {
        return Err(Violation::Data {
            expected,
            found: data.len(),
        });
    }
    if unlinked && actual == 0 && is_cancelled(status) {
        return Ok(Outcome::Cancelled);
    }
    Ok(Outcome::Ended {
        status: plausible(status, unlinked),
        actual,
        data,
    })
}

pub(super) const fn is_cancelled(status: i32) -> bool {
    matches!(status.checked_neg(), Some(libc::ECONNRESET | libc::ENOENT))
}

/// The statuses of profile 19.4 and those that host controllers give besides (kernel
/// `Documentation/driver-api/usb/error-codes.rst`). A driver takes "cancelled" for its own doing, so
/// that passes only when it is.
pub(super) fn plausible(status: i32, unlinked: bool) -> i32 {
    match status.checked_neg() {
        Some(
            0
            | libc::EPIPE
            | libc::EPROTO
            | libc::EOVERFLOW
            | libc::EILSEQ
            | libc::ETIMEDOUT
            | libc::EREMOTEIO
            | libc::ENODEV
            | libc::ESHUTDOWN
            | libc::EXDEV
            | libc::ETIME
            | libc::ENOSR
            | libc::ECOMM,
        ) => status,
        Some(libc::ECONNRESET | libc::ENOENT) if unlinked => status,
        Some(_) | None => -libc::EPROTO,
    }
}

/// An error response: the operation was not performed (profile 19.4).
pub(super) fn failure(status: Status, payload: &[u8], unlinked: bool) -> Outcome {
    let error = ErrorMap::decode(payload).unwrap_or_default();
    let status = match error.sub.as_ref() {
        sub::DEVICE_GONE | sub::DEVICE | sub::STREAM => return Outcome::DeviceGone,
        sub::CANCELLED if unlinked => return Outcome::Cancelled,
        sub::TIMEOUT | sub::CANCELLED => -libc::ETIMEDOUT,
        sub::DEVICE_IO => device_status(error.detail.and_then(|detail| detail.as_i64())),
        _ => match status {
            Status::Timeout => -libc::ETIMEDOUT,
            // The right to the device is lost: a retry is pointless.
            Status::Unauthorized | Status::Forbidden | Status::InvalidSession => -libc::ESHUTDOWN,
            // What a device does with a request that it does not take.
            Status::BadRequest => -libc::EPIPE,
            Status::Ok
            | Status::NotFound
            | Status::InternalError
            | Status::ServiceUnavailable
            | Status::Other(_) => -libc::EPROTO,
        },
    };
    Outcome::Ended {
        status,
        actual: 0,
        data: 0..0,
    }
}

/// `detail` of "device-io": an errno of the server's kernel, of either sign.
fn device_status(detail: Option<i64>) -> i32 {
    match detail.map(|detail| i32::try_from(detail.unsigned_abs())) {
        Some(Ok(errno @ 1..)) => plausible(-errno, false),
        Some(Ok(..=0) | Err(_)) | None => -libc::EPROTO,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(status: i32, actual: u32, data: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        let length = u32::try_from(data.len()).expect("short data");
        TransferReply::encode(status, actual, length, &mut payload);
        payload.extend_from_slice(data);
        payload
    }

    fn status_of(outcome: Result<Outcome, Violation>) -> i32 {
        match outcome {
            Ok(Outcome::Ended { status, .. }) => status,
            other => panic!("{other:?} has no status"),
        }
    }

    #[test]
    fn a_short_read_keeps_its_length_and_data() {
        let payload = reply(0, 3, b"abc");
        let outcome = judge(Status::Ok, &payload, true, 64, false).expect("a good reply");
        let Outcome::Ended {
            status: 0,
            actual: 3,
            data,
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(payload.get(data), Some(&b"abc"[..]));
    }

    #[test]
    fn more_than_was_asked_for_is_a_violation() {
        assert!(matches!(
            judge(Status::Ok, &reply(0, 4, b"abcd"), true, 3, false),
            Err(Violation::TooLong {
                asked: 3,
                actual: 4
            })
        ));
        assert!(matches!(
            judge(Status::Ok, &reply(0, 4, b""), false, 3, false),
            Err(Violation::TooLong { .. })
        ));
    }

    #[test]
    fn data_in_the_wrong_direction_is_a_violation() {
        assert!(matches!(
            judge(Status::Ok, &reply(0, 2, b"ab"), false, 2, false),
            Err(Violation::Data { .. })
        ));
        assert!(matches!(
            judge(Status::Ok, &reply(0, 2, b""), true, 2, false),
            Err(Violation::Data { .. })
        ));
    }

    #[test]
    fn only_a_host_controllers_statuses_reach_the_kernel() {
        for (from, to) in [
            (0, 0),
            (-32, -32),
            (-121, -121),
            (1, -71),
            (-1, -71),
            (-4095, -71),
            (i32::MIN, -71),
            (i32::MAX, -71),
            (-104, -71),
            (-2, -71),
        ] {
            let outcome = judge(Status::Ok, &reply(from, 0, b""), true, 8, false);
            assert_eq!(status_of(outcome), to, "from {from}");
        }
    }

    #[test]
    fn a_cancelled_transfer_counts_as_such_only_when_the_kernel_asked() {
        for status in [-104, -2] {
            let payload = reply(status, 0, b"");
            assert_eq!(
                judge(Status::Ok, &payload, true, 8, true).expect("a good reply"),
                Outcome::Cancelled
            );
        }
        let partial = reply(-104, 2, b"ab");
        let outcome = judge(Status::Ok, &partial, true, 8, true);
        assert_eq!(status_of(outcome), -104, "the bytes that came are kept");
    }

    #[test]
    fn error_responses_become_errnos() {
        for (status, payload, errno) in [
            (Status::Timeout, &b"\x81\xA3sub\xA7timeout"[..], 110),
            (Status::Timeout, b"\x81\xA3sub\xA9cancelled", 110),
            (Status::Timeout, b"", 110),
            (Status::BadRequest, b"\x81\xA3sub\xABunsupported", 32),
            (Status::Forbidden, b"\x81\xA3sub\xA9lock-lost", 108),
            (
                Status::InternalError,
                b"\x82\xA6detail\xE0\xA3sub\xA9device-io",
                32,
            ),
            (
                Status::InternalError,
                b"\x82\xA6detail\xFF\xA3sub\xA9device-io",
                71,
            ),
            (
                Status::InternalError,
                b"\x82\xA6detail\xA1x\xA3sub\xA9device-io",
                71,
            ),
            (Status::Other(0x99), b"garbage", 71),
        ] {
            let outcome = judge(status, payload, true, 8, false);
            assert_eq!(status_of(outcome), -errno, "{status} {payload:?}");
        }
        assert_eq!(
            judge(Status::Timeout, b"\x81\xA3sub\xA9cancelled", true, 8, true)
                .expect("an error response"),
            Outcome::Cancelled
        );
        assert_eq!(
            judge(
                Status::ServiceUnavailable,
                b"\x81\xA3sub\xABdevice-gone",
                true,
                8,
                false
            )
            .expect("an error response"),
            Outcome::DeviceGone
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_refused_or_within_what_was_asked(
            code in any::<u8>(),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
            input in any::<bool>(),
            asked in 0u32..64,
            unlinked in any::<bool>(),
        ) {
            let outcome = judge(Status::from_u8(code), &payload, input, asked, unlinked);
            if let Ok(Outcome::Ended { status, actual, data }) = outcome {
                prop_assert!((-4095..=0).contains(&status));
                prop_assert!(actual <= asked && payload.get(data).is_some());
            }
        }
    }
}
