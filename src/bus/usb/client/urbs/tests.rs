//! The URBs of one device with the kernel and the server played by the test.

mod answers;
mod isochronous;
mod limits;
mod model;
mod requests;
mod unlinks;

use std::cell::Cell;

use super::*;
use crate::bus::Outgoing;
use crate::bus::usb::client::request::Arriving;
use crate::bus::usb::op::{
    BulkTransfer, ControlTransfer, InterruptTransfer, OpError, REPLY_OVERHEAD, Speed, TransferReply,
};
use crate::wire::opcode::Opcode;

/// A device with bulk 0x81 and 0x02, interrupt 0x83 and isochronous 0x84 and 0x05; alternate
/// setting 1 of interface 0 makes 0x81 an interrupt endpoint.
const DESCRIPTORS: &[u8] = &[
    18, 1, 0, 2, 0, 0, 0, 64, 1, 0, 2, 0, 0, 1, 0, 0, 0, 1, // device
    9, 2, 69, 0, 1, 1, 0, 0x80, 50, // configuration 1
    9, 4, 0, 0, 5, 255, 0, 0, 0, // interface 0
    7, 5, 0x81, 2, 0, 2, 0, // bulk
    7, 5, 0x02, 2, 0, 2, 0, // bulk
    7, 5, 0x83, 3, 8, 0, 10, // interrupt
    7, 5, 0x84, 1, 192, 0, 1, // isochronous
    7, 5, 0x05, 1, 192, 0, 1, // isochronous
    9, 4, 0, 1, 1, 255, 0, 0, 0, // interface 0, alternate setting 1
    7, 5, 0x81, 3, 8, 0, 10, // interrupt
];

const GONE: &[u8] = b"\x81\xA3sub\xABdevice-gone";

/// Takes requests up to a limit and remembers everything.
struct Server {
    room: Cell<usize>,
    sent: RefCell<Vec<Outgoing>>,
    cancelled: RefCell<Vec<u32>>,
}

impl Outlet for Server {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        if outgoing.payload.len() > 100_000 {
            return Err(OutletError::TooLarge);
        }
        if self.room.get() == 0 {
            return Err(OutletError::WouldBlock(outgoing));
        }
        self.room.set(self.room.get() - 1);
        let mut sent = self.sent.borrow_mut();
        sent.push(outgoing);
        Ok(u32::try_from(sent.len()).expect("few requests"))
    }

    fn cancel(&self, corr: u32) {
        self.cancelled.borrow_mut().push(corr);
    }

    fn respond(&self, _: u32, _: Status, _: Vec<u8>) {}
    fn event(&self, _: Opcode, _: Vec<u8>) {}
    fn data(&self, _: Vec<u8>, _: bool) {}
    fn reset(&self, _: Status) {}

    fn consume(&self, _: usize) {}

    fn writable(&self, _: usize) -> bool {
        true
    }

    fn queued(&self) -> usize {
        0
    }
}

struct Bench {
    server: Rc<Server>,
    endpoints: Rc<RefCell<Endpoints>>,
    urbs: Urbs,
    start: Instant,
}

impl Bench {
    fn new(room: usize) -> Self {
        Self::at(Speed::Full, room)
    }

    fn at(speed: Speed, room: usize) -> Self {
        let server = Rc::new(Server {
            room: Cell::new(room),
            sent: RefCell::default(),
            cancelled: RefCell::default(),
        });
        let endpoints = Endpoints::parse(DESCRIPTORS, 1, speed).expect("a device");
        let endpoints = Rc::new(RefCell::new(endpoints));
        let outlet: Rc<dyn Outlet> = server.clone();
        Self {
            server,
            urbs: Urbs::new(outlet, Rc::clone(&endpoints)),
            endpoints,
            start: Instant::now(),
        }
    }

    fn try_submit(&mut self, submit: Submit, data: &[u8], iso: &[u8]) -> Result<(), Fatal> {
        let mut urb = Arriving::begin(submit, &self.endpoints.borrow());
        if urb.wants_data() {
            urb.buffer.extend_from_slice(data);
        }
        urb.descriptors.extend_from_slice(iso);
        self.urbs.hear(self.start, FromKernel::Submit(urb.finish()))
    }

    fn read(&mut self, seqnum: u32, ep: u8, length: u32) {
        self.try_submit(submit(seqnum, ep, true, length), &[], &[])
            .expect("an accepted URB");
    }

    fn write(&mut self, seqnum: u32, ep: u8, length: usize) {
        let length32 = u32::try_from(length).expect("a short write");
        self.try_submit(submit(seqnum, ep, false, length32), &vec![7; length], &[])
            .expect("an accepted URB");
    }

    fn control(&mut self, seqnum: u32, setup: [u8; 8]) {
        let [request_type, .., l0, l1] = setup;
        let length = u32::from(u16::from_le_bytes([l0, l1]));
        let submit = Submit {
            setup,
            ..submit(seqnum, 0, request_type & 0x80 != 0, length)
        };
        self.try_submit(submit, &vec![0; submit.data_len() as usize], &[])
            .expect("an accepted URB");
    }

    fn unlink(&mut self, seqnum: u32, target: u32) {
        let unlink = FromKernel::Unlink(Unlink { seqnum, target });
        self.urbs
            .hear(self.start, unlink)
            .expect("an accepted unlink");
    }

    fn try_reply(&mut self, corr: u32, status: i32, data: &[u8]) -> Result<(), Fatal> {
        let mut payload = Vec::new();
        let length = u32::try_from(data.len()).expect("short data");
        TransferReply::encode(status, length, length, &mut payload);
        payload.extend_from_slice(data);
        self.respond(corr, Status::Ok, payload)
    }

    fn respond(&mut self, corr: u32, status: Status, payload: Vec<u8>) -> Result<(), Fatal> {
        self.urbs.response(self.start, corr, status, payload, false)
    }

    fn reply(&mut self, corr: u32, status: i32, data: &[u8]) {
        self.try_reply(corr, status, data)
            .expect("an accepted reply");
    }

    fn expire(&mut self, after: Duration) {
        let now = self.start + after;
        self.urbs.expire(now).expect("an open stream");
    }

    fn requests(&self) -> Vec<(Opcode, Class)> {
        let sent = self.server.sent.borrow();
        sent.iter().map(|out| (out.opcode, out.class)).collect()
    }

    fn cancelled(&self) -> Vec<u32> {
        self.server.cancelled.borrow().clone()
    }

    /// What the kernel was told since the last call, in short.
    fn told(&mut self) -> Vec<Told> {
        self.urbs
            .messages()
            .map(|message| match message.parts() {
                (Return::Submit(ret), data, _) => {
                    Told::Submit(ret.seqnum, ret.status, data.to_vec())
                }
                (Return::Unlink(ret), ..) => Told::Unlink(ret.seqnum, ret.status),
            })
            .collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Submit(u32, i32, Vec<u8>),
    Unlink(u32, i32),
}

const fn submit(seqnum: u32, ep: u8, input: bool, length: u32) -> Submit {
    Submit {
        seqnum,
        devid: 0x0001_0002,
        input,
        ep,
        transfer_flags: 0,
        length,
        start_frame: 0,
        packets: 0,
        interval: 10,
        setup: [0; 8],
    }
}
