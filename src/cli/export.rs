//! `myclerk export`

use clap::Args;

use super::Context;
use super::ask::ask_server_or;
use super::errors::CliError;
use super::output::{self, clean, note};
use crate::daemon::admin::{self, Known};
use crate::daemon::control::message::Exported;
use crate::daemon::control::{Reply, Request};

const EXAMPLES: &str = "\
Examples:
  myclerk export usb:0403:6001:A50285BI
  myclerk export usb:0403
  myclerk export 'FT232R USB UART'
  myclerk export 'usb:0403:*'  # whatever of this vendor is or will be plugged in
  myclerk export usb@1-1.4  # whatever is or will be plugged in there
  myclerk export usb:0781:5583 --force";

/// Offer a device of this machine to others
///
/// The device is then visible to the nodes that an access entry names (`myclerk acl grant`) and to
/// nobody else. It stays offered over unplugging and restarts. A disk that is mounted, the console
/// keyboard, a device that is itself imported and the like are offered only with --force.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// Id of the device, the beginning of it, its name, a port, or a pattern ending in '*'
    device: String,

    /// Offer it although this machine is using it
    #[arg(long)]
    force: bool,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let direct = || {
            let state = context.state();
            state.identity()?;
            let exported = admin::export(&state, Known::default(), &self.device, self.force)?;
            note("note: the server is not running, so the id was not compared with any device");
            Ok(Reply::Exported(exported))
        };
        let request = Request::Export {
            device: self.device.clone(),
            force: self.force,
        };
        let Reply::Exported(exported) = ask_server_or(context, &request, direct)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&exported);
        }
        output::print(&text(&exported))?;
        if exported.entries == 0 {
            note(&format!(
                "Nobody may use it yet. To let a node: myclerk acl grant {} NODE",
                quoted(&exported.device)
            ));
        }
        Ok(())
    }
}

fn text(exported: &Exported) -> String {
    let device = &exported.device;
    let name = match &*exported.name {
        "" => String::new(),
        name => format!(" ({})", clean(name)),
    };
    let place = match exported.plugged.as_deref() {
        Some(port) if port != device => format!(", plugged in at {port},"),
        Some(_) | None => String::new(),
    };
    let already = if exported.changed { "" } else { " already" };
    format!("{device}{name}{place} is{already} offered.\n")
}

/// A pattern as a shell needs it.
pub(super) fn quoted(device: &str) -> String {
    if device.contains('*') {
        format!("'{device}'")
    } else {
        device.to_owned()
    }
}
