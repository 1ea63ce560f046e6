//! What a peer asks: the one table from operation to handler.

use std::rc::Rc;

use super::Server;
use crate::daemon::peer::{Incoming, Peer, Service};
use crate::link::{Corr, StreamId};
use crate::session::Restriction;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// What a handler answers at once.
pub(super) type Answer = Result<Vec<u8>, (Status, ErrorMap)>;

impl Service for Rc<Server> {
    fn request(&self, peer: &Peer, request: Incoming) {
        self.confirmed(peer);
        if let Err(error) = admissible(peer, request.opcode) {
            return peer.refuse(request.stream, request.corr, Status::Forbidden, &error);
        }
        let server = Rc::clone(self);
        let peer = peer.clone();
        match request.opcode {
            Opcode::DeviceList => later(peer, request, async move |peer, request| {
                server.device_list(peer, &request.payload).await
            }),
            Opcode::DeviceInfo => later(peer, request, async move |peer, request| {
                server.device_info(peer, &request.payload).await
            }),
            Opcode::DeviceSubscribe => {
                tokio::task::spawn_local(server.device_subscribe(peer, request));
            }
            Opcode::DeviceLock => server.device_lock(peer, request),
            Opcode::DeviceUnlock => later(peer, request, async move |peer, request| {
                server.device_unlock(peer, &request.payload)
            }),
            Opcode::DeviceConfigure => later(peer, request, async move |peer, request| {
                server.device_configure(peer, &request.payload).await
            }),
            Opcode::DeviceCapabilities => later(peer, request, async move |peer, request| {
                server.device_capabilities(peer, &request.payload).await
            }),
            Opcode::AclGet | Opcode::AclSet | Opcode::AclGrant | Opcode::AclRevoke => {
                later(peer, request, async move |peer, request| {
                    server.acl_request(peer, request)
                });
            }
            Opcode::UsbDeviceList => later(peer, request, async move |peer, _| {
                server.usb_device_list(peer).await
            }),
            Opcode::UsbDeviceAttach => {
                tokio::task::spawn_local(async move { server.usb_attach(peer, request).await });
            }
            Opcode::Enrol => later(peer, request, async move |peer, request| {
                server.enrol(peer, &request.payload).await
            }),
            Opcode::FamilyUpdate => later(peer, request, async move |peer, request| {
                server.family_update(peer, &request.payload)
            }),
            _ => server.bus_request(peer, request),
        }
    }

    fn event(&self, peer: &Peer, opcode: Opcode, _payload: &[u8]) {
        tracing::debug!(peer = peer.name(), %opcode, "event ignored");
    }

    fn cancelled(&self, peer: &Peer, stream: StreamId, corr: Corr) {
        self.lock_not_wanted(peer, stream, corr);
    }
}

/// A session that only enrols or only fetches the new PSK may do nothing else (profile 5.3, 5.4).
fn admissible(peer: &Peer, opcode: Opcode) -> Result<(), ErrorMap> {
    let allowed = match peer.restriction() {
        Restriction::None => opcode != Opcode::Enrol,
        Restriction::EnrolOnly => matches!(opcode, Opcode::Enrol | Opcode::FamilyUpdate),
        Restriction::UpdateOnly => opcode == Opcode::FamilyUpdate,
    };
    if allowed {
        Ok(())
    } else {
        Err(ErrorMap::new(sub::ENROL_ONLY))
    }
}

/// Works on a request in its own task and answers when that is done.
pub(super) fn later<F>(peer: Peer, request: Incoming, work: F)
where
    F: AsyncFnOnce(&Peer, &Incoming) -> Answer + 'static,
{
    tokio::task::spawn_local(async move {
        let done = tokio::select! {
            done = work(&peer, &request) => done,
            // Nobody waits for the answer any more, and a waiting task keeps the path open.
            _ = peer.closed() => return,
        };
        match done {
            Ok(payload) => peer.respond(request.stream, request.corr, Status::Ok, payload),
            Err((status, error)) => peer.refuse(request.stream, request.corr, status, &error),
        }
    });
}

/// Answers what is not done here.
pub(super) fn refuse(peer: &Peer, request: &Incoming, opcode: Opcode) {
    let sub = if opcode.name().is_some() {
        sub::UNSUPPORTED
    } else {
        sub::UNKNOWN_OP
    };
    peer.refuse(
        request.stream,
        request.corr,
        Status::BadRequest,
        &ErrorMap::new(sub),
    );
}

/// The answer to a payload that does not fit its operation.
pub(super) fn bad_payload(error: impl std::fmt::Display) -> (Status, ErrorMap) {
    (
        Status::BadRequest,
        ErrorMap::new(sub::BAD_PAYLOAD).with_msg(error.to_string()),
    )
}

/// The answer when this program failed; the cause is in its own log only.
pub(super) fn internal(error: impl std::fmt::Display) -> (Status, ErrorMap) {
    tracing::error!(%error, "a request failed");
    (Status::InternalError, ErrorMap::new(sub::INTERNAL))
}
