//! Whether the daemons run and answer this user.

use super::Check;
use crate::cli::Context;
use crate::cli::ask::ask_if_running;
use crate::cli::errors::CliError;
use crate::daemon::control::{Reply, Request, Side};

pub(super) fn running(context: &Context, side: Side) -> Check {
    let name = match side {
        Side::Server => "server",
        Side::Client => "client",
    };
    let check = match ask_if_running(context, side, &Request::Status) {
        Ok(None) => Check::fail(name, "the daemon is not running")
            .mend(format!("sudo myclerk {}", side.subcommand())),
        Ok(Some(Reply::Server(status))) => Check::ok(
            name,
            format!("running, {} connected", status.sessions.len()),
        ),
        Ok(Some(Reply::Client(status))) => {
            Check::ok(name, format!("running, {} attached", status.attached.len()))
        }
        Ok(Some(_)) => Check::warn(name, "running, of another version").mend("restart it"),
        Err(CliError::Report(report)) => {
            let (message, mend) = report.into_message_and_mend();
            Check {
                mend,
                ..Check::fail(name, message)
            }
        }
        Err(CliError::OutputClosed | CliError::Interrupted(_)) => {
            Check::warn(name, "not asked to the end")
        }
    };
    check.only(side)
}
