//! Which device a person means, and what its owner says to that.

use std::time::Duration;

use super::Client;
use super::hub::Hub;
use crate::bus::{AskError, Presenter};
use crate::daemon::admin::unresolved;
use crate::daemon::control::message::{ControlError, NodeName};
use crate::daemon::peer::Peer;
use crate::device::acl::Mode;
use crate::device::id::DeviceId;
use crate::device::name::{self, Candidate, NameError};
use crate::device::op::{Brief, DeviceRequest, Info, ListRequest, ListResponse};
use crate::device::registry::{Refusal, State};
use crate::wire::msgpack::{self, Value};
use crate::wire::opcode::Opcode;
use crate::wire::status::sub;

/// Time for the owner to list its devices.
const LIST: Duration = Duration::from_secs(10);

/// The class of the devices that no table names.
pub(super) const USB: &str = "usb";

/// What a person wants to have.
pub(super) struct Target {
    /// The device, as far as it is known.
    pub(super) brief: Brief,
    /// The owner told of it.
    pub(super) listed: bool,
    /// The name of its port, when it was asked for by that.
    pub(super) port: Option<String>,
}

impl Target {
    /// What a person calls so.
    pub(super) async fn named(
        peer: &Peer,
        query: &str,
        node: &NodeName,
        presenters: &[&Presenter],
    ) -> Result<Self, ControlError> {
        if query.parse::<DeviceId>().is_ok_and(|name| name.is_port()) {
            return Ok(Self::at_port(peer, query).await);
        }
        let offered = list(peer, node).await?;
        let brief = resolve(&offered, query, node, presenters)?;
        Ok(Self {
            listed: offered.contains(&brief),
            brief,
            port: None,
        })
    }

    /// What is plugged in there now. If the owner does not tell, it will say why when it is asked
    /// for the device.
    pub(super) async fn at_port(peer: &Peer, port: &str) -> Self {
        let request = DeviceRequest {
            dev: port.to_owned(),
        };
        let info = match msgpack::encode(&request) {
            Ok(payload) => peer.call(Opcode::DeviceInfo, payload, LIST).await.ok(),
            Err(_) => None,
        };
        let info = info.and_then(|info| msgpack::decode::<Info>(&info).ok());
        let brief = info
            .filter(|info| info.dev.parse::<DeviceId>().is_ok())
            .map(Info::brief);
        Self {
            listed: brief.is_some(),
            brief: brief.unwrap_or_else(|| unlisted(port)),
            port: Some(port.to_owned()),
        }
    }

    /// What the owner is asked for.
    pub(super) fn name(&self) -> &str {
        self.port.as_deref().unwrap_or(&self.brief.dev)
    }

    /// The class of the device, by its id.
    pub(super) fn class(&self) -> &str {
        class(&self.brief.dev)
    }
}

/// The class of what has that id; only USB has names of ports.
fn class(id: &str) -> &str {
    let plain = id.split_once(':').map(|(class, _)| class);
    plain.unwrap_or(USB)
}

/// The most devices of one node that are looked at: no list may fill this machine's memory.
const MAX_DEVICES: usize = 4096;

/// Every device that the node offers to this one.
async fn list(peer: &Peer, node: &NodeName) -> Result<Vec<Brief>, ControlError> {
    let nonsense = |_| ControlError::failed(format!("{} sent a list without sense", node.name));
    let mut request = ListRequest::default();
    let mut devices = Vec::new();
    loop {
        let payload =
            msgpack::encode(&request).map_err(|error| ControlError::failed(error.to_string()))?;
        let answer = peer
            .call(Opcode::DeviceList, payload, LIST)
            .await
            .map_err(|error| ask_error(&error.into(), node, "its devices"))?;
        let page = ListResponse::decode(&answer).map_err(nonsense)?;
        let empty = page.devs.is_empty();
        // What is no device id cannot be named by a person, nor asked for.
        let named = page
            .devs
            .into_iter()
            .filter(|brief| brief.dev.parse::<DeviceId>().is_ok());
        devices.extend(named.take(MAX_DEVICES - devices.len()));
        match page.more {
            // A list that does not advance would never end.
            Some(more)
                if !empty
                    && devices.len() < MAX_DEVICES
                    && request.after.as_ref().is_none_or(|after| more > *after) =>
            {
                request.after = Some(more);
            }
            Some(_) | None => return Ok(devices),
        }
    }
}

/// The listed device that a person means. A whole id that is not listed is asked for all the same:
/// it is the owner who says no, and whose log tells that somebody wanted it.
fn resolve(
    devices: &[Brief],
    query: &str,
    node: &NodeName,
    presenters: &[&Presenter],
) -> Result<Brief, ControlError> {
    let candidates: Vec<_> = devices
        .iter()
        .map(|d| Candidate {
            id: &d.dev,
            name: &d.name,
        })
        .collect();
    let found = name::resolve(query, &candidates);
    if found == Err(NameError::Unknown) && is_whole_id(query, presenters) {
        return Ok(unlisted(query));
    }
    let found = found.map_err(|error| {
        if error == NameError::Unknown {
            let message = format!("{} offers no device {query:?}", node.name);
            let error = ControlError::not_found(message).mend("myclerk list");
            if devices.is_empty() {
                return error.because("it offers nothing to this machine");
            }
            return error;
        }
        unresolved(
            &format!("device on {}", node.name),
            query,
            error,
            "myclerk list",
        )
    })?;
    devices
        .get(found)
        .cloned()
        .ok_or_else(|| ControlError::not_found(format!("there is no device {query:?}")))
}

fn is_whole_id(query: &str, presenters: &[&Presenter]) -> bool {
    let known = |class: &str| class == USB || presenters.iter().any(|known| known.class == class);
    query.contains(':') && known(class(query)) && query.parse::<DeviceId>().is_ok()
}

fn unlisted(id: &str) -> Brief {
    Brief {
        dev: id.to_owned(),
        class: class(id).to_owned(),
        name: String::new(),
        state: State::Unavailable.to_u8(),
        mode: Mode::None.to_u8(),
        owner: None,
    }
}

impl Client {
    /// The devices that a node offers to this one.
    pub(super) async fn remote_devices(&self, hub: &Hub) -> Result<Vec<Brief>, ControlError> {
        match hub.peer() {
            Some(peer) => list(&peer, &hub.node()).await,
            None => Ok(Vec::new()),
        }
    }
}

/// A refusal by the owner, in words for the person at this machine.
pub(super) fn ask_error(error: &AskError, node: &NodeName, thing: &str) -> ControlError {
    let name = &node.name;
    match error {
        AskError::Refused { status, error: map } => match map.sub.as_ref() {
            sub::EXCLUSIVE => {
                // A bus may have a reason of its own.
                let known = map
                    .msg
                    .clone()
                    .filter(|msg| *msg != Refusal::InUse.to_string());
                let detach = "another machine has it attached; it must detach it first";
                ControlError::refused(format!("{thing} on {name} is in use"))
                    .because(known.unwrap_or_else(|| detach.to_owned()))
            }
            sub::LOCK_HELD => {
                ControlError::refused(format!("{thing} on {name} is locked by another machine"))
                    .because("nobody else can use it until that machine unlocks it")
                    .mend(format!("myclerk lock {name}/{thing} --wait 5m"))
            }
            sub::LOCK_LOST => {
                let lost = format!("this machine's lock of {thing} on {name} is lost");
                ControlError::refused(lost)
                    .because("it was not renewed in time, or somebody broke it")
                    .mend(format!("myclerk lock {name}/{thing}"))
            }
            sub::ACL if map.detail == Some(Value::from(sub::LOCK)) => ControlError::refused(
                format!("{name} lets this machine use {thing} only with its lock"),
            )
            .mend(format!("myclerk lock {name}/{thing}")),
            sub::ACL => {
                ControlError::refused(format!("{name} does not let this machine use {thing}"))
                    .mend(format!("on {name}: myclerk acl grant {thing} THIS-MACHINE"))
            }
            sub::DEVICE => ControlError::not_found(format!("{name} offers no device {thing:?}"))
                .mend("myclerk list"),
            sub::DEVICE_GONE => {
                ControlError::not_found(format!("{thing} was unplugged from {name}"))
            }
            _ => {
                let cause = map
                    .msg
                    .clone()
                    .unwrap_or_else(|| format!("{status} ({})", map.sub));
                ControlError::refused(format!("{name} refuses {thing}")).because(cause)
            }
        },
        AskError::Ended(end) => {
            ControlError::failed(format!("the session with {name} ended")).because(end.clone())
        }
        AskError::NotSent(why) => {
            ControlError::failed(format!("{name} could not be asked")).because(why.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_ids_of_every_known_class_are_asked_for_although_they_are_not_listed() {
        const NONE: &[&Presenter] = &[];
        for id in ["usb:1:2", "usb:0403:6001@1-4"] {
            assert!(is_whole_id(id, NONE), "{id}");
        }
        for other in ["usb", "can:can0", "usb:a b", "Stick", ""] {
            assert!(!is_whole_id(other, NONE), "{other}");
        }
    }

    #[test]
    fn the_class_of_a_port_is_usb_and_that_of_an_id_its_beginning() {
        assert_eq!(class("usb@1-1.4"), "usb");
        assert_eq!(class("serial:by-id/x"), "serial");
    }
}
