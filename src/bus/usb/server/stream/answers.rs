//! What the peer is told: of what finished, and of what will not be finished any more.

use nix::errno::Errno;
use tracing::warn;

use super::claims::Claims;
use super::{Request, Stream};
use crate::bus::Outlet;
use crate::bus::Refused;
use crate::bus::usb::op::{DescriptorReply, IsoTransfer, TransferReply};
use crate::bus::usb::server::End;
use crate::bus::usb::server::check::Form;
use crate::bus::usb::server::iso;
use crate::bus::usb::server::outstanding::{CANCELLED, Pending};
use crate::bus::usb::server::reply;
use crate::kernel::usbfs::Completion;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

impl Stream {
    /// Takes back and answers everything that finished.
    pub(super) fn reap(&mut self, outlet: &dyn Outlet) -> Option<End> {
        let end = self.take_back(outlet, true);
        self.settle_suspects(outlet, end.is_none());
        end
    }

    /// The same after a change of ours, which ends transfers as if somebody else had made it.
    pub(super) fn reap_own(&mut self, outlet: &dyn Outlet) -> Option<End> {
        self.take_back(outlet, false)
    }

    fn take_back(&mut self, outlet: &dyn Outlet, suspicious: bool) -> Option<End> {
        loop {
            match self.device.reap() {
                Ok(Some(completion)) => self.complete(outlet, completion, suspicious),
                Ok(None) => return None,
                Err(errno) => {
                    if errno != Errno::ENODEV {
                        warn!(%errno, "cannot take USB transfers back");
                    }
                    return Some(End::DeviceGone);
                }
            }
        }
    }

    fn complete(&mut self, outlet: &dyn Outlet, completion: Completion, suspicious: bool) {
        let iso = &mut self.outstanding.iso;
        let completion = match iso.complete(completion, &mut self.spare) {
            Ok(Some((corr, payload))) => return outlet.respond(corr, Status::Ok, payload),
            Ok(None) => return,
            Err(other) => other,
        };
        let Some(pending) = self.outstanding.remove(completion.key) else {
            warn!("a USB transfer finished that nobody asked for");
            return;
        };
        if suspicious && Claims::is_suspect(&pending, &completion) {
            self.claims.suspect(pending, completion);
        } else {
            self.answer(outlet, &pending, completion);
        }
    }

    pub(super) fn answer(
        &mut self,
        outlet: &dyn Outlet,
        pending: &Pending,
        completion: Completion,
    ) {
        let status = pending.status(completion.status);
        let (status, payload) = match pending.form {
            Form::Received => {
                let data = completion.data();
                (Status::Ok, TransferReply::whole(status, data.len(), data))
            }
            Form::Sent => (
                Status::Ok,
                TransferReply::whole(status, completion.actual, &[]),
            ),
            Form::Descriptor if status == 0 => {
                let mut payload = Vec::new();
                let descriptor = completion.data();
                DescriptorReply { descriptor }.encode(&mut payload);
                (Status::Ok, payload)
            }
            Form::Descriptor | Form::Empty => {
                let refused = if pending.is_cancelled() && status == CANCELLED {
                    Refused::cancelled()
                } else {
                    Refused::io("the device did not answer", Errno::from_raw(-status))
                };
                (refused.status, refused.payload())
            }
        };
        outlet.respond(pending.corr, status, payload);
        self.spare.put(completion.buffer);
    }

    /// Answers what will not be finished any more.
    pub(super) fn answer_rest(&mut self, outlet: &dyn Outlet, status: i32, refused: &Refused) {
        for pending in self.outstanding.drain() {
            match pending.form {
                Form::Received | Form::Sent => {
                    outlet.respond(
                        pending.corr,
                        Status::Ok,
                        TransferReply::whole(status, 0, &[]),
                    );
                }
                Form::Descriptor | Form::Empty => {
                    outlet.respond(pending.corr, refused.status, refused.payload());
                }
            }
        }
        for (corr, payload) in self.outstanding.iso.drain(status) {
            outlet.respond(corr, Status::Ok, payload);
        }
        for request in self.backlog.drain(..) {
            unstarted(outlet, &request, status, refused);
        }
    }
}

pub(super) fn done(form: Form) -> Vec<u8> {
    match form {
        Form::Received | Form::Sent => TransferReply::whole(0, 0, &[]),
        Form::Descriptor | Form::Empty => reply::empty(),
    }
}

/// Answers a request that was never started: transfers by a status, other operations by an error.
pub(super) fn unstarted(outlet: &dyn Outlet, request: &Request, status: i32, refused: &Refused) {
    let transfer = matches!(
        request.opcode,
        Opcode::UsbControlTransfer | Opcode::UsbBulkTransfer | Opcode::UsbInterruptTransfer
    );
    let isochronous = request.opcode == Opcode::UsbIsochronousTransfer;
    let iso = isochronous
        .then(|| IsoTransfer::decode(&request.payload).ok())
        .flatten();
    if transfer {
        outlet.respond(
            request.corr,
            Status::Ok,
            TransferReply::whole(status, 0, &[]),
        );
    } else if let Some((transfer, _)) = iso {
        let payload = iso::unmoved(&transfer, status);
        outlet.respond(request.corr, Status::Ok, payload);
    } else {
        outlet.respond(request.corr, refused.status, refused.payload());
    }
}
