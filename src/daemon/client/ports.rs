//! Why a device got no port of vhci-hcd, and what the person at this machine can do about it.

use std::error::Error;

use super::Client;
use crate::daemon::control::message::ControlError;
use crate::kernel::vhci::{Port, PortId, VhciError};

impl Client {
    /// A failure of vhci-hcd in words for a person.
    pub(super) fn no_port(&self, error: &VhciError) -> ControlError {
        let ports = self.vhci.ports().unwrap_or_default();
        let attached = self.attached.borrow();
        let ours = attached
            .iter()
            .filter(|device| {
                device
                    .port()
                    .is_some_and(|port| is_in_the_way(error, &ports, port))
            })
            .map(|device| format!("{}/{}", device.node.name, device.device));
        explain(error, &ours.collect::<Vec<_>>())
    }
}

/// Whether a device on that port has what the error says is missing: those of the other hubs have
/// not.
fn is_in_the_way(error: &VhciError, ports: &[Port], port: PortId) -> bool {
    match error {
        VhciError::NoFreePort { hub, .. } | VhciError::WornOut { hub, .. } => {
            ports.iter().any(|row| row.id == port && row.hub == *hub)
        }
        VhciError::NotLoaded { .. }
        | VhciError::Permission { .. }
        | VhciError::NoHub { .. }
        | VhciError::Refused { .. }
        | VhciError::Format { .. }
        | VhciError::Io { .. } => false,
    }
}

/// The same, by the names of the devices that this daemon has on those hubs.
fn explain(error: &VhciError, ours: &[String]) -> ControlError {
    match error {
        VhciError::NotLoaded { path } => {
            let message = "this machine's kernel has no virtual USB host controller";
            ControlError::failed(message)
                .because(format!("{} does not exist", path.display()))
                .mend("modprobe vhci-hcd")
        }
        VhciError::Permission { path } => {
            ControlError::refused(format!("no permission to use {}", path.display()))
                .because("the client daemon must run as root")
                .mend("sudo myclerk client")
        }
        VhciError::NoFreePort { hub, total } => {
            ControlError::failed(format!("all {total} {hub} ports of vhci-hcd are in use"))
                .because(format!(
                    "{}; how many ports there are was decided when the kernel was built",
                    users(ours)
                ))
                .mend(match ours.first() {
                    Some(first) => format!("myclerk detach {first}"),
                    None => "usbip port".to_owned(),
                })
        }
        VhciError::WornOut { hub, worn, hubs } => {
            let message = format!(
                "{worn} of {hubs} {hub} hubs of vhci-hcd have used up their sequence numbers"
            );
            ControlError::failed(message)
                .because(if worn == hubs {
                    "they count on until the module is loaded again".to_owned()
                } else {
                    format!("the others are full: {}", users(ours))
                })
                .mend("myclerk detach --all && modprobe -r vhci_hcd && modprobe vhci_hcd")
        }
        VhciError::NoHub { hub } => {
            ControlError::failed(format!("this machine's vhci-hcd has no {hub} ports"))
                .because("no device can be used at another speed than its own")
                .mend("plug the device into a slower port of its owner, such as a USB 2 hub")
        }
        VhciError::Refused { .. } | VhciError::Format { .. } | VhciError::Io { .. } => {
            let failed = ControlError::failed(error.to_string());
            match error.source() {
                Some(source) => failed.because(source.to_string()),
                None => failed,
            }
            .mend("myclerk doctor")
        }
    }
}

/// Who has the ports.
fn users(ours: &[String]) -> String {
    match ours {
        [] => "other programs use them all".to_owned(),
        [one] => format!("one is used by {one}, the others by other programs"),
        several => format!("{} are used by {}", several.len(), several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::kernel::vhci::{Hub, PortState};

    fn told(error: &VhciError, ours: &[&str]) -> [String; 3] {
        let ours: Vec<_> = ours.iter().map(|name| (*name).to_owned()).collect();
        let error = explain(error, &ours);
        [
            error.message,
            error.cause.unwrap_or_default(),
            error.mend.unwrap_or_default(),
        ]
    }

    #[test]
    fn full_hubs_name_our_devices_and_how_to_free_a_port() {
        let full = VhciError::NoFreePort {
            hub: Hub::High,
            total: 120,
        };
        let [message, cause, mend] = told(&full, &["hub/usb:1:2", "shed/usb:3:4"]);
        assert!(message.starts_with("all 120 high-speed ports"), "{message}");
        assert!(
            cause.starts_with("2 are used by hub/usb:1:2, shed/usb:3:4"),
            "{cause}"
        );
        assert_eq!(mend, "myclerk detach hub/usb:1:2");
        let [_, cause, mend] = told(&full, &[]);
        assert!(cause.starts_with("other programs"), "{cause}");
        assert_eq!(mend, "usbip port");
    }

    #[test]
    fn only_a_device_on_a_hub_of_that_kind_is_in_the_way() {
        let row = |id, hub| Port {
            id: PortId(id),
            controller: 0,
            hub,
            state: PortState::Used,
            devid: 1,
            local_bus_id: "3-1".to_owned(),
        };
        let ports = [row(0, Hub::High), row(8, Hub::Super)];
        let full = VhciError::NoFreePort {
            hub: Hub::Super,
            total: 8,
        };
        assert!(is_in_the_way(&full, &ports, PortId(8)));
        assert!(!is_in_the_way(&full, &ports, PortId(0)));
        assert!(!is_in_the_way(&full, &ports, PortId(99)));
    }

    #[test]
    fn where_every_hub_is_worn_out_none_is_called_full() {
        let worn = |worn| VhciError::WornOut {
            hub: Hub::High,
            worn,
            hubs: 8,
        };
        let [_, cause, _] = told(&worn(3), &["hub/usb:1:2"]);
        assert!(cause.starts_with("the others are full"), "{cause}");
        let [_, cause, _] = told(&worn(8), &[]);
        assert!(!cause.contains("full"), "{cause}");
    }

    #[test]
    fn every_other_reason_has_its_own_remedy() {
        let path = PathBuf::from("/sys/x");
        for (error, remedy) in [
            (
                VhciError::NotLoaded { path: path.clone() },
                "modprobe vhci-hcd",
            ),
            (VhciError::Permission { path }, "sudo myclerk client"),
            (VhciError::NoHub { hub: Hub::Super }, "USB 2"),
            (
                VhciError::WornOut {
                    hub: Hub::High,
                    worn: 8,
                    hubs: 8,
                },
                "modprobe -r vhci_hcd && modprobe vhci_hcd",
            ),
        ] {
            let [message, cause, mend] = told(&error, &[]);
            assert!(!message.is_empty() && !cause.is_empty());
            assert!(mend.contains(remedy), "{mend}");
        }
    }
}
