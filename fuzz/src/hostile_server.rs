//! A server that answers whatever it likes, and a kernel that asks as kernels do: whatever the
//! server says, the kernel is told only what it asked for.

use std::rc::Rc;

use myclerk::bus::Inbound;
use myclerk::bus::usb::client::Ended;
use myclerk::bus::usb::op::{
    BulkTransfer, ControlTransfer, InterruptTransfer, IsoPacket, IsoReply, IsoTransfer,
    TransferReply,
};
use myclerk::kernel::usbip_pdu::{Command, IsoDescriptor, Submit, Unlink};
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};

use super::bytes::Bytes;
use super::kernel::Kernel;
use super::rig::{Asked, DESCRIPTORS, Rig, run};

/// Most acts of one script.
const MAX_ACTS: usize = 200;
/// URBs and unlinks that the kernel has outstanding; a real one has more, to no other effect.
const MAX_WAITING: usize = 64;
const STATUSES: &[i32] = &[
    0,
    -104,
    -2,
    -32,
    -71,
    -121,
    -18,
    -19,
    -110,
    1,
    -4095,
    -4096,
    i32::MIN,
    i32::MAX,
];
const SUBS: &[&str] = &[
    sub::CANCELLED,
    sub::TIMEOUT,
    sub::DEVICE_IO,
    sub::DEVICE_GONE,
    sub::UNSUPPORTED,
    "",
];

/// A script of acts of kernel and server.
///
/// # Panics
/// When the kernel is told something else than what it asked for, or the attachment does not end.
pub fn hostile_server(data: &[u8]) {
    run(async {
        let mut bytes = Bytes::new(data);
        let mut play = Play::new(Rig::new(DESCRIPTORS, Kernel::default()).expect("a device"));
        for _ in 0..MAX_ACTS {
            if bytes.is_empty() {
                break;
            }
            play.act(&mut bytes).await;
        }
        play.end().await;
    });
}

struct Play {
    rig: Rig,
    seqnum: u32,
}

impl Play {
    const fn new(rig: Rig) -> Self {
        Self { rig, seqnum: 0 }
    }

    async fn act(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.u8() % 16 {
            0 | 1 => self.transfer(bytes),
            2 => self.control(bytes),
            3 | 4 => self.isochronous(bytes),
            5 => self.unlink(bytes),
            6..=8 => self.honest(bytes),
            9 => self.lie(bytes),
            10 => self.garbage(bytes),
            11 => self.error(bytes),
            12 => self.nonsense(bytes),
            13 => self.repeat(bytes),
            14 => self.limits(bytes),
            _ => self.rig.settle(usize::from(bytes.u8() % 8)).await,
        }
    }

    fn submit(&mut self, submit: Submit, iso: Vec<IsoDescriptor>) {
        if self.rig.kernel.waiting() >= MAX_WAITING {
            return;
        }
        let mut bytes = Command::Submit(submit).to_bytes().to_vec();
        bytes.resize(bytes.len() + submit.data_len() as usize, 0xda);
        for packet in &iso {
            packet.write(&mut bytes);
        }
        self.rig.kernel.submitted(submit, iso);
        self.rig.say(&bytes);
    }

    fn urb(&mut self, bytes: &mut Bytes<'_>) -> Submit {
        self.seqnum += 1;
        let place = bytes.u8();
        Submit {
            seqnum: self.seqnum,
            devid: 0x0001_0002,
            input: place & 0x80 != 0,
            ep: place & 0x07,
            transfer_flags: u32::from(place & 0x40) | u32::from(place & 0x20 != 0),
            length: 0,
            start_frame: 0,
            packets: 0,
            interval: 1,
            setup: [0; 8],
        }
    }

    fn transfer(&mut self, bytes: &mut Bytes<'_>) {
        let submit = self.urb(bytes);
        let length = u32::from(bytes.u16() % 6000);
        self.submit(Submit { length, ..submit }, Vec::new());
    }

    fn control(&mut self, bytes: &mut Bytes<'_>) {
        let submit = self.urb(bytes);
        let [kind, request, value, index, length] = [(); 5].map(|()| bytes.u8());
        let setup = [kind, request, value, 0, index, 0, length, 0];
        let submit = Submit {
            ep: 0,
            input: kind & 0x80 != 0,
            length: length.into(),
            setup,
            ..submit
        };
        self.submit(submit, Vec::new());
    }

    fn isochronous(&mut self, bytes: &mut Bytes<'_>) {
        let submit = self.urb(bytes);
        let ep = [5, 6, 7, 5][usize::from(submit.ep & 3)];
        let gap = u32::from(bytes.u8() & 3);
        let mut offset = 0;
        let mut iso = Vec::new();
        for _ in 0..=bytes.u8() % 40 {
            let length = u32::from(bytes.u8());
            iso.push(IsoDescriptor {
                offset,
                length,
                // Left over from the URB's last use.
                actual_length: 77,
                status: -18,
            });
            offset += length + gap;
        }
        let packets = u32::try_from(iso.len()).expect("few packets");
        let submit = Submit {
            ep,
            input: ep != 6,
            length: offset,
            packets,
            ..submit
        };
        self.submit(submit, iso);
    }

    fn unlink(&mut self, bytes: &mut Bytes<'_>) {
        let outstanding = self.rig.kernel.outstanding();
        let Some(target) = bytes.pick(&outstanding).copied() else {
            return;
        };
        if !self.rig.kernel.may_unlink(target) {
            return;
        }
        self.seqnum += 1;
        let seqnum = self.seqnum;
        let unlink = Unlink { seqnum, target };
        self.rig.kernel.unlinked(unlink);
        self.rig.say(&Command::Unlink(unlink).to_bytes());
    }

    /// One of the unanswered requests.
    fn question(&self, bytes: &mut Bytes<'_>) -> Option<Asked> {
        let mut asked = self.rig.server.asked.borrow_mut();
        let at = usize::from(bytes.u8()).checked_rem(asked.len())?;
        Some(asked.remove(at))
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>, more: bool) {
        self.rig.send(Inbound::Response {
            corr,
            status,
            payload,
            more,
        });
    }

    /// An answer that keeps to the protocol.
    fn honest(&self, bytes: &mut Bytes<'_>) {
        let Some(asked) = self.question(bytes) else {
            return;
        };
        let status = bytes.pick(STATUSES).copied().unwrap_or(0);
        let payload = honest(&asked, status, bytes);
        self.respond(asked.corr, Status::Ok, payload, false);
    }

    /// An answer with numbers of its own.
    fn lie(&self, bytes: &mut Bytes<'_>) {
        let Some(asked) = self.question(bytes) else {
            return;
        };
        let status = bytes.pick(STATUSES).copied().unwrap_or(0);
        let mut payload = Vec::new();
        if bytes.flag() {
            iso_lie(status, bytes, &mut payload);
        } else {
            let (actual, length) = (bytes.length(), bytes.u8());
            TransferReply::encode(status, actual, length.into(), &mut payload);
            payload.resize(payload.len() + usize::from(length), 0x11);
        }
        self.respond(asked.corr, Status::Ok, payload, false);
    }

    fn garbage(&self, bytes: &mut Bytes<'_>) {
        let Some(asked) = self.question(bytes) else {
            return;
        };
        let status = Status::from_u8(bytes.u8());
        let length = usize::from(bytes.u8() % 48);
        self.respond(asked.corr, status, bytes.take(length).to_vec(), false);
    }

    fn error(&self, bytes: &mut Bytes<'_>) {
        let Some(asked) = self.question(bytes) else {
            return;
        };
        let status = Status::from_u8(bytes.u8() | 0x20);
        let error = ErrorMap::new(bytes.pick(SUBS).copied().unwrap_or_default());
        let error = error.with_detail(i64::from(bytes.u32().cast_signed()));
        let payload = error.encode().unwrap_or_default();
        self.respond(asked.corr, status, payload, false);
    }

    /// What a USB stream does not have.
    fn nonsense(&self, bytes: &mut Bytes<'_>) {
        let corr = bytes.u8().into();
        let length = usize::from(bytes.u8() % 16);
        let payload = bytes.take(length).to_vec();
        let opcode = Opcode::from_u16(0x0600 | u16::from(bytes.u8() % 16));
        self.rig.send(match bytes.u8() % 12 {
            0..=2 => Inbound::Event {
                opcode,
                payload,
                age_secs: 0,
            },
            3..=5 => Inbound::Data {
                payload,
                fin: corr & 1 != 0,
            },
            6 | 7 => Inbound::Request {
                corr,
                opcode,
                payload,
                age_secs: 0,
            },
            8 | 9 => Inbound::Cancel { corr },
            10 => Inbound::Reset {
                status: Status::Forbidden,
            },
            _ => Inbound::Closed,
        });
    }

    /// An answer in pieces, to nothing, or twice.
    fn repeat(&self, bytes: &mut Bytes<'_>) {
        let Some(asked) = self.question(bytes) else {
            let corr = bytes.u32();
            self.respond(corr, Status::Ok, Vec::new(), bytes.flag());
            return;
        };
        let more = bytes.flag();
        for _ in 0..2 {
            let payload = honest(&asked, 0, bytes);
            self.respond(asked.corr, Status::Ok, payload, more);
        }
    }

    fn limits(&self, bytes: &mut Bytes<'_>) {
        let server = &self.rig.server;
        let room = bytes.u8();
        server.tiny.set(room == 0xff);
        server.room.set(u32::from(room % 16));
    }

    async fn end(self) {
        let server = Rc::clone(&self.rig.server);
        let ended = self.rig.end().await;
        if let Ended::Violation(_) = ended {
            assert_eq!(server.reset.get(), Some(Status::BadRequest));
        }
        let own = matches!(ended, Ended::KernelFault(_) | Ended::TornDown);
        assert!(!own, "{ended:?} is not the server's doing");
    }
}

/// The reply that the request may get, with a part of what was asked for.
fn honest(asked: &Asked, status: i32, bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if asked.opcode == Opcode::UsbIsochronousTransfer {
        let Ok((transfer, _)) = IsoTransfer::decode(&asked.payload) else {
            panic!("a malformed request");
        };
        iso_reply(&transfer, bytes, &mut out);
        return out;
    }
    let (input, len) = direction(asked);
    let actual = match bytes.u8() {
        share @ 0..=0x7f => len * u32::from(share) / 0x7f,
        0x80.. => len,
    };
    let data = if input { actual } else { 0 };
    TransferReply::encode(status, actual, data, &mut out);
    out.resize(out.len() + data as usize, 0x77);
    out
}

fn direction(asked: &Asked) -> (bool, u32) {
    let payload = asked.payload.as_slice();
    match asked.opcode {
        Opcode::UsbControlTransfer => {
            let (transfer, _) = ControlTransfer::decode(payload).expect("a request");
            (transfer.setup.is_in(), transfer.len)
        }
        Opcode::UsbBulkTransfer => {
            let (transfer, _) = BulkTransfer::decode(payload).expect("a request");
            (transfer.ep.is_in(), transfer.len)
        }
        Opcode::UsbInterruptTransfer => {
            let (transfer, _) = InterruptTransfer::decode(payload).expect("a request");
            (transfer.ep.is_in(), transfer.len)
        }
        _ => (false, 0),
    }
}

fn iso_reply(transfer: &IsoTransfer, bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    let packets: Vec<IsoPacket> = transfer
        .packets
        .iter()
        .map(|len| {
            let kind = bytes.u8();
            IsoPacket {
                actual: if kind & 1 == 0 { *len } else { len / 2 },
                status: if kind & 6 == 6 { -18 } else { 0 },
            }
        })
        .collect();
    write_iso(0, packets, transfer.ep.is_in(), out);
}

fn iso_lie(status: i32, bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    let count = bytes.u8() % 48 + 1;
    let packets = (0..count)
        .map(|_| IsoPacket {
            actual: match bytes.u8() {
                0xff => bytes.u32(),
                small => small.into(),
            },
            status: STATUSES[usize::from(bytes.u8()) % STATUSES.len()],
        })
        .collect();
    write_iso(status, packets, bytes.flag(), out);
}

fn write_iso(status: i32, packets: Vec<IsoPacket>, input: bool, out: &mut Vec<u8>) {
    let sum = packets
        .iter()
        .fold(0, |sum: u64, packet| sum + u64::from(packet.actual));
    let data = if input { sum.min(64 << 10) } else { 0 };
    let data = u32::try_from(data).expect("a short reply");
    let errors = packets.iter().filter(|packet| packet.status != 0).count();
    let reply = IsoReply {
        status,
        start_frame: 0,
        errors: u32::try_from(errors).expect("few packets"),
        packets,
        data: 0..0,
    };
    reply.encode(data, out);
    out.resize(out.len() + data as usize, 0x55);
}
