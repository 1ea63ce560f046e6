//! `myclerk unexport`

use std::fmt::Write as _;

use clap::Args;

use super::Context;
use super::ask::ask_server_or;
use super::errors::CliError;
use super::export::quoted;
use super::output::{self, clean, label};
use crate::daemon::admin::{self, Known};
use crate::daemon::control::message::Unexported;
use crate::daemon::control::{Reply, Request};

const EXAMPLES: &str = "\
Examples:
  myclerk unexport usb:0403:6001:A50285BI
  myclerk unexport 'usb:0403:*'";

/// Offer a device no longer; whoever uses it loses it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Unexport {
    /// Id of the device, the beginning of it, its name, or the port or pattern that was exported
    device: String,
}

impl Unexport {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let direct = || {
            let state = context.state();
            state.identity()?;
            let unexported = admin::unexport(&state, Known::default(), &self.device)?;
            Ok(Reply::Unexported(unexported))
        };
        let request = Request::Unexport {
            device: self.device.clone(),
        };
        let Reply::Unexported(unexported) = ask_server_or(context, &request, direct)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            output::json(&unexported)
        } else {
            output::print(&text(&unexported))
        }
    }
}

fn text(unexported: &Unexported) -> String {
    let device = &unexported.device;
    let mut text = match (unexported.changed, unexported.still.is_empty()) {
        (_, false) => String::new(),
        (true, true) => format!("{device} is no longer offered.\n"),
        (false, true) => format!("{device} was not offered.\n"),
    };
    // Writing to a String does not fail.
    for pattern in &unexported.still {
        let pattern = quoted(pattern);
        let _ = writeln!(
            text,
            "{device} is still offered by {pattern}: myclerk unexport {pattern}"
        );
    }
    if let Some(user) = &unexported.taken_from {
        let _ = writeln!(
            text,
            "{} was using it and lost it.",
            clean(label(&user.name, &user.id))
        );
    }
    text
}
