//! Buffers and packets of finished transfers, kept for the next ones.

use crate::kernel::usbfs::Packet;

/// Most that are kept.
const KEPT: usize = 32;
/// The largest that is, in bytes.
const LARGEST: usize = 256 << 10;

/// The buffers of one device.
#[derive(Debug, Default)]
pub(super) struct Spare {
    buffers: Vec<Vec<u8>>,
    packets: Vec<Vec<Packet>>,
}

impl Spare {
    /// An empty buffer, of whatever capacity.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// A buffer that is not needed any more.
    pub(super) fn put(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < KEPT && (1..=LARGEST).contains(&buffer.capacity()) {
            self.buffers.push(buffer);
        }
    }

    /// Packets of those lengths.
    pub(super) fn packets(&mut self, lengths: &[u32]) -> Vec<Packet> {
        let mut packets = self.packets.pop().unwrap_or_default();
        packets.clear();
        packets.extend(lengths.iter().copied().map(Packet::new));
        packets
    }

    /// Packets that are not needed any more.
    pub(super) fn put_packets(&mut self, packets: Vec<Packet>) {
        if self.packets.len() < KEPT {
            self.packets.push(packets);
        }
    }
}
