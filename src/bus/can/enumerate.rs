//! The CAN interfaces of this machine, as the owner's daemon sees them.

use std::collections::BTreeMap;
use std::io;

use super::hardware::CanHost;
use super::hardware::kernel::KernelCan;
use super::op::{InterfaceEntry, InterfaceList, encode_empty};
use crate::bus::{Hazard, Present};
use crate::kernel::can::{BusState, Link};
use crate::wire::msgpack::Value;

/// How the alias of an interface begins that this program made.
pub(super) const OURS: &str = "myclerk:";

/// Looks for interfaces; may wait.
///
/// # Errors
/// What the kernel says.
pub fn look() -> io::Result<Vec<Present>> {
    let mut links = KernelCan.list()?;
    links.sort_by_key(|link| link.index);
    Ok(links.iter().map(present).collect())
}

/// The answer to `CAN_INTERFACE_LIST`.
pub fn listing(devices: &[(Present, u8)]) -> Vec<u8> {
    let number = |present: &Present, key: &str| match present.props.get(key) {
        Some(Value::Uint(value)) => u32::try_from(*value).unwrap_or(0),
        _ => 0,
    };
    let entries = devices.iter().map(|(present, state)| InterfaceEntry {
        dev: present.id.clone(),
        name: present.name.clone(),
        fd: present.props.get("fd") == Some(&Value::Bool(true)),
        state: *state,
        bitrate: number(present, "bitrate"),
    });
    let list = InterfaceList {
        ifs: entries.collect(),
    };
    list.encode().unwrap_or_else(|_| {
        // INVARIANT: a list of plain fields is always encoded.
        let mut empty = Vec::new();
        encode_empty(&mut empty);
        empty
    })
}

fn present(link: &Link) -> Present {
    let mut props = BTreeMap::from([
        ("fd".to_owned(), Value::from(link.is_fd())),
        ("up".to_owned(), Value::from(link.up)),
        ("kind".to_owned(), Value::from(link.kind.as_str())),
    ]);
    if let Some(controller) = &link.controller {
        let number = |value: u32| Value::from(u64::from(value));
        props.insert("bitrate".to_owned(), number(controller.timing.bitrate));
        props.insert("dbitrate".to_owned(), number(controller.data.bitrate));
        props.insert("bus".to_owned(), Value::from(state(controller.state)));
    }
    let ours = link.alias.starts_with(OURS);
    Present {
        id: format!("can:{}", link.name),
        name: if link.alias.is_empty() {
            link.name.clone()
        } else {
            link.alias.clone()
        },
        place: link.name.clone(),
        hazard: ours.then(|| Hazard {
            reason: format!("it is itself a remote interface ({})", link.alias),
            forcible: true,
        }),
        props,
    }
}

/// As `ip -details link` writes it.
const fn state(state: BusState) -> &'static str {
    match state {
        BusState::Active => "ERROR-ACTIVE",
        BusState::Warning => "ERROR-WARNING",
        BusState::Passive => "ERROR-PASSIVE",
        BusState::Off => "BUS-OFF",
        BusState::Stopped => "STOPPED",
        BusState::Sleeping => "SLEEPING",
        BusState::Unknown(_) => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::can::fake::FakeHost;

    #[test]
    fn interfaces_are_offered_but_not_those_that_are_remote_themselves() {
        let host = FakeHost::new();
        host.add_controller("can0", 1, 500_000);
        host.add_virtual("mc-can1", "myclerk:hub/can:can1");
        let all: Vec<_> = host.list().unwrap().iter().map(present).collect();
        assert_eq!(all[0].id, "can:can0");
        assert_eq!(all[0].hazard, None);
        assert_eq!(all[0].props["bitrate"], Value::Uint(500_000));
        assert_eq!(all[0].props["bus"], Value::from("ERROR-ACTIVE"));
        assert!(all[1].hazard.as_ref().is_some_and(|hazard| hazard.forcible));
        let listed = listing(&[(all[0].clone(), 2)]);
        let list = InterfaceList::decode(&listed).unwrap();
        assert_eq!(list.ifs[0].bitrate, 500_000);
        assert!(!list.ifs[0].fd);
        assert_eq!(list.ifs[0].state, 2);
    }
}
