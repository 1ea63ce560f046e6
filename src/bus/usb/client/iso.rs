//! The packets of isochronous URBs.
//!
//! The kernel moves what it is given to where the returned descriptors say, without a look at its
//! own (`drivers/usb/usbip/usbip_common.c`, `usbip_pad_iso`). So it gets its own descriptors back,
//! all of them and no others; only the lengths and statuses in them are new, and checked.

use super::answer::{Outcome, Violation, failure, is_cancelled, plausible};
use crate::bus::usb::op::{
    EndpointAddress, IsoPacket, IsoReply, IsoTransfer, MAX_ISO_PACKETS, MAX_TRANSFER, TransferFlags,
};
use crate::kernel::usbip_pdu::{
    ISO_ASAP, ISO_DESCRIPTOR, IsoDescriptor, RetSubmit, Return, Submit,
};
use crate::wire::limits::UNDECLARED_REPLY;
use crate::wire::status::Status;

/// Shortest time that a transfer is worth sending, in milliseconds: drivers keep some URBs queued,
/// so that one covers less time than it may wait.
const LEAST_TTL_MS: u32 = 200;
/// A start frame has 31 bits in the operation.
const FRAMES: u32 = i32::MAX.cast_unsigned();
/// Bytes that encode one packet's length, at most.
const LENGTH: usize = 5;
/// Bytes that a packet adds to a reply besides its data, at most.
const RESULT: u32 = 11;

/// The status of a packet whose time has passed.
const MISSED: i32 = -libc::EXDEV;
/// See [`Packets::refused`].
const REFUSED: i32 = -libc::ESHUTDOWN;

/// The packets of one URB: the kernel's descriptors, in which the results are filled in.
#[derive(Debug)]
pub(super) struct Packets {
    descriptors: Vec<u8>,
    start_frame: u32,
}

impl Packets {
    /// `descriptors` are all that came with a URB.
    pub(super) const fn new(descriptors: Vec<u8>) -> Self {
        Self {
            descriptors,
            start_frame: 0,
        }
    }

    fn iter(&self) -> impl Iterator<Item = IsoDescriptor> {
        let (descriptors, _) = self.descriptors.as_chunks::<ISO_DESCRIPTOR>();
        descriptors.iter().map(IsoDescriptor::from_bytes)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        let count = self.descriptors.len() / ISO_DESCRIPTOR;
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Packets whose time had passed.
    pub(super) fn missed(&self) -> u32 {
        count(self.iter().filter(|packet| packet.status == MISSED))
    }

    /// The request, with its data when it is a write: the packets' parts of `buffer` in order. `None`
    /// when the packets do not lie in the URB's buffer, or when what they may bring together would
    /// not fit into it.
    pub(super) fn encode(
        &self,
        submit: &Submit,
        ep: EndpointAddress,
        ttl_ms: u32,
        buffer: &[u8],
    ) -> Option<Vec<u8>> {
        let room = if submit.input {
            submit.length
        } else {
            MAX_TRANSFER
        };
        let fits = self.iter().all(|packet| packet.is_inside(submit.length));
        let packets: Vec<u32> = self.iter().map(|packet| packet.length).collect();
        let transfer = IsoTransfer {
            ep,
            flags: TransferFlags::default(),
            start_frame: (submit.transfer_flags & ISO_ASAP == 0)
                .then_some(submit.start_frame & FRAMES),
            ttl_ms,
            packets,
        };
        let packets = transfer.packets.len();
        if !fits || transfer.total() > room || !(1..=MAX_ISO_PACKETS).contains(&packets) {
            return None;
        }
        let data = usize::try_from(transfer.data_len()).ok()?;
        let mut payload = Vec::with_capacity(super::request::HEAD + packets * LENGTH + data);
        transfer.encode(&mut payload);
        if !submit.input {
            self.gather(buffer, &mut payload)?;
        }
        Some(payload)
    }

    /// The kernel sends the buffer of a write whole, with whatever lies between the packets.
    fn gather(&self, buffer: &[u8], payload: &mut Vec<u8>) -> Option<()> {
        for packet in self.iter() {
            let offset = usize::try_from(packet.offset).ok()?;
            let length = usize::try_from(packet.length).ok()?;
            let part = buffer.get(offset..)?.get(..length)?;
            payload.extend_from_slice(part);
        }
        Some(())
    }

    /// Bytes of the longest answer, never less than what an undeclared answer counts.
    pub(super) fn reply_len(&self, submit: &Submit) -> u32 {
        let data = if submit.input { submit.length } else { 0 };
        let results = self.count().saturating_mul(RESULT);
        data.saturating_add(results)
            .saturating_add(RESULT * 2)
            .max(UNDECLARED_REPLY)
    }

    /// Judges the final answer and fills in what it says of the packets.
    pub(super) fn judge(
        &mut self,
        status: Status,
        payload: &[u8],
        input: bool,
        unlinked: bool,
    ) -> Result<Outcome, Violation> {
        if !status.is_success() {
            return Ok(self.not_performed(failure(status, payload, unlinked), unlinked));
        }
        let reply = IsoReply::decode(payload)?;
        let (asked, found) = (self.count(), count(reply.packets.iter()));
        if asked != found {
            return Err(Violation::Packets { asked, found });
        }
        let actual = self.fill(&reply.packets, unlinked)?;
        let expected = if input { actual } else { 0 };
        if u32::try_from(reply.data.len()) != Ok(expected) {
            return Err(Violation::Data {
                expected,
                found: reply.data.len(),
            });
        }
        if unlinked && actual == 0 && is_cancelled(reply.status) {
            return Ok(Outcome::Cancelled);
        }
        self.start_frame = reply.start_frame & FRAMES;
        Ok(Outcome::Ended {
            status: urb_status(reply.status, unlinked),
            actual,
            data: reply.data,
        })
    }

    /// Fills in the results and returns the sum of the lengths.
    fn fill(&mut self, results: &[IsoPacket], unlinked: bool) -> Result<u32, Violation> {
        let (descriptors, _) = self.descriptors.as_chunks_mut::<ISO_DESCRIPTOR>();
        let mut total = 0u32;
        for (bytes, result) in descriptors.iter_mut().zip(results) {
            let packet = IsoDescriptor::from_bytes(bytes);
            if result.actual > packet.length {
                return Err(Violation::TooLong {
                    asked: packet.length,
                    actual: result.actual,
                });
            }
            // The lengths themselves have a sum that fits.
            total = total.saturating_add(result.actual);
            *bytes = IsoDescriptor {
                actual_length: result.actual,
                status: plausible(result.status, unlinked),
                ..packet
            }
            .to_bytes();
        }
        Ok(total)
    }

    /// What the kernel is told of a transfer that the server, or the link before it, did not
    /// perform. The only patience that runs out is the transfer's own: then it was late.
    fn not_performed(&mut self, outcome: Outcome, unlinked: bool) -> Outcome {
        let Outcome::Ended { status, .. } = outcome else {
            return outcome;
        };
        match status.checked_neg() {
            Some(libc::ETIMEDOUT) if unlinked => Outcome::Cancelled,
            Some(libc::ETIMEDOUT) => self.late(),
            _ => self.refused(),
        }
    }

    /// Nothing was moved because it was too late for all of it.
    pub(super) fn late(&mut self) -> Outcome {
        self.set_all(MISSED);
        nothing(0)
    }

    /// Nothing was moved, and nothing would be the next time: sound drivers submit again at once
    /// after any other error than that of an endpoint that is shut down.
    pub(super) fn refused(&mut self) -> Outcome {
        self.set_all(REFUSED);
        nothing(REFUSED)
    }

    fn set_all(&mut self, status: i32) {
        let (descriptors, _) = self.descriptors.as_chunks_mut::<ISO_DESCRIPTOR>();
        for bytes in descriptors {
            *bytes = IsoDescriptor {
                actual_length: 0,
                status,
                ..IsoDescriptor::from_bytes(bytes)
            }
            .to_bytes();
        }
    }

    /// The header that goes with the descriptors, and these.
    pub(super) fn into_return(self, seqnum: u32, status: i32, actual: u32) -> (Return, Vec<u8>) {
        let ret = Return::Submit(RetSubmit {
            seqnum,
            status,
            actual_length: actual,
            start_frame: self.start_frame,
            packets: self.count(),
            error_count: count(self.iter().filter(|packet| packet.status != 0)),
        });
        (ret, self.descriptors)
    }
}

/// The time that a URB covers, in milliseconds, or a little more than that of very short ones.
/// `unit` is that of the interval in microseconds.
pub(super) fn ttl_ms(submit: &Submit, unit: u32) -> u32 {
    let covered = u64::from(submit.packets)
        .saturating_mul(u64::from(submit.interval))
        .saturating_mul(u64::from(unit))
        / 1000;
    u32::try_from(covered).unwrap_or(u32::MAX).max(LEAST_TTL_MS)
}

/// Host controllers end isochronous URBs with 0 whatever became of the packets, unless the endpoint
/// went away.
fn urb_status(status: i32, unlinked: bool) -> i32 {
    match plausible(status, unlinked).checked_neg() {
        Some(libc::EXDEV) => 0,
        Some(0 | libc::ENODEV | libc::ESHUTDOWN | libc::ECONNRESET | libc::ENOENT) => status,
        _ => -libc::EPROTO,
    }
}

const fn nothing(status: i32) -> Outcome {
    Outcome::Ended {
        status,
        actual: 0,
        data: 0..0,
    }
}

fn count(packets: impl Iterator) -> u32 {
    u32::try_from(packets.count()).unwrap_or(u32::MAX)
}
