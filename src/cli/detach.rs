//! `myclerk detach`

use clap::{ArgGroup, Args};

use super::Context;
use super::ask::ask;
use super::attach::path;
use super::errors::CliError;
use super::output;
use crate::daemon::control::message::{AttachedDevice, DetachTarget};
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk detach hub/usb:0403:6001:A50285BI
  myclerk detach usb:0403
  myclerk detach mc-can0  # by what `myclerk attach` has printed
  myclerk detach 3  # by port, as `myclerk status` shows it
  myclerk detach --all";

/// Give a device back to the machine it is plugged into
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true))]
pub(super) struct Detach {
    /// The device, what it is here, or the number of its port
    #[arg(value_name = "NODE/DEVICE|PORT", group = "what")]
    target: Option<String>,

    /// Everything that is attached
    #[arg(long, group = "what")]
    all: bool,
}

pub(super) fn target(text: &str) -> DetachTarget {
    if let Ok(port) = text.parse() {
        return DetachTarget::Port(port);
    }
    match text.split_once('/') {
        // A file such as /dev/ttyMC0.
        Some((node, device)) if !node.is_empty() => DetachTarget::Device {
            node: Some(node.to_owned()),
            device: device.to_owned(),
        },
        Some(_) | None => DetachTarget::Device {
            node: None,
            device: text.to_owned(),
        },
    }
}

impl Detach {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let target = self.target.as_deref().map_or(DetachTarget::All, target);
        let Reply::Detached(devices) = ask(context, Side::Client, &Request::Detach { target })?
        else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&devices);
        }
        if devices.is_empty() {
            return output::print("Nothing is attached.\n");
        }
        let line = |device: &AttachedDevice| {
            let away = if device.auto {
                " It stays so until it is plugged in anew or attached by hand, whatever \
                 `myclerk auto list` shows."
            } else {
                ""
            };
            format!("{} is detached.{away}\n", path(device))
        };
        output::print(&devices.iter().map(line).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_port_and_everything_else_a_device() {
        let device = |node: Option<&str>, device: &str| DetachTarget::Device {
            node: node.map(str::to_owned),
            device: device.to_owned(),
        };
        assert_eq!(target("12"), DetachTarget::Port(12));
        assert_eq!(target("usb:12"), device(None, "usb:12"));
        assert_eq!(target("/dev/ttyMC0"), device(None, "/dev/ttyMC0"));
        assert_eq!(target("hub/usb:12"), device(Some("hub"), "usb:12"));
    }
}
