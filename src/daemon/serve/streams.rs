//! What peers ask of the buses that have a line in [`crate::bus::OWNED`].

use std::rc::Rc;

use super::Server;
use super::devices::refused;
use super::dispatch::{Answer, internal, later, refuse};
use super::look::Hardware;
use super::uses::Asked;
use crate::bus::{self, Grant, Listing, Owned, Present, Refused, Wanted};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::acl::Need;
use crate::device::id::DeviceId;
use crate::device::registry::{Refusal, Sharing};
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

impl Server {
    /// Answers what no bus knows too.
    pub(super) fn bus_request(self: Rc<Self>, peer: Peer, request: Incoming) {
        let opcode = request.opcode;
        let opens = |owned: &&Owned| owned.openers.contains(&opcode);
        let calls = |owned: &&Owned| owned.calls.contains(&opcode);
        let list = self.owned.iter().find_map(|owned| {
            let (list, listing) = owned.list?;
            (list == opcode).then_some((owned.class, listing))
        });
        if self.owned.iter().copied().any(|owned| opens(&owned)) {
            tokio::task::spawn_local(self.bus_stream(peer, request));
        } else if self.owned.iter().copied().any(|owned| calls(&owned)) {
            later(peer, request, async move |peer, request| {
                self.bus_call(peer, request).await
            });
        } else if let Some((class, listing)) = list {
            later(peer, request, async move |peer, _| {
                Ok(self.bus_list(peer, class, listing).await)
            });
        } else {
            refuse(&peer, &request, opcode);
        }
    }

    /// Serves the stream of an opener from its request to its end.
    async fn bus_stream(self: Rc<Self>, peer: Peer, request: Incoming) {
        let asked = self.choose(&request, |owned| owned.openers);
        let asked = asked.map(|(owned, wanted)| Asked {
            device: wanted.device.clone(),
            need: need(&wanted),
            sharing: sharing(owned),
            lock: None,
            pick: move |hardware: &Hardware| {
                let present = of_bus(owned, hardware)?;
                Some((owned, present.clone(), wanted.write))
            },
        });
        self.lend(peer, request, asked, async |loan, request, stream| {
            let (owned, present, write) = loan.hardware;
            let grant = Grant {
                corr: request.corr.0,
                opcode: request.opcode,
                payload: request.payload,
                present,
                write,
                quiet: loan.quiet,
            };
            (owned.serve)(grant, stream).await
        })
        .await;
    }

    /// Performs an operation on stream 0.
    async fn bus_call(&self, peer: &Peer, request: &Incoming) -> Answer {
        let asked = peer.asked(request.stream, request.corr);
        let (owned, wanted) = self.choose(request, |owned| owned.calls)?;
        let found = self.recent().await;
        let present = self
            .callable(peer, request.opcode, owned, &wanted)
            .and_then(|id| {
                let hardware = found.get(&id).and_then(|at| of_bus(owned, at));
                hardware.cloned().ok_or(Refusal::Unknown)
            })
            .map_err(|refusal| {
                let (status, error) = refused(&refusal);
                self.record_refusal(peer, Some(&wanted.device), &error);
                (status, error)
            })?;
        let (opcode, payload) = (request.opcode, request.payload.clone());
        let caller = asked.caller.clone();
        let call = move || (owned.call)(&present, &caller, opcode, &payload);
        let called = tokio::task::spawn_blocking(call).await;
        called.map_err(internal)?.map_err(|error| not_done(&error))
    }

    /// The device of a call that the peer may make.
    fn callable(
        &self,
        peer: &Peer,
        opcode: Opcode,
        owned: &Owned,
        wanted: &Wanted,
    ) -> Result<DeviceId, Refusal> {
        let name: DeviceId = wanted.device.parse().map_err(|_| Refusal::Unknown)?;
        let found = self.usable(peer, &name, opcode, need(wanted), None)?;
        let registry = self.registry.borrow();
        let device = registry.get(&found.id).ok_or(Refusal::Unknown)?;
        let node = peer.identity().node_id.0;
        let foreign = device.users.iter().any(|user| user.node != node);
        if wanted.write && !owned.shared && foreign {
            return Err(Refusal::InUse);
        }
        Ok(found.id)
    }

    async fn bus_list(&self, peer: &Peer, class: &str, listing: Listing) -> Vec<u8> {
        let found = self.recent().await;
        let briefs = self.briefs(peer.identity());
        let listed: Vec<(Present, u8)> = briefs
            .iter()
            .filter(|brief| brief.class == class)
            .filter_map(|brief| {
                let id: DeviceId = brief.dev.parse().ok()?;
                Some((found.get(&id)?.other()?.clone(), brief.state))
            })
            .collect();
        listing(&listed)
    }

    /// The bus that a request is for: of those that have the operation, the one whose devices are
    /// called so.
    fn choose(
        &self,
        request: &Incoming,
        operations: fn(&Owned) -> &'static [Opcode],
    ) -> Result<(&'static Owned, Wanted), (Status, ErrorMap)> {
        let opcode = request.opcode;
        let mut refusal = refused(&Refusal::Unknown);
        let candidates = self.owned.iter().copied();
        for owned in candidates.filter(|owned| operations(owned).contains(&opcode)) {
            match (owned.wanted)(opcode, &request.payload) {
                Ok(wanted) if is_of_class(&wanted.device, owned.class) => {
                    in_time(wanted.write, request.age_secs)?;
                    return Ok((owned, wanted));
                }
                Ok(_) => {}
                Err(error) => refusal = not_done(&error),
            }
        }
        Err(refusal)
    }
}

/// What moves or changes something is not begun late (profile 16.3).
pub(super) fn in_time(changes: bool, age_secs: u32) -> Result<(), (Status, ErrorMap)> {
    if changes && age_secs > bus::MAX_AGE_SECS {
        return Err((Status::Forbidden, ErrorMap::new(sub::TOO_OLD)));
    }
    Ok(())
}

fn is_of_class(device: &str, class: &str) -> bool {
    device
        .parse::<DeviceId>()
        .is_ok_and(|device| device.class() == class)
}

/// The device of that bus; registered under an id of it, so it is one.
fn of_bus<'a>(owned: &Owned, hardware: &'a Hardware) -> Option<&'a Present> {
    hardware
        .other()
        .filter(|present| is_of_class(&present.id, owned.class))
}

const fn need(wanted: &Wanted) -> Need {
    if wanted.write {
        Need::Write
    } else {
        Need::Read
    }
}

const fn sharing(owned: &Owned) -> Sharing {
    if owned.shared {
        Sharing::Shared
    } else {
        Sharing::Exclusive
    }
}

fn not_done(error: &Refused) -> (Status, ErrorMap) {
    (error.status, error.error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::gpio::op::{Direction, LineRequest};
    use crate::bus::gpio::server::wanted;

    #[test]
    fn lines_are_not_driven_by_a_late_request_but_read() {
        let request = |dir, safe| LineRequest {
            dev: "gpio:late".to_owned(),
            lines: vec![0],
            dir,
            safe,
            ..LineRequest::default()
        };
        for (request, late) in [
            (request(Direction::Output, vec![None]), Err(sub::TOO_OLD)),
            (request(Direction::Input, vec![]), Ok(())),
        ] {
            let payload = request.encode().unwrap();
            let wanted = wanted(Opcode::GpioLineRequest, &payload).unwrap();
            assert!(in_time(wanted.write, bus::MAX_AGE_SECS).is_ok());
            let answer = in_time(wanted.write, bus::MAX_AGE_SECS + 1);
            assert_eq!(
                answer.map_err(|(_, error)| error.sub),
                late.map_err(Into::into)
            );
        }
    }
}
