//! A host without a kernel, for the tests of devices that are played.
#![expect(clippy::panic, reason = "a test fails by panicking")]
#![expect(
    clippy::missing_errors_doc,
    reason = "an error is what the device answered"
)]

use std::cell::RefCell;
use std::rc::Rc;

use super::{Adapter, Setup, player};
use crate::bus::usb::op::{
    BulkTransfer, ControlTransfer, EndpointAddress, InterruptTransfer, TransferFlags, TransferReply,
};
use crate::bus::{BusStream, Inbound, Outgoing, pipe};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;

/// What became of a transfer: its bytes, or the errno of a URB (negative).
pub type Moved = Result<Vec<u8>, i32>;

/// The host that a device is plugged into.
pub struct Host {
    stream: RefCell<BusStream>,
    /// Answers that came before they were waited for.
    early: RefCell<Vec<(u32, Moved)>>,
}

impl Host {
    /// Plugs a device in and configures it. Must be called inside a `LocalSet`.
    ///
    /// # Panics
    /// When the device does not take its configuration.
    pub async fn plug_in(adapter: Rc<dyn Adapter>) -> Self {
        let (stream, device) = pipe::pair();
        tokio::task::spawn_local(player::play(adapter, device));
        let host = Self {
            stream: RefCell::new(stream),
            early: RefCell::default(),
        };
        let configured = host.control([0, 9, 1, 0, 0, 0, 0, 0], &[]).await;
        assert_eq!(configured, Ok(Vec::new()), "SET_CONFIGURATION");
        host
    }

    /// A control transfer, from SETUP to status.
    pub async fn control(&self, setup: [u8; 8], data: &[u8]) -> Moved {
        self.wait(self.begin_control(setup, data)).await
    }

    /// A bulk transfer: a read of `length` bytes where the endpoint has its direction bit, else a write
    /// of `data`.
    pub async fn bulk(&self, endpoint: u8, length: u32, data: &[u8]) -> Moved {
        self.wait(self.begin_bulk(endpoint, length, data)).await
    }

    /// A read from an interrupt endpoint.
    pub async fn interrupt(&self, endpoint: u8, length: u32) -> Moved {
        let mut payload = Vec::new();
        InterruptTransfer {
            ep: address(endpoint),
            flags: TransferFlags::default(),
            timeout_ms: 0,
            len: length,
            interval: 1,
        }
        .encode(&mut payload);
        self.wait(self.send(Opcode::UsbInterruptTransfer, payload))
            .await
    }

    /// Submits a control transfer; its number for [`Host::wait`] and [`Host::unlink`].
    pub fn begin_control(&self, setup: [u8; 8], data: &[u8]) -> u32 {
        let setup = Setup::from_bytes(setup);
        let mut payload = Vec::new();
        ControlTransfer {
            flags: TransferFlags::default(),
            timeout_ms: 0,
            setup,
            len: setup.length.into(),
        }
        .encode(&mut payload);
        payload.extend_from_slice(data);
        self.send(Opcode::UsbControlTransfer, payload)
    }

    /// Submits a bulk transfer.
    pub fn begin_bulk(&self, endpoint: u8, length: u32, data: &[u8]) -> u32 {
        let ep = address(endpoint);
        let written = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut payload = Vec::new();
        BulkTransfer {
            ep,
            flags: TransferFlags::default(),
            timeout_ms: 0,
            len: if ep.is_in() { length } else { written },
        }
        .encode(&mut payload);
        payload.extend_from_slice(data);
        self.send(Opcode::UsbBulkTransfer, payload)
    }

    /// Gives a transfer up; it is answered all the same.
    pub fn unlink(&self, number: u32) {
        self.stream.borrow().outlet.cancel(number);
    }

    /// Waits for what becomes of a transfer.
    ///
    /// # Panics
    /// When the device ends first, or answers as none does.
    pub async fn wait(&self, number: u32) -> Moved {
        loop {
            if let Some(moved) = self.came_early(number) {
                return moved;
            }
            let inbound = core::future::poll_fn(|context| {
                self.stream.borrow_mut().inbound.poll_recv(context)
            });
            let Some(Inbound::Response { corr, payload, .. }) = inbound.await else {
                panic!("the device has ended");
            };
            let Ok(reply) = TransferReply::decode(&payload) else {
                panic!("{payload:x?} answers no transfer");
            };
            let data = payload.get(reply.data).unwrap_or_default().to_vec();
            let moved = if reply.status == 0 {
                Ok(data)
            } else {
                Err(reply.status)
            };
            self.early.borrow_mut().push((corr, moved));
        }
    }

    fn came_early(&self, number: u32) -> Option<Moved> {
        let mut early = self.early.borrow_mut();
        let place = early.iter().position(|(known, _)| *known == number)?;
        Some(early.swap_remove(place).1)
    }

    fn send(&self, opcode: Opcode, payload: Vec<u8>) -> u32 {
        let outgoing = Outgoing {
            opcode,
            class: Class::Interactive,
            payload,
            reply_len: 0,
            timeout_ms: 0,
            deadline_ms: 0,
        };
        let sent = self.stream.borrow().outlet.request(outgoing);
        sent.unwrap_or_else(|error| panic!("the device has ended: {error}"))
    }
}

fn address(endpoint: u8) -> EndpointAddress {
    EndpointAddress::from_u8(endpoint).unwrap_or_else(|| panic!("no endpoint {endpoint:#x}"))
}
