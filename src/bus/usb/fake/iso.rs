//! The isochronous endpoints of the fake device.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nix::errno::Errno;

use super::state::{Outcome, State};
use crate::bus::usb::descriptor::Endpoint;
use crate::kernel::usbfs::{MAX_ISO_PACKET_LEN, MAX_ISO_PACKETS, Packet, Transfer};

/// What a packet has that was not carried out.
const NOT_MOVED: i32 = -18;

/// What is to become of a packet: bytes at most, and the status.
pub(super) type Plan = (u32, i32);

/// What the isochronous endpoints remember.
#[derive(Default)]
pub(super) struct Iso {
    /// Endpoints that move packets only when told to.
    pub(super) paced: BTreeSet<u8>,
    /// Packets that a paced endpoint may move yet.
    pub(super) ticks: BTreeMap<u8, usize>,
    /// What is to become of the next packets of an endpoint.
    pub(super) plans: BTreeMap<u8, VecDeque<Plan>>,
    /// Transfers that were begun, by their key.
    begun: BTreeMap<u64, Begun>,
}

/// A transfer of which some packets were moved.
#[derive(Default)]
struct Begun {
    /// Those packets.
    packets: Vec<Packet>,
    /// What they brought in, without gaps.
    received: Vec<u8>,
    /// Where the next one's bytes start in the transfer's buffer.
    offset: usize,
}

/// Bytes that an endpoint of a high-speed device moves in one interval.
fn capacity(endpoint: Endpoint) -> u32 {
    let size = u32::from(endpoint.max_packet & 0x07ff);
    size * (1 + u32::from(endpoint.max_packet >> 11 & 3))
}

impl State {
    /// What usbfs and the USB core would say to an isochronous transfer.
    pub(super) fn check_packets(
        &mut self,
        transfer: &Transfer,
        endpoint: Endpoint,
    ) -> Result<(), Errno> {
        let longest = transfer.packets.iter().map(|packet| packet.length).max();
        let total: usize = transfer.packets.iter().map(|p| p.length as usize).sum();
        if transfer.short_not_ok || transfer.zero_packet {
            self.complain("an isochronous transfer has flags of other types".to_owned());
        }
        let (errno, complaint) = match longest {
            None => (Errno::EINVAL, "without packets"),
            Some(_) if transfer.packets.len() > MAX_ISO_PACKETS => {
                (Errno::EINVAL, "of too many packets")
            }
            Some(longest) if longest > MAX_ISO_PACKET_LEN => {
                (Errno::EINVAL, "with a packet that usbfs does not take")
            }
            Some(_) if endpoint.interval == 0 => (Errno::EINVAL, "without an interval"),
            Some(longest) if longest > capacity(endpoint) => {
                (Errno::EMSGSIZE, "with a packet longer than its endpoint's")
            }
            Some(_) if endpoint.address & 0x80 == 0 && transfer.buffer.len() != total => {
                (Errno::EINVAL, "with other bytes than its packets have")
            }
            Some(_) => return Ok(()),
        };
        self.complain(format!("an isochronous transfer {complaint}"));
        Err(errno)
    }

    /// Moves the packets of the first transfer of an endpoint; `None` when it has to wait.
    pub(super) fn move_packets(&mut self, transfer: &Transfer) -> Option<Outcome> {
        let address = transfer.endpoint;
        let mut begun = self.iso.begun.remove(&transfer.key).unwrap_or_default();
        for packet in transfer.packets.iter().skip(begun.packets.len()) {
            if !self.take_tick(address) {
                self.iso.begun.insert(transfer.key, begun);
                return None;
            }
            let plan = self.iso.plans.entry(address).or_default().pop_front();
            let (most, status) = plan.unwrap_or((u32::MAX, 0));
            let actual = packet.length.min(most);
            if address & 0x80 != 0 {
                let counted = self.count(address, actual as usize);
                begun.received.extend(counted);
            } else {
                let bytes = transfer.buffer.iter().skip(begun.offset);
                let written = self.written.entry(address).or_default();
                written.extend(bytes.take(actual as usize));
            }
            begun.offset += packet.length as usize;
            begun.packets.push(Packet {
                actual,
                status,
                ..*packet
            });
        }
        self.iso.begun.insert(transfer.key, begun);
        Some(Outcome::ended(0))
    }

    fn take_tick(&mut self, endpoint: u8) -> bool {
        if !self.iso.paced.contains(&endpoint) {
            return true;
        }
        let ticks = self.iso.ticks.entry(endpoint).or_default();
        let left = ticks.checked_sub(1);
        *ticks = left.unwrap_or(0);
        left.is_some()
    }

    /// What became of all packets of a transfer that ends now, and what was received.
    pub(super) fn packets_of(&mut self, transfer: &Transfer) -> (Vec<Packet>, Vec<u8>) {
        let mut begun = self.iso.begun.remove(&transfer.key).unwrap_or_default();
        let rest = transfer.packets.iter().skip(begun.packets.len());
        let rest: Vec<Packet> = rest
            .map(|packet| Packet {
                status: NOT_MOVED,
                ..Packet::new(packet.length)
            })
            .collect();
        begun.packets.extend(rest);
        (begun.packets, begun.received)
    }
}
