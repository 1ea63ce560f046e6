//! URBs: what is idle is an [`Urb`], what the kernel has is an entry of the device's table.
//!
//! usbfs writes into a URB and its buffer only inside the reaping ioctl (`processcompl()` in
//! drivers/usb/core/devio.c), but it remembers both addresses from submission on. So both stay
//! where they are, owned by the device, until the URB was reaped or the device was closed.

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
    /// IN: the most bytes to receive, without the setup packet. Ignored for OUT.
    pub receive: usize,
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
    /// The buffer of the transfer; IN: exactly the setup packet, if any, and the received bytes.
    pub buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that are the setup packet.
    pub setup: usize,
}

impl Completion {
    /// The received bytes of an IN transfer, the sent ones of an OUT transfer.
    pub fn data(&self) -> &[u8] {
        self.buffer.get(self.setup..).unwrap_or_default()
    }
}

/// The memory of one `usbdevfs_urb` and its packet descriptors, at an address of its own.
pub(super) struct Block {
    words: Box<[UnsafeCell<u64>]>,
}

// SAFETY: the contents are touched only through the one `Urb` that owns the block while it is idle,
// and by the kernel inside ioctls that the device makes under the lock of its table; every other
// holder of a reference uses nothing but the address.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    fn new(packets: usize) -> Self {
        let bytes = size_of::<RawUrb>() + packets.min(MAX_ISO_PACKETS) * size_of::<IsoPacket>();
        let words = bytes.div_ceil(size_of::<u64>());
        Self {
            words: (0..words).map(|_| UnsafeCell::new(0)).collect(),
        }
    }

    /// The address by which the kernel knows the URB.
    pub(super) fn as_ptr(&self) -> *mut RawUrb {
        // The pointer is derived from the whole slice, so it may reach the packets too.
        self.words.as_ptr().cast::<RawUrb>().cast_mut()
    }
}

/// An idle URB: memory that can be filled, submitted and, once reaped, filled again.
pub(super) struct Urb {
    block: Arc<Block>,
    buffer: Vec<u8>,
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
            key: 0,
            setup: 0,
            incoming: false,
        }
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
    /// without a whole setup packet, or more than `i32::MAX` bytes.
    pub(super) fn fill(&mut self, mut transfer: Transfer) -> Result<(), Transfer> {
        let control = transfer.kind == TransferType::Control;
        let setup = if control { SETUP_LEN } else { 0 };
        let incoming = if control {
            transfer.buffer.first().is_some_and(|kind| kind & 0x80 != 0)
        } else {
            transfer.endpoint & 0x80 != 0
        };
        let length = if incoming {
            setup.checked_add(transfer.receive)
        } else {
            Some(transfer.buffer.len())
        };
        let (Some(length), true) = (length, transfer.buffer.len() >= setup) else {
            return Err(transfer);
        };
        let Ok(buffer_length) = i32::try_from(length) else {
            return Err(transfer);
        };
        if incoming {
            transfer.buffer.truncate(setup);
            transfer.buffer.reserve_exact(length - setup);
        }
        self.buffer = transfer.buffer;
        self.key = transfer.key;
        self.setup = setup;
        self.incoming = incoming;
        let mut flags = 0;
        if transfer.short_not_ok && incoming {
            flags |= URB_SHORT_NOT_OK;
        }
        if transfer.zero_packet && !incoming && !control {
            flags |= URB_ZERO_PACKET;
        }
        if transfer.kind == TransferType::Isochronous {
            flags |= URB_ISO_ASAP;
        }
        let raw = RawUrb {
            kind: transfer.kind as u8,
            endpoint: transfer.endpoint,
            status: 0,
            flags,
            buffer: self.buffer.as_mut_ptr().cast(),
            buffer_length,
            actual_length: 0,
            start_frame: 0,
            number_of_packets: 0,
            error_count: 0,
            signr: 0,
            usercontext: core::ptr::null_mut(),
        };
        // SAFETY: the block is at least as large and as aligned as RawUrb, and an idle URB's owner
        // is the only one who touches its contents.
        unsafe { self.block.as_ptr().write(raw) };
        Ok(())
    }

    /// Reads what the kernel wrote while the URB was reaped.
    ///
    /// # Safety
    /// The kernel must just have given this URB back by a successful reaping ioctl, and must not
    /// have it any more.
    pub(super) unsafe fn finish(&mut self) -> Completion {
        let raw = self.block.as_ptr();
        // SAFETY: `fill` initialised the block before submission, and by this function's contract
        // nobody writes to it now.
        let (status, actual) = unsafe { ((*raw).status, (*raw).actual_length) };
        let mut buffer = core::mem::take(&mut self.buffer);
        let room = if self.incoming {
            buffer.capacity()
        } else {
            buffer.len()
        };
        let actual = usize::try_from(actual)
            .unwrap_or(0)
            .min(room.saturating_sub(self.setup));
        if self.incoming {
            // SAFETY: the first `setup` bytes were initialised by the submitter; the kernel copied
            // `actual_length` received bytes behind them (copy_urb_data_to_user()), and the
            // capacity is not exceeded.
            unsafe { buffer.set_len(self.setup + actual) };
        }
        Completion {
            key: self.key,
            status,
            actual,
            buffer,
            setup: self.setup,
        }
    }
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
}
