//! `myclerk who`

use clap::Args;

use super::Context;
use super::ask::ask;
use super::errors::CliError;
use super::output::{self, Table, label, note, span};
use crate::daemon::control::message::{DeviceUse, NodeName};
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk who
  myclerk who --json";

/// Show who uses, has locked or waits for the devices of this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Who {}

impl Who {
    pub(super) fn run(context: &Context) -> Result<(), CliError> {
        let Reply::Who(devices) = ask(context, Side::Server, &Request::Who)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&devices);
        }
        if devices.is_empty() {
            note(
                "This machine offers no device that is present. To offer one: myclerk export DEVICE",
            );
            return Ok(());
        }
        output::print(&text(&devices))
    }
}

fn text(devices: &[DeviceUse]) -> String {
    let mut table = Table::new(&["DEVICE", "NAME", "WHO", "ADDRESS", "WHAT", "FOR"]);
    for device in devices {
        let mut row = |node: Option<&NodeName>, address: &str, what: &str, secs: Option<u64>| {
            let who = node.map_or("", |node| label(&node.name, &node.id));
            let span = secs.map(span).unwrap_or_default();
            table.row(&[&device.device, &device.name, who, address, what, &span]);
        };
        if let Some(lock) = &device.lock {
            let what = format!("has its lock, {} left", span(lock.left));
            row(Some(&lock.node), "", &what, Some(lock.since));
        }
        for user in &device.users {
            row(Some(&user.node), &user.address, "uses it", Some(user.since));
        }
        for (n, waiting) in device.queue.iter().enumerate() {
            let what = format!("waits for its lock, {n} before");
            row(Some(&waiting.node), "", &what, Some(waiting.since));
        }
        if device.lock.is_none() && device.users.is_empty() && device.queue.is_empty() {
            row(None, "", "free", None);
        }
    }
    table.text(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::control::message::{LockInfo, UserInfo, WaitingInfo};

    #[test]
    fn every_device_is_shown_with_its_lock_its_users_and_its_queue() {
        let node = |name: &str| NodeName {
            id: "ab".repeat(16),
            name: name.to_owned(),
        };
        let free = DeviceUse {
            device: "can:can0".to_owned(),
            name: String::new(),
            users: Vec::new(),
            lock: None,
            queue: Vec::new(),
        };
        let busy = DeviceUse {
            device: "usb:1:2".to_owned(),
            name: "Stick".to_owned(),
            users: vec![UserInfo {
                node: node("laptop"),
                address: "10.0.0.7:4711".to_owned(),
                since: 30,
            }],
            lock: Some(LockInfo {
                node: node("laptop"),
                fence: 7,
                since: 61,
                left: 540,
            }),
            queue: vec![WaitingInfo {
                node: node(""),
                since: 5,
            }],
        };
        assert_eq!(
            text(&[free, busy]),
            "DEVICE    NAME   WHO           ADDRESS        WHAT                          FOR\n\
             can:can0                                      free\n\
             usb:1:2   Stick  laptop                       has its lock, 9 min 0 s left  1 min 1 s\n\
             usb:1:2   Stick  laptop        10.0.0.7:4711  uses it                       30 s\n\
             usb:1:2   Stick  abababababab                 waits for its lock, 0 before  5 s\n"
        );
    }
}
