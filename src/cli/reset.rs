//! `myclerk reset`

use clap::Args;

use super::Context;
use super::ask::ask;
use super::attach::path;
use super::detach;
use super::errors::CliError;
use super::output;
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk reset hub/usb:0403:6001:A50285BI
  myclerk reset usb:0403
  myclerk reset 3  # by port, as `myclerk status` shows it";

/// Reset an attached device that does not work any more
///
/// As after unplugging it and plugging it in, but it stays attached. This machine's drivers know of
/// the reset: a mounted disk stays mounted where its driver can do that, other devices come back
/// under /dev. A device without trouble is none the worse for it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Reset {
    /// The device, or the number of its port
    #[arg(value_name = "NODE/DEVICE|PORT")]
    target: String,
}

impl Reset {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let target = detach::target(&self.target);
        let Reply::Reset(devices) = ask(context, Side::Client, &Request::Reset { target })? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&devices);
        }
        let line = |device| format!("{} was reset.\n", path(device));
        output::print(&devices.iter().map(line).collect::<String>())
    }
}
