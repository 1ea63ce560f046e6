//! The half that has the bus: one raw socket for each stream, from the request that opened it until
//! the interface is as it was.

mod stream;
mod uses;

use std::rc::Rc;
use std::sync::Arc;

use tracing::info;

use super::enumerate;
use super::hardware::kernel::KernelCan;
use super::op::{CanMode, OpError, Open, Opened};
use crate::bus::{BusStream, End, Grant, Owned, Refused, Serving, Wanted};
use crate::kernel::can::Options;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

use stream::Stream;
use uses::Lease;
pub use uses::Owner;

/// CAN as the owner's daemon sees it.
pub const OWNED: Owned = Owned {
    class: "can",
    shared: true,
    openers: &[Opcode::CanInterfaceOpen],
    calls: &[],
    list: Some((Opcode::CanInterfaceList, enumerate::listing)),
    look: enumerate::look,
    wanted,
    serve: serve_kernel,
    call: |_, _, opcode, _| Err(unknown(opcode)),
};

thread_local! {
    /// Everybody who uses an interface of this machine through this program.
    static OWNER: Owner = Owner::new(Arc::new(KernelCan));
}

fn serve_kernel(grant: Grant, stream: BusStream) -> Serving {
    Box::pin(serve(OWNER.with(Owner::clone), grant, stream))
}

fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    if opcode != Opcode::CanInterfaceOpen {
        return Err(unknown(opcode));
    }
    let open = Open::decode(payload).map_err(|error| bad(&error))?;
    Ok(Wanted {
        device: open.dev,
        write: open.mode.writes(),
    })
}

/// Answers the opening request and, if the interface can be had, serves it until the stream ends. The
/// interface is as it was before the first stream when the last one has ended.
pub async fn serve(owner: Owner, grant: Grant, stream: BusStream) -> End {
    let (corr, told) = (grant.corr, !grant.quiet);
    let device = grant.present.id.clone();
    let outlet = Rc::clone(&stream.outlet);
    let opened = match open(owner, grant, &stream).await {
        Ok((served, payload)) => {
            outlet.respond(corr, Status::Ok, payload);
            served
        }
        Err(refused) => {
            if told {
                info!(device, reason = refused.msg, "CAN interface refused");
            }
            outlet.respond(corr, refused.status, refused.payload());
            return End::Refused(refused);
        }
    };
    if told {
        info!(device, "CAN interface opened");
    }
    let (end, counts, lease) = opened.run(stream.inbound).await;
    if told {
        let (unheard, unsent) = (counts.unheard, counts.unsent);
        info!(device, ?end, unheard, unsent, "CAN interface closed");
    }
    // Taking an interface down may wait.
    if waiting(move || drop(lease)).await.is_err() {
        return End::Failed;
    }
    end
}

async fn open(
    owner: Owner,
    grant: Grant,
    stream: &BusStream,
) -> Result<(Stream, Vec<u8>), Refused> {
    let open = Open::decode(&grant.payload).map_err(|error| bad(&error))?;
    if open.mode.writes() && !grant.write {
        return Err(Refused::new(
            Status::Forbidden,
            sub::ACL,
            "not to be sent on",
        ));
    }
    let (host, name) = (owner.host(), grant.present.place);
    let link = waiting(move || host.find(&name))
        .await?
        .map_err(|error| failed("cannot find the interface", &error))?;
    let lease = Lease::take(&owner, &link, open.mode == CanMode::Exclusive)?;
    let interface = lease.share();
    waiting(move || interface.raise())
        .await?
        .map_err(|error| failed("cannot start the interface", &error))?;
    let options = Options {
        own: open.own && open.mode.reads(),
        errors: open.errors && open.mode.reads(),
    };
    let port = owner
        .host()
        .open(link.index, options)
        .map_err(|error| failed("cannot open the interface", &error))?;
    let filters = if open.mode.reads() {
        open.filters.clone()
    } else {
        Some(Vec::new())
    };
    if let Some(filters) = filters {
        port.set_filters(&filters)
            .map_err(|error| failed("cannot set the filters", &error))?;
    }
    let controller = link.controller;
    let answer = Opened {
        bitrate: controller.map_or(0, |controller| controller.timing.bitrate),
        dbitrate: controller.map_or(0, |controller| controller.data.bitrate),
    };
    let payload = encoded(answer.encode())?;
    let stream = Stream::new(lease, port, Rc::clone(&stream.outlet), &open);
    Ok((stream, payload))
}

fn bad(error: &OpError) -> Refused {
    Refused::bad(error.to_string())
}

fn unknown(opcode: Opcode) -> Refused {
    let text = format!("{opcode} is no operation of an open CAN interface");
    Refused::new(Status::BadRequest, sub::UNKNOWN_OP, text)
}

fn encoded(payload: Result<Vec<u8>, super::op::OpEncodeError>) -> Result<Vec<u8>, Refused> {
    payload.map_err(|error| Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()))
}

fn failed(what: &str, error: &std::io::Error) -> Refused {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => Refused::io(what, errno),
        None => Refused::new(
            Status::InternalError,
            sub::INTERNAL,
            format!("{what}: {error}"),
        ),
    }
}

/// Runs what may wait on a thread that may.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refused::new(Status::InternalError, sub::INTERNAL, error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::mpsc;

    use super::*;
    use crate::bus::can::fake::FakeHost;
    use crate::bus::can::op::encode_send;
    use crate::bus::fake::{OPENING, pair};
    use crate::bus::{Inbound, MAX_AGE_SECS, Present};
    use crate::kernel::can::Frame;

    fn grant() -> Grant {
        let open = Open {
            dev: "can:can0".to_owned(),
            mode: CanMode::ReadWrite,
            fd: false,
            own: false,
            filters: None,
            errors: false,
        };
        Grant {
            corr: OPENING,
            opcode: Opcode::CanInterfaceOpen,
            payload: open.encode().unwrap(),
            present: Present {
                id: "can:can0".to_owned(),
                name: "can0".to_owned(),
                place: "can0".to_owned(),
                hazard: None,
                props: BTreeMap::new(),
            },
            write: true,
            quiet: false,
        }
    }

    #[tokio::test]
    async fn frames_that_an_outage_made_old_are_dropped_and_counted() {
        let host = FakeHost::new();
        host.add_controller("can0", 1, 500_000);
        host.add_controller("far", 1, 500_000);
        let far = host.program("far").unwrap();
        let (_mine, theirs) = pair();
        let owner = Owner::new(Arc::new(host));
        let (stream, _) = open(owner, grant(), &theirs).await.unwrap();
        let (peer, inbound) = mpsc::unbounded_channel();
        let frame = |id| Frame::new(id, 0, &[]).unwrap();
        for (id, age_secs) in [
            (1, MAX_AGE_SECS + 1),
            (2, MAX_AGE_SECS + 60),
            (3, MAX_AGE_SECS),
        ] {
            let event = Inbound::Event {
                opcode: Opcode::CanFrameSend,
                payload: encode_send(&frame(id)),
                age_secs,
            };
            peer.send(event).unwrap();
        }
        let heard = async {
            let heard = far.receive().await.unwrap();
            drop(peer);
            heard
        };
        let ((end, counts, _), heard) = tokio::join!(stream.run(inbound), heard);
        assert_eq!((end, counts.unsent), (End::PeerLeft, 2));
        let heard: Vec<Frame> = heard.iter().map(|heard| heard.frame).collect();
        assert_eq!(heard, [frame(3)]);
    }
}
