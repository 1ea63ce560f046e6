//! What the kernel will call the device on a port, before there is one.

use std::fs;
use std::path::Path;

use super::{Hub, Port, PortId, Vhci};

impl Vhci {
    /// The kernel's name for a device on that port, `3-1`: the root hub's bus and the port's place on
    /// that hub (kernel `drivers/usb/usbip/vhci_sysfs.c`, `drivers/usb/core/hub.c`). `None` where
    /// sysfs does not show the hub.
    pub fn bus_id(&self, port: PortId) -> Option<String> {
        let ports = self.ports().ok()?;
        let path = self.controllers.path("");
        let row = ports.iter().find(|row| row.id == port)?;
        // The first controller has the files of all; the others stand beside it.
        let platform = path.ancestors().find(|path| path.ends_with("vhci_hcd.0"))?;
        let controller = platform.with_file_name(format!("vhci_hcd.{}", row.controller));
        Some(format!(
            "{}-{}",
            root_hub(&controller, row.hub)?,
            place(&ports, row)
        ))
    }
}

/// The place of a port on its root hub, from 1.
fn place(ports: &[Port], row: &Port) -> usize {
    let siblings = ports
        .iter()
        .filter(|port| port.controller == row.controller && port.hub == row.hub);
    siblings.filter(|port| port.id < row.id).count() + 1
}

/// The bus of a controller's root hub.
fn root_hub(controller: &Path, hub: Hub) -> Option<u32> {
    let entries = fs::read_dir(controller).ok()?.flatten();
    let mut hubs = entries.filter_map(|entry| {
        let bus = entry
            .file_name()
            .to_str()?
            .strip_prefix("usb")?
            .parse()
            .ok()?;
        let speed = fs::read_to_string(entry.path().join("speed")).ok()?;
        let speed: u32 = speed.trim().parse().ok()?;
        let kind = if speed < 5000 { Hub::High } else { Hub::Super };
        (kind == hub).then_some(bus)
    });
    hubs.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vhci::PortState;

    #[test]
    fn a_port_is_counted_on_its_own_root_hub() {
        let platform = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = platform.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (controller, high, fast) in [(0, 3, 4), (1, 5, 6)] {
            put(&format!("vhci_hcd.{controller}/usb{high}/speed"), "480\n");
            put(&format!("vhci_hcd.{controller}/usb{fast}/speed"), "5000\n");
        }
        put("vhci_hcd.0/nports", "8\n");
        let head = "hub port sta spd dev      sockfd local_busid\n";
        let row = |hub: &str, port: u32| format!("{hub}  {port:04} 004 000 00000000 000000 0-0\n");
        for (file, first) in [("status", 0), ("status.1", 4)] {
            let rows: String = (first..first + 4)
                .map(|port| row(if port % 4 < 2 { "hs" } else { "ss" }, port))
                .collect();
            put(&format!("vhci_hcd.0/{file}"), &format!("{head}{rows}"));
        }
        let vhci = Vhci::at(platform.path());
        assert!(
            vhci.ports()
                .unwrap()
                .iter()
                .all(|row| row.state == PortState::Free)
        );
        let names = [0, 1, 2, 3, 4, 5, 6, 7].map(|port| vhci.bus_id(PortId(port)).unwrap());
        assert_eq!(
            names,
            ["3-1", "3-2", "4-1", "4-2", "5-1", "5-2", "6-1", "6-2"]
        );
        assert_eq!(vhci.bus_id(PortId(8)), None);
    }
}
