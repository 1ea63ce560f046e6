//! `myclerk attach`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;

use super::Context;
use super::ask::ask;
use super::errors::CliError;
use super::output::{self, clean, label};
use crate::daemon::control::message::AttachedDevice;
use crate::daemon::control::{Reply, Request, Side};

/// The longest time that a device stays without its machine, in seconds: a day.
const MAX_GRACE: u64 = 86_400;

const EXAMPLES: &str = "\
Examples:
  myclerk attach hub/usb:0403:6001:A50285BI
  myclerk attach hub/usb:0403
  myclerk attach 'hub/FT232R USB UART'
  myclerk attach hub/usb@1-1.4  # whatever is plugged in there
  myclerk attach hub/serial:ttyUSB0 --name console
  myclerk attach hub/can:can0 --name bench --as vxcan -o filter=100:7F0 -o filter=200:7FF
  myclerk attach hub/hid: -o grab=false  # a keyboard that its machine goes on hearing
  myclerk attach hub/serial:ttyUSB0 --grace 600  # its machine may be gone for ten minutes
  myclerk attach hub/gpio:gpiochip0
  myclerk attach hub/pwm:pwmchip0 -o channel=0 -o period-ns=20000000 -o duty-ns=1500000";

/// Make a device of another machine a device of this one
///
/// The kernel here then sees it as plugged in: a stick becomes /dev/sdX, a serial port a tty, a CAN
/// bus a network interface, a keyboard an input device. What it became is printed. It stays until
/// `myclerk detach` or the end of the client daemon. Ctrl-C while it is being attached gives it back.
///
/// When the other machine cannot be reached any more, a device that is not a USB one stays for a while
/// and goes on when the connection is back; a USB device ends with it.
///
/// A device that is attached by its port is followed: when it is unplugged, whatever is plugged in
/// there within half a minute is attached in its place. Devices that get their firmware from a
/// driver and come back as another one need that.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Attach {
    /// The machine and its device, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = parse)]
    target: (String, String),

    /// What to call it here, for buses that let one choose
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// As what it is to appear here, where there are several ways; a wrong one names them
    #[arg(long = "as", value_name = "WAY")]
    way: Option<String>,

    /// What its bus lets one choose besides; a wrong one names them. May be repeated
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, String)>,

    /// For how many seconds it stays here when its machine cannot be reached; 0 gives it up at once.
    /// 60 where nothing is said
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=MAX_GRACE))]
    grace: Option<u64>,
}

pub(super) fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected KEY=VALUE".to_owned()),
    }
}

/// `NODE/DEVICE`.
pub(super) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((node, device)) if !node.is_empty() && !device.is_empty() => {
            Ok((node.to_owned(), device.to_owned()))
        }
        Some(_) | None => Err("expected NODE/DEVICE as `myclerk list` shows it".to_owned()),
    }
}

impl Attach {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let (node, device) = self.target;
        let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in self.options {
            options.entry(key).or_default().push(value);
        }
        let request = Request::Attach {
            node,
            device,
            name: self.name,
            way: self.way,
            options,
            grace: self.grace,
        };
        let reply = ask(context, Side::Client, &request)?;
        let Reply::Attached(attached) = reply else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            output::json(&attached)
        } else {
            output::print(&text(&attached))
        }
    }
}

/// `hub/usb:0403:6001:A1`, as `attach` and `detach` take it.
pub(super) fn path(device: &AttachedDevice) -> String {
    format!(
        "{}/{}",
        clean(label(&device.node.name, &device.node.id)),
        device.device
    )
}

fn text(device: &AttachedDevice) -> String {
    let mut text = format!("{} is attached", path(device));
    // Writing to a String does not fail.
    if let Some(port) = device.port {
        let _ = write!(text, " to port {port}");
    }
    if !device.name.is_empty() {
        let _ = write!(text, " ({})", clean(&device.name));
    }
    if !device.files.is_empty() {
        let _ = write!(text, ": {}", device.files.join(", "));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_split_at_its_first_slash() {
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(parse("hub/usb:1:2"), pair("hub", "usb:1:2"));
        assert_eq!(parse("hub/serial:by-id/x"), pair("hub", "serial:by-id/x"));
        for wrong in ["hub", "hub/", "/usb:1:2", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
