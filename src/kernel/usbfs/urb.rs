//! URBs: what is idle is an [`Urb`], what the kernel has is an entry of the device's table.
//!
//! usbfs writes into a URB and its buffer only inside the reaping ioctl (`processcompl()` in
//! drivers/usb/core/devio.c), but it remembers both addresses from submission on. So both stay
//! where they are, owned by the device, until the URB was reaped or the device was closed.
//!
//! An isochronous URB has one descriptor for each packet right behind its header. Its buffer has
//! room for every packet at its full length, one after the other; usbfs copies the whole of it back
//! when anything at all was received (`copy_urb_data_to_user()`), with gaps behind short packets.

use core::cell::UnsafeCell;
use core::mem::size_of;
use std::sync::Arc;

use super::abi::{IsoPacket, RawUrb, URB_ISO_ASAP, URB_SHORT_NOT_OK, URB_ZERO_PACKET};

/// Bytes of a setup packet (USB 2.0, 9.3).
pub const SETUP_LEN: usize = 8;
/// Most packets of one isochronous URB (drivers/usb/core/devio.c).
pub const MAX_ISO_PACKETS: usize = 128;
/// Most bytes of one isochronous packet (drivers/usb/core/devio.c).
pub const MAX_ISO_PACKET_LEN: u32 = 98_304;

/// The transfer types, numbered as `USBDEVFS_URB_TYPE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferType {
    /// Isochronous.
    Isochronous = 0,
    /// Interrupt.
    Interrupt = 1,
    /// Control.
    Control = 2,
    /// Bulk.
    Bulk = 3,
}

/// One packet of an isochronous transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Bytes to send, or to receive at most.
    pub length: u32,
    /// Bytes that were moved, never more than `length`; meaningless before completion.
    pub actual: u32,
    /// 0 or a negative errno; meaningless before completion.
    pub status: i32,
}

impl Packet {
    /// A packet to be moved.
    pub const fn new(length: u32) -> Self {
        Self {
            length,
            actual: 0,
            status: 0,
        }
    }
}

/// What a URB is to do. Plain data: nothing of it is known to the kernel yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The submitter's own number for this transfer, given back on completion.
    pub key: u64,
    /// Endpoint address with the direction bit 0x80; of control transfers only the number counts.
    pub endpoint: u8,
    /// The endpoint's type.
    pub kind: TransferType,
    /// OUT: the bytes to send. IN: empty, its capacity is reused. Control: the setup packet, and
    /// for OUT the data behind it.
    pub buffer: Vec<u8>,
    /// IN: the most bytes to receive, without the setup packet. Ignored for OUT and isochronous.
    pub receive: usize,
    /// Isochronous: the packets with their lengths, 1 to [`MAX_ISO_PACKETS`] of at most
    /// [`MAX_ISO_PACKET_LEN`] bytes; OUT: together as long as `buffer`. Empty for everything else.
    pub packets: Vec<Packet>,
    /// A short IN transfer is an error.
    pub short_not_ok: bool,
    /// An OUT transfer of whole packets ends with an empty one.
    pub zero_packet: bool,
}

/// What became of a [`Transfer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// [`Transfer::key`].
    pub key: u64,
    /// 0 or a negative errno.
    pub status: i32,
    /// Bytes moved, without a setup packet.
    pub actual: usize,
    /// The buffer of the transfer; IN: exactly the setup packet, if any, and the received bytes,
    /// those of isochronous packets without gaps.
    pub buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that are the setup packet.
    pub setup: usize,
    /// Isochronous: [`Transfer::packets`] with what became of each.
    pub packets: Vec<Packet>,
    /// Isochronous: the frame it started in, where the kernel tells; usbfs of Linux 6.12 does not.
    pub start_frame: u32,
}

impl Completion {
    /// The received bytes of an IN transfer, the sent ones of an OUT transfer.
    pub fn data(&self) -> &[u8] {
        self.buffer.get(self.setup..).unwrap_or_default()
    }

    /// Packets whose status is not 0. (The kernel's `error_count` is left to each host controller's
    /// driver, and some leave it at 0.)
    pub fn errors(&self) -> usize {
        let bad = |packet: &&Packet| packet.status != 0;
        self.packets.iter().filter(bad).count()
    }
}

/// The memory of one `usbdevfs_urb` and its packet descriptors, at an address of its own.
pub(super) struct Block {
    words: Box<[UnsafeCell<u64>]>,
    /// Packet descriptors that there is room for.
    packets: usize,
}

// SAFETY: the contents are touched only through the one `Urb` that owns the block while it is idle,
// and by the kernel inside ioctls that the device makes under the lock of its table; every other
// holder of a reference uses nothing but the address.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(packets: usize) -> Self {
        let packets = packets.min(MAX_ISO_PACKETS);
        let bytes = size_of::<RawUrb>() + packets * size_of::<IsoPacket>();
        let words = bytes.div_ceil(size_of::<u64>());
        Self {
            words: (0..words).map(|_| UnsafeCell::new(0)).collect(),
            packets,
        }
    }

    /// The address by which the kernel knows the URB.
    pub(super) fn as_ptr(&self) -> *mut RawUrb {
        // The pointer is derived from the whole slice, so it may reach the packets too.
        self.words.as_ptr().cast::<RawUrb>().cast_mut()
    }

    /// The address of the packet descriptors (`iso_frame_desc`).
    fn packets_ptr(&self) -> *mut IsoPacket {
        self.as_ptr().wrapping_add(1).cast()
    }
}

/// Where the parts of a transfer's buffer lie.
struct Shape {
    /// Bytes of the setup packet in front.
    setup: usize,
    incoming: bool,
    /// Bytes of the whole buffer.
    length: i32,
}

impl Shape {
    /// `None` when the lengths do not fit.
    fn of(transfer: &Transfer) -> Option<Self> {
        let control = transfer.kind == TransferType::Control;
        let setup = if control { SETUP_LEN } else { 0 };
        let incoming = if control {
            transfer.buffer.first().is_some_and(|kind| kind & 0x80 != 0)
        } else {
            transfer.endpoint & 0x80 != 0
        };
        let sent = transfer.buffer.len();
        let length = match transfer.kind {
            TransferType::Isochronous => {
                iso_length(&transfer.packets).filter(|total| incoming || *total == sent)?
            }
            TransferType::Interrupt | TransferType::Control | TransferType::Bulk => {
                if sent < setup || !transfer.packets.is_empty() {
                    return None;
                }
                if incoming {
                    setup.checked_add(transfer.receive)?
                } else {
                    sent
                }
            }
        };
        Some(Self {
            setup,
            incoming,
            length: i32::try_from(length).ok()?,
        })
    }
}

/// Bytes of all packets together, `None` when usbfs would not take them.
fn iso_length(packets: &[Packet]) -> Option<usize> {
    if !(1..=MAX_ISO_PACKETS).contains(&packets.len()) {
        return None;
    }
    packets.iter().try_fold(0, |total: usize, packet| {
        (packet.length <= MAX_ISO_PACKET_LEN).then_some(total + packet.length as usize)
    })
}

/// An idle URB: memory that can be filled, submitted and, once reaped, filled again.
pub(super) struct Urb {
    block: Arc<Block>,
    buffer: Vec<u8>,
    packets: Vec<Packet>,
    key: u64,
    setup: usize,
    incoming: bool,
}

impl Urb {
    /// An empty URB with room for that many packet descriptors.
    pub(super) fn new(packets: usize) -> Self {
        Self {
            block: Arc::new(Block::new(packets)),
            buffer: Vec::new(),
            packets: Vec::new(),
            key: 0,
            setup: 0,
            incoming: false,
        }
    }

    /// True when there is room for packet descriptors.
    pub(super) fn is_isochronous(&self) -> bool {
        self.block.packets != 0
    }

    /// True when nobody else remembers this URB's address, so that reuse cannot confuse a discard
    /// that is still under way with the next transfer.
    pub(super) fn is_reusable(&mut self) -> bool {
        Arc::get_mut(&mut self.block).is_some()
    }

    /// The key of the transfer inside.
    pub(super) const fn key(&self) -> u64 {
        self.key
    }

    /// The block, to be named in ioctls.
    pub(super) const fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Takes a transfer in, or hands it back when its lengths do not fit: a control transfer
    /// without a whole setup packet, more than `i32::MAX` bytes, packets that usbfs would not take,
    /// or for which there is no room.
    pub(super) fn fill(&mut self, mut transfer: Transfer) -> Result<(), Transfer> {
        let room = self.block.packets >= transfer.packets.len();
        let Some(shape) = Shape::of(&transfer).filter(|_| room) else {
            return Err(transfer);
        };
        if shape.incoming {
            prepare(&mut transfer, &shape);
        }
        self.buffer = transfer.buffer;
        self.packets = transfer.packets;
        self.key = transfer.key;
        self.setup = shape.setup;
        self.incoming = shape.incoming;
        // The kernel warns about flags that the type or the direction does not have.
        let flags = match transfer.kind {
            TransferType::Isochronous => URB_ISO_ASAP,
            TransferType::Bulk | TransferType::Interrupt | TransferType::Control
                if shape.incoming && transfer.short_not_ok =>
            {
                URB_SHORT_NOT_OK
            }
            TransferType::Bulk | TransferType::Interrupt
                if !shape.incoming && transfer.zero_packet =>
            {
                URB_ZERO_PACKET
            }
            TransferType::Bulk | TransferType::Interrupt | TransferType::Control => 0,
        };
        let raw = RawUrb {
            kind: transfer.kind as u8,
            endpoint: transfer.endpoint,
            status: 0,
            flags,
            buffer: self.buffer.as_mut_ptr().cast(),
            buffer_length: shape.length,
            actual_length: 0,
            start_frame: 0,
            // INVARIANT: at most MAX_ISO_PACKETS.
            number_of_packets: i32::try_from(self.packets.len()).unwrap_or(0),
            error_count: 0,
            signr: 0,
            usercontext: core::ptr::null_mut(),
        };
        // SAFETY: the block is at least as large and as aligned as RawUrb, and an idle URB's owner
        // is the only one who touches its contents.
        unsafe { self.block.as_ptr().write(raw) };
        for (index, packet) in self.packets.iter().enumerate() {
            let raw = IsoPacket {
                length: packet.length,
                actual_length: 0,
                status: 0,
            };
            // SAFETY: as above; the block has room for as many packets as were let in.
            unsafe { self.block.packets_ptr().add(index).write(raw) };
        }
        Ok(())
    }

    /// Reads what the kernel wrote while the URB was reaped.
    ///
    /// # Safety
    /// The kernel must just have given this URB back by a successful reaping ioctl, and must not
    /// have it any more.
    pub(super) unsafe fn finish(&mut self) -> Completion {
        // SAFETY: `fill` initialised the block before submission, and by this function's contract
        // nobody writes to it now.
        let raw = unsafe { self.block.as_ptr().read() };
        let mut buffer = core::mem::take(&mut self.buffer);
        let mut packets = core::mem::take(&mut self.packets);
        for (index, packet) in packets.iter_mut().enumerate() {
            // SAFETY: as above; `fill` wrote as many descriptors as there are packets.
            let raw = unsafe { self.block.packets_ptr().add(index).read() };
            packet.actual = raw.actual_length.min(packet.length);
            packet.status = raw.status.cast_signed();
        }
        let length = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let room = length(raw.buffer_length).saturating_sub(self.setup);
        let mut actual = length(raw.actual_length).min(room);
        if !packets.is_empty() {
            actual = packets.iter().map(|packet| packet.actual as usize).sum();
            if self.incoming {
                close_gaps(&mut buffer, &packets);
            }
        } else if self.incoming {
            // SAFETY: the first `setup` bytes were initialised by the submitter; the kernel copied
            // `actual_length` received bytes behind them (copy_urb_data_to_user()), and no more
            // than `buffer_length`, for which `fill` made room.
            unsafe { buffer.set_len(self.setup + actual) };
        }
        Completion {
            key: self.key,
            status: raw.status,
            actual,
            buffer,
            setup: self.setup,
            packets,
            start_frame: u32::try_from(raw.start_frame).unwrap_or(0),
        }
    }
}

/// Makes room for what is to be received.
fn prepare(transfer: &mut Transfer, shape: &Shape) {
    let length = usize::try_from(shape.length).unwrap_or(0);
    transfer.buffer.truncate(shape.setup);
    transfer.buffer.reserve_exact(length - shape.setup);
    if transfer.kind == TransferType::Isochronous {
        // Nothing is copied back when no packet brought anything, and an earlier transfer's bytes
        // must not be taken for this one's.
        transfer.buffer.resize(length, 0);
    }
}

/// Moves the received bytes of the packets, each at the place of its full length, together.
fn close_gaps(buffer: &mut Vec<u8>, packets: &[Packet]) {
    let (mut from, mut to) = (0, 0);
    for packet in packets {
        let actual = packet.actual as usize;
        if from != to {
            // INVARIANT: the buffer is as long as all packets together, none of which brought more
            // than its length.
            buffer.copy_within(from..from + actual, to);
        }
        from += packet.length as usize;
        to += actual;
    }
    buffer.truncate(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk_in(receive: usize) -> Transfer {
        Transfer {
            key: 7,
            endpoint: 0x81,
            kind: TransferType::Bulk,
            buffer: Vec::new(),
            receive,
            packets: Vec::new(),
            short_not_ok: true,
            zero_packet: true,
        }
    }

    /// Plays the part of the kernel at reaping time.
    fn reap(urb: &mut Urb, data: &[u8], status: i32) -> Completion {
        let raw = urb.block().as_ptr();
        // SAFETY: the block was filled and nobody else touches it; the buffer has room for `data`.
        unsafe {
            let at = (*raw).buffer.cast::<u8>().add(urb.setup);
            core::ptr::copy_nonoverlapping(data.as_ptr(), at, data.len());
            (*raw).status = status;
            (*raw).actual_length = i32::try_from(data.len()).unwrap();
            urb.finish()
        }
    }

    #[test]
    fn a_received_transfer_carries_exactly_the_bytes_the_kernel_wrote() {
        let mut urb = Urb::new(0);
        urb.fill(bulk_in(512)).unwrap();
        let done = reap(&mut urb, b"abc", -121);
        assert_eq!((done.key, done.status, done.actual), (7, -121, 3));
        assert_eq!(done.data(), b"abc");
    }

    #[test]
    fn a_control_in_transfer_keeps_its_setup_packet_in_front_of_the_data() {
        let mut urb = Urb::new(0);
        let setup = [0x80, 6, 0, 1, 0, 0, 4, 0];
        let transfer = Transfer {
            endpoint: 0,
            kind: TransferType::Control,
            buffer: setup.to_vec(),
            ..bulk_in(4)
        };
        urb.fill(transfer).unwrap();
        let done = reap(&mut urb, &[1, 2, 3, 4], 0);
        assert_eq!(done.buffer[..8], setup);
        assert_eq!(done.data(), [1, 2, 3, 4]);
        assert_eq!(done.actual, 4);
    }

    #[test]
    fn flags_that_make_no_sense_for_the_direction_never_reach_the_kernel() {
        let mut urb = Urb::new(0);
        urb.fill(bulk_in(1)).unwrap();
        // SAFETY: the block was just filled and is idle.
        assert_eq!(unsafe { (*urb.block().as_ptr()).flags }, URB_SHORT_NOT_OK);
        let out = Transfer {
            endpoint: 0x02,
            buffer: vec![0; 4],
            ..bulk_in(0)
        };
        urb.fill(out).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { (*urb.block().as_ptr()).flags }, URB_ZERO_PACKET);
    }

    #[test]
    fn lengths_that_the_kernel_cannot_express_are_handed_back() {
        let mut urb = Urb::new(0);
        assert!(urb.fill(bulk_in(usize::MAX)).is_err());
        let short = Transfer {
            endpoint: 0,
            kind: TransferType::Control,
            buffer: vec![0; 7],
            ..bulk_in(0)
        };
        assert!(urb.fill(short).is_err());
    }

    #[test]
    fn a_urb_whose_address_is_remembered_is_not_reused() {
        let mut urb = Urb::new(0);
        let remembered = Arc::clone(urb.block());
        assert!(!urb.is_reusable());
        drop(remembered);
        assert!(urb.is_reusable());
    }

    fn iso(endpoint: u8, lengths: &[u32], buffer: &[u8]) -> Transfer {
        Transfer {
            endpoint,
            kind: TransferType::Isochronous,
            buffer: buffer.to_vec(),
            packets: lengths.iter().copied().map(Packet::new).collect(),
            ..bulk_in(0)
        }
    }

    /// Plays the part of the kernel for packets: `(actual_length, status)` of each.
    fn reap_packets(urb: &mut Urb, data: &[u8], packets: &[(u32, i32)]) -> Completion {
        for (index, (actual, status)) in packets.iter().enumerate() {
            // SAFETY: the block was filled with as many packets and nobody else touches it.
            unsafe {
                let packet = urb.block().packets_ptr().add(index);
                (*packet).actual_length = *actual;
                (*packet).status = status.cast_unsigned();
            }
        }
        reap(urb, data, 0)
    }

    #[test]
    fn received_packets_lie_together_whatever_came_in_each() {
        let mut urb = Urb::new(MAX_ISO_PACKETS);
        urb.fill(iso(0x83, &[4, 4, 0, 4], &[])).unwrap();
        let done = reap_packets(
            &mut urb,
            b"abcdefghijkl",
            &[(2, 0), (0, -84), (0, 0), (4, -75)],
        );
        assert_eq!(done.data(), b"abijkl");
        let results: Vec<(u32, i32)> = done.packets.iter().map(|p| (p.actual, p.status)).collect();
        assert_eq!(results, [(2, 0), (0, -84), (0, 0), (4, -75)]);
        assert_eq!((done.actual, done.errors()), (6, 2));
    }

    #[test]
    fn a_packet_never_counts_more_bytes_than_it_had_room_for() {
        let mut urb = Urb::new(MAX_ISO_PACKETS);
        urb.fill(iso(0x83, &[2, 2], &[])).unwrap();
        let done = reap_packets(&mut urb, b"abcd", &[(u32::MAX, 0), (3, 0)]);
        assert_eq!((done.data(), done.actual), (&b"abcd"[..], 4));
        urb.fill(iso(0x03, &[2, 2], b"wxyz")).unwrap();
        let done = reap_packets(&mut urb, &[], &[(9, 0), (1, 0)]);
        assert_eq!((done.packets[0].actual, done.actual), (2, 3));
        assert_eq!(done.buffer, b"wxyz");
    }

    #[test]
    fn bytes_of_an_earlier_transfer_are_never_taken_for_received_ones() {
        let mut urb = Urb::new(MAX_ISO_PACKETS);
        urb.fill(iso(0x83, &[4], b"secret")).unwrap();
        let done = reap_packets(&mut urb, &[], &[(4, 0)]);
        assert_eq!(done.data(), [0; 4]);
    }

    #[test]
    fn an_isochronous_urb_carries_its_packets_and_no_flag_but_the_start_in_the_next_frame() {
        let mut urb = Urb::new(MAX_ISO_PACKETS);
        urb.fill(iso(0x83, &[3, 5], &[])).unwrap();
        let raw = urb.block().as_ptr();
        // SAFETY: the block was just filled and is idle.
        let (raw, second) = unsafe { (raw.read(), urb.block().packets_ptr().add(1).read()) };
        assert_eq!((raw.flags, raw.number_of_packets), (URB_ISO_ASAP, 2));
        assert_eq!((raw.buffer_length, second.length), (8, 5));
    }

    #[test]
    fn packets_that_usbfs_does_not_take_are_handed_back() {
        let mut urb = Urb::new(MAX_ISO_PACKETS);
        for bad in [
            iso(0x83, &[], &[]),
            iso(0x83, &[1; 129], &[]),
            iso(0x83, &[MAX_ISO_PACKET_LEN + 1], &[]),
            iso(0x03, &[2, 2], b"abc"),
            Transfer {
                packets: vec![Packet::new(1)],
                ..bulk_in(1)
            },
        ] {
            assert!(urb.fill(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(urb.fill(iso(0x83, &[1; 128], &[])).is_ok());
        assert!(Urb::new(0).fill(iso(0x83, &[1], &[])).is_err());
    }
}
