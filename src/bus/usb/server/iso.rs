//! Isochronous transfers. One request of the peer becomes as many URBs as usbfs needs for it; they
//! are submitted back to back, so that the host controller leaves no gap between them, and
//! answered once.

use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap};

use nix::errno::Errno;

use super::outstanding::{CANCELLED, GONE, SHUT_DOWN, UNLINKED};
use super::reply;
use super::spare::Spare;
use crate::bus::usb::descriptor::Endpoint;
use crate::bus::usb::hardware::UsbDevice;
use crate::bus::usb::op::{IsoPacket, IsoTransfer};
use crate::kernel::usbfs::{
    Completion, MAX_ISO_PACKET_LEN, MAX_ISO_PACKETS, Transfer, TransferType,
};

/// `EXDEV`: the status of a packet that was not moved (`usb_submit_urb()` sets it beforehand).
pub(super) const NOT_MOVED: IsoPacket = IsoPacket {
    actual: 0,
    status: -18,
};

/// Most bytes of one URB with more than one packet. usbfs takes each URB's buffer as one piece of
/// physical memory, and the larger it is, the rarer the kernel has one.
const PART_BYTES: u32 = 256 << 10;

/// A transfer to be submitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IsoOrder<'a> {
    pub(super) transfer: IsoTransfer,
    /// What to send.
    pub(super) data: &'a [u8],
}

impl IsoOrder<'_> {
    /// Whether a request that waited so long is not worth submitting any more. A `ttl-ms` of 0 is
    /// none.
    pub(super) fn is_late(&self, waited: Duration) -> bool {
        let ttl = self.transfer.ttl_ms;
        ttl != 0 && waited > Duration::from_millis(ttl.into())
    }

    /// The answer when nothing of it was carried out.
    pub(super) fn unmoved(&self, status: i32) -> Vec<u8> {
        unmoved(&self.transfer, status)
    }
}

/// The answer to a request of which nothing was carried out.
pub(super) fn unmoved(transfer: &IsoTransfer, status: i32) -> Vec<u8> {
    let packets = vec![NOT_MOVED; transfer.packets.len()];
    reply::isochronous(status, 0, packets, core::iter::empty())
}

/// The longest packet that an endpoint can have, by the rules of `usb_submit_urb()`
/// (drivers/usb/core/urb.c); `speed` is in the kernel's numbering. From super speed on that depends
/// on the companion descriptor, to which the kernel holds what passes here.
pub(super) fn longest_packet(endpoint: Endpoint, speed: u8) -> u32 {
    let size = u32::from(endpoint.max_packet & 0x07ff);
    match speed {
        0..=2 => size,
        3 | 4 => size * (1 + u32::from(endpoint.max_packet >> 11 & 3)),
        // Up to 16 bursts of up to 3 packets.
        5 => size * 48,
        6.. => MAX_ISO_PACKET_LEN,
    }
}

/// How far a submission got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// The hardware has all of it.
    Whole,
    /// The hardware has the parts of these keys, which are to be discarded because the next one
    /// failed. The answer follows when they were taken back.
    Partly(Vec<u64>, Errno),
    /// The hardware has nothing of it.
    Not(Errno),
}

/// All requests of which the hardware has at least one part.
#[derive(Debug, Default)]
pub(super) struct Iso {
    /// By the key of the first part; the keys of the others follow it.
    requests: BTreeMap<u64, Request>,
    by_corr: HashMap<u32, u64>,
}

impl Iso {
    /// Whether the peer has an unanswered request of that number.
    pub(super) fn contains(&self, corr: u32) -> bool {
        self.by_corr.contains_key(&corr)
    }

    /// Hands a request to the hardware; `next` is the last key that was used.
    pub(super) fn submit(
        &mut self,
        device: &dyn UsbDevice,
        next: &mut u64,
        spare: &mut Spare,
        corr: u32,
        order: &IsoOrder<'_>,
    ) -> Submitted {
        let transfer = &order.transfer;
        let incoming = transfer.ep.is_in();
        let first = *next + 1;
        let mut request = Request {
            corr,
            incoming,
            packets: transfer.packets.len(),
            parts: Vec::new(),
            ended: None,
            cut_short: 0,
        };
        let mut failed = None;
        let mut data = order.data;
        for range in split(&transfer.packets) {
            let lengths = transfer.packets.get(range).unwrap_or_default();
            let mut buffer = spare.take();
            if !incoming {
                let bytes = lengths.iter().map(|length| *length as usize).sum();
                // INVARIANT: data is as long as all packets, see `IsoTransfer::decode`.
                let (these, rest) = data.split_at_checked(bytes).unwrap_or((data, &[]));
                buffer.extend_from_slice(these);
                data = rest;
            }
            *next += 1;
            let part = Transfer {
                key: *next,
                endpoint: transfer.ep.to_u8(),
                kind: TransferType::Isochronous,
                buffer,
                receive: 0,
                packets: spare.packets(lengths),
                short_not_ok: false,
                zero_packet: false,
            };
            if let Err(errno) = device.submit(part) {
                failed = Some(errno);
                break;
            }
            request.parts.push(Part {
                packets: lengths.len(),
                done: None,
            });
        }
        let Some(errno) = failed else {
            self.insert(first, request);
            return Submitted::Whole;
        };
        if request.parts.is_empty() {
            return Submitted::Not(errno);
        }
        request.cut_short = cut_short(errno);
        request.ended = Some(request.cut_short);
        let keys = request.in_flight(first).collect();
        self.insert(first, request);
        Submitted::Partly(keys, errno)
    }

    fn insert(&mut self, first: u64, request: Request) {
        self.by_corr.insert(request.corr, first);
        self.requests.insert(first, request);
    }

    /// Takes what finished; the number and the answer of its request when that is complete. The
    /// completion comes back when it is none of these.
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        spare: &mut Spare,
    ) -> Result<Option<(u32, Vec<u8>)>, Completion> {
        let key = completion.key;
        let Some((&first, request)) = self.requests.range_mut(..=key).next_back() else {
            return Err(completion);
        };
        let at = usize::try_from(key - first).unwrap_or(usize::MAX);
        let Some(part) = request.parts.get_mut(at) else {
            return Err(completion);
        };
        part.done = Some(completion);
        if request.parts.iter().any(|part| part.done.is_none()) {
            return Ok(None);
        }
        let (corr, payload) = (request.corr, request.answer(request.status()));
        self.by_corr.remove(&corr);
        let parts = self.requests.remove(&first).map(|request| request.parts);
        for done in parts.into_iter().flatten().filter_map(|part| part.done) {
            spare.put(done.buffer);
            spare.put_packets(done.packets);
        }
        Ok(Some((corr, payload)))
    }

    /// The peer gave one up. The keys that are to be discarded now.
    pub(super) fn cancel(&mut self, corr: u32) -> Vec<u64> {
        let first = self.by_corr.get(&corr).copied();
        let found = first.and_then(|first| Some((first, self.requests.get_mut(&first)?)));
        let Some((first, request)) = found.filter(|(_, request)| request.ended.is_none()) else {
            return Vec::new();
        };
        request.ended = Some(CANCELLED);
        request.in_flight(first).collect()
    }

    /// The device is given back: every transfer that is unlinked from now on ends with that.
    pub(super) fn shut_down(&mut self) {
        for request in self.requests.values_mut() {
            request.ended.get_or_insert(SHUT_DOWN);
        }
    }

    /// What the hardware has, in the order of submission.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        self.requests
            .iter()
            .flat_map(|(first, request)| request.in_flight(*first))
    }

    /// The numbers and answers of everything that is left, in the order of submission, when it will
    /// not finish any more.
    pub(super) fn drain(&mut self, status: i32) -> Vec<(u32, Vec<u8>)> {
        self.by_corr.clear();
        core::mem::take(&mut self.requests)
            .into_values()
            .map(|request| (request.corr, request.answer(status)))
            .collect()
    }
}

/// A request of which the hardware has, or had, at least one part.
#[derive(Debug)]
struct Request {
    corr: u32,
    incoming: bool,
    /// Packets asked for.
    packets: usize,
    /// Those that were submitted, in their order.
    parts: Vec<Part>,
    /// The status it gets when the kernel says that a part was unlinked.
    ended: Option<i32>,
    /// The status it gets when all of its parts ended well.
    cut_short: i32,
}

#[derive(Debug)]
struct Part {
    packets: usize,
    done: Option<Completion>,
}

impl Request {
    /// The keys of the parts that did not finish.
    fn in_flight(&self, first: u64) -> impl Iterator<Item = u64> {
        let parts = (first..).zip(&self.parts);
        parts.filter_map(|(key, part)| part.done.is_none().then_some(key))
    }

    /// That of the first part that did not end well.
    fn status(&self) -> i32 {
        let done = self.parts.iter().filter_map(|part| part.done.as_ref());
        let mut statuses = done.map(|done| match (self.ended, done.status) {
            (Some(reason), UNLINKED | CANCELLED) => reason,
            (_, raw) => raw.min(0),
        });
        statuses
            .find(|status| *status != 0)
            .unwrap_or(self.cut_short)
    }

    /// The answer; a packet that no part tells of was not moved.
    fn answer(&self, status: i32) -> Vec<u8> {
        let mut packets = Vec::with_capacity(self.packets);
        for part in &self.parts {
            let told = part.done.iter().flat_map(|done| &done.packets);
            packets.extend(told.map(|packet| IsoPacket {
                actual: packet.actual,
                status: packet.status.min(0),
            }));
            if part.done.is_none() {
                packets.resize(packets.len() + part.packets, NOT_MOVED);
            }
        }
        packets.resize(self.packets, NOT_MOVED);
        let done = || self.parts.iter().filter_map(|part| part.done.as_ref());
        let start_frame = done().next().map_or(0, |first| first.start_frame);
        let received = done().filter(|_| self.incoming).map(Completion::data);
        reply::isochronous(status, start_frame, packets, received)
    }
}

/// Cuts packets into parts that usbfs takes.
fn split(packets: &[u32]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    core::iter::from_fn(move || {
        let rest = packets.get(start..).filter(|rest| !rest.is_empty())?;
        let mut bytes = 0_u32;
        let fitting = rest.iter().take(MAX_ISO_PACKETS).take_while(|length| {
            bytes = bytes.saturating_add(**length);
            bytes <= PART_BYTES
        });
        let range = start..start + fitting.count().max(1);
        start = range.end;
        Some(range)
    })
}

/// The status of a transfer whose last parts were not accepted: a want of memory or bandwidth loses
/// packets as a busy bus does, and the stream goes on.
fn cut_short(errno: Errno) -> i32 {
    match errno {
        Errno::ENOMEM | Errno::ENOSPC => 0,
        Errno::ENODEV => GONE,
        other => -(other as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_into_parts_by_number_and_by_bytes() {
        let parts = |packets: &[u32]| split(packets).map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(parts(&[0; 128]), [128]);
        assert_eq!(parts(&[8; 300]), [128, 128, 44]);
        assert_eq!(parts(&[98_304; 5]), [2, 2, 1]);
        assert_eq!(parts(&[PART_BYTES, 1, u32::MAX, 0]), [1, 1, 1, 1]);
    }

    #[test]
    fn the_longest_packet_depends_on_the_speed() {
        let endpoint = |max_packet| Endpoint {
            address: 0x81,
            kind: TransferType::Isochronous,
            max_packet,
            interval: 1,
        };
        assert_eq!(longest_packet(endpoint(0x03ff), 2), 1023);
        assert_eq!(longest_packet(endpoint(0x1400), 2), 1024);
        assert_eq!(longest_packet(endpoint(0x1400), 3), 3072);
        assert_eq!(longest_packet(endpoint(0x0400), 5), 49_152);
        assert_eq!(longest_packet(endpoint(0x0400), 6), MAX_ISO_PACKET_LEN);
    }
}
