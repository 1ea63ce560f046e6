//! `myclerk list`

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::ask::{ask, ask_if_running};
use super::errors::{CliError, Exit};
use super::output::{self, Table, clean, label};
use crate::daemon::control::message::{DeviceState, LocalDevice, RemoteNode};
use crate::daemon::control::{Reply, Request, Side};
use crate::device::acl::Mode;

const EXAMPLES: &str = "\
Examples:
  myclerk list
  myclerk list --local
  myclerk list --json";

/// Show the devices of this machine and those that others offer to it
///
/// The first column is what `export` takes for this machine's own devices and what `attach` takes
/// for the others'. Both also take the name of a port, usb@1-1.4, for whatever is plugged in there.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct List {
    /// Only this machine's own devices
    #[arg(long)]
    local: bool,
}

#[derive(Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<Vec<LocalDevice>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Vec<RemoteNode>>,
}

impl List {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let output = if self.local {
            let local = own(ask(context, Side::Server, &Request::List)?)?;
            Output {
                local: Some(local),
                remote: None,
            }
        } else {
            let local = ask_if_running(context, Side::Server, &Request::List)?;
            let remote = ask_if_running(context, Side::Client, &Request::List)?;
            Output {
                local: local.map(own).transpose()?,
                remote: remote.map(others).transpose()?,
            }
        };
        if output.local.is_none() && output.remote.is_none() {
            return Err(no_daemon());
        }
        if context.json {
            output::json(&output)
        } else {
            output::print(&output.text())
        }
    }
}

fn own(reply: Reply) -> Result<Vec<LocalDevice>, CliError> {
    let Reply::Local(devices) = reply else {
        return Err(CliError::odd_reply());
    };
    Ok(devices)
}

fn others(reply: Reply) -> Result<Vec<RemoteNode>, CliError> {
    let Reply::Remote(nodes) = reply else {
        return Err(CliError::odd_reply());
    };
    Ok(nodes)
}

/// The error of subcommands that either daemon could answer.
pub(super) fn no_daemon() -> CliError {
    CliError::new(
        Exit::NotRunning,
        "neither the server nor the client daemon is running",
    )
    .mend("sudo myclerk serve   # to share devices; to use those of others: sudo myclerk client")
}

impl Output {
    fn text(&self) -> String {
        match (&self.local, &self.remote) {
            (Some(local), None) => local_text(local, 0),
            (None, Some(remote)) => remote_text(remote, 0),
            (Some(local), Some(remote)) => format!(
                "This machine:\n{}\nOther machines:\n{}",
                local_text(local, 2),
                remote_text(remote, 2)
            ),
            (None, None) => String::new(),
        }
    }
}

fn local_text(devices: &[LocalDevice], indent: usize) -> String {
    let mut table = Table::new(&["DEVICE", "NAME", "PORT", "OFFERED", "USED BY", "NOTE"]);
    for device in devices {
        let users = device
            .user
            .as_ref()
            .into_iter()
            .chain(&device.others)
            .map(|user| label(&user.name, &user.id));
        let users = users.collect::<Vec<_>>().join(" ");
        let offered = if device.exported { "yes" } else { "no" };
        let hazard = device.hazard.as_deref().unwrap_or_default();
        let plugged = device.plugged.as_deref().unwrap_or_default();
        table.row(&[&device.id, &device.name, plugged, offered, &users, hazard]);
    }
    if table.is_empty() {
        return format!("{:indent$}nothing is plugged in\n", "");
    }
    table.text(indent)
}

fn remote_text(nodes: &[RemoteNode], indent: usize) -> String {
    let mut table = Table::new(&["DEVICE", "NAME", "MODE", "STATE", "USED BY", "HERE"]);
    let mut notes = String::new();
    for node in nodes {
        let name = label(&node.node.name, &node.node.id);
        for device in &node.devices {
            // The usual mode would only be clutter.
            let mode = if device.mode == Mode::ReadWrite {
                ""
            } else {
                device.mode.word()
            };
            // That this machine has it is its state already.
            let user = device
                .user
                .as_ref()
                .filter(|_| device.state != DeviceState::Attached)
                .map_or("", |user| label(&user.name, &user.id));
            let here = match device.port {
                Some(port) => format!("port {port}"),
                None => device.files.join(" "),
            };
            let id = format!("{name}/{}", device.id);
            table.row(&[&id, &device.name, mode, device.state.word(), user, &here]);
        }
        // Writing to a String does not fail.
        let _ = match &node.problem {
            Some(problem) => writeln!(
                notes,
                "{:indent$}{} is not connected: {}",
                "",
                clean(name),
                clean(problem)
            ),
            None if node.devices.is_empty() => {
                writeln!(
                    notes,
                    "{:indent$}{} offers nothing to this machine (there: myclerk acl grant DEVICE NODE)",
                    "",
                    clean(name)
                )
            }
            None => Ok(()),
        };
    }
    if nodes.is_empty() {
        let _ = writeln!(
            notes,
            "{:indent$}no other machine is known; see myclerk join",
            ""
        );
    }
    if table.is_empty() {
        notes
    } else {
        table.text(indent) + &notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::control::message::{Link, NodeName, RemoteDevice};

    fn node(name: &str) -> NodeName {
        NodeName {
            id: "0123456789abcdef".repeat(2),
            name: name.to_owned(),
        }
    }

    fn remote(name: &str, problem: Option<&str>, devices: Vec<RemoteDevice>) -> RemoteNode {
        RemoteNode {
            node: node(name),
            link: Link::Connected,
            problem: problem.map(str::to_owned),
            devices,
        }
    }

    fn stick(state: DeviceState, port: Option<u32>) -> RemoteDevice {
        RemoteDevice {
            id: "usb:46f4:0001:S1".to_owned(),
            name: "QEMU stick".to_owned(),
            mode: Mode::ReadWrite,
            state,
            port,
            files: Vec::new(),
            user: None,
        }
    }

    #[test]
    fn the_first_column_is_what_attach_takes() {
        let nodes = [
            remote("hub", None, vec![stick(DeviceState::Attached, Some(3))]),
            remote("", None, vec![stick(DeviceState::Free, None)]),
            remote("shed", Some("connection refused"), Vec::new()),
            remote("attic", None, Vec::new()),
        ];
        assert_eq!(
            remote_text(&nodes, 0),
            "DEVICE                         NAME        STATE     HERE\n\
             hub/usb:46f4:0001:S1           QEMU stick  attached  port 3\n\
             0123456789ab/usb:46f4:0001:S1  QEMU stick  free\n\
             shed is not connected: connection refused\n\
             attic offers nothing to this machine (there: myclerk acl grant DEVICE NODE)\n"
        );
    }

    #[test]
    fn own_devices_show_what_is_offered_and_why_not() {
        let device = LocalDevice {
            id: "usb:1:2".to_owned(),
            name: "Stick".to_owned(),
            plugged: Some("usb@1-4".to_owned()),
            exported: true,
            hazard: None,
            user: Some(node("shed")),
            others: Vec::new(),
        };
        let disk = LocalDevice {
            exported: false,
            hazard: Some("sdb1 is mounted".to_owned()),
            user: None,
            ..device.clone()
        };
        assert_eq!(
            local_text(&[device, disk], 2),
            "  DEVICE   NAME   PORT     OFFERED  USED BY  NOTE\n  \
             usb:1:2  Stick  usb@1-4  yes      shed\n  \
             usb:1:2  Stick  usb@1-4  no                sdb1 is mounted\n"
        );
        assert_eq!(local_text(&[], 2), "  nothing is plugged in\n");
    }
}
